"""Report the verdict on the selected charts as an HTML page, as Markdown and as JUnit.

    pipeline-steps report
    pipeline-steps report --started --output build/report

Reads the records of check, build_image, snapshot and integration_test for the content of each
selected chart. Writes report.md, report.html and report.xml into --output (.pipeline/report when
not given), and a record. A bad verdict is no failure of this step: it exits with 0 and says
negative or incomplete.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline_steps.ci.detect import detect
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.reporting import report_page, verdict
from pipeline_steps.reporting.report_page import Page
from pipeline_steps.reviews.kinds import configured_system
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.origin import origin
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.testing import pulls
from pipeline_steps.toolbox import clock, files, junit
from pipeline_steps.toolbox.errors import NotYet, PipelineError
from pipeline_steps.workspace.checkout import open_checkout

STEP = Step(
    "report",
    __doc__,
    reuses_records=False,
    subjects="selection",
    keywords=("plan",),
    options=(
        Option("started", "flag", "say that the tests have begun; no verdict yet"),
        Option("output", "path", "folder for the page; default: .pipeline/report"),
    ),
    reads=("check", "build_image", "snapshot", "integration_test"),
    writes=("verdict", ".pipeline/report"),
)
FORMAT = 1

log = logging.getLogger("pipeline_steps.report")  # __name__ is __main__ under -m


def report(
    *,
    config: Config,
    state: State,
    charts: tuple[str, ...] = (),
    started: bool = False,
    output: Path | None = None,
    plan: bool = False,
) -> Record | tuple[Record, ...]:
    """Write the verdict on `charts` into a folder and record it.

    The record's output "verdict" is positive, negative, incomplete or started.

    Args:
        charts: names of the selected charts.
        started: report that tests have begun, without a verdict.
        output: the folder; default: `report` beside the state file.
        plan: log what would be written; returns ().

    Raises:
        NotYet: a review system is configured and no folder is given, or an approval is required.
        MachineError: the files cannot be written.
    """
    _refuse_not_yet(config, output)
    folder = output or state.folder / "report"
    if plan:
        log.info("report: would write report.md, report.html and report.xml into %s", folder)
        return ()
    checkout = open_checkout(config)
    target = detect(os.environ).target or ""
    verdicts = [
        verdict.chart_verdict(checkout, checkout.chart(name), config, state, target)
        for name in charts
    ]
    build_url = (origin()["ci"] or {}).get("url", "")
    page = Page(
        verdicts, checkout.revision, build_url, started, diffs(verdicts, state), _notices(config)
    )
    contents = {chart_verdict.chart.name: chart_verdict.chart.content for chart_verdict in verdicts}
    parameters = {"charts": contents, "started": started, "requires": list(config.review.requires)}
    key = make_key("report", FORMAT, parameters=parameters, content=None, consumed={})
    uses = {
        record.id: None
        for chart_verdict in verdicts
        for requirement in chart_verdict.requirements
        for record in requirement.records
    }
    with record_attempt(
        state,
        step="report",
        subject="report",
        key=key,
        revision=checkout.revision,
        parameters=parameters,
        uses=uses,
    ) as attempt:
        if charts or not (folder / "report.html").exists():
            write(page, folder)
            log.info("%s (%s)", page.headline, folder / "report.html")
        else:  # a page that says nothing would hide what the builds before found
            log.info("%s; %s stays as it was", page.headline, folder / "report.html")
        return attempt.passed({"verdict": "started" if started else verdict.overall(verdicts)})


def diffs(verdicts: Sequence[verdict.ChartVerdict], state: State) -> dict[str, str]:
    """Chart name → the diff written by `snapshot --diff`, if it is about the verdict's snapshot."""
    texts: dict[str, str] = {}
    for chart_verdict in verdicts:
        path = state.folder / "diff" / f"{chart_verdict.chart.name}.diff"
        if chart_verdict.snapshot and path.is_file():
            text = path.read_text(errors="replace")
            about = text.partition(",")[0].rpartition(" ")[2]
            if about and about in chart_verdict.snapshot:
                texts[chart_verdict.chart.name] = text
    return texts


def write(page: Page, folder: Path) -> None:
    """The three files of a page; `folder` itself is never followed as a symbolic link."""
    files.created_folder(folder)
    files.write(folder / "report.md", report_page.markdown(page).encode(), mode=0o644)
    files.write(folder / "report.html", report_page.html_page(page).encode(), mode=0o644)
    cases = () if page.started else report_page.cases(page)
    junit.write(
        folder / "report.xml",
        "report",
        cases,
        started=clock.now(),
        properties={"revision": page.revision},
    )


def _notices(config: Config) -> tuple[str, ...]:
    """Warnings about the configuration that do not depend on the verdict."""
    # Logins that cannot be read here say nothing about a chart; doctor says it.
    try:
        return tuple(filter(None, (pulls.push_login_warning(config),)))
    except PipelineError as error:
        log.debug("report: %s", error)
        return ()


def _refuse_not_yet(config: Config, output: Path | None) -> None:
    review = config.review
    approval = next((name for name in review.requires if name.startswith("approval")), None)
    if approval:
        raise NotYet(f"review.requires {approval}", where=config.where("review.requires"))
    system = configured_system(config)
    if system is not None and output is None:
        raise NotYet(
            f"reporting to {system} (give --output FOLDER to get the page)",
            where=config.where("review"),
        )


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, report, argv)


if __name__ == "__main__":
    raise SystemExit(main())
