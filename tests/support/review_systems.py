"""The review systems that tests ask the same of; a new one is one more row of SYSTEMS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import pytest

from pipeline_steps.auth.hosts import Host
from pipeline_steps.config.language import (
    Approval,
    GerritReview,
    GiteaReview,
    GithubReview,
    GitlabReview,
)
from pipeline_steps.reviews.gerrit import GerritReviews
from pipeline_steps.reviews.gitea import GiteaReviews
from pipeline_steps.reviews.github import GithubReviews
from pipeline_steps.reviews.gitlab import GitlabReviews
from pipeline_steps.reviews.launchpad import Launchpad
from pipeline_steps.reviews.review import ReviewSystem, Verdict, Word
from pipeline_steps.sources.source import Tag
from tests.support import (
    gerrits,
    giteas,
    github,
    gitlabs,
    gits,
    launchpads,
    lp_projects,
    registries,
)
from tests.support.github_reviews import APPROVED_ONCE, CHECKED, PullRequests, rule


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

    def retarget(self, proposed: Proposed) -> None:
        """Give the review another branch to go to, `stable`, which begins at main's tip."""

    def close(self, proposed: Proposed) -> None:
        """Close the review without merging it."""

    def shown(self, proposed: Proposed) -> Word | None:
        """positive or negative, as the server shows it at the newest revision, else None. Asked
        without our client.
        """

    def texts(self, proposed: Proposed) -> list[str]:
        """Texts of all comments and messages of the review, without our client."""

    def line_comments(self, proposed: Proposed) -> list[tuple[str, int, str]] | None:
        """(path, line, text) of comments at lines, without our client; None where findings are told
        in the text.
        """

    def tip(self) -> str:
        """The revision of main."""


class Releasing(World, Protocol):
    """A world whose server shows tags as releases."""

    def tag(self, name: str) -> Tag:
        """An annotated tag of main on the server."""

    def released(self, tag: str) -> dict[str, bytes]:
        """The files of the tag's release by name, without our client."""


class Forge(World, Protocol):
    """A world that a whole pipeline can use, through pipeline.yaml and git."""

    def push(self, files: Mapping[str, str]) -> str:
        """Push files directly to main, without a review, as somebody who may; the revision."""

    def replace(self, proposed: Proposed, files: Mapping[str, str]) -> Proposed:
        """Give a review a revision that has just these files on top of main as it is now."""

    def clone(self, folder: Path) -> gits.Repo:
        """A new clone of the project, as the bot."""

    def settings(self) -> tuple[str, str]:
        """The sections `review` and `hosts` of a pipeline.yaml, and the bot's password, which they
        take from ${REVIEW_PASSWORD}.
        """


def merge(world: World, proposed: Proposed) -> None:
    """Give a review the verdict that its branch demands, and merge it, whoever approved it."""
    system = world.opened()
    review = system.review(proposed.id)
    system.deliver(review, Verdict(proposed.revision, "positive", "fine", "fine"))
    system.merge(review, proposed.revision, "Merge it")


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

    def retarget(self, proposed: Proposed) -> None:
        branches = f"/projects/{self.project.quoted}/branches"
        self.gerrit.do("PUT", f"{branches}/stable", {"revision": self.tip()})
        moved = {"destination_branch": "stable"}
        self.gerrit.do("POST", f"{self.project.path(proposed.handle)}/move", moved)

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

    def push(self, files: Mapping[str, str]) -> str:
        identity = gerrits.new_change_id()
        revision = self.project.commit(files, onto=self.tip(), subject="Push", change_id=identity)
        url = self.project.url("admin")
        self.project.repo.git("push", "-q", url, f"{revision}:refs/heads/main")
        return revision

    def replace(self, proposed: Proposed, files: Mapping[str, str]) -> Proposed:
        return self.propose(files, earlier=proposed)

    def clone(self, folder: Path) -> gits.Repo:
        return gits.Repo(folder, self.project.repo.config, self.project.url(self.bot))

    def settings(self) -> tuple[str, str]:
        review = f"review: {{gerrit: {{url: {self.gerrit.url}, project: {self.project.name}}}}}"
        return f"{review}\n{login(self.gerrit.host, self.bot)}", gerrits.PEOPLE[self.bot]


