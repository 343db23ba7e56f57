"""Checkouts of proposed commits of git, and merging them here; see `proposal`."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline_steps.sources import git_program as program
from pipeline_steps.sources.proposal import Target, conflicts, moved, not_in_branch
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import MachineError, ToolMissing

_FETCH = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
_PUSH = ("push", "--porcelain", "--no-follow-tags", "--recurse-submodules=no")
_PROPOSED = "refs/remotes/proposal"
#: git merges without a working tree since 2.38: no file is written, and no filter runs.
_MERGE_TREE = (2, 38)


class GitProposal:
    """The checkout in `root`, whose remote `origin` is the target's repository."""

    def __init__(self, root: Path, target: Target) -> None:
        self.root = root
        self._target = target
        self._ref = f"refs/heads/{target.name}"
        self._tracked = f"refs/remotes/origin/{target.name}"

    def check_out(self, url: str, branch: str, revision: str = "") -> str:
        """See `proposal.Proposal`. No hook and no setting of another checkout counts."""
        files.created_folder(self.root)
        if not (self.root / ".git").exists():
            self._git("init", "--quiet", "--template=")
        self._git("config", "remote.origin.url", self._target.url)
        self._git("config", "remote.origin.fetch", f"+{self._ref}:{self._tracked}")
        # Tags of the target only: a proposed one must not look like a release.
        tags = "+refs/tags/*:refs/tags/*"
        self._git(*_FETCH, "--prune", "origin", f"+{self._ref}:{self._tracked}", tags, remote=True)
        proposed = f"{_PROPOSED}/{branch}"
        self._git(*_FETCH, "--", url, f"+refs/heads/{branch}:{proposed}", remote=True)
        tip = self._git("rev-parse", proposed)
        commit = revision or tip
        if not self._is_ancestor(commit, tip):
            raise not_in_branch(commit, url, branch)
        self._git("checkout", "--quiet", "--force", "--detach", commit)
        self._git("clean", "--quiet", "-ffdx", "--exclude=/.pipeline")
        return commit

    def target_tip(self) -> str:
        return self._git("rev-parse", self._tracked)

    def merged_by(self, revision: str) -> str:
        tip = self.target_tip()
        if not self._is_ancestor(revision, tip):
            return ""
        since = f"{revision}..{tip}"
        having = set(self._git("rev-list", "--ancestry-path", since, "--").split())
        mainline = self._git("rev-list", "--first-parent", "--parents", since, "--").splitlines()
        for line in reversed(mainline):
            commit, *parents = line.split()
            if parents[:1] == [revision]:
                break  # it is on the mainline itself
            if commit in having:
                return commit
        return revision

    def merge(self, revision: str, message: str) -> str:
        """A merge commit with the target's tip as first parent, without a working tree."""
        _require_merge_tree(self.root)
        tip = self.target_tip()
        tree = program.call(
            self.root, "merge-tree", "--write-tree", "-z", "--name-only", "--no-messages",
            tip, revision,
        )  # fmt: skip
        words = program.nul_separated(tree.stdout)
        if tree.code == 1:
            raise conflicts(sorted(set(words[1:])), self._target)
        if not tree.ok:
            raise program.failure(self.root, tree)
        merged_tree = program.object_id(self.root, "".join(words[:1]).encode(errors="replace"))
        parents = ("-p", tip, "-p", revision)
        return self._git("commit-tree", merged_tree, *parents, feed=message.encode())

    def push(self, merged: str) -> None:
        tip = self.target_tip()
        pushed = program.call(
            self.root, *_PUSH, f"--force-with-lease={self._ref}:{tip}", "origin",
            f"{merged}:{self._ref}", remote=True,
        )  # fmt: skip
        listed = self._git("ls-remote", "origin", self._ref, remote=True)
        now = listed.split()[0] if listed else ""
        if now == merged:
            return
        # A lost answer, or what came first, can be told by what is there alone.
        if now != tip:
            raise moved(self._target)
        if not pushed.ok:
            raise program.failure(self.root, pushed)
        raise MachineError(
            f"git pushed {merged[:12]}, but {self._target.name} does not have it",
            where=self._target.url,
            advice="run it again; a hook or a rule of the server may refuse the push",
        )

    def _is_ancestor(self, commit: str, tip: str) -> bool:
        answer = program.call(self.root, "merge-base", "--is-ancestor", commit, tip)
        return answer.code == 0  # 1: no; 128: an unknown commit

    def _git(self, *words: str, remote: bool = False, feed: bytes | None = None) -> str:
        completed = program.call(self.root, *words, remote=remote, stdin=feed)
        if not completed.ok:
            raise program.failure(self.root, completed)
        return completed.stdout.decode("utf-8", "surrogateescape").strip()


def _require_merge_tree(root: Path) -> None:
    printed = program.output(root, "version").decode(errors="replace")
    match = re.search(r"version ([0-9]{1,9})\.([0-9]{1,9})", printed)
    if match is None:
        raise program.unexpected_answer(root, printed, "its version")
    if (int(match[1]), int(match[2])) < _MERGE_TREE:
        raise ToolMissing(
            f"git {match[1]}.{match[2]} cannot merge without a working tree",
            advice="install git 2.38 or newer",
        )
