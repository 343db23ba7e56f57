from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from pipeline_steps.toolbox import errors
from pipeline_steps.toolbox.errors import Conflict, MachineError, PipelineError
from pipeline_steps.toolbox.worker_pool import worker_pool

ROOT = Path(__file__).parents[2]
processes_only = pytest.mark.skipif(
    not hasattr(sys.flags, "safe_path"),
    reason="before Python 3.11 a worker works in the process of the step",
)


class Square:
    """A worker for these tests."""

    def __init__(self, less: int) -> None:
        if less < 0:
            raise MachineError("no git", where="here", advice="install git")
        self.less = less

    def __call__(self, number: int) -> int:
        if number == 13:
            raise ValueError("unlucky")
        if number == 14:
            raise Conflict("other content", where="web 1.0.0", advice="raise the version")
        if number == 15:
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number - self.less

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("processes", [1, 3])
def test_results_come_in_the_order_of_their_tasks(processes: int) -> None:
    with worker_pool(Square, 1, processes) as map_tasks:
        assert list(map_tasks(range(12))) == [n * n - 1 for n in range(12)]
        assert list(map_tasks([])) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_a_bug_in_a_worker_is_raised_with_its_place(processes: int) -> None:
    with (
        pytest.raises(ValueError, match="unlucky") as caught,
        worker_pool(Square, 1, processes) as map_tasks,
    ):
        list(map_tasks(range(14)))
    if processes > 1 and hasattr(sys.flags, "safe_path"):
        assert 'raise ValueError("unlucky")' in str(caught.value.__cause__)


@pytest.mark.parametrize("processes", [1, 2])
def test_an_expected_error_keeps_its_class_place_and_advice(processes: int) -> None:
    with pytest.raises(Conflict) as caught, worker_pool(Square, 1, processes) as map_tasks:
        list(map_tasks([14]))
    assert str(caught.value) == "web 1.0.0: other content (raise the version)"


@pytest.mark.parametrize("processes", [1, 2])
def test_a_worker_that_cannot_begin_says_why(processes: int) -> None:
    with (
        pytest.raises(MachineError, match="here: no git"),
        worker_pool(Square, -1, processes) as map_tasks,
    ):
        list(map_tasks([1]))


def every_error(above: type[PipelineError] = PipelineError) -> Iterator[type[PipelineError]]:
    for kind in above.__subclasses__():
        yield kind
        yield from every_error(kind)


@pytest.mark.parametrize("kind", [*every_error()], ids=lambda kind: kind.__name__)
def test_every_error_can_be_pickled(kind: type[PipelineError]) -> None:
    if kind is errors.Interrupted:
        error: PipelineError = errors.Interrupted(15)
    else:
        error = kind("a thing", where="a place")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.exit_code) == (kind, str(error), error.exit_code)


@processes_only
def test_a_killed_worker_is_the_machines_fault_and_says_what_to_do() -> None:
    began = time.monotonic()
    with (
        pytest.raises(MachineError, match=r"killed.*fewer --jobs"),
        worker_pool(Square, 1, 2) as map_tasks,
    ):
        list(map_tasks([1, 15, *range(12)]))
    assert time.monotonic() - began < 10


@processes_only
def test_the_end_of_a_pool_closes_no_file_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads of it may close one file. A close that takes long makes them meet, which a busy
    machine does once in hundreds of runs.
    """

    def close_slowly(connection: Any) -> None:
        os.close(connection.fileno())  # EBADF for the second of two
        time.sleep(0.3)

    unhandled: list[object] = []
    monkeypatch.setattr(threading, "excepthook", unhandled.append)
    with worker_pool(Square, 1, 2) as map_tasks:
        assert list(map_tasks([1])) == [0]
        monkeypatch.setattr(Connection, "_close", close_slowly)
    assert unhandled == []


@processes_only
def test_tasks_are_taken_as_their_results_are() -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(12):
            taken.append(number)
            yield number

    with worker_pool(Square, 1, 2) as map_tasks:
        results = map_tasks(tasks())
        assert next(results) == -1 and len(taken) == 5
        assert next(results) == 0 and len(taken) == 6


class Slow:
    """A worker that writes its process number into a folder, and sleeps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, task: tuple[int, bytes]) -> int:
        (self.folder / str(os.getpid())).touch()
        time.sleep(task[0])
        return task[0]

    def close(self) -> None:
        """Nothing is open."""


def started(folder: Path) -> subprocess.Popen[str]:
    """A step that waits for two busy workers of its own."""
    code = (
        "from pathlib import Path\n"
        "from pipeline_steps.cli import boundary\n"
        "from pipeline_steps.toolbox.worker_pool import worker_pool\n"
        "from tests.unit.test_worker_pool import Slow\n"
        "def work():\n"
        "    boundary.handle_signals(); boundary.setup_logging()\n"
        f"    with worker_pool(Slow, Path({str(folder)!r}), 2) as map_tasks:\n"
        "        list(map_tasks([(30, bytes(200_000))] * 9))\n"  # more than a pipe holds
        "    return 0\n"
        "raise SystemExit(boundary.run_main(work))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    child = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True
    )
    while len(list(folder.iterdir())) < 2:
        assert child.poll() is None, child.communicate()
        time.sleep(0.01)
    return child


def gone(folder: Path) -> bool:
    """Whether the workers end within two seconds; a zombie has ended."""
    deadline = time.monotonic() + 2
    while any(alive(int(path.name)) for path in folder.iterdir()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@processes_only
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_workers_with_their_step(tmp_path: Path, number: signal.Signals) -> None:
    child = started(tmp_path)
    began = time.monotonic()
    child.send_signal(number)
    told = child.communicate(timeout=60)[1]
    assert (child.returncode, told) == (128 + number, f"stopped by signal {number.value}\n")
    assert time.monotonic() - began < 4 and gone(tmp_path)


@processes_only
def test_workers_end_with_a_killed_step(tmp_path: Path) -> None:
    child = started(tmp_path)
    child.kill()
    child.communicate(timeout=60)
    assert gone(tmp_path)


@processes_only
def test_a_signal_to_workers_first_is_no_fault_of_the_machine(tmp_path: Path) -> None:
    child = started(tmp_path)
    for path in tmp_path.iterdir():
        os.kill(int(path.name), signal.SIGTERM)
    time.sleep(0.1)
    child.terminate()
    assert (
        "stopped by signal 15" in child.communicate(timeout=60)[1]
        and child.returncode == 128 + signal.SIGTERM
    )


def test_workers_load_no_module_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "multiprocessing.py").write_text(
        "raise SystemExit('a module of the checkout was run')\n"
    )
    monkeypatch.chdir(tmp_path)
    with worker_pool(Square, 1, 2) as map_tasks:
        assert list(map_tasks(range(3))) == [-1, 0, 3]
    assert "PYTHONSAFEPATH" not in os.environ
