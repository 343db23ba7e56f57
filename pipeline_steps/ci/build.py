"""The description of a build that all CI systems share."""

from __future__ import annotations

from typing import Literal, NamedTuple

System = Literal["jenkins", "gitlab", "github_actions", "gitea_actions", "terminal"]


class Build(NamedTuple):
    """A build. None means unknown, or not applicable to this kind of build.

    url: its page.
    id: shared by all its stages, shards and repeated attempts.
    tag: the tag being built.
    branch: the branch being built; None for a tag or a review, because a fork may call its
        branch main.
    review: number of the pull request, change or merge request; of the last one where a merge
        queue tests several together.
    target: the branch that the review goes to.
    revision: what CI checked out and what is tested; perhaps a test merge, or a tag object.
    head: the revision that verdicts are reported to: the review's own, or the commit that a
        merge queue made, where the queue waits for the verdict on that. Without `review`: of the
        workflow that started this one to report (GitHub's workflow_run).
    base: the revision of the target that the review was merged with for the test, or where no
        merge is tested, the one that the review starts from.
    queued: whether a merge queue or merge train tests what it is about to merge, with the
        reviews in front of it.
    shard: number from 1, and how many there are.
    repository: the project as the review system names it, like "owner/name".
    api: root of the system's REST API, as the CI tells it; the configuration beats it.
    """

    system: System
    url: str | None = None
    id: str | None = None
    tag: str | None = None
    branch: str | None = None
    review: str | None = None
    target: str | None = None
    revision: str | None = None
    head: str | None = None
    base: str | None = None
    queued: bool = False
    shard: tuple[int, int] | None = None
    repository: str | None = None
    api: str | None = None

    @property
    def is_test_merge(self) -> bool:
        """Whether CI tests a merge of `head` and `base`: a verdict on `head` must say so."""
        return bool(self.review and self.head and self.revision and self.head != self.revision)
