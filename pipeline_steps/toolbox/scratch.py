"""Temporary folders below TMPDIR for the duration of some work.

A folder is locked while its process lives. A command that starts removes unlocked ones, which
killed processes left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline_steps.toolbox import files


class Scratch:
    """An empty folder of mode 0700 at `path`, until `remove`.

    purpose: a word in its name, for people who look into TMPDIR. Raises MachineError.
    """

    def __init__(self, purpose: str) -> None:
        base = home()
        try:
            self.path, self._lock = _make_locked(base, purpose)
        except OSError as error:
            raise files.failure(error, base) from error

    def remove(self) -> None:
        """Remove the folder with its content; a second call does nothing."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


@contextlib.contextmanager
def folder(purpose: str) -> Iterator[Path]:
    """A scratch folder for as long as the block runs."""
    scratch = Scratch(purpose)
    try:
        yield scratch.path
    finally:
        scratch.remove()


def home() -> Path:
    """The folder for temporary files: TMPDIR, else /tmp.

    Unlike `tempfile.gettempdir`, this does not try to write there first.
    """
    return Path(os.environ.get("TMPDIR") or "/tmp").absolute()


def _make_locked(base: Path, purpose: str) -> tuple[Path, int]:
    while True:
        # mkdir fails if the name exists, so nobody can prepare a folder for us (CWE-377).
        path = base / f"{files.TEMPORARY}{purpose}-{os.urandom(6).hex()}"
        path.mkdir(mode=0o700)
        try:
            lock = _locked(path, wait=True)
        except FileNotFoundError:  # another process swept it before it was locked
            continue
        if os.fstat(lock).st_nlink:
            return path, lock
        os.close(lock)


def sweep() -> None:
    """Remove the scratch folders that killed processes of this account left."""
    with contextlib.suppress(OSError), os.scandir(home()) as entries:
        for entry in entries:
            if entry.name.startswith(files.TEMPORARY) and entry.is_dir(follow_symlinks=False):
                _remove_if_left(Path(entry.path))


def _remove_if_left(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.lstat().st_uid == os.geteuid():
            lock = _locked(path, wait=False)
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _locked(path: Path, *, wait: bool) -> int:
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock
