"""Which record STEP/SUBJECT stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_steps.commands.reproduce import find_record
from pipeline_steps.state.state import State
from tests.support.records import Story, digest


@pytest.mark.parametrize("hosts", [("here", "there"), ("there", "here")])
def test_of_unordered_records_the_one_that_steps_take_is_reproduced(
    tmp_path: Path, hosts: tuple[str, str]
) -> None:
    """The file's last one was."""
    state = State(tmp_path / "state.jsonl", channel_locations=["oci://here.example.com/x"])
    reproduced = Story(state)
    for host in hosts:
        outputs = {"chart": f"oci://{host}.example.com/x/hello:1.0.0@{digest(host)}"}
        reproduced.add("snapshot", "hello", "first", outputs=outputs)
    matching = find_record(state, "snapshot/hello", last_failed=False)
    assert "here.example.com" in matching.outputs["chart"]


def test_what_is_checked_out_comes_before_what_was_recorded_last(tmp_path: Path) -> None:
    state = State(tmp_path / "state.jsonl")
    reproduced = Story(state)
    first, second = (
        reproduced.add("snapshot", "hello", content) for content in ("first", "second")
    )
    for contents, wanted in (([digest("first")], first), ([], second), ([digest("x")], second)):
        assert find_record(state, "snapshot/hello", last_failed=False, contents=contents) == wanted


def test_a_superseded_verdict_is_reproduced_only_as_a_failure(tmp_path: Path) -> None:
    state = State(tmp_path / "state.jsonl")
    reproduced = Story(state)
    failed = reproduced.add("integration_test", "hello", "first", "failed")
    passed = reproduced.add("integration_test", "hello", "first", supersedes=[failed.id])
    name = "integration_test/hello"
    assert find_record(state, name, last_failed=False) == passed
    assert find_record(state, name, last_failed=True) == failed
