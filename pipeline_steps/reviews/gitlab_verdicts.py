"""Verdicts on GitLab: an external commit status, and one note that is kept up to date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from pipeline_steps.reviews.forges import STARTED, VerdictComments, open_word
from pipeline_steps.reviews.review import Verdict, Word
from pipeline_steps.services.gitlab import Gitlab, decode, error_message
from pipeline_steps.services.rest import segment
from pipeline_steps.toolbox import http
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    MachineError,
    PipelineError,
)

#: A pipeline that must succeed waits for a running status.
_STATES: Mapping[Word, str] = {
    "positive": "success",
    "negative": "failed",
    "incomplete": "running",
    "started": "running",
}
_WORDS: Mapping[str, Word] = {"success": "positive", "failed": "negative"}
_RIGHT = "the scope api, its account the role Developer; a job token is not enough"
#: Characters of a description and of a URL ("Commits API").
_LONGEST = 255


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


class Pipeline(NamedTuple):
    """A pipeline of the project, and the revision that it is for."""

    id: int
    revision: str


class Statuses:
    """The commit statuses of one project under one name.

    pipeline: the one that the build is a job of, None outside of the project's own. A revision may
    have several: without a number GitLab takes the newest, and what began as running in ours would
    never end.
    """

    def __init__(self, gitlab: Gitlab, name: str, pipeline: Pipeline | None = None) -> None:
        self._gitlab, self._name, self._pipeline = gitlab, name, pipeline

    def set(self, verdict: Verdict) -> bool | None:
        """Set a verdict unless it is there: whether anything was written, None where there is
        nothing that it could be set on. Raises MachineError when GitLab does not show it then.
        """
        state = _STATES[verdict.word]
        begins = verdict.summary.startswith(STARTED)
        started = STARTED if verdict.word == "started" and not begins else ""
        # A longer URL is refused, and the verdict with it; the note has it.
        url = verdict.url if len(verdict.url) <= _LONGEST else ""
        shown = (state, f"{started}{verdict.summary}"[:_LONGEST], url)
        latest = self._latest(verdict.revision)
        if latest and _shown(latest) == shown:
            return False
        fields = {"state": state, "name": self._name, "description": shown[1]}
        if url:
            fields["target_url"] = url
        answer = self._post(verdict.revision, fields)
        if answer and answer.status == 400 and state == "running":
            # A running status can change to an end only ("Cannot transition status via :run").
            self._post(verdict.revision, {"state": "canceled", "name": self._name})
            answer = self._post(verdict.revision, fields)
        if answer is None:
            return None
        # Another pipeline of this revision may have a newer one.
        written = decode(answer, _Status).id if answer.status < 300 else 0
        latest = self._latest(verdict.revision, written)
        if latest is None or _shown(latest) != shown:
            raise MachineError(
                f"GitLab took the status {self._name} and does not show it",
                where=f"{self._gitlab.page}/-/commit/{verdict.revision}",
                advice="run report again",
            )
        return True

    def _post(self, revision: str, fields: Mapping[str, str]) -> http.Response | None:
        """The answer: 2xx, or 400 for a state that cannot follow the present one; None where there
        is nothing that a status could be set on.
        """
        body: dict[str, Any] = dict(fields)
        if self._pipeline and self._pipeline.revision == revision:
            body["pipeline_id"] = self._pipeline.id
        answer = self._call(revision, body)
        words = error_message(answer.body) if answer.status >= 400 else ""
        # Of a child pipeline, say, of which its parent's status is enough.
        if answer.status == 404 and "Pipeline for pipeline_id" in words:
            answer = self._call(revision, fields)
            words = error_message(answer.body) if answer.status >= 400 else ""
        if answer.status == 404:
            self._gitlab.require_visible()
            # The commit is on no branch or tag any more: there is no pipeline to put a status on.
            if "References for commit" in words:
                return None
        if answer.status < 300 or (answer.status == 400 and "Cannot transition status" in words):
            return answer
        raise self._refusal(answer.status, words, f"{self._gitlab.page}/-/commit/{revision}")

    def _call(self, revision: str, fields: Mapping[str, Any]) -> http.Response:
        return self._gitlab.call(
            "POST",
            f"/statuses/{segment(revision)}",
            body=fields,
            allowed=(400, 404),
            idempotent=True,
            right=_RIGHT,
        )

    def _refusal(self, status: int, words: str, page: str) -> PipelineError:
        if "already been taken" in words:
            return ConfigurationError(
                f"a job of the pipeline is called {self._name}, as the verdict: {page}",
                where="review.gitlab.name",
                advice="write another name",
            )
        what = f"GitLab does not take the status: {words}"
        if status == 404:
            return AccessRefused(what, where=page, advice=f"give the token {_RIGHT}")
        return MachineError(
            what,
            where=page,
            advice="run the step again; if it stays, look at the pipelines of this commit",
        )

    def word(self, revision: str) -> Word | None:
        """The verdict that this account has set on a revision; None for none."""
        latest = self._latest(revision)
        if latest is None:
            return None
        if latest.status in ("running", "pending"):
            return open_word(latest.description)
        return _WORDS.get(latest.status)

    def _latest(self, revision: str, id: int = 0) -> _Status | None:
        """Our newest status, or the one with this number."""
        path = (
            f"/repository/commits/{segment(revision)}/statuses?all=true&name={segment(self._name)}"
        )
        ours = [
            status
            for status in self._gitlab.pages(path, _Status, allowed=(404,))
            if status.name == self._name
            and status.author
            and status.author.username == self._gitlab.login
            and id in (0, status.id)
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
