"""Version ranges of dependencies, as helm reads them (Masterminds/semver 3): ^1.2, ~1.2.3, >=1 <2,
1.x || 3.x, 1 - 2.

Only the question whether a version fits; nothing is resolved here, Chart.lock says which version it
is. No library does it: those for npm's ranges know neither commas nor != nor a space behind an
operator.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pipeline_steps.charts.version import Version, parse
from pipeline_steps.toolbox.errors import ConfigurationError

_PART = r"v?([0-9]+|[xX*])(?:\.([0-9]+|[xX*]))?(?:\.([0-9]+|[xX*]))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?"
_CONSTRAINT = re.compile(rf"\s*(=|==|!=|>|<|>=|=>|<=|=<|~|~>|\^)?\s*{_PART}\s*,?")
_HYPHEN = re.compile(rf"({_PART})\s+-\s+({_PART})")


def is_range(text: str) -> bool:
    """May `text` stand for several versions? An exact version is SemVer 2 and nothing else."""
    return parse(text) is None


def is_in_range(version: Version, text: str, where: str = "") -> bool:
    """Is `version` in the range? A pre-release only fits where the range (between ||) names one.

    Raises ConfigurationError when it is no range.

    >>> [fits(Version(1, 4, 2), text) for text in ("^1.2", "~1.4.0", ">=1 <1.4", "1.x || 3", "1.0 - 1.4", "*")]
    [True, True, False, True, True, True]
    """
    for part in text.split("||"):
        checks, pre = _constraints(part, where)
        if (pre or not version.pre) and all(check(version) for check in checks):
            return True
    return False


def _constraints(text: str, where: str) -> tuple[list[Callable[[Version], bool]], bool]:
    """What must hold all together, and whether a pre-release is named."""
    rest = _HYPHEN.sub(lambda found: f">={found[1]} <={found[6]}", text.strip()) or "*"
    checks: list[Callable[[Version], bool]] = []
    named = False
    while rest.strip():
        found = _CONSTRAINT.match(rest)
        if not found:
            raise ConfigurationError(
                f"{text!r} is not a version or range",
                where=where,
                advice="write for example ^1.2.0",
            )
        named = named or found[5] is not None
        checks.append(_check(found[1] or "", [found[2], found[3], found[4]], found[5]))
        rest = rest[found.end() :]
    return checks, named


def _check(sign: str, numbers: list[str | None], pre: str | None) -> Callable[[Version], bool]:
    known: list[int] = []
    for number in numbers:
        if number is None or number in "xX*":
            break
        known.append(int(number))
    major, minor, patch = (*known, 0, 0, 0)[:3]
    return _bounds(sign, known, Version(major, minor, patch, tuple(pre.split(".")) if pre else ()))


def _bounds(sign: str, known: list[int], low: Version) -> Callable[[Version], bool]:
    above = _above(known)
    if sign in (">=", "=>"):
        return lambda version: version >= low
    if sign == ">":
        return lambda version: (
            version > low if len(known) == 3 else above is not None and version[:3] >= above[:3]
        )
    if sign == "<":
        return lambda version: version < low
    if sign in ("<=", "=<"):
        return lambda version: (
            version <= low if len(known) == 3 else above is None or version[:3] < above[:3]
        )
    if sign == "!=":
        return lambda version: (
            version != low if len(known) == 3 else not _within(version, low, above)
        )
    if sign == "^":
        top = _caret(known)
        return lambda version: _within(version, low, top)
    if sign in ("~", "~>"):
        top = _above(known[:2])
        return lambda version: _within(version, low, top)
    return lambda version: version == low if len(known) == 3 else _within(version, low, above)


def _within(version: Version, low: Version, top: Version | None) -> bool:
    return version >= low and (top is None or version[:3] < top[:3])


def _above(known: list[int]) -> Version | None:
    """The first version beyond all that begin with the numbers; None when they say nothing."""
    if not known:
        return None
    major, minor, patch = (*known[:-1], known[-1] + 1, 0, 0)[:3]
    return Version(major, minor, patch)


def _caret(known: list[int]) -> Version | None:
    """Up to the next change of the first number that is not 0."""
    for place, number in enumerate(known):
        if number:
            return _above(known[: place + 1])
    return _above(known)
