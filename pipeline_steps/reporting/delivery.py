"""To which review a verdict goes, and on which of its revisions."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from pipeline_steps.ci.detect import Build, detect
from pipeline_steps.config.language import Config
from pipeline_steps.reviews.kinds import configured_system, open_review_system
from pipeline_steps.reviews.review import Delivery, Review, ReviewSystem, Verdict
from pipeline_steps.sources.source import Source, short_revision
from pipeline_steps.state.attempt import Attempt, record_attempt
from pipeline_steps.state.record import make_key
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import (
    EvidenceError,
    MachineError,
    PipelineError,
    UsageError,
)
from pipeline_steps.workspace.checkout import Checkout

#: Part of the key of every record of report.
FORMAT = 1
_OPEN = ("open", "draft")

log = logging.getLogger("pipeline_steps.report")


class Target(NamedTuple):
    """Where a verdict goes. system: None for files only, and `reason` why.

    problem: the review could not be asked for.
    """

    system: ReviewSystem | None
    build: Build
    review: Review | None = None
    reason: str = ""
    problem: PipelineError | None = None

    @property
    def branch(self) -> str:
        """The branch that the review goes to, "" for none."""
        return self.build.target or (self.review.target if self.review else "")

    @property
    def name(self) -> str:
        """The review, for people."""
        return self.review.url if self.review else f"review {self.build.review}"


class Addressee(NamedTuple):
    """The revision of a review that a verdict is about.

    review: None when its server does not answer. id: as the CI gives it. revision: gets the
    verdict. tested: what is checked out: `revision`, or a merge of it and `base`.
    """

    review: Review | None
    id: str
    revision: str
    tested: str
    base: str = ""


def report_attempt(
    checkout: Checkout, state: State, parameters: Mapping[str, Any], uses: Iterable[str] = ()
) -> AbstractContextManager[Attempt]:
    """The record of a report. uses: ids of the records that it tells of."""
    key = make_key("report", FORMAT, parameters=parameters, content=None, consumed={})
    return record_attempt(
        state,
        step="report",
        subject="report",
        key=key,
        revision=checkout.revision,
        parameters=parameters,
        uses=uses,
    )


def find_target(config: Config, checkout: Checkout, *, files_only: bool) -> Target:
    """The review that this build is about. What goes wrong is in `problem`: the files of a report
    are written all the same.
    """
    build = detect(os.environ)
    name = configured_system(config)
    if name is None or files_only:
        return Target(None, build)
    # Its revision may be the head of some review, which has a build of its own.
    if build.tag or (build.branch and not build.review):
        kind = f"tag {build.tag}" if build.tag else f"branch {build.branch}"
        return Target(None, build, reason=f"a build of the {kind} is no review")
    try:
        system = open_review_system(config, checkout.source.remote_url)
        assert system is not None
    except PipelineError as error:
        return Target(None, build, problem=error)
    try:
        review = find_review(system, build, checkout.revision)
    except PipelineError as error:
        return Target(system, build, problem=error)
    if review is None:
        reason = f"no open review on {name} has the revision {short_revision(checkout.revision)}"
        return Target(None, build, reason=reason)
    return Target(system, build, review)


def find_review(system: ReviewSystem, build: Build, tested: str) -> Review | None:
    """The review that `build` is about; in a shell an open one with `tested` as its head, None for
    none.
    """
    if build.review:
        return system.review(build.review)
    revision = build.head or tested
    reviews = [review for review in system.reviews_of(revision) if review.state in _OPEN]
    # One revision may be in several reviews: of a chain of branches, say.
    current = [review for review in reviews if review.head == revision]
    return next(iter(current or reviews), None)


def address(review: Review | None, source: Source, build: Build, tested: str) -> Addressee:
    """The revision of a review that a verdict about `tested` belongs to.

    Raises EvidenceError when `tested` is neither a revision of the review nor a merge of one.
    """
    identity = review.id if review else build.review or ""
    base = build.base or ""
    if build.head and tested == build.head:
        return Addressee(review, identity, tested, tested)
    if build.is_test_merge and build.head and tested == build.revision:
        return Addressee(review, identity, build.head, tested, base)
    if review and tested in review.revisions:
        return Addressee(review, identity, tested, tested)
    # A CI that does not say which head it merged: the newest that the checkout contains.
    merged = build.review and next(_contained(review, source), None)
    if merged:
        return Addressee(review, identity, merged, tested, base)
    raise EvidenceError(
        f"the checkout is at {tested[:12]}, which is neither a revision of review {identity} nor CI's "
        "merge of one",
        where=review.url if review else "",
        advice="check out what CI says is tested; --output FOLDER writes files only",
    )


def _contained(review: Review | None, source: Source) -> Iterator[str]:
    for revision in reversed(review.revisions if review else ()):
        try:
            if source.base(revision) == revision:
                yield revision
        except (UsageError, MachineError):  # not fetched here, so it is not part of the checkout
            continue


def deliver(
    system: ReviewSystem, addressee: Addressee, verdict: Verdict, *, queued: bool
) -> Delivery:
    """Deliver a verdict to a review that was asked for, unless it is closed or has a newer
    revision.

    queued: the revision is one that a merge queue made.
    """
    review = addressee.review
    assert review is not None
    if review.state not in _OPEN:
        return Delivery("closed", review.url, f"the review is {review.state}")
    if review.head != verdict.revision and not queued:
        problem = f"the review has a newer revision, {short_revision(review.head)}"
        return Delivery("superseded", review.url, problem)
    return system.deliver(review, verdict)


def log_delivery(review: str, delivery: Delivery) -> None:
    """Say what came of a verdict."""
    words = {
        "set": "the verdict is set",
        "unchanged": "the verdict is there already",
        "message": "only a message is left",
        "superseded": "no verdict is set",
        "closed": "no verdict is set",
    }[delivery.outcome]
    reason = f": {delivery.reason}" if delivery.reason else ""
    log.info("review %s: %s%s (%s)", review, words, reason, delivery.url)
