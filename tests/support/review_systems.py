"""The review systems that tests ask the same of; a new one is one more row of SYSTEMS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

from pipeline_steps.auth.hosts import Host
from pipeline_steps.config.language import Approval, GerritReview
from pipeline_steps.reviews.gerrit import GerritReviews
from pipeline_steps.reviews.launchpad import Launchpad
from pipeline_steps.reviews.review import ReviewSystem, Word
from tests.support import gerrits, launchpads, lp_projects


class Proposed(NamedTuple):
    """A review as its author pushed it. id: as a CI gives it. handle: what the world needs."""

    id: str
    revision: str
    handle: Any


class World(Protocol):
    """A project of its own on a running server, with one branch and four accounts.

    target: the branch that reviews go to, as it is called. author proposes; approver may approve
    and merge; bot may set verdicts and merge; stranger has an account and no right. group: of which
    approver is the only member; "" where there is none.
    approval: the vote that counts as approval.
    """

    target: str
    author: str
    approver: str
    bot: str
    stranger: str
    group: str
    approval: Approval

    def opened(self, account: str = "", password: str = "") -> ReviewSystem:
        """The project's reviews as an account sees them; the bot's by default."""

    def propose(
        self, files: Mapping[str, str], *, earlier: Proposed | None = None, draft: bool = False
    ) -> Proposed:
        """Push a review of files on top of main, or the next revision of an earlier one."""

    def make_ready(self, proposed: Proposed) -> None:
        """Make a draft an open review."""

    def approve(self, proposed: Proposed, by: str) -> None:
        """Approve a revision, which is the newest one."""

    def reject(self, proposed: Proposed, by: str) -> None:
        """Reject a revision in the way that blocks."""

    def close(self, proposed: Proposed) -> None:
        """Close the review without merging it."""

    def shown(self, proposed: Proposed) -> Word | None:
        """positive or negative, as the server shows it at the newest revision, else None. Asked
        without our client.
        """

    def texts(self, proposed: Proposed) -> list[str]:
        """Texts of all comments and messages of the review, without our client."""

    def line_comments(self, proposed: Proposed) -> list[tuple[str, int, str]]:
        """(path, line, text) of comments at lines, without our client."""

    def tip(self) -> str:
        """The revision of main."""

    def has_parents(self, revision: str) -> list[str]:
        """The parents of a revision of main."""


class GerritWorld:
    """See `World`."""

    target = "main"
    author, approver, bot, stranger = "alice", "bob", "ci", "eve"
    group = "approvers"
    approval = Approval()

    def __init__(self, gerrit: gerrits.Gerrit, folder: Path, submit_type: str) -> None:
        self.gerrit = gerrit
        self.project = gerrit.project(folder, submit_type=submit_type)

    def opened(self, account: str = "", password: str = "") -> GerritReviews:
        name = account or self.bot
        host = Host(username=name, password=password or gerrits.PEOPLE[name])
        settings = GerritReview(url=self.gerrit.url)
        return GerritReviews(settings, self.project.name, {self.gerrit.host: host})

    def propose(
        self, files: Mapping[str, str], *, earlier: Proposed | None = None, draft: bool = False
    ) -> Proposed:
        change = self.project.push(
            files, earlier=earlier and earlier.handle, options="wip" if draft else ""
        )
        return Proposed(str(change.number), change.revision, change)

    def make_ready(self, proposed: Proposed) -> None:
        self.gerrit.do("POST", f"{self.project.path(proposed.handle)}/ready", {}, by="alice")

    def approve(self, proposed: Proposed, by: str) -> None:
        self.project.vote(proposed.handle, by, Code_Review=2)

    def reject(self, proposed: Proposed, by: str) -> None:
        self.project.vote(proposed.handle, by, Code_Review=-2)

    def close(self, proposed: Proposed) -> None:
        self.gerrit.do("POST", f"{self.project.path(proposed.handle)}/abandon", {}, by="alice")

    def shown(self, proposed: Proposed) -> Word | None:
        vote = self.project.votes(proposed.handle).get(self.bot)
        return {1: "positive", -1: "negative"}.get(vote or 0)  # type: ignore[return-value]

    def texts(self, proposed: Proposed) -> list[str]:
        return [message["message"] for message in self.project.messages(proposed.handle)]

    def line_comments(self, proposed: Proposed) -> list[tuple[str, int, str]]:
        answer = self.gerrit.do("GET", f"{self.project.path(proposed.handle)}/comments")
        return [
            (path, each["line"], each["message"])
            for path, found in answer.items()
            for each in found
        ]

    def tip(self) -> str:
        return self.project.tip()

    def has_parents(self, revision: str) -> list[str]:
        return self.project.repo.git("rev-list", "--parents", "-n", "1", revision).split()[1:]


class LaunchpadWorld:
    """See `World`; on a double of Launchpad, with a real code host."""

    author, approver, bot, stranger = "dev", "boss", "ci", "eve"
    group = "owners"
    approval = Approval()

    def __init__(self, project: lp_projects.LpProject) -> None:
        self.project = project
        self.target = project.target_name

    def opened(self, account: str = "", password: str = "") -> Launchpad:
        return self.project.reviews(account or self.bot)

    def propose(
        self, files: Mapping[str, str], *, earlier: Proposed | None = None, draft: bool = False
    ) -> Proposed:
        name = earlier.handle.name if earlier else self.project.next_branch()
        revision = self.project.commit(name, files)
        if earlier:
            return earlier._replace(revision=revision)
        proposal = self.project.propose(name, message="Change the chart")
        if draft:
            proposal.status = "Work in progress"
        return Proposed(proposal.path, revision, LaunchpadChange(name, proposal))

    def make_ready(self, proposed: Proposed) -> None:
        proposed.handle.proposal.status = "Needs review"

    def approve(self, proposed: Proposed, by: str) -> None:
        proposal = self.project.as_person(by, proposed.handle.proposal)
        proposal.setStatus(status="Approved", revid=proposed.revision)

    def reject(self, proposed: Proposed, by: str) -> None:
        proposal = self.project.as_person(by, proposed.handle.proposal)
        proposal.createComment(content="no", vote="Disapprove")

    def close(self, proposed: Proposed) -> None:
        self.project.as_person("boss", proposed.handle.proposal).setStatus(status="Rejected")

    def shown(self, proposed: Proposed) -> Word | None:
        for vote in proposed.handle.proposal.votes:
            comment = vote.comment
            if vote.reviewer.name == self.bot and comment is not None:
                if self.project.tip(proposed.handle.name) not in comment.content:
                    return None
                words: dict[str | None, Word] = {"Approve": "positive", "Needs Fixing": "negative"}
                return words.get(comment.vote)
        return None

    def texts(self, proposed: Proposed) -> list[str]:
        return [comment.content for comment in proposed.handle.proposal.comments]

    def line_comments(self, proposed: Proposed) -> list[tuple[str, int, str]]:
        return []

    def tip(self) -> str:
        return self.project.tip("trunk")

    def has_parents(self, revision: str) -> list[str]:
        return self.project.parents(revision)


class LaunchpadChange(NamedTuple):
    """The branch that dev proposes, by its short name, and the proposal."""

    name: str
    proposal: launchpads.Proposal


def launchpad(system: str) -> Callable[[pytest.FixtureRequest, Path], World]:
    def world(request: pytest.FixtureRequest, folder: Path) -> World:
        return LaunchpadWorld(request.getfixturevalue("lp_project")(system))

    return world


def gerrit(submit_type: str) -> Callable[[pytest.FixtureRequest, Path], World]:
    def world(request: pytest.FixtureRequest, folder: Path) -> World:
        return GerritWorld(request.getfixturevalue("gerrit"), folder, submit_type)

    return world


#: name → a new project on it. How a system merges is part of what it is: each way is a row.
SYSTEMS: dict[str, Callable[[pytest.FixtureRequest, Path], World]] = {
    "gerrit": gerrit("MERGE_IF_NECESSARY"),
    "gerrit-cherry-pick": gerrit("CHERRY_PICK"),
    "gerrit-rebase": gerrit("REBASE_IF_NECESSARY"),
}
#: Those that leave the merging to `merge`, and where whoever has an account may set a verdict.
WITHOUT_MERGES: dict[str, Callable[[pytest.FixtureRequest, Path], World]] = {
    "launchpad-git": launchpad("git"),
    "launchpad-bzr": launchpad("bzr"),
}
