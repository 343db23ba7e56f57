"""Votes of reviews that were given another target since.

With another target a review proposes something else, though its head stays: what its former target
had besides comes along, and nobody who approved before was shown that.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline_steps.reviews.review import Review, Vote

#: Characters of RFC 3339 down to the second.
_SECOND = 19


def votes_for_target(votes: Iterable[Vote], review: Review, since: str) -> tuple[Vote, ...]:
    """The votes, of which those that approve count only when given after the review got its target.

    since: when that was, RFC 3339 in UTC; "" where it always had it. What was given in the same
    second does not count, as nothing says which came first. Rejections always count.
    """
    if not since:
        return tuple(votes)
    reason = f"given for another target: the review goes to {review.target} since {since}"
    return tuple(
        vote._replace(reason=reason)
        if vote.word == "approve" and not vote.reason and vote.given[:_SECOND] <= since[:_SECOND]
        else vote
        for vote in votes
    )