def login(host: str, account: str) -> str:
    """The section `hosts` of a pipeline.yaml with one login."""
    return f'hosts: {{"{host}": {{username: {account}, password: "${{REVIEW_PASSWORD}}"}}}}\n'


class GithubWorld:
    """See `World`. A double, judged by GitHub's published description."""

    author, approver, bot, stranger = "alice", "bob", "ci-account", "reader"
    group = "approvers"
    approval = Approval()
    target = "main"

    def __init__(self, hub: github.Github, folder: Path, app: bool, method: str) -> None:
        self.hub, self.app, self.method = hub, app, method
        self.bot = "github-actions[bot]" if app else self.bot
        self.state = PullRequests(folder / "hosted.git")
        self.name = f"team/{folder.name}"
        hub.repository(self.name).reviews = self.state
        self.state.people |= {"alice": "write", "bob": "write"}
        self.state.teams = {"approvers": ["bob"]}
        self.state.rules = [
            rule("pull_request", APPROVED_ONCE),
            rule("required_status_checks", CHECKED),
        ]

    def opened(self, account: str = "", password: str = "") -> GithubReviews:
        tokens = {"": github.APP if self.app else github.WRITE, "reader": github.READ}
        token = password or tokens.get(account, github.WRITE)
        settings = GithubReview(
            self.name, f"{self.hub.web}/api/v3",
            verdict="check" if self.app else "status", merge_method=self.method,  # type: ignore[arg-type]
        )  # fmt: skip
        host = self.hub.web.partition("://")[2]
        return GithubReviews(settings, {host: Host("ci", token)}, environ={}, budget=10)

    def propose(
        self, files: Mapping[str, str], *, earlier: Proposed | None = None, draft: bool = False
    ) -> Proposed:
        branch = f"change-{len(self.state.pulls) + 1}"
        number = 0
        if earlier:
            number = earlier.handle
            branch = self.state.pulls[number]["branch"]
        revision = self.state.git.commit(branch, files)
        number = number or self.state.open("alice", branch, title="Change the chart", draft=draft)
        return Proposed(str(number), revision, number)

    def make_ready(self, proposed: Proposed) -> None:
        self.state.pulls[proposed.handle]["draft"] = False

    def approve(self, proposed: Proposed, by: str) -> None:
        self.state.say(proposed.handle, by, "APPROVED")

    def reject(self, proposed: Proposed, by: str) -> None:
        self.state.say(proposed.handle, by, "CHANGES_REQUESTED")

    def retarget(self, proposed: Proposed) -> None:
        self.state.git.git("branch", "stable", "main")
        self.state.retarget(proposed.handle, "stable")

    def close(self, proposed: Proposed) -> None:
        self.state.pulls[proposed.handle]["state"] = "closed"

    def shown(self, proposed: Proposed) -> Word | None:
        head = self.state.head(self.state.pulls[proposed.handle])
        passing = self.state.passing(head, "pipeline-steps")
        return {"success": "positive", "failure": "negative"}.get(passing or "")  # type: ignore[return-value]

    def texts(self, proposed: Proposed) -> list[str]:
        comments = self.state.comments.values()
        return [each["body"] for each in comments if each["issue"] == proposed.id]

    def line_comments(self, proposed: Proposed) -> list[tuple[str, int, str]] | None:
        """Annotations that "Files changed" shows: those of files that the pull request changes."""
        if not self.app:
            return None
        files = self.state.git.git("diff", "--name-only", "main", proposed.revision).split()
        runs = [run for run in self.state.checks.values() if run["head_sha"] == proposed.revision]
        return [
            (each["path"], each["start_line"], each["message"])
            for each in runs[-1]["output"]["annotations"]
            if each["path"] in files
        ]

    def tip(self) -> str:
        return self.state.git.tip("main")

    def tag(self, name: str) -> Tag:
        self.state.git.git("tag", "--annotate", "--message", f"Release {name}", name, "main")
        return Tag(name, self.tip(), "", "")

    def released(self, tag: str) -> dict[str, bytes]:
        return self.hub.repository(self.name).published()[tag]


def github_world(
    *, app: bool = False, method: str = "merge"
) -> Callable[[pytest.FixtureRequest, Path], World]:
    def world(request: pytest.FixtureRequest, folder: Path) -> World:
        return GithubWorld(request.getfixturevalue("judged_github"), folder, app, method)

    return world


