"""Chart versions: SemVer 2, the next version, snapshot versions, tags of OCI registries.

Source: semver.org 2.0.0; Masterminds/semver for how helm reads them. No file or network here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

from pipeline_steps.toolbox.errors import ConfigurationError

_NUMBER = r"(?:0|[1-9][0-9]*)"
_IDENTIFIER = rf"(?:{_NUMBER}|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
_PATTERN = re.compile(
    rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})"
    rf"(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?"
)
#: Helm reads each of the three numbers into 64 bits.
_LARGEST = 2**64 - 1
#: Source: OCI Distribution Specification 1.1, "Pulling manifests".
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")

Part = Literal["major", "minor", "patch"]


class Version(NamedTuple):
    """A SemVer 2 version.

    Compared by precedence: build metadata does not count, so equal versions need not be identical.
    """

    major: int
    minor: int
    patch: int
    pre: tuple[str, ...] = ()
    build: str = ""

    def __str__(self) -> str:
        pre = f"-{'.'.join(self.pre)}" if self.pre else ""
        return f"{self.major}.{self.minor}.{self.patch}{pre}" + (
            f"+{self.build}" if self.build else ""
        )

    @property
    def precedence(self) -> tuple[object, ...]:
        """The sort key: a release after its pre-releases, numbers before words."""
        pre = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in self.pre)
        return self.major, self.minor, self.patch, not self.pre, pre

    def __lt__(self, other: object) -> bool:
        return isinstance(other, Version) and self.precedence < other.precedence

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self.precedence == other.precedence

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __gt__(self, other: object) -> bool:
        return isinstance(other, Version) and self.precedence > other.precedence

    def __le__(self, other: object) -> bool:
        return self < other or self == other

    def __ge__(self, other: object) -> bool:
        return self > other or self == other

    def __hash__(self) -> int:
        return hash(self.precedence)


def parse(text: str) -> Version | None:
    """The version in `text`, None when it is not SemVer 2 (v1.2.3, 1.2 and 01.2.3 are not).

    >>> parse("1.2.3-rc.1+a"), parse("v1.2.3"), parse("1.2"), parse("1.02.3")
    (Version(major=1, minor=2, patch=3, pre=('rc', '1'), build='a'), None, None, None)
    """
    match = _PATTERN.fullmatch(text)
    # A version becomes a tag and part of a file name, which cannot be longer.
    if not match or len(text) > 256:
        return None
    major, minor, patch = (int(match[index]) for index in (1, 2, 3))
    if max(major, minor, patch) > _LARGEST:
        return None
    return Version(
        major, minor, patch, tuple(match[4].split(".")) if match[4] else (), match[5] or ""
    )


def parse_loosely(text: str) -> Version | None:
    """Like `parse`, also with a leading v, of one or two numbers and with zeros before them, as helm
    reads versions that exist.

    >>> str(parse_loosely("v1.2.0-rc.1")), str(parse_loosely("1.2")), str(parse_loosely("2026.04.23"))
    ('1.2.0-rc.1', '1.2.0', '2026.4.23')
    """
    number = r"(\d{1,19})"  # helm reads them as 64 bits
    loose = re.fullmatch(rf"v?{number}(?:\.{number})?(?:\.{number})?((?:[-+].*)?)", text, re.ASCII)
    if loose is None:
        return None
    numbers = (str(int(number or 0)) for number in loose.groups()[:3])
    return parse(f"{'.'.join(numbers)}{loose[4]}")


def is_withdrawn(withdrawn: Collection[str], chart: str, version: str) -> bool:
    """Whether `release.withdrawn` names the version of a chart, as 1.2.0 or hello-1.2.0."""
    return version in withdrawn or f"{chart}-{version}" in withdrawn


def parse_strict(text: str, where: str = "") -> Version:
    """The version in `text`. Raises ConfigurationError when it is not SemVer 2."""
    version = parse(text)
    if version is None:
        advice = "write three numbers like 1.2.3, without a leading v or zeros"
        raise ConfigurationError(f"{text!r} is not a SemVer 2 version", where=where, advice=advice)
    return version


def bump(version: Version, part: Part = "patch") -> Version:
    """The next version: a pre-release becomes its release when that raises `part`, else `part` goes
    up.

    >>> str(bump(Version(1, 2, 3))), str(bump(Version(1, 2, 0, ("rc", "1")), "minor"))
    ('1.2.4', '1.2.0')
    """
    major, minor, patch = version[:3]
    if part == "major":
        return Version(major if version.pre and not minor and not patch else major + 1, 0, 0)
    if part == "minor":
        return Version(major, minor if version.pre and not patch else minor + 1, 0)
    return Version(major, minor, patch if version.pre else patch + 1)


def next_version(chart: Version, released: bool) -> Version:
    """The release that a snapshot leads to: Chart.yaml's version, or the next patch when that is
    released.
    """
    base = Version(*chart[:3])
    return bump(base) if released else base


def snapshot(chart: Version, *, released: bool, count: int, fingerprint: str, dirty: bool) -> str:
    """The version of a snapshot: <next>-0.<count>.t<12 hex>[.dirty].

    Args:
        chart: the version in Chart.yaml.
        released: whether that version is released with other content.
        count: position on the mainline, 0 elsewhere.
        fingerprint: "sha256:" + hex over everything that makes the archive.
        dirty: whether the checkout has uncommitted changes.

    >>> digest = "sha256:0123456789abcdef"
    >>> snapshot(Version(1, 4, 0), released=False, count=17, fingerprint=digest, dirty=True)
    '1.4.0-0.17.t0123456789ab.dirty'
    """
    digest = fingerprint.removeprefix("sha256:")[:12]
    return f"{next_version(chart, released)}-0.{count}.t{digest}" + (".dirty" if dirty else "")


def is_snapshot(text: str) -> bool:
    """Whether `text` is a version from `snapshot`."""
    return bool(
        re.fullmatch(
            rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}-0\.{_NUMBER}\.t[0-9a-f]{{12}}(\.dirty)?", text
        )
    )


def to_tag(version: str) -> str:
    """The tag of a version in an OCI registry. Tags cannot have a +; as in helm, it becomes _.

    Raises ConfigurationError when it cannot be a tag.

    >>> to_tag("1.2.3+build.5")
    '1.2.3_build.5'
    """
    tag = version.replace("+", "_")
    if not _TAG.fullmatch(tag):
        raise ConfigurationError(
            f"version {version} cannot be a tag in a registry",
            advice="use at most 128 letters, digits, . - and +",
        )
    return tag


def from_tag(tag: str) -> str | None:
    """The version that a chart's tag means, None when it is not a version."""
    version = tag.replace("_", "+")
    return version if parse(version) else None


def other_build_metadata(version: str, versions: Iterable[str]) -> str | None:
    """A version among `versions` that differs from `version` only in build metadata, or None.

    helm cannot tell the two apart.
    """
    if parse(version) is None:  # helm compares no others
        return None
    without_build = version.partition("+")[0]
    candidates = (
        candidate
        for candidate in versions
        if candidate != version and candidate.partition("+")[0] == without_build
    )
    return next((candidate for candidate in candidates if parse(candidate)), None)


def newest_first(versions: Iterable[str]) -> list[str]:
    """Versions in descending order as in an index; those that are not SemVer last."""
    return sorted(versions, key=sort_key, reverse=True)


def sort_key(text: str) -> tuple[bool, tuple[object, ...], str]:
    """Key to sort versions ascending: those that are not SemVer first, equal precedence by text."""
    version = parse(text)
    return (version is not None, version.precedence if version else (), text)
