"""A real Gerrit for the tests of one process, with the people of tools/gerrit/people, and its
projects.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.support import gits
from tools.gerrit import server
from tools.gerrit.people import PEOPLE, Rest, vote

__all__ = ["PEOPLE", "Change", "Gerrit", "Project", "gerrit", "vote"]


class Gerrit(Rest):
    """A running server."""

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        super().__init__(facts["url"])
        self.folder = folder
        self.port: int = facts["port"]
        self._projects = 0

    def project(
        self, folder: Path, *, submit_type: str = "MERGE_IF_NECESSARY", **settings: Any
    ) -> Project:
        """A new project whose branch main has one commit, and alice's clone of it.

        settings: more fields of Gerrit's ProjectInput.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._projects += 1
        name = f"team/charts-{self._projects}"
        self.create_project(name, submit_type=submit_type, **settings)
        return Project(self, name, folder)

    def stop(self) -> None:
        """End the server; `start` brings it back at the same address, tied to the calling thread."""
        server.stop(self.folder)

    def start(self) -> None:
        server.start(self.folder, self.port, tied=True)


class Change(NamedTuple):
    """A change as it was pushed: number, patch set and its commit."""

    number: int
    patch_set: int
    revision: str
    change_id: str


class Project:
    """A project and a clone of it, in which each push stands on the branch main unless told
    otherwise.
    """

    def __init__(self, gerrit: Gerrit, name: str, folder: Path) -> None:
        self.gerrit = gerrit
        self.name = name
        self.quoted = quote(name, safe="")
        self.repo = gits.Repo(folder / "clone", folder / "gitconfig")
        self.repo.git("config", "user.name", "Alice")
        self.repo.git("config", "user.email", "alice@example.com")
        self.repo.git("remote", "add", "origin", self.url("alice"))
        self.fetch()
        self.repo.git("checkout", "-q", "-B", "main", "origin/main")

    def url(self, by: str) -> str:
        """What git clones, with the login of a user."""
        return self.gerrit.clone_url(self.name, by)

    def fetch(self) -> None:
        self.repo.git("fetch", "-q", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*")

    def tip(self, branch: str = "main") -> str:
        """The commit of a branch as the server has it."""
        self.fetch()
        return self.repo.git("rev-parse", f"origin/{branch}")

    def commit(self, files: Mapping[str, str], *, onto: str, subject: str, change_id: str) -> str:
        """Commit files on top of `onto`, by alice, without pushing."""
        self.repo.git("checkout", "-q", "--detach", onto)
        for path, text in files.items():
            place = self.repo.root / path
            self.repo.put(path, text, executable=os.access(place, os.X_OK))
        self.repo.git("add", "-A")
        message = f"{subject}\n\nChange-Id: {change_id}"
        self.repo.git("commit", "-q", "--allow-empty", "-m", message)
        return self.repo.git("rev-parse", "HEAD")

    def push(
        self,
        files: Mapping[str, str],
        *,
        earlier: Change | None = None,
        onto: str = "",
        branch: str = "main",
        subject: str = "Change the chart",
        options: str = "",
        by: str = "alice",
        change_id: str = "",
    ) -> Change:
        """Push a change for review, or the next patch set of an `earlier` one.

        onto: the commit it stands on, else the branch's tip. options: of the push, like "wip" or
        "topic=t".
        """
        identity = change_id or (earlier.change_id if earlier else new_change_id())
        revision = self.commit(
            files, onto=onto or self.tip(branch), subject=subject, change_id=identity
        )
        self.push_commit(revision, branch=branch, options=options, by=by)
        query = quote(f"change:{identity} project:{self.name} branch:{branch}")
        [change] = self.gerrit.do("GET", f"/changes/?q={query}&o=CURRENT_REVISION")
        assert change["current_revision"] == revision, change
        return Change(change["_number"], change["current_revision_number"], revision, identity)

    def push_commit(
        self, revision: str, *, branch: str = "main", options: str = "", by: str = "alice"
    ) -> None:
        mark = f"%{options}" if options else ""
        self.repo.git("push", "-q", self.url(by), f"{revision}:refs/for/{branch}{mark}")

    def path(self, change: Change) -> str:
        """The REST path of a change."""
        return f"/changes/{self.quoted}~{change.number}"

    def vote(self, change: Change, by: str, **labels: int) -> None:
        """Vote on the change's revision; underscores in a label's name stand for hyphens."""
        votes = {name.replace("_", "-"): value for name, value in labels.items()}
        path = f"{self.path(change)}/revisions/{change.revision}/review"
        assert self.gerrit.do("POST", path, {"labels": votes}, by=by)["labels"] == votes

    def votes(self, change: Change, label: str = "Verified") -> dict[str, int]:
        """user → vote on the current patch set, 0 left out."""
        facts = self.gerrit.do("GET", f"{self.path(change)}?o=DETAILED_LABELS&o=DETAILED_ACCOUNTS")
        votes = facts["labels"][label].get("all", [])
        return {vote["username"]: vote["value"] for vote in votes if vote.get("value")}

    def messages(self, change: Change) -> list[Any]:
        return list(self.gerrit.do("GET", f"{self.path(change)}/messages"))

    def meta(self, change: Change) -> str:
        """The texts of the commits in which Gerrit keeps a change, newest first."""
        ref = f"refs/changes/{change.number % 100:02}/{change.number}/meta"
        self.repo.git("fetch", "-q", self.url("admin"), ref)
        return self.repo.git("log", "--format=%B", "FETCH_HEAD")


def new_change_id() -> str:
    """A Change-Id like the commit hook's."""
    return f"I{secrets.token_hex(20)}"


@contextlib.contextmanager
def gerrit() -> Iterator[Gerrit]:
    """A server with people and labels, ended with this process whatever ends it."""
    with tempfile.TemporaryDirectory(prefix="gerrit-") as place:
        folder = Path(place) / "run"
        running = Gerrit(folder, server.up(folder, tied=True))
        try:
            running.set_up()
            yield running
        finally:
            server.down(folder)