class GiteaWorld:
    """See `World`; main is protected: an approval and the verdict are needed."""

    target = "main"
    author, approver, bot, stranger = "member", "core", "ci", "stranger"
    group = giteas.TEAM
    approval = Approval()

    def __init__(self, forge: giteas.Forge, folder: Path, style: str) -> None:
        self.repository = forge.repository(folder)
        self.repository.call("PATCH", "", "core", {"default_merge_style": style})
        checks = {"enable_status_check": True, "status_check_contexts": [GiteaReview("").name]}
        self.repository.protect(required_approvals=1, block_on_rejected_reviews=True, **checks)
        self.changes = 0

    def opened(self, account: str = "", password: str = "") -> GiteaReviews:
        forge, name = self.repository.forge, account or self.bot
        host = Host(username=name, password=password or forge.tokens[name])
        settings = GiteaReview(forge.url)
        return GiteaReviews(settings, self.repository.name, {forge.host: host}, environ={})

    def propose(
        self, files: Mapping[str, str], *, earlier: Proposed | None = None, draft: bool = False
    ) -> Proposed:
        if earlier:
            head = self.repository.commit(earlier.handle, files, "Change it again")
            return earlier._replace(revision=self.repository.push(earlier.handle, head))
        self.tip()  # known here, for a branch to begin at
        self.changes += 1
        branch = f"change-{self.changes}"
        title = "WIP: Change the chart" if draft else "Change the chart"
        pull = self.repository.propose(branch, files, title)
        return Proposed(str(pull.number), pull.head, branch)

    def make_ready(self, proposed: Proposed) -> None:
        fields = {"title": "Change the chart"}
        self.repository.call("PATCH", f"/pulls/{proposed.id}", "member", fields)

    def approve(self, proposed: Proposed, by: str) -> None:
        self.repository.review(int(proposed.id), by)

    def reject(self, proposed: Proposed, by: str) -> None:
        self.repository.review(int(proposed.id), by, "REQUEST_CHANGES")

    def retarget(self, proposed: Proposed) -> None:
        made = {"new_branch_name": "stable", "old_branch_name": "main"}
        self.repository.call("POST", "/branches", "core", made)
        self.repository.call("PATCH", f"/pulls/{proposed.id}", "member", {"base": "stable"})

    def close(self, proposed: Proposed) -> None:
        self.repository.call("PATCH", f"/pulls/{proposed.id}", "member", {"state": "closed"})

    def shown(self, proposed: Proposed) -> Word | None:
        head = self.repository.pull(int(proposed.id))["head"]["sha"]
        states = [each["status"] for each in self.repository.statuses(head)]
        words: dict[str, Word] = {"success": "positive", "failure": "negative"}
        return words.get(*states) if states else None

    def texts(self, proposed: Proposed) -> list[str]:
        return [each["body"] for each in self.repository.comments(int(proposed.id))]

    def line_comments(self, proposed: Proposed) -> None:
        return None

    def tip(self) -> str:
        self.repository.checkout.git("fetch", "-q", "origin")
        return self.repository.checkout.git("rev-parse", "origin/main")

    def push(self, files: Mapping[str, str]) -> str:
        checkout = self.repository.checkout
        checkout.git("checkout", "-q", "--detach", self.tip())
        for path, text in files.items():
            checkout.put(path, text)
        revision = checkout.commit("Push")
        rules = "/branch_protections/main"
        self.repository.call("PATCH", rules, "core", {"enable_push": True})
        checkout.git("push", "-q", self.repository.clone_url("core"), "HEAD:main")
        self.repository.call("PATCH", rules, "core", {"enable_push": False})
        return revision

    def replace(self, proposed: Proposed, files: Mapping[str, str]) -> Proposed:
        checkout = self.repository.checkout
        checkout.git("checkout", "-q", "-B", proposed.handle, self.tip())
        for path, text in files.items():
            checkout.put(path, text)
        revision = checkout.commit("Change the chart")
        self.repository.push(proposed.handle, force=True)
        self.repository.settle(int(proposed.id), revision)
        return proposed._replace(revision=revision)

    def tag(self, name: str) -> Tag:
        checkout, revision = self.repository.checkout, self.tip()
        checkout.git("tag", "--annotate", "--message", f"Release {name}", name, revision)
        checkout.git("push", "-q", self.repository.clone_url("core"), name)
        return Tag(name, revision, "", "")

    def released(self, tag: str) -> dict[str, bytes]:
        release = self.repository.call("GET", f"/releases/tags/{tag}", "core")
        return {
            asset["name"]: registries.fetch(asset["browser_download_url"])
            for asset in release["assets"]
        }

    def clone(self, folder: Path) -> gits.Repo:
        config = self.repository.checkout.config
        return gits.Repo(folder, config, self.repository.clone_url(self.bot))

    def settings(self) -> tuple[str, str]:
        forge = self.repository.forge
        review = f"review: {{gitea: {{url: {forge.url}, repository: {self.repository.name}}}}}"
        return f"{review}\n{login(forge.host, self.bot)}", forge.tokens[self.bot]


