"""The bytes of a working file as a commit would store them ("Keyword Substitution" and "End-of-Line
Character Sequences" in the Subversion book).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

KEYWORDS, EOL_STYLE = "svn:keywords", "svn:eol-style"
_EOL = {"native": b"\n", "LF": b"\n", "CRLF": b"\r\n", "CR": b"\r"}
#: Every name of a keyword by each of its names, in lower case.
_NAMES = {
    alias.lower(): names
    for names in (
        ("LastChangedDate", "Date"),
        ("LastChangedRevision", "Revision", "Rev"),
        ("LastChangedBy", "Author"),
        ("HeadURL", "URL"),
        ("Id",),
        ("Header",),
    )
    for alias in names
}


def normal_form(data: bytes, properties: Mapping[str, str]) -> bytes:
    """The bytes of a file as they are stored: keywords without values, line ends as they say.

    >>> normal_form(b"$Id: x 1 bot $ $Rev:: 7  $\\r\\n", {"svn:keywords": "Id Rev", "svn:eol-style": "native"})
    b'$Id$ $Rev::    $\\n'
    """
    end = _EOL.get(properties.get(EOL_STYLE, "").strip())
    if end:
        data = re.sub(rb"\r\n|\r|\n", end, data)
    names = {name for word in properties.get(KEYWORDS, "").split() for name in _names(word)}
    if not names:
        return data
    either = b"|".join(re.escape(name.encode()) for name in sorted(names))
    pattern = rb"\$(" + either + rb")(:: [^$\r\n]*[ #]|: [^$\r\n]* |: |:)\$"
    return re.sub(pattern, _without_value, data)


def _names(word: str) -> tuple[str, ...]:
    """The keywords that a word of svn:keywords means; one that it defines (NAME=FORMAT) by its name."""
    name = word.partition("=")[0]
    return _NAMES.get(name.lower(), (name,))


def _without_value(match: re.Match[bytes]) -> bytes:
    name, value = match[1], match[2]
    if len(match[0]) > 255:  # svn takes no longer ones for keywords
        return match[0]
    if value.startswith(b"::"):
        return b"$" + name + b"::" + b" " * (len(value) - 2) + b"$"
    return b"$" + name + b"$"
