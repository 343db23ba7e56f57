"""Merging a pull request of GitHub at a pinned revision, or putting it into the merge queue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from pipeline_steps.reviews.forges import PULL_REQUEST, merged_revision
from pipeline_steps.reviews.review import Review
from pipeline_steps.services.github import Github, decode, error_message
from pipeline_steps.services.rest import segment
from pipeline_steps.toolbox import http, retry
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    Conflict,
    MachineError,
    NotApproved,
    PipelineError,
    Temporary,
    Unreachable,
)

log = logging.getLogger(__name__)

MergeMethod = Literal["merge", "squash", "rebase"]
_METHODS: tuple[MergeMethod, ...] = ("merge", "squash", "rebase")
#: GitHub compares a pull request with its target in the background. Seconds until what it said is
#: taken for its last word.
COMPARED_WITHIN = 20.0
_RIGHT = "contents, write, and pull_requests, write"

_QUEUE = """query($owner: String!, $name: String!, $number: Int!, $branch: String!) {
  repository(owner: $owner, name: $name) {
    mergeQueue(branch: $branch) { id }
    pullRequest(number: $number) { id mergeQueueEntry { position } }
  }
}"""
_ENQUEUE = """mutation($id: ID!, $head: GitObjectID!) {
  enqueuePullRequest(input: {pullRequestId: $id, expectedHeadOid: $head}) {
    mergeQueueEntry { position }
  }
}"""


class _Person(msgspec.Struct):
    login: str


class _Repository(msgspec.Struct):
    full_name: str


class _Branch(msgspec.Struct):
    ref: str
    sha: str
    repo: _Repository | None = None


class Pull(msgspec.Struct):
    """A pull request. mergeable: None while GitHub compares it with its target."""

    number: int
    html_url: str
    title: str
    state: str
    base: _Branch
    head: _Branch
    user: _Person | None = None
    draft: bool = False
    merged_at: datetime | None = None
    merge_commit_sha: str | None = None
    mergeable: bool | None = None


class _Merged(msgspec.Struct):
    sha: str


class _Settings(msgspec.Struct):
    """Which methods the repository allows; GitHub tells it to those who may write."""

    allow_merge_commit: bool = True
    allow_squash_merge: bool = True
    allow_rebase_merge: bool = True


class _Rule(msgspec.Struct):
    type: str
    parameters: dict[str, Any] | None = None


class _Entry(msgspec.Struct):
    position: int


class _Queue(msgspec.Struct):
    id: str


class _QueuedPull(msgspec.Struct, rename="camel"):
    id: str
    merge_queue_entry: _Entry | None = None


class _QueueOfBranch(msgspec.Struct, rename="camel"):
    pull_request: _QueuedPull
    merge_queue: _Queue | None = None


class _QueueAnswer(msgspec.Struct):
    repository: _QueueOfBranch


class _Enqueued(msgspec.Struct, rename="camel"):
    merge_queue_entry: _Entry | None = None


class _EnqueueAnswer(msgspec.Struct, rename="camel"):
    enqueue_pull_request: _Enqueued | None = None


class Merges:
    """method: None for the first that the target allows. pull: asks for a pull request."""

    def __init__(
        self, github: Github, method: MergeMethod | None, pull: Callable[[str], Pull]
    ) -> None:
        self._github, self._method, self._pull = github, method, pull

    def merge(self, review: Review, revision: str, message: str) -> str:
        """See ReviewSystem."""
        merged = self._merged(review, revision)
        if merged:
            return merged
        rules = self._rules(review.target)
        # Where a queue is required the REST call for merging is refused; only GraphQL puts into it.
        if any(rule.type == "merge_queue" for rule in rules):
            raise self._enqueued(review, revision)
        method = self._method or self._allowed_method(rules, review)
        title, _, rest = message.strip().partition("\n")
        # GitHub refuses with 409 when the head is another one by then ("Merge a pull request").
        fields: Mapping[str, str] = {"sha": revision, "merge_method": method}
        # A rebase makes no commit that could have a message.
        if title and method != "rebase":
            fields = {**fields, "commit_title": title, "commit_message": rest.strip()}

        def merge_once() -> str:
            answer = self._github.call(
                "PUT", f"/pulls/{review.id}/merge", body=fields, allowed=(405, 409), right=_RIGHT
            )
            if answer.status in (405, 409):
                # An earlier try may have merged it, and its answer got lost.
                return self._merged(review, revision) or self._refuse(answer, review, revision)
            return decode(answer, _Merged).sha

        return retry.call(merge_once, budget=COMPARED_WITHIN, on=(_NotCompared,), longest=2.0)

    def _merged(self, review: Review, revision: str) -> str:
        """The revision on the target if it is merged at this one, "" if it is open at this one."""
        pull = self._pull(review.id)
        return merged_revision(
            review,
            revision,
            PULL_REQUEST,
            head=pull.head.sha,
            merged=(pull.merge_commit_sha or "") if pull.merged_at else None,
            is_open=pull.state == "open",
        )

    def _rules(self, target: str) -> list[_Rule]:
        """Rules of rulesets for the target; those of classic branch protection only admins see.

        None where they cannot be read (403: a private repository without a paid plan; 404: an older
        GitHub Enterprise): they tell queue and method, and GitHub itself keeps them.
        """
        path = f"/rules/branches/{segment(target)}"
        return list(self._github.pages(path, _Rule, allowed=(403, 404)))

    def _allowed_method(self, rules: list[_Rule], review: Review) -> MergeMethod:
        settings = self._github.get("", _Settings)
        allowed = {
            "merge": settings.allow_merge_commit,
            "squash": settings.allow_squash_merge,
            "rebase": settings.allow_rebase_merge,
        }
        for rule in rules:
            methods = (rule.parameters or {}).get("allowed_merge_methods", _METHODS)
            linear = rule.type == "required_linear_history"
            allowed = {
                method: granted and method in methods and not (linear and method == "merge")
                for method, granted in allowed.items()
            }
        # A merge commit first: it keeps the reviewed revision itself in the mainline.
        for method in _METHODS:
            if allowed[method]:
                return method
        raise ConfigurationError(
            "repository and rulesets together allow no way of merging",
            where=review.url,
            advice="allow merge, squash or rebase for the target",
        )

    def _refuse(self, answer: http.Response, review: Review, revision: str) -> str:
        """Raise the error for a merge that GitHub refuses."""
        words = error_message(answer.body)
        pull = self._pull(review.id)
        if answer.status == 409 or pull.head.sha != revision:
            raise Conflict(
                f"GitHub does not merge it: {words}",
                where=review.url,
                advice="test and approve the new revision",
            )
        # GitHub compares both branches in the background, and says null until then.
        if pull.mergeable is None or "Base branch was modified" in words:
            raise _NotCompared(
                f"GitHub does not merge it yet: {words}", where=review.url, advice="run it again"
            )
        if not pull.mergeable:
            raise Conflict(
                "the pull request conflicts with the target", where=review.url, advice="rebase it"
            )
        # A queue that classic branch protection asks for is in no ruleset.
        if self._has_queue(review):
            raise self._enqueued(review, revision)
        raise NotApproved(
            f"GitHub does not merge it: {words}",
            where=review.url,
            advice="see on its page what the rules of the target still need",
        )

    def _has_queue(self, review: Review) -> bool:
        """False also where an older GitHub Enterprise does not know what a queue is, or the token may
        not ask: what GitHub says of the merge must be told all the same.
        """
        try:
            return self._queue(review).merge_queue is not None
        except Unreachable:
            raise
        except MachineError as error:
            log.debug("%s: no merge queue can be seen: %s", review.url, error)
            return False

    def _queue(self, review: Review) -> _QueueOfBranch:
        owner, _, name = self._github.repository.partition("/")
        variables = {
            "owner": owner,
            "name": name,
            "number": int(review.id),
            "branch": review.target,
        }
        answer = self._github.graphql(_QUEUE, variables, _QueueAnswer, idempotent=True)
        return answer.repository

    def _enqueued(self, review: Review, revision: str) -> PipelineError:
        """What to raise: it is in the merge queue at this revision, or the reason why not."""
        queued = self._queue(review).pull_request
        entry = queued.merge_queue_entry
        if entry is None:
            variables = {"id": queued.id, "head": revision}
            try:
                answer = self._github.graphql(_ENQUEUE, variables, _EnqueueAnswer)
            except AccessRefused as refusal:
                refusal.advice = f"the token needs the right: {_RIGHT}"
                return refusal
            except Unreachable:
                raise
            except MachineError as error:
                self._merged(review, revision)  # raises Conflict when the head has moved
                return NotApproved(
                    f"the merge queue does not take it: {error.what}",
                    where=review.url,
                    advice="see on its page what the rules of the target still need",
                )
            enqueued = answer.enqueue_pull_request
            entry = enqueued.merge_queue_entry if enqueued else None
        place = f" at position {entry.position}" if entry else ""
        return Temporary(
            f"the pull request is in the merge queue{place}, and not merged yet",
            where=review.url,
            advice="run merge again when the queue has merged it",
        )


class _NotCompared(Temporary):
    """GitHub is still comparing the pull request with its target, or the target has moved."""
