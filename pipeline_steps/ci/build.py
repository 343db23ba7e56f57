"""The build this process runs in, as its CI system describes it in the environment; a terminal is one, too.

Only what the environment says: nothing here asks a server or the source system.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple


class Build(NamedTuple):
    """A build; None: not said, or not of this kind.

    url: its page. id: what all its stages and shards share, repeated attempts too. tag: the tag being built.
    branch: the branch being built, never set for a tag or a review (a fork may call its branch main).
    review: number of the pull request, change or merge request; target: the branch it goes to.
    revision: what the CI means to have checked out, maybe a merge made for testing, or a tag object.
    head: the review's own revision, to which verdicts go. shard: (number from 1, of how many).
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


def detect(environ: Mapping[str, str]) -> Build:
    """The build that `environ` describes. Empty variables count as not set."""
    said = {name: value for name, value in environ.items() if value}
    if said.get("GITHUB_ACTIONS") == "true":
        from pipeline_steps.ci import github_actions

        return github_actions.build(said)
    if "GITLAB_CI" in environ:  # gitlab-ci-local sets it to "false"
        from pipeline_steps.ci import gitlab

        return gitlab.build(said)
    if "JENKINS_URL" in said or said.get("BUILD_TAG", "").startswith("jenkins-"):
        from pipeline_steps.ci import jenkins

        return jenkins.build(said)
    from pipeline_steps.ci import terminal

    return terminal.build(said)
