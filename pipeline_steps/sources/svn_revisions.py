"""Folders and files of many revisions of a Subversion repository: `source.Revisions`.

One `svnrdump dump` gives a revision, or a whole range of them, as the repository has them. An id is
the sha256 of a file's bytes, of a link's target, or of the names, kinds and ids in a folder.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline_steps.sources import svn_externals
from pipeline_steps.sources import svn_program as program
from pipeline_steps.sources.shared_block import SharedBlock
from pipeline_steps.sources.source import Entry, Node
from pipeline_steps.sources.svn_dump import (
    Folder,
    ForeignExternal,
    Replay,
    Stored,
    StoredFile,
    records,
)
from pipeline_steps.sources.svn_externals import External
from pipeline_steps.sources.svn_layout import Revision, join, parse_revision
from pipeline_steps.sources.svn_program import NotThere
from pipeline_steps.sources.svn_repository import NEWEST, Repository
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import ConfigurationError, MachineError
from pipeline_steps.toolbox.scratch import Scratch

#: Revisions that are read and not asked for cost little beside another start of svnrdump: in one
#: dump are all that are asked for with gaps up to this.
_GAP = 500
_LINK = b"link "


class Revisions(SharedBlock):
    """The branches of a repository, from the folder `below` in each on; see `source.Revisions`.

    A revision is the text of a `svn_layout.Revision`. The bytes of files are kept in a temporary
    file while a `with` block lasts; a copy in another process reads those that were read before.
    """

    system = "svn"

    def __init__(self, root: Path, repository: Repository, below: str = "") -> None:
        self.root = root
        self.repository = repository
        self._below = below
        self._lock = threading.RLock()
        self._blocks = 0
        self._texts = _Texts()
        self._trees: dict[tuple[str, int], Folder | None] = {}
        self._folders: dict[str, Folder] = {}
        self._mounted: dict[tuple[str, int], Folder] = {}
        self._mounts: dict[tuple[str, str], Stored] = {}
        #: Text → where it was read: branch and number.
        self._first_places: dict[str, tuple[str, int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            state = {name: value for name, value in self.__dict__.items() if name != "_lock"}
            return {**state, "_blocks": 0, "_mounted": {}, "_texts": self._texts.shared()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def _end(self) -> None:
        self._texts.close()

    # -- source.Revisions ----------------------------------------------------------------------

    def folder(self, revision: str, path: str) -> str | None:
        """The id of a folder in a revision."""
        with self, self._lock:
            top = self._tree(self._parsed(revision))
            node = top.at(path) if top is not None else None
            return self._id(node) if isinstance(node, Folder) else None

    def listing(self, folder: str) -> tuple[Node, ...]:
        """The names in a folder."""
        with self, self._lock:
            children = self._folder(folder).children
            return tuple(self._node(name, children[name]) for name in sorted(children))

    def child(self, folder: str, name: str) -> Node | None:
        """What one name is in a folder."""
        with self, self._lock:
            child = self._folder(folder).children.get(name)
            return None if child is None else self._node(name, child)

    def read(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Id → bytes of files, targets of links."""
        with self, self._lock:
            return {each: self._text(each) for each in ids}

    def digests(self, ids: Iterable[str]) -> dict[str, str]:
        """Id → sha256, which is the id."""
        return {each: each for each in ids}

    def prepare(self, revisions: Iterable[str] = (), folders: Iterable[str] = ()) -> None:
        """Read revisions in as few dumps as is sensible."""
        numbers: dict[str, set[int]] = {}
        for revision in map(self._parsed, revisions):
            if (revision.branch, revision.number) not in self._trees:
                numbers.setdefault(revision.branch, set()).add(revision.number)
        with self, self._lock:
            for branch, needed in numbers.items():
                for part in _without_gaps(sorted(needed)):
                    self._read_range(branch, part)

    def preload_for_workers(self, revisions: Iterable[str]) -> None:
        """Read all in as few dumps as is sensible; copies then start none."""
        self.prepare(revisions)

    # -- trees ---------------------------------------------------------------------------------

    def _parsed(self, text: str) -> Revision:
        revision = parse_revision(text)
        if revision is None or revision.uuid != self.repository.uuid:
            raise MachineError(
                f"the revision {text!r} is none of this repository",
                where=self.repository.url,
                advice="run svn update, or check out again",
            )
        return revision

    def _tree(self, revision: Revision) -> Folder | None:
        """The tree of a revision, with externals; None when it does not exist."""
        key = revision.branch, revision.number
        if key not in self._trees:
            self._read_range(revision.branch, [revision.number])
        tree = self._trees[key]
        if tree is None or not tree.has_externals:
            return tree
        if key not in self._mounted:
            self._mounted[key] = self._with_externals(tree, join(revision.branch, self._below))
        return self._mounted[key]

    def _read_range(self, branch: str, numbers: list[int]) -> None:
        """Read the trees of a branch at some numbers, sorted, in one dump from first to last."""
        try:
            trees = self._dump(join(branch, self._below), numbers)
        except NotThere:
            if len(numbers) == 1:
                trees = {numbers[0]: None}
            else:  # it does not exist all the time
                for number in numbers:
                    self._read_range(branch, [number])
                return
        for number, tree in trees.items():
            self._trees[branch, number] = tree
            if tree is not None:
                self._note(tree, (join(branch, self._below), number))

    def _dump(self, path: str, numbers: list[int]) -> dict[int, Folder | None]:
        first, last = numbers[0], numbers[-1]
        history: list[tuple[int, Folder | None]] = []

        def copied(source: str, number: int) -> Stored:
            if number >= first and (source == path or source.startswith(f"{path}/") or not path):
                then = next((tree for n, tree in reversed(history) if n <= number), None)
                node = then.at(source[len(path) :].strip("/")) if then else None
                if node is not None:
                    return node
            return self._stored(source, number)

        replay = Replay(path, self._texts.read, self._texts.keep, copied)
        number = first
        arguments = ("dump", "-q", "-r", f"{first}:{last}", program.joined(self._url, path))
        with self.repository.programs.stream(
            *arguments, url=self._url, program="svnrdump"
        ) as stream:
            for record in records(stream):
                if "Revision-number" in record.headers:
                    history.append((number, replay.folder))
                    number = program.number(record.headers["Revision-number"])
                else:
                    replay.apply(record)
        history.append((number, replay.folder))
        at = dict(history)
        return {number: at.get(number) for number in numbers}

    @property
    def _url(self) -> str:
        return self.repository.url

    def _stored(self, path: str, number: int) -> Stored:
        """What a path names in the repository, without externals. Raises NotThere."""
        node: Stored | None
        try:
            node = self._dump(path, [number])[number]
        except NotThere:  # svnrdump dumps no single file
            parent, _, name = path.rpartition("/")
            folder = self._dump(parent, [number])[number] if path else None
            node = folder.children.get(name) if folder else None
        if node is None:
            raise NotThere(
                f"there is no {path} in revision {number}",
                where=self._url,
                advice="correct the path or the revision; svn ls shows what there is",
            )
        return node

    # -- externals -----------------------------------------------------------------------------

    def _with_externals(self, folder: Folder, path: str) -> Folder:
        """A folder of the repository with what its externals bring."""
        if not folder.has_externals:
            return folder
        children = {
            name: self._with_externals(child, join(path, name))
            if isinstance(child, Folder)
            else child
            for name, child in folder.children.items()
        }
        result = Folder(children)
        for external in svn_externals.parse(folder.externals):
            result = result.with_node(external.path, self.mounted(external, path))
        return result

    def mounted(self, external: External, folder: str) -> Stored:
        """What an external in a folder of the repository brings."""
        key = folder, external.text
        if key not in self._mounts:
            self._mounts[key] = self._mount(external, folder)
        return self._mounts[key]

    def _mount(self, external: External, folder: str) -> Stored:
        path = svn_externals.path_in_repository(external.url, folder, self._url)
        if not external.pinned or path is None or not external.url:
            return ForeignExternal(external.text)
        peg = external.peg if external.peg is not None else NEWEST
        at = external.revision if external.revision is not None else external.peg
        facts = self.repository.facts(path, peg, at if at is not None else "")
        if facts is None:
            return ForeignExternal(external.text)
        node = self._stored(facts.path, facts.revision)
        self._note(node, (facts.path, facts.revision))
        return self._with_externals(node, facts.path) if isinstance(node, Folder) else node

    def files_in(self, node: Stored, path: str) -> list[Entry]:
        """The files in a node that `mounted` gave; their paths begin with `path`."""
        with self, self._lock:
            if isinstance(node, Folder):
                parts = [
                    self.files_in(each, join(path, name)) for name, each in node.children.items()
                ]
                return [entry for part in parts for entry in part]
            _, kind, identity = self._node("", node)
            assert kind != "folder", "that is a Folder"
            return [Entry(path, kind, identity)]

    # -- ids -----------------------------------------------------------------------------------

    def _folder(self, identity: str) -> Folder:
        if identity not in self._folders:
            raise MachineError(
                f"the folder {identity} is in no revision that was read",
                where=self._url,
                advice="this is a bug: report it",
            )
        return self._folders[identity]

    def _node(self, name: str, node: Stored) -> Node:
        if isinstance(node, Folder):
            return Node(name, "folder", self._id(node))
        if isinstance(node, ForeignExternal):
            return Node(name, "submodule", files.sha256(node.definition.encode()))
        if node.special and (target := self._target(node)) is not None:
            return Node(name, "link", target)
        return Node(name, "executable" if node.executable else "file", node.text)

    def _target(self, node: StoredFile) -> str | None:
        """The id of a link's target; None for another special file, which is read as it is."""
        data = self._text(node.text)
        if not data.startswith(_LINK):
            return None
        target = self._texts.keep(data.removeprefix(_LINK))
        self._first_places.setdefault(target, self._first_places[node.text])
        return target

    def _id(self, folder: Folder) -> str:
        """The id of a folder. Raises ConfigurationError for a malicious name."""
        if not folder.id:
            rows = []
            for name in sorted(folder.children):
                if name in ("", ".", "..") or "/" in name:
                    raise ConfigurationError(
                        f"the revision has the malicious file name {name!r}",
                        advice="do not trust this source",
                    )
                rows.append("\0".join(self._node(name, folder.children[name])))
            folder.id = files.sha256("\0\0".join(rows).encode("utf-8", "surrogateescape"))
        self._folders.setdefault(folder.id, folder)
        return folder.id

    # -- bytes ---------------------------------------------------------------------------------

    def _note(self, node: Stored, place: tuple[str, int]) -> None:
        """Remember where the texts of a node were read, for those that were not yet."""
        if isinstance(node, StoredFile):
            self._first_places.setdefault(node.text, place)
        elif isinstance(node, Folder) and not node.noted:
            node.noted = True
            for child in node.children.values():
                self._note(child, place)

    def _text(self, identity: str) -> bytes:
        """The bytes of a text; read again when they are no longer kept."""
        if identity not in self._texts and identity in self._first_places:
            self._keep_targets(self._stored(*self._first_places[identity]))
        if identity not in self._texts:
            raise MachineError(
                f"the file {identity} is in no revision that was read",
                where=self._url,
                advice="this is a bug: report it",
            )
        return self._texts.read(identity)

    def _keep_targets(self, node: Stored) -> None:
        if isinstance(node, Folder):
            for child in node.children.values():
                self._keep_targets(child)
        elif isinstance(node, StoredFile) and node.special:
            self._target(node)


