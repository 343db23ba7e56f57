"""Verdicts on GitHub: check runs, commit statuses, and one comment that is kept up to date.

A check run has annotations at file and line, but only apps may write one. Neither is ever neutral
or skipped: a required check takes those for success ("Troubleshooting required status checks").
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from pipeline_steps.reviews.forges import STARTED, STATUS_STATES, VerdictComments, word_of_status
from pipeline_steps.reviews.review import Finding, Verdict, Word
from pipeline_steps.services.github import Github, decode
from pipeline_steps.services.rest import segment
from pipeline_steps.toolbox.errors import AccessRefused, MachineError
from pipeline_steps.toolbox.wording import counted

#: Word → status and conclusion of a check run. An incomplete one stays in progress.
_CHECKS: Mapping[Word, tuple[str, str | None]] = {
    "positive": ("completed", "success"),
    "negative": ("completed", "failure"),
    "incomplete": ("in_progress", None),
    "started": ("in_progress", None),
}
_LONGEST_DESCRIPTION = 140
#: Bytes of a summary. "Create a check run" speaks of characters; GitHub counts bytes.
_LARGEST_SUMMARY = 65_535
_RIGHT = "pull_requests, write"
#: Begins the id that our check runs carry: a job of a workflow makes runs of the same app, and may
#: have the same name.
_OURS = "pipeline-steps"
#: Annotations of one request ("Create a check run"), and of a verdict: each request counts towards
#: the rate limit.
_AT_ONCE, _MOST_ANNOTATIONS = 50, 1000


class _Person(msgspec.Struct):
    login: str
    type: str = ""


class _Output(msgspec.Struct):
    annotations_count: int = 0


class _CheckRun(msgspec.Struct):
    id: int
    head_sha: str
    name: str
    status: str
    output: _Output
    conclusion: str | None = None
    external_id: str | None = None
    html_url: str | None = None


class _Status(msgspec.Struct):
    state: str
    context: str
    description: str | None = None
    target_url: str | None = None
    creator: _Person | None = None


class _Comment(msgspec.Struct):
    id: int
    body: str = ""
    user: _Person | None = None


class Account:
    """Whose token it is. An app's token cannot ask: it is known as a bot only."""

    def __init__(self, github: Github) -> None:
        self._login_once = functools.cache(lambda: _login(github))

    @property
    def login(self) -> str:
        """Its name, "" for an app."""
        return self._login_once()

    def wrote(self, person: _Person | None) -> bool:
        """Whether this account wrote what `person` wrote."""
        if person is None:
            return False
        return person.login == self.login if self.login else person.type == "Bot"


def _login(github: Github) -> str:
    answer = github.call("GET", f"{github.api}/user", allowed=(403,))
    return "" if answer.status == 403 else decode(answer, _Person).login


