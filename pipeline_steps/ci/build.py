"""The description of a build that all CI systems share."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Build(NamedTuple):
    """A build. None means unknown, or not applicable to this kind of build.

    url: its page.
    id: shared by all its stages, shards and repeated attempts.
    tag: the tag being built.
    branch: the branch being built; None for a tag or a review, because a fork may call its
        branch main.
    review: number of the pull request, change or merge request.
    target: the branch that the review goes to.
    revision: what CI checked out; perhaps a test merge, or a tag object.
    head: the review's own revision, to which verdicts are reported.
    shard: number from 1, and how many there are.
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
