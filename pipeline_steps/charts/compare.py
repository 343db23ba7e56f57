"""Two renderings of one chart, tested and derived: do they differ only where a value was replaced
on purpose?

Pure: takes what helm printed. A template that asks for the version, say, shows here as a
difference. What differs between two renderings of the tested chart is by chance, and says nothing
about the derived one (see `chance`).
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from pipeline_steps.charts import chance
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.toolbox.yaml_reader import Mapping, Node, Scalar

#: Kubernetes cuts names and labels at 63 characters, and charts cut them in advance.
_CUT = range(50, 64)
_HASH = re.compile(r"[0-9a-f]{32,128}")
_SOURCE = re.compile(r"# Source: (\S.*)")
#: How often the tested chart is rendered again before a difference is blamed on the derived one:
#: even a coin that is tossed by a template comes down on the other side in one of these.
RENDERED_AGAIN = 4
ADVICE = "a template must not depend on the version or on where images come from"
Pairs = Iterable[tuple[str, str]]


class Difference(NamedTuple):
    """A place that differs. template: as helm names it; line: of its tested rendering, from 1.

    by_chance: the tested chart itself differs here from one rendering to the next, in more than
    values.
    """

    template: str
    line: int
    tested: str
    derived: str
    is_random: bool = False

    @property
    def place(self) -> str:
        """Where it is, without what stands there: it may be secret."""
        chance = (
            " (what it renders depends on chance in more than values)" if self.is_random else ""
        )
        return f"{self.template}:{self.line}{chance}"

    def __str__(self) -> str:
        return f"{self.place}: {self.tested} became {self.derived}"


class Comparison(NamedTuple):
    """refused: differences that nothing explains; none means the charts render alike.

    allowed: places (template:line) that contain a replaced value or a checksum. tested, derived:
    all renderings that were compared; further ones only where chance plays a part.
    """

    refused: tuple[Difference, ...]
    allowed: tuple[str, ...]
    tested: tuple[str, ...]
    derived: tuple[str, ...]


class Document(NamedTuple):
    """One document of a rendering."""

    template: str
    text: str


def compare_renderings(
    tested: Callable[[], str], derived: Callable[[], str], replaced: Pairs
) -> Comparison:
    """Render both charts and compare; the tested one again as long as chance may explain what
    differs.

    It is rendered before and after the derived one, so that a clock that goes on is seen as chance
    too.
    """
    pairs = tuple(replaced)
    renderings = [tested()]
    others = [derived()]
    compared = compare(renderings, others[0], pairs)
    while compared.refused and len(renderings) <= RENDERED_AGAIN:
        renderings.append(tested())
        compared = compare(renderings, others[0], pairs)
    if len(set(renderings)) > 1:
        others.append(derived())
    return compared._replace(derived=tuple(others))


def compare(tested: Sequence[str], derived: str, replaced: Pairs) -> Comparison:
    """Every difference that no replaced value explains, and the places of the others.

    tested: renderings of one chart; the first is compared, and what differs among them is by
    chance. replaced: values before and after. Texts that contain them may differ in just these
    parts; annotations with checksums may differ, because what they sum up is compared itself.
    """
    comparison = _Comparer(replaced)
    refused = tuple(
        comparison.compare_documents(
            [tuple(split_documents(text)) for text in tested], tuple(split_documents(derived))
        )
    )
    return Comparison(refused, tuple(dict.fromkeys(comparison.allowed)), tuple(tested), (derived,))


def random_places(first: str, second: str) -> tuple[str, ...]:
    """Where two renderings of one chart differ: template:line of the first."""
    found = compare([first], second, ()).refused
    return tuple(dict.fromkeys(f"{each.template}:{each.line}" for each in found))


def split_documents(output: str) -> Iterator[Document]:
    """The documents in the output of `helm template`."""
    template = "?"
    for text in re.split(r"^---[ \t]*$\n?", output, flags=re.M):
        found = _SOURCE.search(text)
        template = found[1].strip() if found else template
        body = "\n".join(line for line in text.split("\n") if not _SOURCE.fullmatch(line))
        if body.strip():
            yield Document(template, body)


class _Comparer:
    def __init__(self, replaced: Pairs) -> None:
        spelled = {
            pair: (pair[0].replace("+", "_"), pair[1].replace("+", "_")) for pair in replaced
        }
        self.pairs = sorted(
            {pair for pair in (*spelled, *spelled.values()) if all(pair) and pair[0] != pair[1]}
        )
        words = "|".join(re.escape(old) for old, _ in self.pairs)
        self.pattern = re.compile(f"(?={words})") if words else None
        self.allowed: list[str] = []

    def compare_documents(
        self, tested: Sequence[tuple[Document, ...]], derived: tuple[Document, ...]
    ) -> Iterator[Difference]:
        ours, theirs = ([each.template for each in side] for side in (tested[0], derived))
        others = [side for side in tested[1:] if [each.template for each in side] == ours]
        by_chance = len(others) < len(tested) - 1
        if ours != theirs:
            pairs = enumerate(zip(ours, theirs, strict=False))
            place = next((n for n, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
            longer = ours + theirs[len(ours) :]
            template = longer[place] if place < len(longer) else "?"
            counts = (f"{len(ours)} documents", f"{len(theirs)}, or others")
            yield Difference(template, 1, *counts, by_chance)
            return
        for number, (document, other) in enumerate(zip(tested[0], derived, strict=True)):
            if document.text != other.text:
                again = [side[number].text for side in others]
                yield from self.compare_texts(document, other.text, again, by_chance)

    def compare_texts(
        self, document: Document, other: str, again: Sequence[str], by_chance: bool
    ) -> Iterator[Difference]:
        template = document.template
        try:
            ours, theirs, *others = (
                yaml_reader.parse(text.encode(), template, aliases=True)[1]
                for text in (document.text, other, *again)
            )
        except ConfigurationError as error:
            if self.is_explained([document.text, *again], other):
                self.allowed.append(f"{template}:1")
                return
            words = f"other text, which is not YAML: {error}"
            yield Difference(template, 1, "text", words, by_chance)
            return
        yield from self.compare_nodes(template, (ours, theirs), "", others, by_chance)

    def compare_nodes(
        self,
        template: str,
        pair: tuple[Node | None, Node | None],
        above: str,
        again: Sequence[Node | None],
        by_chance: bool,
    ) -> Iterator[Difference]:
        """again: the same node of further renderings of the tested chart."""
        ours, theirs = pair
        same = [node for node in again if _shape(node) == _shape(ours)]
        by_chance = by_chance or len(same) < len(again)
        if _shape(ours) != _shape(theirs):
            line = (ours.line if ours else 0) + 1
            yield Difference(template, line, _describe(ours), _describe(theirs), by_chance)
        elif isinstance(ours, Scalar) and isinstance(theirs, Scalar):
            texts = [ours.value, *(node.value for node in same if isinstance(node, Scalar))]
            yield from self.compare_scalars(template, ours, theirs, texts, by_chance)
        elif isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            for number, ((key, value), (other_key, other)) in enumerate(
                zip(ours.items, theirs.items, strict=True)
            ):
                items = [node.items[number] for node in same if isinstance(node, Mapping)]
                texts = [key.value, *(item[0].value for item in items)]
                if not self.is_explained(texts, other_key.value):
                    yield Difference(template, key.line + 1, key.value, other_key.value, by_chance)
                elif above == "annotations" and _is_checksum(key, value, other):
                    self.note_if_different(template, value, other)
                else:
                    values = [item[1] for item in items]
                    yield from self.compare_nodes(
                        template, (value, other), key.value, values, by_chance
                    )
        else:
            columns = zip(*(_items(node) for node in (ours, theirs, *same)), strict=True)
            for value, other, *values in columns:
                yield from self.compare_nodes(template, (value, other), above, values, by_chance)

    def compare_scalars(
        self, template: str, ours: Scalar, theirs: Scalar, texts: Sequence[str], by_chance: bool
    ) -> Iterator[Difference]:
        # What is random may look like a number once, and like a text the next time.
        same_type = ours.meaning == theirs.meaning or len(set(texts)) > 1
        if same_type and self.is_explained(texts, theirs.value):
            self.note_if_different(template, ours, theirs)
        else:
            line = ours.line + 1
            yield Difference(template, line, _describe(ours), _describe(theirs), by_chance)

    def note_if_different(self, template: str, ours: Node, theirs: Node) -> None:
        """Remember a place that may differ, if it does."""
        if isinstance(ours, Scalar) and isinstance(theirs, Scalar) and ours.value != theirs.value:
            self.allowed.append(f"{template}:{ours.line + 1}")

    def is_explained(self, texts: Sequence[str], theirs: str) -> bool:
        """Does a replaced value, or chance, explain the difference? texts: of the tested
        renderings.
        """
        parts = chance.common_parts(texts, [old for old, _ in self.pairs])
        if len(parts) == 1:
            return self.is_alike(texts[0], theirs)
        ends = self.possible_ends(parts[0], theirs, [0])
        for part in parts[1:]:
            ends = (
                self.possible_ends(part, theirs, range(min(ends), len(theirs) + 1))
                if ends
                else set()
            )
        return len(theirs) in ends

    def is_alike(self, ours: str, theirs: str) -> bool:
        """Are the texts equal but for replaced values, whole or cut off at the end?"""
        if ours == theirs:
            return True
        if len(theirs) in self.possible_ends(ours, theirs, [0]):
            return True
        return any(_cut_alike(ours, theirs, *pair) for pair in self.pairs)

    def possible_ends(self, ours: str, theirs: str, begins: Iterable[int]) -> set[int]:
        """Where a part of `theirs` ends that replacing values makes of `ours`; begins: where it may
        begin.
        """
        starts = [match.start() for match in self.pattern.finditer(ours)] if self.pattern else []
        found: set[int] = set()
        seen: set[tuple[int, int]] = set()
        reached = [(0, begin) for begin in begins]
        while reached:
            here, there = state = reached.pop()
            if state in seen:
                continue
            seen.add(state)
            following = bisect.bisect_left(starts, here)
            start = starts[following] if following < len(starts) else len(ours)
            if not theirs.startswith(ours[here:start], there):
                continue
            other = there + start - here
            if following == len(starts):
                found.add(other)
                continue
            if ours[start] == theirs[other : other + 1]:
                reached.append((start + 1, other + 1))
            for old, new in self.pairs:
                if ours.startswith(old, start) and theirs.startswith(new, other):
                    reached.append((start + len(old), other + len(new)))
        return found


def _shape(node: Node | None) -> tuple[type, object]:
    """Nodes of one shape are compared part by part."""
    if isinstance(node, (Mapping, yaml_reader.Sequence)):
        return type(node), len(node.items)
    # What an alias stands for is compared where it is defined.
    return type(node), node.name if isinstance(node, yaml_reader.Alias) else ""


def _items(node: Node | None) -> Sequence[Node]:
    return node.items if isinstance(node, yaml_reader.Sequence) else ()


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
    return (
        both
        and named
        and all(_HASH.fullmatch(node.value) for node in (value, other) if isinstance(node, Scalar))
    )


def _describe(node: Node | None) -> str:
    if isinstance(node, Scalar):
        return repr(node.value if len(node.value) < 80 else f"{node.value[:77]}...")
    return {Mapping: "a mapping", yaml_reader.Sequence: "a list"}.get(type(node), "nothing")
