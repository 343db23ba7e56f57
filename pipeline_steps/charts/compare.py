"""Compare the renderings of the tested and the released chart: only replaced values may differ.

Pure: takes what helm printed. A template that uses the version, for example, shows up as a
difference. What differs between two renderings of the tested chart itself is random and proves
nothing (see `random_values`).
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pipeline_steps.charts import random_values
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.toolbox.wording import counted
from pipeline_steps.toolbox.yaml_reader import Mapping, Node, Scalar

#: Kubernetes cuts names and labels at 63 characters, and charts cut them in advance.
_CUT = range(50, 64)
_HASH = re.compile(r"[0-9a-f]{32,128}")
_SOURCE = re.compile(r"# Source: (\S.*)")
#: How often the tested chart is rendered again before a difference counts against the derived one:
#: a template with two equally likely results shows both of them with probability 31/32.
RENDERED_AGAIN = 4
ADVICE = "change the template: it must not depend on the version or on where images come from"
Pairs = Iterable[tuple[str, str]]


class Difference(NamedTuple):
    """A place that differs.

    template: as helm names it. line: in its tested rendering, from 1. is_random: the tested chart
    itself renders differently here each time, in more than values.
    """

    template: str
    line: int
    tested: str
    derived: str
    is_random: bool = False

    @property
    def place(self) -> str:
        """Where it is, without the content, which may be secret."""
        chance = (
            " (what it renders depends on chance in more than values)" if self.is_random else ""
        )
        return f"{self.template}:{self.line}{chance}"

    def __str__(self) -> str:
        return f"{self.place}: {self.tested} became {self.derived}"


class Comparison(NamedTuple):
    """Result of a comparison.

    refused: differences without an explanation; none means that the charts render alike. allowed:
    places (template:line) with a replaced value or a checksum. tested, derived: all renderings that
    were compared; more than one only where random values occur.
    """

    refused: tuple[Difference, ...]
    allowed: tuple[str, ...]
    tested: tuple[str, ...]
    derived: tuple[str, ...]


class Document(NamedTuple):
    """One YAML document of a rendering."""

    template: str
    text: str


def compare_renderings(
    tested: Callable[[], str], derived: Callable[[], str], replaced: Pairs
) -> Comparison:
    """Render both charts at once and compare; the tested one again as long as chance may explain
    what differs.

    Both callables are called in threads. Where both fail, raises what `tested` raises.
    """
    pairs = tuple(replaced)
    with ThreadPoolExecutor(2) as pool:
        first_tested, first_derived = pool.submit(tested), pool.submit(derived)
        tested_renderings = [first_tested.result()]
        derived_renderings = [first_derived.result()]
    compared = compare(tested_renderings, derived_renderings[0], pairs)
    while compared.refused and len(tested_renderings) <= RENDERED_AGAIN:
        tested_renderings.append(tested())
        compared = compare(tested_renderings, derived_renderings[0], pairs)
    if compared.refused and not any(each.is_random for each in compared.refused):
        # The derived chart may have seen an earlier time than the tested one: now it is rendered
        # between two of the tested one, so that a clock that goes on is seen as chance.
        derived_renderings = [derived()]
        tested_renderings.append(tested())
        compared = compare(tested_renderings, derived_renderings[0], pairs)
    if len(set(tested_renderings)) > 1:
        derived_renderings.append(derived())
    return compared._replace(derived=tuple(derived_renderings))


def compare(tested: Sequence[str], derived: str, replaced: Pairs) -> Comparison:
    """Find the differences that no replaced value explains, and the places of the others.

    Args:
        tested: renderings of the tested chart. The first is compared; what differs among them is
            random.
        derived: the rendering of the derived chart.
        replaced: values before and after. Texts that contain them may differ in these parts only.
            Checksum annotations may differ, because what they are computed from is compared itself.
    """
    comparer = _Comparer(replaced)
    refused = tuple(
        comparer.compare_documents(
            [tuple(split_documents(text)) for text in tested], tuple(split_documents(derived))
        )
    )
    return Comparison(refused, tuple(dict.fromkeys(comparer.allowed)), tuple(tested), (derived,))


def random_places(first: str, second: str) -> tuple[str, ...]:
    """Where two renderings of one chart differ: template:line of the first."""
    differences = compare([first], second, ()).refused
    return tuple(dict.fromkeys(f"{each.template}:{each.line}" for each in differences))


def split_documents(output: str) -> Iterator[Document]:
    """The documents in the output of `helm template`."""
    template = "?"
    for text in re.split(r"^---[ \t]*$\n?", output, flags=re.M):
        source = _SOURCE.search(text)
        template = source[1].strip() if source else template
        body = "\n".join(line for line in text.split("\n") if not _SOURCE.fullmatch(line))
        if body.strip():
            yield Document(template, body)


class _Comparer:
    def __init__(self, replaced: Pairs) -> None:
        spelled = {
            # helm.sh/chart labels replace + by _, because a label value cannot have it.
            pair: (pair[0].replace("+", "_"), pair[1].replace("+", "_"))
            for pair in replaced
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
        tested_templates, derived_templates = (
            [each.template for each in side] for side in (tested[0], derived)
        )
        comparable = [
            side for side in tested[1:] if [each.template for each in side] == tested_templates
        ]
        by_chance = len(comparable) < len(tested) - 1
        if tested_templates != derived_templates:
            pairs = enumerate(zip(tested_templates, derived_templates, strict=False))
            place = next(
                (n for n, (a, b) in pairs if a != b),
                min(len(tested_templates), len(derived_templates)),
            )
            longer = tested_templates + derived_templates[len(tested_templates) :]
            template = longer[place] if place < len(longer) else "?"
            counts = (
                counted(len(tested_templates), "document"),
                f"{len(derived_templates)}, or others",
            )
            yield Difference(template, 1, *counts, by_chance)
            return
        for number, (document, derived_document) in enumerate(zip(tested[0], derived, strict=True)):
            if document.text != derived_document.text:
                repeated_texts = [side[number].text for side in comparable]
                yield from self.compare_texts(
                    document, derived_document.text, repeated_texts, by_chance
                )

    def compare_texts(
        self, document: Document, derived_text: str, repeated_texts: Sequence[str], by_chance: bool
    ) -> Iterator[Difference]:
        template = document.template
        try:
            tested_node, derived_node, *repeated_nodes = (
                yaml_reader.parse(text.encode(), template, aliases=True)[1]
                for text in (document.text, derived_text, *repeated_texts)
            )
        except ConfigurationError as error:
            if self.is_explained([document.text, *repeated_texts], derived_text):
                self.allowed.append(f"{template}:1")
                return
            problem = f"other text, which is not YAML: {error}"
            yield Difference(template, 1, "text", problem, by_chance)
            return
        yield from self.compare_nodes(
            template, (tested_node, derived_node), "", repeated_nodes, by_chance
        )

    def compare_nodes(
        self,
        template: str,
        pair: tuple[Node | None, Node | None],
        parent_key: str,
        repeated_nodes: Sequence[Node | None],
        by_chance: bool,
    ) -> Iterator[Difference]:
        """Compare a node of both charts. repeated_nodes: the same node in further tested
        renderings.
        """
        tested_node, derived_node = pair
        same = [node for node in repeated_nodes if _shape(node) == _shape(tested_node)]
        by_chance = by_chance or len(same) < len(repeated_nodes)
        if _shape(tested_node) != _shape(derived_node):
            line = (tested_node.line if tested_node else 0) + 1
            yield Difference(
                template, line, _describe(tested_node), _describe(derived_node), by_chance
            )
        elif isinstance(tested_node, Scalar) and isinstance(derived_node, Scalar):
            texts = [tested_node.value, *(node.value for node in same if isinstance(node, Scalar))]
            yield from self.compare_scalars(template, tested_node, derived_node, texts, by_chance)
        elif isinstance(tested_node, Mapping) and isinstance(derived_node, Mapping):
            mappings = [node for node in same if isinstance(node, Mapping)]
            yield from self.compare_mappings(
                template, tested_node, derived_node, parent_key, mappings, by_chance
            )
        else:
            columns = zip(
                *(_items(node) for node in (tested_node, derived_node, *same)), strict=True
            )
            for tested_value, derived_value, *values in columns:
                yield from self.compare_nodes(
                    template, (tested_value, derived_value), parent_key, values, by_chance
                )

    def compare_mappings(
        self,
        template: str,
        tested_node: Mapping,
        derived_node: Mapping,
        parent_key: str,
        same: Sequence[Mapping],
        by_chance: bool,
    ) -> Iterator[Difference]:
        """Compare the keys of both, and the values below keys that are equal or explained."""
        for number, ((tested_key, tested_value), (derived_key, derived_value)) in enumerate(
            zip(tested_node.items, derived_node.items, strict=True)
        ):
            items = [node.items[number] for node in same]
            texts = [tested_key.value, *(item[0].value for item in items)]
            if not self.is_explained(texts, derived_key.value):
                yield Difference(
                    template, tested_key.line + 1, tested_key.value, derived_key.value, by_chance
                )
            elif parent_key == "annotations" and _is_checksum(
                tested_key, tested_value, derived_value
            ):
                self.note_if_different(template, tested_value, derived_value)
            else:
                values = [item[1] for item in items]
                yield from self.compare_nodes(
                    template, (tested_value, derived_value), tested_key.value, values, by_chance
                )

    def compare_scalars(
        self,
        template: str,
        tested_node: Scalar,
        derived_node: Scalar,
        texts: Sequence[str],
        by_chance: bool,
    ) -> Iterator[Difference]:
        # A random value may look like a number in one rendering and like text in the next.
        same_type = tested_node.meaning == derived_node.meaning or len(set(texts)) > 1
        if same_type and self.is_explained(texts, derived_node.value):
            self.note_if_different(template, tested_node, derived_node)
        else:
            line = tested_node.line + 1
            yield Difference(
                template, line, _describe(tested_node), _describe(derived_node), by_chance
            )

    def note_if_different(self, template: str, tested_node: Node, derived_node: Node) -> None:
        """Record a place that may differ, if it does."""
        if (
            isinstance(tested_node, Scalar)
            and isinstance(derived_node, Scalar)
            and tested_node.value != derived_node.value
        ):
            self.allowed.append(f"{template}:{tested_node.line + 1}")

    def is_explained(self, tested_texts: Sequence[str], derived_text: str) -> bool:
        """Whether replaced or random values explain the difference. tested_texts: of all tested
        renderings.
        """
        parts = random_values.common_parts(tested_texts, [old for old, _ in self.pairs])
        if len(parts) == 1:
            return self.is_alike(tested_texts[0], derived_text)
        ends = self.possible_ends(parts[0], derived_text, [0])
        for part in parts[1:]:
            ends = (
                self.possible_ends(part, derived_text, range(min(ends), len(derived_text) + 1))
                if ends
                else set()
            )
        return len(derived_text) in ends

    def is_alike(self, tested_text: str, derived_text: str) -> bool:
        """Whether the texts are equal except for replaced values, complete or cut off at the
        end.
        """
        if tested_text == derived_text:
            return True
        if len(derived_text) in self.possible_ends(tested_text, derived_text, [0]):
            return True
        return any(_cut_alike(tested_text, derived_text, *pair) for pair in self.pairs)

    def possible_ends(
        self, tested_text: str, derived_text: str, start_offsets: Iterable[int]
    ) -> set[int]:
        """Offsets in `derived_text` where the text ends that replacing values makes of
        `tested_text`.

        start_offsets: where it may start. There are several ends, because a value may be replaced
        or not.
        """
        starts = (
            [match.start() for match in self.pattern.finditer(tested_text)] if self.pattern else []
        )
        ends: set[int] = set()
        # A search over pairs of offsets: at each occurrence of an old value there are two
        # ways on, with it replaced or not. `visited` keeps this linear for texts that
        # repeat a value.
        visited: set[tuple[int, int]] = set()
        pending = [(0, begin) for begin in start_offsets]
        while pending:
            tested_at, derived_at = state = pending.pop()
            if state in visited:
                continue
            visited.add(state)
            following = bisect.bisect_left(starts, tested_at)
            start = starts[following] if following < len(starts) else len(tested_text)
            if not derived_text.startswith(tested_text[tested_at:start], derived_at):
                continue
            derived_end = derived_at + start - tested_at
            if following == len(starts):
                ends.add(derived_end)
                continue
            if tested_text[start] == derived_text[derived_end : derived_end + 1]:
                pending.append((start + 1, derived_end + 1))
            for old, new in self.pairs:
                if tested_text.startswith(old, start) and derived_text.startswith(new, derived_end):
                    pending.append((start + len(old), derived_end + len(new)))
        return ends


def _shape(node: Node | None) -> tuple[type, object]:
    """Nodes with equal shapes are compared part by part."""
    if isinstance(node, (Mapping, yaml_reader.Sequence)):
        return type(node), len(node.items)
    # The node that an alias refers to is compared where it is defined.
    return type(node), node.name if isinstance(node, yaml_reader.Alias) else ""


def _items(node: Node | None) -> Sequence[Node]:
    return node.items if isinstance(node, yaml_reader.Sequence) else ()


def _cut_alike(tested_text: str, derived_text: str, old: str, new: str) -> bool:
    """Whether both texts end in a replaced value that was cut off at 63 characters."""
    if len(tested_text) not in _CUT and len(derived_text) not in _CUT:
        return False
    # Templates cut names with `trunc 63`, so only the beginning of a long value may be left.
    for size in range(min(len(old), len(tested_text)), 0, -1):
        head = tested_text[:-size]
        derived_rest = derived_text[len(head) :]
        if (
            tested_text.endswith(old[:size])
            and derived_text.startswith(head)
            and derived_rest
            and new.startswith(derived_rest)
        ):
            return True
    return False


def _is_checksum(key: Scalar, tested_value: Node, derived_value: Node) -> bool:
    are_scalars = isinstance(tested_value, Scalar) and isinstance(derived_value, Scalar)
    is_checksum_key = "checksum" in key.value.lower()
    return (
        are_scalars
        and is_checksum_key
        and all(
            _HASH.fullmatch(node.value)
            for node in (tested_value, derived_value)
            if isinstance(node, Scalar)
        )
    )


def _describe(node: Node | None) -> str:
    if isinstance(node, Scalar):
        return repr(node.value if len(node.value) < 80 else f"{node.value[:77]}...")
    return {Mapping: "a mapping", yaml_reader.Sequence: "a list"}.get(type(node), "nothing")
