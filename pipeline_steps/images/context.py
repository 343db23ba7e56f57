"""The inputs of an image as its builder sees them, and the key they make. Nothing here needs a builder.

A context is what lies in its folder in the checkout, less what .dockerignore leaves out: files that the source
ignores are in it too, because the builder takes them; they are listed, so that the record can say so.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal, NamedTuple

from pipeline_steps.images.ignore import ALWAYS, Ignored, parse
from pipeline_steps.images.ignore import FILE as IGNORE_FILE
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError
from pipeline_steps.toolbox.files import failure

Kind = Literal["file", "executable", "link"]
#: What every file carries on its way to the builder, whatever the checkout's umask, owner and times.
MODES = {"file": 0o644, "executable": 0o755, "link": 0o777}


class Input(NamedTuple):
    """path: in the context, "/" between parts. digest: of the bytes, or of a link's target."""

    path: str
    kind: Kind
    digest: str


class Context(NamedTuple):
    """folder: where it lies. inputs: sorted by path. source_ignored: paths among them that the source ignores."""

    folder: Path
    inputs: tuple[Input, ...]
    source_ignored: tuple[str, ...] = ()

    def content(self) -> list[list[str]]:
        """The inputs as plain lists, for keys."""
        return [list(each) for each in self.inputs]


def read(folder: Path, dockerfile: Path, *, tracked: Iterable[str] | None = None) -> Context:
    """The context in `folder` as the builder would get it.

    dockerfile: its own ignore file (NAME.dockerignore beside it) wins over the folder's .dockerignore, as BuildKit
    has it. tracked: what the source knows, relative to `folder`; the rest is named in `source_ignored`.
    Raises ConfigurationError (no such folder, a bad pattern, a file that is neither file nor link).
    """
    if not folder.is_dir():
        raise ConfigurationError("the context is not a folder", where=str(folder))
    ignored = ignore_rules(folder, dockerfile)
    inputs = tuple(sorted(_walk(folder, "", ignored, ())))
    known = None if tracked is None else set(tracked)
    unknown = () if known is None else tuple(each.path for each in inputs if each.path not in known)
    return Context(folder, inputs, unknown)


def ignore_rules(folder: Path, dockerfile: Path) -> Ignored:
    """The patterns that hold for this build."""
    for file in (dockerfile.with_name(f"{dockerfile.name}{IGNORE_FILE}"), folder / IGNORE_FILE):
        if file.is_file():
            try:
                return parse(file.read_bytes(), str(file))
            except OSError as error:
                raise failure(error, file) from error
    return Ignored()


def _walk(folder: Path, prefix: str, ignored: Ignored, above: Sequence[bool]) -> Iterator[Input]:
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", where=str(folder)) from error
    for entry in found:
        if entry.name in ALWAYS:
            continue
        path = f"{prefix}{entry.name}"
        out, fits = ignored.verdict(path, above)
        if entry.is_dir(follow_symlinks=False):
            if not out or ignored.exceptions:
                yield from _walk(Path(entry.path), f"{path}/", ignored, fits)
        elif not out:
            yield _input(Path(entry.path), path)


def _input(file: Path, path: str) -> Input:
    try:
        path.encode()
        mode = file.lstat().st_mode
        if stat.S_ISLNK(mode):
            return Input(path, "link", f"sha256:{hashlib.sha256(os.fsencode(file.readlink())).hexdigest()}")
        if not stat.S_ISREG(mode):
            raise ConfigurationError("is neither a file, a folder nor a link", where=str(file), advice="ignore it")
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256") if hasattr(hashlib, "file_digest") else _digest(stream)
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", where=str(file)) from error
    except UnicodeEncodeError as error:
        raise ConfigurationError("its name is not UTF-8", where=ascii(path)) from error
    return Input(path, "executable" if mode & 0o100 else "file", f"sha256:{digest.hexdigest()}")


def _digest(stream: IO[bytes]) -> hashlib._Hash:
    found = hashlib.sha256()  # Python 3.10 has no hashlib.file_digest
    while block := stream.read(2**16):
        found.update(block)
    return found


def write_tar(context: Context, stream: IO[bytes], extra: Mapping[str, bytes], *, epoch: int) -> None:
    """The context as a tar that depends on nothing but its inputs. extra: further files, they replace inputs.

    Raises EvidenceError when an input is not any more what was read.
    """

    def member(path: str, mode: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(path)
        info.mode, info.mtime = mode, epoch
        return info

    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for each in context.inputs:
            if each.path in extra:
                continue
            info = member(each.path, MODES[each.kind])
            with _same(each, context) as data:
                if each.kind == "link":
                    info.type, info.linkname = tarfile.SYMTYPE, os.fsdecode(data.read())
                    tar.addfile(info)
                else:
                    info.size = data.size
                    tar.addfile(info, data)
        for path, content in sorted(extra.items()):
            info = member(path, 0o644)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def lay_out(context: Context, folder: Path, *, epoch: int) -> None:
    """Copy the context into an empty folder, with modes and times that depend on nothing but its inputs.

    Raises EvidenceError when an input is not any more what was read.
    """
    try:
        for each in context.inputs:
            target = folder / each.path
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            with _same(each, context) as data:
                if each.kind == "link":
                    target.symlink_to(os.fsdecode(data.read()))
                else:
                    with target.open("wb") as sink:
                        while block := data.read(2**20):
                            sink.write(block)
                    target.chmod(MODES[each.kind])
            os.utime(target, (epoch, epoch), follow_symlinks=False)
        for parent, _, _ in os.walk(folder, topdown=False):
            Path(parent).chmod(0o755)
            os.utime(parent, (epoch, epoch))
    except OSError as error:
        raise failure(error, folder) from error


#: What opening says of a path that is not there, or not of the kind it was.
_OTHER_KIND = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP, errno.ENXIO)


class _Hashing(io.RawIOBase):
    """Reads on and hashes what it gives. size: what there was to read when it was opened."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self.size, self.hash = stream, size, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(size)
        self.hash.update(block)
        return block


@contextlib.contextmanager
def _same(each: Input, context: Context) -> Iterator[_Hashing]:
    """The bytes of an input (of a link: its target), compared with what `read` saw once they were all taken.

    What is built under a key has to be what the key was made of, whoever writes into the checkout meanwhile.
    """
    file = context.folder / each.path
    try:
        if each.kind == "link":
            target = os.fsencode(file.readlink())
            stream: IO[bytes] = io.BytesIO(target)
            kind: Kind = "link"
            size = len(target)
        else:
            # Not through a link that took its place: it may lead out of the context.
            stream = os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
            status = os.fstat(stream.fileno())
            kind, size = "executable" if status.st_mode & 0o100 else "file", status.st_size
    except OSError as error:
        if error.errno in _OTHER_KIND:
            raise _changed(file) from error
        raise failure(error, file) from error
    with stream:
        data = _Hashing(stream, size)
        try:
            yield data
        except OSError as error:
            if "unexpected end of data" in str(error):  # tarfile, of a file that became shorter
                raise _changed(file) from error
            raise
        if kind != each.kind or stream.read(1) or f"sha256:{data.hash.hexdigest()}" != each.digest:
            raise _changed(file)


def _changed(file: Path) -> EvidenceError:
    return EvidenceError(
        "changed while it was being read for the build", where=str(file), advice="let it be and run again"
    )
