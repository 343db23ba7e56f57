"""What a builder gets of an image's context: the source's bytes, not what happens to lie in the
checkout.

Inputs are the tracked files that .dockerignore leaves in, as the source stores them, and the files
that an earlier stage made, where `images.X.generated` names them. What the source ignores is left
out; `files_not_sent` lists it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Literal, NamedTuple, Protocol

from pipeline_steps.charts import paths
from pipeline_steps.images.ignore import ALWAYS_IGNORED, IgnoreRules, not_ignored
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError
from pipeline_steps.toolbox.files import failure, sha256

InputKind = Literal["file", "executable", "link"]
#: What every file carries on its way to the builder, whatever the checkout's umask, owner and
#: times.
MODES = {"file": 0o644, "executable": 0o755, "link": 0o777}
#: Bytes of a large file that are held at once.
_CHUNK = 2**20


class Readable(Protocol):
    """Something whose bytes are read piece by piece."""

    def read(self, size: int = ..., /) -> bytes: ...


class Input(NamedTuple):
    """path: in the context, "/" between parts. digest: of the bytes, or of a link's target."""

    path: str
    kind: InputKind
    digest: str


class Context(NamedTuple):
    """inputs: sorted by path. read: path of an input -> its bytes, or the target of a link. folder:
    for errors. generated: inputs that are files of an earlier stage, which may be large: they are
    never held whole.
    """

    inputs: tuple[Input, ...]
    read: Callable[[str], bytes]
    folder: str = ""
    generated: Mapping[str, Path] = {}

    def as_lists(self) -> list[list[str]]:
        """The inputs as plain lists, for keys."""
        return [list(entry) for entry in self.inputs]

    def read_checked(self, entry: Input) -> bytes:
        """The bytes of an input, which must be those that its digest is of.

        What is built under a key has to be what the key was made of, whoever writes into the
        checkout meanwhile. Raises EvidenceError.
        """
        data = self.read(entry.path)
        if sha256(data) != entry.digest:
            raise self._changed(entry)
        return data

    @contextlib.contextmanager
    def open_checked(self, entry: Input) -> Iterator[tuple[int, Readable]]:
        """Size and bytes of an input that is no link, to be read to their end; see `read_checked`.

        Raises EvidenceError, for a generated file when the block ends: what was made of its bytes
        must not be used then.
        """
        if entry.path not in self.generated:
            data = self.read_checked(entry)
            yield len(data), io.BytesIO(data)
            return
        with open_generated(self.generated[entry.path]) as file:
            reader = _HashingReader(file)
            try:
                yield os.fstat(file.fileno()).st_size, reader
            except OSError as error:
                if reader.digest() != entry.digest:  # it was cut while it was copied
                    raise self._changed(entry) from error
                raise
            if reader.digest() != entry.digest:
                raise self._changed(entry)

    def _changed(self, entry: Input) -> EvidenceError:
        return EvidenceError(
            "the file changed while it was being read for the build",
            where=f"{self.folder}/{entry.path}".lstrip("/"),
            advice="run it again when nothing changes the file",
        )


class _HashingReader:
    """Reads from `file` and hashes what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def generated_files(
    folder: Path, patterns: Iterable[str], tracked: Collection[str], where: str
) -> dict[str, Path]:
    """Path in the context -> file of what an earlier stage made. patterns: of `images.X.generated`.

    tracked: paths in the context that the source has. Raises ConfigurationError for a pattern that
    fits nothing, a file that the source tracks, a link or another thing that is no file.
    """
    generated: dict[str, Path] = {}
    present = _files_in(folder)
    for pattern in patterns:
        expressions = [
            paths.glob_pattern(paths.relative_path(part, where=where))
            for part in paths.expand_braces(pattern)
        ]
        matches = [
            path
            for path in present
            if any(expression.fullmatch(path) for expression in expressions)
        ]
        if not matches:
            advice = f"run the stage that makes it first, or correct the pattern ({folder})"
            raise ConfigurationError(f"no file fits {pattern!r}", where=where, advice=advice)
        for path in matches:
            if path in tracked:
                advice = "remove it from `generated`, or from the source"
                raise ConfigurationError(f"{path} is in the source", where=where, advice=advice)
            generated[path] = folder / path
    return generated


def generated_digest(file: Path) -> str:
    """The digest of a generated file. Raises as `open_generated` does."""
    with open_generated(file) as stream:
        reader = _HashingReader(stream)
        while reader.read(_CHUNK):
            pass
        return reader.digest()


def open_generated(file: Path) -> IO[bytes]:
    """A generated file, which must be a plain file. Raises ConfigurationError, EvidenceError."""
    try:
        # Not through a link: it may lead out of the context.
        stream = os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            stream.close()
            raise ConfigurationError(
                "this is not a file", where=str(file), advice="name files in `generated`"
            )
        return stream
    except FileNotFoundError as error:
        advice = "run the stage that makes it first"
        raise EvidenceError(
            "the generated file is not there", where=str(file), advice=advice
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"the generated file cannot be read: {error.strerror}",
            where=str(file),
            advice="give the file to this account, or run as the one that owns it",
        ) from error


def files_not_sent(folder: Path, ignored: IgnoreRules, inputs: Collection[str]) -> list[str]:
    """Files in a context's folder that a plain `docker build` would take, but that are no inputs,
    sorted.
    """
    return sorted(path for path in not_ignored(_files_in(folder), ignored) if path not in inputs)


def _files_in(folder: Path) -> list[str]:
    paths_found = []
    for parent, folders, names in os.walk(folder):
        below = Path(parent).relative_to(folder).as_posix()
        # In place: os.walk then does not go into them.
        folders[:] = [name for name in folders if name not in ALWAYS_IGNORED]
        paths_found += [name if below == "." else f"{below}/{name}" for name in names]
    return paths_found


def write_tar(
    context: Context, stream: IO[bytes], extra: Mapping[str, bytes], *, epoch: int
) -> None:
    """The context as a tar that depends on nothing but its inputs. extra: further files, they
    replace inputs.

    Raises EvidenceError when an input is not any more what was read.
    """

    def new_member(path: str, mode: int) -> tarfile.TarInfo:
        member = tarfile.TarInfo(path)
        member.mode, member.mtime = mode, epoch
        return member

    # PAX, as names may be long or not ASCII; it is written the same by every version of Python.
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in context.inputs:
            if entry.path in extra:
                continue
            member = new_member(entry.path, MODES[entry.kind])
            if entry.kind == "link":
                member.type = tarfile.SYMTYPE
                member.linkname = os.fsdecode(context.read_checked(entry))
                tar.addfile(member)
                continue
            with context.open_checked(entry) as (member.size, source):
                tar.addfile(member, source)
        for path, content in sorted(extra.items()):
            member = new_member(path, 0o644)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def write_folder(context: Context, folder: Path, *, epoch: int) -> None:
    """Write the context into an empty folder, with modes and times that depend on nothing but its
    inputs.

    Raises EvidenceError when an input is not any more what was read.
    """
    try:
        for entry in context.inputs:
            target = folder / entry.path
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            if entry.kind == "link":
                target.symlink_to(os.fsdecode(context.read_checked(entry)))
            else:
                with context.open_checked(entry) as (_size, source), target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, _CHUNK)
                target.chmod(MODES[entry.kind])
            os.utime(target, (epoch, epoch), follow_symlinks=False)
        # From below: writing into a folder would change its time again.
        for parent, _, _ in os.walk(folder, topdown=False):
            Path(parent).chmod(0o755)
            os.utime(parent, (epoch, epoch))
    except OSError as error:
        raise failure(error, folder) from error
