"""Which votes count for an approval, and which lines a change has: pure rules, at random."""

from __future__ import annotations

import itertools
import random
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline_steps.approvals import changes, coverage
from pipeline_steps.approvals.mainline import Change
from pipeline_steps.approvals.votes import Count, count_votes
from pipeline_steps.config.config_file import load
from pipeline_steps.config.language import Approval
from pipeline_steps.reviews.kinds import open_review_system
from pipeline_steps.reviews.review import Abilities, Review, Vote
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.workspace.checkout import Checkout
from tests.support.gits import Repo, chart

REVIEW = Review("gitea", "7", "https://x/7", "A", "ann", "uli", "main", "r2", ("r1", "r2"), "open")
GROUPS = {"managers": frozenset({"meg", "max"}), "empty": frozenset[str]()}


def vote(account: str, revision: str = "r2", word: str = "approve", **more: str) -> Vote:
    assert word in ("approve", "reject")
    return Vote(account, revision, word, more.get("given", "2026-01-01T00:00:00Z"), more.get("reason", ""))  # type: ignore[arg-type]  # fmt: skip


def count(votes: list[Vote], review: Review = REVIEW, **rule: Any) -> Count:
    approval = Approval(**rule)
    return count_votes(approval, review, votes, {"r2"}, GROUPS.__getitem__)


def people(result: Count) -> list[str]:
    return [each.account for each in result.approving]


def reasons(result: Count) -> dict[str, str]:
    return {each.vote.account: each.reason for each in result.uncounted}


def test_somebody_else_approves() -> None:
    result = count([vote("bob")])
    assert (result.passed, people(result)) == (True, ["bob"])


@pytest.mark.parametrize("account", ["ann", "ANN", "ａｎｎ", " ann"])
def test_the_author_does_not_count_however_the_account_is_written(account: str) -> None:
    result = count([vote(account)])
    assert (result.passed, reasons(result)) == (False, {account: "by the author of the review"})


def test_whoever_pressed_rebase_counts_unless_uploaders_are_excluded() -> None:
    assert count([vote("uli")]).passed
    assert not count([vote("uli")], not_by=("author", "uploader")).passed
    assert count([vote("ann")], not_by=()).passed


REVIEW_SYSTEMS = {
    "gerrit": ('{url: "https://g.example.com"}', "https://g.example.com/a/charts"),
    "gitea": ('{url: "https://g.example.com"}', "https://g.example.com/team/charts"),
    "github": ("{}", "https://github.com/team/charts"),
    "gitlab": ("{}", "https://gitlab.com/team/charts"),
    "launchpad": ("{}", "lp:charts"),
}


