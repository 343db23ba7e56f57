"""index.yaml of classic chart repositories as a pure function of bytes: strict reading, in-place
adding.

Existing bytes stay as they are, unknown fields too; a new entry is put where helm would sort it.
Source: helm 3 and 4, pkg/repo/index.go.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any, NamedTuple, cast

import yaml

from pipeline_steps.charts.metadata import CREATED, helm_metadata
from pipeline_steps.charts.version import newest_first, sort_key
from pipeline_steps.repositories import index_blocks
from pipeline_steps.repositories.index_blocks import Block, Blocks
from pipeline_steps.toolbox import json_reader, yaml_reader
from pipeline_steps.toolbox.errors import EvidenceError

#: Largest index in bytes; the largest public ones have about 20 MB.
LARGEST = 64 * 2**20
#: Limit for an index that is parsed as a whole, like JSON: the tree takes many times its size.
PARSED_LARGEST = 24 * 2**20
#: Lines are kept by number, which takes many times the bytes of empty ones.
MOST_LINES = 2_000_000
_EMPTY = f'apiVersion: v1\nentries: {{}}\ngenerated: "{CREATED}"\n'.encode()
ADVICE = "regenerate rebuilds the index"
_READ_FIELDS = frozenset({"name", "version", "digest", "urls", "removed", "created"})
#: Of an archive; helm writes it without the algorithm, other programs in capitals.
DIGEST = re.compile(r"(sha256:)?([0-9a-f]{64})", re.IGNORECASE)
#: Line ends as libyaml counts them.
_LINE_END = re.compile(rb"\r\n|\n|\r|\xc2\x85|\xe2\x80[\xa8\xa9]")
#: Anything but comments below a line.
_CONTENT = re.compile(rb"[\r\n][ \t]*[^ \t\r\n#]")
_DASH = re.compile(rb" *(?=-[ \t\r\n])")


class Entry(NamedTuple):
    """One chart version in an index.

    digest: "sha256:" + hex of the .tgz, "" when there is none. urls, created: as written.
    """

    name: str
    version: str
    digest: str
    urls: tuple[str, ...]
    removed: bool
    created: str = ""


def new_entry_fields(
    fields: Mapping[str, Any], digest: str, url: str, created: str = CREATED
) -> dict[str, Any]:
    """The fields of a new entry.

    Args:
        fields: of Chart.yaml.
        digest: of the .tgz.
        url: absolute, or relative to the index.
        created: RFC 3339.
    """
    # helm writes the digest without its algorithm.
    index_fields = {"created": created, "digest": digest.removeprefix("sha256:"), "urls": [url]}
    sorted_fields: dict[str, Any] = _sorted({**helm_metadata(fields), **index_fields})
    return sorted_fields


def _sorted(value: Any) -> Any:
    """Sort keys at all levels, as helm writes them."""
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


_Fields = Mapping[str, Any]


class _Edit(NamedTuple):
    """A text to insert, replacing the bytes from `start` to `end`."""

    start: int
    end: int
    text: str


class Index:
    """A parsed index.yaml.

    An index in block style, as helm writes it, is parsed chart by chart when asked for. Errors in
    charts that nobody asks for are not reported.

    Args:
        data: None when there is no index yet.
        where: names the index in errors.
        earlier: a previous state of the index, whose parsed entries are reused.

    Raises:
        EvidenceError: naming the line: no index, a version twice, an entry without version, or an
            invalid digest.
    """

    def __init__(self, data: bytes | None, where: str, earlier: Index | None = None) -> None:
        self.where = where
        self.data = _EMPTY if data is None else data
        if len(self.data) > LARGEST:
            raise EvidenceError(
                f"the index has {len(self.data)} bytes of YAML, more than {LARGEST} are not read",
                where=where,
                advice="split the repository, or remove old versions from its index",
            )
        if self.data.count(b"\n") > MOST_LINES:
            raise EvidenceError(
                f"the index has more than {MOST_LINES} lines, and no more are read",
                where=where,
                advice="split the repository, or remove old versions from its index",
            )
        # Insertions go between lines, so the last one must be complete.
        if not self.data.endswith(b"\n"):
            self.data += b"\n"
        self._entry_cache: dict[bytes, Entry] = earlier._entry_cache if earlier else {}
        self._entry_offsets: dict[str, list[tuple[Entry, int]]] = {}
        # Fast path for the usual style; None means that it must be parsed as a whole.
        blocks = index_blocks.find(self.data)
        self._tree = None if blocks else _parse_whole(self.data, where)
        self._blocks = blocks or cast(_Tree, self._tree).blocks

    @property
    def is_cut(self) -> bool:
        """Whether it does not say which charts there are, as a file of which the end is lost."""
        return self._tree is not None and self._tree.cut

    def names(self) -> list[str]:
        """The chart names in their order in the index."""
        return list(self._blocks.charts)

    def entries(self) -> dict[str, list[Entry]]:
        """Chart name → its versions, in their order in the index."""
        return {name: self.versions(name) for name in self.names()}

    def versions(self, name: str) -> list[Entry]:
        """The versions of a chart in their order in the index; empty when it is not in the
        index.
        """
        return [entry for entry, _ in self._entries_of(name)]

    def find(self, name: str, version: str) -> Entry | None:
        """The entry of a version, None when there is none."""
        return next((entry for entry in self.versions(name) if entry.version == version), None)

    def _entries_of(self, name: str) -> list[tuple[Entry, int]]:
        """The entries of a chart, with the offsets of their first lines."""
        if name not in self._entry_offsets:
            block = self._blocks.charts.get(name)
            placed = self._read_chart(name, block) if block else []
            versions: set[str] = set()
            for entry, offset in placed:
                if entry.version in versions:
                    problem = f"{name} {entry.version} is in the index twice"
                    raise _failure(problem, self.where, _lines_before(self.data, offset))
                versions.add(entry.version)
            self._entry_offsets[name] = placed
        return self._entry_offsets[name]

    def _read_chart(self, name: str, block: Block) -> list[tuple[Entry, int]]:
        if self._tree:
            placed = _entries(name, self._tree.charts[name], self.where)
            return [(entry, self._tree.lines[line]) for entry, line in placed]
        start, end, items = block
        if items and not _CONTENT.search(self.data, self.data.index(b"\n", start), items[0]):
            return [(self._parse_item(name, *place), place[0]) for place in pairwise((*items, end))]
        placed = self._parse_alone(name, self.data[start:end], start)
        lines = _offsets(self.data, {line - 1 for _, line in placed}, start)  # `entries:` was added
        return [(entry, lines[line - 1]) for entry, line in placed]

    def _parse_item(self, name: str, start: int, end: int) -> Entry:
        """The entry in these lines; parsed only when they are new."""
        lines = _key_line(name, self._blocks.indent).encode() + self.data[start:end]
        # Most entries of a new index are those of the previous one; parsing YAML is far
        # slower than hashing.
        digest = hashlib.sha256(lines).digest()
        if digest not in self._entry_cache:
            [(self._entry_cache[digest], _)] = self._parse_alone(name, lines, start, above=2)
        return self._entry_cache[digest]

    def _parse_alone(
        self, name: str, lines: bytes, start: int, above: int = 1
    ) -> list[tuple[Entry, int]]:
        """The entries in the lines of one chart, parsed as an index of their own.

        above: number of lines in that small index before the line at `start` of this one.
        """
        data = b"entries:\n" + lines
        try:
            return _entries(name, _chart_node(name, data, self.where), self.where)
        except EvidenceError:
            # Parse again below as many empty lines as in the index: the error names the right line.
            data = b"\n" * (_lines_before(self.data, start) - above) + data
            return _entries(name, _chart_node(name, data, self.where), self.where)

    def with_entries(self, new_entries: Iterable[_Fields]) -> bytes:
        """The index with more entries, from `new_entry_fields`; everything else stays as it is.

        Raises EvidenceError when the index has a version already: entries are never replaced.
        """
        charts: dict[str, dict[str, _Fields]] = {}
        for new_entry in new_entries:
            name, version = str(new_entry["name"]), str(new_entry["version"])
            chart_entries = charts.setdefault(name, {})
            if version in chart_entries or self.find(name, version):
                raise EvidenceError(
                    f"{name} {version} is in the index already",
                    where=self.where,
                    advice="raise the version: a published one is never replaced",
                )
            chart_entries[version] = new_entry
        newest_by_chart = {
            name: [charts[name][version] for version in newest_first(charts[name])]
            for name in sorted(charts)
        }
        if self._tree and self._tree.json:
            return self._add_to_json(newest_by_chart)
        if self._tree and self._tree.braces:
            edits = [self._replace_braces(*self._tree.braces, newest_by_chart)]
        else:
            edits = [
                change
                for name, newest in newest_by_chart.items()
                for change in self._insertions(name, newest)
            ]
        data, parts, position = memoryview(self.data), list[bytes | memoryview](), 0
        # Copy unchanged bytes between the insertions; entries of other charts are never
        # rewritten.
        for change in sorted(edits, key=lambda change: change.start):
            parts += [data[position : change.start], change.text.encode()]
            position = change.end
        return b"".join((*parts, data[position:]))

    def _insertions(self, name: str, newest: Sequence[_Fields]) -> Iterator[_Edit]:
        """The texts to insert for a chart: each new entry before the first older one."""
        existing, block, indent = (
            self._entries_of(name),
            self._blocks.charts.get(name),
            self._blocks.indent,
        )
        if block is None:
            later = (place.start for key, place in self._blocks.charts.items() if key > name)
            start = next(later, self._blocks.end)
            yield _Edit(start, start, _chart_lines(name, newest, indent))
        elif not existing:  # the chart is named and has no version: [] or nothing
            end = self._end_of_lone_line(name, block.start, block.end)
            yield _Edit(block.start, end, _chart_lines(name, newest, indent))
        else:
            starts = [*(offset for _, offset in existing), block.end]
            columns = [self._column(name, offset) for offset in starts[:-1]]
            for new_entry, place in _insert_positions(
                newest, [entry.version for entry, _ in existing]
            ):
                yield _Edit(starts[place], starts[place], _item_lines(new_entry, columns[0]))

    def _replace_braces(
        self, start: int, end: int, charts: Mapping[str, Sequence[_Fields]]
    ) -> _Edit:
        """Replace `entries: {}` by a block."""
        if self._blocks.charts:
            raise _failure(
                "entries is written with braces in an index that is not JSON",
                self.where,
                _lines_before(self.data, start),
            )
        end = self._end_of_lone_line("entries", start, end)
        text = "".join(_chart_lines(name, newest, 2) for name, newest in charts.items())
        return _Edit(start, end, f"entries:\n{text}")

    def _end_of_lone_line(self, name: str, start: int, end: int) -> int:
        """The end of the line at `start`, after which only comments may follow in its block."""
        line = _LINE_END.search(self.data, start, end)
        line_end = line.end() if line else end
        if _CONTENT.search(self.data, line_end - 1, end):
            raise self._unwritable(name, start)
        return line_end

    def _column(self, name: str, offset: int) -> int:
        """The column of an entry's dash."""
        dash = _DASH.match(self.data, offset)
        if dash is None:
            raise self._unwritable(name, offset)
        return len(dash[0])

    def _unwritable(self, name: str, offset: int) -> EvidenceError:
        problem = f"{name} is written in a style that this program cannot add entries to"
        return _failure(problem, self.where, _lines_before(self.data, offset))

    def _add_to_json(self, charts: Mapping[str, Sequence[_Fields]]) -> bytes:
        try:
            content = json_reader.decode(self.data.removeprefix(codecs.BOM_UTF8))
        except ValueError as problem:
            raise EvidenceError(
                f"the index begins with a brace and is not JSON: {problem}",
                where=self.where,
                advice=ADVICE,
            )
        charts_there = content.get("entries") or {}
        for name, newest in charts.items():
            versions = list(charts_there.get(name) or [])
            for new_entry, place in reversed(
                [*_insert_positions(newest, [entry.version for entry, _ in self._entries_of(name)])]
            ):
                versions.insert(place, dict(new_entry))
            charts_there[name] = versions
        content["entries"] = dict(sorted(charts_there.items()))
        return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"


