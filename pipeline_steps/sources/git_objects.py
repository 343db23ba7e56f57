"""Read git objects by id through one long-running `git cat-file`: `source.Revisions` for git.

A bounded cache by id: a tree or file that several revisions share is read once. No library does
this: dulwich and libgit2 do not fetch what a partial clone lacks, GitPython asks for one object at
a time.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, TypeVar

from pipeline_steps.sources import git_lfs
from pipeline_steps.sources import git_program as program
from pipeline_steps.sources.shared_block import SharedBlock
from pipeline_steps.sources.source import Kind, Node
from pipeline_steps.sources.tree import node_at
from pipeline_steps.toolbox import files, process
from pipeline_steps.toolbox.answer_pipe import AnswerPipe
from pipeline_steps.toolbox.errors import ConfigurationError, MachineError

#: Ids in one request: git may answer before it has read all of them, so their lines must fit into
#: the smallest pipe.
_AT_ONCE = 60
#: How much is kept: bytes of files, of one file, and names in trees.
_KEPT_BYTES, _KEPT_FILE, _KEPT_NAMES = 32 * 2**20, 2**20, 100_000
#: Names in a tree that is made into Nodes as a whole, and how many larger ones are kept as rows.
_SMALL, _KEPT_LARGE = 32, 8
#: Bytes of an id → one name in a tree object: mode, name, id.
_ROWS = {
    length: re.compile(rb"([0-7]+) ([^\0]+)\0(.{%d})" % length, re.DOTALL) for length in (20, 32)
}
_SIZE = re.compile(r"[0-9]{1,18}")
_Answer = TypeVar("_Answer")
KINDS: dict[str, Kind] = {
    "100644": "file",
    "100664": "file",
    "100755": "executable",
    "120000": "link",
}


class Objects(SharedBlock):
    """The objects of the repository at `root`, a checkout or a bare repository; see
    `source.Revisions`.

    A folder's id is its tree id; a revision is any name of a commit. In a `with` block one git
    process answers all requests; it starts with the first request and ends with the block.

    env: for git, when objects are stored elsewhere.
    """

    system = "git"

    def __init__(self, root: Path, env: Mapping[str, str] | None = None) -> None:
        self.root = root
        self._env = dict(env or {})
        self._lock = threading.RLock()
        self._blocks = 0
        self._open = contextlib.ExitStack()
        self._tree_of_commit: dict[str, str] = {}
        self._trees: dict[str, tuple[Node, ...]] = {}
        self._large_trees: dict[str, list[tuple[bytes, bytes, bytes]]] = {}
        self._read_recursively: set[str] = set()  # ids of trees that were read with all below them
        self._digests: dict[str, str] = {}
        self._blobs: dict[str, bytes] = {}
        self._bytes = self._names = 0

    def __reduce__(self) -> tuple[type[Objects], tuple[Path, dict[str, str]]]:
        return Objects, (self.root, self._env)

    @functools.cached_property
    def _git(self) -> _CatFile:
        return self._open.enter_context(
            _cat_file(self.root, {**program.environment(), **self._env})
        )

    def _end(self) -> None:
        """End the git process; the next request starts another one."""
        self.__dict__.pop("_git", None)
        self._open.close()

    def head(self) -> str:
        """The id of the commit that is checked out, "" before the first one."""
        with self, self._lock, self._end_when_broken():
            return self._git.head()

    def folder(self, revision: str, path: str) -> str | None:
        """The id of the tree at `path`."""
        with self:
            self.prepare([revision])
            node = node_at(self, self._tree_of_commit[revision], path)
        return node.id if node is not None and node.kind == "folder" else None

    def listing(self, folder: str) -> tuple[Node, ...]:
        """The names in a tree, in git's order."""
        cached = self._trees.get(folder)
        return self._read_trees([folder])[folder] if cached is None else cached

    def child(self, folder: str, name: str) -> Node | None:
        """What `name` is in a tree. Of a large tree only that row becomes a Node."""
        if (nodes := self._trees.get(folder)) is None:
            encoded = os.fsencode(name)
            rows = self._large_trees.get(folder)
            if rows is None:
                [rows] = self._read_objects([folder], _tree_rows).values()
                # A folder of thousands of archives is asked for one name: a Node for each row costs
                # far more than the search.
                if len(rows) <= _SMALL:
                    self._trees[folder] = _nodes(rows)
                    self._names += len(rows)
                    return self.child(folder, name)
                if len(self._large_trees) >= _KEPT_LARGE:
                    self._large_trees.clear()
                self._large_trees[folder] = rows
            nodes = _nodes(row for row in rows if row[1] == encoded)
        return next((node for node in nodes if node.name == name), None)

    def preload_for_workers(self, revisions: Iterable[str]) -> None:
        """Nothing: each process reads what it needs."""

    def prepare(self, revisions: Iterable[str] = (), folders: Iterable[str] = ()) -> None:
        """Read the trees of commits, and folders with all trees below them, one level at a time."""
        new_revisions = [
            each for each in dict.fromkeys(revisions) if each not in self._tree_of_commit
        ]
        new_folders = [each for each in folders if each not in self._read_recursively]
        with self:
            self._read_commits(new_revisions)
            self._read_levels(new_folders, [self._tree_of_commit[each] for each in new_revisions])
        self._read_recursively.update(new_folders)

    def _read_commits(self, ids: list[str]) -> None:
        for revision, data in self._read_objects(ids, _bytes).items():
            while data.startswith(b"object "):  # an annotated tag stands for what it names
                named = program.object_id(self.root, data[7:].partition(b"\n")[0])
                (data,) = self._read_objects([named], _bytes).values()
            if not data.startswith(b"tree "):
                raise MachineError(
                    f"{revision} is no commit",
                    where=str(self.root),
                    advice="name a commit, or a tag of one",
                )
            tree = data[5:].partition(b"\n")[0]
            self._tree_of_commit[revision] = program.object_id(self.root, tree)

    def _read_levels(self, whole: list[str], alone: list[str]) -> None:
        """Read trees; those in `whole` with all trees below them."""
        level = list(dict.fromkeys((*whole, *alone)))
        below = set(whole)
        while level:
            self._read_trees([each for each in level if each not in self._trees])
            inside = [node for each in level if each in below for node in self._trees.get(each, ())]
            level = list(dict.fromkeys(node.id for node in inside if node.kind == "folder"))
            below.update(level)

    def _read_trees(self, ids: list[str]) -> dict[str, tuple[Node, ...]]:
        # `_read_recursively` claims that trees are cached, so it goes with them.
        if self._names > _KEPT_NAMES:
            self._trees, self._read_recursively, self._names = {}, set(), 0
        trees = self._read_objects(ids, lambda identity, data: _nodes(_tree_rows(identity, data)))
        self._trees.update(trees)
        self._names += sum(map(len, trees.values()))
        return trees

    def read(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Id → bytes of files; for an LFS pointer the bytes of its file."""
        unique_ids = list(dict.fromkeys(ids))
        cached = {each: self._blobs[each] for each in unique_ids if each in self._blobs}
        return cached | self._read_objects(
            [each for each in unique_ids if each not in cached], self._cache_file
        )

    def digests(self, ids: Iterable[str]) -> dict[str, str]:
        """Id → sha256 of files ("sha256:" + hex), with one file in memory at a time."""
        unique_ids = list(dict.fromkeys(ids))
        new_ids = [each for each in unique_ids if each not in self._digests]
        self._digests.update(
            {each: files.sha256(self._blobs[each]) for each in new_ids if each in self._blobs}
        )
        uncached = [each for each in new_ids if each not in self._digests]
        self._digests.update(
            self._read_objects(
                uncached, lambda identity, data: files.sha256(self._cache_file(identity, data))
            )
        )
        return {identity: self._digests[identity] for identity in unique_ids}

    @functools.cached_property
    def _lfs_store(self) -> Path:
        common = program.output(self.root, "rev-parse", "--git-common-dir")
        return program.path(self.root, common) / "lfs/objects"

    def _cache_file(self, identity: str, data: bytes) -> bytes:
        if lfs := git_lfs.pointer(data):
            data = git_lfs.read_object(self._lfs_store, lfs, identity)
        # Dropping everything is simple, and cheap beside the limit's rare use.
        if self._bytes > _KEPT_BYTES:
            self._blobs, self._bytes = {}, 0
        if len(data) <= _KEPT_FILE:
            self._blobs[identity] = data
            self._bytes += len(data)
        return data

    def _read_objects(
        self, ids: list[str], convert: Callable[[str, bytes], _Answer]
    ) -> dict[str, _Answer]:
        """Id → result of `convert` for the bytes of each object, of whatever type."""
        results: dict[str, _Answer] = {}
        with self:
            for start in range(0, len(ids), _AT_ONCE):
                with self._lock:
                    results.update(self._answers(ids[start : start + _AT_ONCE], convert))
        return results

    def _answers(
        self, ids: list[str], convert: Callable[[str, bytes], _Answer]
    ) -> dict[str, _Answer]:
        with self._end_when_broken():
            results = self._git.ask(ids, convert)
        missing = next((identity for identity in ids if identity not in results), None)
        if missing is not None:
            problem = f"the object {missing} is not here"
            raise MachineError(
                problem,
                where=str(self.root),
                advice="run git fetch; git fsck says whether the repository is damaged",
            )
        return results

    @contextlib.contextmanager
    def _end_when_broken(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._end()  # what else it would say answers no question that anybody asks
            raise


class _CatFile:
    """A running `git cat-file --batch`. stderr: the file that gets its standard error."""

    def __init__(self, root: Path, child: subprocess.Popen[bytes], stderr: IO[bytes]) -> None:
        assert child.stdin is not None, "opened as a pipe"
        self.child = child
        self._root = root
        self._asks = child.stdin.fileno()
        self._pipe = AnswerPipe(
            ("git", "cat-file"), child, stderr, root, functools.partial(program.failure, root)
        )

    def ask(self, ids: list[str], convert: Callable[[str, bytes], _Answer]) -> dict[str, _Answer]:
        """Id → result of `convert` for each object that exists.

        Raises Temporary when git does not answer in time (it may fetch from a remote), else git's
        error.
        """
        self._write(ids)
        answers = [(identity, self._answer(identity, convert)) for identity in ids]
        return {identity: answer for identity, answer in answers if answer is not None}

    def head(self) -> str:
        """The id of the commit that HEAD names, "" when there is none. Raises as `ask` does."""
        self._write(["HEAD"])
        identity, data = self._object("HEAD")
        return "" if data is None else identity

    def _write(self, names: list[str]) -> None:
        try:
            os.write(self._asks, "".join(f"{each}\n" for each in names).encode())
        except OSError as error:
            raise self._pipe.ended() from error

    def _answer(self, identity: str, convert: Callable[[str, bytes], _Answer]) -> _Answer | None:
        name, data = self._object(identity)
        if name != identity:
            raise self._unexpected_answer(name, identity)
        return None if data is None else convert(identity, data)

    def _object(self, asked: str) -> tuple[str, bytes | None]:
        """The next answer: an id and the bytes of its object, or what was asked for and None."""
        line = self._pipe.line(program.LOCAL)
        name, _, rest = line.decode(errors="replace").partition(" ")
        facts = rest.split()
        if facts == ["missing"]:
            return name, None
        if len(facts) != 2 or not _SIZE.fullmatch(facts[1]):
            raise self._unexpected_answer(name, asked)
        return name, self._pipe.block(int(facts[1]), program.LOCAL, end=b"\n")

    def _unexpected_answer(self, name: str, asked: str) -> MachineError:
        problem = f"git cat-file answered {name[:80]!r} when it was asked for {asked}"
        return MachineError(
            problem, where=str(self._root), advice="the repository is damaged: run git fsck"
        )


@contextlib.contextmanager
def _cat_file(root: Path, env: Mapping[str, str]) -> Iterator[_CatFile]:
    command = ["git", *program.SETTINGS, "cat-file", "--batch"]
    # A file in memory instead of a pipe: messages about fetching in a partial clone could fill a
    # pipe and block git.
    with (
        os.fdopen(os.memfd_create("git"), "w+b") as stderr,
        process.conversation(
            command, cwd=root, env=env, advice=program.ADVICE, stderr=stderr
        ) as child,
    ):
        yield _CatFile(root, child, stderr)


def _bytes(_identity: str, data: bytes) -> bytes:
    return data


def _tree_rows(identity: str, data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Mode, name and id of everything in a tree object. Source: git, gitformat (tree objects)."""
    length = len(identity) // 2
    rows: list[tuple[bytes, bytes, bytes]] = _ROWS[length].findall(data)
    # A blank and a zero byte a row. Without a generator: trees have hundreds of rows a tag.
    if sum(map(len, chain.from_iterable(rows))) + 2 * len(rows) != len(data):
        raise MachineError(
            "a tree object is damaged", advice="the repository is damaged: run git fsck"
        )
    return rows


def _nodes(rows: Iterable[tuple[bytes, bytes, bytes]]) -> tuple[Node, ...]:
    nodes = []
    for mode, name, identity in rows:
        if name in (b".", b"..") or b"/" in name:
            shown = name.decode(errors="replace")
            raise ConfigurationError(
                f"the commit has the malicious file name {shown!r}",
                advice="do not trust this source",
            )
        # git stores names as bytes; one that is not UTF-8 must come back as it was.
        text = name.decode("utf-8", "surrogateescape")
        if int(mode, 8) == 0o40000:
            nodes.append(Node(text, "folder", identity.hex()))
        else:
            nodes.append(Node(text, KINDS.get(mode.decode(), "submodule"), identity.hex()))
    return tuple(nodes)
