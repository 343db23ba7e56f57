"""An engine or node that several checkouts use is ended by the last of them, and by no other."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tools import users


class Machine:
    """The engine of a machine as `tools.users` sees it: running or not, and how often it was ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running = False
        self.ended = 0

    def start(self, started: users.Started) -> None:
        users.enter("engine", self.folder, started, running=self.is_running, base=self.base)
        self.running = True

    def stop(self, started: users.Started) -> None:
        users.leave("engine", started, self.end, base=self.base)

    @property
    def base(self) -> Path:
        return self.folder / "users"

    def is_running(self) -> bool:
        return self.running

    def end(self, folder: Path) -> None:
        assert folder == self.folder
        self.running = False
        self.ended += 1


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def clone(folder: Path, name: str, process: int | None = None) -> users.Started:
    return users.Started(folder / name / ".demo/started.json", process=process)


def test_the_last_of_two_clones_ends_it_whoever_started_it(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = clone(tmp_path, "first"), clone(tmp_path, "second")
    machine.start(first)
    machine.start(second)
    machine.stop(first)
    assert machine.running
    assert f"engine: left running, it is in use (noted in {second.path})" in capsys.readouterr().err
    machine.stop(clone(tmp_path, "first"))
    assert machine.running, "down again changes nothing"
    machine.stop(clone(tmp_path, "second"))
    assert (machine.running, machine.ended) == (False, 1)


def test_what_was_started_by_hand_is_left(machine: Machine, tmp_path: Path) -> None:
    machine.running = True
    started = clone(tmp_path, "first")
    machine.start(started)
    machine.stop(started)
    assert (machine.running, started.names) == (True, {})


def test_a_clone_that_was_removed_uses_nothing(machine: Machine, tmp_path: Path) -> None:
    removed, second = clone(tmp_path, "removed"), clone(tmp_path, "second")
    machine.start(removed)
    removed.path.unlink()
    machine.start(second)
    machine.stop(second)
    assert machine.ended == 1


def test_a_killed_test_run_uses_nothing(machine: Machine, tmp_path: Path) -> None:
    killed = subprocess.Popen(["true"])
    killed.wait()
    machine.start(clone(tmp_path, "killed", killed.pid))
    running = clone(tmp_path, "running", os.getpid())
    machine.start(running)
    second = clone(tmp_path, "second")
    machine.start(second)
    machine.stop(second)
    assert machine.running, "a test run that lives uses it"
    machine.stop(running)
    assert machine.ended == 1
