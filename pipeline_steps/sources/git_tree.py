"""Files as git stores them: of a commit, or of the checkout as it stands. Nothing is written into the repository.

The checkout as it stands is HEAD's tree under what `git status` lists: tracked changes, staged or not, and
untracked files that are not ignored, each as `git add` would store it (line ends and clean filters applied).
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline_steps.core.errors import ConfigurationError, MachineError, Temporary
from pipeline_steps.sources import git_program as program
from pipeline_steps.sources.source import Entry, Kind
from pipeline_steps.toolbox import files, scratch

OURS = ".pipeline"
KINDS: dict[str, Kind] = {"100644": "file", "100664": "file", "100755": "executable", "120000": "link"}
_AT_ONCE = 256
#: Bytes of one file, and of all, that a tree keeps: what is asked for its digest is soon asked for its bytes.
_SMALL, _KEPT = 64 * 2**10, 8 * 2**20


class CommitTree:
    """The tree of one commit below a folder (relative to the repository's root, "" for all)."""

    modified: tuple[str, ...] = ()

    def __init__(self, root: Path, commit: str, folder: str) -> None:
        self.root = root
        self.revision = commit
        self.folder = folder
        self._small: dict[str, bytes] = {}
        self._room = _KEPT

    @functools.cached_property
    def _entries(self) -> dict[str, Entry]:
        below = [f"{self.folder}/"] if self.folder else []
        listed = program.output(self.root, "ls-tree", "-r", "-z", "--full-tree", self.revision, "--", *below)
        skipped = len(self.folder) + 1 if self.folder else 0
        entries = (_listed(line, skipped) for line in program.texts(listed))
        return {entry.path: entry for entry in entries if not ours(entry.path)}

    def entries(self) -> Mapping[str, Entry]:
        """Every file below the folder by path, sorted."""
        return self._entries

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The stored bytes of files, the targets of links."""
        return dict(self._contents(paths))

    def digests(self, paths: Iterable[str]) -> dict[str, str]:
        """The sha256 of what `read` gives."""
        return {path: files.sha256(data) for path, data in self._contents(paths)}

    def _contents(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        wanted = [self._entry(path) for path in dict.fromkeys(paths)]
        yield from self._blobs(wanted)

    def _blobs(self, wanted: Iterable[Entry]) -> Iterator[tuple[str, bytes]]:
        """Name and bytes of each, those of small files read once."""
        asked: dict[str, str] = {}
        for entry in wanted:
            if entry.id in self._small:
                yield entry.path, self._small[entry.id]
            else:
                asked[entry.path] = entry.id
        for path, data in blobs(self.root, asked):
            if len(data) <= min(_SMALL, self._room):
                self._small[asked[path]] = data
                self._room -= len(data)
            yield path, data

    def _entry(self, path: str) -> Entry:
        entry = self.entries().get(path)
        if entry is None:
            raise ConfigurationError(
                f"{path} is not stored in git at {self.revision[:12]}", where=str(self.root / self.folder)
            )
        if entry.kind == "submodule":
            raise ConfigurationError(
                f"{path} is a git repository of its own (a submodule): its files are not stored here",
                where=str(self.root / self.folder),
                advice="keep it out of charts and build contexts, or add its files to this repository",
            )
        return entry


class CheckoutTree(CommitTree):
    """The checkout as it stands below a folder, based on commit `commit`."""

    def __init__(self, root: Path, commit: str, folder: str, algorithm: str) -> None:
        super().__init__(root, commit, folder)
        self._algorithm = algorithm
        changes = dict(sorted(_changes(root, folder).items()))
        self._changes = {path: change for path, change in changes.items() if not ours(path)}
        self.modified = tuple(self._changes)

    @functools.cached_property
    def _entries(self) -> dict[str, Entry]:
        entries = dict(super()._entries)
        for path, mode in self._changes.items():
            entries.pop(path, None)
            kind = self._kind(path, mode)
            if kind:
                entries[path] = Entry(path, kind, "")
        return dict(sorted(entries.items())) if self._changes else entries

    def _kind(self, path: str, mode: str) -> Kind | None:
        """Kind of a changed file; None when it is gone. mode: as git lists it, "" for untracked."""
        if mode == "000000":
            return None
        if mode:
            return KINDS.get(mode, "submodule")
        place = self.root / self.folder / path
        if place.is_symlink():
            return "link"
        return "executable" if os.access(place, os.X_OK) else "file"

    def _contents(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        wanted = [self._entry(path) for path in dict.fromkeys(paths)]
        yield from self._blobs(entry for entry in wanted if entry.id)
        changed = [entry for entry in wanted if not entry.id]
        for start in range(0, len(changed), _AT_ONCE):
            yield from self._stored(changed[start : start + _AT_ONCE])

    def _stored(self, entries: list[Entry]) -> Iterator[tuple[str, bytes]]:
        """Changed files as git would store them."""
        names = [entry.path for entry in entries if entry.kind != "link"]
        full = [f"{self.folder}/{name}" if self.folder else name for name in names]
        ids = dict(zip(names, _hashed(self.root, full), strict=True))
        filtered = {}
        for entry in entries:
            data = _bytes(self.root / self.folder / entry.path)
            if entry.kind == "link" or self._id(data) == ids[entry.path]:
                yield entry.path, data
            else:
                filtered[entry.path] = ids[entry.path]
        if filtered:
            yield from self._cleaned(filtered)

    def _cleaned(self, ids: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
        """Files that git stores otherwise than they lie here (line ends, clean filters), through objects aside."""
        with scratch.folder("objects") as aside:
            objects = program.output(self.root, "rev-parse", "--git-path", "objects").decode().removesuffix("\n")
            env = {
                "GIT_OBJECT_DIRECTORY": str(aside),
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": str((self.root / objects).resolve()),
            }
            full = [f"{self.folder}/{name}" if self.folder else name for name in ids]
            written = dict(zip(ids, _hashed(self.root, full, write=env), strict=True))
            if written != dict(ids):
                raise Temporary("files change while they are read", where=str(self.root), advice="run again")
            yield from blobs(self.root, written, env)

    def _id(self, data: bytes) -> str:
        return hashlib.new(self._algorithm, b"blob %d\0" % len(data) + data).hexdigest()


def ours(path: str) -> bool:
    """Whether `path` is what the steps themselves write beside pipeline.yaml."""
    return path == OURS or path.startswith(f"{OURS}/")


def blobs(root: Path, ids: Mapping[str, str], env: Mapping[str, str] | None = None) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each object in `ids` (name → object id), some hundred a process."""
    names = list(ids)
    for start in range(0, len(names), _AT_ONCE):
        part = names[start : start + _AT_ONCE]
        asked = "".join(f"{ids[name]}\n" for name in part).encode()
        answer = program.output(root, "cat-file", "--batch", stdin=asked, env=env)
        offset = 0
        for name in part:
            end = answer.index(b"\n", offset)
            header = answer[offset:end].split()
            if len(header) != 3 or header[1] != b"blob":
                raise MachineError(
                    f"the object {ids[name]} of {name} is not here", where=str(root), advice="git fetch, or git fsck"
                )
            size = int(header[2])
            yield name, answer[end + 1 : end + 1 + size]
            offset = end + 1 + size + 1


def _listed(line: str, skipped: int) -> Entry:
    facts, _, path = line.partition("\t")
    mode, _, identity = facts.split(" ")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise ConfigurationError(f"the commit holds the hostile path {path!r}", advice="do not trust this repository")
    return Entry(path[skipped:], KINDS.get(mode, "submodule"), identity)


def _changes(root: Path, folder: str) -> dict[str, str]:
    """What differs from HEAD: path below `folder` → mode in the work tree ("000000" gone, "" untracked)."""
    arguments = ["status", "--porcelain=v2", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=none"]
    listed = program.texts(program.output(root, *arguments, "--", *([folder] if folder else [])))
    below = f"{folder}/" if folder else ""
    found = {}
    for line in sorted(listed, key=lambda line: line[0] == "?"):
        if line[0] == "?":
            # A repository inside this one is listed by its folder alone.
            path, mode = line[2:].removesuffix("/"), "160000" if line.endswith("/") else ""
        else:
            # 1 XY sub mH mI mW hH hI path · u XY sub m1 m2 m3 mW h1 h2 h3 path
            path = line.split(" ", 8 if line[0] == "1" else 10)[-1]
            mode = line.split(" ", 7)[5 if line[0] == "1" else 6]
        if path.startswith(below):
            found[path[len(below) :]] = mode
    return found


def _hashed(root: Path, names: list[str], write: Mapping[str, str] | None = None) -> list[str]:
    """The object ids that git would give files. write: environment naming where to store the objects."""
    if not names:
        return []
    arguments = ["hash-object", *(["-w"] if write else []), "--stdin-paths"]
    return program.output(root, *arguments, stdin=program.quoted(names), env=write).decode().split()


def _bytes(place: Path) -> bytes:
    try:
        return os.fsencode(place.readlink()) if place.is_symlink() else place.read_bytes()
    except FileNotFoundError as error:
        raise Temporary("the file went away while it was read", where=str(place), advice="run again") from error
    except OSError as error:
        raise MachineError(f"cannot read: {error.strerror}", where=str(place)) from error
