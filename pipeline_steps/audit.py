"""Check a whole chart repository, or say what is in it, who approved it and what tested it.

    pipeline-steps audit
    pipeline-steps audit file:///srv/charts --fix
    pipeline-steps audit oci://registry.example.com/charts --chart hello --report html > page.html
    pipeline-steps audit --uses sha256:4b6f…

Works without a pipeline.yaml for a URL; without one, for every repository of
`channels.production.charts`. Reads the index, every archive, and the records of promote and
snapshot. Lists what is wrong (docs/how-to/audit.md has all kinds). --fix lists the repairs, makes
them in one rewrite of the index, and checks again; archives are never changed. --report and --uses
read no archives, and print to stdout. Writes a record with all counts. Changes outside: with --fix
the index. Exits with 4 while something is wrong, with 5 when the index was changed by somebody else
between check and repair.
"""

from __future__ import annotations

from pipeline_steps.audits import production
from pipeline_steps.audits.inspection import audit_repository
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config, as_tuple
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import (
    Interrupted,
    PipelineError,
    UsageError,
    worst,
)

STEP = Step(
    "audit",
    __doc__,
    reuses_records=False,
    subjects="none",
    keywords=("chart", "plan", "jobs"),
    options=(
        Option(
            "url", "word", "the chart repository; default: every one of channels.production.charts"
        ),
        Option(
            "fix",
            "flag",
            "repair the index where nothing has to be guessed",
            from_environment=False,
        ),
        Option(
            "report",
            "text",
            "table, csv, json or html: what is in it, who approved it, what tested it",
        ),
        Option(
            "uses",
            "text",
            "only versions made with this image or base image (sha256:…); as a table, or --report",
        ),
    ),
    doctor_needs=("production charts",),
    reads=("snapshot", "promote"),
    writes=("repository",),
    needs_configuration=False,
)


def audit(
    *,
    config: Config,
    state: State,
    url: str | None = None,
    chart: tuple[str, ...] = (),
    fix: bool = False,
    report: str | None = None,
    uses: str | None = None,
    plan: bool = False,
    jobs: int | None = None,
) -> tuple[Record, ...]:
    """Check the repository at `url`, or those of the production channel; returns a record for each.

    Args:
        chart: names of charts, () for all.
        fix: repair the index where nothing has to be guessed.
        report: the form of a report to write instead: table, csv, json or html.
        uses: report only versions made with the image or base image of this digest.
        plan: list the findings, change and record nothing; returns ().
        jobs: archives to read at once.

    Raises:
        EvidenceError: something is wrong; raised after every repository was checked.
        Conflict: the index was changed by somebody else meanwhile.
        UsageError: the index of this repository cannot be rewritten.
    """
    urls = (url,) if url else as_tuple(config.channels.production.charts)
    if not urls:
        raise UsageError(
            "no repository to audit: none is given, and channels.production.charts is not set",
            advice="give its URL, like file:///srv/charts",
        )
    if report or uses:
        return production.write_report(
            urls, config, state, chart, form=report or "table", uses=uses, jobs=jobs, plan=plan
        )
    records: list[Record] = []
    errors: list[PipelineError] = []
    for repository_url in urls:
        try:
            records += audit_repository(
                repository_url, config, state, chart, fix=fix, plan=plan, jobs=jobs
            )
        except Interrupted:
            raise
        except PipelineError as error:
            errors.append(error)
    if errors:
        code = worst([error.exit_code for error in errors])
        first = next(error for error in errors if error.exit_code == code)
        raise first if len(errors) == 1 else type(first)("; ".join(map(str, errors)))
    return tuple(records)


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, audit, argv, shown=production.report_text)


if __name__ == "__main__":
    raise SystemExit(main())
