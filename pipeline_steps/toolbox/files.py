"""Local files: atomic and durable writes, and locks that end with their process.

A file is written under a temporary name, fsynced and renamed, so a full or failing disk leaves the
previous file intact. A name that we write is never followed as a symbolic link.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline_steps.toolbox.errors import ConfigurationError, MachineError

_ADVICE = {
    errno.ENOSPC: "the disk is full: free space and run it again",
    errno.EDQUOT: "the quota is used up: free space and run it again",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "this account may not write here",
    errno.EPERM: "this account may not write here",
    errno.EIO: "the disk reports an error",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
    errno.ELOOP: "the name is a symbolic link, which is never followed here: remove it",
}
#: Threads that wait for the disk when many files are written together.
_SYNC_AT_ONCE = 8
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE})
#: Prefix of our temporary files. Their writer holds a lock on them; what a killed writer left is
#: removed by the next process that writes beside it.
TEMPORARY = ".pipeline-steps-tmp-"


def failure(error: OSError, path: Path | str) -> MachineError:
    """The MachineError for a failed system call on `path`."""
    advice = _ADVICE.get(error.errno or 0, "")
    return MachineError(
        f"this account cannot write the file: {error.strerror or error}",
        where=str(path),
        advice=advice,
    )


def unreadable(error: OSError, path: Path | str) -> MachineError:
    """The MachineError for a file that is there and that this account cannot read."""
    return MachineError(
        f"the file cannot be read: {error.strerror}",
        where=str(path),
        advice="give the file to this account, or run as the one that owns it",
    )


def read_if_present(path: Path) -> bytes | None:
    """The bytes of a file, None without one. Raises MachineError when it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(error, path) from error


def disk_failure(error: BaseException) -> MachineError | None:
    """The MachineError when the disk itself fails (full, read-only, broken, no descriptors), else
    None.
    """
    if not isinstance(error, OSError) or error.errno not in _DISK:
        return None
    return MachineError(
        error.strerror or str(error), where=str(error.filename or ""), advice=_ADVICE[error.errno]
    )


