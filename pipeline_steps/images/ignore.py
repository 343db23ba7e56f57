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

from pipeline_steps.sources.source import CONTROL_FOLDERS
from pipeline_steps.toolbox import wildcards
from pipeline_steps.toolbox.errors import ConfigurationError

#: What is between the brackets of a character class; the ] that ends it is neither the first nor
#: behind a backslash.
_CLASS = re.compile(r"(\^?\]?(?:\\.|[^\]\\])*)\]", re.DOTALL)
_PLAIN, _ESCAPED = r"(?<!\\)[\[&~|]", r"\\\g<0>"
#: Never part of a context, at any depth: our own state and the sources' bookkeeping.
ALWAYS_IGNORED = frozenset({".pipeline", *CONTROL_FOLDERS})
FILE = ".dockerignore"


class Pattern(NamedTuple):
    names: wildcards.Pattern
    exception: bool


class IgnoreRules(NamedTuple):
    """Patterns in their order."""

    patterns: tuple[Pattern, ...] = ()

    def match(self, path: str, above: Sequence[bool] = ()) -> tuple[bool, tuple[bool, ...]]:
        """(ignored, patterns that match). above: patterns that match the folder of `path`."""
        ignored = False
        fits: list[bool] = []
        for number, pattern in enumerate(self.patterns):
            fit = (bool(above) and above[number]) or pattern.names.matches(path)
            fits.append(fit)
            if fit:
                ignored = not pattern.exception
        return ignored, tuple(fits)

    @property
    def has_exceptions(self) -> bool:
        """Whether a pattern with `!` may include again something inside an ignored folder."""
        return any(pattern.exception for pattern in self.patterns)


def not_ignored(paths: Iterable[str], rules: IgnoreRules) -> Iterator[str]:
    """The files that a builder gets, of those below a context. paths: relative to it, "/" between
    parts.

    >>> list(not_ignored(["a/b.log", "a/c", ".git/x"], parse(b"**/*.log", ".dockerignore")))
    ['a/c']
    """
    folders: dict[str, tuple[bool, tuple[bool, ...]]] = {"": (False, ())}

    def folder(path: str) -> tuple[bool, tuple[bool, ...]]:
        parts = path.split("/") if path and path not in folders else ()
        for depth, name in enumerate(parts, 1):  # not by recursion: paths may be of any depth
            place = "/".join(parts[:depth])
            if place not in folders:
                cut, fits = folders["/".join(parts[: depth - 1])]
                out, below = rules.match(place, fits)
                # Only without exceptions: a pattern with ! may take in a file deep in a folder that
                # is left out.
                cut = cut or name in ALWAYS_IGNORED or (out and not rules.has_exceptions)
                folders[place] = (cut, below)
        return folders[path]

    for path in paths:
        parent, _, name = path.rpartition("/")
        cut, fits = folder(parent)
        if not cut and name not in ALWAYS_IGNORED and not rules.match(path, fits)[0]:
            yield path


def parse(data: bytes, where: str) -> IgnoreRules:
    """The patterns of a .dockerignore. Raises ConfigurationError naming file and line."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"the file is not UTF-8: {error}", where=where, advice="save it as UTF-8"
        ) from error
    patterns = []
    for number, line in enumerate(text.splitlines(), 1):
        # A comment is only where # is the very first character.
        if line.startswith("#") or not line.strip():
            continue
        patterns.append(_pattern(line.strip(), f"{where}:{number}"))
    return IgnoreRules(tuple(pattern for pattern in patterns if pattern))


def _pattern(text: str, where: str) -> Pattern | None:
    exception = text.startswith("!")
    if exception:
        text = text[1:].strip()
        if not text:
            raise ConfigurationError(
                "! has no pattern after it",
                where=where,
                advice="write !PATTERN, or remove the line",
            )
    # As docker cleans each pattern (Go's filepath.Clean); a leading slash means the context's top.
    clean = posixpath.normpath(text)
    clean = clean.lstrip("/") if len(clean) > 1 else clean
    try:
        return Pattern(wildcards.Pattern(pieces(clean)), exception)
    except re.error as error:
        raise ConfigurationError(
            f"{text!r} is not a pattern: {error}", where=where, advice="close the [ or write \\["
        ) from error


def pieces(pattern: str) -> list[str]:
    r"""The pieces of a cleaned pattern, for `wildcards.Pattern`.

    >>> pieces("**/*.log"), pieces("a?/**")
    (['(?:.*/)?', '[^/]*', '\\.', 'l', 'o', 'g'], ['a', '[^/]', '/', '.*'])
    """
    result: list[str] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*" and pattern[position : position + 1] == "*":
            position += 1
            if pattern[position : position + 1] == "/":
                position += 1
            result.append(wildcards.ANY if position >= len(pattern) else wildcards.FOLDERS)
        elif character == "*":
            result.append(wildcards.IN_NAME)
        elif character == "?":
            result.append("[^/]")
        elif character == "\\" and position < len(pattern):
            result.append(re.escape(pattern[position]))
            position += 1
        elif character == "[":
            inside = _CLASS.match(pattern, position)
            if inside is None:
                raise re.error("[ without ]")
            # [ & ~ | have a meaning in brackets for Python only.
            result.append(f"[{re.sub(_PLAIN, _ESCAPED, inside[1])}]")
            re.compile(result[-1])
            position = inside.end()
        else:
            result.append(re.escape(character))
    return result
