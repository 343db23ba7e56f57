"""A real Gitea that several test files share: people with tokens, repositories, pull requests.

Each test takes a repository of its own: the people are the same, what they may do is not.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.gits import Repo
from tools.gitea import gitea

#: Who administers the server, and the people of tests: `ci` is the account of builds, `member`
#: proposes, `core` may approve, `stranger` has no rights in any repository.
ADMIN = "root-of-all"
PEOPLE = ("ci", "member", "core", "stranger")
#: A team that has only `core` in it.
TEAM = "acme/approvers"
#: What a token needs for all that steps do, and no more.
RIGHTS = ("write:repository", "write:issue", "read:user")


class Refused(AssertionError):
    """The server's answer to a request of a test. status: HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class Forge:
    """The server with its people. tokens: name → token."""

    def __init__(self, server: gitea.Gitea) -> None:
        self.server = server
        self.url = server.url
        self.host = server.url.removeprefix("http://")
        self.tokens = {ADMIN: server.admin_token(ADMIN)}
        self._numbers = itertools.count(1)
        for name in PEOPLE:
            self.add_person(name)
        self.tokens["core"] = self.token("core", "all")  # makes the repositories
        self.call("POST", "/orgs", "core", {"username": "acme"})
        fields = {"name": "approvers", "units": ["repo.code"], "permission": "write"}
        team = self.call("POST", "/orgs/acme/teams", "core", fields)["id"]
        self.call("PUT", f"/teams/{team}/members/core", "core")

    def add_person(self, name: str) -> None:
        """A user with the token that a step needs."""
        person = {
            "username": name,
            "email": f"{name}@example.com",
            "password": f"password-of-{name}",
            "must_change_password": False,
        }
        self.call("POST", "/admin/users", ADMIN, person)
        self.tokens[name] = self.token(name, *RIGHTS)

    def token(self, name: str, *rights: str) -> str:
        """A new token of a user with just these rights, like "read:repository"."""
        login = base64.b64encode(f"{name}:password-of-{name}".encode()).decode()
        request = {"name": f"token-{next(self._numbers)}", "scopes": list(rights)}
        answer = self._send("POST", f"/users/{name}/tokens", f"Basic {login}", request)
        return str(answer["sha1"])

    def call(
        self, method: str, path: str, who: str, fields: Mapping[str, Any] | None = None
    ) -> Any:
        """The JSON that a person gets for a request to the API; raises Refused."""
        return self._send(method, path, f"token {self.tokens[who]}", fields)

    def rendered(self, text: str) -> str:
        """The HTML that the server makes of the Markdown of a comment."""
        authorization = f"token {self.tokens['ci']}"
        fields = {"Text": text, "Mode": "comment"}
        return self._answer("POST", "/markdown", authorization, fields).decode()

    def _send(
        self, method: str, path: str, authorization: str, fields: Mapping[str, Any] | None
    ) -> Any:
        return json.loads(self._answer(method, path, authorization, fields) or b"null")

    def _answer(
        self, method: str, path: str, authorization: str, fields: Mapping[str, Any] | None
    ) -> bytes:
        request = urllib.request.Request(
            f"{self.url}/api/v1{path}",
            method=method,
            data=None if fields is None else json.dumps(fields).encode(),
            headers={"Authorization": authorization, "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read().decode(errors="replace")) from error

    def repository(self, folder: Path, **settings: Any) -> Repository:
        """A new repository of `core` with one commit on main, cloned by `member` into `folder`.

        `ci` and `core` may write, `member` may read and push branches to it as a collaborator.
        settings: of Gitea's API for the new repository.
        """
        name = f"charts-{next(self._numbers)}"
        self.call(
            "POST",
            "/user/repos",
            "core",
            {"name": name, "default_branch": "main", "auto_init": True, **settings},
        )
        for person in ("ci", "member"):
            path = f"/repos/core/{name}/collaborators/{person}"
            self.call("PUT", path, "core", {"permission": "write"})
        return Repository(self, f"core/{name}", folder)


class PullRequest(NamedTuple):
    """number: of the pull request; head: its commit when it was made."""

    number: int
    head: str


class Repository:
    """A repository, "owner/name", and its clone that `member` works in."""

    def __init__(self, forge: Forge, name: str, folder: Path) -> None:
        self.forge = forge
        self.name = name
        folder.mkdir(parents=True, exist_ok=True)
        self.checkout = Repo(folder / "checkout", folder / "gitconfig", self.clone_url("member"))

    def clone_url(self, who: str) -> str:
        """The URL with a person's login in it: for throw-away clones of tests."""
        return f"http://{who}:{self.forge.tokens[who]}@{self.forge.host}/{self.name}.git"

    def call(
        self, method: str, path: str, who: str, fields: Mapping[str, Any] | None = None
    ) -> Any:
        """Like Forge.call, below this repository."""
        return self.forge.call(method, f"/repos/{self.name}{path}", who, fields)

    def commit(self, branch: str, files: Mapping[str, str], message: str) -> str:
        """Commit files to a branch, which begins at main; nothing is pushed."""
        listed = self.checkout.git("branch", "--list", branch)
        start = [branch] if listed else ["-B", branch, "origin/main"]
        self.checkout.git("checkout", "-q", *start)
        for path, text in files.items():
            self.checkout.put(path, text)
        return self.checkout.commit(message)

    def propose(
        self, branch: str, files: Mapping[str, str], title: str = "A change"
    ) -> PullRequest:
        """Commit files to a new branch from main, push it, and propose it as `member`."""
        head = self.push(branch, self.commit(branch, files, title))
        fields = {"head": branch, "base": "main", "title": title}
        # Gitea takes in a pushed branch in the background.
        for _ in range(200):
            with contextlib.suppress(Refused):
                self.call("GET", f"/branches/{branch}", "member")
                return PullRequest(self.call("POST", "/pulls", "member", fields)["number"], head)
            time.sleep(0.05)
        raise AssertionError(f"Gitea does not see the branch {branch}")

    def push(self, branch: str, revision: str = "HEAD", *, force: bool = False) -> str:
        """Push a revision to a branch; its commit."""
        options = ["--force"] if force else []
        self.checkout.git("push", "-q", *options, "origin", f"{revision}:refs/heads/{branch}")
        return self.checkout.git("rev-parse", revision)

    def settle(self, number: int, commit: str) -> None:
        """Wait until Gitea has taken in a push to a pull request, which it does in the background."""
        for _ in range(200):
            if commit in str(self.call("GET", f"/issues/{number}/timeline", "core")):
                return
            time.sleep(0.05)
        raise AssertionError(f"Gitea does not see the push of {commit}")

    def pull(self, number: int) -> Any:
        """The pull request as the API tells it."""
        return self.call("GET", f"/pulls/{number}", "core")

    def review(self, number: int, who: str, event: str = "APPROVED", commit: str = "") -> Any:
        """Review a pull request at a commit, or at its head."""
        fields = {"event": event, "body": "I have looked at it.", "commit_id": commit}
        return self.call("POST", f"/pulls/{number}/reviews", who, fields)

    def statuses(self, commit: str) -> list[Any]:
        """What counts of a commit's statuses, as branch protection sees it."""
        return list(self.call("GET", f"/commits/{commit}/status", "core")["statuses"] or [])

    def status(self, commit: str) -> Any:
        """The only status of a commit."""
        (status,) = self.statuses(commit)
        return status

    def comments(self, number: int) -> list[Any]:
        return list(self.call("GET", f"/issues/{number}/comments", "core"))

    def protect(self, **rules: Any) -> None:
        """Protect main; rules: of Gitea's API."""
        self.call("POST", "/branch_protections", "core", {"rule_name": "main", **rules})


@contextlib.contextmanager
def serving() -> Iterator[Forge]:
    with gitea.serve() as server:
        yield Forge(server)
