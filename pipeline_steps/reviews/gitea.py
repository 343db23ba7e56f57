"""Pull requests of Gitea and Forgejo.

The verdict is a commit status, which belongs to a revision and not to a pull request: it can never
land on another. The comment is found again by its marker, among those of our own account.
Source: Gitea 1.26, services/pull and the Swagger description of /api/v1.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from pipeline_steps.auth.hosts import Host
from pipeline_steps.charts.archive import Archive
from pipeline_steps.config.language import Approval, GiteaReview
from pipeline_steps.reviews.findings import with_findings
from pipeline_steps.reviews.forges import (
    PULL_REQUEST,
    merged_revision,
    number_of,
    read,
)
from pipeline_steps.reviews.gitea_tags import TagReleases
from pipeline_steps.reviews.gitea_verdicts import Comments, Statuses
from pipeline_steps.reviews.retargets import votes_for_target
from pipeline_steps.reviews.review import (
    Abilities,
    Delivery,
    Review,
    State,
    Verdict,
    Vote,
    Word,
)
from pipeline_steps.services.gitea import Gitea, decode, error_message
from pipeline_steps.services.rest import segment
from pipeline_steps.sources.source import Tag
from pipeline_steps.toolbox import clock, http, json_reader, retry
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    Conflict,
    MachineError,
    NotApproved,
    PipelineError,
    UsageError,
)

#: Gitea computes in the background whether a pull request can be merged, and says "try again later"
#: until then, but also when there are conflicts. Seconds until the latter is assumed.
MERGEABLE_WITHIN = 10.0
#: Seconds until a push stands in the timeline, where Gitea writes it in the background.
PUSH_TAKEN_IN = 5.0


class _Person(msgspec.Struct):
    login: str


class _Branch(msgspec.Struct):
    ref: str
    sha: str


class _Pull(msgspec.Struct):
    number: int
    html_url: str
    title: str
    state: str
    base: _Branch
    head: _Branch
    user: _Person | None = None
    draft: bool = False
    mergeable: bool = False
    merged: bool = False
    merged_at: datetime | None = None
    merge_commit_sha: str | None = None
    merge_base: str = ""


class _Event(msgspec.Struct):
    """An entry of the timeline; of a push, `body` is JSON."""

    type: str
    body: str = ""
    user: _Person | None = None
    created_at: datetime | None = None


class _Push(msgspec.Struct):
    """A push to the branch. commit_ids: the new commits, the head last; of a forced one, the former
    head and the new one.
    """

    is_force_push: bool
    commit_ids: tuple[str, ...] = ()

    def heads(self) -> tuple[str, ...]:
        return self.commit_ids if self.is_force_push else self.commit_ids[-1:]


class _Opinion(msgspec.Struct):
    """A review in Gitea's sense: what one person said of one commit."""

    state: str
    commit_id: str
    submitted_at: datetime
    user: _Person | None = None
    official: bool = False
    dismissed: bool = False
    stale: bool = False


class _Object(msgspec.Struct):
    sha: str


class _Reference(msgspec.Struct):
    ref: str
    object: _Object


class _Settings(msgspec.Struct):
    default_merge_style: str = "merge"


class _Team(msgspec.Struct):
    id: int
    name: str


class _Teams(msgspec.Struct):
    data: tuple[_Team, ...] = ()


class _History(NamedTuple):
    """revisions: heads, oldest first. uploader: who pushed the last one, None when unknown."""

    revisions: tuple[str, ...]
    uploader: str | None