def _insert_positions(
    newest: Sequence[_Fields], versions: Sequence[str]
) -> Iterator[tuple[_Fields, int]]:
    """Each new entry, newest first, with the position of the first existing version that is
    older.
    """
    place = 0
    for new_entry in newest:
        while place < len(versions) and sort_key(versions[place]) >= sort_key(
            str(new_entry["version"])
        ):
            place += 1
        yield new_entry, place


class _Tree(NamedTuple):
    """An index that was parsed as a whole.

    lines: offsets of the lines where keys and entries begin. json: whether it is JSON. braces:
    otherwise the start and end offset of a line `entries: {}`, or of one without a value, or where
    such a line can be. cut: see `Index.is_cut`.
    """

    charts: dict[str, yaml_reader.Node]
    blocks: Blocks
    lines: dict[int, int]
    json: bool
    braces: tuple[int, int] | None
    cut: bool = False


def listed(root: yaml_reader.Mapping, where: str) -> yaml_reader.Mapping | None:
    """The charts of an index; None when it does not say them, which is empty for helm, too.

    Raises EvidenceError when they are no mapping.
    """
    charts = root.get("entries")
    if charts is None or (isinstance(charts, yaml_reader.Scalar) and charts.meaning == "null"):
        return None
    if not isinstance(charts, yaml_reader.Mapping):
        raise _failure("the index has no mapping `entries`", where, charts.line)
    return charts


