"""The approvals that are required of a chart: asked for now, and recorded.

A record says who approved what, and when that was asked. It is no approval itself: a release asks
again, because an approval can be withdrawn.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Sequence

from pipeline_steps.approvals.asking import Approved, approved_changes, approved_head
from pipeline_steps.approvals.coverage import Coverage, Range
from pipeline_steps.approvals.mainline import last_release, mainline, reviewable
from pipeline_steps.approvals.production import released_versions
from pipeline_steps.ci.build import Build
from pipeline_steps.config.language import Config
from pipeline_steps.reviews.kinds import open_review_system
from pipeline_steps.reviews.review import Review, ReviewSystem
from pipeline_steps.sources.source import short_revision
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.testing.requirements import (
    APPROVAL,
    approval_key,
    approval_parameters,
    approval_rule,
)
from pipeline_steps.toolbox.errors import ConfigurationError, NotApproved
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout

log = logging.getLogger("pipeline_steps.approval")

#: Asks about one named approval. Raises NotApproved.
Ask = Callable[[str], list[Approved]]


def required_names(requires: Iterable[str]) -> tuple[str, ...]:
    """The names of the approvals in a list of requirements, without `approval.`, each once.

    >>> required_names(["check", "approval.code", "approval.code"])
    ('code',)
    """
    names = (name for name in requires if name.startswith(APPROVAL))
    return tuple(dict.fromkeys(name.removeprefix(APPROVAL) for name in names))


def require_for_release(
    checkout: Checkout,
    chart: Chart,
    config: Config,
    state: State,
    names: Sequence[str],
    *,
    record: bool,
) -> tuple[Record, ...]:
    """Records that each change of the mainline since the chart's last release is approved, one for
    each name; () without names, or where nothing shall be recorded.

    Raises:
        NotApproved: a change is not; names revision, files, review and reason.
        ConfigurationError: no review system is configured, or no approval of this name.
        UsageError, AccessRefused, Unreachable, Temporary: it cannot be asked.
    """
    if not names:
        return ()
    system = review_system(config, checkout, names[0])
    is_released = released_versions(config, chart.name, state)
    changes = mainline(checkout, chart, last_release(checkout, chart, is_released))
    coverage = Coverage(checkout, chart.name, system, changes.places)

    def ask(name: str) -> list[Approved]:
        rule = approval_rule(config, name)
        return approved_changes(system, config, name, rule, changes, coverage)

    return _records(checkout, chart, config, state, names, ask, "", record=record)


def require_for_review(
    checkout: Checkout,
    chart: Chart,
    config: Config,
    state: State,
    names: Sequence[str],
    build: Build,
    *,
    record: bool,
) -> tuple[Record, ...]:
    """Records that the newest revision of the review that is built is approved, one for each name.

    Raises as `require_for_release`, and NotApproved when the review has a newer revision than was
    built.
    """
    assert build.review
    system = review_system(config, checkout, names[0])
    review = system.review(build.review)
    coverage = Coverage(checkout, chart.name, system, chart.history_paths)
    built = build.head or checkout.revision
    if build.queued and _is_made_of(review, built, build.base, coverage):
        built = review.head
    _refuse_superseded(review, built)
    target = functools.cache(lambda: checkout.source.tip(review.target))

    def ask(name: str) -> list[Approved]:
        rule = approval_rule(config, name)
        return [approved_head(system, review, name, rule, coverage, target)]

    return _records(checkout, chart, config, state, names, ask, review.id, record=record)


def _is_made_of(review: Review, queued: str, base: str | None, coverage: Coverage) -> bool:
    """Whether a merge queue made its commit of the review's newest revision: it has that, or brings
    the same lines, or nothing of this chart.

    base: what it was made on, with the reviews in front of this one.
    """
    if not coverage.fetch(review, review.head):
        return False
    if coverage.is_ancestor(review.head, queued):
        return True
    if not base:
        return False
    brought = Range(base, queued)
    return not coverage.changes_chart(brought) or coverage.covers(
        review, review.head, brought, base
    )


def _refuse_superseded(review: Review, built: str) -> None:
    if review.head != built:
        raise NotApproved(
            f"the review is at {short_revision(review.head)}, this is the build of {short_revision(built)}",
            where=review.url,
            advice="ask in the build of the newest revision",
        )
    if review.state == "closed":
        raise NotApproved("the review is closed", where=review.url, advice="reopen it")


def review_system(config: Config, checkout: Checkout, name: str) -> ReviewSystem:
    """The review system that the approval `name` is asked of; no request is sent yet.

    Raises ConfigurationError when none is configured, or as `open_review_system`; UsageError for a
    source without reviews.
    """
    reviewable(checkout)
    system = open_review_system(config, checkout.source.remote_url)
    if system is None:
        raise ConfigurationError(
            f"{APPROVAL}{name} is required, and no review system is configured",
            where=config.where("review"),
            advice="name it, as in review: {gitea: {url: …}}",
        )
    return system


def _records(
    checkout: Checkout,
    chart: Chart,
    config: Config,
    state: State,
    names: Sequence[str],
    ask: Ask,
    review: str,
    *,
    record: bool,
) -> tuple[Record, ...]:
    """Ask about each approval, and record the answer, also that it is missing."""
    records = []
    for name in names:
        if not record:
            _log(chart, name, ask(name))
            continue
        with record_attempt(
            state,
            step="approval",
            subject=chart.name,
            key=approval_key(name, chart, config, review),
            content=chart.content,
            revision=checkout.revision,
            parameters=approval_parameters(name, config, review),
        ) as attempt:
            approved = ask(name)
            people = {vote.account for each in approved for vote in each.votes}
            attempt.parameters["approvers"] = sorted(people)
            attempt.parameters["approved"] = [each.recorded() for each in approved]
            _log(chart, name, approved)
            records.append(attempt.passed({}))
    return tuple(records)


def _log(chart: Chart, name: str, approved: Iterable[Approved]) -> None:
    """Who approved what, when."""
    for each in approved:
        changes = ", ".join(short_revision(change) for change in each.changes)
        for vote in each.votes:
            log.info(
                "%s: approval %s of %s by %s, given %s on %s (%s)",
                chart.name, name, changes, vote.account, vote.given, short_revision(vote.revision),
                each.review.url,
            )  # fmt: skip