class GiteaReviews:
    """The pull requests of one repository; see ReviewSystem."""

    name = "gitea"
    abilities = Abilities(
        longest_text=60_000,
        tells_uploader=True,
        folds=True,
    )

    def __init__(
        self,
        settings: GiteaReview,
        repository: str,
        hosts: Mapping[str, Host],
        *,
        environ: Mapping[str, str] | None = None,
        budget: float = retry.BUDGET,
    ) -> None:
        """repository: OWNER/NAME. Raises ConfigurationError when it is none."""
        self._gitea = Gitea(settings.url, repository, hosts, environ=environ, budget=budget)
        self._page = f"{self._gitea.url}/{repository}"
        self._pages = f"{self._page}/pulls/"
        self._statuses = Statuses(self._gitea, settings.name, self._page)
        self._comments = Comments(self._gitea, settings.name)
        self.releases = TagReleases(self._gitea, self._page)

    def review(self, id: str) -> Review:
        """See ReviewSystem; id is a number or the URL of a page."""
        return self._described(self._pull(number_of(id, PULL_REQUEST, self._pages)))

    def _pull(self, number: str) -> _Pull:
        return decode(read(self._gitea, number, PULL_REQUEST, self._pages), _Pull)

    def _described(self, pull: _Pull) -> Review:
        history = self._history(pull)
        author = pull.user.login if pull.user else ""
        state: State = "merged" if pull.merged else "closed"
        if pull.state == "open":
            state = "draft" if pull.draft else "open"
        return Review(
            system=self.name,
            id=str(pull.number),
            url=pull.html_url,
            title=pull.title,
            author=author,
            uploader=history.uploader or author,
            target=pull.base.ref,
            head=pull.head.sha,
            revisions=history.revisions,
            state=state,
            merged=(pull.merge_commit_sha or "") if pull.merged else "",
            base=pull.merge_base,
        )

    def _history(self, pull: _Pull) -> _History:
        """The heads, once each where it was first, the present one last."""
        pushes = self._pushes(pull)
        deadline = clock.Deadline(PUSH_TAKEN_IN)
        while pull.state == "open" and not _ends_with(pushes, pull.head.sha) and not deadline.over:
            time.sleep(0.2)
            pushes = self._pushes(pull)
        # A forced push takes its commits out of the entries of former ones, which then end in a
        # commit that may never have been the head: of those only the forced ones are believed.
        forced = max((n for n, (_, push) in enumerate(pushes) if push.is_force_push), default=-1)
        heads = [
            head
            for n, (_, push) in enumerate(pushes)
            if push.is_force_push or n > forced
            for head in push.heads()
            if head != pull.head.sha
        ]
        uploader = pushes[-1][0] if _ends_with(pushes, pull.head.sha) else None
        return _History((*dict.fromkeys(heads), pull.head.sha), uploader)

    def _pushes(self, pull: _Pull) -> list[tuple[str | None, _Push]]:
        """(account, push) of each push to the branch; its opening counts as the first."""
        pushes = []
        for event in self._gitea.pages(f"/issues/{pull.number}/timeline", _Event):
            push = _push_of(event) if event.type == "pull_push" else None
            if push:
                pushes.append((event.user.login if event.user else None, push))
        return pushes

    def reviews_of(self, revision: str) -> tuple[Review, ...]:
        """See ReviewSystem. Asks the cheapest first: open ones, the merged one, all heads."""
        pulls = list(self._gitea.pages("/pulls?state=open&sort=oldest", _Pull))
        matching = [pull for pull in pulls if pull.head.sha == revision]
        matching += self._merged_as(revision)
        numbers = {pull.number for pull in matching}
        matching += [
            self._pull(number) for number in self._with_head(revision) if int(number) not in numbers
        ]
        reviews = [self._described(pull) for pull in matching]
        if not reviews:
            described = (self._described(pull) for pull in pulls)
            reviews = [review for review in described if revision in review.revisions]
        return tuple(sorted(reviews, key=lambda review: -int(review.id)))

    def _merged_as(self, revision: str) -> list[_Pull]:
        """The pull request that became this commit of the target."""
        answer = self._gitea.call("GET", f"/commits/{segment(revision)}/pull", allowed=(404,))
        if answer.status != 404:
            return [decode(answer, _Pull)]
        self._gitea.require_visible()
        return []

    def _with_head(self, revision: str) -> Iterator[str]:
        """Numbers of pull requests, closed ones too, whose head is this commit."""
        answer = self._gitea.call("GET", "/git/refs/pull", allowed=(404,))
        if answer.status == 404:  # there are none
            return
        for reference in decode(answer, list[_Reference]):
            number = re.fullmatch(r"refs/pull/(\d+)/head", reference.ref)
            if number and reference.object.sha == revision:
                yield number[1]

    def fetch_reference(self, review: Review, revision: str) -> str:
        """See ReviewSystem. Gitea's repositories give any commit by its id, former heads too."""
        return f"refs/pull/{review.id}/head" if revision == review.head else revision

    def deliver(self, review: Review, verdict: Verdict) -> Delivery:
        """See ReviewSystem: a status and a comment, each written only when it differs."""
        head = self._pull(review.id).head.sha
        if head != verdict.revision:
            problem = f"the pull request has a newer revision, {head[:12]}"
            return Delivery("superseded", review.url, problem)
        changed = self._statuses.set(verdict)
        text = with_findings(verdict.text, verdict.findings)
        comment, edited = self._comments.put(review.id, review.url, text)
        outcome = "set" if changed or edited else "unchanged"
        return Delivery("set" if outcome == "set" else "unchanged", comment.html_url)

    def verdict(self, review: Review, revision: str) -> Word | None:
        """See ReviewSystem."""
        return self._statuses.word(revision)

    def votes(self, review: Review, approval: Approval) -> tuple[Vote, ...]:
        """See ReviewSystem. Only what Gitea calls official counts: others may not write.

        Its flag `stale` cannot be relied on for the contrary: it stays false when a forced push
        removes an approved file. So a vote's revision decides, and the flag can only refuse.
        """
        opinions: dict[str, _Opinion] = {}
        for opinion in self._gitea.pages(f"/pulls/{review.id}/reviews", _Opinion):
            if opinion.user and opinion.state in ("APPROVED", "REQUEST_CHANGES"):
                former = opinions.get(opinion.user.login)
                if former is None or former.submitted_at <= opinion.submitted_at:
                    opinions[opinion.user.login] = opinion
        votes = (_vote(account, opinion) for account, opinion in sorted(opinions.items()))
        counted = [vote for vote in votes if vote is not None]
        return votes_for_target(counted, review, self._targeted_at(review) if counted else "")

    def _targeted_at(self, review: Review) -> str:
        """When a pull request got its target; "" where it always had it."""
        events = self._gitea.pages(f"/issues/{review.id}/timeline", _Event)
        times = (each.created_at for each in events if each.type == "change_target_branch")
        return max(map(clock.rfc3339_of, times), default="")

    def members(self, group: str) -> frozenset[str]:
        """See ReviewSystem; a group is TEAM, of the organisation that has the repository, or
        ORGANISATION/TEAM.
        """
        owner = self._gitea.repository.partition("/")[0]
        organisation, _, name = group.rpartition("/")
        organisation = organisation or owner
        try:
            team = self._team(organisation, name)
            people = self._gitea.pages(f"{self._gitea.api}/teams/{team.id}/members", _Person)
            return frozenset(person.login for person in people)
        except AccessRefused as refusal:
            refusal.advice = (
                "the token needs the right read:organization, its account must be a member of the "
                f"organisation {organisation}; or name the people one by one"
            )
            raise

    def _team(self, organisation: str, name: str) -> _Team:
        path = f"{self._gitea.api}/orgs/{segment(organisation)}/teams/search?q={segment(name)}"
        for team in self._gitea.get(path, _Teams).data:
            if team.name == name:
                return team
        raise UsageError(
            f"the organisation {organisation} has no team {name}",
            where=f"group:{name}",
            advice="check the name in `approvals`: group:ORGANISATION/TEAM",
        )

    def merge(self, review: Review, revision: str, message: str) -> str:
        """See ReviewSystem; the style is the repository's default one."""
        merged = self._merged(review, revision)
        if merged:
            return merged
        title, _, rest = message.strip().partition("\n")
        fields = {
            "Do": self._gitea.get("", _Settings).default_merge_style,
            "head_commit_id": revision,
            "merge_title_field": title,
            "merge_message_field": rest.strip(),
        }

        def merge_once() -> None:
            path = f"/pulls/{review.id}/merge"
            answer = self._gitea.call(
                "POST", path, body=fields, allowed=(405, 409), idempotent=False
            )
            if answer.status in (405, 409):
                raise self._refusal(answer, review)

        retry.call(merge_once, budget=MERGEABLE_WITHIN, on=(_NotYetMergeable,), longest=2.0)
        merged = self._merged(review, revision)
        if not merged:
            raise MachineError(
                "Gitea took the merge and does not show it",
                where=review.url,
                advice="see on its page whether it is merged, and run the step again",
            )
        return merged

    def _merged(self, review: Review, revision: str) -> str:
        """The revision on the target if it is merged at this one, "" if it is open at this one."""
        pull = self._pull(review.id)
        return merged_revision(
            review,
            revision,
            PULL_REQUEST,
            head=pull.head.sha,
            merged=(pull.merge_commit_sha or "") if pull.merged else None,
            is_open=pull.state == "open",
        )

    def _refusal(self, answer: http.Response, review: Review) -> PipelineError:
        """The error for a merge that Gitea refuses (routers/api/v1/repo/pull.go)."""
        words = error_message(answer.body)
        if answer.status == 409:
            if "head out of date" in words:
                return Conflict(
                    "the pull request got a newer revision",
                    where=review.url,
                    advice="test and approve the new revision",
                )
            # Conflicts come as the output of git, in fields that no documentation names.
            problem = "it conflicts with the target" if '"StdErr"' in words else words
            return Conflict(problem, where=review.url, advice="rebase it")
        if "try again later" in words:
            return _NotYetMergeable(
                "the pull request conflicts with the target, or Gitea has not compared the two yet",
                where=review.url,
                advice="rebase it, or try again",
            )
        if "not allowed to merge" in words:
            return AccessRefused(
                words, where=review.url, advice="let the token's account merge into the target"
            )
        return NotApproved(
            f"Gitea does not merge it: {words}",
            where=review.url,
            advice="see on its page what the protection of the target still needs",
        )

    def promotes_here(self, url: str) -> bool:
        """See PublishesReleases: Gitea's chart repository has no releases."""
        return False

    def require_release_access(self) -> None:
        """See PublishesReleases."""
        self.releases.require_access()

    def publish_release_of(self, tag: Tag, archive: Archive) -> str:
        """See PublishesReleases."""
        files = {archive.file_name: archive.tgz}
        return self.releases.publish(tag, f"{archive.name} {archive.version}", "", files)


