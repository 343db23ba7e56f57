"""What the timeline of a pull request says about its votes: when it got its target, and which
approvals GitHub moved to another commit.

Source: GitHub documentation, "Timeline events API", "Issue event types". That approvals move is
documented nowhere (docs/decisions/0042).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from pipeline_steps.reviews.review import Vote
from pipeline_steps.toolbox import clock

#: Events after which a pull request has another target.
_RETARGETED = ("base_ref_changed", "automatic_base_change_succeeded")
#: Characters of RFC 3339 down to the second.
_SECOND = 19


class _Signature(msgspec.Struct):
    date: datetime | None = None


class Event(msgspec.Struct):
    """An entry of the timeline; which fields it has depends on its kind.

    commit_id: of a forced push, the new head. sha, committer: of a commit.
    """

    event: str = ""
    created_at: datetime | None = None
    commit_id: str | None = None
    sha: str = ""
    committer: _Signature | None = None


def targeted_at(events: Iterable[Event]) -> str:
    """When a pull request got its target; "" where it always had it."""
    times = (event.created_at for event in events if event.event in _RETARGETED)
    return max(map(clock.rfc3339_of, times), default="")


def with_moved_refused(
    votes: Iterable[Vote], head: str, events: Iterable[Event]
) -> tuple[Vote, ...]:
    """The votes, of which approvals of a commit do not count that was not there when they were given:
    GitHub moves approvals to the new head of a branch. head: the newest one.
    """
    known = tuple(events)
    return tuple(
        vote._replace(reason="given before this commit was there: GitHub moved it, approve again")
        if vote.word == "approve" and not vote.reason and _is_moved(vote, head, known)
        else vote
        for vote in votes
    )


def _is_moved(vote: Vote, head: str, events: tuple[Event, ...]) -> bool:
    for event in events:
        if event.event == "head_ref_force_pushed":
            # In the same second nothing says which came first.
            is_later = clock.rfc3339_of(event.created_at)[:_SECOND] >= vote.given[:_SECOND]
            if is_later and vote.revision in (event.commit_id, head):
                return True
        if event.event == "committed" and event.sha == vote.revision:
            # Whoever pushes may write any date into a commit; an honest one tells of other pushes.
            made = event.committer.date if event.committer else None
            if clock.rfc3339_of(made) > vote.given:
                return True
    return False
