"""Read index.yaml for `audit`: each entry by itself, so that one invalid entry does not hide the
others.

Also removes entries, keeping all other bytes. Publishers use the stricter `index`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

from pipeline_steps.repositories import index, index_blocks, index_types
from pipeline_steps.repositories.index_blocks import Blocks
from pipeline_steps.toolbox import json_reader, yaml_reader
from pipeline_steps.toolbox.errors import EvidenceError
from pipeline_steps.toolbox.yaml_reader import Node

_ENTRIES = re.compile(rb"^entries:[^\n]*$", re.MULTILINE)


class Row(NamedTuple):
    """An entry as written.

    fields: texts, lists, dicts and booleans. where: file and line. rejection: why helm refuses the
    whole index for it, or "".
    """

    chart: str
    number: int
    fields: Mapping[str, Any]
    where: str
    fault: str = ""
    rejection: str = ""

    @property
    def version(self) -> str:
        return str(self.fields.get("version") or "")

    @property
    def digest(self) -> str:
        """ "sha256:" + hex of the .tgz; "" when there is none."""
        return index.plain_digest(str(self.fields.get("digest") or ""))

    @property
    def urls(self) -> list[str]:
        return list(self.fields.get("urls") or [])


def read_rows(data: bytes, where: str) -> list[Row]:
    """All entries in their order. Raises EvidenceError when it is not an index."""
    blocks = index_blocks.find(data)
    if blocks is None:
        charts = _parse_whole(data, where)
        return [row for name, node in charts for row in _of_chart(name, node, where, 0)]
    result: list[Row] = []
    for name, block in blocks.charts.items():
        line = data.count(b"\n", 0, block.start)
        try:
            node = _parse(data[block.start : block.end], where)
        except EvidenceError as error:
            result += _one_by_one(name, data, pairwise((*block.items, block.end)), error, where)
        else:
            items = node.items[0][1] if isinstance(node, yaml_reader.Mapping) else None
            result += _of_chart(name, items, where, line)
    return result


def _parse_whole(data: bytes, where: str) -> list[tuple[str, Node]]:
    """The charts of an index that is parsed as a whole."""
    _, root = yaml_reader.parse(data, where, largest=index.PARSED_LARGEST, error=EvidenceError)
    if not isinstance(root, yaml_reader.Mapping) or root.get("apiVersion") is None:
        raise EvidenceError(
            "the file is no index: it has no apiVersion",
            where=where,
            advice=index.ADVICE,
        )
    charts = index.listed(root, where)
    return [(key.value, node) for key, node in charts.items] if charts else []


def _one_by_one(
    name: str, data: bytes, spans: Iterable[tuple[int, int]], error: EvidenceError, where: str
) -> Iterator[Row]:
    """The entries of a chart that cannot be parsed at once, each with its own fault."""
    has_fault = False
    for number, (start, end) in enumerate(spans):
        place = _place(where, data, start)
        try:
            node = _parse(data[start:end], place)
        except EvidenceError as problem:
            has_fault = True
            yield Row(name, number, {}, place, problem.what)
        else:
            item = node.items[0] if isinstance(node, yaml_reader.Sequence) and node.items else None
            yield _row(name, number, item, place)
    if not has_fault:
        yield Row(name, -1, {}, where, error.what)


def _place(where: str, data: bytes, offset: int) -> str:
    newline = b"\n"
    return f"{where}:{data.count(newline, 0, offset) + 1}"


def _parse(lines: bytes, where: str) -> Node | None:
    return yaml_reader.parse(lines, where, largest=2 * index.LARGEST, error=EvidenceError)[1]


def _of_chart(name: str, node: Node | None, where: str, above: int) -> Iterator[Row]:
    """The entries of a chart. above: number of lines in the index before the parsed ones."""
    if node is None or (isinstance(node, yaml_reader.Scalar) and node.meaning == "null"):
        return
    if not isinstance(node, yaml_reader.Sequence):
        yield Row(name, -1, {}, f"{where}:{above + node.line + 1}", "it is not a list")
        return
    for number, item in enumerate(node.items):
        yield _row(name, number, item, f"{where}:{above + item.line + 1}")


def _row(name: str, number: int, item: Node | None, where: str) -> Row:
    rejected = index_types.rejection(item)
    if not isinstance(item, yaml_reader.Mapping):
        return Row(name, number, {}, where, "it is not a mapping", rejected)
    fields = yaml_reader.plain_value(item)
    return Row(name, number, fields, where, _fault(name, fields), rejected)


def _fault(name: str, fields: Mapping[str, Any]) -> str:
    """Why publishers refuse the entry, "" when they do not."""
    urls, digest = fields.get("urls") or [], fields.get("digest") or ""
    if fields.get("name") != name:
        return f"it is in the list of {name} and has the name {fields.get('name')!r}"
    if not isinstance(fields.get("version"), str) or not fields["version"]:
        return "it has no version"
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        return "its urls are no list of texts"
    if digest and not index.DIGEST.fullmatch(str(digest)):
        return f"its digest {str(digest)[:80]!r} is no sha256"
    return ""


class Readable(NamedTuple):
    """What an index says of one chart, as helm takes it.

    entries: one of each version, the first. faults: what is skipped, and why. by_version: the
    faults by version, "" for entries without one.
    """

    entries: list[index.Entry]
    faults: list[EvidenceError]
    by_version: Mapping[str, EvidenceError] = MappingProxyType({})


def readable(whole: index.Index, name: str) -> Readable:
    """The entries of a chart that can be read, whatever is wrong with others.

    Of several entries of one version helm takes the first. Source: helm 3 and 4, loadIndex.
    """
    try:
        return Readable(whole.versions(name), [])
    except EvidenceError:
        rows = [row for row in read_rows(whole.data, whole.where) if row.chart == name]
    entries: dict[str, index.Entry] = {}
    faults: list[EvidenceError] = []
    by_version: dict[str, EvidenceError] = {}
    for row in rows:
        fault = row.fault
        if not fault and row.version in entries:
            fault = f"{name} {row.version} is in the index twice; the first entry counts"
        if fault:
            faults.append(
                EvidenceError(
                    fault,
                    where=row.where,
                    advice="run pipeline-steps audit URL: it says what --fix can correct",
                )
            )
            by_version.setdefault(row.version, faults[-1])
            continue
        created = row.fields.get("created")
        removed = row.fields.get("removed") is True
        entries[row.version] = index.Entry(
            name, row.version, row.digest, tuple(row.urls), removed,
            created if isinstance(created, str) else "",
        )  # fmt: skip
    return Readable(list(entries.values()), faults, by_version)


def find_readable(
    whole: index.Index, name: str, version: str, *, first: bool
) -> index.Entry | None:
    """The entry of a version; None when there is none. What is wrong with others does not matter.

    first: of a version that is there twice take the first, as helm does. Raises EvidenceError for
    any other version that is there twice or cannot be read: who needs this one must not get what
    somebody put beside it (CVE-2020-15185).
    """
    chart = readable(whole, name)
    entry = next((entry for entry in chart.entries if entry.version == version), None)
    fault = chart.by_version.get(version) or (None if entry else chart.by_version.get(""))
    if fault and not (first and entry):
        raise fault
    return entry


def without_rows(data: bytes, removed: Iterable[Row], where: str) -> bytes:
    """The index without these entries and without charts that have none left; other bytes stay.

    Raises EvidenceError when the style of the index does not allow it.
    """
    numbers: dict[str, set[int]] = {}
    for row in removed:
        numbers.setdefault(row.chart, set()).add(row.number)
    if not numbers:
        return data
    blocks = index_blocks.find(data)
    if blocks is not None and all(blocks.charts[name].items for name in numbers):
        return _remove_spans(data, blocks, numbers)
    try:
        content = json_reader.decode(data)
    except ValueError as problem:
        raise EvidenceError(
            "the index is written in a style that this program cannot remove entries from",
            where=where,
            advice="let helm write it anew: helm repo index",
        ) from problem
    for name, row_numbers in numbers.items():
        content["entries"][name] = [
            entry for n, entry in enumerate(content["entries"][name]) if n not in row_numbers
        ]
    content["entries"] = {name: entries for name, entries in content["entries"].items() if entries}
    return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"


def _remove_spans(data: bytes, blocks: Blocks, numbers: Mapping[str, set[int]]) -> bytes:
    spans: list[tuple[int, int]] = []
    emptied = 0
    for name, row_numbers in numbers.items():
        start, end, items = blocks.charts[name]
        if len(row_numbers) == len(items):
            emptied += 1
            spans.append((start, end))
        else:
            places = list(pairwise((*items, end)))
            spans += [places[number] for number in row_numbers]
    # From the end, so that earlier offsets stay valid.
    for start, end in sorted(spans, reverse=True):
        data = data[:start] + data[end:]
    # `entries:` with nothing below is null, and helm writes {} for none.
    return data if emptied < len(blocks.charts) else _ENTRIES.sub(b"entries: {}", data, count=1)
