"""Versions of snapshots over histories as people make them, in real repositories."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_steps.building.packaging import is_version_taken, snapshot_version
from pipeline_steps.charts.version import Version, bump, parse_strict, to_tag
from pipeline_steps.config.config_file import load
from pipeline_steps.sources import kinds
from pipeline_steps.toolbox.errors import MachineError
from pipeline_steps.workspace.checkout import Checkout
from tests.support import bazaars, checkouts, svns
from tests.support.examples import FULL
from tests.support.gits import Repo, chart

#: What a team does next. merge, squash, rebase: how a review of two commits comes to the mainline.
ACTS = ("edit", "elsewhere", "merge", "squash", "rebase", "revert", "tag", "raise")
LANDINGS = ("merge", "squash", "rebase")
BRANCH = "release/1.0"
CONFIG = "charts: [{path: charts/*}]\nrelease: {branches: [main, trunk, release*]}\n"
#: Bazaar and Subversion need seconds for an example.
SLOW_EXAMPLES = 20 if FULL else 1


class Snapshot(NamedTuple):
    """What is checked out: its content, and the version of its snapshot."""

    content: str
    version: str


class History:
    """A repository with one chart; every act ends on the branch `line`, main at first.

    released: the content of a tag → its version.
    """

    def __init__(self, repo: checkouts.Checkout) -> None:
        self.repo = repo
        self.numbers = itertools.count()
        self.line = "main"
        self.version = Version(1, 0, 0)
        self.released: dict[str, str] = {}
        repo.put("pipeline.yaml", CONFIG)
        repo.put("unrelated", "")
        self.write(repo)
        self.tip = repo.commit()

    def write(self, repo: checkouts.Checkout) -> None:
        repo.put("charts/web/Chart.yaml", chart("web", str(self.version)))
        repo.put("charts/web/values.yaml", f"number: {next(self.numbers)}\n")

    def commit(self, repo: checkouts.Checkout) -> str:
        """The id of the revision, which adds no file."""
        return repo.commit()

    def read(self, repo: checkouts.Checkout | None = None) -> Snapshot:
        with kinds.share_sources():
            checkout = Checkout(load((), environ={}, start=(repo or self.repo).root))
            found = checkout.chart("web")
            return Snapshot(found.content, snapshot_version(checkout, found, {}, {}))

    def review(self, repo: checkouts.Checkout) -> tuple[str, str, Snapshot]:
        """Two commits on a branch of their own, and the snapshot of the last."""
        repo.put("unrelated", str(next(self.numbers)))
        first = self.commit(repo)
        self.write(repo)
        return first, self.commit(repo), self.read(repo)

    def land(self, name: str) -> str:
        """Bring a review to the line by one of LANDINGS; returns the version of its snapshot."""
        raise NotImplementedError

    def act(self, name: str) -> str:
        """Do it; returns the version of the review's snapshot, "" where there was none."""
        if name in LANDINGS:
            return self.land(name)
        if name == "tag":
            self.tag(f"web-{self.version}")
            return ""
        if name == "elsewhere":
            self.repo.put("unrelated", str(next(self.numbers)))
        elif name == "revert":
            self.repo.put("charts/web/values.yaml", "number: 0\n")
        else:
            self.version = bump(self.version) if name == "raise" else self.version
            self.write(self.repo)
        self.tip = self.commit(self.repo)
        return ""

    def tag(self, name: str) -> None:
        """Tag what is checked out, unless the name is another content's."""
        with kinds.share_sources():
            checkout = Checkout(load((), environ={}, start=self.repo.root))
            found = checkout.chart("web")
            is_taken = is_version_taken(checkout, found)
        if not is_taken:
            self.set_tag(name)
            self.released[found.content] = str(self.version)

    def set_tag(self, name: str) -> None:
        """Set a tag, also one that names an older revision of the same content."""
        raise NotImplementedError

    def start_branch(self) -> None:
        """Branch off BRANCH and stay on the line."""
        raise NotImplementedError

    def go_on(self, line: str, version: Version) -> None:
        """Go to another line of development, where the chart has this version."""
        self.line, self.version = line, version


