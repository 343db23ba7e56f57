"""What every review system must do alike; `tests.support.review_systems` has the systems."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline_steps.reviews.review import Delivery, Finding, PublishesReleases, Verdict, Word
from pipeline_steps.sources.source import Tag
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    Conflict,
    NotApproved,
    PipelineError,
    UsageError,
)
from tests.support.charts import packed
from tests.support.review_systems import (
    RELEASING,
    SYSTEMS,
    WITHOUT_MERGES,
    Proposed,
    Releasing,
    World,
)

#: Ways of merging are asked about merging only.
SERVERS = [name for name in SYSTEMS if "-" not in name]
ALL = {**SYSTEMS, **WITHOUT_MERGES}
COLUMNS = [*SERVERS, *WITHOUT_MERGES]


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return ALL[request.param](request, tmp_path)


every_system = pytest.mark.parametrize("world", COLUMNS, indirect=True)
#: With rights of their own for verdicts, and logins in `hosts`.
every_server = pytest.mark.parametrize("world", SERVERS, indirect=True)
every_releasing = pytest.mark.parametrize("world", RELEASING, indirect=True)
every_way = pytest.mark.parametrize("world", SYSTEMS, indirect=True)


def verdict(proposed: Proposed, word: Word = "positive", **more: Any) -> Verdict:
    made = Verdict(proposed.revision, word, f"the charts are {word}", "**web**: 3 tests passed")
    return made._replace(**more)


def deliver(world: World, proposed: Proposed, given: Verdict) -> Delivery:
    system = world.opened()
    return system.deliver(system.review(proposed.id), given)


@every_system
def test_a_review_is_described(world: World) -> None:
    first = world.propose({"a": "1"})
    second = world.propose({"a": "2"}, earlier=first)
    review = world.opened().review(first.id)
    assert (review.author, review.uploader, review.target) == (
        world.author,
        world.author,
        world.target,
    )
    assert review.head == second.revision
    assert review.revisions[-1] == second.revision
    assert (review.state, review.merged) == ("open", "")
    assert review.title == "Change the chart"
    assert review.url.startswith("http")


@every_system
def test_its_own_id_and_its_page_name_it_too(world: World) -> None:
    proposed = world.propose({"a": "1"})
    system = world.opened()
    review = system.review(proposed.id)
    assert system.review(review.id) == review
    assert system.review(review.url) == review


@every_system
def test_a_review_that_is_not_there_is_a_wrong_call(world: World) -> None:
    for absent in ("99999", "no number", "https://elsewhere.example.com/1"):
        with pytest.raises(UsageError):
            world.opened().review(absent)


@every_system
def test_it_is_found_by_its_revisions(world: World) -> None:
    proposed = world.propose({"a": "1"})
    system = world.opened()
    assert [each.id for each in system.reviews_of(proposed.revision)] == [
        system.review(proposed.id).id
    ]
    assert system.reviews_of("0" * 40) == ()
    assert system.reviews_of(world.tip()) == ()


@every_system
def test_the_source_gets_a_revision_by_its_reference(world: World) -> None:
    proposed = world.propose({"a": "1"})
    system = world.opened()
    assert system.fetch_reference(system.review(proposed.id), proposed.revision)


@every_system
@pytest.mark.parametrize("word", ["positive", "negative"])
def test_a_verdict_is_set_read_back_and_repeated_without_effect(world: World, word: Word) -> None:
    proposed = world.propose({"a": "1"})
    assert deliver(world, proposed, verdict(proposed, word)).outcome == "set"
    assert world.shown(proposed) == word
    texts = world.texts(proposed)
    assert any("**web**: 3 tests passed" in text for text in texts)
    assert deliver(world, proposed, verdict(proposed, word)).outcome == "unchanged"
    assert world.texts(proposed) == texts
    system = world.opened()
    assert system.verdict(system.review(proposed.id), proposed.revision) == word


@every_system
def test_a_later_verdict_replaces_an_earlier_one(world: World) -> None:
    proposed = world.propose({"a": "1"})
    system = world.opened()
    review = system.review(proposed.id)
    for word in ("started", "negative", "started", "positive", "incomplete"):
        deliver(world, proposed, verdict(proposed, word))
        assert system.verdict(review, proposed.revision) == word
        assert world.shown(proposed) == (word if word in ("positive", "negative") else None)


@every_system
def test_a_revision_without_verdict_has_none(world: World) -> None:
    proposed = world.propose({"a": "1"})
    system = world.opened()
    assert system.verdict(system.review(proposed.id), proposed.revision) is None


@every_system
def test_a_superseded_revision_gets_nothing(world: World) -> None:
    first = world.propose({"a": "1"})
    second = world.propose({"a": "2"}, earlier=first)
    before = world.texts(first)
    delivery = deliver(world, first, verdict(first))
    assert delivery.outcome == "superseded"
    assert delivery.reason
    assert world.shown(second) is None
    assert world.texts(first) == before


@every_system
def test_a_new_revision_does_not_inherit_the_verdict(world: World) -> None:
    first = world.propose({"a": "1"})
    deliver(world, first, verdict(first))
    second = world.propose({"a": "2"}, earlier=first)
    assert world.shown(second) is None
    system = world.opened()
    assert system.verdict(system.review(second.id), second.revision) is None


@every_system
def test_a_draft_gets_the_words_and_later_the_vote(world: World) -> None:
    proposed = world.propose({"a": "1"}, draft=True)
    system = world.opened()
    assert system.review(proposed.id).state == "draft"
    deliver(world, proposed, verdict(proposed))
    texts = world.texts(proposed)
    assert any("**web**" in text for text in texts)
    world.make_ready(proposed)
    deliver(world, proposed, verdict(proposed))
    assert world.shown(proposed) == "positive"
    assert sum("**web**" in text for text in world.texts(proposed)) == 1


@every_system
def test_findings_stand_at_their_lines_or_in_the_text(world: World) -> None:
    proposed = world.propose({"a": "1\n2\n3\n"})
    findings = (Finding("a", 2, "two is wrong"), Finding("elsewhere", 7, "seven, too"))
    given = verdict(proposed, "negative", findings=findings)
    deliver(world, proposed, given)
    deliver(world, proposed, given)
    everything = "\n".join(world.texts(proposed))
    comments = world.line_comments(proposed)
    if comments is None:
        assert "a:2" in everything
    else:
        assert comments == [("a", 2, "two is wrong")]
        assert "elsewhere:7" in everything


@every_system
def test_the_longest_text_is_taken_whole(world: World) -> None:
    proposed = world.propose({"a": "1"})
    text = "ü" * (world.opened().abilities.longest_text - 4) + " end"
    assert deliver(world, proposed, verdict(proposed, text=text)).outcome == "set"
    assert any(text in each for each in world.texts(proposed))


@every_server
def test_a_wrong_password_is_told(world: World) -> None:
    with pytest.raises(AccessRefused, match=r"hosts") as caught:
        world.opened(password="pw-wrong-5e1b").review("1")
    assert "pw-wrong-5e1b" not in str(caught.value)


@every_server
def test_who_may_not_set_a_verdict_is_told_which_right(world: World) -> None:
    proposed = world.propose({"a": "1"})
    system = world.opened(world.stranger)
    with pytest.raises(AccessRefused) as caught:
        system.deliver(system.review(proposed.id), verdict(proposed))
    assert caught.value.advice
    assert world.shown(proposed) is None


@every_system
def test_an_approval_has_its_account_and_revision(world: World) -> None:
    first = world.propose({"a": "1"})
    system = world.opened()
    review = system.review(first.id)
    assert system.votes(review, world.approval) == ()
    world.approve(first, world.approver)
    [vote] = system.votes(review, world.approval)
    assert (vote.account, vote.revision, vote.word) == (world.approver, first.revision, "approve")
    assert vote.reason == ""
    assert vote.given.endswith("Z")


@every_system
def test_an_approval_stays_at_the_revision_it_was_given_on(world: World) -> None:
    first = world.propose({"a": "1"})
    world.approve(first, world.approver)
    world.propose({"a": "2"}, earlier=first)
    system = world.opened()
    votes = system.votes(system.review(first.id), world.approval)
    assert [vote.revision for vote in votes if not vote.reason] in ([first.revision], [])


@every_server
def test_an_approval_given_for_another_target_does_not_count(world: World) -> None:
    proposed = world.propose({"a": "1"})
    world.approve(proposed, world.approver)
    world.retarget(proposed)
    system = world.opened()
    review = system.review(proposed.id)
    assert review.target == "stable"
    # Gerrit takes votes on the newest patch set away.
    for vote in system.votes(review, world.approval):
        assert "given for another target: the review goes to stable" in vote.reason
    assert bool(system.votes(review, world.approval)) == (system.name != "gerrit")
    time.sleep(1.1)  # whoever approves in the same second may not have seen it
    world.approve(proposed, world.approver)
    [vote] = system.votes(review, world.approval)
    assert (vote.account, vote.revision, vote.reason) == (world.approver, proposed.revision, "")


@every_system
def test_a_rejection_replaces_an_approval(world: World) -> None:
    proposed = world.propose({"a": "1"})
    world.approve(proposed, world.approver)
    world.reject(proposed, world.approver)
    system = world.opened()
    [vote] = system.votes(system.review(proposed.id), world.approval)
    assert (vote.account, vote.word) == (world.approver, "reject")


@every_system
def test_a_group_has_its_members_and_an_unknown_one_is_refused(world: World) -> None:
    if world.group:
        assert world.opened(world.approver).members(world.group) == {world.approver}
    with pytest.raises((UsageError, AccessRefused)):
        world.opened().members("no-such-group")


def merged(world: World, proposed: Proposed) -> str:
    deliver(world, proposed, verdict(proposed))
    world.approve(proposed, world.approver)
    system = world.opened()
    return system.merge(system.review(proposed.id), proposed.revision, "Merge it")


@every_way
def test_the_revision_that_was_reviewed_is_merged(world: World) -> None:
    first, second = world.propose({"a": "1"}), world.propose({"b": "1"})
    for proposed in (first, second):
        assert merged(world, proposed) == world.tip()
    system = world.opened()
    review = system.review(second.id)
    assert (review.state, review.merged) == ("merged", world.tip())
    assert review.head == review.revisions[-1] == second.revision
    assert system.merge(review, second.revision, "again") == world.tip()
    assert [each.id for each in system.reviews_of(world.tip())] == [review.id]
    assert system.reviews_of(world.tip())[0].merged == world.tip()
    votes = system.votes(review, world.approval)
    assert [(vote.account, vote.revision) for vote in votes if vote.word == "approve"] == [
        (world.approver, second.revision)
    ]


@every_way
def test_a_newer_revision_is_not_merged_for_an_older_one(world: World) -> None:
    first = world.propose({"a": "1"})
    system = world.opened()
    review = system.review(first.id)
    second = world.propose({"a": "2"}, earlier=first)
    deliver(world, second, verdict(second))
    world.approve(second, world.approver)
    before = world.tip()
    with pytest.raises(Conflict):
        system.merge(review, first.revision, "Merge it")
    assert world.tip() == before


@every_server
def test_what_the_system_does_not_let_in_is_told_in_its_words(world: World) -> None:
    proposed = world.propose({"a": "1"})
    system = world.opened()
    with pytest.raises(NotApproved):
        system.merge(system.review(proposed.id), proposed.revision, "Merge it")


@every_server
def test_a_conflict_is_not_merged(world: World) -> None:
    first, second = world.propose({"a": "1"}), world.propose({"a": "2"})
    merged(world, first)
    with pytest.raises(Conflict):
        merged(world, second)


@every_server
def test_who_may_not_merge_is_told_which_right(world: World) -> None:
    proposed = world.propose({"a": "1"})
    deliver(world, proposed, verdict(proposed))
    world.approve(proposed, world.approver)
    system = world.opened(world.stranger)
    with pytest.raises(AccessRefused):
        system.merge(system.review(proposed.id), proposed.revision, "Merge it")


@every_system
def test_a_closed_review_is_not_merged_and_gets_only_words(world: World) -> None:
    proposed = world.propose({"a": "1"})
    world.close(proposed)
    system = world.opened()
    review = system.review(proposed.id)
    assert review.state == "closed"
    with pytest.raises(PipelineError):
        system.merge(review, proposed.revision, "Merge it")
    assert deliver(world, proposed, verdict(proposed)).outcome in ("message", "set")


@every_releasing
def test_a_pushed_tag_becomes_one_release_with_the_chart(world: Releasing) -> None:
    system, chart = world.opened(), packed()
    assert isinstance(system, PublishesReleases)
    with pytest.raises(UsageError, match="push the tag first"):
        system.publish_release_of(Tag("absent", world.tip(), "", ""), chart)
    tag = world.tag("hello-1.0.0")
    elsewhere = tag._replace(revision="0123456789" * 4)
    with pytest.raises(Conflict, match=f"names {tag.revision[:12]} there, and 012345678901 in"):
        system.publish_release_of(elsewhere, chart)
    pages = {system.publish_release_of(tag, chart) for _ in range(2)}
    assert len(pages) == 1 and pages.pop().endswith("/releases/tag/hello-1.0.0")
    other = packed(more="description: another\n")
    with pytest.raises(Conflict):
        system.publish_release_of(tag, other)
    assert world.released(tag.name) == {chart.file_name: chart.tgz}


@every_releasing
def test_who_may_make_no_release_is_told_before_the_tag(world: Releasing) -> None:
    for account, refused in (("", False), (world.stranger, True)):
        system = world.opened(account)
        assert isinstance(system, PublishesReleases)
        with pytest.raises(AccessRefused) if refused else contextlib.nullcontext():
            system.require_release_access()
