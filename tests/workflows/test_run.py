"""`pipeline-steps run` as a log sees it: real git and helm, a folder as repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.one_chart import CHART, MAP, OneChart

PIPELINE = """\
charts:
  - path: charts/*
    tests: {{none: "a library, tested through its dependents"}}
channels:
  snapshot: {{charts: "file://{folder}/snapshots"}}
"""
RUN = ("run", "check", "snapshot", "--channels", "configured")


@pytest.fixture
def one(tmp_path: Path) -> OneChart:
    """A checkout with the charts common and other."""
    (tmp_path / "snapshots").mkdir()
    found = OneChart(tmp_path, PIPELINE.format(folder=tmp_path), {})
    found.repo.put("charts/other/Chart.yaml", CHART.replace("common", "other"))
    found.repo.put("charts/other/templates/map.yaml", MAP)
    found.repo.commit()
    return found


def charts_told(text: str) -> set[str]:
    """The charts whose chain stands at the end."""
    return set(re.findall(r"^(\w+)  (?:content|snapshot) ", text, re.MULTILINE))


def test_quiet_says_only_errors(one: OneChart) -> None:
    assert one.ok(*RUN, "--quiet", "--all").stderr == ""


def test_the_chain_is_that_of_the_charts_of_this_run(one: OneChart) -> None:
    for name in ("common", "other", "common"):
        assert charts_told(one.ok(*RUN, "--chart", name).stderr) == {name}
    assert charts_told(one.ok("run", "check", "--all", "--shard", "2/2", *RUN[3:]).stderr) == {"other"}
    assert charts_told(one.ok("run", "report", "--all", *RUN[3:]).stderr) == {"common", "other"}


def test_a_chart_that_fails_is_not_shown_with_the_chain_of_its_content_before(one: OneChart) -> None:
    before = one.ok(*RUN, "--chart", "common").stderr
    (content,) = re.findall(r"^common  content +(\S+)$", before, re.MULTILINE)
    one.repo.put("charts/common/templates/map.yaml", "{{ fail `no greeting` }}\n")
    one.repo.commit()
    done = one.run(*RUN, "--chart", "common")
    assert done.returncode == 8
    assert content not in done.stderr
    assert "\ncommon  snapshot           none\n" in done.stderr


def test_things_lie_beside_the_state_file_that_was_named(one: OneChart) -> None:
    done = one.ok(*RUN, "--chart", "common", "--state", "elsewhere/state.jsonl")
    folder = one.repo.root / "elsewhere"
    assert f"\nJUnit: {folder}/junit\nlogs of failures: {folder}/failures\n" in done.stderr
    assert list((folder / "junit").glob("check-common-*.xml"))
