"""Find the lines of each chart in an index.yaml of block style, without parsing it.

Recognised is what helm, chart-releaser, ChartMuseum and we write: `entries:` at the margin, below
it chart names on lines of their own, below them their versions. Anything that a YAML reader might
understand differently is not recognised; such an index is parsed as a whole. No library does this:
YAML parsers read all versions to find one.

Why lines can be trusted: in block style, a line that begins at the column of the chart names or
left of it can continue only a quoted text or a collection in brackets. Wherever one of these might
begin, it must end before the next such line. Source: YAML 1.1, productions 4.5 and 4.6, as libyaml
reads them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import islice
from typing import NamedTuple

from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import PipelineError

#: Line ends of YAML 1.1 that are not ours: with them lines are something else than what we look at.
_OTHER_ENDS = (b"\r", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9")
_ENTRIES = re.compile(rb"(?:\A|\n)entries:[ \t]*(?:#[^\n]*)?(?=\n)")
_FIRST = re.compile(rb"\n( {1,16})(?=[^ \n#])")
_TOP = re.compile(rb"([A-Za-z]\w*):(?:[ \t].*)?")
_CHART = re.compile(rb"""(["']?)([A-Za-z0-9][\w.-]*)\1:(?:[ \t]+(?:#.*)?)?""")
#: A quotation mark or bracket where a value may begin, and its counterpart is not plainly on the
#: same line.
_OPEN = re.compile(
    rb"\"(?<=[ \t\n]\")(?![^\"\\\n]*\")|'(?<=[ \t\n]')(?![^'\n]*'(?!'))"
    rb"|\[(?<=[ \t\n]\[)(?![^\[\]{}\"'#\n]*\])|\{(?<=[ \t\n]\{)(?![^\[\]{}\"'#\n]*\})"
)
_ENDS = {b'"': re.compile(rb'\\.|"', re.DOTALL), b"'": re.compile(rb"''?")}
#: How many suspicious places are parsed before the index is parsed as a whole.
_MOST = 2000
#: Each takes memory before anybody asked for it: what has more is parsed whole, or refused for its
#: size.
_MOST_CHARTS = 100_000
_MOST_OUTER = 400_000
_LONGEST = 2**18


class Block(NamedTuple):
    """The lines of one chart.

    start, end: offsets of its first byte and of the byte after it. items: offsets of the lines
    where versions begin; empty when the list is indented further than the name, or is no list.
    """

    start: int
    end: int
    items: list[int]


class Blocks(NamedTuple):
    """All charts in their order. indent: columns before their names. end: offset after the last
    one.
    """

    indent: int
    charts: dict[str, Block]
    end: int


def find(data: bytes) -> Blocks | None:
    """The lines of all charts, None when the style is not recognised."""
    entries = _ENTRIES.search(data)
    first = _FIRST.search(data, entries.end()) if entries else None
    if first is None or any(ending in data for ending in _OTHER_ENDS):
        return None
    indent = len(first[1])
    lines = _outer_lines(data, indent)
    if len(lines) > _MOST_OUTER:
        return None
    blocks = _blocks(lines, indent, len(data))
    return blocks if blocks and _all_closed(data, [offset for offset, _ in lines]) else None


def _outer_lines(data: bytes, indent: int) -> list[tuple[int, bytes]]:
    """Offset and text of the lines that begin at column `indent` or left of it, without
    comments.
    """
    outer = re.compile(rb"\n(?! {%d}| *(?:#|\n|\Z))([^\n]*)" % (indent + 1))
    lines = [(line.start() + 1, line[1]) for line in islice(outer.finditer(data), _MOST_OUTER + 1)]
    first_line = data.partition(b"\n")[0]
    return (
        lines
        if not first_line.strip() or first_line.startswith(b"#")
        else [(0, first_line), *lines]
    )


def _blocks(lines: list[tuple[int, bytes]], indent: int, size: int) -> Blocks | None:
    top: set[bytes] = set()
    charts: dict[str, Block] = {}
    open_since, name, end = 0, "", size
    items: list[int] = []
    for offset, line in lines:
        inside = b"entries" in top and end == size
        if not line.startswith(b" "):
            key = _TOP.fullmatch(line)
            if key is None or key[1] in top:
                return None
            top.add(key[1])
            end = offset if inside else end
            continue
        text = line[indent:]
        if not inside or not line.startswith(b" " * indent):
            return None
        if text[:2] in (b"- ", b"-"):
            if not name:
                return None
            items.append(offset)
            continue
        chart = _CHART.fullmatch(text)
        if name:
            charts[name] = Block(open_since, offset, items)
        if chart is None or chart[2].decode() in charts or len(charts) >= _MOST_CHARTS:
            return None
        open_since, name, items = offset, chart[2].decode(), []
    if not name or b"apiVersion" not in top:
        return None
    charts[name] = Block(open_since, end, items)
    return Blocks(indent, charts, end)


def _all_closed(data: bytes, outer: list[int]) -> bool:
    """Whether everything that may span several lines ends before the next outer line."""
    parsed = followed = read_until = 0
    bounds = [0, *outer, len(data)]
    for opening in _OPEN.finditer(data):
        start = opening.start()
        if start < read_until:
            continue
        # The outer lines around the quote: it must end before the next one.
        number = bisect_right(outer, start)
        end = _end_of_quoted(data, start)
        if end is not None and end <= bounds[number + 1]:
            followed += end - start
        else:
            parsed, read_until = parsed + 1, bounds[number + 1]
            if parsed > _MOST or not _is_whole(data[bounds[number] : read_until]):
                return False
        if followed > len(data):  # malicious: many quotes, each inside of another
            return False
    return True


def _end_of_quoted(data: bytes, start: int) -> int | None:
    """The offset after the quoted text at `start`, None when it does not end soon."""
    mark, place = data[start : start + 1], start + 1
    while (
        mark in _ENDS and place - start < _LONGEST and (closing := _ENDS[mark].search(data, place))
    ):
        place = closing.end()
        if closing[0] == mark:
            return place
    return None


def _is_whole(lines: bytes) -> bool:
    """Whether these lines can be parsed alone: an unclosed quote or bracket is an error then."""
    try:
        yaml_reader.parse(lines, "", largest=_LONGEST, duplicates=True)
    except PipelineError:
        return False
    return True
