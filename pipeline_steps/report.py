"""Report the verdict on the selected charts to the review, and as HTML page, Markdown and JUnit.

    pipeline-steps report --started
    pipeline-steps report
    pipeline-steps report --output build/report
    pipeline-steps report --unbelieved handed-over

Reads the records of check, build_image, snapshot and integration_test for the content of each
selected chart. Writes report.md, report.html, report.xml and gl-code-quality-report.json into
.pipeline/report, and a record.
Where `review` names a review system, the verdict goes to exactly the revision that was tested: never
to one that has a newer one, which is said. A review system that does not answer gets it from the
next run; until then the exit code is 75 or 7. With --output the files are written there, and nothing
is sent. A bad verdict is no failure of this step: it exits with 0 and says negative or incomplete.

With --unbelieved, in a workflow that GitHub or Gitea starts after the build of a fork, the review is
told what that build says in its state files, as incomplete: it could write anything there.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline_steps.ci import code_quality, job_log
from pipeline_steps.ci.detect import detect, system_of
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.selection import affected
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.reporting import delivery, report_page, review_text, verdict
from pipeline_steps.reporting import unbelieved as unbelieved_builds
from pipeline_steps.reporting.delivery import Addressee, Target
from pipeline_steps.reporting.report_page import Page
from pipeline_steps.reviews.kinds import open_review_system
from pipeline_steps.reviews.review import Finding, ReviewSystem, Verdict
from pipeline_steps.sources.source import short_revision
from pipeline_steps.state.attempt import Attempt, record_attempt
from pipeline_steps.state.origin import origin
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.testing import pulls
from pipeline_steps.toolbox import clock, files, junit
from pipeline_steps.toolbox.errors import (
    ConfigurationError,
    EvidenceError,
    PipelineError,
    Temporary,
    Unreachable,
    UsageError,
)
from pipeline_steps.workspace.checkout import Checkout, open_checkout

STEP = Step(
    "report",
    __doc__,
    reuses_records=False,
    subjects="selection",
    keywords=("plan",),
    options=(
        Option("started", "flag", "say that the tests have begun; no verdict yet"),
        Option("output", "path", "write the files into this folder, and send nothing"),
        Option(
            "unbelieved",
            "path",
            "tell what the build of a fork handed over in this folder; incomplete whatever it says",
            from_environment=False,
        ),
    ),
    doctor_needs=("review verdict",),
    reads=("check", "build_image", "snapshot", "integration_test"),
    writes=("verdict", "delivery", "review", ".pipeline/report"),
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
    unbelieved: Path | None = None,
    plan: bool = False,
) -> Record | tuple[Record, ...]:
    """Report the verdict on `charts` to the review, write it into a folder, and record it.

    The record's output "verdict" is positive, negative, incomplete or started; "review" is the URL
    where it stands, "delivery" what came of it (see reviews.review.Delivery), or "files".

    Args:
        charts: names of the selected charts.
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
        return _tell_unbelieved(config, checkout, state, unbelieved, plan=plan)
    folder = output or state.folder / "report"
    target = delivery.find_target(config, checkout, files_only=output is not None)
    page = _page(config, state, checkout, charts, target, started)
    if plan:
        where = f", and tell {target.name}" if target.system else ""
        log.info("report: would write report.md and the others into %s%s", folder, where)
        return ()
    contents = {each.chart.name: each.chart.content for each in page.verdicts}
    parameters = {"charts": contents, "started": started, "requires": list(config.review.requires)}
    key = make_key("report", FORMAT, parameters=parameters, content=None, consumed={})
    with record_attempt(
        state,
        step="report",
        subject="report",
        key=key,
        revision=checkout.revision,
        parameters=parameters,
        uses=_used_records(page),
    ) as attempt:
        # Of the files that are tested, also where those are a merge's.
        findings = () if started else review_text.findings(checkout, page.verdicts)
        if charts or page.gaps or not (folder / "report.html").exists():
            write(page, folder, findings)
            log.info("%s (%s)", page.headline, folder / "report.html")
        else:  # a page that says nothing would hide what the builds before found
            log.info("%s; %s stays as it was", page.headline, folder / "report.html")
        _annotate(findings)
        attempt.outputs = {"verdict": page.word}
        return attempt.passed(_send(page, target, checkout, state, attempt))


def _tell_unbelieved(
    config: Config, checkout: Checkout, state: State, folder: Path, *, plan: bool
) -> Record | tuple[Record, ...]:
    """Tell the review of the revision that the event names what the files in `folder` claim."""
    build = detect(os.environ)
    if not build.head or build.review:
        raise UsageError(
            "--unbelieved: the CI names no other build, of which this one tells",
            advice="run it in a workflow of the event workflow_run",
        )
    claim = unbelieved_builds.read_claim(folder)
    system = open_review_system(config, checkout.source.remote_url)
    if system is None:
        raise ConfigurationError(
            "no review system is configured",
            where=config.where("review"),
            advice="name it, as in review: {github: {}}",
        )
    review = delivery.find_review(system, build, build.head)
    if plan:
        log.info("report: would tell %s of %s", review.url if review else "no review", folder)
        return ()
    parameters = {"unbelieved": True, "revision": build.head}
    key = make_key("report", FORMAT, parameters=parameters, content=None, consumed={})
    with record_attempt(
        state,
        step="report",
        subject="report",
        key=key,
        revision=checkout.revision,
        parameters=parameters,
    ) as attempt:
        if review is None:
            log.info("report: no open review has the revision %s", short_revision(build.head))
            return attempt.passed({"verdict": "incomplete", "delivery": "files"})
        told = unbelieved_builds.verdict(claim, build.head, build.url or "")
        addressee = Addressee(review, review.id, build.head, build.head)
        delivered = delivery.deliver(system, addressee, told, queued=False)
        delivery.log_delivery(review.id, delivered)
        return attempt.passed(
            {"verdict": "incomplete", "delivery": delivered.outcome, "review": delivered.url}
        )


