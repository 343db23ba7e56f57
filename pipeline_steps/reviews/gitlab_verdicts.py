"""Verdicts on GitLab: an external commit status, and one note that is kept up to date."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pipeline_steps.reviews.review import REMOVED, Verdict, Word
from pipeline_steps.services.gitlab import Gitlab, decode, explain
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
#: Begins the description of a running status that says "started"; another one is incomplete.
_STARTED = "started: "
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
        started = _STARTED if verdict.word == "started" else ""
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
        words = explain(answer.body) if answer.status >= 400 else ""
        if answer.status == 404:
            self._gitlab.require_visible()
            if "References for commit" in words:
                return False
            raise AccessRefused(
                f"GitLab does not take the status: {words}",
                where=f"{self._gitlab.page}/-/commit/{revision}",
                advice=f"the token needs {_RIGHT}",
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
            return "started" if (latest.description or "").startswith(_STARTED) else "incomplete"
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


class Notes:
    """The note on each merge request that tells the newest verdict."""

    def __init__(self, gitlab: Gitlab, name: str) -> None:
        self._gitlab = gitlab
        self._marker = f"<!-- pipeline-steps: {name} -->"

    def put(self, number: str, url: str, text: str) -> bool:
        """Bring the note up to date: whether anything was written."""
        if not text:
            return False
        body = f"{self._marker}\n{text}".strip()
        ours = self._ours(number)
        if len(ours) == 1 and ours[0].body.strip() == body:
            return False
        path = f"/merge_requests/{number}/notes"
        if ours:
            own = f"{path}/{ours[0].id}"
            self._gitlab.call("PUT", own, body={"body": body}, right=_RIGHT)
        else:
            # A lost answer is not repeated: the next run finds the note by its marker.
            answer = self._gitlab.call("POST", path, body={"body": body}, right=_RIGHT)
            decode(answer, _Note)
        shown = self._ours(number)
        if not shown or shown[0].body.strip() != body:
            raise MachineError(
                "GitLab took the note and does not show it", where=url, advice=REMOVED
            )
        for note in shown[1:]:  # of two first reports at the same time
            self._gitlab.call("DELETE", f"{path}/{note.id}", allowed=(404,), right=_RIGHT)
        return True

    def _ours(self, number: str) -> list[_Note]:
        """Our notes, the oldest first: marked, and written by the account of the token."""
        notes = self._gitlab.pages(f"/merge_requests/{number}/notes?sort=asc", _Note)
        login = self._gitlab.login
        ours = [
            note
            for note in notes
            if note.author and note.author.username == login and note.body.startswith(self._marker)
        ]
        return sorted(ours, key=lambda note: note.id)
