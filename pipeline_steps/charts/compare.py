"""Do two charts render to the same but for what was replaced? Pure: it compares texts that helm wrote.

Production may differ from what was tested only in values that contain a replaced reference or the version, and in
checksum annotations of the templates that hold such values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

_SOURCE = re.compile(r"^# Source: (?P<name>.+)$")
_CHECKSUM = re.compile(r"^\s*['\"]?checksum/[^:]*:\s*['\"]?[0-9a-f]{32,128}['\"]?\s*$")


class Difference(NamedTuple):
    """template: as helm names it, hello/templates/x.yaml. line: 1-based in what it rendered. texts: both lines."""

    template: str
    line: int
    tested: str
    released: str

    def __str__(self) -> str:
        return f"{self.template}, line {self.line} of its output: tested {self.tested!r}, released {self.released!r}"


class _Substitution:
    """Replaced texts, longest first. A line may hold some of them replaced and others as they were tested."""

    def __init__(self, replaced: Mapping[str, str]) -> None:
        pairs = {old: new for old, new in replaced.items() if old and old != new}
        self._new = pairs
        words = sorted(pairs, key=len, reverse=True)
        self._words = re.compile("|".join(re.escape(word) for word in words)) if words else None

    def explains(self, one: str, two: str) -> bool:
        """Is `two` what `one` becomes when its replaced texts are put in?"""
        return self._words is not None and self._words.sub(lambda found: self._new[found[0]], one) == two


def differences(tested: str, released: str, replaced: Mapping[str, str]) -> list[Difference]:
    """Where two outputs of `helm template` differ in more than replaced texts and checksums.

    replaced: tested text → released text (versions, references, and their parts). A line counts as equal when
    putting the released texts for the tested ones makes it so.

    >>> differences("# Source: a/b.yaml\\nimage: r/x:1", "# Source: a/b.yaml\\nimage: r/x:2", {"r/x:1": "r/x:2"})
    []
    >>> str(differences("# Source: a/b.yaml\\nif: x", "# Source: a/b.yaml\\nif: y", {})[0])
    "a/b.yaml, line 1 of its output: tested 'if: x', released 'if: y'"
    """
    substitute = _Substitution(replaced)
    before, after = _templates(tested), _templates(released)
    found: list[Difference] = []
    for name in dict.fromkeys([*before, *after]):
        found += _compared(name, before.get(name, []), after.get(name, []), substitute)
    return found


def _templates(output: str) -> dict[str, list[str]]:
    """Template → its lines, over all the documents it rendered."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in output.splitlines():
        source = _SOURCE.match(line)
        if source:
            lines = found.setdefault(source["name"], [])
        elif line.strip() != "---":
            lines.append(line.rstrip())
    return found


def _compared(name: str, before: list[str], after: list[str], substitute: _Substitution) -> Iterator[Difference]:
    for number in range(max(len(before), len(after))):
        one = before[number] if number < len(before) else ""
        two = after[number] if number < len(after) else ""
        if one != two and not substitute.explains(one, two) and not (_CHECKSUM.match(one) and _CHECKSUM.match(two)):
            yield Difference(name, number + 1, one.strip(), two.strip())


def spellings(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Replaced texts as templates may write them: as they are, and with `+` as `_`, as labels need them.

    >>> spellings([("1.0.0-0.1+a", "1.0.0+b")])
    {'1.0.0-0.1+a': '1.0.0+b', '1.0.0-0.1_a': '1.0.0_b'}
    """
    found: dict[str, str] = {}
    for old, new in pairs:
        found[old] = new
        found.setdefault(old.replace("+", "_"), new.replace("+", "_"))
    return found