class GitHistory(History):
    def __init__(self, folder: Path) -> None:
        self.git = Repo(folder / "checkout", folder / "gitconfig")
        super().__init__(self.git)

    def land(self, name: str) -> str:
        git = self.git.git
        git("checkout", "-q", "-B", "fix")
        *_, review = self.review(self.git)
        git("checkout", "-q", self.line)
        if name == "merge":
            git("merge", "-q", "--no-ff", "-m", "merge", "fix")
        elif name == "squash":
            git("merge", "-q", "--squash", "fix")
            self.git.commit("squashed")
        else:
            git("merge", "-q", "--ff-only", "fix")
        return review.version

    def set_tag(self, name: str) -> None:
        self.git.git("tag", "-f", name)

    def start_branch(self) -> None:
        self.git.git("branch", BRANCH)

    def go_on(self, line: str, version: Version) -> None:
        super().go_on(line, version)
        self.git.git("checkout", "-q", line)


class FolderHistory(History):
    """Where each branch has a checkout of its own."""

    def __init__(self, repo: checkouts.Checkout) -> None:
        super().__init__(repo)
        self.lines: dict[str, checkouts.Checkout] = {self.line: repo}

    def land(self, name: str) -> str:
        fix = self.repo.branch(f"fix-{next(self.numbers)}")
        first, last, review = self.review(fix)
        self.bring(name, fix, first, last)
        return review.version

    def bring(self, name: str, fix: checkouts.Checkout, first: str, last: str) -> None:
        """Bring the revisions first and last of a branch to the line; sets `tip`."""
        raise NotImplementedError

    def start_branch(self) -> None:
        self.lines[BRANCH] = self.repo.branch("release-1.0")

    def go_on(self, line: str, version: Version) -> None:
        super().go_on(line, version)
        self.repo = self.lines[line]


class BazaarHistory(FolderHistory):
    repo: bazaars.Branch

    def __init__(self, folder: Path) -> None:
        super().__init__(bazaars.checkout(folder))

    def commit(self, repo: checkouts.Checkout) -> str:
        """Without the id, which takes another second of brz."""
        assert isinstance(repo, bazaars.Branch)
        return repo.brz("commit", "-q", "--unchanged", "-m", "change")

    def bring(self, name: str, fix: checkouts.Checkout, first: str, last: str) -> None:
        if name == "rebase":
            self.repo.brz("pull", "-q", str(fix.root))
            return
        self.repo.brz("merge", "-q", str(fix.root))
        if name == "squash":
            self.repo.brz("revert", "-q", "--forget-merges")
        self.commit(self.repo)

    def set_tag(self, name: str) -> None:
        self.repo.brz("tag", "-q", "--force", name)


class SubversionHistory(FolderHistory):
    repo: svns.WorkingCopy

    def __init__(self, folder: Path) -> None:
        super().__init__(svns.checkout(folder))
        self.tags: set[str] = set()

    def bring(self, name: str, fix: checkouts.Checkout, first: str, last: str) -> None:
        assert isinstance(fix, svns.WorkingCopy)
        numbers = [each.partition(":")[0].removeprefix("r") for each in (first, last)]
        steps: dict[str, list[list[str]]] = {
            "merge": [[fix.url]],
            "squash": [["--ignore-ancestry", self.repo.url, fix.url]],
            "rebase": [["-c", number, fix.url] for number in numbers],
        }
        for arguments in steps[name]:
            self.repo.svn("update", "-q")
            self.repo.svn("merge", "-q", *arguments)
            self.tip = self.repo.commit(name)

    def set_tag(self, name: str) -> None:
        if name not in self.tags:
            self.repo.tag(name, self.tip)
            self.tags.add(name)


SLOW = {"bzr": BazaarHistory, "svn": SubversionHistory}


def check_grown(history: History, before: str, now: Snapshot) -> None:
    """before: the highest version of other content on this line."""
    newest = parse_strict(now.version)
    assert to_tag(now.version) == now.version
    assert newest < bump(newest)
    if version := history.released.get(now.content):
        # Nothing is to be released: the snapshot is of the release that has this content.
        assert now.version.startswith(f"{version}-0.")
        assert int(newest.pre[1]) > int(parse_strict(before).pre[1])
    else:
        assert newest > parse_strict(before)


