"""The build a step runs in, whichever CI started it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Build(NamedTuple):
    """system: "jenkins", "gitlab", "github_actions" or "terminal" (a person's shell).

    url, id: of the build. tag: the tag being built. branch: the branch being built. review: its number or id.
    target: the branch a review wants to go to. revision: what the CI says it checked out or shall be judged.
    shard: (I, N), 1-based.
    """

    system: str
    url: str = ""
    id: str = ""
    tag: str | None = None
    branch: str | None = None
    review: str | None = None
    target: str | None = None
    revision: str | None = None
    shard: tuple[int, int] | None = None


def detect(environ: Mapping[str, str]) -> Build:
    """The build that `environ` describes; a shell of a person is a build, too."""
    from pipeline_steps.ci import github_actions, gitlab, jenkins, terminal

    for system in (gitlab, github_actions, jenkins):
        build = system.build(environ)
        if build is not None:
            return build
    return terminal.build(environ)
