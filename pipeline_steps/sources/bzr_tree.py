"""The working tree as Bazaar would store it. Nothing is written into it.

It is the tree of the revision that is checked out, plus what differs from it on disk: versioned
files, and others that are not ignored, each as a commit would store it (content filters applied).
Of ignore rules brz's own defaults and .bzrignore count, not the user's.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from pipeline_steps.sources.bzr_revisions import Inventories
from pipeline_steps.sources.source import Entry, Kind
from pipeline_steps.sources.tree import StoredTree, is_pipeline_output
from pipeline_steps.toolbox import files

_AT_ONCE = 256


class CheckoutTree(StoredTree):
    """The working tree below a folder, based on `revision`.

    changes: path from the top → kind on disk, None for what is gone.
    """

    def __init__(
        self,
        revisions: Inventories,
        revision: str,
        folder: str,
        changes: Mapping[str, Kind | None],
    ) -> None:
        super().__init__(revisions, revision, folder)
        self._inventories = revisions
        self._below = f"{folder}/" if folder else ""
        self._changes = {
            path[len(self._below) :]: kind
            for path, kind in sorted(changes.items())
            if path.startswith(self._below) and not is_pipeline_output(path[len(self._below) :])
        }
        self.modified = tuple(self._changes)

    @functools.cached_property
    def _entries(self) -> dict[str, Entry]:
        entries = dict(super()._entries)
        for path, kind in self._changes.items():
            entries.pop(path, None)
            if kind:
                entries[path] = Entry(path, kind, "")
        return dict(sorted(entries.items())) if self._changes else entries

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The bytes of files as Bazaar stores them, or would store them."""
        entries = {path: self._entry(path) for path in paths}
        contents = dict(self._read_changed(e.path for e in entries.values() if not e.id))
        contents |= super().read(path for path in entries if path not in contents)
        return {path: contents[path] for path in entries}

    def digests(self, paths: Iterable[str]) -> dict[str, str]:
        """The sha256 of what `read` returns."""
        entries = {path: self._entry(path) for path in paths}
        changed = self._read_changed(e.path for e in entries.values() if not e.id)
        digests = {path: files.sha256(data) for path, data in changed}
        digests |= super().digests(path for path in entries if path not in digests)
        return {path: digests[path] for path in entries}

    def _read_changed(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        unread = iter(paths)
        while part := list(islice(unread, _AT_ONCE)):
            answer = self._inventories.ask("files", paths=[self._below + path for path in part])
            yield from zip(part, answer.data, strict=True)
