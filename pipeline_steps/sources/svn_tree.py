"""A Subversion working copy as a commit would store it. Nothing is written into it.

It is the tree of the newest revision that any part of it was updated to, as the server has it, plus
what `svn status` lists. People's working copies are of several revisions at once, and often not
whole; what their files are tells whether they differ, not what their folders say.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.sources import svn_externals
from pipeline_steps.sources import svn_program as program
from pipeline_steps.sources.source import CONTROL_FOLDERS, Entry, Kind
from pipeline_steps.sources.svn_dump import EXECUTABLE, EXTERNALS, SPECIAL
from pipeline_steps.sources.svn_layout import is_below, join
from pipeline_steps.sources.svn_normal_form import normal_form
from pipeline_steps.sources.svn_program import Programs
from pipeline_steps.sources.svn_repository import Facts, facts, properties
from pipeline_steps.sources.svn_revisions import Revisions
from pipeline_steps.sources.tree import (
    StoredTree,
    is_pipeline_output,
    read_working_file,
    readable_entry,
)
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import MachineError, Temporary

_GLOBAL_IGNORES = "svn:global-ignores"
#: What `svn status` says of a path whose files are gone, and of one that is no change.
_GONE, _SAME = ("deleted", "missing"), ("none", "normal", "external", "ignored")


class Versioned(NamedTuple):
    """A path that the working copy has from the server, or that was added.

    facts: of what it is based on. depth: how much of a folder is here. checksum: SHA-1 of the
    stored bytes, "" for what was added.
    """

    facts: Facts
    depth: str
    checksum: str
    schedule: str


class Status(NamedTuple):
    """What `svn status` says of a path. item: its files; properties: "modified" or not."""

    item: str
    properties: str
    locked: bool
    switched: bool


class Base(NamedTuple):
    """What a folder of a working copy is compared with: its path in the repository, and the newest
    number that anything in the working copy is of.

    revision: the text of that revision. whole: whether all of the working copy is of that number,
    and all of it is here.
    """

    path: str
    number: int
    revision: str
    whole: bool


class WorkingFiles:
    """What svn knows of a folder of a working copy, all paths relative to that folder."""

    def __init__(self, programs: Programs, place: Path) -> None:
        self.programs = programs
        self.place = place

    def ask_with(self, base: Callable[[], Base]) -> Base:
        """Ask all three at once, and `base` beside them: svn itself uses one processor, and mostly
        waits for its start. Returns what `base` does.
        """
        names = ("versioned", "status", "properties")
        with ThreadPoolExecutor(1 + len(names)) as pool:
            asked = pool.submit(base)
            for _ in pool.map(lambda name: getattr(self, name), names):
                pass
            return asked.result()

    @functools.cached_property
    def versioned(self) -> dict[str, Versioned]:
        """Files and folders, by path."""
        answer = self.programs.xml_if_there("info", "-R", program.local(self.place))
        files = {}
        for entry in answer.iter("entry") if answer is not None else ():
            if not entry.get("revision", "").isdigit():
                continue  # a conflict about something that is not here
            wc_info = entry.find("wc-info")
            if wc_info is None:
                raise self._incomplete("a place in the working copy")
            files[self._relative(entry.get("path", ""))] = Versioned(
                facts(entry),
                wc_info.findtext("depth", "infinity"),
                wc_info.findtext("checksum", ""),
                wc_info.findtext("schedule", "normal"),
            )
        return files

    @functools.cached_property
    def status(self) -> dict[str, Status]:
        """What differs from what it is based on, and what is not versioned or ignored."""
        answer = self.programs.xml_if_there("status", program.local(self.place))
        states = {}
        for entry in answer.iter("entry") if answer is not None else ():
            wc_status = entry.find("wc-status")
            if wc_status is None:
                raise self._incomplete("a status")
            states[self._relative(entry.get("path", ""))] = Status(
                wc_status.get("item", ""),
                wc_status.get("props", ""),
                wc_status.get("wc-locked") == "true",
                wc_status.get("switched") == "true",
            )
        return states

    @functools.cached_property
    def properties(self) -> dict[str, dict[str, str]]:
        """Properties by path, as they stand."""
        answer = self.programs.xml_if_there("proplist", "-v", "-R", program.local(self.place))
        if answer is None:
            return {}
        return {
            self._relative(each.get("path", "")): properties(each) for each in answer.iter("target")
        }

    def stored_properties(self, path: str) -> dict[str, str]:
        """The properties of a path before they were changed here."""
        target = program.local(self.place / path)
        answer = self.programs.xml_if_there("proplist", "-v", "-r", "BASE", target)
        return {} if answer is None else properties(answer)

    def ignored(self, folder: str) -> list[str]:
        """Patterns of names that are ignored in every folder below one."""
        command = ("propget", "--show-inherited-props", _GLOBAL_IGNORES)
        place, answer = self.place / folder, None
        while answer is None and place != place.parent:
            answer = self.programs.xml_if_there(*command, program.local(place))
            place = place.parent  # of a folder that is not versioned
        values = [each.text or "" for each in answer.iter("property")] if answer is not None else []
        return [pattern for value in values for pattern in value.split()]

    def _incomplete(self, lacking: str) -> MachineError:
        return MachineError(
            f"svn printed an entry without {lacking}", where=str(self.place), advice=program.ADVICE
        )

    def _relative(self, path: str) -> str:
        top = str(self.place)
        if not path:
            raise self._incomplete("a path")
        if path.startswith(f"{top}/"):  # of ten thousand files, relpath takes longer than svn
            return path[len(top) + 1 :]
        return "" if path == top else os.path.relpath(path, top)


class WorkingTree:
    """The working copy below a folder; see `source.Tree`.

    base: asks what it is compared with, while svn lists the files.
    """

    def __init__(
        self, revisions: Revisions, programs: Programs, folder: str, base: Callable[[], Base]
    ) -> None:
        self._revisions = revisions
        self._folder = folder
        self._place = revisions.root / folder if folder else revisions.root
        self._files = WorkingFiles(programs, self._place)
        self._base = self._files.ask_with(base)
        self.revision = self._base.revision
        self._absent: set[str] = set()
        self._changes: dict[str, Kind | None] = {}
        if not self._base.whole:
            self._compare_with_server()
        self._note_status()
        self._changes = {
            path: kind
            for path, kind in sorted(self._changes.items())
            if not is_pipeline_output(path) and not self._is_nested(path)
        }
        self.modified = tuple(self._changes)

    # -- source.Tree ---------------------------------------------------------------------------

    @functools.cached_property
    def _entries(self) -> dict[str, Entry]:
        entries = {
            path: Entry(path, self._unchanged_kind(path), "")
            for path, node in self._files.versioned.items()
            if node.facts.kind == "file" and node.schedule != "add"
        }
        entries.update(self._externals)
        if self._absent:
            stored = StoredTree(self._revisions, self.revision, self._folder).entries()
            entries.update({path: stored[path] for path in self._absent if path in stored})
        for path, kind in self._changes.items():
            entries.pop(path, None)
            if kind:
                entries[path] = Entry(path, kind, "")
        return {
            path: entry for path, entry in sorted(entries.items()) if not is_pipeline_output(path)
        }

    def entries(self) -> Mapping[str, Entry]:
        """All files below the folder, by path, sorted."""
        return self._entries

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The bytes of files as the repository has them, or would have them."""
        entries = {path: self._entry(path) for path in paths}
        stored = self._revisions.read([entry.id for entry in entries.values() if entry.id])
        return {
            path: stored[entry.id] if entry.id else self._read(entry)
            for path, entry in entries.items()
        }

    def digests(self, paths: Iterable[str]) -> dict[str, str]:
        """The sha256 of what `read` returns."""
        entries = [self._entry(path) for path in paths]
        return {entry.path: entry.id or files.sha256(self._read(entry)) for entry in entries}

    def _entry(self, path: str) -> Entry:
        return readable_entry(self.entries(), path, "svn", self.revision, where=str(self._place))

    # -- what differs --------------------------------------------------------------------------

    def _compare_with_server(self) -> None:
        """Note what here is of other revisions than the server's files, and what is not here."""
        folder = self._base.path
        versioned = self._files.versioned
        listed = self._revisions.repository.files(folder, self._base.number)
        for path, (kind, changed) in listed.items():
            node = versioned.get(path)
            if kind != "file":
                continue
            if node is not None:
                if (node.facts.path, node.facts.changed) != (join(folder, path), changed):
                    self._changes[path] = self._kind(path)
            elif self._is_outdated(path, listed):
                self._changes[path] = None
            else:
                self._absent.add(path)
        for path, node in versioned.items():
            if node.facts.kind == "file" and path not in listed:
                self._changes[path] = self._kind(path)

    def _is_outdated(self, path: str, listed: Mapping[str, tuple[str, int]]) -> bool:
        """Whether an update would bring a file that is not here; else it was left out on purpose."""
        missing, parent = path, path.rpartition("/")[0]
        while parent and parent not in self._files.versioned:
            missing, parent = parent, parent.rpartition("/")[0]
        above = self._files.versioned.get(parent)
        kind, changed = listed[missing]
        if above is None or above.depth == "empty" or (above.depth == "files" and kind == "dir"):
            return False
        return changed > above.facts.revision

    def _note_status(self) -> None:
        for path, status in self._files.status.items():
            if status.locked:
                raise Temporary(
                    "another svn works in this checkout, or was killed in it",
                    where=str(self._place / path),
                    advice="run it again when that has ended; run svn cleanup if there is none",
                )
            if status.item == "incomplete":
                raise MachineError(
                    "an update was stopped in the middle",
                    where=str(self._place / path),
                    advice="run svn update",
                )
            self._note(path, status)

    def _note(self, path: str, status: Status) -> None:
        below = self._versioned_below(path)
        if status.item in _GONE:
            self._changes.update(dict.fromkeys(below or [path]))
        elif status.item in ("unversioned", "obstructed"):
            self._changes.update(dict.fromkeys(below))
            ignored = self._files.ignored(path.rpartition("/")[0]) if self._is_folder(path) else []
            self._changes.update(_files_below(self._place, path, ignored))
        elif status.item not in _SAME or status.switched:
            self._changes.update({each: self._kind(each) for each in below})
            if not below and not self._is_folder(path):
                self._changes[path] = self._kind(path)
        elif status.properties == "modified":
            self._note_properties(path)

    def _note_properties(self, path: str) -> None:
        """A change of properties alone: of those that say what the file is, or what a folder has."""
        before, now = self._files.stored_properties(path), self._properties(path)
        if self._files.versioned[path].facts.kind == "file":
            same_kind = all((name in before) == (name in now) for name in (EXECUTABLE, SPECIAL))
            if not same_kind or self._stored_or_none(path) is None:
                self._changes[path] = self._kind(path)
        elif before.get(EXTERNALS) != now.get(EXTERNALS):
            for text in (before.get(EXTERNALS, ""), now.get(EXTERNALS, "")):
                for external in svn_externals.parse(text):
                    name = join(path, external.path)
                    self._changes[name] = "submodule"

    def _versioned_below(self, path: str) -> list[str]:
        """Versioned files at or below a path, without the folder's sparse ones."""
        node = self._files.versioned.get(path)
        if node is not None and node.facts.kind == "file":
            return [path]
        return [
            each
            for each, inner in self._files.versioned.items()
            if inner.facts.kind == "file" and is_below(each, path)
        ]

    def _is_folder(self, path: str) -> bool:
        place = self._place / path
        return place.is_dir() and not place.is_symlink()

    # -- externals -----------------------------------------------------------------------------

    @functools.cached_property
    def _externals(self) -> dict[str, Entry]:
        """What pinned externals bring, by path; others as one entry each."""
        entries: dict[str, Entry] = {}
        for folder, its_properties in self._files.properties.items():
            node = self._files.versioned.get(folder)
            if node is None:
                continue
            for external in svn_externals.parse(its_properties.get(EXTERNALS, "")):
                mounted = self._revisions.mounted(external, node.facts.path)
                for entry in self._revisions.files_in(mounted, join(folder, external.path)):
                    entries[entry.path] = entry
        return entries

    def _is_nested(self, path: str) -> bool:
        """Whether a path is in an external whose files are not stored here."""
        return any(
            entry.kind == "submodule" and path.startswith(f"{entry.path}/")
            for entry in self._externals.values()
        )

    # -- files ---------------------------------------------------------------------------------

    def _properties(self, path: str) -> dict[str, str]:
        """The properties of a file as they stand; those of a file in an external are asked alone."""
        if path in self._files.versioned:
            return self._files.properties.get(path, {})
        return WorkingFiles(self._files.programs, self._place / path).properties.get("", {})

    def _unchanged_kind(self, path: str) -> Kind:
        """The kind of a file that svn has no change of. A look at each would cost as much as svn's
        own.
        """
        its_properties = self._files.properties.get(path, {})
        if SPECIAL in its_properties:  # no link where svn could make none of it
            return self._kind(path)
        return "executable" if EXECUTABLE in its_properties else "file"

    def _kind(self, path: str) -> Kind:
        """The kind of a versioned file as it stands."""
        its_properties = self._properties(path)
        if (self._place / path).is_symlink():
            return "link"
        return "executable" if EXECUTABLE in its_properties else "file"

    def _read(self, entry: Entry) -> bytes:
        if entry.path not in self._changes:
            data = self._stored_or_none(entry.path)
            if data is None:
                data = self._pristine(entry.path)
            return data.removeprefix(b"link ") if entry.kind == "link" else data
        data = read_working_file(self._place / entry.path)
        return data if entry.kind == "link" else normal_form(data, self._properties(entry.path))

    def _stored_or_none(self, path: str) -> bytes | None:
        """The stored bytes of a file, made of those that are here; None when they do not fit."""
        place = self._place / path
        try:
            data = read_working_file(place)
        except Temporary:
            return None
        data = b"link " + data if place.is_symlink() else normal_form(data, self._properties(path))
        checksum = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        return data if checksum == self._files.versioned[path].checksum else None

    def _pristine(self, path: str) -> bytes:
        """The stored bytes of a file from svn's own copy."""
        target = program.local(self._place / path)
        data = self._files.programs.output("cat", "--ignore-keywords", "-r", "BASE", target)
        checksum = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        if checksum != self._files.versioned[path].checksum:
            raise MachineError(
                "svn's own copy of the file is damaged, or its line ends are not as "
                "svn:eol-style says",
                where=str(self._place / path),
                advice="run svn revert, or commit it with the right line ends",
            )
        return data


def _files_below(top: Path, path: str, ignored: list[str]) -> Iterator[tuple[str, Kind]]:
    """Files that are not versioned, at or below a path; a checkout in them as one."""
    place = top / path
    if place.is_symlink():
        yield path, "link"
    elif not place.is_dir():
        yield path, "executable" if os.access(place, os.X_OK) else "file"
    elif any((place / name).exists() for name in CONTROL_FOLDERS):
        yield path, "submodule"
    else:
        for inner in sorted(place.iterdir()):
            if not any(fnmatchcase(inner.name, pattern) for pattern in ignored):
                yield from _files_below(top, join(path, inner.name), ignored)