def write(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace `path` by `data` atomically and durably, whatever the umask. The folder must exist.

    durable: False skips the fsyncs, for what nobody misses after a power cut. Raises MachineError.
    The file then has either its previous or its new content; the new content only when just the
    fsync of the folder failed.
    """
    with Batch(mode=mode) as batch:
        batch.add(path, data)
        if durable:
            batch.sync()
        batch.name([path], durable=durable)


class Batch:
    """Several files that become visible together: add, sync, name. None is visible before `name`.

    All are written before the first fsync, which is faster than one after the other. Each keeps a
    descriptor open until the end. Every method raises MachineError; files without a name are then
    removed.
    """

    def __init__(self, *, mode: int = 0o600) -> None:
        self._mode = mode
        self._files: dict[Path, tuple[Path, int]] = {}

    def add(self, path: Path, data: bytes) -> None:
        """Write `data` to a temporary file in the folder of `path`, which must exist."""
        try:
            _sweep_once(path.parent)
            self._files[path] = _, descriptor = _open_temporary(path.parent, self._mode)
            # The mode given to open(2) is reduced by the umask; fchmod is not.
            os.fchmod(descriptor, self._mode)
            _write_all(descriptor, data)
        except OSError as error:
            raise failure(error, path) from error

    def sync(self) -> None:
        """Fsync the data of all files. Of many several at once: a file system writes its journal
        once for all that wait for it, which takes a fifth of the time.
        """
        descriptors = [descriptor for _, descriptor in self._files.values()]
        if len(descriptors) <= _SYNC_AT_ONCE:
            for path, descriptor in zip(self._files, descriptors, strict=True):
                _sync_file(path, descriptor)
            return
        with ThreadPoolExecutor(_SYNC_AT_ONCE) as threads:
            # The list raises the first error.
            list(threads.map(_sync_file, self._files, descriptors))

    def name(self, paths: Iterable[Path], *, durable: bool = True) -> None:
        """Rename the temporary files to `paths`, in this order, and fsync their folders if durable.

        Existing files are replaced.
        """
        # A rename is durable only once its folder is fsynced (fsync(2), "Notes").
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
            for path in folders if durable else ():
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


def _sync_file(path: Path, descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise failure(error, path) from error


def remove(path: Path) -> None:
    """Remove the file `path` if it is there. Raises MachineError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise failure(error, path) from error


def folder_at(url: str) -> Path:
    """The folder of a URL file:///folder, of this machine. Raises ConfigurationError for another.

    >>> folder_at("file:///srv/my%20charts/")
    PosixPath('/srv/my charts')
    """
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise ConfigurationError(
            "this is not the URL of a folder", where=url, advice="write file:///folder, absolute"
        )
    return Path(unquote(parts.path))


def folder(path: Path, *, mode: int = 0o700) -> Path:
    """Create the folder `path` and its parents with `mode`, durably and whatever the umask."""
    try:
        if not path.is_dir():
            folder(path.parent, mode=mode)
            path.mkdir(mode=mode, exist_ok=True)
            # In a folder that hands its group on, so does the new one: chmod(2) would clear that.
            path.chmod(mode | path.stat().st_mode & stat.S_ISGID)
            sync_folder(path.parent)
    except OSError as error:
        raise failure(error, path) from error
    return path


def shared_mode(folder: Path, mode: int) -> int:
    """`mode` for a file in `folder`, writable for those who may replace it there anyway: of a folder
    of mode 2775 the accounts of its group. A sticky bit reserves that for the owner.

    `folder` or the nearest folder above it that is there counts.
    """
    try:
        bits = folder.stat().st_mode
    except FileNotFoundError:
        return shared_mode(folder.parent, mode)
    except OSError as error:
        raise failure(error, folder) from error
    return mode if bits & stat.S_ISVTX else mode | bits & 0o022


def created_folder(path: Path, *, mode: int = 0o700) -> Path:
    """Like `folder`, for a path whose last part is our own choice.

    Raises MachineError when it is a symbolic link: somebody else put it there.
    """
    if path.is_symlink():
        raise failure(OSError(errno.ELOOP, os.strerror(errno.ELOOP)), path)
    return folder(path, mode=mode)


def append(path: Path, line: bytes, *, durable: bool = True) -> int:
    """Append one line (without line end) in one write, under a lock and fsynced.

    A last line without line end is what a killed writer or a full disk left. A line with NUL bytes
    is what a power cut left of a write without fsync. Such a torn line is cut off first. When this
    write fails half way, its part is cut off again.

    Args:
        durable: False skips the fsync, for a cache that a power cut may take.

    Returns:
        the number of bytes of a torn line that were removed.

    Raises:
        MachineError: the system call failed.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # The size counts only under the lock: another process may have appended
            # meanwhile.
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
            # Under the lock: who adds the second line may rely on the file's name.
            if durable and end == 0:
                sync_folder(path.parent)
        finally:
            os.close(descriptor)
        return size - end
    except OSError as error:
        raise failure(error, path) from error


@contextlib.contextmanager
def locked(path: Path, *, mode: int = 0o600) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, created with `mode` when missing, whatever the
    umask, and never deleted.
    """
    try:
        descriptor = _open_lock(path, mode)
    except OSError as error:
        raise failure(error, path) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open_lock(path: Path, mode: int) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, flags)
            status = os.fstat(descriptor)
            if status.st_uid == os.geteuid() and mode & ~status.st_mode:
                os.fchmod(descriptor, stat.S_IMODE(status.st_mode) | mode)
            return descriptor
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
            os.fchmod(descriptor, mode)
            return descriptor


def sync_folder(path: Path) -> None:
    """Make renames and creations in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_temporaries(path: Path) -> None:
    """Remove temporary files of killed writers from the folder `path`; others stay."""
    # A living writer holds the lock, so LOCK_NB fails for its file, which stays.
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
    # write(2) may write less than asked for, for example on a nearly full disk.
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _whole_lines(descriptor: int, size: int) -> int:
    """Offset just after the last complete line."""
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