class Verdicts:
    """The verdicts of one repository under one name. kind: of what is written."""

    def __init__(self, github: Github, name: str, kind: Literal["check", "status"]) -> None:
        self._github, self._name, self._kind = github, name, kind
        self.account = Account(github)

    def set(self, verdict: Verdict) -> tuple[bool, str]:
        """Set a verdict unless it is there: whether anything was written, and the URL of its page.

        Raises MachineError when GitHub does not show it then.
        """
        return self._set_check(verdict) if self._kind == "check" else self._set_status(verdict)

    def word(self, revision: str) -> Word | None:
        """The verdict that this account has set on a revision; None for none."""
        if self._kind == "check":
            run = self._check_run(revision)
            return next((word for word in _CHECKS if run and _says(run, word)), None)
        status = self._status(revision)
        if status is None or not self.account.wrote(status.creator):
            return None
        return word_of_status(status.state, status.description)

    def _set_check(self, verdict: Verdict) -> tuple[bool, str]:
        identity = f"{_OURS}:{verdict.word}:{_digest(verdict)}"
        latest = self._check_run(verdict.revision)
        if latest and latest.external_id == identity and _says(latest, verdict.word):
            return False, latest.html_url or ""
        number = self._write_check(verdict, identity, latest)
        path = f"/check-runs/{number}"
        shown = self._github.get(path, _CheckRun, right="checks, read")
        same = shown.external_id == identity and shown.head_sha == verdict.revision
        if not same or not _says(shown, verdict.word):
            raise MachineError(
                f"GitHub took the check run {self._name} and does not show it",
                where=shown.html_url or path,
                advice="run report again",
            )
        return True, shown.html_url or ""

    def _write_check(self, verdict: Verdict, identity: str, latest: _CheckRun | None) -> int:
        """The id of the check run. The last request makes it what it is: one that is cut off
        before stays in progress.
        """
        status, conclusion = _CHECKS[verdict.word]
        findings = verdict.findings[:_MOST_ANNOTATIONS]
        batches = [findings[at : at + _AT_ONCE] for at in range(0, len(findings), _AT_ONCE)]
        bodies = [{"status": "in_progress", **_output(verdict, batch)} for batch in batches or [()]]
        bodies[-1] |= {"external_id": identity, "status": status}
        if conclusion:
            bodies[-1]["conclusion"] = conclusion
        # Annotations of an update are added to those that are there: begin a new run then.
        if latest and latest.status != "completed" and not latest.output.annotations_count:
            number = latest.id
        else:
            first = {"name": self._name, "head_sha": verdict.revision, **bodies.pop(0)}
            first.setdefault("external_id", _OURS)
            # The newest of a name counts: a repeated request does no harm.
            number = self._send_check("POST", "/check-runs", first, idempotent=True)
        for body in bodies:
            annotated = bool(body["output"].get("annotations"))
            self._send_check("PATCH", f"/check-runs/{number}", body, idempotent=not annotated)
        return number

    def _send_check(
        self, method: str, path: str, body: Mapping[str, Any], *, idempotent: bool
    ) -> int:
        try:
            answer = self._github.call(
                method, path, body=body, idempotent=idempotent, right="checks, write"
            )
        except AccessRefused as refusal:
            refusal.advice += (
                "; only tokens of apps may write check runs, others set "
                "review.github.verdict: status; runs for forks have tokens that only read"
            )
            raise
        return decode(answer, _CheckRun).id

    def _check_run(self, revision: str) -> _CheckRun | None:
        """Our newest check run."""
        path = (
            f"/commits/{segment(revision)}/check-runs?check_name={segment(self._name)}&filter=all"
        )
        runs = self._github.pages(path, _CheckRun, inside="check_runs", right="checks, read")
        own_runs = [run for run in runs if (run.external_id or "").partition(":")[0] == _OURS]
        return max(own_runs, key=lambda run: run.id, default=None)

    def _set_status(self, verdict: Verdict) -> tuple[bool, str]:
        begins = verdict.summary.startswith(STARTED)
        started = STARTED if verdict.word == "started" and not begins else ""
        state = STATUS_STATES[verdict.word]
        description = f"{started}{verdict.summary}"[:_LONGEST_DESCRIPTION]
        target = f"{self._github.web}/{self._github.repository}/commit/{verdict.revision}"
        if self._shows(verdict, state, description):
            return False, verdict.url or target
        fields = {"state": state, "context": self._name, "description": description}
        if verdict.url:
            fields["target_url"] = verdict.url
        self._github.call(
            "POST",
            f"/statuses/{segment(verdict.revision)}",
            body=fields,
            idempotent=True,  # the newest of equals counts
            right="statuses, write",
        )
        if not self._shows(verdict, state, description):
            raise MachineError(
                f"GitHub took the status {self._name} and does not show it",
                where=target,
                advice="run report again; another account may set the same status",
            )
        return True, verdict.url or target

    def _shows(self, verdict: Verdict, state: str, description: str) -> bool:
        status = self._status(verdict.revision)
        return (
            status is not None
            and self.account.wrote(status.creator)
            and (status.state, status.description or "", status.target_url or "")
            == (state, description, verdict.url)
        )

    def _status(self, revision: str) -> _Status | None:
        """The status that counts: the newest with our name, in whichever case."""
        path = f"/commits/{segment(revision)}/statuses"
        statuses = self._github.pages(path, _Status, right="statuses, read")
        name = self._name.lower()
        return next((status for status in statuses if status.context.lower() == name), None)


class Comments(VerdictComments[_Comment]):
    """The comments of the account on pull requests."""

    system = "GitHub"

    def __init__(self, github: Github, name: str) -> None:
        super().__init__(name)
        self._github, self._account = github, Account(github)

    def _own_comments(self, number: str) -> Iterator[_Comment]:
        path = f"/issues/{number}/comments"
        for comment in self._github.pages(path, _Comment, right="pull_requests, read"):
            if self._account.wrote(comment.user):
                yield comment

    def _create(self, number: str, body: str) -> None:
        path = f"/issues/{number}/comments"
        self._github.call("POST", path, body={"body": body}, right=_RIGHT)

    def _edit(self, number: str, comment: _Comment, body: str) -> None:
        path = f"/issues/comments/{comment.id}"
        self._github.call("PATCH", path, body={"body": body}, idempotent=True, right=_RIGHT)

    def _delete(self, number: str, comment: _Comment) -> None:
        path = f"/issues/comments/{comment.id}"
        self._github.call("DELETE", path, allowed=(404,), right=_RIGHT)


def _says(run: _CheckRun, word: Word) -> bool:
    """Whether a check run of ours says this word, complete or not."""
    named = (run.external_id or "").split(":")
    return named[1:2] == [word] and (run.status, run.conclusion) == _CHECKS[word]


def _digest(verdict: Verdict) -> str:
    """Tells verdicts apart: GitHub may give Markdown back with other line ends."""
    return hashlib.sha256(msgspec.json.encode(verdict)).hexdigest()[:16]


def _output(verdict: Verdict, findings: Sequence[Finding]) -> dict[str, Any]:
    """The fields of a check run that people see."""
    left_out = max(0, len(verdict.findings) - _MOST_ANNOTATIONS)
    more = (
        f"\n\n{counted(left_out, 'more finding has', 'more findings have')} no annotation."
        if left_out
        else ""
    )
    annotations = [
        {
            "path": finding.path,
            "start_line": finding.line,
            "end_line": finding.line,
            "annotation_level": "failure" if verdict.word == "negative" else "warning",
            "message": finding.message[:60_000],
        }
        for finding in findings
    ]
    output = {
        "title": verdict.summary,
        "summary": _beginning(verdict.text or verdict.summary, _LARGEST_SUMMARY - len(more)) + more,
        **({"annotations": annotations} if annotations else {}),
    }
    return {"output": output, **({"details_url": verdict.url} if verdict.url else {})}


def _beginning(text: str, largest: int) -> str:
    """A text of at most `largest` bytes; says that there is more."""
    data = text.encode(errors="replace")
    if len(data) <= largest:
        return text
    words = "\n\nThe rest has no room here."
    return data[: largest - len(words)].decode(errors="ignore") + words
