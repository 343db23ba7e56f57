"""Names in a Subversion repository: revisions, and its layout of trunk, branches and tags.

A branch is a folder: `trunk`, or one in `branches` or `tags`. Its number alone does not name the
files of a revision, so the text of a revision has the branch, too.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ID = re.compile(r"r([0-9]{1,18}):(.*):([0-9A-Za-z-]{1,64})", re.DOTALL)
TRUNK, BRANCHES, TAGS = "trunk", "branches", "tags"


class Revision(NamedTuple):
    """A branch's folder (relative to the repository's root, "" for the root) at a number.

    number: the newest one in which something below the folder changed, so that equal files of one
    line have one text. uuid: of the repository.

    >>> str(Revision(12, "5f3a-1b", "web/trunk"))
    'r12:web/trunk:5f3a-1b'
    """

    number: int
    uuid: str
    branch: str

    def __str__(self) -> str:
        return f"r{self.number}:{self.branch}:{self.uuid}"


def parse_revision(text: str) -> Revision | None:
    """The revision that `str` of one gives; None for any other text."""
    match = _ID.fullmatch(text)
    return Revision(int(match[1]), match[3], match[2]) if match else None


def parse_number(text: str) -> int | None:
    """The number in "12" or "r12"; None for any other text."""
    match = re.fullmatch(r"r?([0-9]{1,18})", text)
    return int(match[1]) if match else None


class Place(NamedTuple):
    """A path of a repository, split by the layout.

    project: the folder that has `trunk`, `branches` and `tags`; None where no such name is in the
    path. branch: folder of the branch. below: the rest.
    """

    project: str | None
    branch: str
    below: str

    @property
    def tags(self) -> str | None:
        """The folder of the project's tags; None without a layout."""
        return None if self.project is None else join(self.project, TAGS)

    def folder_of_branch(self, name: str) -> str | None:
        """The folder of a branch by its name (trunk, NAME, branches/NAME); None without a layout."""
        if self.project is None:
            return None
        if name == TRUNK or name.startswith((f"{BRANCHES}/", f"{TAGS}/")):
            return join(self.project, name)
        return join(self.project, f"{BRANCHES}/{name}")

    @property
    def name(self) -> str | None:
        """The name of the branch: trunk, or that below `branches`; None for a tag."""
        if self.project is None:
            return self.branch or None
        kind, _, name = below(self.branch, self.project).partition("/")
        return {TRUNK: TRUNK, BRANCHES: name}.get(kind)


def split(path: str) -> Place:
    """A path split at the nearest `trunk`, `branches` or `tags` above it.

    >>> split("web/trunk/charts"), split("charts")
    (Place(project='web', branch='web/trunk', below='charts'), Place(project=None, branch='charts', below=''))
    """
    parts = path.split("/") if path else []
    for index in reversed(range(len(parts))):
        end = index + (1 if parts[index] == TRUNK else 2)
        if parts[index] in (TRUNK, BRANCHES, TAGS) and end <= len(parts):
            project, branch, rest = parts[:index], parts[:end], parts[end:]
            return Place("/".join(project), "/".join(branch), "/".join(rest))
    return Place(None, path, "")


def join(*parts: str) -> str:
    """Parts of a path, the empty ones left out."""
    return "/".join(part for part in parts if part)


def below(path: str, folder: str) -> str:
    """A path relative to a folder above it, "" for the folder itself.

    >>> below("trunk/charts", "trunk"), below("trunk", "trunk"), below("trunk", "")
    ('charts', '', 'trunk')
    """
    return path if not folder else path[len(folder) + 1 :]


def is_below(path: str, folder: str) -> bool:
    """Whether a path is a folder or something in it."""
    return not folder or path == folder or path.startswith(f"{folder}/")
