"""Ask the review system whether a chart is approved, now: its head in the build of a review, every
change of the mainline for a release.
"""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from pipeline_steps.approvals.coverage import MOST_COMMITS, Coverage, Range
from pipeline_steps.approvals.mainline import Change, Mainline
from pipeline_steps.approvals.votes import Count, count_votes, missing_approval
from pipeline_steps.config.language import Approval, Config
from pipeline_steps.reviews.review import Review, ReviewSystem, Vote
from pipeline_steps.sources.source import short_revision
from pipeline_steps.toolbox.errors import NotApproved

#: Paths of a change that an error names.
SHOWN = 3


#: The reviews that may have brought a revision to the mainline; where there are none, why.
Reviews = Callable[[str], tuple[tuple[Review, ...], str]]


class Approved(NamedTuple):
    """Revisions that an approval covers, and the votes for it.

    changes: revisions of the mainline; in the build of a review its head.
    """

    review: Review
    changes: tuple[str, ...]
    votes: tuple[Vote, ...]

    def recorded(self) -> dict[str, Any]:
        """For a record: who approved what when."""
        votes = [vote._asdict() for vote in self.votes]
        keys = ("account", "revision", "given")
        return {
            "review": self.review.url,
            "changes": list(self.changes),
            "votes": [{key: vote[key] for key in keys} for vote in votes],
        }


class Brought(NamedTuple):
    """What one review brought: the range on the mainline, and the changes of the chart in it."""

    review: Review
    range: Range
    changes: tuple[Change, ...]


# -- the build of a review ---


def approved_head(
    system: ReviewSystem,
    review: Review,
    name: str,
    approval: Approval,
    coverage: Coverage,
    target: Callable[[], str],
) -> Approved:
    """The votes that approve the newest revision of a review. Raises NotApproved.

    target: the newest revision of the branch that it goes to, asked for only where votes were given
    on other revisions.
    """
    votes = system.votes(review, approval)
    covering = {review.head}
    for revision in {vote.revision for vote in votes} - {"", review.head}:
        if coverage.fetch(review, review.head):
            head = coverage.proposed(review, review.head, target())
            if head and coverage.covers(review, revision, head, target()):
                covering.add(revision)
    count = count_votes(approval, review, votes, covering, system.members)
    if not count.passed:
        raise NotApproved(
            f"{short_revision(review.head)} has no approval {name}: {missing_approval(count)}",
            where=review.url,
            advice=_advice(count, approval),
        )
    return Approved(review, (review.head,), count.approving)


# -- a release ---


def approved_changes(
    system: ReviewSystem,
    config: Config,
    name: str,
    approval: Approval,
    mainline: Mainline,
    coverage: Coverage,
) -> list[Approved]:
    """The votes that approve each change of the mainline, newest first.

    Raises NotApproved naming every change without.
    """
    approved: list[Approved] = []
    missing: list[str] = []
    for brought in brought_by_reviews(system, config, mainline, coverage):
        if isinstance(brought, str):
            missing.append(brought)
            continue
        review, between, changes = brought
        votes = system.votes(review, approval)
        covering = {
            revision
            for revision in {vote.revision for vote in votes} - {""}
            if coverage.covers(review, revision, between)
        }
        count = count_votes(approval, review, votes, covering, system.members)
        if count.passed:
            revisions = tuple(change.revision for change in changes)
            approved.append(Approved(review, revisions, count.approving))
        else:
            missing.append(f"{_changes_text(changes)} of {review.url}: {missing_approval(count)}")
    if missing:
        raise NotApproved(
            f"revisions lack the approval {name}: {'; '.join(missing)}",
            advice="ask for the approval of these revisions; what was pushed without a review "
            "must be brought in by one",
        )
    return approved


