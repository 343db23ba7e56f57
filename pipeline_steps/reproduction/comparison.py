"""Compare recorded and rebuilt files: the first difference and its likely cause. Pure functions.

Charts are rebuilt in `repacking`, images in `rebuilding`, tests are repeated in `retesting`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

#: Bytes shown before and after the first that differs.
_BEFORE, _AFTER = 24, 40
#: Files of package managers: they change when a package repository has newer versions.
_PACKAGES = re.compile(
    r"(^|/)(lib/apk/db|var/lib/(dpkg|rpm|apt|pacman)|var/cache|usr/lib/sysimage/rpm|etc/apk"
    r"|site-packages|node_modules|go/pkg/mod|\.m2)(/|$)|\.dist-info/"
)
_TIMES = re.compile(
    rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?( ?(Z|[A-Z]{3,4}|[+-]\d\d:?\d\d))?"
    rb"|(Mon|Tue|Wed|Thu|Fri|Sat|Sun),? .{0,7}[A-Z][a-z]{2} .{0,30}"
    rb"|\b1[0-9]{9}(\d{3})?\b|\b\d\d:\d\d:\d\d\b"
)


class ComparedFile(NamedTuple):
    """A file to compare.

    data: its bytes, or the target of a link. mode: permission bits.
    kind: "file", "folder", "link" or another type. owner: like "0:0", "" when it is not compared.
    """

    data: bytes
    mode: int = 0o644
    kind: str = "file"
    owner: str = ""


class Difference(NamedTuple):
    """The first difference.

    offset: of the byte, None when the contents are equal. text: the values of both sides.
    cause: the likely cause, for people.
    """

    file: str
    offset: int | None
    text: str
    cause: str

    def __str__(self) -> str:
        place = f" at byte {self.offset}" if self.offset is not None else ""
        return f"{self.file}{place}: {self.text}; likely cause: {self.cause}"


class Outcome(NamedTuple):
    """The result of a reproduction, as lines: equal outputs, differences, and notes."""

    equal: tuple[str, ...]
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def first_difference(
    recorded: Mapping[str, ComparedFile], rebuilt: Mapping[str, ComparedFile], *, tools: str = ""
) -> Difference | None:
    """The first file by name that differs, None when all are equal.

    tools: text that names tools of different versions, "" when there are none.
    """
    for name in sorted(recorded.keys() | rebuilt.keys()):
        old, new = recorded.get(name), rebuilt.get(name)
        if old is not None and new is not None:
            if old == new:
                continue
            return _difference(name, old, new, tools)
        missing = (
            "is recorded and not made here" if new is None else "is made here and not recorded"
        )
        return Difference(name, None, missing, _cause_of_name(name, tools))
    return None


def differing_names(
    recorded: Mapping[str, ComparedFile], rebuilt: Mapping[str, ComparedFile]
) -> list[str]:
    """The names of all files that differ, sorted."""
    return sorted(
        name for name in recorded.keys() | rebuilt.keys() if recorded.get(name) != rebuilt.get(name)
    )


def _difference(name: str, old: ComparedFile, new: ComparedFile, tools: str) -> Difference:
    if old.kind != new.kind:
        return Difference(
            name, None, f"recorded a {old.kind}, here a {new.kind}", _cause_of_name(name, tools)
        )
    if old.data != new.data:
        at = _first_differing_byte(old.data, new.data)
        words = f"recorded {_excerpt(old.data, at)}, here {_excerpt(new.data, at)}"
        return Difference(name, at, words, _cause_of_bytes(name, old.data, new.data, at, tools))
    if old.mode != new.mode:
        cause = "file mode: the umask, or a checkout that does not keep modes"
        return Difference(name, None, f"recorded mode {old.mode:04o}, here {new.mode:04o}", cause)
    return Difference(
        name, None, f"recorded owner {old.owner}, here {new.owner}", "the account that made it"
    )


def _first_differing_byte(old: bytes, new: bytes) -> int:
    return next(
        (n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b),
        min(len(old), len(new)),
    )


def _excerpt(data: bytes, at: int) -> str:
    """The bytes around an offset, as a Python literal."""
    part = data[max(0, at - _BEFORE) : at + _AFTER]
    return f"{part!r}" if at < len(data) else f"{part!r} and its end"


def _cause_of_bytes(name: str, old: bytes, new: bytes, at: int, tools: str) -> str:
    # Most specific cause first: it is shown as the likely one.
    if old.replace(b"\r\n", b"\n") == new.replace(b"\r\n", b"\n"):
        return "line ends: a setting of the checkout, or an editor, turned them"
    before, after = _time_at(old, at), _time_at(new, at)
    if before and after:
        if _same_instant(before, after):
            return "time zone: the same moment, written for different zones"
        return "the time of the build is written into it: use SOURCE_DATE_EPOCH, or leave it out"
    return _cause_of_name(name, tools)


def _time_at(data: bytes, at: int) -> str:
    """The date or time that is written around an offset, "" when there is none."""
    start = max(0, at - 40)
    for match in _TIMES.finditer(data[start : at + 40]):
        if start + match.start() <= at <= start + match.end():
            return match[0].decode(errors="replace")
    return ""


def _same_instant(old: str, new: str) -> bool:
    """Whether two times with different time zones are the same moment.

    >>> _same_instant("2026-01-31T10:00:00+00:00", "2026-01-31T12:00:00+02:00")
    True
    >>> _same_instant("2026-01-31T10:00:00Z", "2026-01-31T12:00:00Z")
    False
    """
    try:
        first, second = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (old, new))
        return first == second and first.utcoffset() != second.utcoffset()
    except (ValueError, TypeError):
        return False


def _cause_of_name(name: str, tools: str) -> str:
    if _PACKAGES.search(name):
        return "unpinned input: the build downloads packages, and there are newer ones now"
    if re.search(r"(^|/)charts/[^/]+\.tgz$", name):
        return "unpinned input: another archive of the dependency than recorded"
    if tools:
        return f"tool version: {tools}"
    return (
        "something that is not recorded: an input that is fetched, a random order, or this machine"
    )


def differing_tools(recorded: Mapping[str, str], rebuilt: Mapping[str, str]) -> str:
    """Text that names the tools whose versions differ, "" when there are none."""
    common = sorted(recorded.keys() & rebuilt.keys())
    return ", ".join(
        f"{name} {rebuilt[name]}, recorded {recorded[name]}"
        for name in common
        if recorded[name] != rebuilt[name]
    )


def differing_inputs(recorded: Mapping[str, str], rebuilt: Mapping[str, str]) -> list[str]:
    """A line for each input whose digest is not the recorded one."""
    return [
        f"input {name}: recorded {recorded.get(name, 'none')}, here {rebuilt.get(name, 'none')}; "
        "likely cause: unpinned input: its name stands for something else now"
        for name in sorted(recorded.keys() | rebuilt.keys())
        if recorded.get(name) != rebuilt.get(name)
    ]


def compared_chart_files(
    files: Mapping[str, bytes], executables: frozenset[str]
) -> dict[str, ComparedFile]:
    """A chart's files for comparison; a chart's archive has only two modes."""
    return {
        name: ComparedFile(data, 0o755 if name in executables else 0o644)
        for name, data in files.items()
    }
