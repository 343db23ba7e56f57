"""The people of a throw-away Gerrit: alice writes charts, bob may approve and submit, ci is a service
user that may vote Verified, submit and set tags, eve is registered and may nothing more.
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from tools.gerrit import server

#: user → password. None holds the name of a user, so that tests can look for it.
PEOPLE = {
    "alice": "pw-4f1d-a",
    "bob": "pw-93c2-b",
    "ci": "pw-7be0-c",
    "eve": "pw-0d65-e",
    server.ADMIN[0]: server.ADMIN[1],
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


class Rest:
    """A server's REST API, by a client that is not the library's. url: without a slash at the end;
    host: its host:port.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.host = urlsplit(url).netloc

    def ask(self, method: str, path: str, body: Any = None, *, by: str = "admin") -> Answered:
        """One request in the name of a user."""
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

    def read(self, path: str) -> bytes:
        """What anybody may read."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=60) as answer:
            return bytes(answer.read())

    def create_project(self, name: str, **settings: Any) -> None:
        """A project whose branch main has one commit. settings: fields of Gerrit's ProjectInput."""
        fields = {"create_empty_commit": True, "branches": ["main"], **settings}
        self.do("PUT", f"/projects/{quote(name, safe='')}", fields)

    def clone_url(self, project: str, by: str) -> str:
        """What git clones, with the login of a user."""
        return f"http://{by}:{PEOPLE[by]}@{self.host}/a/{project}"

    def set_up(self) -> None:
        """People, groups, the label Verified with its requirement, and who may what."""
        for name, password in PEOPLE.items():
            if name != server.ADMIN[0]:
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


def vote(label: str, group: str, value: int) -> dict[str, Any]:
    """A permission to vote from -value to +value."""
    return {"label": label, "rules": {group: {"action": "ALLOW", "min": -value, "max": value}}}
