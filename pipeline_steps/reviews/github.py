"""Pull requests of GitHub and GitHub Enterprise.

The verdict belongs to a revision: `github_verdicts` writes it. An approval names the commit that
the person looked at; whether that person may approve is asked for each, as anybody can approve a
public pull request. Source: GitHub documentation, "REST API", version 2022-11-28.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from urllib.parse import quote

import msgspec

from pipeline_steps.auth.hosts import Host
from pipeline_steps.charts.archive import Archive
from pipeline_steps.config.language import Approval, GithubReview
from pipeline_steps.repositories.github_releases import SCHEME
from pipeline_steps.reviews.findings import with_findings
from pipeline_steps.reviews.forges import PULL_REQUEST, number_of, read
from pipeline_steps.reviews.github_merges import Merges, Pull
from pipeline_steps.reviews.github_tags import TagReleases
from pipeline_steps.reviews.github_timeline import Event, targeted_at, with_moved_refused
from pipeline_steps.reviews.github_verdicts import Comments, Verdicts
from pipeline_steps.reviews.remotes import ON_GITHUB, project_path, require_public
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
from pipeline_steps.services.github import Github, decode
from pipeline_steps.services.rest import segment
from pipeline_steps.sources.source import Tag
from pipeline_steps.toolbox import clock, http, retry
from pipeline_steps.toolbox.errors import AccessRefused, ConfigurationError, UsageError

#: States of a review that replace what the same person said before ("About pull request reviews");
#: a comment does not.
_OPINIONS = ("APPROVED", "CHANGES_REQUESTED", "DISMISSED")
#: Scopes of a classic token, one of which each needs ("Scopes for OAuth apps").
_SCOPES: Mapping[Purpose, set[str]] = {
    "verdict": {"repo", "public_repo", "repo:status"},
    "merge": {"repo", "public_repo"},
}
_PLACE = re.compile(r"[\w-]+/(?!\.+$)[\w.-]+", re.ASCII)


class _Person(msgspec.Struct):
    """type: "User", or "Bot" for an app."""

    login: str
    type: str = ""

    @property
    def is_app(self) -> bool:
        return self.type == "Bot" or self.login.endswith("[bot]")


class _Opinion(msgspec.Struct):
    """A review in GitHub's sense: what one person said of one commit."""

    state: str
    user: _Person | None = None
    commit_id: str | None = None
    submitted_at: datetime | None = None


class _Permission(msgspec.Struct):
    permission: str


class _Run(msgspec.Struct):
    """A run of a workflow."""

    id: int
    head_sha: str
    created_at: datetime


class _Environment(msgspec.Struct):
    name: str = ""


class _Deployment(msgspec.Struct):
    """What a reviewer said to a run that waited for environments."""

    state: str
    user: _Person
    environments: tuple[_Environment, ...] = ()


class _Rights(msgspec.Struct):
    """Of the account; GitHub tells none to anonymous visitors."""

    permissions: dict[str, bool] = {}


class _Repository(msgspec.Struct):
    full_name: str


class _Team(msgspec.Struct):
    slug: str


class _Object(msgspec.Struct):
    sha: str


class _Reference(msgspec.Struct):
    object: _Object


