"""What steps may ask a version control system, the same for git, Bazaar and Subversion.

Revisions are opaque texts. Paths are relative, with "/" between parts. A system that keeps its
history here asks no server but where a tag is pushed. What a user should type is said by the
system's own file, in its errors and `fetch`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Protocol

Kind = Literal["file", "executable", "link", "submodule"]


class Entry(NamedTuple):
    """A tracked (or untracked and not ignored) file. id: see `Revisions`; "" where the source does
    not store it.

    kind "submodule": a repository inside this one, whose files are not stored here; it cannot be
    read.
    """

    path: str
    kind: Kind
    id: str


class Node(NamedTuple):
    """One name in a folder. id: see `Revisions`."""

    name: str
    kind: Kind | Literal["folder"]
    id: str


class Tag(NamedTuple):
    """A tag: the revision it names, the text it carries ("" where it carries none) and when it was
    made.

    created: RFC 3339, UTC; of the revision where the source does not keep a tag's own time.
    """

    name: str
    revision: str
    message: str
    created: str


class Tree(Protocol):
    """Files as the source stores them below a folder: of one revision, or of the checkout as it
    stands.

    revision: what it is or is based on. modified: paths that differ from that revision, untracked
    unignored files among them; always empty for the tree of a revision.
    """

    revision: str
    modified: tuple[str, ...]

    def entries(self) -> Mapping[str, Entry]:
        """Every file below the tree's folder by path, sorted."""

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The bytes of files as the source stores them, the targets of links; all at once, one by
        one is slow.

        Raises ConfigurationError naming a path that is not in the tree, or a submodule."""

    def digests(self, paths: Iterable[str]) -> dict[str, str]:
        """The sha256 ("sha256:" + 64 hex digits) of what `read` gives, without holding all of it in
        memory.
        """


class Revisions(Protocol):
    """The folders and files of many revisions, read in bulk without a checkout; threads may share
    them.

    An id names a folder or a file for ever. Two ids are equal exactly where the bytes, kinds and
    names are, so that revisions share what is read once (git's object ids; else digests that the
    system's file makes). In a `with` block what reading takes (a process, a connection) stays,
    outside of one each question has its own. It can be pickled: the copy in another process has
    read nothing yet.

    system: "git", "bzr" or "svn"; root: the folder it reads from, a checkout or a repository
    without one. All raise MachineError for what is not here, as in a clone that was cut, and
    Temporary.
    """

    system: str
    root: Path

    def __enter__(self) -> object: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None: ...

    def folder(self, revision: str, path: str) -> str | None:
        """The id of a folder ("" for the top) as a revision has it, None when there is no such
        folder.
        """

    def listing(self, folder: str) -> tuple[Node, ...]:
        """What a folder holds, by its id. Raises ConfigurationError for a name that leads out of
        it.
        """

    def child(self, folder: str, name: str) -> Node | None:
        """What one name is in a folder, given by its id; None when it is not there."""

    def read(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Id → bytes of files, targets of links."""

    def digests(self, ids: Iterable[str]) -> dict[str, str]:
        """Id → sha256 ("sha256:" + 64 hex digits) of what `read` gives, one file after the other in
        memory.
        """

    def prepare(self, revisions: Iterable[str] = (), folders: Iterable[str] = ()) -> None:
        """Read at once what `folder` will be asked of revisions, and all listings below folders,
        given by ids.
        """


class Tagged(Protocol):
    """A repository with its tags, from which nothing need be checked out."""

    @property
    def revisions(self) -> Revisions:
        """The files of its revisions."""

    def tags(self, pattern: str = "*") -> Mapping[str, Tag]:
        """Tags known here by name, those whose name fits the shell pattern."""


class Source(Tagged, Protocol):
    """A checkout. system: "git", "bzr" or "svn"; root: its top folder; fetch: what to type for the
    newest history.
    """

    system: str
    root: Path
    fetch: str

    def revision(self, name: str = "") -> str:
        """The full id of what is checked out, or of what `name` (tag, branch, abbreviated id)
        means.

        Raises UsageError when there is no such revision, naming the command that may bring it."""

    def tree(self, revision: str | None, folder: str) -> Tree:
        """The tree of `revision` below `folder` (relative to root, "" for all); None: the checkout
        as it stands.
        """

    def is_added(self, path: str) -> bool:
        """Whether the next commit would store a file (relative to root): it is in git's index, or
        added in Bazaar or Subversion.
        """

    def branch(self) -> str | None:
        """The branch that is checked out, or None (a detached checkout, as CI makes them)."""

    def tip(self, branch: str) -> str:
        """The newest revision of a branch as last fetched. Raises UsageError naming the command
        that fetches it.
        """

    def base(self, target: str) -> str:
        """Where what is checked out left the branch or revision `target` (git's merge base). Raises
        UsageError.
        """

    def changed(self, base: str, revision: str, folder: str) -> tuple[str, ...]:
        """Paths below `folder` (relative to it) that differ between two revisions, renames as both
        names.
        """

    def history(
        self, revision: str, paths: Sequence[str], limit: int, after: str = ""
    ) -> tuple[str, ...]:
        """Mainline revisions up to `revision` that changed one of `paths` (relative to root),
        newest first.

        A merge counts as what it brought to the mainline. after: only those that came after this
        one. Raises MachineError when the history is not here (a shallow clone), naming the command
        that gets it."""

    def position(self, revision: str) -> int:
        """How far a mainline revision is along its line: later ones have higher numbers, in every
        clone the same.

        git: the number of commits that lead to it; Bazaar: its left-hand revno; Subversion: its
        number. Raises MachineError as `history` does."""

    def create_tag(self, name: str, revision: str, message: str, *, push: bool) -> Tag:
        """Tag `revision`; the same tag again is success. push: to where the checkout came from,
        too.

        The tag's revision is another one of the same files where a tag carries no text (Bazaar: an
        unchanged commit with it). Raises Conflict when the name stands for other files, here or
        there: a tag is never moved; UsageError for an impossible name, and without `push` where
        tags are only at the server."""
