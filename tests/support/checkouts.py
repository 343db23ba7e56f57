"""Checkouts and servers of every source system behind one interface: what a test asks of one, it
asks of all. `source_systems` has the systems.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol


class WorkingFiles:
    """What a working tree at `root` does alike in every system; see `Checkout`."""

    root: Path

    def put(self, path: str, text: str | bytes, *, executable: bool = False) -> Path:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text.encode() if isinstance(text, str) else text)
        place.chmod(0o755 if executable else 0o644)
        return place

    def link(self, path: str, target: str) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)


class Checkout(Protocol):
    """A checkout of the main branch, or of another one. Paths are relative to `root`.

    branch_name: of the branch that is checked out. tags_on_server: whether a tag cannot exist in
    the checkout alone.
    """

    root: Path
    branch_name: str
    tags_on_server: bool
    takes_control_characters: bool

    def put(self, path: str, text: str | bytes, *, executable: bool = False) -> Path:
        """Write a file."""

    def link(self, path: str, target: str) -> None:
        """Make a link, as the system stores links."""

    def set_executable(self, path: str, executable: bool) -> None:
        """Change the mode of a committed file alone, as the system keeps modes."""

    def ignore(self, pattern: str) -> None:
        """Ignore untracked files of such names, in all folders."""

    def commit(self, message: str = "change") -> str:
        """Commit everything as it stands, also nothing. Returns the revision's id."""

    def tag(self, name: str, revision: str) -> None:
        """Set a tag as people do, without text where that is possible, and push it where there is a
        server.
        """

    def branch(self, name: str) -> Checkout:
        """A checkout, in a folder beside this one, of a new branch from what is checked out."""

    def merge(self, branch: Checkout) -> str:
        """Merge what another branch committed, and commit that. Returns the revision's id."""

    def push(self) -> None:
        """Bring what was committed to the server that the checkout came from."""


class Server(Protocol):
    """A running server with one repository, which has no revision in the beginning."""

    url: str

    def checkout(self, folder: Path) -> Checkout:
        """A checkout, in the new folder, of the main branch as it is now."""

    def stop(self) -> None:
        """End the server: `url` refuses connections."""

    def start(self) -> None:
        """Start it again, at the same `url`."""


class System(NamedTuple):
    """environment: the variables under which no configuration of this machine is read; its argument
    is a folder. checkout: a checkout with no revision, below a folder. server: started on a free
    port, with its repository below a folder.
    """

    environment: Callable[[Path], Mapping[str, str]]
    checkout: Callable[[Path], Checkout]
    server: Callable[[Path], AbstractContextManager[Server]]