def _parse_whole(data: bytes, where: str) -> _Tree:
    _, root = yaml_reader.parse(data, where, largest=PARSED_LARGEST, error=EvidenceError)
    if not isinstance(root, yaml_reader.Mapping) or root.get("apiVersion") is None:
        raise EvidenceError(
            "the file is no index: it has no apiVersion", where=where, advice=ADVICE
        )
    charts = listed(root, where)
    if charts is None:
        lines = _offsets(data, {key.line for key, _ in root.items})
        line = next((key.line for key, _ in root.items if key.value == "entries"), None)
        last = max(lines.values())  # what is new goes before it where there is no such line
        behind = [offset for number, offset in lines.items() if line is not None and number > line]
        place = (last, last) if line is None else (lines[line], min(behind, default=len(data)))
        braces = None if root.flow else place
        return _Tree({}, Blocks(2, {}, place[1]), lines, root.flow, braces, cut=True)
    keys = [key for mapping in (root, charts) for key, _ in mapping.items]
    items = [
        item
        for _, node in charts.items
        if isinstance(node, yaml_reader.Sequence)
        for item in node.items
    ]
    lines = _offsets(data, {node.line for node in (*keys, *items)})
    entries_line = next(key.line for key, _ in root.items if key.value == "entries")
    end = min(
        (lines[key.line] for key, _ in root.items if key.line > entries_line), default=len(data)
    )
    starts = [lines[key.line] for key, _ in charts.items]
    places = zip(charts.items, starts, [*starts[1:], end], strict=False)
    blocks = {key.value: Block(start, behind, []) for (key, _), start, behind in places}
    indent = len(data[starts[0] :]) - len(data[starts[0] :].lstrip(b" ")) if starts else 2
    braces = (lines[entries_line], end) if charts.flow and not root.flow else None
    return _Tree(
        {key.value: node for key, node in charts.items},
        Blocks(indent, blocks, end),
        lines,
        root.flow,
        braces,
    )


