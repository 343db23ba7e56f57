"""Git's objects by their ids, from one git process that stays: many revisions are read without a checkout or an index.

What was read is kept within bounds, by id: a tree or a file that several revisions share is read once.
"""

from __future__ import annotations

import contextlib
import functools
import re
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from pipeline_steps.core.errors import ConfigurationError, MachineError
from pipeline_steps.sources import git_program as program
from pipeline_steps.sources.source import Entry, Kind
from pipeline_steps.toolbox import files, process

#: Ids asked for at once: git reads them before it answers, and their lines must fit into a pipe.
_AT_ONCE = 256
#: How much is kept: bytes of files, of one file, and names in trees.
_KEPT_BYTES, _KEPT_FILE, _KEPT_NAMES = 32 * 2**20, 2**20, 100_000
#: Bytes of an id → one name in a tree object: mode, name, id.
_ROWS = {length: re.compile(rb"([0-7]+) ([^\0]+)\0(.{%d})" % length, re.DOTALL) for length in (20, 32)}
KINDS: dict[str, Kind] = {"100644": "file", "100664": "file", "100755": "executable", "120000": "link"}


class Node(NamedTuple):
    """One name in a tree. kind: "tree", or a file's (see `source.Entry`); id: of the object."""

    name: str
    kind: str
    id: str


