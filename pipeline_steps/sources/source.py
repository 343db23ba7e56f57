"""What steps may ask a source system, the same for git, Bazaar and Subversion. No network but for tags pushed.

Revisions are opaque texts. Paths are relative to the folder a tree was opened for, with "/" between parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

Kind = Literal["file", "executable", "link", "submodule"]


class Entry(NamedTuple):
    """A tracked (or untracked and not ignored) file. id: how the source names its bytes, opaque.

    kind "submodule": a repository inside this one, whose files are not stored here; it cannot be read.
    """

    path: str
    kind: Kind
    id: str


class Tag(NamedTuple):
    """A tag: the revision it names, the text it carries ("" where it carries none) and when it was made.

    created: RFC 3339, UTC; of the revision where the source does not keep a tag's own time.
    """

    name: str
    revision: str
    message: str
    created: str


class Tree(Protocol):
    """Files as the source stores them: of one revision, or of the checkout as it stands.

    revision: what it is or is based on. modified: paths that differ from that revision, untracked unignored files
    among them; always empty for the tree of a revision.
    """

    revision: str
    modified: tuple[str, ...]

    def entries(self) -> Mapping[str, Entry]:
        """Every file below the tree's folder by path, sorted."""

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The bytes of files as the source stores them, the targets of links; all at once, one by one is slow.

        Raises ConfigurationError naming a path that is not in the tree, or a submodule."""

    def digests(self, paths: Iterable[str]) -> dict[str, str]:
        """The sha256 ("sha256:" + 64 hex digits) of what `read` gives, without holding all of it in memory."""


class Source(Protocol):
    """A checkout of one source system. system: "git", "bzr" or "svn"; root: its top folder."""

    system: str
    root: Path

    def kept_open(self) -> AbstractContextManager[object]:
        """While this lasts, what reading takes (a process, a connection) stays; else each question has its own."""

    def revision(self, name: str = "") -> str:
        """The full id of what is checked out, or of what `name` (tag, branch, abbreviated id) means.

        Raises UsageError when there is no such revision."""

    def tree(self, revision: str | None, folder: str) -> Tree:
        """The tree of `revision` below `folder` (relative to root, "" for all); None: the checkout as it stands."""

    def export(self, revision: str, folder: str, destination: Path) -> None:
        """Write the files of a revision below `folder` into the empty folder `destination`, links as links."""

    def branch(self) -> str | None:
        """The branch that is checked out, or None (a detached checkout, as CI makes them)."""

    def tip(self, branch: str) -> str:
        """The newest revision of a branch as last fetched. Raises UsageError naming the command that fetches it."""

    def base(self, target: str) -> str:
        """Where what is checked out left the branch or revision `target` (merge base). Raises UsageError."""

    def changed(self, base: str, revision: str, folder: str) -> tuple[str, ...]:
        """Paths below `folder` (relative to it) that differ between two revisions, renames as both names."""

    def history(self, revision: str, paths: Sequence[str], limit: int, after: str = "") -> tuple[str, ...]:
        """Mainline revisions up to `revision` that changed one of `paths` (relative to root), newest first.

        after: only those that came after this one. Raises MachineError when the history is not here (a shallow
        clone), naming the command that gets it."""

    def position(self, revision: str) -> int:
        """How many revisions lead to one, itself included. Raises MachineError as `history` does."""

    def tags(self, pattern: str = "*") -> Mapping[str, Tag]:
        """Tags known here whose name fits the shell pattern."""

    def create_tag(self, name: str, revision: str, message: str, *, push: bool) -> Tag:
        """Tag `revision`; the same tag again is success. push: to where the checkout came from, too.

        Raises Conflict when the name stands for another revision, here or there: a tag is never moved."""
