"""Version ranges of dependencies as helm reads them (Masterminds/semver 3): ^1.2, ~1.2.3, >=1 <2,
1.x || 3.x, 1 - 2.

Answers only whether a version is in a range; Chart.lock has the exact version. No library does
this: those for npm's ranges know neither commas, nor !=, nor a blank after an operator.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pipeline_steps.charts.version import Version, parse
from pipeline_steps.toolbox.errors import ConfigurationError

_PART = (
    r"v?([0-9]+|[xX*])(?:\.([0-9]+|[xX*]))?(?:\.([0-9]+|[xX*]))?"
    r"(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?"
)
_CONSTRAINT = re.compile(rf"\s*(=|==|!=|>|<|>=|=>|<=|=<|~|~>|\^)?\s*{_PART}\s*,?")
#: Characters of one alternative: what is longer is no range that a person wrote, and its patterns
#: would be tried at each of them.
_LONGEST = 1000
_HYPHEN = re.compile(rf"({_PART})\s+-\s+({_PART})")


def is_range(text: str) -> bool:
    """Whether `text` may match several versions. An exact version has three numbers."""
    return parse(text.removeprefix("v")) is None


def is_in_range(version: Version, text: str, where: str = "") -> bool:
    """Whether `version` is in the range.

    A pre-release matches only an alternative (between ||) that names one, as in helm. Raises
    ConfigurationError when `text` is no range.

    >>> ranges = ("^1.2", "~1.4.0", ">=1 <1.4", "1.x || 3", "1.0 - 1.4", "*")
    >>> [is_in_range(Version(1, 4, 2), text) for text in ranges]
    [True, True, False, True, True, True]
    """
    for part in text.split("||"):
        checks, pre = _constraints(part, where)
        if (pre or not version.pre) and all(check(version) for check in checks):
            return True
    return False


def _constraints(text: str, where: str) -> tuple[list[Callable[[Version], bool]], bool]:
    """The conditions that must all hold, and whether they name a pre-release."""
    if len(text) > _LONGEST:
        raise _no_range(text, where)
    # "1.0 - 1.4" means >=1.0 <=1.4; no text at all means any version.
    rest = _HYPHEN.sub(lambda match: f">={match[1]} <={match[6]}", text.strip()) or "*"
    checks: list[Callable[[Version], bool]] = []
    names_prerelease = False
    while rest.strip():
        match = _CONSTRAINT.match(rest)
        if not match:
            raise _no_range(text, where)
        names_prerelease = names_prerelease or match[5] is not None
        checks.append(_check(match[1] or "", [match[2], match[3], match[4]], match[5]))
        rest = rest[match.end() :]
    return checks, names_prerelease


def _no_range(text: str, where: str) -> ConfigurationError:
    return ConfigurationError(
        f"{text[:_LONGEST]!r} is not a version or range",
        where=where,
        advice="write for example ^1.2.0",
    )


def _check(sign: str, numbers: list[str | None], pre: str | None) -> Callable[[Version], bool]:
    numbers_given: list[int] = []
    for number in numbers:
        if number is None or number in "xX*":
            break
        numbers_given.append(int(number))
    major, minor, patch = (*numbers_given, 0, 0, 0)[:3]
    return _bounds(
        sign, numbers_given, Version(major, minor, patch, tuple(pre.split(".")) if pre else ())
    )


def _bounds(sign: str, numbers: list[int], lowest: Version) -> Callable[[Version], bool]:
    next_version = _above(numbers)
    if sign in (">=", "=>"):
        return lambda version: version >= lowest
    if sign == ">":
        return lambda version: (
            version > lowest
            if len(numbers) == 3
            else next_version is not None and version[:3] >= next_version[:3]
        )
    if sign == "<":
        return lambda version: version < lowest
    if sign in ("<=", "=<"):
        return lambda version: (
            version <= lowest
            if len(numbers) == 3
            else next_version is None or version[:3] < next_version[:3]
        )
    if sign == "!=":
        return lambda version: (
            version != lowest if len(numbers) == 3 else not _within(version, lowest, next_version)
        )
    if sign == "^":
        limit = _caret(numbers)
        return lambda version: _within(version, lowest, limit)
    if sign in ("~", "~>"):
        limit = _above(numbers[:2])
        return lambda version: _within(version, lowest, limit)
    return lambda version: (
        version == lowest if len(numbers) == 3 else _within(version, lowest, next_version)
    )


def _within(version: Version, low: Version, top: Version | None) -> bool:
    return version >= low and (top is None or version[:3] < top[:3])


def _above(numbers: list[int]) -> Version | None:
    """The first version after all that begin with `numbers`; None without numbers."""
    if not numbers:
        return None
    major, minor, patch = (*numbers[:-1], numbers[-1] + 1, 0, 0)[:3]
    return Version(major, minor, patch)


def _caret(numbers: list[int]) -> Version | None:
    """The first version with another value in the first number that is not 0."""
    for place, number in enumerate(numbers):
        if number:
            return _above(numbers[: place + 1])
    return _above(numbers)