def _chart_node(name: str, data: bytes, where: str) -> yaml_reader.Node | None:
    """What an index says of a chart that is the only one in it."""
    _, root = yaml_reader.parse(data, where, largest=2 * LARGEST, error=EvidenceError)
    charts = root.get("entries") if isinstance(root, yaml_reader.Mapping) else None
    return charts.get(name) if isinstance(charts, yaml_reader.Mapping) else None


def _entries(name: str, node: yaml_reader.Node | None, where: str) -> list[tuple[Entry, int]]:
    """The entries of a chart, with their line numbers."""
    if node is None or (isinstance(node, yaml_reader.Scalar) and node.meaning == "null"):
        return []
    if not isinstance(node, yaml_reader.Sequence):
        raise _failure(f"the entry {name} is not a list", where, node.line)
    return [(_entry(name, item, where), item.line) for item in node.items]


def _entry(name: str, node: yaml_reader.Node, where: str) -> Entry:
    if not isinstance(node, yaml_reader.Mapping):
        raise _failure(f"an entry of {name} is not a mapping", where, node.line)
    fields = {
        key.value: yaml_reader.plain_value(item)
        for key, item in node.items
        if key.value in _READ_FIELDS
    }
    version, urls, digest = (
        fields.get("version"),
        fields.get("urls") or [],
        fields.get("digest") or "",
    )
    if fields.get("name") != name or not isinstance(version, str):
        raise _failure(f"an entry of {name} has another name or no version", where, node.line)
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise _failure(f"{name} {version} has urls that are no list of texts", where, node.line)
    if digest and not DIGEST.fullmatch(str(digest)):
        raise _failure(
            f"{name} {version} has the digest {digest!r}, which is no sha256", where, node.line
        )
    plain = plain_digest(str(digest))
    created = fields.get("created")
    created = created if isinstance(created, str) else ""
    return Entry(name, version, plain, tuple(urls), fields.get("removed") is True, created)


