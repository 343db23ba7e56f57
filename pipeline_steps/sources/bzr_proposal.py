"""Checkouts of proposed revisions of Bazaar, and merging them here; see `proposal`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from pipeline_steps.sources import bzr_program as program
from pipeline_steps.sources.bzr_program import BrzError
from pipeline_steps.sources.proposal import Target, conflicts, moved, not_in_branch
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import PipelineError

#: What `check_out` leaves: the branch, and what steps write.
_KEPT = (".bzr", ".pipeline")


class BazaarProposal:
    """The checkout in `root`, whose parent is the target."""

    def __init__(self, root: Path, target: Target) -> None:
        self.root = root
        self._target = target
        self._tip = ""

    def check_out(self, url: str, branch: str, revision: str = "") -> str:
        """See `proposal.Proposal`."""
        files.created_folder(self.root)
        for place in self.root.iterdir():
            if place.name not in _KEPT:
                shutil.rmtree(
                    place
                ) if place.is_dir() and not place.is_symlink() else place.unlink()
        answer = self._ask("take", url, url=url, revision=revision, target=self._target.url)
        self._tip = str(answer["tip"])
        return str(answer["revision"])

    def target_tip(self) -> str:
        return self._tip

    def merged_by(self, revision: str) -> str:
        return str(self._ask("merged_by", str(self.root), revision=revision, tip=self._tip))

    def merge(self, revision: str, message: str) -> str:
        """A revision with the target's tip as left-hand parent, without a working tree."""
        tip = self._tip
        return str(self._ask("merge", str(self.root), revision=revision, tip=tip, message=message))

    def push(self, merged: str) -> None:
        self._ask("push", self._target.url, url=self._target.url, merged=merged, tip=self._tip)

    def _ask(self, question: str, where: str, **arguments: Any) -> Any:
        """where: the location that failures are about."""
        with program.running(self.root) as brz:
            try:
                return brz.ask(question, arguments, program.REMOTE).value
            except BrzError as error:
                raise self._refusal(error, where) from error

    def _refusal(self, error: BrzError, where: str) -> PipelineError:
        facts = error.facts
        if error.code == "NotInBranch":
            return not_in_branch(facts["revision"], where, where.rpartition("/")[2])
        if error.code == "Conflicts":
            return conflicts(json.loads(facts["paths"]), self._target)
        if error.code == "TargetMoved":
            return moved(self._target)
        return program.failure(facts.get("url", where), error)
