"""What is known about a build, whichever CI system says it."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Build(NamedTuple):
    """A build; None: not said, or not of this kind.

    url: its page. id: what all its stages and shards share, repeated attempts too. tag: the tag
    being built. branch: the branch being built, never set for a tag or a review (a fork may call
    its branch main). review: number of the pull request, change or merge request; target: the
    branch it goes to. revision: what the CI means to have checked out, maybe a merge made for
    testing, or a tag object. head: the review's own revision, to which verdicts go. shard: (number
    from 1, of how many).
    """

    system: Literal["jenkins", "gitlab", "github_actions", "terminal"]
    url: str | None = None
    id: str | None = None
    tag: str | None = None
    branch: str | None = None
    review: str | None = None
    target: str | None = None
    revision: str | None = None
    head: str | None = None
    shard: tuple[int, int] | None = None