class _NotYetMergeable(Conflict):
    """Conflicts, or not compared yet: Gitea's answer is the same."""


def repository_of(remote: str) -> str:
    """OWNER/NAME of a remote's URL, "" when it has none.

    >>> repository_of("https://git.example.com/forge/team/charts.git")
    'team/charts'
    >>> repository_of("git@git.example.com:team/charts.git"), repository_of("/srv/charts")
    ('team/charts', '')
    """
    if "://" in remote:
        path = urlsplit(remote).path
    else:  # scp's way: host:path
        host, _, path = remote.partition(":")
        if "/" in host:
            return ""
    parts = path.strip("/").removesuffix(".git").split("/")
    return "/".join(parts[-2:]) if len(parts) > 1 else ""


def _push_of(event: _Event) -> _Push | None:
    try:
        return json_reader.decode_as(_Push, event.body)
    except ValueError:
        return None


def _ends_with(pushes: list[tuple[str | None, _Push]], head: str) -> bool:
    return bool(pushes) and head in pushes[-1][1].heads()[-1:]


def _vote(account: str, opinion: _Opinion) -> Vote | None:
    """What a person's newest opinion counts for; None for a rejection that does not count."""
    date = clock.rfc3339_of(opinion.submitted_at)
    if opinion.state == "REQUEST_CHANGES":
        if opinion.dismissed or not opinion.official:
            return None
        return Vote(account, opinion.commit_id, "reject", date)
    reasons = (
        (opinion.dismissed, "it was dismissed"),
        (not opinion.official, "not official: without the right to write, or not in the list"),
        (opinion.stale, "Gitea calls it stale: other changes were pushed since"),
    )
    reason = next((words for applies, words in reasons if applies), "")
    return Vote(account, opinion.commit_id, "approve", date, reason)
