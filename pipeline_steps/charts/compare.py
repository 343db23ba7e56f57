"""Two renderings of one chart, tested and derived: do they differ only where a value was replaced on purpose?

Pure: takes what `helm template` printed. A template that asks for the version, say, shows here as a difference.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.toolbox.yaml_reader import Mapping, Node, Scalar, Sequence

#: Kubernetes cuts names and labels at 63 characters, and charts cut them in advance.
_CUT = range(50, 64)
_HASH = re.compile(r"[0-9a-f]{32,128}")
_SOURCE = re.compile(r"# Source: (\S.*)")
Pairs = Iterable[tuple[str, str]]


class Difference(NamedTuple):
    """A place that differs for no good reason. template: as helm names it; line: of its tested rendering, from 1."""

    template: str
    line: int
    tested: str
    derived: str

    def __str__(self) -> str:
        return f"{self.template}:{self.line}: {self.tested} became {self.derived}"


class Rendered(NamedTuple):
    """One document of a rendering."""

    template: str
    text: str


def compare(tested: str, derived: str, replaced: Pairs) -> tuple[Difference, ...]:
    """Every difference that no replaced value explains; none means the charts render alike.

    replaced: values before and after. Texts that contain them may differ in just these parts; annotations with
    checksums may differ, because what they sum up is compared itself.
    """
    return tuple(_Comparison(replaced).all(tuple(rendered(tested)), tuple(rendered(derived))))


def rendered(output: str) -> Iterator[Rendered]:
    """The documents in the output of `helm template`."""
    template = "?"
    for text in re.split(r"^---[ \t]*$\n?", output, flags=re.M):
        found = _SOURCE.search(text)
        template = found[1].strip() if found else template
        body = "\n".join(line for line in text.split("\n") if not _SOURCE.fullmatch(line))
        if body.strip():
            yield Rendered(template, body)


class _Comparison:
    def __init__(self, replaced: Pairs) -> None:
        spelled = {pair: (pair[0].replace("+", "_"), pair[1].replace("+", "_")) for pair in replaced}
        self.pairs = sorted({pair for pair in (*spelled, *spelled.values()) if all(pair) and pair[0] != pair[1]})
        words = "|".join(re.escape(old) for old, _ in self.pairs)
        self.pattern = re.compile(f"(?={words})") if words else None

    def all(self, tested: tuple[Rendered, ...], derived: tuple[Rendered, ...]) -> Iterator[Difference]:
        ours, theirs = [one.template for one in tested], [one.template for one in derived]
        if ours != theirs:
            place = next(
                (n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
            )
            template = (ours + theirs[len(ours) :])[place] if place < max(len(ours), len(theirs)) else "?"
            yield Difference(template, 1, f"{len(ours)} documents", f"{len(theirs)}, or others")
            return
        for one, other in zip(tested, derived, strict=True):
            if one.text != other.text:
                yield from self.documents(one, other)

    def documents(self, one: Rendered, other: Rendered) -> Iterator[Difference]:
        try:
            _, ours = yaml_reader.parse(one.text.encode(), one.template, aliases=True)
            _, theirs = yaml_reader.parse(other.text.encode(), other.template, aliases=True)
        except ConfigurationError as error:
            if self.alike(one.text, other.text):
                return
            yield Difference(one.template, 1, "text", f"other text, which is not YAML: {error}")
            return
        yield from self.nodes(one.template, ours, theirs, "")

    def nodes(self, template: str, ours: Node | None, theirs: Node | None, above: str) -> Iterator[Difference]:
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping) and len(ours.items) == len(theirs.items):
            for (key, value), (other_key, other) in zip(ours.items, theirs.items, strict=True):
                if not self.alike(key.value, other_key.value):
                    yield Difference(template, key.line + 1, key.value, other_key.value)
                elif not (above == "annotations" and _is_checksum(key, value, other)):
                    yield from self.nodes(template, value, other, key.value)
        elif isinstance(ours, Sequence) and isinstance(theirs, Sequence) and len(ours.items) == len(theirs.items):
            for value, other in zip(ours.items, theirs.items, strict=True):
                yield from self.nodes(template, value, other, above)
        elif isinstance(ours, Scalar) and isinstance(theirs, Scalar):
            same_type = ours.meaning == theirs.meaning
            if not (same_type and self.alike(ours.value, theirs.value)):
                yield Difference(template, ours.line + 1, _shown(ours), _shown(theirs))
        else:
            yield Difference(template, (ours.line if ours else 0) + 1, _shown(ours), _shown(theirs))

    def alike(self, ours: str, theirs: str) -> bool:
        """Are the texts equal but for replaced values, whole or cut off at the end?"""
        if ours == theirs:
            return True
        if self.pattern is None:
            return False
        starts = [found.start() for found in self.pattern.finditer(ours)]
        return self.replaced(ours, theirs, starts) or any(_cut_alike(ours, theirs, *pair) for pair in self.pairs)

    def replaced(self, ours: str, theirs: str, starts: list[int]) -> bool:
        """Does replacing some of the values that begin at `starts` make `theirs` of `ours`?"""
        seen: set[tuple[int, int]] = set()
        reached = [(0, 0)]
        while reached:
            here, there = state = reached.pop()
            if state in seen:
                continue
            seen.add(state)
            following = bisect.bisect_left(starts, here)
            if following == len(starts):
                if ours[here:] == theirs[there:]:
                    return True
                continue
            start = starts[following]
            other = there + start - here
            if ours[here:start] != theirs[there:other]:
                continue
            if ours[start] == theirs[other : other + 1]:
                reached.append((start + 1, other + 1))
            for old, new in self.pairs:
                if ours.startswith(old, start) and theirs.startswith(new, other):
                    reached.append((start + len(old), other + len(new)))
        return False


def _cut_alike(ours: str, theirs: str, old: str, new: str) -> bool:
    """Do both end with what is left of a replaced value after a cut at 63 characters?"""
    if len(ours) not in _CUT and len(theirs) not in _CUT:
        return False
    for size in range(min(len(old), len(ours)), 0, -1):
        head = ours[:-size]
        rest = theirs[len(head) :]
        if ours.endswith(old[:size]) and theirs.startswith(head) and rest and new.startswith(rest):
            return True
    return False


def _is_checksum(key: Scalar, value: Node, other: Node) -> bool:
    both = isinstance(value, Scalar) and isinstance(other, Scalar)
    named = "checksum" in key.value.lower()
    return both and named and all(_HASH.fullmatch(node.value) for node in (value, other) if isinstance(node, Scalar))


def _shown(node: Node | None) -> str:
    if isinstance(node, Scalar):
        return repr(node.value if len(node.value) < 80 else f"{node.value[:77]}...")
    return {Mapping: "a mapping", Sequence: "a list"}.get(type(node), "nothing")
