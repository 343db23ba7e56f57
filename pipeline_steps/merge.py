"""Merge a review: exactly the revision that was reviewed.

    pipeline-steps merge --review lp:~dev/charts/fix
    pipeline-steps merge --review 17 --plan

Asks every rule of `approvals`; without one, one person who is not the author must approve. Refuses
(6) what is not approved, or was approved at another revision than this; (5) a review whose branch has
moved, that conflicts with its target, or whose charts' versions the target has taken in the
meantime (`check.version: required`). A review system that merges does it, pinned to that revision;
for Launchpad, which does not, it is merged here, in a checkout of its own, unless the verdict on it
is negative (6), pushed, and the proposal marked as merged. Elsewhere the review's newest revision
must be checked out (2). What decides about trust, `approvals` among it, is the target's
(docs/explanation/trust.md). Writes a record. Changes outside: the target branch and the review. A
second run finishes what the first one could not.
"""

from __future__ import annotations

import contextlib
import logging
import os

from pipeline_steps.ci.detect import detect
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.selection import affected
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.proposals import checking_out, merging
from pipeline_steps.reviews.review import LeavesMerging, Review, ReviewSystem
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import UsageError
from pipeline_steps.workspace.checkout import open_checkout

STEP = Step(
    "merge",
    __doc__,
    reuses_records=False,
    subjects="none",
    keywords=("plan",),
    options=(
        Option("review", "text", "number, path or address of the review; default: the CI's"),
        Option("revision", "text", "the reviewed revision; default: the review's newest one"),
    ),
    doctor_needs=("review merge", "review approvals"),
    writes=("merge",),
)
FORMAT = 1

log = logging.getLogger("pipeline_steps.merge")  # __name__ is __main__ under -m


def merge(
    *,
    config: Config,
    state: State,
    review: str | None = None,
    revision: str | None = None,
    plan: bool = False,
) -> Record | tuple[Record, ...]:
    """Merge a review at exactly one revision.

    Args:
        review: which one; default: the review that the CI builds.
        revision: that was reviewed; default: the newest one, which must be approved in any case.
        plan: make all checks and log what would be merged; returns ().

    Raises:
        NotApproved: an approval is missing, or was given on another revision; on Launchpad also
            when the verdict is negative.
        Conflict: the branch has moved, conflicts with its target, or a version is taken.
        UsageError: no review is named, or there is no such one.
        Temporary: the target moved while it was merged; run again.
    """
    system = checking_out.required_system(config)
    build = detect(os.environ)
    id = review or build.review
    if not id:
        raise UsageError(
            "no review is named", advice="give --review with its number, path or address"
        )
    found = system.review(id)
    # In a build of the review the configuration is that of the target already; a proposal of
    # Launchpad is checked out beside this, which is the maintainer's own.
    if not build.review and not isinstance(system, LeavesMerging):
        config, system, found = checking_out.ask_by_policy_of_target(config, found, id)
    pinned = revision or (build.head if id == build.review else None) or found.head
    parameters = {"review": found.id, "target": found.target, "revision": pinned}
    key = make_key("merge", FORMAT, parameters=parameters, content=None, consumed={})
    with (
        record_attempt(
            state, step="merge", subject="merge", key=key, revision=pinned, parameters=parameters
        )
        if not plan
        else contextlib.nullcontext() as attempt
    ):
        if found.state == "merged" and pinned in found.revisions:
            log.info("%s is merged already, by %s", found.url, found.merged or "somebody")
            return attempt.passed({"merge": f"{found.target}@{found.merged}"}) if attempt else ()
        merging.require_mergeable(found, pinned)
        approvers = merging.require_approvals(config, system, found, pinned)
        if attempt:
            attempt.parameters["approvers"] = list(approvers)
            attempt.begin({"merge": f"{found.target}@{pinned}"})
        merged = merge_review(config, system, found, pinned, approvers, write=not plan)
        if attempt:
            return attempt.passed({"merge": f"{found.target}@{merged}"})
        log.info("%s would be merged into %s at %s", found.url, found.target, pinned)
        return ()


def merge_review(
    config: Config,
    system: ReviewSystem,
    review: Review,
    revision: str,
    approvers: tuple[str, ...],
    *,
    write: bool,
) -> str:
    """The revision on the target that brought the review there; "" when nothing is written.

    Raises as `merge`, which has asked for the approvals.
    """
    if isinstance(system, LeavesMerging):
        merging.require_no_negative_verdict(system, review, revision)
        checked_out = checking_out.check_out(config, system, review, revision)
        require_free_versions(checking_out.configuration(config, checked_out), review.target)
        return merging.merge_here(system, checked_out, approvers, push=write)
    checkout = open_checkout(config)
    if checkout.revision != revision:
        raise UsageError(
            f"the checkout is at {checkout.revision}, the review at {revision}",
            where=review.url,
            advice="check that out: its versions are compared with the target's",
        )
    checking_out.fetch_target(config, review.target)
    require_free_versions(config, review.target)
    return system.merge(review, revision, merging.subject(review)) if write else ""


def require_free_versions(config: Config, target: str) -> None:
    """See `merging.require_free_versions`; for the charts that the checkout changes."""
    checkout = open_checkout(config)
    merging.require_free_versions(checkout, affected(checkout, target), target)


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, merge, argv)


if __name__ == "__main__":
    raise SystemExit(main())
