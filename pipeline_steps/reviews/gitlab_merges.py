"""Merging a merge request of GitLab at a pinned revision, or putting it into a merge train."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pipeline_steps.reviews.forges import MERGE_REQUEST, merged_revision
from pipeline_steps.reviews.review import Review
from pipeline_steps.services.gitlab import Gitlab, decode, error_message
from pipeline_steps.toolbox import http, retry
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    Conflict,
    NotApproved,
    PipelineError,
    Temporary,
)

#: Values of detailed_merge_status that pass by themselves ("Merge status"), and seconds until one
#: of them is taken for GitLab's last word.
_COMPARING = ("checking", "unchecked", "preparing", "approvals_syncing", "mergeable")
COMPARED_WITHIN = 20.0
_RIGHT = "the scope api, its account the right to merge into the target"
#: Of a merge request on a train that is not merged yet ("Merge trains API").
_ON_TRAIN = ("idle", "fresh", "stale", "merging", "skip_merged")


class _Person(msgspec.Struct):
    username: str


class _DiffRefs(msgspec.Struct):
    """Of the newest version. base_sha: where it begins on the target."""

    head_sha: str | None = None
    base_sha: str | None = None


class MergeRequest(msgspec.Struct):
    """sha: the head; none while the source branch is empty. merge_error: why the last attempt to
    merge failed. merge_when_pipeline_succeeds: it is set to merge by itself, at this head: GitLab
    takes that back when somebody pushes ("Auto-merge").
    """

    iid: int
    title: str
    state: str
    web_url: str
    target_branch: str
    sha: str | None = None
    author: _Person | None = None
    draft: bool = False
    merge_commit_sha: str | None = None
    squash_commit_sha: str | None = None
    diff_refs: _DiffRefs | None = None
    detailed_merge_status: str = ""
    merge_error: str | None = None
    merge_when_pipeline_succeeds: bool = False

    @property
    def base(self) -> str:
        """Where the head's changes begin, "" while GitLab has not compared it with the target."""
        refs = self.diff_refs
        return (refs.base_sha or "") if refs and refs.head_sha == self.sha else ""

    @property
    def merged_revision(self) -> str:
        """The revision on the target, "" unless it is merged. A fast-forward makes no commit."""
        if self.state != "merged":
            return ""
        return self.merge_commit_sha or self.squash_commit_sha or self.sha or ""


class _Project(msgspec.Struct):
    merge_trains_enabled: bool = False


class Merges:
    """request: asks for a merge request."""

    def __init__(self, gitlab: Gitlab, request: Callable[[str], MergeRequest]) -> None:
        self._gitlab, self._request = gitlab, request

    def merge(self, review: Review, revision: str, message: str) -> str:
        """See ReviewSystem. How it is merged is the project's setting."""
        merged = self._merged(review, revision)
        if merged:
            return merged
        # Merging at once would pass the train by, and with it the tests of what is merged together.
        if self._gitlab.get("", _Project).merge_trains_enabled:
            raise self._boarded(review, revision)
        fields = {
            # GitLab refuses with 409 when the head is another one by then ("Merge a merge
            # request").
            "sha": revision,
            # Which of both messages is used depends on the project's method of merging.
            "merge_commit_message": message,
            "squash_commit_message": message,
        }

        def merge_once() -> str:
            path = f"/merge_requests/{review.id}/merge"
            answer = self._gitlab.call(
                "PUT", path, body=fields, allowed=(401, 405, 409, 422), right=_RIGHT
            )
            # An earlier try may have merged it, and its answer got lost.
            merged = self._merged(review, revision)
            if merged:
                return merged
            raise self._refusal(answer, review)

        return retry.call(merge_once, budget=COMPARED_WITHIN, on=(_NotCompared,), longest=2.0)

    def _merged(self, review: Review, revision: str) -> str:
        """The revision on the target if it is merged at this one, "" if it is open at this one."""
        request = self._request(review.id)
        return merged_revision(
            review,
            revision,
            MERGE_REQUEST,
            head=request.sha or "",
            merged=request.merged_revision or None,
            is_open=request.state != "closed",
        )

    def _refusal(self, answer: http.Response, review: Review) -> PipelineError:
        """The error for a merge that did not happen."""
        request = self._request(review.id)
        # Locked while somebody else merges it ("Merge requests API").
        if answer.status < 300 or request.state == "locked":
            return _NotCompared(
                "GitLab is still merging it", where=review.url, advice="run the step again"
            )
        words = error_message(answer.body)
        if answer.status == 401:
            return _merge_refusal(words, review)
        status = request.detailed_merge_status
        if answer.status == 409:
            return Conflict(
                f"GitLab does not merge it: {words}",
                where=review.url,
                advice="test and approve the new revision",
            )
        if status in ("conflict", "need_rebase", "broken_status"):
            return Conflict(
                "the merge request conflicts with the target, or must be rebased onto it",
                where=review.url,
                advice="rebase it",
            )
        # Of a hook or a push rule of the server: waiting does not help.
        failed = answer.status == 422 and status == "mergeable" and request.merge_error
        if status in _COMPARING and not failed:
            return _NotCompared(
                f"GitLab does not merge it yet: {status}", where=review.url, advice="run it again"
            )
        reason = failed or status.replace("_", " ") or words
        return NotApproved(
            f"GitLab does not merge it: {reason}",
            where=review.url,
            advice="see on its page what is still needed",
        )

    def _boarded(self, review: Review, revision: str) -> PipelineError:
        """What to raise: it is on a merge train at this revision, or the reason why not."""
        path = f"/merge_trains/merge_requests/{review.id}"
        fields = {"sha": revision, "auto_merge": True}
        answer = self._gitlab.call(
            "POST", path, body=fields, allowed=(400, 401, 403, 409), idempotent=True, right=_RIGHT
        )
        words = error_message(answer.body) if answer.status >= 400 else ""
        if answer.status in (401, 403):
            return _merge_refusal(words, review)
        if answer.status >= 400 and not self._is_on_train(path):
            self._merged(review, revision)  # raises Conflict when the head has moved
            request = self._request(review.id)
            if request.merge_when_pipeline_succeeds:
                return Temporary(
                    "the merge request goes on the merge train when its checks have passed",
                    where=review.url,
                    advice="run merge again when the train has merged it",
                )
            status = request.detailed_merge_status.replace("_", " ")
            return NotApproved(
                f"the merge train does not take it: {words} ({status})",
                where=review.url,
                advice="see on its page what is still needed",
            )
        return Temporary(
            "the merge request is on the merge train, and not merged yet",
            where=review.url,
            advice="run merge again when the train has merged it",
        )

    def _is_on_train(self, path: str) -> bool:
        answer = self._gitlab.call("GET", path, allowed=(404,), right=_RIGHT)
        return answer.status != 404 and decode(answer, _TrainCar).status in _ON_TRAIN


def _merge_refusal(words: str, review: Review) -> AccessRefused:
    """The error for an account that may not merge: GitLab answers 401, though the token is good
    ("Merge a merge request").
    """
    return AccessRefused(
        f"GitLab does not let this account merge: {words}",
        where=review.url,
        advice=f"give the token {_RIGHT}",
    )


class _TrainCar(msgspec.Struct):
    status: str = ""


class _NotCompared(Temporary):
    """GitLab is still comparing the merge request with its target."""