def plain_digest(text: str) -> str:
    """A digest of an index, "sha256:" + 64 small digits; "" for none, or what is no sha256.

    >>> plain_digest("A" * 64) == plain_digest(f"sha256:{'a' * 64}"), plain_digest("md5")
    (True, '')
    """
    match = DIGEST.fullmatch(text)
    return f"sha256:{match[2].lower()}" if match else ""


def _failure(problem: str, where: str, line: int) -> EvidenceError:
    return EvidenceError(problem, where=f"{where}:{line + 1}", advice=ADVICE)


def _offsets(data: bytes, lines: set[int], start: int = 0) -> dict[int, int]:
    """The offsets of these lines, counted from the line at `start`. Only these: there may be
    millions.
    """
    begins = chain([start], (line_end.end() for line_end in _LINE_END.finditer(data, start)))
    return {
        line: offset
        for line, offset in zip(range(max(lines, default=-1) + 1), begins, strict=False)
        if line in lines
    }


def _lines_before(data: bytes, offset: int) -> int:
    return sum(1 for _ in _LINE_END.finditer(data, 0, offset))


# How an entry is written: as helm writes it, so that YAML readers of Python and Go agree on it.


def _key_line(name: str, indent: int) -> str:
    """The line with the name of a chart. indent: columns before it."""
    # A chart may be called 1 or on: unquoted, readers would take its name for another type.
    key = name if yaml_reader.meaning(name) == "text" else f'"{name}"'
    return f"{' ' * indent}{key}:\n"


def _item_lines(new: Mapping[str, Any], indent: int) -> str:
    """The lines of an entry in its chart's list. indent: columns before the dash."""
    dumped = yaml.dump(
        _quoted(new),
        Dumper=_Dumper,
        default_flow_style=False,
        allow_unicode=True,
        # No folding: a folded text is the same to YAML, but not to the block reader here.
        width=10**6,
        sort_keys=False,
    )
    first_line, *later_lines = dumped.splitlines(keepends=True)
    space = " " * indent
    return "".join((f"{space}- {first_line}", *(f"{space}  {line}" for line in later_lines)))


def _chart_lines(name: str, news: Iterable[Mapping[str, Any]], indent: int) -> str:
    """The lines of a chart with its entries."""
    return "".join((_key_line(name, indent), *(_item_lines(new, indent) for new in news)))


class _Text(str):
    """A text that YAML readers of Python or Go might take for another type: written with quotes."""


class _Dumper(yaml.CSafeDumper):
    # PyYAML writes an object that occurs twice as anchor and alias, which our own reader refuses.
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    _Text,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"'),
)


def _quoted(value: Any) -> Any:
    if isinstance(value, str):
        return _Text(value) if yaml_reader.meaning(value) != "text" else value
    if isinstance(value, Mapping):
        return {key: _quoted(item) for key, item in value.items()}
    return [_quoted(item) for item in value] if isinstance(value, list) else value
