""".helmignore exactly as helm reads it, quirks included, so that we leave out what helm leaves out.

Source: helm 3 and 4, pkg/ignore/rules.go; patterns are those of Go's path/filepath.Match. No
library does this: pathspec reads patterns as git does, which differs.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.toolbox.wildcards import IN_NAME, Pattern

FILE = ".helmignore"


class Rule(NamedTuple):
    """One pattern. whole: it is compared with the path, not with the last part; folders: only with
    folders. written: file, line and the pattern as it is there.
    """

    pattern: Pattern
    negated: bool
    folders: bool
    whole: bool
    written: str = ""

    def matches(self, path: str) -> bool:
        return self.pattern.matches(path if self.whole else path.rpartition("/")[2])


class Rules(NamedTuple):
    """The rules of one chart; helm's built-in rule is the last."""

    rules: tuple[Rule, ...]

    def ignored(self, path: str, *, folder: bool) -> bool:
        """Whether helm ignores `path` (relative to the chart) itself; its parents are not
        considered.

        A negated rule ignores everything that it does not match, as in helm (helm/helm#8688).
        """
        return self._deciding_rule(path, folder=folder) is not None

    def left_out(self, path: str) -> bool:
        """Is the file `path` left out, or any folder above it?"""
        return self.reason(path) is not None

    def reason(self, path: str) -> Rule | None:
        """The rule that leaves out the file `path`, or a folder above it; None when none does."""
        parts = path.split("/")
        for depth in range(1, len(parts)):
            if rule := self._deciding_rule("/".join(parts[:depth]), folder=True):
                return rule
        return self._deciding_rule(path, folder=False)

    def _deciding_rule(self, path: str, *, folder: bool) -> Rule | None:
        for rule in self.rules:
            if rule.negated:
                if (rule.folders and not folder) or not rule.matches(path):
                    return rule
            elif (folder or not rule.folders) and rule.matches(path):
                return rule
        return None


def parse(data: bytes, where: str) -> Rules:
    """The rules in a .helmignore (b"" when there is none).

    Raises ConfigurationError with the line where helm would fail.
    """
    rules: list[Rule] = []
    for number, line in enumerate(
        data.decode(errors="replace").removeprefix("\ufeff").split("\n"), 1
    ):
        # helm trims each line, so a pattern cannot begin or end with a blank.
        text = line.strip()
        if text and not text.startswith("#"):
            rules.append(_rule(text, f"{where}:{number}"))
    return Rules((*rules, _BUILT_IN._replace(written=f"{where}: {_BUILT_IN.written}")))


def _rule(text: str, where: str) -> Rule:
    # helm fails with "double-star (**) syntax is not supported".
    if "**" in text:
        raise ConfigurationError(
            "** is not known to helm", where=where, advice="name the folders, or use one *"
        )
    pattern = text.removeprefix("!")
    folders = pattern.endswith("/")
    pattern = pattern.removesuffix("/")
    whole = "/" in pattern
    try:
        return Rule(
            Pattern(_pieces(pattern.removeprefix("/"))),
            text.startswith("!"),
            folders,
            whole,
            f"{where}: {text}",
        )
    except (ValueError, re.error):
        raise ConfigurationError(
            f"{text!r} is not a pattern", where=where, advice="close the [ or write \\["
        )


def _pieces(glob: str) -> list[str]:
    """The pieces of a Go pattern, for `Pattern`. Raises ValueError when it is malformed."""
    pieces: list[str] = []
    rest = glob
    while rest:
        sign, rest = rest[0], rest[1:]
        if sign == "*":
            pieces.append(IN_NAME)
        elif sign == "?":
            pieces.append("[^/]")
        elif sign == "[":
            piece, rest = _class(rest)
            pieces.append(piece)
        elif sign == "\\":
            if not rest:
                raise ValueError(glob)
            pieces.append(re.escape(rest[0]))
            rest = rest[1:]
        else:
            pieces.append(re.escape(sign))
    return pieces


def _class(rest: str) -> tuple[str, str]:
    """The regular expression for a character class (after its [), and the text behind its ]."""
    negated = rest.startswith("^")
    rest = rest[1:] if negated else rest
    ranges: list[tuple[str, str]] = []
    while not (ranges and rest.startswith("]")):
        low, rest = _sign(rest)
        high = low
        if rest.startswith("-"):
            high, rest = _sign(rest[1:])
        ranges.append((low, high))
    # Go takes an upside-down range, which holds nothing.
    inside = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in ranges if low <= high)
    if not inside:
        return "[^/]" if negated else "(?!)", rest[1:]
    return f"(?!/)[{'^' if negated else ''}{inside}]", rest[1:]


def _sign(rest: str) -> tuple[str, str]:
    escaped = rest.startswith("\\")
    rest = rest.removeprefix("\\")
    if not rest or (rest[0] in "-]" and not escaped):
        raise ValueError(rest)
    return rest[0], rest[1:]


#: What helm leaves out of every chart. Made once: thousands of charts have no other rule.
_BUILT_IN = _rule("templates/.?*", "")._replace(written="templates/.?*")
