"""Reviews on Gerrit: changes, of which every patch set is one revision.

Source: Gerrit documentation, "REST API", version 3.10, and what that version was seen to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import msgspec

from pipeline_steps.auth.hosts import Host
from pipeline_steps.config.language import Approval, GerritReview
from pipeline_steps.reviews import gerrit_votes
from pipeline_steps.reviews.gerrit_changes import (
    OPTIONS,
    Account,
    Change,
    Changes,
)
from pipeline_steps.reviews.gerrit_verdicts import Verdicts
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
from pipeline_steps.services.gerrit import Gerrit, decode, words
from pipeline_steps.toolbox import http, retry
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    Conflict,
    EvidenceError,
    NotApproved,
    PipelineError,
    UsageError,
)

T = TypeVar("T")

#: Commits of a branch that are looked through for the one that merged a change.
_MOST_COMMITS = 500
_STATES: Mapping[str, State] = {"MERGED": "merged", "ABANDONED": "closed"}
_NUMBER_IN_URL = re.compile(r"(?:/\+|/c|^)/(\d+)(?:/.*)?$")
#: Ids of Gerrit's own groups; those of others begin with their system, like "ldap:".
_GROUP_OF_GERRIT = re.compile(r"[0-9a-f]{40}")


class Parent(msgspec.Struct):
    commit: str


class Commit(msgspec.Struct):
    """A commit, and its parents in their order."""

    commit: str
    parents: list[Parent]


class BranchTip(msgspec.Struct):
    revision: str


class Together(msgspec.Struct):
    """What a submit would submit, the change itself included where there is more."""

    changes: list[Change] = []
    non_visible_changes: int = 0


class Group(msgspec.Struct):
    """A group that another one includes. id: percent-encoded."""

    id: str
    name: str = ""


class GerritReviews:
    """The changes of one project. Implements `review.ReviewSystem`.

    budget: seconds that a call may wait for a server that restarts.
    """

    name = "gerrit"
    abilities = Abilities(
        # Below 16 KiB of UTF-8 (change.commentSizeLimit), with room for findings.
        longest_text=12_000,
        tells_uploader=True,
        single_commits=True,
    )

    def __init__(
        self,
        settings: GerritReview,
        project: str,
        hosts: Mapping[str, Host],
        *,
        budget: float = retry.BUDGET,
    ) -> None:
        self._gerrit = Gerrit(settings.url, hosts)
        self.project = project
        self._changes = Changes(self._gerrit, project)
        self._verdicts = Verdicts(self._gerrit, self._changes, settings.label)
        self._budget = budget
        self._commits: dict[str, Commit] = {}

    def _retried(self, work: Callable[[], T]) -> T:
        return retry.call(work, budget=self._budget)

    # -- what there is ---

    def review(self, id: str) -> Review:
        return self._retried(lambda: self._review(self._changes.read(self._number(id))))

    def _number(self, id: str) -> int:
        """The number of a change, from what a CI or a person gives: the number, our id, a URL."""
        name, _, number = id.rpartition("~")
        if name and name.partition("~")[0] != self.project:
            raise UsageError(
                f"change {id} belongs to another project than {self.project}",
                where=self._gerrit.url,
                advice="name its project in review.gerrit.project",
            )
        if "://" in id:
            match = _NUMBER_IN_URL.search(urlsplit(id).path)
            number = match[1] if match and id.startswith(f"{self._gerrit.url}/") else ""
        if not (number.isascii() and number.isdigit()):
            raise UsageError(
                f"{id!r} is no change",
                where=self._gerrit.url,
                advice="give its number, or its URL",
            )
        return int(number)

    def _current(self, review: Review) -> Change:
        return self._changes.read(self._number(review.id))

    def _review(self, change: Change, merged: str = "") -> Review:
        state = _STATES.get(change.status, "draft" if change.work_in_progress else "open")
        patch_sets = change.patch_sets
        return Review(
            system=self.name,
            id=change.id,
            url=self._changes.url(change),
            title=change.subject,
            author=change.owner.name,
            uploader=patch_sets[change.head].uploader.name,
            target=change.branch,
            head=change.head,
            revisions=tuple(patch_sets),
            state=state,
            merged=merged or (self._merged(change) if state == "merged" else ""),
        )

    def reviews_of(self, revision: str) -> tuple[Review, ...]:
        return self._retried(lambda: self._reviews_of(revision))

    def _reviews_of(self, revision: str) -> tuple[Review, ...]:
        changes = self._with_patch_set(revision)
        if changes:
            return tuple(map(self._review, changes))
        # A merge that Gerrit made belongs to no change; what it merged is its second parent.
        commit = self._commit(revision)
        if commit is None:
            self._require_project()
        if commit is None or len(commit.parents) != 2:
            return ()
        return tuple(
            self._review(change, revision)
            for change in self._with_patch_set(commit.parents[1].commit)
            if change.status == "MERGED" and not change.submitted_as
        )

    def _require_project(self) -> None:
        """Raise UsageError when the account does not see the project: then it sees no change."""
        path = f"/projects/{quote(self.project, safe='')}"
        if self._gerrit.find(path, dict[str, Any]) is None:
            raise UsageError(
                f"the project {self.project} does not exist, or {self._gerrit.account} may not see "
                "it",
                where=self._gerrit.url,
                advice="check review.gerrit.project, and the right Read on refs/heads/*",
            )

    def _with_patch_set(self, revision: str) -> list[Change]:
        query = f'project:"{self.project}" commit:{revision}'
        return list(self._gerrit.changes(query, OPTIONS, Change))

    def _commit(self, revision: str) -> Commit | None:
        if revision not in self._commits:
            path = f"/projects/{quote(self.project, safe='')}/commits/{revision}"
            commit = self._gerrit.find(path, Commit)
            if commit is None:
                return None
            self._commits[revision] = commit
        return self._commits[revision]

    def _merged(self, change: Change) -> str:
        """The commit on the target that has a merged change: Gerrit's own commit of it, the change
        itself after a fast-forward, else the merge; "" when it is not among the newest ones.
        """
        if change.submitted_as:
            return change.submitted_as
        tip = self._gerrit.get(
            f"/projects/{quote(self.project, safe='')}/branches/{quote(change.branch, safe='')}",
            BranchTip,
        )
        # Changes that stand on each other and are submitted together get one merge.
        query = f'project:"{self.project}" submissionid:{change.submission_id}'
        group = {each.head for each in self._gerrit.changes(query, OPTIONS, Change)}
        revision, with_others = tip.revision, ""
        for _ in range(_MOST_COMMITS):
            commit = self._commit(revision)
            if commit is None:
                break
            merges = [parent.commit for parent in commit.parents[1:]]
            if change.head in (revision, *merges):
                return revision
            if group.intersection(merges):
                with_others = revision
            if not commit.parents:
                break
            revision = commit.parents[0].commit
        return with_others

    def fetch_reference(self, review: Review, revision: str) -> str:
        change = self._retried(lambda: self._current(review))
        if revision not in change.revisions:
            raise self._changes.not_a_patch_set(change, revision)
        return change.revisions[revision].ref

    def members(self, group: str) -> frozenset[str]:
        return self._retried(lambda: self._members(group))

    def _members(self, group: str) -> frozenset[str]:
        self._require_resolved(group)
        listed = self._of_group(group, "members/?recursive", group)
        return frozenset(account.name for account in decode(listed, list[Account]))

    def _require_resolved(self, group: str) -> None:
        """Raise AccessRefused for a group of another system (LDAP, global:…) among those that it
        includes: Gerrit leaves its members out, without a word.
        """
        ids, seen = [group], set()
        while ids:
            listed = self._of_group(ids.pop(), "groups/", group)
            for included in decode(listed, list[Group]):
                name = unquote(included.id)
                if not _GROUP_OF_GERRIT.fullmatch(name):
                    raise AccessRefused(
                        f"the group {group} includes {included.name or name}, whose members Gerrit "
                        "does not list",
                        where=self._gerrit.url,
                        advice="name a group without it, or its accounts, in `by` and `not_by`",
                    )
                if name not in seen:
                    seen.add(name)
                    ids.append(name)

    def _of_group(self, id: str, path: str, group: str) -> http.Response:
        """What a group has; `group` for messages. Raises AccessRefused, UsageError."""
        path = f"/groups/{quote(id, safe='')}/{path}"
        answer = self._gerrit.call("GET", path, allowed=(403, 404))
        if answer.status == 403:
            raise AccessRefused(
                f"{self._gerrit.account} may not read the members of the group {group}",
                where=self._gerrit.url,
                advice="make the group visible to all registered users, or name its accounts",
            )
        if answer.status == 404:
            raise UsageError(
                f"the group {group} does not exist, or {self._gerrit.account} may not see it",
                where=self._gerrit.url,
                advice="check its name in `approvals`, and make it visible to registered users",
            )
        return answer

    # -- verdicts ---

    def deliver(self, review: Review, verdict: Verdict) -> Delivery:
        # Each try looks first at what the one before has left.
        return self._retried(lambda: self._verdicts.deliver(self._current(review), verdict))

    def verdict(self, review: Review, revision: str) -> Word | None:
        return self._retried(lambda: self._verdicts.word(self._current(review), revision))

    # -- approvals ---

    def votes(self, review: Review, approval: Approval) -> tuple[Vote, ...]:
        change = self._retried(lambda: self._current(review))
        return votes_for_target(gerrit_votes.votes(change, approval), review, change.moved_at)

    # -- merging ---

    def merge(self, review: Review, revision: str, message: str) -> str:
        del message  # Gerrit writes its own.
        return self._retried(lambda: self._merge(self._current(review), revision))

    def _merge(self, change: Change, revision: str) -> str:
        url = self._changes.url(change)
        if revision != change.head:
            newest = change.patch_sets[change.head].number
            raise Conflict(
                f"the change has a newer patch set, {newest}, than {revision[:12]}",
                where=url,
                advice="test and review that one",
            )
        if change.status == "MERGED":
            return self._merged(change)
        if change.status != "NEW":
            raise UsageError(
                f"the change is {change.status.lower()}",
                where=url,
                advice="restore it there, or name another one",
            )
        self._refuse_company(change)
        path = f"{self._changes.path(change.number)}/revisions/{revision}/submit"
        answer = self._gerrit.call("POST", path, body={}, allowed=(403, 409))
        merged = self._changes.read(change.number)
        if answer.status != 200 and merged.status != "MERGED":
            raise self._not_merged(change, answer)
        self._check_company(merged)
        return self._merged(merged)

    def _refuse_company(self, change: Change) -> None:
        """Raise NotApproved when the submit would bring more than this change to any mainline."""
        path = f"{self._changes.path(change.number)}/submitted_together?o=NON_VISIBLE_CHANGES"
        together = self._gerrit.get(path, Together)
        other_changes = [each for each in together.changes if each.number != change.number]
        if not other_changes and not together.non_visible_changes:
            return
        described = [f"{each.id} ({each.subject[:60]})" for each in other_changes]
        if together.non_visible_changes:
            described.append(
                f"{together.non_visible_changes} that {self._gerrit.account} cannot see"
            )
        raise NotApproved(
            f"Gerrit would submit other changes with it: {', '.join(described)}",
            where=self._changes.url(change),
            advice="merge those that it depends on first; changes of one topic are submitted by "
            "hand, or after the topic is taken off",
        )

    def _check_company(self, change: Change) -> None:
        """Raise EvidenceError when changes were added to the submit after `_refuse_company`."""
        query = f"submissionid:{change.submission_id}"
        other_ids = [
            each.id
            for each in self._gerrit.changes(query, OPTIONS, Change)
            if each.number != change.number
        ]
        if other_ids:
            raise EvidenceError(
                f"Gerrit submitted other changes with it: {', '.join(other_ids)}",
                where=self._changes.url(change),
                advice="somebody added them meanwhile; see whether they are approved and tested",
            )

    def _not_merged(self, change: Change, answer: http.Response) -> PipelineError:
        """The error for a refused submit, with Gerrit's words."""
        reason, url = words(answer), self._changes.url(change)
        if answer.status == 403:
            return AccessRefused(
                f"{self._gerrit.account} may not submit: {reason}",
                where=url,
                advice=f"give it the right Submit on refs/heads/{change.branch} of "
                f"{change.project}",
            )
        if (
            "submit requirement" in reason
            or "work in progress" in reason
            or "unsatisfied" in reason
        ):
            advice = "have what it names done: its page shows the votes that are missing"
            return NotApproved(f"Gerrit does not submit it: {reason}", where=url, advice=advice)
        advice = "rebase the change on its target, and have the new patch set reviewed"
        return Conflict(f"Gerrit does not submit it: {reason}", where=url, advice=advice)


def project_of(remote: str, url: str) -> str:
    """The project that a checkout's remote names, "" when it is not on this server.

    >>> project_of("https://gerrit.example.com/a/team/charts", "https://gerrit.example.com")
    'team/charts'
    >>> project_of("ssh://gerrit.example.com:29418/team/charts.git", "https://gerrit.example.com/")
    'team/charts'
    """
    parts, server = urlsplit(remote), urlsplit(url)
    if not parts.hostname or parts.hostname != server.hostname:
        return ""
    path = parts.path
    if parts.scheme != "ssh":
        path = path.removeprefix(server.path.rstrip("/")).removeprefix("/a/")
    return path.strip("/").removesuffix(".git")