class Objects:
    """The objects of the repository at `root`, a checkout's top folder or a bare repository; threads may share them.

    env: of git, for objects that lie elsewhere. git is started by the first question, or by `begin`, and ends with
    `close`, `with` or when nobody has this any more.

    Raises MachineError for an object that is not here, as in a clone that was cut or is damaged.
    """

    def __init__(self, root: Path, env: Mapping[str, str] | None = None) -> None:
        self.root = root
        self._env = {**program.ENVIRONMENT, **(env or {})}
        self._lock = threading.Lock()
        self._open = contextlib.ExitStack()
        self._of_commits: dict[str, str] = {}
        self._trees: dict[str, tuple[Node, ...]] = {}
        self._whole: set[str] = set()  # ids of trees that were read with all below them
        self._digests: dict[str, str] = {}
        self._blobs: dict[str, bytes] = {}
        self._bytes = self._names = 0

    @functools.cached_property
    def _git(self) -> subprocess.Popen[bytes]:
        talk = process.conversation(["git", "cat-file", "--batch"], cwd=self.root, env=self._env, advice=program.ADVICE)
        return self._open.enter_context(talk)

    def begin(self) -> None:
        """Start git now: it is ready by the time of the first question."""
        with self._lock:
            self._git.poll()

    def __enter__(self) -> Objects:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the git process; the next question starts another."""
        with self._lock:
            self._open.close()
            self.__dict__.pop("_git", None)

    def __del__(self) -> None:
        self._open.close()

    def tree(self, revision: str) -> str:
        """The id of a commit's tree."""
        self.read_ahead([revision])
        return self._of_commits[revision]

    def listing(self, tree: str) -> tuple[Node, ...]:
        """The names in one tree, in git's order."""
        found = self._trees.get(tree)
        return self._read_trees([tree])[tree] if found is None else found

    def read_ahead(self, revisions: Iterable[str], trees: Iterable[str] = ()) -> None:
        """Read the trees of commits, and trees with all below them, a level at a time: one by one is slow."""
        unknown = [each for each in dict.fromkeys(revisions) if each not in self._of_commits]
        for revision, data in self._asked(unknown):
            if not data.startswith(b"tree "):
                raise MachineError(f"{revision} is no commit", where=str(self.root))
            self._of_commits[revision] = data[5 : data.index(b"\n")].decode()
        new = [each for each in trees if each not in self._whole]
        level = list(dict.fromkeys((*new, *(self._of_commits[each] for each in unknown))))
        below = set(new)
        while level:
            self._read_trees([each for each in level if each not in self._trees])
            found = [
                node.id for each in level if each in below for node in self._trees.get(each, ()) if node.kind == "tree"
            ]
            level = list(dict.fromkeys(found))
            below.update(level)
        self._whole.update(new)

    def _read_trees(self, ids: list[str]) -> dict[str, tuple[Node, ...]]:
        if self._names > _KEPT_NAMES:
            self._trees, self._whole, self._names = {}, set(), 0
        found = {identity: _parsed(data, len(identity) // 2) for identity, data in self._asked(ids)}
        self._trees.update(found)
        self._names += sum(map(len, found.values()))
        return found

    def child(self, tree: str, path: str) -> Node | None:
        """What `path` names below a tree, None when there is nothing."""
        node = Node("", "tree", tree)
        for part in path.split("/") if path else ():
            inside = self.listing(node.id) if node.kind == "tree" else ()
            found = next((each for each in inside if each.name == part), None)
            if found is None:
                return None
            node = found
        return node

    def files(self, tree: str, prefix: str = "") -> Iterator[Entry]:
        """Every file below a tree, links and submodules among them; paths begin with `prefix`."""
        for node in self.listing(tree):
            path = f"{prefix}{node.name}"
            if node.kind == "tree":
                yield from self.files(node.id, f"{path}/")
            else:
                yield Entry(path, node.kind, node.id)  # type: ignore[arg-type]

    def blobs(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Id → bytes of files."""
        wanted = list(dict.fromkeys(ids))
        kept = self._blobs
        found = {each: kept[each] for each in wanted if each in kept}
        for identity, data in self._asked([each for each in wanted if each not in found]):
            found[identity] = data
            if self._bytes > _KEPT_BYTES:
                self._blobs, self._bytes = {}, 0
            if len(data) <= _KEPT_FILE:
                self._blobs[identity] = data
                self._bytes += len(data)
        return found

    def digests(self, ids: Iterable[str]) -> dict[str, str]:
        """Id → sha256 of files ("sha256:" + hex)."""
        wanted = list(dict.fromkeys(ids))
        unknown = [each for each in wanted if each not in self._digests]
        for start in range(0, len(unknown), _AT_ONCE):
            read = self.blobs(unknown[start : start + _AT_ONCE])
            self._digests.update({identity: files.sha256(data) for identity, data in read.items()})
        return {identity: self._digests[identity] for identity in wanted}

    def learn(self, digests: Mapping[str, str]) -> None:
        """Take it that files have these digests: whoever says so has seen bytes of that id. Without an id: nothing."""
        self._digests.update({identity: digest for identity, digest in digests.items() if identity})

    def _asked(self, ids: list[str]) -> Iterator[tuple[str, bytes]]:
        """Id and bytes of objects, whatever they are."""
        for start in range(0, len(ids), _AT_ONCE):
            try:
                with self._lock:
                    found = self._answers(ids[start : start + _AT_ONCE])
            except OSError as error:
                raise MachineError(f"git cat-file ended early: {error}", where=str(self.root)) from error
            yield from found

    def _answers(self, ids: list[str]) -> list[tuple[str, bytes]]:
        asked, answer = self._git.stdin, self._git.stdout
        assert asked is not None and answer is not None, "opened as pipes"
        asked.write("".join(f"{each}\n" for each in ids).encode())
        asked.flush()
        found, missing = [], ""
        for identity in ids:  # all are read before one is given out: the next question must not find old answers
            header = answer.readline().split()
            if len(header) == 2 and header[1] == b"missing":
                missing = identity
                continue
            data = answer.read(int(header[2]) + 1) if len(header) == 3 else b""
            if not data.endswith(b"\n"):
                raise MachineError("git cat-file ended early", where=str(self.root), advice="git fsck")
            found.append((identity, data[:-1]))
        if missing:
            what = f"the object {missing} is not here"
            raise MachineError(what, where=str(self.root), advice="git fetch, or git fsck")
        return found


def _parsed(data: bytes, length: int) -> tuple[Node, ...]:
    """The names in a tree object. length: bytes of an id. Source: git, Documentation/gitformat (tree objects)."""
    rows = _ROWS[length].findall(data)
    if sum(len(mode) + len(name) + 2 + length for mode, name, _ in rows) != len(data):
        raise MachineError("a tree object is damaged", advice="git fsck")
    nodes = []
    for mode, name, identity in rows:
        if name in (b".", b"..") or b"/" in name:
            text = name.decode(errors="replace")
            raise ConfigurationError(f"the commit holds the hostile name {text!r}", advice="do not trust this source")
        kind = "tree" if mode == b"40000" else KINDS.get(mode.decode(), "submodule")
        nodes.append(Node(name.decode("utf-8", "surrogateescape"), kind, identity.hex()))
    return tuple(nodes)
