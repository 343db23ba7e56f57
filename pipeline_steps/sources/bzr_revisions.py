"""Folders and files of Bazaar revisions, read through one brz: `source.Revisions` for Bazaar.

brz tells what each file of an inventory is: its SHA-1 and the revision that stored it. A file's id
is that SHA-1 (of a link's target ours), a folder's the SHA-256 over the names, kinds and ids in it;
a folder without files is none. What is read is compared with its id, so an id never stands for
other bytes, whatever a repository claims.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline_steps.sources import bzr_program as program
from pipeline_steps.sources.bzr_program import Answer, Brz, BrzError
from pipeline_steps.sources.shared_block import SharedBlock
from pipeline_steps.sources.source import Kind, Node
from pipeline_steps.sources.tree import node_at
from pipeline_steps.toolbox import files, process
from pipeline_steps.toolbox.errors import ConfigurationError, MachineError

#: Revisions and files in one request.
_REVISIONS, _FILES = 200, 500
#: How much is kept: bytes of files, of one file, and names in folders.
_KEPT_BYTES, _KEPT_FILE, _KEPT_NAMES = 32 * 2**20, 2**20, 300_000
_KINDS: dict[str, Kind] = {
    "file": "file",
    "executable": "executable",
    "symlink": "link",
    "tree-reference": "submodule",
}
FETCH = "run brz pull"


class Inventories(SharedBlock):
    """The revisions of the branch at `root`; see `source.Revisions`.

    A revision is a revision id. In a `with` block one brz answers everything; it starts with the
    first question and ends with the block.
    """

    system = "bzr"

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.RLock()
        self._blocks = 0
        self._open = contextlib.ExitStack()
        self._former: tuple[str, _Inventory] | None = None
        self._reading = ""
        self._roots: dict[str, str | None] = {}  # revision → id of its top folder
        self._origins: dict[str, str] = {}  # folder id → a revision that has it
        self._folders: dict[str, tuple[Node, ...]] = {}
        self._texts: dict[str, tuple[str, str]] = {}  # file id → Bazaar's file id and revision
        self._links: dict[str, bytes] = {}
        self._digests: dict[str, str] = {}
        self._blobs: dict[str, bytes] = {}
        self._bytes = self._names = 0

    def __reduce__(self) -> tuple[type[Inventories], tuple[Path]]:
        return Inventories, (self.root,)

    @functools.cached_property
    def _brz(self) -> Brz:
        return self._open.enter_context(program.running(self.root))

    def _end(self) -> None:
        """End brz; the next question starts another one."""
        self.__dict__.pop("_brz", None)
        self._open.close()

    def call(self, question: str, *, timeout: float = program.LOCAL, **arguments: Any) -> Answer:
        """What brz answers to a question (`brz/answers.py`). Raises BrzError for its failures."""
        with self, self._lock:
            brz = self._brz
            try:
                return brz.ask(question, arguments, timeout)
            finally:
                if not brz.is_usable:  # what it still has to say is no answer to the next question
                    self._end()

    def ask(self, question: str, **arguments: Any) -> Answer:
        """Like `call`; raises our errors."""
        try:
            return self.call(question, **arguments)
        except BrzError as error:
            raise program.failure(self.root, error) from error

    def folder(self, revision: str, path: str) -> str | None:
        """The id of the folder at `path`."""
        with self:
            self.prepare([revision])
            top = self._roots[revision]
            node = node_at(self, top, path) if top else None
        return node.id if node is not None and node.kind == "folder" else None

    def listing(self, folder: str) -> tuple[Node, ...]:
        """What is in a folder, by name."""
        with self._lock:
            if folder not in self._folders:
                self._read_again(folder)
            return self._folders[folder]

    def child(self, folder: str, name: str) -> Node | None:
        """What `name` is in a folder."""
        return next((node for node in self.listing(folder) if node.name == name), None)

    def preload_for_workers(self, revisions: Iterable[str]) -> None:
        """Nothing: each process reads what it needs."""

    def prepare(self, revisions: Iterable[str] = (), folders: Iterable[str] = ()) -> None:
        """Read the inventories of revisions; those of folders were read with their revisions."""
        with self, self._lock:
            new = [each for each in dict.fromkeys(revisions) if each not in self._roots]
            for start in range(0, len(new), _REVISIONS):
                self._read_inventories(new[start : start + _REVISIONS])
            for revision in new:
                if revision not in self._roots:
                    problem = f"the revision {revision} is not here"
                    raise MachineError(problem, where=str(self.root), advice=FETCH)

    def _read_inventories(self, revisions: list[str]) -> None:
        if self._names > _KEPT_NAMES:
            self._folders, self._names, self._former = {}, 0, None
        base, inventory = self._former or (None, _Inventory())
        self._former = None  # unless everything goes well
        for revision, changes in self.ask("trees", revisions=revisions, base=base).value:
            self._reading = revision
            inventory.apply(changes, self)
            base, self._roots[revision] = revision, inventory.top
        if base:
            self._former = base, inventory

    def _read_again(self, folder: str) -> None:
        """A folder that is no longer kept, from the revision that had it."""
        revision = self._origins.get(folder)
        if revision is None:
            raise MachineError(
                f"the folder {folder} is of no revision that was read",
                where=str(self.root),
                advice="this is a bug: report it",
            )
        self._former = None
        self._read_inventories([revision])

    def keep_folder(self, identity: str, nodes: tuple[Node, ...]) -> None:
        """Remember what is in a folder of the revision that is being read."""
        self._origins.setdefault(identity, self._reading)
        if identity not in self._folders:
            self._folders[identity] = nodes
            self._names += len(nodes)

    def keep_file(self, identity: str, file: str, revision: str) -> None:
        """Remember where the bytes of a file are stored."""
        self._texts.setdefault(identity, (file, revision))

    def keep_link(self, target: str) -> str:
        """The id of a link's target."""
        data = target.encode("utf-8", "surrogateescape")
        identity = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        self._links[identity] = data
        return identity

    def read(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Id → bytes of files, targets of links."""
        return dict(self._read(dict.fromkeys(ids)))

    def digests(self, ids: Iterable[str]) -> dict[str, str]:
        """Id → sha256 of files ("sha256:" + hex)."""
        requested = list(dict.fromkeys(ids))
        new = [each for each in requested if each not in self._digests]
        for identity, data in self._read(new):
            self._digests[identity] = files.sha256(data)
        return {identity: self._digests[identity] for identity in requested}

    def _read(self, ids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        unread = []
        for identity in ids:
            data = self._blobs.get(identity, self._links.get(identity))
            if data is None:
                unread.append(identity)
            else:
                yield identity, data
        with self:
            for start in range(0, len(unread), _FILES):
                process.raise_if_stopping()
                yield from self._read_texts(unread[start : start + _FILES])

    def _read_texts(self, ids: list[str]) -> Iterator[tuple[str, bytes]]:
        with self._lock:
            unknown = [each for each in ids if each not in self._texts]
            if unknown:
                raise MachineError(
                    f"the file {unknown[0]} is of no revision that was read",
                    advice="this is a bug: report it",
                )
            answer = self.ask("texts", keys=[self._texts[each] for each in ids])
        for identity, data in zip(ids, answer.data, strict=True):
            if hashlib.sha1(data, usedforsecurity=False).hexdigest() != identity:
                raise MachineError(
                    f"the bytes of the file {identity} are not those that its revision names",
                    where=str(self.root),
                    advice="the repository is damaged: run brz check",
                )
            if len(data) <= _KEPT_FILE:
                if self._bytes + len(data) > _KEPT_BYTES:
                    self._blobs, self._bytes = {}, 0
                self._blobs[identity] = data
                self._bytes += len(data)
            yield identity, data


class _Item(NamedTuple):
    """One entry of an inventory. parent: Bazaar's id of its folder. id: "" for a folder."""

    parent: str
    name: str
    kind: Kind | Literal["folder"]
    id: str


class _Inventory:
    """The files of one revision by Bazaar's ids, turned into the next one by what differs."""

    def __init__(self) -> None:
        self.top: str | None = None
        self._items: dict[str, _Item] = {}
        self._inside: dict[str, dict[str, str]] = {}  # folder → name → id
        self._nodes: dict[str, Node | None] = {}  # folder → its node, None without files
        self._top = ""

    def apply(self, changes: list[list[Any]], revisions: Inventories) -> None:
        """Become the revision that differs so. revisions: keeps what is new."""
        changed: set[str] = set()
        for file, _ in changes:
            if former := self._items.pop(file, None):
                self._inside[former.parent].pop(former.name, None)
                changed.add(former.parent)
        for file, row in changes:
            if row is not None:
                changed.add(self._add(file, row, revisions))
        self._make_folders(self._with_parents(changed), revisions)
        node = self._nodes.get(self._top)
        self.top = node.id if node else None

    def _add(self, file: str, row: list[Any], revisions: Inventories) -> str:
        """Returns the folder that differs by it."""
        parent, name, kind, content, revision = row
        if parent is None:
            self._top = file
            self._items[file] = _Item("", "", "folder", "")
            self._inside.setdefault("", {})[""] = file
            return file
        inside = self._inside.setdefault(parent, {})
        if name in ("", ".", "..") or "/" in name or name in inside:
            raise ConfigurationError(
                f"the revision has the malicious file name {name!r}",
                advice="do not trust this source",
            )
        if kind == "symlink":
            content = revisions.keep_link(content)
        elif kind in ("file", "executable"):
            revisions.keep_file(content, file, revision)
        self._items[file] = _Item(parent, name, _KINDS.get(kind, "folder"), content or "")
        inside[name] = file
        return file if kind == "directory" else str(parent)

    def _with_parents(self, folders: Iterable[str]) -> set[str]:
        with_parents: set[str] = set()
        for folder in folders:
            while folder and folder not in with_parents:
                with_parents.add(folder)
                item = self._items.get(folder)
                folder = item.parent if item else ""
        return with_parents

    def _make_folders(self, changed: set[str], revisions: Inventories) -> None:
        """The nodes of folders, those in them first."""
        for folder in changed:
            self._nodes.pop(folder, None)
        stack = [self._top]
        while stack:
            folder = stack[-1]
            missing = [
                file
                for file in self._inside.get(folder, {}).values()
                if self._items[file].kind == "folder" and file not in self._nodes
            ]
            if missing:
                stack += missing
            else:
                self._nodes[folder] = self._folder_node(folder, revisions)
                stack.pop()

    def _folder_node(self, folder: str, revisions: Inventories) -> Node | None:
        nodes = []
        for name, file in sorted(self._inside.get(folder, {}).items()):
            item = self._items[file]
            if item.kind == "folder":
                if node := self._nodes[file]:
                    nodes.append(node)
            else:
                nodes.append(Node(name, item.kind, item.id))
        if not nodes:
            return None
        lines = "".join(f"{kind} {identity} {name}\0" for name, kind, identity in nodes)
        digest = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
        revisions.keep_folder(digest, tuple(nodes))
        return Node(self._items[folder].name, "folder", digest)
