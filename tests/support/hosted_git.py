"""The real git repository behind a double of a code host: what is pushed, and its merges."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

_PERSON = {
    "GIT_AUTHOR_NAME": "Tester", "GIT_AUTHOR_EMAIL": "tester@example.com",
    "GIT_COMMITTER_NAME": "Host", "GIT_COMMITTER_EMAIL": "host@example.com",
}  # fmt: skip


class HostedGit:
    """A bare repository in `folder`, with one commit on main."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--bare", "--initial-branch", "main")
        self.git("config", "uploadpack.allowAnySHA1InWant", "true")  # as code hosts do
        self.commit("main", {"README.md": "hello\n"}, "begin")

    def git(self, *arguments: str, stdin: str = "", **variables: str) -> str:
        """What git prints. Raises CalledProcessError when it fails."""
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **_PERSON, **variables}
        return subprocess.run(
            ["git", *arguments], cwd=self.folder, env=environment, input=stdin, text=True,
            capture_output=True, check=True,
        ).stdout.strip()  # fmt: skip

    def tip(self, branch: str) -> str:
        """The commit of a branch, "" when there is no such branch."""
        return self.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")

    def has(self, revision: str) -> bool:
        """Whether a commit of this full id is there."""
        return " commit " in self.git("cat-file", "--batch-check", stdin=revision)

    def commit(
        self, branch: str, files: Mapping[str, str], message: str = "change", onto: str = ""
    ) -> str:
        """Commit files to a branch; one that does not exist starts at `onto`, else at main. With
        `onto` an existing one is pushed by force.
        """
        parent = onto or self.tip(branch) or self.tip("main")
        with tempfile.TemporaryDirectory() as aside:
            index = {"GIT_INDEX_FILE": f"{aside}/index"}
            if parent:
                self.git("read-tree", parent, **index)
            for name, text in files.items():
                blob = self.git("hash-object", "-w", "--stdin", stdin=text)
                self.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", **index)
            tree = self.git("write-tree", **index)
        return self._move(branch, self._commit_tree(tree, message, parent))

    def _commit_tree(self, tree: str, message: str, *parents: str) -> str:
        options = [word for parent in parents if parent for word in ("-p", parent)]
        return self.git("commit-tree", tree, *options, stdin=message)

    def _move(self, branch: str, commit: str) -> str:
        self.git("update-ref", f"refs/heads/{branch}", commit)
        return commit

    def commits(self, target: str, head: str) -> list[str]:
        """The commits that `head` brings to `target`, oldest first."""
        return self.git("rev-list", "--reverse", f"{target}..{head}").split()

    def merged_tree(self, target: str, head: str) -> str:
        """The tree of a merge, "" for conflicts."""
        try:
            return self.git("merge-tree", "--write-tree", target, head)
        except subprocess.CalledProcessError as error:
            if error.returncode == 1:
                return ""
            raise

    def merge(self, branch: str, head: str, method: str, message: str) -> str:
        """Merge into a branch: "merge", "squash", "rebase", or "fast-forward". The commit there."""
        target = self.tip(branch)
        if method == "fast-forward":
            return self._move(branch, head)
        if method == "rebase":
            return self._move(branch, self._rebased(target, head))
        parents = (target, head) if method == "merge" else (target,)
        tree = self.merged_tree(target, head)
        return self._move(branch, self._commit_tree(tree, message, *parents))

    def _rebased(self, target: str, head: str) -> str:
        with tempfile.TemporaryDirectory() as aside:
            place = f"{aside}/tree"
            self.git("worktree", "add", "--quiet", "--detach", place, target)
            self.git("-C", place, "cherry-pick", "--allow-empty", *self.commits(target, head))
            rebased = self.git("-C", place, "rev-parse", "HEAD")
            self.git("worktree", "remove", "--force", place)
        return rebased
