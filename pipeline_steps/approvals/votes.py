"""Which votes of a review count for a named approval, and whether they are enough.

Pure: the same rule for all review systems. What a system says itself, like "approved" or "stale",
may only refuse (docs/decisions/0027). Nor is anything asked here about revisions: which of them an
approval covers stands in `coverage`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from pipeline_steps.config.language import Approval, as_tuple
from pipeline_steps.reviews.review import Review, Vote
from pipeline_steps.sources.source import short_revision

GROUP = "group:"
#: Words of `not_by` that are no accounts.
AUTHOR, UPLOADER = "author", "uploader"
#: Accounts of a group; raises as `ReviewSystem.members`.
Members = Callable[[str], frozenset[str]]


class Uncounted(NamedTuple):
    """A vote that does not count, and why."""

    vote: Vote
    reason: str


class Count(NamedTuple):
    """The votes for one approval. approving: one of each person, sorted by account; enough or not.

    rejecting: votes that block, whoever else approves. missing: how many more people must approve.
    """

    approving: tuple[Vote, ...]
    rejecting: tuple[Vote, ...]
    uncounted: tuple[Uncounted, ...]
    missing: int

    @property
    def passed(self) -> bool:
        return not self.missing and not self.rejecting


def count_votes(
    approval: Approval,
    review: Review,
    votes: Iterable[Vote],
    covering: Collection[str],
    members: Members,
) -> Count:
    """Count the votes of a review for an approval.

    Args:
        votes: of one review; of several of one person the newest counts, and of two at the same
            time the rejecting one.
        covering: the revisions whose approval covers what is to be approved.
        members: asked only for groups that the approval names.
    """
    eligible = _eligible(approval, members)
    approving: dict[str, Vote] = {}
    rejecting: list[Vote] = []
    uncounted: list[Uncounted] = []
    excluded = _excluded(approval, review, members)
    for vote in _newest(votes):
        reason = vote.reason
        if not reason and vote.word == "approve":
            reason = _refusal(vote, eligible, excluded, covering)
        if reason:
            uncounted.append(Uncounted(vote, reason))
        elif vote.word == "reject":
            rejecting.append(vote)
        else:
            # By one name, however it is written: one person must not count twice.
            approving.setdefault(_alike(vote.account), vote)
    missing = max(approval.count - len(approving), 0)
    ordered = sorted(approving.values(), key=lambda vote: vote.account)
    return Count(tuple(ordered), tuple(rejecting), tuple(uncounted), missing)


def missing_approval(count: Count) -> str:
    """Whose approval is missing, and why the votes that there are do not count."""
    parts = [f"{vote.account} rejects {short_revision(vote.revision)}" for vote in count.rejecting]
    if count.missing:
        people = "person" if count.missing == 1 else "people"
        parts.append(f"{count.missing} more {people} must approve")
    ignored = [f"{each.vote.account}: {each.reason}" for each in count.uncounted]
    return "; ".join(parts) + (f" ({'; '.join(ignored)})" if ignored else "")


def _newest(votes: Iterable[Vote]) -> list[Vote]:
    """The newest vote of each account, sorted by account."""
    newest: dict[str, Vote] = {}
    for vote in votes:
        former = newest.get(vote.account)
        if former is None or _age(vote) > _age(former):
            newest[vote.account] = vote
    return [newest[account] for account in sorted(newest)]


def _age(vote: Vote) -> tuple[str, bool, str, str]:
    """Sorts votes of one person, the one that counts last; total, so that no order decides."""
    return vote.given, vote.word == "reject", vote.reason, vote.revision


def _refusal(
    vote: Vote,
    eligible: frozenset[str] | None,
    excluded: dict[str, str],
    covering: Collection[str],
) -> str:
    """Why an approving vote does not count, "" when it does."""
    if not vote.account.strip():
        return "the review system does not say whose it is"
    if "" in excluded:
        return excluded[""]
    if reason := excluded.get(_alike(vote.account)):
        return reason
    if eligible is not None and vote.account not in eligible:
        similar = next((name for name in eligible if _alike(name) == _alike(vote.account)), "")
        hint = f", which has {similar}: write it as the review system does" if similar else ""
        return f"not in `by`{hint}"
    if not vote.revision:
        return "the review system does not say which revision was approved"
    if vote.revision not in covering:
        return f"given on {short_revision(vote.revision)}, which has other changes"
    return ""


def _eligible(approval: Approval, members: Members) -> frozenset[str] | None:
    """The accounts in `by`, written exactly so; None: everybody whom the system lets approve.

    Not without case: where a system tells Alice from alice, anybody could register the other.
    """
    names = as_tuple(approval.by)
    return _accounts(names, members) if names else None


def _excluded(approval: Approval, review: Review, members: Members) -> dict[str, str]:
    """Account, without case and variants of letters → why it may not approve.

    The key "" excludes everybody: the system does not say who must be excluded.
    """
    excluded: dict[str, str] = {}
    # Where the system does not tell the uploader, kinds.open_review_system has refused the rule.
    accounts = {AUTHOR: review.author, UPLOADER: review.uploader}
    for name in approval.not_by:
        if name in accounts:
            if not accounts[name].strip():
                return {"": f"the review system does not say who the {name} is"}
            excluded.setdefault(_alike(accounts[name]), f"by the {name} of the review")
        else:
            for account in _accounts((name,), members):
                excluded.setdefault(_alike(account), f"{account} is in `not_by`")
    return excluded


def _accounts(names: Iterable[str], members: Members) -> frozenset[str]:
    accounts: set[str] = set()
    for name in names:
        if name.startswith(GROUP):
            accounts |= members(name.removeprefix(GROUP))
        else:
            accounts.add(name)
    return frozenset(accounts)


def _alike(account: str) -> str:
    """What accounts have in common that look alike. For refusing only.

    >>> _alike("ALICE") == _alike("alice") == _alike("ａｌｉｃｅ")
    True
    """
    folded = unicodedata.normalize("NFKC", account).casefold()
    return unicodedata.normalize("NFKC", folded).strip()
