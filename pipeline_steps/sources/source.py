"""The interface to version control systems, the same for git, Bazaar and Subversion.

Revisions are opaque texts. Paths are relative and use "/". No method needs a server, except for
pushing a tag, if the system keeps its history locally. What users should type is said by the
system's own file, in its errors and in `fetch_command`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Protocol, runtime_checkable
from urllib.parse import urlsplit

from pipeline_steps.auth.hosts import Host
from pipeline_steps.toolbox.errors import UsageError

Kind = Literal["file", "executable", "link", "submodule"]

#: Folders in which the systems keep their own files, in a checkout's top folder or any below.
CONTROL_FOLDERS = (".bzr", ".git", ".svn")

#: A commit of git.
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
#: A revision of Subversion: its number, branch and repository.
_SVN = re.compile(r"(r[0-9]+):.*:.*")


def short_revision(revision: str | None) -> str:
    """A revision as people write it in a sentence: of git 12 digits, of Subversion its number, of
    Bazaar the whole id, which has no short form.

    >>> short_revision("0123456789" * 4), short_revision("r12:trunk:0f-1a"), short_revision("a@b-1-c")
    ('012345678901', 'r12', 'a@b-1-c')
    """
    text = revision or ""
    if _COMMIT.fullmatch(text):
        return text[:12]
    number = _SVN.fullmatch(text)
    return number[1] if number else text


class Entry(NamedTuple):
    """A tracked file, or an untracked one that is not ignored.

    id: see `Revisions`; "" where the source does not store it. kind "submodule": a nested
    repository, whose files are not stored here; it cannot be read.
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
    """A tag.

    revision: that it names. message: "" when it has none. created: RFC 3339, UTC; of the revision
    where the system keeps no time of the tag itself.
    """

    name: str
    revision: str
    message: str
    created: str