def check_growth(history: History, acts: list[str]) -> None:
    now = history.read()
    highest = now.version
    for name in acts:
        before, review = now, history.act(name)
        now = history.read()
        if now.content == before.content:
            assert now.version.rpartition(".")[2] == before.version.rpartition(".")[2]
        else:
            check_grown(history, highest, now)
        if review:
            assert parse_strict(review) < parse_strict(now.version)
            assert "-0.0.t" in review
        highest = max(highest, now.version, key=parse_strict)


def check_hotfixes(history: History, acts: list[tuple[bool, str]]) -> None:
    history.act("tag")
    history.start_branch()
    history.version = Version(2, 0, 0)
    history.act("edit")
    history.act("tag")
    newest = {"main": history.read()}
    history.go_on(BRANCH, Version(1, 0, 1))
    history.act("edit")
    newest[BRANCH] = history.read()
    versions = {"main": Version(2, 0, 0), BRANCH: history.version}
    for is_hotfix, name in acts:
        line = BRANCH if is_hotfix else "main"
        history.go_on(line, versions[line])
        review = history.act(name)
        now = history.read()
        if now.content != newest[line].content:
            check_grown(history, newest[line].version, now)
        if review:
            assert parse_strict(review) < parse_strict(now.version), acts
        newest[line], versions[line] = now, history.version
        hotfix = newest[BRANCH].version
        assert hotfix.startswith("1.0.") and "-0.0." not in hotfix, acts
        assert parse_strict(hotfix) < parse_strict(newest["main"].version), acts


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=st.lists(st.sampled_from(ACTS), min_size=2, max_size=6))
def test_snapshots_of_the_mainline_grow_whatever_the_history_and_reviews_stay_below(
    acts: list[str],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check_growth(GitHistory(Path(folder)), acts)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=st.lists(st.tuples(st.booleans(), st.sampled_from(ACTS)), min_size=2, max_size=6))
def test_hotfixes_of_an_old_line_have_snapshots_of_their_own_below_the_mainline(
    acts: list[tuple[bool, str]],
) -> None:
    """1.0.x goes on while 2.0.x is out: acts on either line, in any order."""
    with tempfile.TemporaryDirectory() as folder:
        check_hotfixes(GitHistory(Path(folder)), acts)


@pytest.mark.parametrize("system", SLOW)
@settings(max_examples=SLOW_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=st.permutations(ACTS))
def test_snapshots_grow_in_bazaar_and_subversion_as_in_git(
    system: str, monkeypatch: pytest.MonkeyPatch, acts: list[str]
) -> None:
    """One history with all acts."""
    with tempfile.TemporaryDirectory() as folder:
        for name, value in bazaars.environment(Path(folder)).items():
            monkeypatch.setenv(name, value)
        check_growth(SLOW[system](Path(folder)), acts)


@pytest.mark.parametrize("system", SLOW)
@settings(max_examples=SLOW_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=st.lists(st.tuples(st.booleans(), st.sampled_from(ACTS)), min_size=2, max_size=2))
def test_hotfixes_stay_below_in_bazaar_and_subversion_as_in_git(
    system: str, monkeypatch: pytest.MonkeyPatch, acts: list[tuple[bool, str]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, value in bazaars.environment(Path(folder)).items():
            monkeypatch.setenv(name, value)
        check_hotfixes(SLOW[system](Path(folder)), acts)


def test_shallow_clone_is_refused_on_the_mainline_and_counts_zero_in_a_review(
    tmp_path: Path,
) -> None:
    history = GitHistory(tmp_path)
    history.act("edit")
    history.act("elsewhere")
    clone = tmp_path / "clone"
    history.git.git("clone", "-q", "--depth=1", f"file://{history.git.root}", str(clone))
    checkout = Checkout(load((), environ={}, start=clone))
    with pytest.raises(MachineError, match="unshallow"):
        snapshot_version(checkout, checkout.chart("web"), {}, {})
    Repo(clone, tmp_path / "gitconfig").git("checkout", "-q", "-b", "fix")
    checkout = Checkout(load((), environ={}, start=clone))
    assert "-0.0.t" in snapshot_version(checkout, checkout.chart("web"), {}, {})
