""".dockerignore as docker reads it (moby/patternmatcher and its ignorefile), which is not what git
or helm do.

The last pattern that fits a path or a folder above it decides; `!` takes it in again; `**` is any
number of folders. The docker SDK's matcher is another one: it reads `[^a]` and escapes as Python's
fnmatch does.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pipeline_steps.toolbox.errors import ConfigurationError

#: Never part of a context, at any depth: our own state and the sources' bookkeeping.
ALWAYS = frozenset({".pipeline", ".git", ".bzr", ".svn"})
FILE = ".dockerignore"


class Pattern(NamedTuple):
    expression: re.Pattern[str]
    exception: bool


class Ignored(NamedTuple):
    """Patterns in their order."""

    patterns: tuple[Pattern, ...] = ()

    def verdict(self, path: str, above: Sequence[bool] = ()) -> tuple[bool, tuple[bool, ...]]:
        """(left out, which patterns fit). above: which patterns fit the folder that holds `path`."""
        ignored = False
        fits: list[bool] = []
        for number, pattern in enumerate(self.patterns):
            fit = (bool(above) and above[number]) or pattern.expression.fullmatch(path) is not None
            fits.append(fit)
            if fit:
                ignored = not pattern.exception
        return ignored, tuple(fits)

    @property
    def exceptions(self) -> bool:
        """Can something inside a left-out folder be taken in again?"""
        return any(pattern.exception for pattern in self.patterns)


def left_in(paths: Iterable[str], ignored: Ignored) -> Iterator[str]:
    """The files that a builder gets, of those below a context. paths: relative to it, "/" between
    parts.

    >>> list(left_in(["a/b.log", "a/c", ".git/x"], parse(b"**/*.log", ".dockerignore")))
    ['a/c']
    """
    folders: dict[str, tuple[bool, tuple[bool, ...]]] = {"": (False, ())}

    def folder(path: str) -> tuple[bool, tuple[bool, ...]]:
        if path not in folders:
            parent, _, name = path.rpartition("/")
            cut, fits = folder(parent)
            out, below = ignored.verdict(path, fits)
            folders[path] = (cut or name in ALWAYS or (out and not ignored.exceptions), below)
        return folders[path]

    for path in paths:
        parent, _, name = path.rpartition("/")
        cut, fits = folder(parent)
        if not cut and name not in ALWAYS and not ignored.verdict(path, fits)[0]:
            yield path


def parse(data: bytes, where: str) -> Ignored:
    """The patterns of a .dockerignore. Raises ConfigurationError naming file and line."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"is not UTF-8: {error}", where=where) from error
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        # A comment is only where # is the very first character.
        if line.startswith("#") or not line.strip():
            continue
        found.append(_pattern(line.strip(), f"{where}:{number}"))
    return Ignored(tuple(pattern for pattern in found if pattern))


def _pattern(text: str, where: str) -> Pattern | None:
    exception = text.startswith("!")
    if exception:
        text = text[1:].strip()
        if not text:
            raise ConfigurationError("a lone ! takes nothing in", where=where)
    clean = posixpath.normpath(text)
    clean = clean.lstrip("/") if len(clean) > 1 else clean
    try:
        return Pattern(re.compile(expression(clean), re.DOTALL), exception)
    except re.error as error:
        raise ConfigurationError(f"{text!r} is not a pattern: {error}", where=where) from error


def expression(pattern: str) -> str:
    r"""The regular expression of a cleaned pattern.

    >>> expression("**/*.log"), expression("a?/**")
    ('(?:.*/)?[^/]*\\.log', 'a[^/]/.*')
    """
    result, position = "", 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*" and pattern[position : position + 1] == "*":
            position += 1
            if pattern[position : position + 1] == "/":
                position += 1
            result += ".*" if position >= len(pattern) else "(?:.*/)?"
        elif character == "*":
            result += "[^/]*"
        elif character == "?":
            result += "[^/]"
        elif character == "\\" and position < len(pattern):
            result += re.escape(pattern[position])
            position += 1
        elif character == "[":
            end = pattern.find("]", position + 1)
            if end < 0:
                raise re.error("[ without ]")
            result += f"[{pattern[position:end]}]"
            position = end + 1
        else:
            result += re.escape(character)
    return result