class GitlabWorld:
    """See `World`. A double, written after GitLab's documentation."""

    author, approver, bot, stranger = "alice", "bob", "ci", "eve"
    group = "team/approvers"
    approval = Approval()
    target = "main"

    def __init__(self, hub: gitlabs.Gitlab, folder: Path, method: str) -> None:
        self.hub = hub
        self.name = f"team/{folder.name}"
        self.state = hub.projects[self.name] = gitlabs.Project(folder / "hosted.git")
        self.state.people |= {"alice": 30, "bob": 30}
        self.state.groups = {self.group: ["bob"]}
        self.state.method = method
        self.state.approvals_needed, self.state.pipeline_must_succeed = 1, True

    def opened(self, account: str = "", password: str = "") -> GitlabReviews:
        token = password or f"token-of-{account or self.bot}"
        host = self.hub.url.partition("://")[2]
        settings = GitlabReview(self.hub.url, self.name)
        return GitlabReviews(settings, {host: Host("ci", token)}, environ={}, budget=10)

    def propose(
        self, files: Mapping[str, str], *, earlier: Proposed | None = None, draft: bool = False
    ) -> Proposed:
        if earlier:
            number = earlier.handle
            revision = self.state.git.commit(self.state.requests[number]["branch"], files)
            self.state.pushed(number)
        else:
            branch = f"change-{len(self.state.requests) + 1}"
            revision = self.state.git.commit(branch, files)
            number = self.state.open("alice", branch, title="Change the chart", draft=draft)
        return Proposed(str(number), revision, number)

    def make_ready(self, proposed: Proposed) -> None:
        self.state.requests[proposed.handle]["draft"] = False

    def approve(self, proposed: Proposed, by: str) -> None:
        self.state.approve(proposed.handle, by)

    def reject(self, proposed: Proposed, by: str) -> None:
        self.state.request_changes(proposed.handle, by)

    def retarget(self, proposed: Proposed) -> None:
        self.state.git.git("branch", "stable", "main")
        self.state.retarget(proposed.handle, "alice", "stable")

    def close(self, proposed: Proposed) -> None:
        self.state.requests[proposed.handle]["state"] = "closed"

    def shown(self, proposed: Proposed) -> Word | None:
        head = self.state.requests[proposed.handle]["sha"]
        passing = self.state.passing(head, "pipeline-steps")
        return {"success": "positive", "failed": "negative"}.get(passing or "")  # type: ignore[return-value]

    def texts(self, proposed: Proposed) -> list[str]:
        return [
            note["body"]
            for note in self.state.notes
            if note["iid"] == proposed.handle and not note["system"]
        ]

    def line_comments(self, proposed: Proposed) -> None:
        return None

    def tip(self) -> str:
        return self.state.git.tip("main")

    def push(self, files: Mapping[str, str]) -> str:
        return self.state.git.commit("main", files)

    def replace(self, proposed: Proposed, files: Mapping[str, str]) -> Proposed:
        branch = self.state.requests[proposed.handle]["branch"]
        revision = self.state.git.commit(branch, files, onto=self.tip())
        self.state.pushed(proposed.handle)
        return proposed._replace(revision=revision)

    def clone(self, folder: Path) -> gits.Repo:
        return gits.Repo(folder, folder.parent / "gitconfig", str(self.state.git.folder))

    def settings(self) -> tuple[str, str]:
        review = f"review: {{gitlab: {{url: {self.hub.url!r}, project: {self.name}}}}}"
        host = self.hub.url.partition("://")[2]
        return f"{review}\n{login(host, self.bot)}", f"token-of-{self.bot}"