class _Texts:
    """Bytes by their sha256, in a temporary file until `close`."""

    def __init__(self, other: Path | None = None, index: dict[str, tuple[int, int]] | None = None):
        """other, index: what `shared` of another one says, whose file is only read."""
        self._index: dict[str, tuple[int, int]] = {}
        self._scratch: Scratch | None = None
        self._file = self._end = -1
        self._other, self._other_index = other, index or {}

    def __contains__(self, key: str) -> bool:
        if key in self._index:
            return True
        return key in self._other_index and self._other is not None and self._other.exists()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_scratch": None, "_file": -1, "_end": -1}

    def shared(self) -> _Texts:
        """What another process may read of these texts, as long as they are not closed."""
        if self._scratch is None:
            return _Texts()
        return _Texts(self._scratch.path / "texts", dict(self._index))

    def keep(self, data: bytes) -> str:
        """Keep bytes. Returns their sha256. Raises MachineError for a failing disk."""
        key = files.sha256(data)
        if key in self:
            return key
        try:
            if self._scratch is None:
                self._scratch = Scratch("svn")
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self._file, self._end = os.open(self._scratch.path / "texts", flags, 0o600), 0
            view = memoryview(data)
            while view:
                written = os.pwrite(self._file, view, self._end + len(data) - len(view))
                view = view[written:]
        except OSError as error:
            raise files.failure(error, "a temporary file for svn") from error
        self._index[key] = self._end, len(data)
        self._end += len(data)
        return key

    def read(self, key: str) -> bytes:
        """The bytes of a key that is kept."""
        if key in self._index:
            start, size = self._index[key]
            return os.pread(self._file, size, start)
        assert self._other is not None, "its index is not empty"
        start, size = self._other_index[key]
        with self._other.open("rb") as file:
            file.seek(start)
            return file.read(size)

    def close(self) -> None:
        """Forget everything, and remove the file."""
        if self._scratch is not None:
            os.close(self._file)
            self._scratch.remove()
        self._scratch, self._index = None, {}
        self._other, self._other_index = None, {}


def _without_gaps(numbers: list[int]) -> Iterator[list[int]]:
    """Sorted numbers in parts without large gaps.

    >>> list(_without_gaps([1, 3, 900]))
    [[1, 3], [900]]
    """
    part: list[int] = []
    for number in numbers:
        if part and number - part[-1] > _GAP:
            yield part
            part = []
        part.append(number)
    yield part
