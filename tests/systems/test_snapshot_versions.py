"""Versions of snapshots over histories as people make them, in real git repositories."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_steps.building.packaging import is_version_taken, snapshot_version
from pipeline_steps.charts.version import Version, bump, parse_strict, to_tag
from pipeline_steps.config.config_file import load
from pipeline_steps.toolbox.errors import MachineError
from pipeline_steps.workspace.checkout import Checkout
from tests.support.gits import Repo, chart

#: What a team does next. merge, squash, rebase: how a review of two commits comes to the mainline.
ACTS = ("edit", "elsewhere", "merge", "squash", "rebase", "revert", "tag", "raise")
BRANCH = "release/1.0"


class History:
    """A repository with one chart; every act ends on the branch `line`, main at first."""

    def __init__(self, folder: Path) -> None:
        self.repo = Repo(folder / "checkout", folder / "gitconfig")
        self.numbers = itertools.count()
        self.line = "main"
        self.version = Version(1, 0, 0)
        self.repo.put("pipeline.yaml", "charts: [{path: charts/*}]\n")
        self.write()
        self.repo.commit()

    def write(self) -> None:
        self.repo.put("charts/web/Chart.yaml", chart("web", str(self.version)))
        self.repo.put("charts/web/values.yaml", f"number: {next(self.numbers)}\n")

    def checkout(self) -> Checkout:
        return Checkout(load((), environ={}, start=self.repo.root))

    def snapshot(self) -> str:
        checkout = self.checkout()
        return snapshot_version(checkout, checkout.chart("web"), {}, {})

    def review(self) -> str:
        """Two commits on a branch of their own; returns the version of its snapshot."""
        self.repo.git("checkout", "-q", "-B", "fix")
        self.repo.put("unrelated", str(next(self.numbers)))
        self.repo.commit()
        self.write()
        self.repo.commit()
        version = self.snapshot()
        self.repo.git("checkout", "-q", self.line)
        return version

    def act(self, name: str) -> str:
        """Do it; returns the version of the review's snapshot, "" where there was none."""
        review = ""
        if name in ("merge", "squash", "rebase"):
            review = self.review()
            if name == "merge":
                self.repo.git("merge", "-q", "--no-ff", "-m", "merge", "fix")
            elif name == "squash":
                self.repo.git("merge", "-q", "--squash", "fix")
                self.repo.commit("squashed")
            else:
                self.repo.git("merge", "-q", "--ff-only", "fix")
        elif name == "edit":
            self.write()
            self.repo.commit()
        elif name == "elsewhere":
            self.repo.put("unrelated", str(next(self.numbers)))
            self.repo.commit()
        elif name == "revert":
            self.repo.put("charts/web/values.yaml", "number: 0\n")
            self.repo.commit()
        elif name == "raise":
            self.version = bump(self.version)
            self.write()
            self.repo.commit()
        elif name == "tag":
            checkout = self.checkout()
            if not is_version_taken(checkout, checkout.chart("web")):
                self.repo.git("tag", "-f", f"web-{self.version}")
        return review

    def go_on(self, line: str, version: Version) -> None:
        """Go to another line of development, where the chart has this version."""
        self.line, self.version = line, version
        self.repo.git("checkout", "-q", line)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=st.lists(st.sampled_from(ACTS), min_size=2, max_size=6))
def test_snapshots_of_the_mainline_grow_whatever_the_history_and_reviews_stay_below(
    acts: list[str],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder))
        content, version = history.checkout().chart("web").content, history.snapshot()
        for name in acts:
            review = history.act(name)
            chart_now = history.checkout().chart("web")
            newest = history.snapshot()
            assert to_tag(newest) == newest
            if chart_now.content == content:
                assert newest.rpartition(".")[2] == version.rpartition(".")[2], acts
            else:
                assert parse_strict(newest) > parse_strict(version), acts
            assert parse_strict(newest) < bump(parse_strict(newest)), acts
            if review:
                assert parse_strict(review) < parse_strict(newest), acts
                assert "-0.0.t" in review
            content, version = chart_now.content, newest


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=st.lists(st.tuples(st.booleans(), st.sampled_from(ACTS)), min_size=2, max_size=6))
def test_hotfixes_of_an_old_line_have_snapshots_of_their_own_below_the_mainline(
    acts: list[tuple[bool, str]],
) -> None:
    """1.0.x goes on while 2.0.x is out: acts on either line, in any order."""
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder))
        history.act("tag")
        history.repo.git("branch", BRANCH)
        history.version = Version(2, 0, 0)
        history.act("edit")
        history.act("tag")
        newest = {"main": history.snapshot()}
        history.go_on(BRANCH, Version(1, 0, 1))
        history.act("edit")
        newest[BRANCH] = history.snapshot()
        versions = {"main": Version(2, 0, 0), BRANCH: history.version}
        for is_hotfix, name in acts:
            line = BRANCH if is_hotfix else "main"
            history.go_on(line, versions[line])
            content = history.checkout().chart("web").content
            review = history.act(name)
            snapshot, chart_now = history.snapshot(), history.checkout().chart("web")
            if chart_now.content != content:
                assert parse_strict(snapshot) > parse_strict(newest[line]), acts
            if review:
                assert parse_strict(review) < parse_strict(snapshot), acts
            newest[line], versions[line] = snapshot, history.version
            assert newest[BRANCH].startswith("1.0.") and "-0.0." not in newest[BRANCH], acts
            assert parse_strict(newest[BRANCH]) < parse_strict(newest["main"]), acts


def test_shallow_clone_is_refused_on_the_mainline_and_counts_zero_in_a_review(
    tmp_path: Path,
) -> None:
    history = History(tmp_path)
    history.act("edit")
    history.act("elsewhere")
    clone = tmp_path / "clone"
    history.repo.git("clone", "-q", "--depth=1", f"file://{history.repo.root}", str(clone))
    checkout = Checkout(load((), environ={}, start=clone))
    with pytest.raises(MachineError, match="unshallow"):
        snapshot_version(checkout, checkout.chart("web"), {}, {})
    Repo(clone, tmp_path / "gitconfig").git("checkout", "-q", "-b", "fix")
    checkout = Checkout(load((), environ={}, start=clone))
    assert "-0.0.t" in snapshot_version(checkout, checkout.chart("web"), {}, {})
