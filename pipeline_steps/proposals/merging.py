"""What must hold before a reviewed revision is merged, and merging it on this machine."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from pipeline_steps.approvals.votes import count_votes, missing_approval
from pipeline_steps.config.language import Approval, Config
from pipeline_steps.proposals.checking_out import CheckedOut
from pipeline_steps.reviews.review import LeavesMerging, Review, ReviewSystem
from pipeline_steps.testing import version_policy
from pipeline_steps.testing.requirements import approval_rule
from pipeline_steps.toolbox.errors import Conflict, NotApproved
from pipeline_steps.workspace.checkout import Checkout

log = logging.getLogger("pipeline_steps.merge")


def require_mergeable(review: Review, revision: str) -> None:
    """Raise NotApproved for a draft or a closed review, Conflict when it has a newer revision."""
    if review.state in ("draft", "closed"):
        word = "work in progress" if review.state == "draft" else "closed"
        raise NotApproved(
            f"the review is {word}", where=review.url, advice="ask for a review of it first"
        )
    if review.head != revision:
        raise Conflict(
            f"the review is at {review.head}, not at {revision}",
            where=review.url,
            advice="have the newest revision reviewed",
        )


def require_approvals(
    config: Config, system: ReviewSystem, review: Review, revision: str
) -> tuple[str, ...]:
    """The accounts that approve exactly `revision`, by every rule of `approvals`; where there is
    none, one person who is not the author must. Raises NotApproved; ConfigurationError for a rule
    that asks nobody.
    """
    rules: Mapping[str, Approval] = {
        name: approval_rule(config, name)
        for name in config.approvals
        # Without rules of its own a project still wants somebody else than the author.
    } or {"review": Approval()}
    accounts: dict[str, None] = {}
    for name, rule in rules.items():
        votes = system.votes(review, rule)
        count = count_votes(rule, review, votes, {revision}, system.members)
        if not count.passed:
            raise NotApproved(
                f"{revision} has no approval {name}: {missing_approval(count)}",
                where=review.url,
                advice="ask for the approval of this revision",
            )
        accounts.update(dict.fromkeys(vote.account for vote in count.approving))
    return tuple(accounts)


def require_no_negative_verdict(system: LeavesMerging, review: Review, revision: str) -> None:
    """Raise NotApproved where the CI's own verdict on the revision is negative: there is no other
    gate where the review system does not merge.
    """
    if accounts := system.negative_verdicts(review, revision):
        raise NotApproved(
            f"the verdict on {revision} is negative, says {', '.join(accounts)}",
            where=review.url,
            advice="correct what failed and have the new revision reviewed, or report again",
        )


def require_free_versions(checkout: Checkout, charts: Iterable[str], target: str) -> None:
    """Ask again whether the versions of changed charts are free, above the target's tip as it is
    now. Raises Conflict where `check.version` requires it; else it is told.
    """
    for name in charts:
        finding = version_policy.find_or_warn(checkout, checkout.chart(name), target)
        if finding is None:
            continue
        if checkout.config.check.version == "required":
            raise Conflict(
                finding.text,
                where=finding.where,
                advice="raise it with `pipeline-steps bump`, and have that reviewed",
            )
        log.warning("%s", finding)


def subject(review: Review) -> str:
    """The first line of a merge for systems that take one."""
    return f"Merge {review.title}"


def merge_here(
    system: LeavesMerging, checked_out: CheckedOut, approvers: Iterable[str], *, push: bool
) -> str:
    """The revision of the target that has the proposal: made, pushed, and told to the review
    system. What an earlier run did is not done again. Raises Conflict, Temporary.

    push: False to find out whether it can be merged, and write nothing elsewhere.
    """
    if push:
        system.require_login()
    review, proposal, revision = checked_out.review, checked_out.proposal, checked_out.revision
    # A run that was ended after its push finds the revision in the target, and marks it only.
    merged = proposal.merged_by(revision)
    if not merged:
        merged = proposal.merge(revision, message(system, review, approvers))
        if push:
            proposal.push(merged)
    if push:
        system.set_merged(review, merged)
    return merged


def message(system: LeavesMerging, review: Review, approvers: Iterable[str]) -> str:
    """The message of the merge: the proposal's own, else its title."""
    text = system.commit_message(review).strip() or subject(review)
    trailers = [f"Approved-by: {account}" for account in approvers]
    return "\n".join([text, "", f"Merge-Proposal: {review.url}", *trailers]) + "\n"