class Tree(Protocol):
    """The files below a folder, as the system stores them: of one revision, or of the working tree.

    revision: the tree's own, or the one it is based on. modified: paths that differ from that
    revision, including untracked files; always empty for the tree of a revision.
    """

    revision: str
    modified: tuple[str, ...]

    def entries(self) -> Mapping[str, Entry]:
        """All files below the folder, by path, sorted."""

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The bytes of files as the system stores them, targets of links. One call for many is much
        faster.

        Raises ConfigurationError naming a path that is not in the tree, or a submodule.
        """

    def digests(self, paths: Iterable[str]) -> dict[str, str]:
        """The sha256 ("sha256:" + 64 hex digits) of what `read` returns, without all of it in
        memory.
        """


def without_login(url: str) -> str:
    """A URL without the login of http and https, which may hold a password; ssh's is a part of it.

    >>> without_login("https://me:secret@git.example.com/a"), without_login("git@example.com:a")
    ('https://git.example.com/a', 'git@example.com:a')
    """
    return re.sub(r"^(\w+\+)?(https?://)[^/@]*@", r"\1\2", url)


class Revisions(Protocol):
    """Folders and files of many revisions, read in bulk without a checkout. Threads may share it.

    An id names one content for ever: two ids are equal exactly when bytes, kinds and names are
    equal (git's object ids, else digests that the system's file computes). A process or connection
    that reading needs stays open in a `with` block; outside of one, each call opens its own. It can
    be pickled; the copy starts with an empty cache, or with what `preload_for_workers` has read.

    system: "git", "bzr" or "svn". root: a checkout, or a repository without one. All methods raise
    MachineError for what is not here (as in a shallow clone), and Temporary.
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
        """The id of a folder ("" for the top) in a revision, None when it does not exist."""

    def listing(self, folder: str) -> tuple[Node, ...]:
        """The content of a folder, by its id. Raises ConfigurationError for a malicious name."""

    def child(self, folder: str, name: str) -> Node | None:
        """What one name is in a folder, given by its id; None when it is not there."""

    def read(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Id → bytes of files, targets of links."""

    def digests(self, ids: Iterable[str]) -> dict[str, str]:
        """Id → sha256 ("sha256:" + 64 hex digits) of what `read` returns, one file at a time in
        memory.
        """

    def prepare(self, revisions: Iterable[str] = (), folders: Iterable[str] = ()) -> None:
        """Read in bulk: the root folders of revisions, and everything below folders given by
        ids.
        """

    def preload_for_workers(self, revisions: Iterable[str]) -> None:
        """Read what copies in other processes will be asked for, where one reading of all serves
        them better than one each; nothing for others. For a `with` block in which they are made.
        """


class Tagged(Protocol):
    """A repository with its tags; no checkout needed."""

    @property
    def revisions(self) -> Revisions:
        """The files of its revisions."""

    def tags(self, pattern: str = "*") -> Mapping[str, Tag]:
        """Tags known here by name, those whose name fits the shell pattern."""


class Source(Tagged, Protocol):
    """A checkout.

    system: "git", "bzr" or "svn". root: its top folder.
    hosts: logins of the configuration, for servers whose system has no better store of its own;
    they may be set later.
    """

    system: str
    root: Path
    hosts: Mapping[str, Host]

    @property
    def fetch_command(self) -> str:
        """The command for the newest history."""

    def checkout_command(self, revision: str, reference: str) -> str:
        """The command that people type to check out a revision that is not here yet.

        reference: that the remote gives it by, as git has them.
        """

    @property
    def remote_url(self) -> str:
        """The URL that the checkout came from, to which tags are pushed: of git's remote, Bazaar's
        parent, Subversion's folder; "" without one. A login of http or https is left out.
        """

    def revision(self, name: str = "") -> str:
        """The full id of what is checked out, or of `name` (tag, branch, abbreviated id).

        Raises UsageError when it does not exist, naming the command that may fetch it.
        """

    def tree(self, revision: str | None, folder: str) -> Tree:
        """The tree of `revision` below `folder` (relative to root, "" for all); None: the working
        tree.
        """

    def is_versioned(self, path: str) -> bool:
        """Whether the next commit would store a file (relative to root): it is in git's index, or
        added in Bazaar or Subversion.
        """

    def is_tracked(self, path: str) -> bool:
        """Whether what is checked out stores a file (relative to root), or a link above it, or the
        next commit would. Asks no server.
        """

    def branch(self) -> str | None:
        """The branch that is checked out, None when detached, as CI does it."""

    def tip(self, branch: str) -> str:
        """The newest revision of a branch as last fetched (Bazaar, Subversion: as it is now). Raises
        UsageError naming the command to fetch it.
        """

    def base(self, target: str) -> str:
        """The common ancestor of what is checked out and `target` (git's merge base). Raises
        UsageError.
        """

    def changed(self, base: str, revision: str, folder: str) -> tuple[str, ...]:
        """Paths below `folder`, relative to it, that differ between two revisions; a rename as both
        names.
        """

    def history(
        self, revision: str, paths: Sequence[str], limit: int, after: str = ""
    ) -> tuple[str, ...]:
        """Mainline revisions up to `revision` that changed one of `paths` (relative to root),
        newest first.

        A merge counts as the changes it brought to the mainline.

        Args:
            limit: at most so many.
            after: only revisions after this one.

        Raises:
            MachineError: the history is not here (shallow clone); names the command that fetches
                it.
        """

    def position(self, revision: str) -> int:
        """The position of a mainline revision: it grows along the line and is equal in every clone.

        git: the number of commits that lead to it; Bazaar: its left-hand revno; Subversion: its
        number. Raises MachineError like `history`.
        """

    def create_tag(self, name: str, revision: str, message: str, *, push: bool) -> Tag:
        """Tag `revision`; the same tag again is success.

        push: also to where the checkout came from. The tag names another revision with the same
        files where tags have no message (Bazaar: an unchanged commit that has it). Raises Conflict
        when the name exists with other files, because a tag is never moved; UsageError for an
        invalid name, and without `push` where tags exist only on the server.
        """


@runtime_checkable
class RemoteTags(Protocol):
    """A checkout that may have a tag without its text, where a CI has kept its commit only: git."""

    def remote_tag(self, tag: Tag) -> Tag:
        """The tag with the text that the remote has; as it is where the remote has none, or another.

        Raises AccessRefused, Unreachable, Temporary, MachineError.
        """


@runtime_checkable
class Reviewable(Source, Protocol):
    """A checkout of a system whose revisions are proposed in reviews: git and Bazaar."""

    def fetch_revision(self, revision: str, reference: str) -> None:
        """Bring `revision` here, from the reference (Bazaar: the branch) of the remote that has it;
        no branch, tag or file is changed. Nothing is asked when it is here.

        Raises UsageError when it is not to be had there; AccessRefused, Unreachable, Temporary.
        """

    def subjects(self, revisions: Sequence[str]) -> list[str]:
        """The first line of each revision's message."""

    def fetch_tip(self, branch: str) -> str:
        """Bring the newest revision of a branch of the remote here, as `tip` then gives it.

        Raises UsageError when the remote does not have it; AccessRefused, Unreachable, Temporary.
        """

    def parents(self, revision: str) -> tuple[str, ...]:
        """The revisions that it was made from, that of its mainline first; () for the first."""

    def common_ancestor(self, one: str, other: str) -> str | None:
        """The newest revision that leads to both; None without any."""


def refuse_password(url: str, advice: str) -> None:
    """Raises UsageError for a URL with a password: programs show it in their messages and arguments.

    advice: where the system looks for passwords.
    """
    address = urlsplit(url)
    login, _, host = address.netloc.rpartition("@")
    if ":" in login:
        where = address._replace(netloc=host).geturl()
        raise UsageError("there is a password in the URL", where=where, advice=advice)