def gitlab_world(method: str = "merge") -> Callable[[pytest.FixtureRequest, Path], World]:
    def world(request: pytest.FixtureRequest, folder: Path) -> World:
        return GitlabWorld(request.getfixturevalue("gitlab"), folder, method)

    return world


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

    def retarget(self, proposed: Proposed) -> None:
        raise AssertionError("a merge proposal has one target for ever")

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

    def line_comments(self, proposed: Proposed) -> None:
        return None

    def tip(self) -> str:
        return self.project.tip("trunk")


class LaunchpadChange(NamedTuple):
    """The branch that dev proposes, by its short name, and the proposal."""

    name: str
    proposal: launchpads.Proposal


def launchpad(system: str) -> Callable[[pytest.FixtureRequest, Path], World]:
    def world(request: pytest.FixtureRequest, folder: Path) -> World:
        return LaunchpadWorld(request.getfixturevalue("lp_project")(system))

    return world


def gerrit(submit_type: str) -> Callable[[pytest.FixtureRequest, Path], Forge]:
    def world(request: pytest.FixtureRequest, folder: Path) -> Forge:
        return GerritWorld(request.getfixturevalue("gerrit"), folder, submit_type)

    return world


def gitea(style: str) -> Callable[[pytest.FixtureRequest, Path], Forge]:
    def world(request: pytest.FixtureRequest, folder: Path) -> Forge:
        return GiteaWorld(request.getfixturevalue("forge"), folder, style)

    return world


#: name → a new project on it. How a system merges is part of what it is: each way is a row.
SYSTEMS: dict[str, Callable[[pytest.FixtureRequest, Path], World]] = {
    "gerrit": gerrit("MERGE_IF_NECESSARY"),
    "gerrit-cherry-pick": gerrit("CHERRY_PICK"),
    "gerrit-rebase": gerrit("REBASE_IF_NECESSARY"),
    "gitea": gitea("merge"),
    "gitea-rebase": gitea("rebase"),
    "gitea-squash": gitea("squash"),
    "github": github_world(),
    "github_app": github_world(app=True),
    "github-squash": github_world(method="squash"),
    "github-rebase": github_world(method="rebase"),
    "gitlab": gitlab_world(),
    "gitlab-squash": gitlab_world("squash"),
}
#: Real servers.
FORGES = {
    name: cast("Callable[[pytest.FixtureRequest, Path], Forge]", world)
    for name, world in SYSTEMS.items()
    if name.startswith(("gerrit", "gitea"))
}
#: Those that leave the merging to `merge`, and where whoever has an account may set a verdict.
WITHOUT_MERGES: dict[str, Callable[[pytest.FixtureRequest, Path], World]] = {
    "launchpad-git": launchpad("git"),
    "launchpad-bzr": launchpad("bzr"),
}
#: Those whose server shows a tag as a release with files.
RELEASING: tuple[str, ...] = ("gitea", "github", "github_app")
#: Why a system is not asked everything (docs/reference).
NOT_ASKED: dict[str, str] = {
    "gerrit": "it shows no releases",
    "gitlab": "its releases hold no files "
    "([decision](../decisions/0041-what-hubs-get-beside-verdicts.md))",
    "launchpad": "it merges nothing itself (`merge` does: tests/workflows/test_public.py); a "
    "proposal has one target for ever; its login is no password (tests/unit/"
    "test_services_launchpad.py); its releases are of all charts (`tag_release --global`, "
    "in test_public.py, too)",
}
#: What stands for each system: "real", "contract" or "double", and what that is (docs/reference).
KINDS: dict[str, str] = {
    "gerrit": "real: Gerrit 3.10, from its jars",
    "gitea": "real: Gitea 1.26, built from its modules; Forgejo, which serves the same API, was never "
    "asked",
    "github": "contract: a double with state and real git, each request and answer judged by GitHub's "
    "published OpenAPI description and GraphQL schema, requests also by that of GitHub Enterprise "
    "Server 3.17; github_app writes check runs, as apps may",
    "gitlab": "double: it keeps state, with real git, after GitLab's documentation",
    "launchpad": "double: it keeps state, after Launchpad's WADL; git and Bazaar are real",
}
