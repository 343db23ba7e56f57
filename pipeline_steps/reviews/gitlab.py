"""Merge requests of GitLab.

The verdict is an external commit status, which joins the pipeline of its commit. GitLab's API names
no commit of an approval; but it says when it was given, and when each version of the merge request
came: an approval counts for the version that was the newest then. Source: GitLab documentation 18,
"Merge requests API", "Merge request approvals API", "Commits API", "Notes API", "Merge trains API".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from pipeline_steps.auth.hosts import Host
from pipeline_steps.config.language import Approval, GitlabReview
from pipeline_steps.reviews.findings import with_findings
from pipeline_steps.reviews.forges import MERGE_REQUEST, number_of, read
from pipeline_steps.reviews.gitlab_merges import MergeRequest, Merges
from pipeline_steps.reviews.gitlab_verdicts import Notes, Pipeline, Statuses
from pipeline_steps.reviews.remotes import ON_GITLAB, project_path, require_public
from pipeline_steps.reviews.retargets import votes_for_target
from pipeline_steps.reviews.review import (
    WRITES,
    Abilities,
    Delivery,
    Purpose,
    Review,
    State,
    Verdict,
    Vote,
    Word,
)
from pipeline_steps.services.gitlab import PUBLIC, Gitlab, decode
from pipeline_steps.services.rest import segment
from pipeline_steps.toolbox import clock, http, retry
from pipeline_steps.toolbox.errors import AccessRefused, ConfigurationError

#: Access levels from which members may push, and so approve ("Members API").
_DEVELOPER = 30
#: The system note of an approval, where `approved_at` is not told (before GitLab 18).
_APPROVED = "approved this merge request"
#: A job in the background writes that note: the approval may be this much older.
_NOTE_DELAY = timedelta(minutes=5)
#: System notes after which a merge request has another target.
_RETARGETED = re.compile(
    r"changed target branch from |deleted the `.*` branch\. This merge request now targets "
)


class _Person(msgspec.Struct):
    id: int
    username: str


class _Version(msgspec.Struct):
    """A version of a merge request: what was pushed; no commit while the branch is empty."""

    id: int
    created_at: datetime
    head_commit_sha: str | None = None


class _Approver(msgspec.Struct):
    user: _Person
    approved_at: datetime | None = None


class _Approvals(msgspec.Struct):
    approved_by: tuple[_Approver, ...] = ()


class _Reviewer(msgspec.Struct):
    user: _Person
    state: str
    created_at: datetime | None = None


class _Note(msgspec.Struct):
    body: str
    created_at: datetime
    system: bool = False
    author: _Person | None = None


class _Member(msgspec.Struct):
    username: str
    access_level: int
    state: str = "active"


class _Access(msgspec.Struct):
    access_level: int


class _Permissions(msgspec.Struct):
    project_access: _Access | None = None
    group_access: _Access | None = None


class _Project(msgspec.Struct):
    permissions: _Permissions | None = None


class GitlabReviews:
    """The merge requests of one project; see ReviewSystem."""

    name = "gitlab"
    abilities = Abilities(
        longest_text=100_000,
        tells_uploader=False,
    )

    def __init__(
        self,
        settings: GitlabReview,
        hosts: Mapping[str, Host],
        remote: str = "",
        *,
        environ: Mapping[str, str] | None = None,
        budget: float = retry.BUDGET,
    ) -> None:
        """Raises ConfigurationError when the project cannot be told. remote: the URL that the
        checkout came from.
        """
        variables = os.environ if environ is None else environ
        # The configuration beats the variables of the CI; for a fork those name the fork.
        url = settings.url or variables.get("CI_SERVER_URL", "")
        project = (
            settings.project
            or variables.get("CI_MERGE_REQUEST_PROJECT_PATH")
            or variables.get("CI_PROJECT_PATH")
        )
        if not project:
            if not url:
                require_public(remote, ON_GITLAB, "review.gitlab", "url")
            project = project_path(remote, url)
        if not project:
            raise ConfigurationError(
                f"the checkout's remote {http.safe_url(remote) or 'is not known and'} names no "
                "project of GitLab",
                where="review.gitlab",
                advice="write project: GROUP/NAME",
            )
        self._gitlab = Gitlab(url or PUBLIC, project, hosts, environ=variables, budget=budget)
        self._pages = f"{self._gitlab.page}/-/merge_requests/"
        self._statuses = Statuses(self._gitlab, settings.name, self._pipeline(variables))
        self._notes = Notes(self._gitlab, settings.name)
        self._merges = Merges(self._gitlab, self._merge_request)

    def _pipeline(self, variables: Mapping[str, str]) -> Pipeline | None:
        """The pipeline of the job, unless it is another project's, as that of a fork is."""
        server, project = variables.get("CI_SERVER_URL", ""), variables.get("CI_PROJECT_PATH")
        number, revision = variables.get("CI_PIPELINE_ID", ""), variables.get("CI_COMMIT_SHA")
        if (server.rstrip("/"), project) != (self._gitlab.url, self._gitlab.project):
            return None
        return Pipeline(int(number), revision) if number.isdecimal() and revision else None

    def review(self, id: str) -> Review:
        """See ReviewSystem; id is a number or the URL of a page."""
        return self._described(self._merge_request(number_of(id, MERGE_REQUEST, self._pages)))

    def _merge_request(self, number: str) -> MergeRequest:
        return decode(read(self._gitlab, number, MERGE_REQUEST, self._pages), MergeRequest)

    def _described(self, request: MergeRequest) -> Review:
        head = request.sha or ""
        heads = (each.head_commit_sha or head for each in self._versions(str(request.iid)))
        author = request.author.username if request.author else ""
        states: Mapping[str, State] = {"merged": "merged", "closed": "closed"}
        state = states.get(request.state, "draft" if request.draft else "open")
        return Review(
            system=self.name,
            id=str(request.iid),
            url=request.web_url,
            title=request.title,
            author=author,
            uploader=author,  # GitLab does not say who pushed
            target=request.target_branch,
            head=head,
            revisions=(*dict.fromkeys(sha for sha in heads if sha != head), head),
            state=state,
            merged=request.merged_revision,
            base=request.base,
        )

    def _versions(self, number: str) -> list[_Version]:
        """Oldest first."""
        versions = self._gitlab.pages(f"/merge_requests/{number}/versions", _Version)
        return sorted(versions, key=lambda version: version.id)

    def reviews_of(self, revision: str) -> tuple[Review, ...]:
        """See ReviewSystem. The lists lack fields, so each is asked for."""
        path = f"/repository/commits/{segment(revision)}/merge_requests"
        numbers = [each.iid for each in self._gitlab.pages(path, _Listed, allowed=(404,))]
        if not numbers:
            self._gitlab.require_visible()
        reviews = [self._as_merged(str(number), revision) for number in numbers]
        return tuple(sorted(reviews, key=lambda review: -int(review.id)))

    def _as_merged(self, number: str, revision: str) -> Review:
        """A merge request that GitLab names for a revision. What a merge train fast-forwards to it
        names nowhere else: a rebased head, which is no commit of the merge request.
        """
        request = self._merge_request(number)
        review = self._described(request)
        made = request.merge_commit_sha or request.squash_commit_sha
        if review.state != "merged" or made or revision == review.head:
            return review
        commits = self._gitlab.pages(f"/merge_requests/{number}/commits", _Commit)
        is_own = any(commit.id == revision for commit in commits)
        return review if is_own else review._replace(merged=revision)

    def fetch_reference(self, review: Review, revision: str) -> str:
        """See ReviewSystem. GitLab's repositories give any commit by its id, former heads too; the
        reference is deleted 14 days after the merge ("Troubleshooting merge requests").
        """
        is_proposed = revision == review.head and review.state in ("open", "draft")
        return f"refs/merge-requests/{review.id}/head" if is_proposed else revision

    def deliver(self, review: Review, verdict: Verdict) -> Delivery:
        """See ReviewSystem. Where the project has no pipeline for a fork's commit, there is nothing
        that a status could join: the note is what is left.
        """
        head = self._merge_request(review.id).sha or ""
        if head != verdict.revision:
            reason = f"the merge request has a newer revision, {head[:12]}"
            return Delivery("superseded", review.url, reason)
        changed = self._statuses.set(verdict)
        text = with_findings(verdict.text, verdict.findings)
        edited = bool(text) and self._notes.put(review.id, review.url, text)[1]
        if changed is None:
            reason = "the project has neither a branch nor a pipeline with this commit"
            return Delivery("message", review.url, reason)
        return Delivery("set" if changed or edited else "unchanged", review.url)

    def verdict(self, review: Review, revision: str) -> Word | None:
        """See ReviewSystem."""
        return self._statuses.word(revision)

    def votes(self, review: Review, approval: Approval) -> tuple[Vote, ...]:
        """See ReviewSystem. A request for changes names neither commit nor time: it blocks until it
        is taken back.
        """
        votes: dict[str, Vote] = {}
        approvals = self._gitlab.get(f"/merge_requests/{review.id}/approvals", _Approvals)
        retargeted: list[datetime] = []
        if approvals.approved_by:
            notes = self._system_notes(review.id)
            times = _approval_times(notes)
            retargeted = [note.created_at for note in notes if _RETARGETED.match(note.body)]
            versions = self._versions(review.id)
            changes = [*retargeted, *(version.created_at for version in versions[1:])]
            for approver in approvals.approved_by:
                given, doubt = approver.approved_at, ""
                if given is None:
                    given = times.get(approver.user.username)
                    doubt = _doubt(given, changes)
                votes[approver.user.username] = self._vote(approver.user, given, doubt, versions)
        reviewers = self._gitlab.pages(
            f"/merge_requests/{review.id}/reviewers", _Reviewer, allowed=(404,)
        )
        for reviewer in reviewers:
            if reviewer.state == "requested_changes" and self._may_push(reviewer.user):
                name = reviewer.user.username
                votes[name] = Vote(name, "", "reject", clock.rfc3339_of(reviewer.created_at))
        counted = (vote for _, vote in sorted(votes.items()))
        targeted_at = max(map(clock.rfc3339_of, retargeted), default="")
        return votes_for_target(counted, review, targeted_at)

    def _vote(
        self, user: _Person, given: datetime | None, doubt: str, versions: list[_Version]
    ) -> Vote:
        """doubt: why nobody knows on what it was given, else ""."""
        reason = "" if self._may_push(user) else "no right to push to the project"
        if given is None or doubt:
            return Vote(user.username, "", "approve", clock.rfc3339_of(given), reason or doubt)
        before = [version for version in versions if version.created_at <= given]
        revision = (before[-1].head_commit_sha or "") if before else ""
        reason = reason or ("" if revision else "there was no commit to approve then")
        return Vote(user.username, revision, "approve", clock.rfc3339_of(given), reason)

    def _system_notes(self, number: str) -> list[_Note]:
        """What GitLab itself wrote of a merge request, oldest first."""
        path = f"/merge_requests/{number}/notes?sort=asc&order_by=created_at"
        return [note for note in self._gitlab.pages(path, _Note) if note.system]

    def _may_push(self, user: _Person) -> bool:
        answer = self._gitlab.call("GET", f"/members/all/{user.id}", allowed=(404,))
        if answer.status == 404:
            self._gitlab.require_visible()
            return False
        member = decode(answer, _Member)
        return member.state == "active" and member.access_level >= _DEVELOPER

    def members(self, group: str) -> frozenset[str]:
        """See ReviewSystem; a group is its full path, and has those of the groups above it."""
        path = f"{self._gitlab.api}/groups/{segment(group)}/members/all"
        try:
            people = list(self._gitlab.pages(path, _Member))
        except AccessRefused as refusal:
            refusal.advice = (
                f"there is no group {group}, or the token needs the scope read_api and an account "
                "that sees it; or name the people one by one"
            )
            raise
        return frozenset(person.username for person in people if person.state == "active")

    def merge(self, review: Review, revision: str, message: str) -> str:
        """See ReviewSystem.

        Where the project has merge trains, the revision is put into one, and Temporary says so
        until the train has merged it.
        """
        return self._merges.merge(review, revision, message)

    def access(self, purpose: Purpose = "verdict") -> str:
        """See TellsAccess. Who may merge into a protected branch GitLab tells only when it is
        refused.
        """
        permissions = self._gitlab.get("", _Project).permissions or _Permissions()
        levels = (permissions.project_access, permissions.group_access)
        level = max((each.access_level for each in levels if each), default=0)
        advice = ""
        if level < _DEVELOPER:
            advice = f"the account {self._gitlab.login} needs the role Developer"
        advice = self._missing_scope("api") or advice
        if advice:
            raise AccessRefused(
                f"the token may not {WRITES[purpose]}", where=self._gitlab.page, advice=advice
            )
        return f"{self._gitlab.page} answers, {self._gitlab.login} may {WRITES[purpose]}"

    def require_approval_access(self, approval: Approval) -> None:
        """See TellsAccess."""
        if advice := self._missing_scope("read_api", "api"):
            raise AccessRefused(
                "the token may not read approvals", where=self._gitlab.page, advice=advice
            )

    def _missing_scope(self, *enough: str) -> str:
        """What to do where the token has none of these scopes; "" where it has, or GitLab does not
        tell: tokens of OAuth have no such page.
        """
        own = f"{self._gitlab.api}/personal_access_tokens/self"
        answer = self._gitlab.call("GET", own, allowed=(400, 401, 403, 404))
        if answer.status != 200:
            return ""
        scopes = decode(answer, _Token).scopes
        if set(scopes) & set(enough):
            return ""
        return f"the token has the scopes {', '.join(scopes)}; it needs {enough[0]}"


class _Token(msgspec.Struct):
    """A personal, project or group access token."""

    scopes: tuple[str, ...] = ()


class _Listed(msgspec.Struct):
    iid: int


class _Commit(msgspec.Struct):
    id: str


def _approval_times(notes: list[_Note]) -> dict[str, datetime]:
    """Account → when it approved last."""
    return {
        note.author.username: note.created_at
        for note in notes
        if note.author and note.body == _APPROVED
    }


def _doubt(noted: datetime | None, changes: Iterable[datetime]) -> str:
    """Why the note of an approval does not say on what it was given; "" where it does.

    noted: when it was written. changes: when the merge request got something else to approve.
    """
    if noted is None:
        return "GitLab does not say when it was given, and so not on what"
    if any(timedelta(0) <= noted - change < _NOTE_DELAY for change in changes):
        return (
            "this GitLab notes approvals some time later, and the merge request changed less than "
            "5 minutes before: revoke it and approve again"
        )
    return ""
