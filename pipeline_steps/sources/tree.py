"""The tree of one revision of any system, through `Revisions`."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline_steps.sources.source import Entry, Node, Revisions, Source, short_revision
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import ConfigurationError, MachineError, Temporary, UsageError

#: The folder that steps write next to pipeline.yaml; it is part of no tree.
OURS = ".pipeline"


class StoredTree:
    """The tree of a revision below a folder ("" for all), empty when the folder does not exist."""

    modified: tuple[str, ...] = ()

    def __init__(self, revisions: Revisions, revision: str, folder: str) -> None:
        self.root = revisions.root
        self.revision = revision
        self.folder = folder
        self._revisions = revisions
        self._folder_id = revisions.folder(revision, folder)

    @functools.cached_property
    def _entries(self) -> dict[str, Entry]:
        if self._folder_id is None:
            return {}
        with self._revisions:
            self._revisions.prepare(folders=[self._folder_id])
            entries = sorted(walk_files(self._revisions, self._folder_id))
        return {entry.path: entry for entry in entries if not is_pipeline_output(entry.path)}

    def entries(self) -> Mapping[str, Entry]:
        """All files below the folder, by path, sorted."""
        return self._entries

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The stored bytes of files, the targets of links."""
        ids = {path: self._entry(path).id for path in paths}
        with _naming_file(ids):
            data = self._revisions.read(ids.values())
        return {path: data[identity] for path, identity in ids.items()}

    def digests(self, paths: Iterable[str]) -> dict[str, str]:
        """The sha256 of what `read` returns."""
        ids = {path: self._entry(path).id for path in paths}
        with _naming_file(ids):
            digests = self._revisions.digests(ids.values())
        return {path: digests[identity] for path, identity in ids.items()}

    def _entry(self, path: str) -> Entry:
        where = str(self.root / self.folder)
        return readable_entry(
            self.entries(), path, self._revisions.system, self.revision, where=where
        )


def readable_entry(
    entries: Mapping[str, Entry], path: str, system: str, revision: str, *, where: str
) -> Entry:
    """The entry of a file or link. Raises ConfigurationError when there is none, or its files are
    stored elsewhere.
    """
    entry = entries.get(path)
    if entry is None:
        raise ConfigurationError(
            f"{path} is not stored in {system} at {short_revision(revision)}",
            where=where,
            advice="add the file to the source, or correct its name in pipeline.yaml",
        )
    if entry.kind == "submodule" and system == "svn":
        raise ConfigurationError(
            f"{path} is an external of another repository, or of no fixed revision: its files are "
            "not stored here",
            where=where,
            advice="name a revision of this repository in svn:externals (^/PATH@REVISION), or "
            "commit its files here",
        )
    if entry.kind == "submodule":
        raise ConfigurationError(
            f"{path} is a {system} repository of its own (a submodule): its files are not "
            "stored here",
            where=where,
            advice="keep it out of charts and build contexts, or commit its files here",
        )
    return entry


@contextlib.contextmanager
def _naming_file(ids: Mapping[str, str]) -> Iterator[None]:
    """Add the path to errors that name only a file's id. ids: path → id."""
    try:
        yield
    except MachineError as error:
        path = next(
            (
                path
                for path, identity in ids.items()
                # git names the object alone; people know the file.
                if identity and f" {identity} " in f" {error} "
            ),
            "",
        )
        if not path:
            raise
        raise MachineError(error.what, where=path, advice=error.advice) from error


def is_pipeline_output(path: str) -> bool:
    """Whether `path` is in the folder that steps write next to pipeline.yaml."""
    return path == OURS or path.startswith(f"{OURS}/")


def node_at(revisions: Revisions, folder: str, path: str) -> Node | None:
    """What `path` names below the folder with this id, None when nothing; "" is the folder
    itself.
    """
    node = Node("", "folder", folder)
    for part in path.split("/") if path else ():
        inner = revisions.child(node.id, part) if node.kind == "folder" else None
        if inner is None:
            return None
        node = inner
    return node


def is_stored(revisions: Revisions, revision: str, path: str) -> bool:
    """Whether a revision stores a file, or a link or submodule above it; pipeline output
    included.
    """
    with revisions:
        folder = revisions.folder(revision, "")
        for part in path.split("/"):
            node = node_at(revisions, folder, part) if folder else None
            if node is None or node.kind != "folder":
                return node is not None
            folder = node.id
    return False


def is_added_or_stored(source: Source, path: str) -> bool:
    """Whether a source whose history is here tracks a path; see `Source.is_tracked`."""
    # Asked first: what is added is stored by the next commit, and no revision has it yet.
    if source.is_versioned(path):
        return True
    try:
        revision = source.revision()
    except UsageError:  # there is no commit yet
        return False
    return is_stored(source.revisions, revision, path)


def walk_files(revisions: Revisions, folder: str, prefix: str = "") -> Iterator[Entry]:
    """All files below the folder with this id, with links and submodules; paths begin with
    `prefix`.
    """
    for name, kind, identity in revisions.listing(folder):
        if kind == "folder":
            yield from walk_files(revisions, identity, f"{prefix}{name}/")
        else:
            yield Entry(f"{prefix}{name}", kind, identity)


def read_working_file(place: Path) -> bytes:
    """The bytes of a file in a checkout, of a link its target.

    Raises Temporary when it went away meanwhile, MachineError when it cannot be read.
    """
    try:
        return os.fsencode(place.readlink()) if place.is_symlink() else place.read_bytes()
    except FileNotFoundError as error:
        raise Temporary(
            "the file went away while it was read", where=str(place), advice="run it again"
        ) from error
    except OSError as error:
        raise files.unreadable(error, place) from error
