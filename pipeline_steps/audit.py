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

import logging

from pipeline_steps.audits import inspection, production
from pipeline_steps.audits.findings import count_by_kind
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config, as_tuple
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import (
    EvidenceError,
    Interrupted,
    PipelineError,
    UsageError,
    worst,
)
from pipeline_steps.toolbox.wording import counted

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
FORMAT = 1
#: How many findings a record lists one by one; all are logged.
LISTED = 100

log = logging.getLogger("pipeline_steps.audit")  # __name__ is __main__ under -m


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
            records += _audit_repository(
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


def _audit_repository(
    url: str,
    config: Config,
    state: State,
    chart: tuple[str, ...],
    *,
    fix: bool,
    plan: bool,
    jobs: int | None,
) -> list[Record]:
    parameters = {"url": url, "charts": list(chart), "fix": fix}
    key = make_key("audit", FORMAT, parameters=parameters, content=None, consumed={})
    if plan:
        report_findings(inspection.inspect(url, config, state, chart, jobs))
        return []
    with record_attempt(
        state, step="audit", subject="audit", key=key, parameters=parameters
    ) as attempt:
        result = inspection.inspect(url, config, state, chart, jobs)
        report_findings(result)
        listed = [str(finding) for finding in result.findings[:LISTED]]
        attempt.parameters.update(counts=count_by_kind(result.findings), findings=listed)
        if fix and result.fixable:
            attempt.begin({"repository": url})
            inspection.repair(result)
            attempt.parameters["fixed"] = [
                finding.fix.description for finding in result.fixable if finding.fix
            ][:LISTED]
            log.info("%s: %s repaired", url, counted(len(result.fixable), "finding"))
            before, result = result, inspection.inspect(url, config, state, chart, jobs)
            attempt.parameters["left"] = count_by_kind(result.findings)
            _report_new_findings(before, result)
        if result.findings:
            advice = (
                "each is listed above"
                if fix or not result.fixable
                else "--fix repairs what is marked so above"
            )
            raise EvidenceError(
                f"{counted(len(result.findings), 'thing is', 'things are')} wrong",
                where=url,
                advice=advice,
            )
        return [attempt.passed({"repository": url})]


def _report_new_findings(before: inspection.Inspection, after: inspection.Inspection) -> None:
    """Report findings that appeared only after the repair: a new entry may have its own."""
    known_findings = {(finding.kind, finding.chart, finding.version) for finding in before.findings}
    new = [
        finding
        for finding in after.findings
        if (finding.kind, finding.chart, finding.version) not in known_findings
    ]
    if new or not after.findings:
        report_findings(after._replace(findings=new))


def report_findings(result: inspection.Inspection) -> None:
    """Log every finding with its repair, in the order of the charts."""
    for finding in result.findings:
        log.warning("%s", finding)
        if finding.fix:
            log.warning("    fix: %s", finding.fix.description)
    for note in result.notes:
        log.info("note: %s", note)
    if not result.findings:
        log.info("%s: nothing is wrong", result.repository.url)


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, audit, argv, shown=production.report_text)


if __name__ == "__main__":
    raise SystemExit(main())
