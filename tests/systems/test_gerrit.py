"""What only Gerrit has: patch sets that come meanwhile, topics, submit types, its own refusals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.gerrits import Gerrit
from tools import processes
from tools.gerrit import server


def test_a_pushed_change_gets_patch_sets_and_votes(gerrit: Gerrit, tmp_path: Path) -> None:
    project = gerrit.project(tmp_path)
    first = project.push({"a": "1"})
    second = project.push({"a": "2"}, earlier=first)
    assert (first.patch_set, second.patch_set) == (1, 2)
    assert second.number == first.number
    project.vote(second, "ci", Verified=1)
    assert project.votes(second) == {"ci": 1}


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    code = (
        "import time; from pathlib import Path; from tools.gerrit import server; "
        f"server.up(Path({str(folder)!r}), tied=True); print('up', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        assert server.read(folder) is not None
        os.kill(starter.pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while processes.of_folder(folder) and time.monotonic() < end:
        time.sleep(0.05)
    assert not processes.of_folder(folder)
    server.down(folder)
    assert not folder.exists()


def test_a_folder_without_server_is_told(tmp_path: Path) -> None:
    command = [sys.executable, server.__file__, "status", "--folder", str(tmp_path / "g")]
    completed = subprocess.run(command, capture_output=True, text=True)
    assert completed.returncode == 7
    assert "no Gerrit runs in" in completed.stderr
