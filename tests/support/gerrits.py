"""A real Gerrit for the tests of one process: its people, projects and labels.

alice writes charts, bob may approve and submit, ci is a service user that may vote Verified and set
tags, eve is registered and may nothing more.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from tests.support import gits
from tools.gerrit import server

#: user → password. A secret that holds the name of no user, so that tests can look for it.
PEOPLE = {
    "alice": "pw-4f1d-a",
    "bob": "pw-93c2-b",
    "ci": "pw-7be0-c",
    "eve": "pw-0d65-e",
    "admin": server.ADMIN[1],
}
MEMBERS = {"developers": ("alice", "bob"), "approvers": ("bob",), "ci-bots": ("ci",)}
VERIFIED = {
    "values": {"-1": "Fails", " 0": "No score", "+1": "Verified"},
    "copy_condition": "changekind:NO_CODE_CHANGE",
}
REQUIREMENT = {
    "name": "Verified",
    "submittability_expression": "label:Verified=MAX AND -label:Verified=MIN",
}


class Answered(NamedTuple):
    """An answer of the REST API: its status, and its JSON or text."""

    status: int
    body: Any


class Gerrit:
    """A running server. url: without a slash at the end; host: its host:port."""

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder = folder
        self.url: str = facts["url"]
        self.port: int = facts["port"]
        self.host = urlsplit(self.url).netloc
        self._projects = 0

    def ask(self, method: str, path: str, body: Any = None, *, by: str = "admin") -> Answered:
        """One request, by a client that is not ours."""
        login = base64.b64encode(f"{by}:{PEOPLE[by]}".encode()).decode()
        request = urllib.request.Request(f"{self.url}/a{path}", method=method)
        request.add_header("Authorization", f"Basic {login}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        text = content.decode()
        json_text = text.removeprefix(")]}'\n")
        return Answered(status, json.loads(json_text) if json_text != text else text)

    def do(self, method: str, path: str, body: Any = None, *, by: str = "admin") -> Any:
        """The JSON of an answer that must be good."""
        answered = self.ask(method, path, body, by=by)
        assert answered.status < 300, f"{method} {path}: {answered}"
        return answered.body

    def set_up(self) -> None:
        """People, groups, the label Verified with its requirement, and who may what."""
        for name, password in PEOPLE.items():
            if name != "admin":
                facts = {"name": name.title(), "email": f"{name}@example.com"}
                service = {"groups": ["Service Users"]} if name == "ci" else {}
                account = {**facts, **service, "http_password": password}
                self.do("PUT", f"/accounts/{name}", account)
        groups = {
            name: self.do("PUT", f"/groups/{name}", {"members": list(members)})["id"]
            for name, members in MEMBERS.items()
        }
        self.do("PUT", "/projects/All-Projects/labels/Verified", VERIFIED)
        self.do("PUT", "/projects/All-Projects/submit_requirements/Verified", REQUIREMENT)
        allow = {"action": "ALLOW"}
        heads = {
            "label-Verified": vote("Verified", groups["ci-bots"], 1),
            "label-Code-Review": vote("Code-Review", groups["approvers"], 2),
            "submit": {"rules": {groups["approvers"]: allow, groups["ci-bots"]: allow}},
        }
        tags = {"createTag": {"rules": {groups["ci-bots"]: allow, groups["developers"]: allow}}}
        access = {
            "refs/heads/*": {"permissions": heads},
            "refs/tags/*": {"permissions": tags},
        }
        self.do("POST", "/projects/All-Projects/access", {"add": access})

    def project(
        self, folder: Path, *, submit_type: str = "MERGE_IF_NECESSARY", **settings: Any
    ) -> Project:
        """A new project whose branch main has one commit, and alice's clone of it.

        settings: more fields of Gerrit's ProjectInput.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._projects += 1
        name = f"team/charts-{self._projects}"
        fields = {"create_empty_commit": True, "branches": ["main"], "submit_type": submit_type}
        self.do("PUT", f"/projects/{quote(name, safe='')}", {**fields, **settings})
        return Project(self, name, folder)

    def restart(self) -> None:
        """End the server and start it again at the same address."""
        self.stop()
        self.start()

    def stop(self) -> None:
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
        return f"http://{by}:{PEOPLE[by]}@{self.gerrit.host}/a/{self.name}"

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
        [found] = self.gerrit.do("GET", f"/changes/?q={query}&o=CURRENT_REVISION")
        assert found["current_revision"] == revision, found
        return Change(found["_number"], found["current_revision_number"], revision, identity)

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
        given = facts["labels"][label].get("all", [])
        return {vote["username"]: vote["value"] for vote in given if vote.get("value")}

    def messages(self, change: Change) -> list[Any]:
        return list(self.gerrit.do("GET", f"{self.path(change)}/messages"))

    def meta(self, change: Change) -> str:
        """The texts of the commits in which Gerrit keeps a change, newest first."""
        ref = f"refs/changes/{change.number % 100:02}/{change.number}/meta"
        self.repo.git("fetch", "-q", self.url("admin"), ref)
        return self.repo.git("log", "--format=%B", "FETCH_HEAD")


def vote(label: str, group: str, value: int) -> dict[str, Any]:
    """A permission to vote from -value to +value."""
    return {"label": label, "rules": {group: {"action": "ALLOW", "min": -value, "max": value}}}


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
