"""Merge proposals of Launchpad (a double of it) for real branches of git and Bazaar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from pipeline_steps.config.language import Approval, LaunchpadReview
from pipeline_steps.reviews.launchpad import Launchpad
from pipeline_steps.reviews.launchpad_verdicts import KIND
from pipeline_steps.reviews.review import Finding, Review, Verdict
from pipeline_steps.toolbox.errors import AccessRefused, UsageError
from tests.support import launchpads
from tests.support.launchpads import Proposal
from tests.support.lp_projects import SYSTEMS, LpProject


class World(NamedTuple):
    """A proposal of the branch `name`, registered by dev. reviews: of the CI's account, which may
    not approve.
    """

    project: LpProject
    name: str
    proposal: Proposal
    reviews: Launchpad

    @property
    def id(self) -> str:
        return self.proposal.path

    def review(self) -> Review:
        return self.reviews.review(self.id)

    def deliver(self, word: str = "positive", text: str = "fine", revision: str = "") -> str:
        review = self.review()
        verdict = Verdict(revision or review.head, word, f"charts: {word}", text)  # type: ignore[arg-type]
        return self.reviews.deliver(review, verdict).outcome

    def commit(self, text: str) -> str:
        return self.project.commit(self.name, {"README": text})

    def as_person(self, name: str) -> Any:
        return self.project.as_person(name, self.proposal)


@pytest.fixture(params=SYSTEMS)
def project(request: pytest.FixtureRequest, lp_project: Callable[[str], LpProject]) -> LpProject:
    return lp_project(request.param)


@pytest.fixture
def world(project: LpProject) -> World:
    name = project.next_branch()
    # Its name is in it: the same files committed twice in a second are one revision of git.
    project.commit(name, {"README": f"better charts by {name}\n"})
    project.hub.fault = lambda _: None
    proposal = project.propose(name, message="Better charts\n\nMore.")
    return World(project, name, proposal, project.reviews("ci"))


def test_a_proposal_is_found_by_address_path_and_branch(world: World) -> None:
    project = world.project
    review = world.review()
    assert review == Review(
        system="launchpad",
        id=world.id,
        url=f"{project.hub.root}{world.id}",
        title="Better charts",
        author="dev",
        uploader="dev",
        target=project.target_name,
        head=project.tip(world.name),
        revisions=(project.tip(world.name),),
        state="open",
    )
    ways = (
        f"{project.hub.root}{world.id}",
        f"{project.hub.api}{world.id}/",
        project.identity(world.name),
    )
    for way in ways:
        assert world.reviews.review(way) == review
    for unknown in (f"{world.id}9", project.identity("nothing")):
        with pytest.raises(UsageError, match="there is no"):
            world.reviews.review(unknown)


def test_several_open_proposals_of_one_branch_are_refused_by_name(world: World) -> None:
    stable = f"stable-{world.name}"
    world.project.branch(stable)
    world.project.propose(world.name, stable)
    with pytest.raises(UsageError, match=r"2 merge proposals .*\+merge/.*, .*\+merge/"):
        world.reviews.review(world.project.identity(world.name))
    world.proposal.status = "Merged"
    assert world.reviews.review(world.project.identity(world.name)).target == stable


def test_a_verdict_is_one_comment_and_one_vote(world: World) -> None:
    assert world.deliver("started") == "message"
    assert world.deliver("positive") == "set"
    assert world.deliver("positive") == "unchanged"
    assert world.deliver("positive", "fine again") == "set"
    first, second = world.proposal.comments
    assert "a newer comment has the verdict" in first.content and first.vote is None
    assert "fine again" in second.content and second.vote == "Approve"
    assert second.content.endswith(f"{KIND}: positive for {world.review().head}")
    [vote] = [each for each in world.proposal.votes if each.reviewer.name == "ci"]
    assert vote.comment is second and vote.kind_of_review == KIND
    assert world.deliver("negative") == "set"
    assert [each.vote for each in world.proposal.comments] == [None, "Approve", "Needs Fixing"]
    assert vote.comment is world.proposal.comments[2]
    assert world.reviews.verdict(world.review(), world.review().head) == "negative"
    assert world.reviews.verdict(world.review(), "another") is None


def test_what_other_people_write_stays(world: World) -> None:
    text = f"I say so\n\n{KIND}: positive for {world.review().head}"
    world.as_person("dev").createComment(subject="s", content=text, vote="Approve")
    assert world.reviews.verdict(world.review(), world.review().head) is None
    assert world.deliver("negative") == "set"
    assert world.proposal.comments[0].content == text


def test_a_superseded_revision_gets_no_vote(world: World) -> None:
    old = world.review().head
    world.commit("even better\n")
    assert world.deliver(revision=old) == "superseded"
    assert not world.proposal.comments


def test_a_branch_that_moves_while_the_verdict_is_written_withdraws_it(world: World) -> None:
    def move(call: launchpads.Call) -> None:
        if call.operation == "createComment" and call.arguments.get("vote") == "Approve":
            world.commit("meanwhile\n")

    old = world.review().head
    world.project.hub.fault = move
    assert world.deliver() == "superseded"
    world.project.hub.fault = lambda _: None
    [vote] = [each for each in world.proposal.votes if each.reviewer.name == "ci"]
    assert vote.comment is not None and vote.comment.vote == "Abstain"
    assert world.reviews.verdict(world.review(), old) is None


def test_work_in_progress_gets_a_message_and_the_vote_when_it_is_ready(world: World) -> None:
    world.proposal.status = "Work in progress"
    assert world.review().state == "draft"
    assert world.deliver() == "message"
    world.proposal.status = "Needs review"
    assert world.deliver() == "set"
    assert [each.vote for each in world.proposal.comments] == [None, "Approve"]


def test_findings_and_the_build_stand_in_the_comment(world: World) -> None:
    review = world.review()
    finding = Finding("charts/web/Chart.yaml", 3, "version 1.0.0 is taken")
    verdict = Verdict(review.head, "negative", "no", "text", "https://ci/1", (finding,))
    world.reviews.deliver(review, verdict)
    [comment] = world.proposal.comments
    assert "charts/web/Chart.yaml:3: version 1.0.0 is taken\n\nhttps://ci/1\n" in comment.content


def test_an_approval_is_of_the_revision_that_was_reviewed(world: World) -> None:
    def votes() -> list[tuple[str, str, str, bool]]:
        found = world.reviews.votes(world.review(), Approval())
        return [(each.account, each.revision, each.word, bool(each.reason)) for each in found]

    assert votes() == []
    head = world.review().head
    world.as_person("boss").createComment(content="yes", vote="Approve")
    assert votes() == [("boss", "", "approve", True)]  # of no revision: cannot count
    world.as_person("boss").setStatus(status="Approved", revid=head)
    assert votes() == [("boss", head, "approve", False)]
    world.commit("sneaked in\n")
    assert votes() == [("boss", head, "approve", False)]
    assert world.review().head != head and world.review().revisions[0] == head
    world.as_person("dev").createComment(content="stop", vote="Disapprove")
    assert votes()[-1] == ("dev", "", "reject", False) or votes()[0][2] == "reject"
    world.as_person("boss").setStatus(status="Rejected")
    assert ("boss", "", "reject", False) in votes() and world.review().state == "closed"


def test_our_own_vote_is_no_approval(world: World) -> None:
    world.deliver()
    assert world.reviews.votes(world.review(), Approval()) == ()


def test_members_of_a_team_are_read_through_other_teams(world: World) -> None:
    hub = world.project.hub
    hub.new_person("outer", [hub.new_person("inner", [hub.people["dev"]]), hub.people["ci"]])
    assert world.reviews.members("outer") == {"dev", "ci"}
    for name in ("dev", "nobody"):
        with pytest.raises(UsageError, match="no such team"):
            world.reviews.members(name)


def test_a_revision_finds_the_reviews_that_have_it(world: World) -> None:
    head = world.review().head
    assert [each.id for each in world.reviews.reviews_of(head)] == [world.id]
    assert world.reviews.reviews_of("0" * 40) == ()
    world.as_person("boss").setStatus(status="Approved", revid=head)
    world.as_person("boss").setStatus(status="Merged", revid=f"merge-{world.name}")
    for revision in (head, f"merge-{world.name}"):
        [review] = world.reviews.reviews_of(revision)
        assert (review.state, review.merged) == ("merged", f"merge-{world.name}")


def test_marking_it_as_merged_again_is_success(world: World) -> None:
    boss = world.project.reviews("boss")
    for _ in range(2):
        boss.set_merged(world.review(), f"merge-{world.name}")
    assert (world.proposal.status, world.proposal.merged) == ("Merged", f"merge-{world.name}")


def test_without_a_token_nothing_is_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LP_CREDENTIALS_FILE", raising=False)
    anonymous = Launchpad(LaunchpadReview(api_url=world.project.hub.root), {}, "")
    review = anonymous.review(world.id)
    with pytest.raises(AccessRefused, match="no token"):
        anonymous.deliver(review, Verdict(review.head, "positive", "s", "t"))


def test_a_proposal_has_the_urls_of_both_branches(world: World) -> None:
    source, target = world.reviews.branches(world.review())
    project = world.project
    assert (source.name, target.name) == (world.name, project.target_name)
    assert source.source == target.source == project.system
    for branch in (source, target):
        assert branch.url.startswith(project.code_url)
    assert source.url == project.url(world.name) and target.url == project.url("trunk")
    assert world.reviews.commit_message(world.review()).startswith("Better charts")