@pytest.mark.parametrize("system", REVIEW_SYSTEMS)
def test_uploader_is_refused_where_the_system_does_not_say_who_pushed(
    system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There it would be the author again, so a rule that asks for more would do nothing."""
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    settings, remote = REVIEW_SYSTEMS[system]
    path = tmp_path / "pipeline.yaml"
    path.write_text(
        "charts: [{path: charts/*}]\napprovals:\n  one: {}\n  two: {not_by: [author, uploader]}\n"
        f"review: {{{system}: {settings}}}\n"
    )
    config = load([path])
    if system in ("gerrit", "gitea"):
        opened = open_review_system(config, remote)
        assert opened and opened.abilities.tells_uploader
        return
    with pytest.raises(ConfigurationError) as caught:
        open_review_system(config, remote)
    assert f"{system} does not say who pushed" in str(caught.value)
    assert "pipeline.yaml:4" in str(caught.value)
    assert "take uploader out" in str(caught.value)


def test_nobody_counts_where_the_author_is_not_known() -> None:
    result = count([vote("bob")], REVIEW._replace(author=""))
    assert reasons(result) == {"bob": "the review system does not say who the author is"}


def test_by_admits_and_not_by_excludes_accounts_and_groups() -> None:
    assert people(count([vote("meg"), vote("bob")], by=("group:managers",))) == ["meg"]
    assert people(count([vote("meg"), vote("bob")], by="bob")) == ["bob"]
    assert people(count([vote("managers")], by=("group:managers",))) == []
    assert people(count([vote("meg"), vote("bob")], not_by=("group:managers",))) == ["bob"]
    assert people(count([vote("meg"), vote("bob")], not_by=("BOB",))) == ["meg"]
    assert people(count([vote("meg")], by=("group:empty",))) == []


def test_an_account_that_only_looks_like_one_of_by_does_not_count() -> None:
    result = count([vote("Bob")], by=("bob",))
    assert reasons(result)["Bob"].startswith("not in `by`, which has bob")


def test_one_person_counts_once() -> None:
    assert not count([vote("bob"), vote("BOB")], count=2).passed
    assert count([vote("bob"), vote("cat")], count=2).passed


def test_rejections_block_whoever_approves() -> None:
    result = count([vote("bob"), vote("cat", word="reject")], by=("bob",))
    assert (result.passed, result.missing) == (False, 0)
    dismissed = vote("cat", word="reject", reason="it was dismissed")
    assert count([vote("bob"), dismissed]).passed


def test_the_newest_word_of_a_person_counts() -> None:
    votes = [vote("bob", given="2026-01-02T00:00:00Z"), vote("bob", word="reject")]
    for order in itertools.permutations(votes):
        assert count(list(order)).passed
    votes = [vote("bob"), vote("bob", word="reject")]
    for order in itertools.permutations(votes):
        assert not count(list(order)).passed


def test_votes_on_other_revisions_or_without_a_right_do_not_count() -> None:
    result = count([vote("bob", "r1"), vote("cat", ""), vote("dan", reason="no right to write")])
    assert list(reasons(result)) == ["bob", "cat", "dan"]
    assert reasons(result)["dan"] == "no right to write"
    assert not result.passed


def test_what_never_approves_at_random() -> None:
    """No order decides; a rejection, a reason or the author's own vote never helps; fewer votes
    that count never pass where more of them do not."""
    draw = random.Random(3)
    for _ in range(2000):
        votes = [
            vote(
                draw.choice(["ann", "Ann", "bob", "BOB", "cat", "meg", "uli", ""]),
                draw.choice(["r1", "r2", ""]),
                draw.choice(["approve", "approve", "approve", "reject"]),
                given=f"2026-01-0{draw.randint(1, 3)}T00:00:00Z",
                reason=draw.choice(["", "", "", "stale"]),
            )
            for _ in range(draw.randint(0, 6))
        ]
        rule: dict[str, Any] = {
            "by": draw.choice([(), "bob", ("group:managers", "cat")]),
            "count": draw.randint(1, 3),
            "not_by": draw.choice([("author",), (), ("author", "uploader", "cat")]),
        }
        result = count(votes, **rule)
        assert count(draw.sample(votes, len(votes)), **rule) == result
        assert {each.reason for each in result.approving} <= {""}
        assert {each.revision for each in result.approving} <= {"r2"}
        alike = {each.account.casefold() for each in result.approving}
        assert len(alike) == len(result.approving)
        if "author" in rule["not_by"]:
            assert "ann" not in alike
        if result.passed:
            later = vote("zoe", word="reject", given="2026-02-01T00:00:00Z")
            assert not count([*votes, later], **rule).passed
            assert len(result.approving) >= rule["count"]


# Lines


def test_line_ends_binary_files_and_missing_ends() -> None:
    assert changes.changed_lines(b"a\r\n", b"a\n") == (("-", b"a\r\n"), ("+", b"a\n"))
    assert changes.changed_lines(b"a", b"a\n") == (("-", b"a"), ("+", b"a\n"))
    assert changes.changed_lines(b"a\x0bb\n", b"a\x0bc\n") == (
        ("-", b"a\x0bb\n"),
        ("+", b"a\x0bc\n"),
    )
    one, other = changes.changed_lines(b"\0a", b"\0b"), changes.changed_lines(b"\0c", b"\0b")
    assert [line.startswith(b"sha256:") for _, line in one] == [True, True]
    assert one != other, "of a binary file both sides must be the same"
    assert changes.changed_lines(b"", b"") == ()


def test_commits_of_a_merge_that_are_too_many_to_be_asked_about_are_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    repo.put("pipeline.yaml", "charts: [{path: charts/*}]\n")
    repo.put("charts/web/Chart.yaml", chart("web"))
    before = repo.commit()
    topic = repo.branch("topic")
    for number in range(3):
        topic.put("charts/web/values.yaml", f"number: {number}\n")
        topic.commit()
    merge = repo.merge(topic)
    checkout = Checkout(load((), environ={}, start=repo.root))
    single = Abilities(4000, True, single_commits=True)
    # No review system can be brought to have a merge of more commits than it takes.
    system: Any = SimpleNamespace(abilities=single)
    for most, commits in ((3, 3), (2, None)):
        monkeypatch.setattr(coverage, "MOST_COMMITS", most)
        found = coverage.Coverage(checkout, "web", system, ["charts/web"]).merged_commits(
            Change(merge, before, ("charts/web/values.yaml",))
        )
        assert (found and len(found)) == commits


def test_many_equal_lines_are_compared_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST_PAIRS", 10)
    before = b"x\n" + b"a\n" * 10 + b"y\n"
    (removed, added) = changes.changed_lines(before, b"z\n" + b"a\n" * 9 + b"w\n")
    assert removed[1].startswith(b"sha256:")
    assert added[1].startswith(b"sha256:")


def test_a_clean_merge_keeps_the_lines_at_random() -> None:
    """As git merges: of what merges without conflict, the lines of one side are the same before
    and after the merge, and of other edits of that side they are not."""
    draw = random.Random(5)
    merged = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(150):
            base = [f"line {n} {draw.random()}\n" for n in range(draw.randint(8, 40))]
            ours, theirs = (edited(base, draw) for _ in range(2))
            files = [Path(folder) / name for name in ("ours", "base", "theirs")]
            for file, lines in zip(files, (ours, base, theirs), strict=True):
                file.write_text("".join(lines))
            ran = subprocess.run(["git", "merge-file", "-p", *map(str, files)], capture_output=True)
            if ran.returncode:
                continue
            merged += 1
            before, after = (f.read_bytes() for f in files[:2][::-1])
            approved = changes.changed_lines(before, after)
            brought = changes.changed_lines(files[2].read_bytes(), ran.stdout)
            same_edits = set(ours) & set(theirs) - set(base)
            assert approved == brought or same_edits, number
            if approved:
                tampered = changes.changed_lines(before, after + b"more\n")
                assert tampered != brought
    assert merged > 50


def edited(lines: list[str], draw: random.Random) -> list[str]:
    result = list(lines)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(result))
        match draw.choice(["add", "remove", "replace"]):
            case "add":
                result.insert(place, f"added {draw.random()}\n")
            case "remove":
                del result[place]
            case _:
                result[place] = f"replaced {draw.random()}\n"
    return result
