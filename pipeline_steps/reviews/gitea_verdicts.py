"""Verdicts on Gitea: a commit status, and one comment that is kept up to date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from pipeline_steps.reviews.forges import STARTED, STATUS_STATES, VerdictComments, word_of_status
from pipeline_steps.reviews.review import Verdict, Word
from pipeline_steps.services.gitea import Gitea
from pipeline_steps.services.rest import segment
from pipeline_steps.toolbox.errors import MachineError


class _Person(msgspec.Struct):
    login: str


class _Status(msgspec.Struct):
    """A status, of which each one that is set is kept: the highest id counts."""

    status: str
    context: str
    description: str = ""
    target_url: str = ""
    creator: _Person | None = None
    id: int = 0


class _Comment(msgspec.Struct):
    id: int
    body: str
    html_url: str
    user: _Person | None = None


class Statuses:
    """The commit statuses of one repository under one name. page: of the repository."""

    def __init__(self, gitea: Gitea, name: str, page: str) -> None:
        self._gitea, self._name, self._page = gitea, name, page

    def set(self, verdict: Verdict) -> bool:
        """Set a verdict unless it is there: whether anything was written.

        Raises MachineError when it is not shown then.
        """
        begins = verdict.summary.startswith(STARTED)
        started = STARTED if verdict.word == "started" and not begins else ""
        fields = {
            "state": STATUS_STATES[verdict.word],
            "context": self._name,
            "description": f"{started}{verdict.summary}",
            "target_url": verdict.url,
        }
        if self._shows(verdict.revision, fields):
            return False
        path = f"/statuses/{segment(verdict.revision)}"
        self._gitea.call("POST", path, body=fields, idempotent=True)  # the newest of equals counts
        if not self._shows(verdict.revision, fields):
            raise MachineError(
                f"Gitea took the status {self._name} and does not show it",
                where=f"{self._page}/commit/{verdict.revision}",
                advice="run report again; another account may set the same status",
            )
        return True

    def _shows(self, revision: str, fields: Mapping[str, str]) -> bool:
        """Whether the status that counts is this one, and our account's."""
        status = self._status(revision)
        return (
            status is not None
            and status.creator is not None
            and status.creator.login == self._gitea.login
            and (status.status, status.description) == (fields["state"], fields["description"])
            and status.target_url == fields["target_url"]
        )

    def _status(self, revision: str) -> _Status | None:
        """The status that counts: the newest with our name."""
        statuses = self._gitea.pages(f"/statuses/{segment(revision)}", _Status)
        ours = [status for status in statuses if status.context == self._name]
        return max(ours, key=lambda status: status.id, default=None)

    def word(self, revision: str) -> Word | None:
        """The verdict that this account has set on a revision; None for none."""
        status = self._status(revision)
        if status is None or status.creator is None or status.creator.login != self._gitea.login:
            return None
        return word_of_status(status.status, status.description)


class Comments(VerdictComments[_Comment]):
    """The comments of the account on pull requests."""

    system = "Gitea"

    def __init__(self, gitea: Gitea, name: str) -> None:
        super().__init__(name)
        self._gitea = gitea

    def _own_comments(self, number: str) -> Iterator[_Comment]:
        login = self._gitea.login
        for comment in self._gitea.pages(f"/issues/{number}/comments", _Comment):
            if comment.user and comment.user.login == login:
                yield comment

    def _create(self, number: str, body: str) -> None:
        self._gitea.call("POST", f"/issues/{number}/comments", body={"body": body})

    def _edit(self, number: str, comment: _Comment, body: str) -> None:
        path = f"/issues/comments/{comment.id}"
        self._gitea.call("PATCH", path, body={"body": body}, idempotent=True)

    def _delete(self, number: str, comment: _Comment) -> None:
        self._gitea.call("DELETE", f"/issues/comments/{comment.id}", allowed=(404,))
