"""The YAML reader for charts and indexes: a tree of nodes with their positions in the text.

Strict where YAML surprises: limits of bytes and depth, one document, no duplicate keys, no tags,
aliases only where the caller allows them. Scalars keep the text as written; `meaning` says what
YAML readers make of it. Interpreting the keys does not belong here. PyYAML, whose events are used,
accepts duplicate keys and any depth; ruamel.yaml does not bound what it builds.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import yaml

from pipeline_steps.toolbox.errors import ConfigurationError, PipelineError

DEEPEST = 50
LARGEST = 5 * 1024 * 1024
#: Keys and values of a document: each takes some 250 bytes of memory, and three bytes of text can
#: make one.
MOST = 500_000
#: Levels of what `load_bounded` takes: Python walks through them by recursion, and libyaml's reader
#: ends in a crash at some 50,000. Definitions of Kubernetes have less than 100.
DEEPEST_LOADED = 300
_STANDARD = "tag:yaml.org,2002:"
_TAGS = frozenset(_STANDARD + name for name in "str int float bool null timestamp map seq".split())
_RESOLVERS = yaml.resolver.Resolver.yaml_implicit_resolvers
#: What Go's YAML takes for a number or truth value and PyYAML does not.
_GO_NUMBER = re.compile(
    r"[-+]?(0o[0-7_]+|0b[01_]+|0x[0-9a-fA-F_]+|(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?)"
)
_GO_TRUTH = frozenset({"y", "Y", "n", "N"})
#: What numbers begin with, and all that numbers and dates that begin with a digit are written with.
_BEGINNINGS, _NUMERIC = (
    frozenset("+-.0123456789"),
    frozenset("0123456789abcdefABCDEFxoTtZz_.:+- \t"),
)

Meaning = Literal["text", "int", "float", "bool", "null", "timestamp", "merge"]


class Scalar(NamedTuple):
    """One value. `start` and `end`: character offsets of the text as written, without anchor and
    tag.
    """

    value: str
    style: str
    start: int
    end: int
    line: int
    anchor: str | None
    tag: str | None

    @property
    def meaning(self) -> Meaning:
        """The type that YAML readers see; quoted and block scalars are always text."""
        if self.style or (self.tag and self.tag.endswith(":str")):
            return "text"
        return meaning(self.value)


class Alias(NamedTuple):
    """A reference to the anchor `name`; `target` is the anchored node."""

    name: str
    target: Node
    start: int
    end: int
    line: int


class Mapping(NamedTuple):
    items: list[tuple[Scalar, Node]]
    line: int
    flow: bool
    anchor: str | None

    def get(self, key: str) -> Node | None:
        """The value written at `key`, None when there is none (merged keys do not count)."""
        return next((node for name, node in self.items if name.value == key), None)

    @property
    def keys(self) -> list[str]:
        return [key.value for key, _ in self.items]


class Sequence(NamedTuple):
    items: list[Node]
    line: int
    flow: bool
    anchor: str | None


Node: TypeAlias = "Scalar | Alias | Mapping | Sequence"


def meaning(plain: str) -> Meaning:
    """The type that YAML readers, Python's or Go's, see in an unquoted scalar.

    >>> [meaning(text) for text in ("1.10", "1e3", "no", "1.2.3", "", "2026-01-31", "y")]
    ['float', 'float', 'bool', 'text', 'null', 'timestamp', 'bool']
    """
    first = plain[:1]
    if "0" <= first <= "9" and (plain.count(".") > 1 or not _NUMERIC.issuperset(plain)):
        # a version, an address, a duration: those patterns take a millisecond to compile
        return "text"
    # PyYAML keeps its implicit resolvers by the first character (YAML 1.1 types).
    for tag, pattern in _RESOLVERS.get(first, ()):
        if pattern.match(plain):
            kind: Meaning = tag.removeprefix(_STANDARD)
            return (
                kind if kind in ("int", "float", "bool", "null", "timestamp", "merge") else "text"
            )
    if plain in _GO_TRUTH:
        return "bool"
    return "float" if first in _BEGINNINGS and _GO_NUMBER.fullmatch(plain) else "text"


def parse(
    data: bytes,
    where: str,
    *,
    aliases: bool = False,
    duplicates: bool = False,
    largest: int = LARGEST,
    error: type[PipelineError] = ConfigurationError,
) -> tuple[str, Node | None]:
    """The text of a document (without byte order mark) and its tree; None for an empty document.

    where: names the file in errors. aliases: allowed? duplicates: as helm reads what others wrote:
    of a key that is there twice the last counts, and an alias of a text or number stands for it;
    otherwise they are refused. error: what to raise.
    """
    return _Reader(where, aliases, error, duplicates).read(data, largest)


def plain_value(node: Node | None) -> Any:
    """The tree as dicts, lists, texts, booleans and None. Numbers and dates stay text as written.

    Not for documents with aliases: a few lines could expand without end.
    """
    if isinstance(node, Mapping):
        return {key.value: plain_value(item) for key, item in node.items}
    if isinstance(node, Sequence):
        return [plain_value(item) for item in node.items]
    if isinstance(node, Alias):
        return plain_value(node.target)
    if node is None or node.meaning == "null":
        return None
    if node.meaning == "bool":
        return node.value.lower() in ("true", "yes", "on", "y")
    return node.value


def load_bounded(text: str | bytes, loader: type[Any] = yaml.CSafeLoader) -> Any:
    """What PyYAML makes of one document: dicts, lists and scalars, for texts whose keys only others
    interpret. Its size is looked at first, aliases counted as what they stand for: a few lines of
    them, or of merged keys, would make PyYAML and whoever walks through its answer build without
    end.

    loader: which types scalars get. Raises yaml.YAMLError; ValueError for more than `MOST` values
    or `DEEPEST_LOADED` levels, and for what Python takes for no number or date.
    """
    _require_bounded(iter(yaml.CSafeLoader(text).get_event, None))
    return yaml.load(text, Loader=loader)


def _require_bounded(events: Iterator[Any]) -> None:
    """Raise ValueError for too many values or levels."""
    count = 0
    sizes: dict[str | None, int] = {}
    starts: list[tuple[int, str | None]] = []
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            count += sizes.get(event.anchor, 1)  # PyYAML says which one has no anchor
        elif type(event) in _ENDS:
            start, anchor = starts.pop()
            sizes[anchor] = count - start
        elif isinstance(event, yaml.NodeEvent):
            count += 1
            sizes[event.anchor] = 1
            if not isinstance(event, yaml.ScalarEvent):
                sizes[event.anchor] = MOST  # an alias within it would have no end
                starts.append((count - 1, event.anchor))
        if count > MOST:
            raise ValueError(f"it stands for more than {MOST} keys and values")
        if len(starts) > DEEPEST_LOADED:
            raise ValueError(f"it is nested deeper than {DEEPEST_LOADED} levels")


def nearest_names(misspelt: str, names_allowed: Iterable[str]) -> str:
    """Advice that names the allowed words most like `misspelt`, or all when there are few."""
    names = list(names_allowed)
    matches = difflib.get_close_matches(misspelt, names, 3, 0.5) or names[:6]
    return f"there is {', '.join(matches)}" if matches else ""


_ENDS = frozenset({yaml.MappingEndEvent, yaml.SequenceEndEvent})


class _Reader:
    """One pass over the events of libyaml, without recursion: deep nesting cannot exhaust the
    stack.
    """

    def __init__(
        self,
        where: str,
        aliases: bool,
        error: type[PipelineError],
        duplicates: bool = False,
    ) -> None:
        self.where = where
        self.aliases = aliases
        self.duplicates = duplicates
        self.error = error
        self.anchors: dict[str, Node] = {}
        self.count = self.repeated = 0

    def fail(self, problem: str, line: int | None = None, advice: str = "") -> PipelineError:
        place = self.where if line is None else f"{self.where}:{line + 1}"
        return self.error(problem, where=place, advice=advice)

    def read(self, data: bytes, largest: int) -> tuple[str, Node | None]:
        if len(data) > largest:
            raise self.fail(f"{len(data)} bytes of YAML, more than {largest} are not read")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self.fail(
                f"not UTF-8 text: {error.reason} at byte {error.start}", advice="save it as UTF-8"
            )
        try:
            # yaml.parse would ask twice for each event, from Python.
            return text, self.document(text, iter(yaml.CSafeLoader(text).get_event, None))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = (
                getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
            )
            raise self.fail(f"not YAML: {problem}", None if mark is None else mark.line)

    def document(self, text: str, events: Iterator[Any]) -> Node | None:
        root: Node | None = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    line = None if event.start_mark is None else event.start_mark.line
                    raise self.fail("a second YAML document", line, "keep one document in the file")
            # The root; its children are taken from `events`.
            elif isinstance(event, yaml.NodeEvent):
                root = self.tree(text, event, events)
        return root

    def tree(self, text: str, event: Any, events: Iterator[Any]) -> Node:
        """The node that `event` begins, with its children from `events`."""
        root = self.node(text, event)
        open_nodes: list[Mapping | Sequence] = (
            [root] if isinstance(root, (Mapping, Sequence)) else []
        )
        keys: list[Scalar | None] = [None]
        seen: list[set[str]] = [set()]
        while open_nodes:
            event = next(events)
            if type(event) in _ENDS:
                closed, written = open_nodes.pop(), seen.pop()
                keys.pop()
                if isinstance(closed, Mapping) and len(written) < len(closed.items):
                    last = {key.value: (key, node) for key, node in closed.items}
                    closed.items[:] = last.values()
                continue
            node = self.node(text, event)
            parent = open_nodes[-1]
            if isinstance(parent, Sequence):
                parent.items.append(node)
            elif keys[-1] is None:
                keys[-1] = self.key(node, seen[-1])
                continue
            else:
                parent.items.append((keys[-1], node))
                keys[-1] = None
            if isinstance(node, (Mapping, Sequence)):
                if len(open_nodes) >= DEEPEST:
                    raise self.fail(f"nested deeper than {DEEPEST} levels", node.line)
                open_nodes.append(node)
                keys.append(None)
                seen.append(set())
        return root

    def key(self, node: Node, seen: set[str]) -> Scalar:
        if not isinstance(node, Scalar):
            raise self.fail("a key is not text", node.line)
        if node.value in seen and not self.duplicates:
            advice = "remove one: YAML readers disagree about which one counts"
            raise self.fail(f"the key {node.value!r} occurs twice", node.line, advice)
        seen.add(node.value)
        return node

    def node(self, text: str, event: Any) -> Node:
        start, end, line = event.start_mark.index, event.end_mark.index, event.start_mark.line
        self.count += 1
        if self.count > MOST:
            raise self.fail(f"more than {MOST} keys and values are not read", line)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event.anchor or "", start, end, line)
        tag = event.tag
        if tag and tag not in _TAGS:
            raise self.fail(f"the tag {tag} is not read", line, "remove it")
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            style = event.style or ""
            if event.anchor or tag:
                start = _behind_properties(text, start, end)
            node = Scalar(event.value, style, start, end, line, event.anchor, tag)
        elif isinstance(event, yaml.MappingStartEvent):
            node = Mapping([], line, bool(event.flow_style), event.anchor)
        else:
            node = Sequence([], line, bool(event.flow_style), event.anchor)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def alias(self, name: str, start: int, end: int, line: int) -> Alias | Scalar:
        target = self.anchors.get(name)
        if self.duplicates and isinstance(target, Scalar):
            self.repeated += len(target.value)
            if self.repeated > LARGEST:
                raise self.fail("its aliases repeat too much", line, "write the values out")
            return target
        if not self.aliases:
            raise self.fail(f"the alias *{name} is not read here", line, "write the value out")
        if name not in self.anchors:
            raise self.fail(f"the alias *{name} has no anchor", line)
        return Alias(name, self.anchors[name], start, end, line)


_PROPERTY = re.compile(r"(?:[&!][^\s,\[\]{}]*(?:\s+|(?=[,\]}]|$)))+")


def _behind_properties(text: str, start: int, end: int) -> int:
    match = _PROPERTY.match(text, start)
    return min(match.end(), end) if match else start
