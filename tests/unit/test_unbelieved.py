"""What the build of a fork hands over, read as hostile and believed for nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline_steps.reporting.unbelieved import Claim, read_claim, verdict
from pipeline_steps.toolbox.errors import MachineError


def record(word: object, finished: str = "2026-01-02T00:00:00Z", **charts: str) -> str:
    outputs: dict[str, Any] = {"verdict": word}
    parameters = {"charts": charts}
    return json.dumps(
        {"step": "report", "finished": finished, "outputs": outputs, "parameters": parameters}
    )


@pytest.mark.parametrize("word", ["positive", "negative", "incomplete", ""])
def test_whatever_is_claimed_the_verdict_is_incomplete(word: str) -> None:
    told = verdict(Claim(word, ("web",)), "d" * 40, "https://ci.example.com/1")
    assert told.word == "incomplete"
    assert "not believed" in told.summary
    assert "not believed" in told.text
    assert told.revision == "d" * 40


def test_the_newest_claim_of_all_files_is_told(tmp_path: Path) -> None:
    (tmp_path / "state.jsonl").write_text(record("negative", "2026-01-03T00:00:00Z", web="1"))
    (tmp_path / "state.1-of-2.jsonl").write_text(record("positive", "2026-01-02T00:00:00Z"))
    assert read_claim(tmp_path) == Claim("negative", ("web",))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[" * 100_000,
        "null",
        '{"step": "report"}',
        '{"step": "report", "outputs": [], "parameters": 7}',
        record(["positive"]),
        record("passed"),
        "\x00\xff",
    ],
)
def test_what_is_no_record_of_a_report_says_nothing(tmp_path: Path, line: str) -> None:
    (tmp_path / "state.jsonl").write_text(line)
    assert read_claim(tmp_path) == Claim("", ())


def test_names_that_no_chart_may_have_are_left_out(tmp_path: Path) -> None:
    names = {"web": "1", "@all": "1", "](https://x.example.com)": "1", "a" * 64: "1", "`": "1"}
    (tmp_path / "state.jsonl").write_text(record("positive", **names))
    assert read_claim(tmp_path).charts == ("web",)


def test_no_link_is_followed_and_no_pipe_waited_for(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text(record("negative"))
    folder = tmp_path / "handed-over"
    folder.mkdir()
    (folder / "state.jsonl").symlink_to(outside)
    os.mkfifo(folder / "state.1-of-2.jsonl")
    (folder / "state.2-of-2.jsonl").mkdir()
    assert read_claim(folder) == Claim("", ())
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(MachineError, match="handed over does not exist"):
        read_claim(tmp_path / "link")
