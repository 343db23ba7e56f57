"""Local files: written beside, checked, fsynced, renamed; locks that die with their process.

A name we write is never followed as a symbolic link. A full or failing disk leaves the former file
as it was.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline_steps.toolbox.errors import MachineError

_ADVICE = {
    errno.ENOSPC: "the disk is full: free space and run again",
    errno.EDQUOT: "the quota is used up: free space and run again",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "this account may not write here",
    errno.EPERM: "this account may not write here",
    errno.EIO: "the disk reports an error",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
    errno.ELOOP: "the name is a symbolic link, which is never followed here: remove it",
}
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE})
#: Our temporary files begin so. Their writer holds a lock on them; what a killed one left is
#: removed by the next process that writes beside it.
TEMPORARY = ".pipeline-steps-tmp-"


def failure(error: OSError, path: Path | str) -> MachineError:
    """The error of `toolbox/errors` for a failed system call on `path`."""
    advice = _ADVICE.get(error.errno or 0, "")
    return MachineError(f"cannot write: {error.strerror or error}", where=str(path), advice=advice)


def disk_failure(error: BaseException) -> MachineError | None:
    """What a disk's own trouble (full, read-only, broken, out of files) means wherever it strikes,
    or None.
    """
    if not isinstance(error, OSError) or error.errno not in _DISK:
        return None
    return MachineError(
        error.strerror or str(error), where=str(error.filename or ""), advice=_ADVICE[error.errno]
    )


def write(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace `path` by `data` atomically and durably, whatever the umask; the folder must exist.

    Raises MachineError; the file is then whole, the former one or, when only the folder was not
    synced, this one.
    """
    with Batch(mode=mode) as batch:
        batch.add(path, data)
        batch.sync()
        batch.name([path])


class Batch:
    """Files that get their names together: add → sync → name. Nothing is seen of one before `name`.

    Many are made durable faster than one after the other: all are written before the first fsync.
    Each keeps a descriptor open to the end. Every method raises MachineError; what has no name then
    is removed.
    """

    def __init__(self, *, mode: int = 0o600) -> None:
        self._mode = mode
        self._files: dict[Path, tuple[Path, int]] = {}

    def add(self, path: Path, data: bytes) -> None:
        """Write `data` beside `path`; the folder must exist."""
        try:
            _sweep_once(path.parent)
            self._files[path] = _, descriptor = _open_temporary(path.parent, self._mode)
            os.fchmod(descriptor, self._mode)
            _write_all(descriptor, data)
        except OSError as error:
            raise failure(error, path) from error

    def sync(self) -> None:
        """Make the data of all durable."""
        for path, (_, descriptor) in self._files.items():
            try:
                os.fsync(descriptor)
            except OSError as error:
                raise failure(error, path) from error

    def name(self, paths: Iterable[Path]) -> None:
        """Give these their names, in this order, each replacing what is there; all names there are
        durable then.
        """
        folders = {path.parent for path in self._files}
        path = Path()
        try:
            for path in paths:
                temporary, descriptor = self._files.pop(path)
                try:
                    temporary.replace(path)
                except BaseException:
                    self._files[path] = temporary, descriptor
                    raise
                os.close(descriptor)
            for path in folders:
                sync_folder(path)
        except OSError as error:
            raise failure(error, path) from error

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *error: object) -> None:
        for temporary, descriptor in self._files.values():
            with contextlib.suppress(OSError):
                temporary.unlink()
            os.close(descriptor)


def remove(path: Path) -> None:
    """Remove the file `path` if it is there. Raises MachineError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise failure(error, path) from error


def folder(path: Path, *, mode: int = 0o700) -> Path:
    """Make the folder `path` and its parents, whatever the umask; each of them durable when it
    returns.
    """
    try:
        if not path.is_dir():
            folder(path.parent, mode=mode)
            path.mkdir(mode=mode, exist_ok=True)
            path.chmod(mode)
            sync_folder(path.parent)
    except OSError as error:
        raise failure(error, path) from error
    return path


def created_folder(path: Path, *, mode: int = 0o700) -> Path:
    """Like `folder`, for one whose name is ours to choose. Raises MachineError when it is a
    symbolic link.
    """
    if path.is_symlink():
        raise failure(OSError(errno.ELOOP, os.strerror(errno.ELOOP)), path)
    return folder(path, mode=mode)


def append(path: Path, line: bytes, *, mode: int = 0o600, durable: bool = True) -> int:
    """Add one line (without line end) under a lock, in one write, fsynced; returns bytes of a torn
    line dropped.

    durable: False for a cache, which a power cut may take.

    A last line without line end is what a killed or full-disk writer left, one with NUL bytes what
    a power cut left of a write that no fsync followed: it is cut off first. When this write fails
    half way, what it wrote is cut off again. Raises MachineError.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            end = _whole_lines(descriptor, size)
            if end < size:
                os.ftruncate(descriptor, end)
            os.lseek(descriptor, end, os.SEEK_SET)
            try:
                _write_all(descriptor, line + b"\n")
                if durable:
                    os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, end)
                raise
            if (
                durable and end == 0
            ):  # under the lock: who adds the second line may rely on the file's name
                sync_folder(path.parent)
        finally:
            os.close(descriptor)
        return size - end
    except OSError as error:
        raise failure(error, path) from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, which is made when missing and never deleted."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise failure(error, path) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make renames and creations in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_temporaries(path: Path) -> None:
    """Remove what killed writers left in the folder `path`; what a living one holds stays."""
    for leftover in path.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(leftover, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()
            finally:
                os.close(descriptor)


def sha256(data: bytes) -> str:
    """Digest of `data` as "sha256:" and 64 lower-case hex digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@functools.cache
def _sweep_once(path: Path) -> None:
    sweep_temporaries(path)


def _open_temporary(folder: Path, mode: int) -> tuple[Path, int]:
    """A new temporary file, locked as long as its descriptor is open."""
    while True:
        path = folder / f"{TEMPORARY}{os.urandom(8).hex()}"
        descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode
        )
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)  # another process swept it before it was locked


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _whole_lines(descriptor: int, size: int) -> int:
    """Offset just after the last line that was written to its end."""
    end = _line_end(descriptor, size)
    start = _line_end(descriptor, end - 1)
    return start if b"\0" in os.pread(descriptor, end - start, start) else end


def _line_end(descriptor: int, end: int) -> int:
    """Offset just after the last line end before `end`, searched backwards."""
    while end > 0:
        start = max(0, end - 65536)
        block = os.pread(descriptor, end - start, start)
        position = block.rfind(b"\n")
        if position >= 0:
            return start + position + 1
        end = start
    return 0
