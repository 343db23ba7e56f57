"""Which approvals cover what was merged, where somebody pushes around the reviews.

Git is real. The reviews are written down here: the sequences would need rights on each review
system that no fixture gives, or that a system refuses; the ordinary ones are run on real systems
(tests/reviews/test_approvals.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline_steps.approvals.coverage import Coverage, Range
from pipeline_steps.approvals.mainline import Change, Mainline, mainline
from pipeline_steps.config.config_file import load
from pipeline_steps.reviews.review import Abilities, Review
from pipeline_steps.workspace.checkout import Checkout
from tests.support.gits import Repo, chart

VALUES = "charts/web/values.yaml"
EVIL = "charts/web/templates/evil.yaml"
ENTRY = "charts: [{path: charts/web}]\n"


class World:
    """A repository whose mainline is `main`; branches are in it, too.

    single_commits: as on Gerrit.
    """

    def __init__(self, folder: Path, *, single_commits: bool = False) -> None:
        self.repo = Repo(folder / "checkout", folder / "gitconfig")
        abilities = Abilities(4000, True, single_commits=single_commits)
        self.system: Any = SimpleNamespace(
            abilities=abilities, fetch_reference=lambda _review, revision: revision
        )

    def commit(self, files: Mapping[str, str | None]) -> str:
        """Commit files; None removes one."""
        for path, text in files.items():
            if text is None:
                (self.repo.root / path).unlink()
            else:
                self.repo.put(path, text)
        return self.repo.commit()

    def begin(self, more: str = "") -> str:
        return self.commit(
            {
                "pipeline.yaml": ENTRY,
                "charts/web/Chart.yaml": chart("web"),
                VALUES: "".join(f"key{number}: {number}\n" for number in range(9)) + more,
            }
        )

    def at(self, revision: str) -> None:
        self.repo.git("checkout", "-q", "--detach", revision)

    def merge(self, mainline: str, tip: str, *options: str) -> str:
        self.at(mainline)
        self.repo.git("merge", "-q", "--no-ff", "-m", "merge", *options, tip)
        return self.repo.git("rev-parse", "HEAD")

    def merge_as(self, mainline: str, tip: str, content: str) -> str:
        """A merge whose files are those of another commit."""
        merge = self.repo.git(
            "commit-tree", f"{content}^{{tree}}", "-p", mainline, "-p", tip, "-m", "merge"
        )
        self.at(merge)
        return merge

    def picked(self, onto: str, revision: str) -> str:
        self.at(onto)
        self.repo.git("cherry-pick", revision)
        return self.repo.git("rev-parse", "HEAD")

    def asked(self) -> tuple[Mainline, Coverage]:
        """The changes of what is checked out, before the first release."""
        checkout = Checkout(load((), environ={}, start=self.repo.root))
        changes = mainline(checkout, checkout.chart("web"), None)
        return changes, Coverage(checkout, "web", self.system, changes.places)

    def covers(self, approved: str, end: str) -> bool:
        """Whether an approval of a revision covers the mainline's last revision."""
        self.at(end)
        review = Review(
            "x", "1", "https://x/1", "", "ann", "ann", "main", approved, (), "merged", end
        )
        before = self.repo.git("rev-parse", f"{end}^1")
        return self.asked()[1].covers(review, approved, Range(before, end))

    def commits(self, merge: str) -> list[str] | None:
        """The commits that must be approved of a merge."""
        self.at(merge)
        before = self.repo.git("rev-parse", f"{merge}^1")
        found = self.asked()[1].merged_commits(Change(merge, before, (VALUES,)))
        return None if found is None else [commit.revision for commit in found]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def gerrit(tmp_path: Path) -> World:
    return World(tmp_path, single_commits=True)


def edited(world: World, base: str, number: int) -> str:
    """A commit that changes one of the values."""
    world.at(base)
    text = (world.repo.root / VALUES).read_text()
    return world.commit({VALUES: text.replace(f"key{number}: {number}\n", f"key{number}: new\n")})


def test_an_entry_that_makes_another_folder_the_chart_is_a_change_of_it(world: World) -> None:
    """Its files lay there, unlisted, when nobody was asked about them."""
    world.begin()
    world.commit({"alt/web/Chart.yaml": chart("web"), "alt/web/values.yaml": "evil: true\n"})
    switch = world.commit({"pipeline.yaml": "charts: [{path: alt/*}]\n"})
    newest = world.asked()[0].changes[0]
    assert (newest.revision, newest.paths) == (switch, ("pipeline.yaml",))


# A review that brings the chart, or more of what it is made of


def test_what_lay_there_before_the_chart_was_brought_needs_who_saw_it(world: World) -> None:
    base = world.commit({"pipeline.yaml": "charts: []\n"})
    review = world.begin()
    world.at(base)
    pushed = world.commit({EVIL: "kind: Secret\n"})
    assert not world.covers(review, world.merge(pushed, review))
    assert not world.covers(review, world.picked(pushed, review))
    beside = world.picked(base, review)
    assert world.covers(review, beside), "nothing else is there"
    world.at(base)
    readme = world.commit({"README.md": "no chart\n"})
    assert world.covers(review, world.merge(readme, review))
    assert world.covers(review, world.picked(readme, review))


def test_a_subchart_that_a_review_adds_must_be_what_the_reviewer_saw(world: World) -> None:
    world.begin()
    lib = {"charts/lib/Chart.yaml": chart("lib"), "charts/lib/values.yaml": "safe: true\n"}
    base = world.commit(lib)
    review = world.commit({"charts/web/Chart.yaml": chart("web", "0.1.0", "lib")})
    world.at(base)
    pushed = world.commit({"charts/lib/values.yaml": "safe: false\n"})
    assert not world.covers(review, world.merge(pushed, review))
    assert world.covers(review, world.merge(base, review))


def test_a_merge_that_brings_the_chart_on_gerrit_has_nothing_else(gerrit: World) -> None:
    base = gerrit.commit({"pipeline.yaml": "charts: []\n"})
    review = gerrit.begin()
    assert gerrit.commits(gerrit.merge(base, review)) == [review]
    gerrit.at(base)
    pushed = gerrit.commit({EVIL: "kind: Secret\n"})
    assert gerrit.commits(gerrit.merge(pushed, review)) is None


# Merges that drop what was approved


def test_a_merge_that_drops_an_approved_fix_is_not_covered(world: World) -> None:
    base = world.begin()
    review = edited(world, base, 3)
    fix = edited(world, base, 7)
    assert not world.covers(review, world.merge_as(fix, review, review))
    assert world.covers(review, world.merge(fix, review)), "both are in it"
    seen = world.merge(review, fix)  # the branch took the fix before it was approved
    assert world.covers(seen, world.merge_as(fix, seen, seen))
    reverted = world.merge_as(review, fix, review)  # and here the branch itself takes it back
    assert world.covers(reverted, world.merge_as(fix, reverted, reverted))


def test_a_merge_on_gerrit_that_drops_an_approved_fix_is_not_covered(gerrit: World) -> None:
    base = gerrit.begin()
    review = edited(gerrit, base, 3)
    fix = edited(gerrit, base, 7)
    assert gerrit.commits(gerrit.merge_as(fix, review, review)) is None
    assert gerrit.commits(gerrit.merge(fix, review)) == [review]


# Commits of a branch


def test_a_branch_that_took_the_mainline_in_brings_its_own_commits_only(gerrit: World) -> None:
    base = gerrit.begin()
    old = edited(gerrit, base, 1)
    first = edited(gerrit, old, 3)
    beside = edited(gerrit, old, 7)
    second = edited(gerrit, gerrit.merge(first, beside), 4)
    later = edited(gerrit, beside, 8)
    assert gerrit.commits(gerrit.merge(later, second)) == [second, first]


def test_commits_that_a_branch_merged_from_elsewhere_are_asked_about(gerrit: World) -> None:
    base = gerrit.begin()
    first, elsewhere = edited(gerrit, base, 3), edited(gerrit, base, 5)
    inner = gerrit.merge(first, elsewhere)
    main = edited(gerrit, base, 7)
    commits = gerrit.commits(gerrit.merge(main, inner))
    assert commits is not None
    assert sorted(commits) == sorted([first, elsewhere])
    gerrit.at(inner)
    text = (gerrit.repo.root / VALUES).read_text()
    gerrit.repo.put(VALUES, text + "smuggled: true\n")
    gerrit.repo.git("commit", "-q", "-a", "--amend", "-m", "merge")
    smuggling = gerrit.repo.git("rev-parse", "HEAD")
    commits = gerrit.commits(gerrit.merge(main, smuggling))
    assert commits is not None
    assert smuggling in commits
