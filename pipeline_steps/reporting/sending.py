"""Send the verdict of a page to the review that it is about, and the verdicts that were kept."""

from __future__ import annotations

import logging

from pipeline_steps.reporting import delivery, review_text, unsent
from pipeline_steps.reporting.delivery import Addressee, Target
from pipeline_steps.reporting.report_page import Page
from pipeline_steps.reviews.review import ReviewSystem, Verdict
from pipeline_steps.state.attempt import Attempt
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import EvidenceError, Temporary, Unreachable
from pipeline_steps.workspace.checkout import Checkout

log = logging.getLogger("pipeline_steps.report")


def send(
    page: Page, target: Target, checkout: Checkout, state: State, attempt: Attempt
) -> dict[str, str]:
    """Deliver the verdict, and those that were kept; returns the outputs that say so.

    Raises EvidenceError when what is checked out is not the review's, Temporary and Unreachable when
    its system does not answer: the verdict is kept, and the next report sends it.
    """
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
        if kept := unsent.keep(state.folder, system, addressee.id, verdict_of_page):
            unsent.forget(state.folder, names - {addressee.id}, addressee.revision)
            log.warning(
                "report: kept in %s; the next report here sends it. Where CI empties the folder "
                "between builds, run this build again",
                kept,
            )
        raise
    unsent.forget(state.folder, names, addressee.revision)
    delivery.log_delivery(addressee.id, delivered)
    for review, sent in unsent.send_kept(state.folder, system, checkout.source):
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
