"""Daemons of a run folder: started with a mark, found again by it, ended without a trace.

Everything started carries its run folder in the environment, and so does what it starts in turn
(containerd its shims); what runs inside containers is known by its root file system, which lies in
the folder. So a run whose starter was killed at any point is found whole: no list of process ids
has to be right.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.machine import Cannot, Misuse, wait_until

MARK = "PIPELINE_STEPS_RUN_FOLDER"
OWNED = ".run-folder"
#: Sockets of the daemons lie in the folder, and a socket's path has at most 107 characters.
LONGEST_FOLDER = 68


class Daemons:
    """The daemons one `up` starts: watched while waiting, so that one which dies at start is told
    with its log.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, command: list[str], environment: dict[str, str] | None = None
    ) -> None:
        """Start a daemon of its own session, logging to <folder>/logs/<name>.log."""
        log = self.folder / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as output:
            self.running[name] = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, env={**os.environ, **(environment or {}), MARK: str(self.folder)},
            )  # fmt: skip

    def check(self) -> None:
        """Raises Cannot naming a daemon that has ended, with its last log lines."""
        for name, process in self.running.items():
            if process.poll() is not None:
                log = self.folder / "logs" / f"{name}.log"
                raise Cannot(
                    f"{name} ended with {process.returncode} at start; the end of its "
                    f"log:\n{last_lines(log)}"
                )

    def wait(self, what: str, ready: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until `ready`; Cannot when a daemon dies or the time is over (with all logs'
        places).
        """
        try:
            wait_until(ready, what, seconds, self.check)
        except Cannot as refusal:
            logs = "".join(
                f"\n--- {name}\n{last_lines(self.folder / 'logs' / f'{name}.log', 4)}"
                for name in self.running
            )
            raise Cannot(
                f"{refusal}{logs}" if "ended with" not in str(refusal) else str(refusal)
            ) from None

    def let_go(self) -> dict[str, str]:
        """name -> identity, for `alive`. From now on the daemons live on their own, whatever
        becomes of us.
        """
        self.check()
        identities = {name: identity(process.pid) for name, process in self.running.items()}
        for process in self.running.values():
            process.returncode = 0  # else Popen warns that they run when it is forgotten
        return identities


def last_lines(log: Path, count: int = 12) -> str:
    """The end of a log file, each line cut to 300 characters."""
    if not log.exists():
        return "(no log)"
    return (
        "\n".join(line[:300] for line in log.read_text(errors="replace").splitlines()[-count:])
        or "(empty log)"
    )


def identity(pid: int) -> str:
    """`pid:start time:boot`, which no other process ever has; empty when it does not run (or is a
    zombie).
    """
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    if after_name[0] in "ZX":
        return ""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{pid}:{after_name[19]}:{boot}"


def alive(process_identity: str) -> bool:
    """Whether the process with this identity runs."""
    return (
        bool(process_identity)
        and identity(int(process_identity.partition(":")[0])) == process_identity
    )


def running_facts(file: Path) -> dict[str, Any] | None:
    """What a tool wrote about the daemons it started, when all of them run."""
    try:
        document: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return document if all(map(alive, document["processes"].values())) else None


def of_folder(folder: Path) -> list[int]:
    """All processes of a run folder: the marked ones, and those whose root file system lies in it."""
    mark = f"{MARK}={folder}".encode()
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                marked = mark in (entry / "environ").read_bytes().split(b"\0")
                if (marked or rooted_in(entry, folder)) and identity(int(entry.name)):
                    pids.append(int(entry.name))
    return pids


def rooted_in(process: Path, folder: Path) -> bool:
    """Whether a process (its folder in /proc) sees a file system of `folder` as its root."""
    for line in (process / "mountinfo").read_text(errors="replace").splitlines():
        fields = line.split(" ")
        if fields[4] == "/" and f"{folder}/" in line:
            return True
    return False


def end_all(folder: Path, *, first: list[int], seconds: float = 10) -> None:
    """End every process of the folder: `first` politely, one after the other, then all that are
    left at once.

    Raises Cannot when one outlives even that.
    """
    for pid in first:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + 3
    while any(identity(pid) for pid in first) and time.monotonic() < end:
        time.sleep(0.02)
    end = time.monotonic() + seconds
    ended = set(first)
    while left := of_folder(folder):
        ended.update(left)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > end:
            raise Cannot(f"processes {left} of {folder} cannot be ended")
        time.sleep(0.05)
    reap(sorted(ended))


def reap(pids: list[int]) -> None:
    """Take leave of those that have ended and were started by this very process; no other child is
    waited for.
    """
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def mounts_below(folder: Path) -> list[str]:
    """Mount points inside the folder, innermost first."""
    points = [line.split(" ")[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    plain = [re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), point) for point in points]
    return sorted((point for point in plain if point.startswith(f"{folder}/")), reverse=True)


def claim(folder: Path, kind: str) -> Path:
    """Make the run folder, or take an empty one or an earlier one of this kind. Full path of it.

    Raises Misuse when it holds something else or its path is too long for sockets.
    """
    folder = folder.resolve()
    if len(str(folder)) > LONGEST_FOLDER:
        raise Misuse(
            f"{folder}: the path has more than {LONGEST_FOLDER} characters, too long for "
            "sockets inside it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()) and not owned(folder, kind):
        raise Misuse(
            f"{folder} is not empty and not a run folder of this {kind}: name another with --folder"
        )
    (folder / OWNED).write_text(kind)
    return folder


def owned(folder: Path, kind: str) -> bool:
    """Whether the folder is a run folder of this kind."""
    mark = folder / OWNED
    return mark.is_file() and mark.read_text() == kind


def remove(folder: Path) -> None:
    """Unmount all below a run folder and delete it. No process of it may run any more."""
    while points := mounts_below(folder):
        completed = subprocess.run(["umount", "--lazy", *points], capture_output=True, text=True)
        if completed.returncode and mounts_below(folder) == points:
            raise Cannot(f"cannot unmount below {folder}: {completed.stderr.strip()}")
    for entry in folder.iterdir():
        if (
            entry.name != OWNED
        ):  # the mark goes last, so that a removal cut short can be taken up again
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    shutil.rmtree(folder)


def remove_cgroups(name: str) -> None:
    """Remove the control groups /<name> and all below, in every hierarchy; they hold no process any
    more.
    """
    for top in (*Path("/sys/fs/cgroup").glob(name), *Path("/sys/fs/cgroup").glob(f"*/{name}")):
        for group, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(FileNotFoundError):
                Path(group).rmdir()


def remove_empty_cgroup(name: str) -> None:
    """Remove the control group /<name> in the hierarchies where nobody else has one below it or a
    process in it.
    """
    for group in (*Path("/sys/fs/cgroup").glob(name), *Path("/sys/fs/cgroup").glob(f"*/{name}")):
        with contextlib.suppress(OSError):
            group.rmdir()


def remove_common_traces(*folders: str) -> None:
    """Remove what containerd and runc leave at fixed places: sockets nobody listens to, folders
    that are empty.

    Other engines on this machine use the same places: what is theirs is neither dead nor empty.
    """
    for path in Path("/run/containerd/s").glob("*"):
        if not connects(path):
            path.unlink(missing_ok=True)
    for name in (*folders, "/run/containerd/s"):
        for folder in (
            Path(name),
            *Path(name).parents[:-2],
        ):  # up to, not including, /run, /opt or /var
            with contextlib.suppress(OSError):  # not there, or not empty
                folder.rmdir()


def connects(path: Path) -> bool:
    """Whether something listens at this socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True
