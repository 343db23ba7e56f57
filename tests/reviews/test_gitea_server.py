"""The Gitea of tools/gitea: run by an account without rights, gone with whoever started it."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.support.giteas import Forge
from tools import environment, processes
from tools.gitea import build, gitea
from tools.machine import Cannot

STARTER = """\
import sys
from tools.gitea import gitea
with gitea.serve() as server:
    print(server.folder, server.url, server.pid, flush=True)
    sys.stdin.read()
"""


def test_the_version_is_the_pinned_one_and_the_account_has_no_rights(forge: Forge) -> None:
    assert forge.call("GET", "/version", "ci") == {"version": build.version()}
    if os.geteuid() == 0:
        owner = Path(f"/proc/{forge.server.pid}").stat().st_uid
        assert pwd.getpwuid(owner).pw_name == "nobody"


def test_a_killed_starter_takes_the_server_with_it_and_its_folder_is_removed_later() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER], cwd=environment.ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as starter:  # fmt: skip
        assert starter.stdout is not None
        folder, url, pid = starter.stdout.readline().split()
        server = processes.identity(int(pid))
        assert server
        starter.send_signal(signal.SIGKILL)
    end = time.monotonic() + 10
    while processes.alive(server) and time.monotonic() < end:
        time.sleep(0.02)
    assert not processes.alive(server)
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=5)
    assert Path(folder).exists()
    gitea.remove_abandoned()
    assert not Path(folder).exists()


def test_folders_of_living_servers_are_kept(forge: Forge) -> None:
    gitea.remove_abandoned()
    assert (forge.server.folder / "gitea.db").exists()


def test_a_server_that_ends_at_start_is_told_with_its_log(tmp_path: Path) -> None:
    server = gitea.Gitea(tmp_path)
    program = tmp_path / "gitea"
    program.write_text("#!/bin/sh\necho no database >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(Cannot, match=r"gitea ended with \d+ at start"):
        server.start()