def brought_by_reviews(
    system: ReviewSystem, config: Config, mainline: Mainline, coverage: Coverage
) -> Iterator[Brought | str]:
    """What each review brought, newest first; of a change that none brought, why it is not
    approved.
    """
    # The question about a change comes twice, where the change before it has the same review.
    reviews = functools.cache(lambda revision: _merged_reviews(system, config, revision))
    left = list(mainline.changes)
    while left:
        change = left[0]
        commits = coverage.merged_commits(change)
        if commits is None or system.abilities.single_commits:
            left.pop(0)
            yield from _single_commits(change, commits, reviews)
            continue
        change_reviews, problem = reviews(change.revision)
        candidates = (
            _brought(review, left, mainline, coverage, reviews) for review in change_reviews
        )
        brought = next(filter(None, candidates), None)
        if brought is None:
            left.pop(0)
            yield f"{_changes_text((change,))}: {problem}"
            continue
        left = left[len(brought.changes) :]
        yield brought


def _single_commits(
    merge: Change, commits: tuple[Change, ...] | None, reviews: Reviews
) -> Iterator[Brought | str]:
    """What the reviews of single commits brought by a merge, or by themselves."""
    if commits is None:
        yield (
            f"{_changes_text((merge,))}: the merge has other lines than what was merged, or more "
            f"than {MOST_COMMITS} commits"
        )
    for commit in commits or ():
        commit_reviews, problem = reviews(commit.revision)
        if commit_reviews:
            yield Brought(commit_reviews[0], Range(commit.before, commit.revision), (commit,))
        else:
            yield f"{_changes_text((commit,))}: {problem}"


def _brought(
    review: Review, left: list[Change], mainline: Mainline, coverage: Coverage, reviews: Reviews
) -> Brought | None:
    """What a review brought of the changes that are left, the newest one among it."""
    of_review: list[Change] = []
    for change in left:
        if review.id not in {each.id for each in reviews(change.revision)[0]}:
            break
        of_review.append(change)
    end = review.merged or of_review[0].revision
    # Else a review that went elsewhere would stand for what happens to be its head.
    if end not in mainline.revisions or mainline.revisions.index(end) > mainline.revisions.index(
        of_review[0].revision
    ):
        return None
    between = coverage.extended(review, Range(of_review[-1].before, end))
    for change in left[len(of_review) :]:
        if coverage.is_ancestor(change.revision, between.before):
            break
        of_review.append(change)
    return Brought(review, between, tuple(of_review))


def _merged_reviews(
    system: ReviewSystem, config: Config, revision: str
) -> tuple[tuple[Review, ...], str]:
    """The reviews that may have brought a revision to the mainline; if none, why."""
    candidates = system.reviews_of(revision)
    if not candidates:
        return (), "no review brought it here: it was pushed directly"
    problems = [_problem(review, config) for review in candidates]
    merged = tuple(
        review for review, problem in zip(candidates, problems, strict=True) if not problem
    )
    return merged, "; ".join(filter(None, problems)) or "its review was merged elsewhere"


def _problem(review: Review, config: Config) -> str:
    """Why a review cannot have brought anything to the mainline, "" where it may have."""
    if review.state != "merged":
        return f"{review.url} is {review.state}, not merged: it was pushed directly"
    branches = config.release.branches
    if not any(fnmatch.fnmatchcase(review.target, pattern) for pattern in branches):
        return f"{review.url} went to {review.target}, which is not in release.branches"
    return ""


# -- words ---


def _changes_text(changes: Iterable[Change]) -> str:
    return ", ".join(
        f"{short_revision(change.revision)} ({_paths_text(change.paths)})" for change in changes
    )


def _paths_text(paths: tuple[str, ...]) -> str:
    more = len(paths) - SHOWN
    return ", ".join(paths[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _advice(count: Count, approval: Approval) -> str:
    if count.rejecting:
        return "answer the rejection, and ask again"
    from_whom = ", ".join((approval.by,) if isinstance(approval.by, str) else approval.by)
    return f"ask {from_whom or 'somebody who may approve'} to approve this revision"
