"""Checkouts of proposed revisions, and merging them here for systems that merge nothing themselves.

A proposal's checkout is a folder of its own: nothing that it has is taken from the checkout of whoever asks. It
knows the branch that the proposal goes to: its tip, its tags, the common ancestor.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from pipeline_steps.toolbox.errors import Conflict, PipelineError, Temporary, UsageError


class Target(NamedTuple):
    """The branch that a proposal goes to. url: of the repository (git) or the branch. name: of the
    branch.
    """

    url: str
    name: str


class Proposal(Protocol):
    """A checkout of a proposed revision in the folder `root`.

    All methods raise Temporary, Unreachable, AccessRefused, and MachineError.
    """

    root: Path

    def check_out(self, url: str, branch: str, revision: str = "") -> str:
        """Make or update the checkout: a revision of a branch, "" for the newest one; its full id
        is returned. Everything there is replaced but `.pipeline`.

        Raises UsageError when the branch does not have the revision.
        """

    def target_tip(self) -> str:
        """The newest revision of the target, as of `check_out`."""

    def merged_by(self, revision: str) -> str:
        """The revision of the target, on its own line of first parents, that brought a revision:
        the oldest one that has it; "" when the tip does not.
        """

    def merge(self, revision: str, message: str) -> str:
        """Merge a revision into the target's tip and commit that here; nothing is pushed. Returns
        the new revision. Raises Conflict.
        """

    def push(self, merged: str) -> None:
        """Make what `merge` returned the target's tip. Raises Temporary when it moved since."""


def not_in_branch(revision: str, url: str, branch: str) -> PipelineError:
    """The error for a revision that a proposed branch does not have, or not any more."""
    return UsageError(
        f"the branch {branch} does not have the revision {revision}",
        where=url,
        advice="it was overwritten or removed there: review what is there now",
    )


def conflicts(paths: list[str], target: Target) -> PipelineError:
    """The error for changes that cannot be merged without a person. paths: where they meet."""
    listed = ", ".join(paths[:10]) + (f" and {len(paths) - 10} more" if len(paths) > 10 else "")
    return Conflict(
        f"the change conflicts with {target.name} in {listed}",
        where=target.url,
        advice=f"merge {target.name} into the proposed branch, push it, and have that reviewed",
    )


def moved(target: Target) -> PipelineError:
    """The error for a target that got another revision while the merge was made."""
    return Temporary(
        f"{target.name} got another revision in the meantime; nothing was pushed",
        where=target.url,
        advice="run it again: the merge is made anew on top of it",
    )
