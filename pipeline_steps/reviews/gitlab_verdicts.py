"""Verdicts on GitLab: an external commit status, and one note that is kept up to date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from pipeline_steps.reviews.forges import STARTED, VerdictComments, open_word
from pipeline_steps.reviews.review import Verdict, Word
from pipeline_steps.services.gitlab import Gitlab, decode, error_message
from pipeline_steps.services.rest import segment
from pipeline_steps.toolbox.errors import AccessRefused, MachineError

#: A pipeline that must succeed waits for a running status.
_STATES: Mapping[Word, str] = {
    "positive": "success",
    "negative": "failed",
    "incomplete": "running",
    "started": "running",
}
_WORDS: Mapping[str, Word] = {"success": "positive", "failed": "negative"}
_RIGHT = "the scope api, its account the role Developer; a job token is not enough"


class _Person(msgspec.Struct):
    username: str


class _Status(msgspec.Struct):
    id: int
    status: str
    name: str
    description: str | None = None
    target_url: str | None = None
    author: _Person | None = None


class _Note(msgspec.Struct):
    id: int
    body: str
    author: _Person | None = None


class Statuses:
    """The commit statuses of one project under one name."""

    def __init__(self, gitlab: Gitlab, name: str) -> None:
        self._gitlab, self._name = gitlab, name

    def set(self, verdict: Verdict) -> bool | None:
        """Set a verdict unless it is there: whether anything was written, None where there is
        nothing that it could be set on. Raises MachineError when GitLab does not show it then.
        """
        state = _STATES[verdict.word]
        started = STARTED if verdict.word == "started" else ""
        shown = (state, f"{started}{verdict.summary}"[:255], verdict.url)
        latest = self._latest(verdict.revision)
        if latest and _shown(latest) == shown:
            return False
        if latest and latest.status == state == "running":
            # A running status can change to an end only ("Cannot transition status via :run").
            self._post(verdict.revision, {"state": "canceled", "name": self._name})
        fields = {"state": state, "name": self._name, "description": shown[1]}
        if verdict.url:
            fields["target_url"] = verdict.url
        if not self._post(verdict.revision, fields):
            return None
        latest = self._latest(verdict.revision)
        if latest is None or _shown(latest) != shown:
            raise MachineError(
                f"GitLab took the status {self._name} and does not show it",
                where=f"{self._gitlab.page}/-/commit/{verdict.revision}",
                advice="run report again",
            )
        return True

    def _post(self, revision: str, fields: Mapping[str, str]) -> bool:
        path = f"/statuses/{segment(revision)}"
        answer = self._gitlab.call(
            "POST", path, body=fields, allowed=(400, 404), idempotent=True, right=_RIGHT
        )
        words = error_message(answer.body) if answer.status >= 400 else ""
        if answer.status == 404:
            self._gitlab.require_visible()
            # The commit is on no branch or tag any more: there is no pipeline to put a status on.
            if "References for commit" in words:
                return False
            raise AccessRefused(
                f"GitLab does not take the status: {words}",
                where=f"{self._gitlab.page}/-/commit/{revision}",
                advice=f"give the token {_RIGHT}",
            )
        # 400 for the state that it has already: a repeated request. Read back by the caller.
        if answer.status == 400 and "Cannot transition status" not in words:
            raise MachineError(
                f"GitLab does not take the status: {words}",
                where=f"{self._gitlab.page}/-/commit/{revision}",
                advice="run the step again; if it stays, look at the pipelines of this commit",
            )
        return True

    def word(self, revision: str) -> Word | None:
        """The verdict that this account has set on a revision; None for none."""
        latest = self._latest(revision)
        if latest is None:
            return None
        if latest.status in ("running", "pending"):
            return open_word(latest.description)
        return _WORDS.get(latest.status)

    def _latest(self, revision: str) -> _Status | None:
        """Our newest status."""
        path = (
            f"/repository/commits/{segment(revision)}/statuses?all=true&name={segment(self._name)}"
        )
        ours = [
            status
            for status in self._gitlab.pages(path, _Status, allowed=(404,))
            if status.name == self._name
            and status.author
            and status.author.username == self._gitlab.login
        ]
        return max(ours, key=lambda status: status.id, default=None)


def _shown(status: _Status) -> tuple[str, str, str]:
    return status.status, status.description or "", status.target_url or ""


class Notes(VerdictComments[_Note]):
    """The notes of the account on merge requests."""

    system = "GitLab"
    noun = "note"

    def __init__(self, gitlab: Gitlab, name: str) -> None:
        super().__init__(name)
        self._gitlab = gitlab

    def _own_comments(self, number: str) -> Iterator[_Note]:
        for note in self._gitlab.pages(f"/merge_requests/{number}/notes?sort=asc", _Note):
            if note.author and note.author.username == self._gitlab.login:
                yield note

    def _create(self, number: str, body: str) -> None:
        path = f"/merge_requests/{number}/notes"
        decode(self._gitlab.call("POST", path, body={"body": body}, right=_RIGHT), _Note)

    def _edit(self, number: str, comment: _Note, body: str) -> None:
        path = f"/merge_requests/{number}/notes/{comment.id}"
        self._gitlab.call("PUT", path, body={"body": body}, right=_RIGHT)

    def _delete(self, number: str, comment: _Note) -> None:
        path = f"/merge_requests/{number}/notes/{comment.id}"
        self._gitlab.call("DELETE", path, allowed=(404,), right=_RIGHT)
