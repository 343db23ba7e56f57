"""Background programs that outlive the command that started them.

A daemon is recognised by its command line and start time. Programs that end while we wait belong to
`process`. Linux only: it reads /proc.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pipeline_steps.toolbox.errors import ToolMissing
from pipeline_steps.toolbox.process import environment, with_program_path

#: Seconds that a process may take to end after SIGTERM, and again after SIGKILL.
GRACE = 5.0


class Daemon(msgspec.Struct, frozen=True):
    """A background process.

    started: clock ticks from boot to its start; they tell it from a later process with the same
    pid.
    """

    argv: tuple[str, ...]
    pid: int
    started: int


def start(argv: Sequence[str], *, cwd: Path, log: Path) -> Daemon:
    """Start a program in a session of its own, both outputs to `log`. Raises ToolMissing."""
    variables = environment()
    with log.open("ab") as output:
        try:
            child = subprocess.Popen(
                with_program_path(argv, variables),
                cwd=cwd,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise ToolMissing(f"{argv[0]} is not installed", advice=f"install {argv[0]}") from error
    # Nobody waits for this child. Without a return code, Popen warns "still running" when it
    # is collected.
    child.returncode = 0
    return Daemon(tuple(argv), child.pid, _stat(child.pid)[1] or 0)


def alive(daemon: Daemon) -> bool:
    """Whether this process still runs. A later process with the same pid does not count."""
    with contextlib.suppress(ChildProcessError):
        # If it was our own child, reap it: a zombie still has an entry in /proc.
        os.waitpid(daemon.pid, os.WNOHANG)
    state, started = _stat(daemon.pid)
    return started == daemon.started and state not in ("Z", "X", "")


def find(argv: Sequence[str]) -> list[Daemon]:
    """Running processes with exactly these arguments (the program's own path may differ)."""
    daemons = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            arguments = (
                (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
            )
            if arguments[1:] == list(argv[1:]):
                state, started = _stat(int(folder.name))
                if started is not None and state not in ("Z", "X"):
                    daemons.append(Daemon(tuple(arguments), int(folder.name), started))
    return daemons


def stop(daemon: Daemon) -> None:
    """End the process: SIGTERM, and SIGKILL when it is still there after GRACE seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not alive(daemon):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon.pid, number)
        end = time.monotonic() + GRACE
        while alive(daemon) and time.monotonic() < end:
            time.sleep(0.02)


def _stat(pid: int) -> tuple[str, int | None]:
    """State letter and start time of a process; ("", None) when there is none."""
    try:
        # proc(5): the name in parentheses may itself hold spaces and parentheses, so count from the
        # last one.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return "", None
    # proc(5): after the name come the state (field 3) and, at index 19, starttime (field 22).
    return fields[0], int(fields[19])
