"""What a svn:externals property says ("Externals Definitions" in the Subversion book).

An external that names a revision of the same repository is read like the folder's own files. Any
other is a repository of its own: what it holds may change while no revision of this one does.
"""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from pipeline_steps.sources.svn_layout import join

_REVISION = re.compile(r"-r\s*([0-9]+|HEAD|\{[^}]*\})\s+")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://|\^/|\.\./|/")


class External(NamedTuple):
    """One definition. path: where it is mounted, relative to the folder with the property.

    url: as written, without its peg revision. peg, revision: None where none is written, or none
    that stays.
    """

    path: str
    url: str
    peg: int | None
    revision: int | None
    text: str

    @property
    def pinned(self) -> bool:
        return (self.peg if self.peg is not None else self.revision) is not None


def parse(text: str) -> list[External]:
    """The definitions in the text of a property; what cannot be read is an external that is nobody's.

    >>> [each[:4] for each in parse("^/lib/trunk@7 lib\\n# old\\nold -r 3 http://svn.example.com/x")]
    [('lib', '^/lib/trunk', 7, None), ('old', 'http://svn.example.com/x', 3, 3)]
    """
    lines = (line.strip() for line in re.split(r"[\r\n]+", text))
    return [_parse_line(line) for line in lines if line and not line.startswith("#")]


def _parse_line(line: str) -> External:
    revision = _REVISION.search(f"{line} ")
    rest = line if revision is None else f"{line[: revision.start()]} {line[revision.end() :]}"
    number = _number(revision[1]) if revision else None
    try:
        words = shlex.split(rest)
    except ValueError:
        words = []
    if len(words) != 2:
        return External(line.split()[0].strip("/"), "", None, None, line)
    if not _URL.match(words[0]):  # the format before 1.5: path first, and no peg revision
        path, url = words
        return External(path.strip("/"), url, number, number, line)
    url, _, peg = words[0].rpartition("@")
    if not url or "/" in peg:
        url, peg = words[0], ""
    return External(words[1].strip("/"), url, _number(peg), number, line)


def _number(text: str) -> int | None:
    """The revision that a text names by its number, as svn reads it; None for any other."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def path_in_repository(url: str, folder: str, root: str) -> str | None:
    """The path that a definition's URL names in the repository with the URL `root`; None for
    another repository.

    folder: path of the folder with the property.

    >>> path_in_repository("../lib", "web/trunk", "svn://h/r"), path_in_repository("svn://h/x", "", "svn://h/r")
    ('web/lib', None)
    """
    if url.startswith("^/"):
        path = url[2:]
    elif url.startswith("../"):
        path = f"{folder}/{url}"
    else:
        scheme, _, rest = root.partition("://")
        absolute = url
        if url.startswith("//"):
            absolute = f"{scheme}:{url}"
        elif url.startswith("/"):
            absolute = f"{scheme}://{urlsplit(root).netloc}{url}" if rest else url
        if absolute != root and not absolute.startswith(f"{root}/"):
            return None
        path = absolute[len(root) :]
    return _normal(unquote(path))


def _normal(path: str) -> str | None:
    """A path without "." and ".."; None for one that leads out of the repository."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return join(*parts)
