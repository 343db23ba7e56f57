"""The working tree as git would store it. Nothing is written into the repository.

It is the tree of HEAD plus what `git status` lists: tracked changes, staged or not, and untracked
files that are not ignored, each as `git add` would store it (line ends and clean filters applied).
`assume-unchanged` and `skip-worktree` hide no file that is there; one that a sparse checkout left
out is read from HEAD.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline_steps.sources import git_program as program
from pipeline_steps.sources.git_objects import KINDS, Objects
from pipeline_steps.sources.source import Entry, Kind
from pipeline_steps.sources.tree import StoredTree, is_pipeline_output, read_working_file
from pipeline_steps.toolbox import files, scratch
from pipeline_steps.toolbox.errors import Temporary, UsageError

#: HEAD, and what differs from it, whole or below the folder that is added; read by
#: `parse_head` and `parse_changed_modes`.
_STATUS = (
    "status", "--porcelain=v2", "--branch", "--no-ahead-behind", "-z", "--no-renames", "--untracked-files=all",
    "--ignore-submodules=none", "--",
)  # fmt: skip
#: Every file of the index, with a letter that says whether `git status` looks at it.
_FLAGS = ("ls-files", "-v", "-z", "--")
_MARKED = re.compile(rb"(?:\A|(?<=\0))([a-zS]) ([^\0]+)")
_INDEX = ("rev-parse", "--git-path", "index")
_AT_ONCE = 256
#: Bytes of a file that is rather read from the working tree than unpacked by git, and at most.
_LARGE, _LARGEST = 2**17, 2**26


class CheckoutTree(StoredTree):
    """The working tree below a folder, based on commit `commit`.

    changed: from `parse_changed_modes`.
    """

    def __init__(
        self, objects: Objects, commit: str, folder: str, changed: Mapping[str, str]
    ) -> None:
        super().__init__(objects, commit, folder)
        self._algorithm = "sha1" if len(commit) == 40 else "sha256"
        self._top = self.root / folder
        self._changes = {
            path: mode for path, mode in sorted(changed.items()) if not is_pipeline_output(path)
        }
        self.modified = tuple(self._changes)

    @functools.cached_property
    def _entries(self) -> dict[str, Entry]:
        entries = dict(super()._entries)
        for path, mode in self._changes.items():
            # Also of one that was replaced by a folder: the new kind counts.
            entries.pop(path, None)
            kind = self._kind(path, mode)
            if kind:
                entries[path] = Entry(path, kind, "")
        return dict(sorted(entries.items())) if self._changes else entries

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The bytes of files as git stores them, or would store them."""
        entries = {path: self._entry(path) for path in paths}
        contents = dict(self._read_changed([entry for entry in entries.values() if not entry.id]))
        contents |= super().read(path for path in entries if path not in contents)
        return {path: contents[path] for path in entries}

    def digests(self, paths: Iterable[str]) -> dict[str, str]:
        """The sha256 of what `read` returns."""
        entries = {path: self._entry(path) for path in paths}
        digests = {
            path: files.sha256(data)
            for path, data in self._read_changed([e for e in entries.values() if not e.id])
        }
        for entry in entries.values():
            if entry.id and (data := self._large_file(entry)) is not None:
                digests[entry.path] = files.sha256(data)
        digests |= super().digests(path for path in entries if path not in digests)
        return {path: digests[path] for path in entries}

    def _large_file(self, entry: Entry) -> bytes | None:
        """The bytes of a large file from the working tree, if the commit has the same: git would
        have to unpack them.
        """
        place = self._top / entry.path
        try:
            if not _LARGE <= place.lstat().st_size <= _LARGEST or entry.kind == "link":
                return None
            data = place.read_bytes()
        except OSError:
            return None
        return data if self._id(data) == entry.id else None

    def _kind(self, path: str, mode: str) -> Kind | None:
        """Kind of a changed file, None for a deleted one. mode: as git lists it, "" for untracked
        files.
        """
        if mode == "000000":
            return None
        if mode:
            return KINDS.get(mode, "submodule")
        place = self._top / path
        if place.is_symlink():
            return "link"
        # git stores no other bit of the mode.
        return "executable" if os.access(place, os.X_OK) else "file"

    def _read_changed(self, entries: list[Entry]) -> Iterator[tuple[str, bytes]]:
        """Changed files as git would store them."""
        for start in range(0, len(entries), _AT_ONCE):
            yield from self._stored_batch(entries[start : start + _AT_ONCE])

    def _stored_batch(self, entries: list[Entry]) -> Iterator[tuple[str, bytes]]:
        names = [entry.path for entry in entries if entry.kind != "link"]
        full = [f"{self.folder}/{name}" if self.folder else name for name in names]
        ids = dict(zip(names, _object_ids(self.root, full), strict=True))
        filtered = {}
        for entry in entries:
            # The bytes on disk are what git stores, unless line ends or filters apply;
            # then the ids differ.
            data = read_working_file(self._top / entry.path)
            if entry.kind == "link" or self._id(data) == ids[entry.path]:
                yield entry.path, data
            else:
                filtered[entry.path] = ids[entry.path]
        if filtered:
            yield from self._read_filtered(filtered)

    def _read_filtered(self, ids: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
        """Files that git stores with other bytes (line ends, clean filters), through a temporary
        object folder.
        """
        with scratch.folder("objects") as object_folder:
            printed = program.output(self.root, "rev-parse", "--git-path", "objects")
            main_objects = program.path(self.root, printed)
            env = {
                "GIT_OBJECT_DIRECTORY": str(object_folder),
                # Read from there, written elsewhere: a step must not fill the user's repository
                # with objects.
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(main_objects.resolve()),
            }
            full = [f"{self.folder}/{name}" if self.folder else name for name in ids]
            stored_ids = dict(zip(ids, _object_ids(self.root, full, write=env), strict=True))
            # The file changed between the two calls of hash-object.
            if stored_ids != dict(ids):
                raise Temporary(
                    "files change while they are read", where=str(self.root), advice="run it again"
                )
            with Objects(self.root, env) as cleaned:
                yield from (
                    (name, cleaned.read([identity])[identity])
                    for name, identity in stored_ids.items()
                )

    def _id(self, data: bytes) -> str:
        hasher = hashlib.new(self._algorithm, b"blob %d\0" % len(data))
        hasher.update(data)
        return hasher.hexdigest()


def read_status(root: Path, folder: str) -> bytes:
    """What `git status` says about everything below `folder`, hidden edits among it."""
    below = [folder] if folder else []
    assumed, skipped = _hidden_files(root, program.output(root, *_FLAGS, *below))
    if not assumed and not skipped:
        return program.output(root, *_STATUS, *below)
    index = program.path(root, program.output(root, *_INDEX))
    with scratch.folder("index") as scratch_folder:
        copied = scratch_folder / "index"
        try:
            # With its time, by which git knows which files were written in the same second as the
            # index and have to be compared by their bytes.
            shutil.copy2(index, copied)
        except OSError as error:
            raise files.failure(error, index) from error
        env = {"GIT_INDEX_FILE": str(copied)}
        _unhide(root, "--no-assume-unchanged", assumed, env)
        _unhide(root, "--no-skip-worktree", skipped, env)
        return program.output(root, *_STATUS, *below, env=env)


def _hidden_files(root: Path, flags: bytes) -> tuple[list[str], list[str]]:
    """Paths that git takes as unchanged, and paths that it skips though they are in the working
    tree.

    flags: from `git ls-files -v`: a lower-case letter for assume-unchanged, S for skip-worktree.
    """
    marked = [(letter, os.fsdecode(path)) for letter, path in _MARKED.findall(flags)]
    skipped = {path for letter, path in marked if letter in b"sS"}
    # A sparse checkout leaves files out. That is no edit of them: the commit's bytes are used.
    absent = {path for path in skipped if not os.path.lexists(root / path)}
    assumed = [path for letter, path in marked if letter != b"S" and path not in absent]
    return assumed, sorted(skipped - absent)


def _unhide(root: Path, option: str, paths: list[str], env: Mapping[str, str]) -> None:
    """Take a mark off files in the index that `env` names, so that git looks at them."""
    if paths:
        names = b"".join(os.fsencode(path) + b"\0" for path in paths)
        program.output(root, "update-index", "-z", option, "--stdin", stdin=names, env=env)


def parse_head(status: bytes, root: Path) -> tuple[str, str | None]:
    """The commit and the branch (None: detached) that `git status` says are checked out.

    Raises UsageError before the first commit.
    """
    lines = (line for line in program.nul_separated(status) if line.startswith("# "))
    headers = {key: value for key, _, value in (line[2:].partition(" ") for line in lines)}
    oid, name = headers.get("branch.oid", ""), headers.get("branch.head", "")
    if oid == "(initial)":
        raise no_commit_error(root)
    commit = program.object_id(root, oid.encode("utf-8", "surrogateescape"))
    return commit, None if name == "(detached)" else name


def no_commit_error(root: Path) -> UsageError:
    return UsageError("there is no commit yet", where=str(root), advice="commit something first")


def parse_changed_modes(status: bytes, folder: str, root: Path) -> dict[str, str]:
    """Changes from the output of `git status`: path below `folder` → mode in the working tree.

    The mode is "000000" for a deleted file, "" for an untracked one. Raises MachineError.
    """
    below = f"{folder}/" if folder else ""
    modes = {}
    lines = (line for line in program.nul_separated(status) if not line.startswith("# "))
    for line in sorted(lines, key=lambda line: line[0] == "?"):
        if line[0] == "?":
            # A repository inside this one is listed by its folder alone.
            path, mode = line[2:].removesuffix("/"), "160000" if line.endswith("/") else ""
        else:
            # 1 XY sub mH mI mW hH hI path · u XY sub m1 m2 m3 mW h1 h2 h3 path
            count = 8 if line[0] == "1" else 10
            words = line.split(" ", count)
            if len(words) <= count:
                raise program.unexpected_answer(root, line, "a changed file")
            path, mode = words[-1], words[5 if line[0] == "1" else 6]
        if path.startswith(below):
            modes[path[len(below) :]] = mode
    return modes


def _object_ids(root: Path, names: list[str], write: Mapping[str, str] | None = None) -> list[str]:
    """The object ids that git would give to files.

    write: environment that names where to store the objects.
    """
    if not names:
        return []
    arguments = ["hash-object", *(["-w"] if write else []), "--stdin-paths"]
    printed = program.output(root, *arguments, stdin=program.quoted_lines(names), env=write)
    ids = program.object_ids(root, printed)
    if len(ids) != len(names):
        raise program.unexpected_answer(root, f"{len(ids)} ids", f"those of {len(names)} files")
    return ids
