from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_steps.toolbox import progress


def test_counter_logs_lines_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter([0.0, 4.0, 10.0, 12.0])
    monkeypatch.setattr("pipeline_steps.toolbox.progress.time.monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO), progress.counter("versions", 8) as advance:
        for _ in range(3):
            advance()
    assert caplog.messages == ["2 of 8 versions, 0/s, 30 s left"]


def test_clock_logs_each_phase_without_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), progress.clock() as begin:
        begin("check")
        begin("snapshot")
    assert caplog.messages == ["check ...", "snapshot ..."]


def on_a_terminal(code: str) -> str:
    """What a program shows on a terminal."""
    terminal, side = pty.openpty()
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "TERM": "xterm",
        "COLUMNS": "100",
    }
    subprocess.run([sys.executable, "-c", code], stderr=side, env=environment, check=True)
    os.close(side)
    shown = os.read(terminal, 65536).decode()
    os.close(terminal)
    return shown


COUNTED = """
from pipeline_steps.cli import boundary
from pipeline_steps.toolbox import progress
boundary.setup_logging()
with progress.counter("versions", 8) as advance:
    for _ in range(3): advance()
    boundary.log.info("web [1.0.0] has other files")
"""
CLOCKED = """
from pipeline_steps.cli import boundary
from pipeline_steps.toolbox import progress
boundary.setup_logging()
with progress.clock() as begin:
    begin("check"); begin("snapshot")
    boundary.log.info("web [1.0.0] is done")
"""


def test_counter_shows_a_bar_on_a_terminal() -> None:
    shown = on_a_terminal(COUNTED)
    assert "versions" in shown and "3/8" in shown and "web [1.0.0] has other files" in shown


def test_clock_shows_the_running_phase_on_a_terminal() -> None:
    shown = on_a_terminal(CLOCKED)
    assert "snapshot" in shown and "0:00:00" in shown and "web [1.0.0] is done" in shown
    assert "snapshot ..." not in shown
