"""Which state files count: none that the source tracks, and in the build of a tag none that another
build left.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.one_chart import OneChart

PIPELINE = """\
charts:
  - path: charts/*
    tests: {{none: "a library, tested through its dependents"}}
channels:
  snapshot: {{charts: "file://{folder}/snapshots"}}
  production: {{charts: "file://{folder}/charts"{more}}}
"""
TAG = {
    "JENKINS_URL": "https://ci.example.com/",
    "BUILD_TAG": "jenkins-release-7",
    "TAG_NAME": "common-1.0.0",
}
OTHER = {
    "JENKINS_URL": "https://ci.example.com/",
    "BUILD_TAG": "jenkins-main-3",
    "BRANCH_NAME": "main",
}
CHAIN = ("check", "snapshot", "integration_test")


@pytest.fixture
def chart(tmp_path: Path) -> OneChart:
    for place in ("snapshots", "charts"):
        (tmp_path / place).mkdir()
    return OneChart(tmp_path, PIPELINE.format(folder=tmp_path, more=""), {})


def forged(chart: OneChart, folder: str = ".pipeline") -> None:
    """Commit the records of a chain that passed, and nothing else."""
    for step in CHAIN:
        chart.ok(step, "--all")
    state = (chart.repo.root / ".pipeline/state.jsonl").read_text()
    shutil.rmtree(chart.repo.root / ".pipeline")
    chart.repo.put(f"{folder}/state.jsonl", state)
    chart.repo.git("add", "-f", folder)
    chart.repo.commit("touches no chart")


def test_state_files_that_the_source_tracks_are_refused(chart: OneChart) -> None:
    """A commit that touched only .pipeline/ released a chart whose test always fails."""
    forged(chart)
    chart.repo.git("tag", "common-1.0.0")
    for words in (
        "check --all", "snapshot --all", "integration_test --all", "tag_release --local --all",
        "promote --tag common-1.0.0", "audit", "report --all", "state show", "state join .pipeline/state.jsonl",
        "reproduce snapshot/common", "run check --channels configured", "record --name scan --subject common -- true",
    ):  # fmt: skip
        completed = chart.run(*words.split())
        assert completed.returncode == 2, (words, completed.stderr)
        assert (
            "the source tracks this state file" in completed.stderr
            and ".pipeline/state.jsonl" in completed.stderr
        )


def test_a_state_file_that_is_added_and_not_committed_is_refused(chart: OneChart) -> None:
    chart.ok("check", "--all")
    chart.repo.git("add", "-f", ".pipeline/state.jsonl")
    for words in (("check", "--all"), ("state", "show")):
        done = chart.run(*words)
        assert done.returncode == 2 and "the source tracks this state file" in done.stderr, done
    chart.repo.git("rm", "-q", "--cached", ".pipeline/state.jsonl")
    chart.ok("check", "--all")


def test_another_tracked_state_file_is_refused_by_its_name_and_behind_links(
    chart: OneChart,
) -> None:
    forged(chart, "kept")
    for words in (("check", "--all"), ("state", "show")):
        completed = chart.run(*words, "--state", "kept/state.jsonl")
        assert (
            completed.returncode == 2 and "the source tracks this state file" in completed.stderr
        ), completed.stderr
    chart.ok("check", "--all")
    state = chart.repo.root / ".pipeline/state.jsonl"
    own = state.read_bytes()
    joined = chart.run("state", "join", "kept/state.jsonl")
    assert joined.returncode == 2 and "the source tracks this state file" in joined.stderr, joined
    assert state.read_bytes() == own
    shutil.copy(
        chart.repo.root / "kept/state.jsonl", chart.repo.root / ".pipeline/state.other.jsonl"
    )
    chart.ok("check", "--all")
    (chart.repo.root / ".pipeline/state.other.jsonl").unlink()
    (chart.repo.root / ".pipeline/state.other.jsonl").symlink_to("../kept/state.jsonl")
    completed = chart.run("check", "--all")
    assert completed.returncode == 2 and "state.other.jsonl" in completed.stderr, completed.stderr
    assert state.read_bytes().startswith(own)


def test_without_a_store_a_tag_is_built_in_a_clean_workspace(chart: OneChart) -> None:
    """What another build left there is named; what this one's earlier stages made is not."""
    with_env(chart, OTHER)
    chart.ok("check", "--all")
    chart.repo.git("tag", "common-1.0.0")
    with_env(chart, TAG)
    for step in (*CHAIN, "promote"):
        completed = chart.run(step)
        assert completed.returncode == 4, completed.stderr
        assert (
            "not of this build" in completed.stderr
            and "docs/how-to/evidence.md" in completed.stderr
        ), completed.stderr
    shutil.rmtree(chart.repo.root / ".pipeline")
    for step in (*CHAIN, "promote"):
        chart.ok(step)
    assert (chart.folder / "charts/common-1.0.0.tgz").is_file()


def test_with_a_store_a_tag_build_counts_and_hands_on_only_its_own_files(chart: OneChart) -> None:
    believed = chart.folder / "believed"
    more = f', evidence: ["{believed.as_uri()}"]'
    chart.repo.put("pipeline.yaml", PIPELINE.format(folder=chart.folder, more=more))
    chart.repo.commit("a store")
    with_env(chart, OTHER)
    for step in CHAIN:
        chart.ok(step, "--all")
    assert not believed.exists(), "this build does not write there"
    left = {record["id"] for record in records(chart)}
    chart.repo.git("tag", "common-1.0.0")
    with_env(chart, TAG)
    completed = chart.run("promote")
    assert completed.returncode == 4 and "no record of check" in completed.stderr, completed.stderr
    for step in CHAIN:
        assert "already done" not in chart.ok(step).stderr
    chart.ok("promote")
    kept = {json.loads(path.read_bytes())["id"] for path in believed.glob("records/*/*.json")}
    assert kept and not left & kept
    used = {
        identity
        for record in records(chart)
        if record["step"] == "promote"
        for identity in record["uses"]
    }
    assert used and not left & used


def with_env(chart: OneChart, build: dict[str, str]) -> None:
    for name in {*TAG, *OTHER}:
        chart.environment.pop(name, None)
    chart.environment.update(build)


def records(chart: OneChart) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in (chart.repo.root / ".pipeline/state.jsonl").read_text().splitlines()
    ]