class GithubReviews:
    """The pull requests of one repository; see ReviewSystem."""

    name = "github"
    abilities = Abilities(
        longest_text=50_000,  # of the 65,536 characters of a comment, with room for findings
        tells_uploader=False,
    )

    def __init__(
        self,
        settings: GithubReview,
        hosts: Mapping[str, Host],
        remote: str = "",
        *,
        environ: Mapping[str, str] | None = None,
        budget: float = retry.BUDGET,
    ) -> None:
        """Raises ConfigurationError when the repository cannot be told. remote: the URL that the
        checkout came from.
        """
        variables = os.environ if environ is None else environ
        repository = settings.repository or variables.get("GITHUB_REPOSITORY")
        if not repository:
            if not (settings.api_url or variables.get("GITHUB_API_URL")):
                require_public(remote, ON_GITHUB, "review.github", "api_url")
            repository = project_path(remote)
        if not _PLACE.fullmatch(repository):
            raise ConfigurationError(
                f"the checkout's remote {http.safe_url(remote) or 'is not known and'} names no "
                "repository of GitHub",
                where="review.github",
                advice="write repository: OWNER/NAME",
            )
        self._github = Github(
            repository, hosts, api=settings.api_url, environ=variables, budget=budget
        )
        # Check runs are for apps ("Checks"): the token of Actions is one, a personal token is not.
        in_actions = variables.get("GITHUB_ACTIONS") == "true"
        kind = settings.verdict or ("check" if in_actions else "status")
        self._kind = kind
        self._verdicts = Verdicts(self._github, settings.name, kind)
        self._comments = Comments(self._github, settings.name)
        self._merges = Merges(self._github, settings.merge_method, self._pull)
        # A run's number is of its own repository: elsewhere it would name somebody else's run.
        same = variables.get("GITHUB_REPOSITORY", "").lower() == repository.lower()
        self._run = variables.get("GITHUB_RUN_ID", "") if same else ""
        self._page = f"{self._github.web}/{repository}"
        self._pages = f"{self._page}/pull/"
        self._releases = TagReleases(self._github, self._page)
        self._may_write = functools.cache(self._ask_may_write)

    def review(self, id: str) -> Review:
        """See ReviewSystem; id is a number or the URL of a page."""
        return self._described(self._pull(number_of(id, PULL_REQUEST, self._pages)))

    def _pull(self, number: str) -> Pull:
        return decode(read(self._github, number, PULL_REQUEST, self._pages), Pull)

    def _described(self, pull: Pull) -> Review:
        # Former heads are kept nowhere but in what people said of them.
        reviewed_revisions = (opinion.commit_id for opinion in self._opinions(str(pull.number)))
        former_heads = dict.fromkeys(
            sha for sha in reviewed_revisions if sha and sha != pull.head.sha
        )
        author = pull.user.login if pull.user else ""
        state: State = "merged" if pull.merged_at else "closed"
        if pull.state == "open":
            state = "draft" if pull.draft else "open"
        return Review(
            system=self.name,
            id=str(pull.number),
            url=pull.html_url,
            title=pull.title,
            author=author,
            uploader=author,  # GitHub does not say who pushed
            target=pull.base.ref,
            head=pull.head.sha,
            revisions=(*former_heads, pull.head.sha),
            state=state,
            merged=(pull.merge_commit_sha or "") if pull.merged_at else "",
        )

    def _opinions(self, number: str) -> Iterator[_Opinion]:
        """What people said, oldest first."""
        return self._github.pages(f"/pulls/{number}/reviews", _Opinion, right="pull_requests, read")

    def reviews_of(self, revision: str) -> tuple[Review, ...]:
        """See ReviewSystem. A merge, squash or rebased commit belongs to what it merged; GitHub
        says 404 or 422 for a commit it does not have.
        """
        path = f"/commits/{segment(revision)}/pulls"
        pulls = list(
            self._github.pages(path, Pull, allowed=(404, 422), right="pull_requests, read")
        )
        if not pulls:
            # An empty list may mean that the token does not see the repository.
            self._github.require_visible()
            # Nor does GitHub say here which pull request has a commit that only a fork has.
            opened = self._github.pages("/pulls?state=open", Pull, right="pull_requests, read")
            pulls = [pull for pull in opened if pull.head.sha == revision]
        repository = self._github.repository.lower()
        reviews = [
            self._described(pull)
            for pull in pulls
            if pull.base.repo and pull.base.repo.full_name.lower() == repository
        ]
        if pulls and not reviews:
            self._require_present_name()
        return tuple(sorted(reviews, key=lambda review: -int(review.id)))

    def _require_present_name(self) -> None:
        """Raise ConfigurationError where the repository was renamed: GitHub answers under the old name
        too, and none of its pull requests would be taken for its own.
        """
        present = self._github.get("", _Repository).full_name
        if present.lower() != self._github.repository.lower():
            raise ConfigurationError(
                f"the repository is called {present} now",
                where=self._page,
                advice="write that name in review.github.repository, or in the checkout's remote",
            )

    def fetch_reference(self, review: Review, revision: str) -> str:
        """See ReviewSystem. GitHub's repositories give any commit by its id, former heads too."""
        return f"refs/pull/{review.id}/head" if revision == review.head else revision

    def deliver(self, review: Review, verdict: Verdict) -> Delivery:
        """See ReviewSystem. A commit that a merge queue made gets the verdict and no comment."""
        head = self._pull(review.id).head.sha
        own = head == verdict.revision
        if not own and not self._is_queued(review, verdict.revision):
            reason = f"the pull request has a newer revision, {head[:12]}"
            return Delivery("superseded", review.url, reason)
        changed, url = self._verdicts.set(verdict)
        # Annotations are shown beside the changed lines only.
        text = with_findings(verdict.text, verdict.findings)
        edited = own and text and self._comments.put(review.id, review.url, text)[1]
        return Delivery("set" if changed or edited else "unchanged", url or review.url)

    def _is_queued(self, review: Review, revision: str) -> bool:
        """Whether a merge queue made this commit to test the review ("Managing a merge queue")."""
        prefix = quote(f"heads/gh-readonly-queue/{review.target}/pr-{review.id}-")
        references = self._github.get(f"/git/matching-refs/{prefix}", list[_Reference])
        return any(reference.object.sha == revision for reference in references)

    def verdict(self, review: Review, revision: str) -> Word | None:
        """See ReviewSystem."""
        return self._verdicts.word(revision)

    def votes(self, review: Review, approval: Approval) -> tuple[Vote, ...]:
        """See ReviewSystem; `approval.github` says what approves."""
        votes = self._votes(review, approval)
        if not votes:
            return ()
        path = f"/issues/{review.id}/timeline"
        events = list(self._github.pages(path, Event, right="pull_requests, read"))
        if approval.github == "review":
            votes = with_moved_refused(votes, review.head, events)
        return votes_for_target(votes, review, targeted_at(events))

    def _votes(self, review: Review, approval: Approval) -> tuple[Vote, ...]:
        if approval.github == "review":
            return self._review_votes(review)
        environment = approval.github.removeprefix("environment:")
        if environment in ("", approval.github):
            raise ConfigurationError(
                f"github: {approval.github} names no vote",
                where="approvals",
                advice="write review, or environment:NAME",
            )
        return self._environment_votes(review, environment)

    def _review_votes(self, review: Review) -> tuple[Vote, ...]:
        newest: dict[str, tuple[_Person, _Opinion]] = {}
        for opinion in self._opinions(review.id):
            # Oldest first, so that the last of a person stays.
            if opinion.user and opinion.state in _OPINIONS:
                newest[opinion.user.login] = opinion.user, opinion
        votes = (self._vote(*newest[account]) for account in sorted(newest))
        return tuple(vote for vote in votes if vote is not None)

    def _vote(self, person: _Person, opinion: _Opinion) -> Vote | None:
        """None for a rejection by somebody who may not write: anybody could block a release."""
        account = person.login
        # An app's token may be in reach of the code under review, that of GitHub Actions is.
        writes = not person.is_app and self._may_write(account)
        date = clock.rfc3339_of(opinion.submitted_at)
        revision = opinion.commit_id or ""
        if opinion.state == "CHANGES_REQUESTED":
            return Vote(account, revision, "reject", date) if writes else None
        reason = "" if writes else "no right to write to the repository"
        if opinion.state == "DISMISSED":
            reason = "it was dismissed"
        return Vote(account, revision, "approve", date, reason)

    def _ask_may_write(self, account: str) -> bool:
        """404: no collaborator."""
        answer = self._github.call(
            "GET",
            f"/collaborators/{segment(account)}/permission",
            allowed=(404,),
            right="metadata, read, of an account that may push",
        )
        if answer.status == 404:
            self._github.require_visible()
            return False
        return decode(answer, _Permission).permission in ("admin", "write")

    def _environment_votes(self, review: Review, environment: str) -> tuple[Vote, ...]:
        """What reviewers of an environment said to the runs of the review's revisions, and to the
        run that asks. Who may be one is GitHub's setting of the environment.
        """
        newest: dict[str, Vote] = {}
        for run in self._runs(review):
            approvals = self._github.get(
                f"/actions/runs/{run.id}/approvals", list[_Deployment], right="actions, read"
            )
            for word in approvals:
                names = [each.name.lower() for each in word.environments]
                is_asked = environment.lower() in names and word.state != "pending"
                if not is_asked or word.user.is_app:
                    continue
                vote = Vote(
                    word.user.login,
                    run.head_sha,
                    "reject" if word.state == "rejected" else "approve",
                    # GitHub does not say when it was said; the run began before.
                    clock.rfc3339_of(run.created_at),
                )
                # Of the attempts of one run nobody knows which was last: there a rejection counts.
                former = newest.get(vote.account)
                if former is None or (former.word, former.given) != ("reject", vote.given):
                    newest[vote.account] = vote
        return tuple(vote for _, vote in sorted(newest.items()))

    def _runs(self, review: Review) -> list[_Run]:
        """Oldest first."""
        runs: dict[int, _Run] = {}
        for revision in filter(None, dict.fromkeys((*review.revisions, review.merged))):
            path = f"/actions/runs?head_sha={segment(revision)}"
            for run in self._github.pages(
                path, _Run, inside="workflow_runs", right="actions, read"
            ):
                runs[run.id] = run
        if self._run and int(self._run) not in runs:
            run = self._github.get(f"/actions/runs/{self._run}", _Run, right="actions, read")
            runs[run.id] = run
        return sorted(runs.values(), key=lambda run: run.created_at)

    def members(self, group: str) -> frozenset[str]:
        """See ReviewSystem; a group is TEAM, of the organisation that has the repository, or
        ORGANISATION/TEAM, by the name in its URL.
        """
        organisation, _, team = group.rpartition("/")
        organisation = organisation or self._github.repository.partition("/")[0]
        teams = f"{self._github.api}/orgs/{segment(organisation)}/teams"
        people = f"{teams}/{segment(team)}/members"
        right = "members, read, of the organisation (a token of GitHub Actions cannot have it)"
        try:
            return frozenset(
                person.login for person in self._github.pages(people, _Person, right=right)
            )
        except AccessRefused as refusal:
            # GitHub hides teams: only who sees the others knows that this one does not exist.
            refusal.advice = f"the token needs the right: {right}; or name the people one by one"
            try:
                slugs = [each.slug for each in self._github.pages(teams, _Team, right=right)]
            except AccessRefused:
                raise refusal from None
            if team not in slugs:
                raise UsageError(
                    f"the organisation {organisation} has no team {team}",
                    where=f"group:{group}",
                    advice="check the name in `approvals`: group:ORGANISATION/TEAM",
                ) from None
            raise

    def merge(self, review: Review, revision: str, message: str) -> str:
        """See ReviewSystem.

        Where the target has a merge queue, the revision is put into it, and Temporary says so until
        the queue has merged it.
        """
        return self._merges.merge(review, revision, message)

    def promotes_here(self, url: str) -> bool:
        """See PublishesReleases."""
        return url.lower() == f"{SCHEME}{self._github.repository}".lower()

    def require_release_access(self) -> None:
        """See PublishesReleases."""
        self._releases.require_access()

    def publish_release_of(self, tag: Tag, archive: Archive) -> str:
        """See PublishesReleases."""
        return self._releases.publish(tag, archive)

    def access(self, purpose: Purpose = "verdict") -> str:
        """See TellsAccess. What an app may do GitHub tells only when it is refused."""
        answer = self._github.call("GET", "")
        login = self._verdicts.account.login
        if not login:
            return f"{self._page} answers an app; what it may write is not told before"
        advice = ""
        if purpose == "verdict" and self._kind == "check":
            advice = "only apps write check runs: set review.github.verdict: status"
        elif not decode(answer, _Rights).permissions.get("push"):
            advice = f"the account {login} needs the right to push"
        scopes = set(re.findall(r"[\w:]+", answer.headers.get("x-oauth-scopes", "")))
        if scopes and not scopes & _SCOPES[purpose]:
            advice = f"the token has the scopes {', '.join(sorted(scopes))}; it needs repo"
        if advice:
            raise AccessRefused(
                f"the token may not {WRITES[purpose]}", where=self._page, advice=advice
            )
        return f"{self._page} answers, {login} may {WRITES[purpose]}"

    def require_approval_access(self, approval: Approval) -> None:
        """See TellsAccess. Asked as `votes` asks: whether somebody may write, or for runs."""
        if approval.github == "review":
            # Of an app nothing but its rights is known; the owner may be an organisation, no person.
            owner = self._github.repository.partition("/")[0]
            self._may_write(self._verdicts.account.login or owner)
        else:
            self._github.call("GET", "/actions/runs?per_page=1", right="actions, read")
