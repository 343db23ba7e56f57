"""Report the verdict on the selected charts to the review, and as HTML page, Markdown and JUnit.

    pipeline-steps report --started
    pipeline-steps report
    pipeline-steps report --output build/report
    pipeline-steps report --unbelieved handed-over

Reads the records of check, build_image, snapshot and integration_test for the content of each
selected chart. Writes report.md, report.html, report.xml and gl-code-quality-report.json into
.pipeline/report, and a record.
Where `review` names a review system, the verdict goes to exactly the revision that was tested; if a
newer revision exists, nothing is sent and the step reports that. A review system that does not
answer gets it from the next run; until then the exit code is 75 or 7. With --output the files are
written there, and nothing is sent. A bad verdict is no failure of this step: it exits with 0 and
says negative or incomplete.

With --unbelieved, in a workflow that GitHub or Gitea starts after the build of a fork, the review is
told what that build says in its state files, as incomplete: it could write anything there.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline_steps.ci import job_log
from pipeline_steps.ci.detect import system_of
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.selection import affected
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.reporting import delivery, review_text, sending
from pipeline_steps.reporting import unbelieved as unbelieved_builds
from pipeline_steps.reporting.report_page import compile_page, find_gaps, write
from pipeline_steps.reviews.review import Finding
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.workspace.checkout import open_checkout

STEP = Step(
    "report",
    __doc__,
    reuses_records=False,
    subjects="selection",
    keywords=("plan",),
    takes_unreadable=True,
    unselected="unbelieved",
    options=(
        Option("started", "flag", "say that the tests have begun; no verdict yet"),
        Option(
            "output", "path", "write the files into this folder, and send nothing", value="FOLDER"
        ),
        Option(
            "unbelieved",
            "path",
            "tell what the build of a fork handed over in this folder; incomplete whatever it says",
            from_environment=False,
            value="FOLDER",
        ),
    ),
    doctor_needs=("review verdict",),
    reads=("check", "build_image", "snapshot", "integration_test"),
    writes=("verdict", "delivery", "review", ".pipeline/report"),
)

log = logging.getLogger("pipeline_steps.report")  # __name__ is __main__ under -m


def report(
    *,
    config: Config,
    state: State,
    charts: tuple[str, ...] = (),
    unreadable: tuple[str, ...] = (),
    started: bool = False,
    output: Path | None = None,
    unbelieved: Path | None = None,
    plan: bool = False,
) -> Record | tuple[Record, ...]:
    """Report the verdict on `charts` to the review, write it into a folder, and record it.

    The record's output "verdict" is positive, negative, incomplete or started; "review" is the URL
    where it stands, "delivery" what came of it (see reviews.review.Delivery), or "files".

    Args:
        charts: names of the selected charts.
        unreadable: names of further ones that cannot be read: with any the verdict is incomplete.
        started: report that tests have begun, without a verdict.
        output: write the files into this folder, and send nothing; default: `report` beside the
            state file.
        unbelieved: tell what the build of a fork handed over in this folder, and nothing else.
        plan: log what would be written and sent; returns ().

    Raises:
        EvidenceError: what is checked out is not the review's.
        Temporary, Unreachable: the review system does not answer; the verdict is kept.
        MachineError: the files cannot be written, the review system takes no verdict.
    """
    checkout = open_checkout(config)
    if unbelieved is not None:
        return unbelieved_builds.tell(config, checkout, state, unbelieved, plan=plan)
    folder = output or state.folder / "report"
    target = delivery.find_target(config, checkout, files_only=output is not None)
    page = compile_page(charts, checkout, config, state, target)._replace(started=started)
    gaps = [f"the chart {name} cannot be read" for name in unreadable]
    if target.system and target.branch:
        others = [name for name in affected(checkout, target.branch) if name not in unreadable]
        gaps += find_gaps(charts, others, checkout)
    page = page._replace(gaps=gaps)
    if plan:
        where = f", and tell {target.name}" if target.system else ""
        log.info("report: would write report.md and the others into %s%s", folder, where)
        return ()
    contents = {each.chart.name: each.chart.content for each in page.verdicts}
    parameters = {"charts": contents, "started": started, "requires": list(config.review.requires)}
    with delivery.report_attempt(checkout, state, parameters, page.used_records) as attempt:
        # Of the files that are tested, also where those are a merge's.
        findings = () if started else review_text.findings(checkout, page.verdicts)
        if charts or page.gaps or not (folder / "report.html").exists():
            write(page, folder, findings)
            log.info("%s (%s)", page.headline, folder / "report.html")
        else:  # a page that says nothing would hide what the builds before found
            log.info("%s; %s stays as it was", page.headline, folder / "report.html")
        _annotate(findings)
        attempt.outputs = {"verdict": page.word}
        return attempt.passed(sending.send(page, target, checkout, state, attempt))


def _annotate(findings: Sequence[Finding]) -> None:
    """Show findings at their lines in the log of a CI that can."""
    if not log.isEnabledFor(logging.INFO):
        return
    reader = system_of(os.environ)
    for finding in findings:
        if line := job_log.annotation(reader, *finding):
            print(line, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, report, argv)


if __name__ == "__main__":
    raise SystemExit(main())