def _annotate(findings: Sequence[Finding]) -> None:
    """Show findings at their lines in the log of a CI that can."""
    if not log.isEnabledFor(logging.INFO):
        return
    reader = system_of(os.environ)
    for finding in findings:
        if line := job_log.annotation(reader, *finding):
            print(line, file=sys.stderr, flush=True)


def _page(
    config: Config,
    state: State,
    checkout: Checkout,
    charts: tuple[str, ...],
    target: Target,
    started: bool,
) -> Page:
    review = target.review.id if target.review else ""
    verdicts = [
        verdict.chart_verdict(checkout, checkout.chart(name), config, state, target.branch, review)
        for name in charts
    ]
    return Page(
        verdicts,
        checkout.revision,
        (origin()["ci"] or {}).get("url", ""),
        started,
        diffs(verdicts, state),
        _notices(config),
        _gaps(checkout, charts, target) if target.system and target.branch else (),
    )


def _gaps(checkout: Checkout, charts: tuple[str, ...], target: Target) -> tuple[str, ...]:
    """Why a verdict on `charts` is none on the review: what it changes besides, and what is not
    stored.
    """
    gaps = []
    others = [name for name in affected(checkout, target.branch) if name not in charts]
    if others:
        names = ", ".join(others)
        gaps.append(f"the review also changes {names}, which this report is not about")
    modified = [path for name in charts for path in checkout.chart(name).modified]
    if modified:
        gaps.append(f"the checkout has local modifications: {', '.join(modified[:5])}")
    return tuple(gaps)


def _used_records(page: Page) -> dict[str, None]:
    return {
        record.id: None
        for chart_verdict in page.verdicts
        for requirement in chart_verdict.requirements
        for record in requirement.records
    }


def _send(
    page: Page, target: Target, checkout: Checkout, state: State, attempt: Attempt
) -> dict[str, str]:
    """Deliver the verdict, and those that were kept; returns the outputs that say so."""
    if target.problem and not isinstance(target.problem, Temporary | Unreachable):
        raise target.problem
    system = target.system
    if system is None:
        if target.reason:
            log.info("report: %s; files only", target.reason)
        return {"delivery": "files"}
    try:
        addressee = delivery.address(
            target.review, checkout.source, target.build, checkout.revision
        )
    except EvidenceError as error:  # of a review that nobody could be asked about, the cause
        raise target.problem or error from error
    verdict_of_page = _verdict(page, target, addressee, checkout, system)
    attempt.parameters["review"] = {
        "system": system.name,
        "id": addressee.id,
        "revision": addressee.revision,
        "tested": addressee.tested,
        "base": addressee.base,
    }
    names = {addressee.id, target.build.review or addressee.id}
    try:
        if target.problem:
            raise target.problem
        delivered = delivery.deliver(system, addressee, verdict_of_page, queued=target.build.queued)
    except (Temporary, Unreachable):
        if kept := delivery.keep(state.folder, system, addressee.id, verdict_of_page):
            delivery.forget(state.folder, names - {addressee.id}, addressee.revision)
            log.warning("report: kept in %s; the next report sends it", kept)
        raise
    delivery.forget(state.folder, names, addressee.revision)
    delivery.log_delivery(addressee.id, delivered)
    for review, sent in delivery.send_kept(state.folder, system, checkout.source):
        delivery.log_delivery(review, sent)
    return {"delivery": delivered.outcome, "review": delivered.url}


def _verdict(
    page: Page, target: Target, addressee: Addressee, checkout: Checkout, system: ReviewSystem
) -> Verdict:
    """What the review is told."""
    reference = (
        system.fetch_reference(target.review, addressee.revision)
        if target.review
        else addressee.revision
    )
    commands = review_text.commands(
        page,
        checkout.source.checkout_command(addressee.revision, reference),
        checkout.config.evidence,
    )
    tested = review_text.About(
        addressee.revision,
        addressee.tested,
        addressee.base,
        target.branch,
        target.build.queued,
        commands,
        system.abilities.folds,
    )
    is_whole = addressee.tested == addressee.revision and not page.started
    return Verdict(
        addressee.revision,
        page.word,
        review_text.summary(page),
        review_text.text(page, tested, system.abilities.longest_text),
        page.build,
        # A merge has other line numbers than the review.
        review_text.findings(checkout, page.verdicts) if is_whole else (),
    )


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


def write(page: Page, folder: Path, findings: Sequence[Finding]) -> None:
    """The files of a page; `folder` itself is never followed as a symbolic link."""
    files.created_folder(folder)
    files.write(folder / "report.md", report_page.markdown(page).encode(), mode=0o644)
    files.write(folder / "report.html", report_page.html_page(page).encode(), mode=0o644)
    quality = code_quality.report(findings)
    files.write(folder / code_quality.FILE_NAME, quality, mode=0o644)
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


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, report, argv)


if __name__ == "__main__":
    raise SystemExit(main())
