"""Replace values in YAML files in place, reversibly; every other byte stays.

The style of a value stays (plain, quoted, block); one that YAML would read as a number or truth
value gets quotes. Keys are paths like image.tag, containers[0].image (or containers.0.image),
annotations.a\\.b; a dot inside a key is written \\. . Keys must exist: none are added.

No library does this: ruamel.yaml rewrites the whole file with its own indents, spaces and quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError, PipelineError
from pipeline_steps.toolbox.yaml_reader import Alias, Node, Scalar, Sequence

_BOM = b"\xef\xbb\xbf"
_PLAIN = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./@+:-]*(?<!:)")
_UNPRINTABLE = r"[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029\ufeff]"
_BLOCK = re.compile(
    r"(?P<header>[|>][+-]?[ \t]*(?:#[^\r\n]*)?(?:\r\n|\r|\n))(?P<blank>\s*?)(?P<indent>[ ]+)(?=\S)"
)
#: Blanks and the line ends of YAML 1.1 (5.4): those behind a block scalar also end its line.
_BLANKS = " \t\r\n\x85\u2028\u2029"
_INDEX = re.compile(r"(?<!\\)\[(\d+)\]")


class Change(msgspec.Struct, frozen=True):
    """One replaced value. old, new: as written, with quotes; "" when there was no value."""

    file: str
    key: str
    old: str
    new: str


class _Place(NamedTuple):
    """Position of a key's value, in characters. empty: no value is written yet."""

    scalar: Scalar | Alias
    start: int
    end: int
    flow: bool
    empty: bool


def apply(
    files: Mapping[str, bytes], edits: Mapping[str, Mapping[str, str]], where: str = ""
) -> tuple[dict[str, bytes], tuple[Change, ...]]:
    """`files` with the values of `edits` set, and the changes in their order.

    A value that is already set as text is no change.

    Args:
        files: path in the chart → bytes.
        edits: file → key → value.
        where: path of the chart, for errors.

    Raises:
        ConfigurationError: naming file and key: no such file or key, or not a single value.
    """
    result = dict(files)
    changes: list[Change] = []
    for file, values in edits.items():
        place = f"{where}/{file}" if where else file
        if file not in files:
            raise ConfigurationError(
                "the file whose values are to be set is missing",
                where=place,
                advice="add the file, or correct the key in pipeline.yaml",
            )
        result[file], file_changes = replace(files[file], values, file=file, where=place)
        changes.extend(file_changes)
    return result, tuple(changes)


def replace(
    data: bytes, values: Mapping[str, str], *, file: str, where: str
) -> tuple[bytes, tuple[Change, ...]]:
    """One document with `values` (key → value) set, and the changes. Raises ConfigurationError."""
    text, root = yaml_reader.parse(data, where, aliases=True)
    edits: list[tuple[int, int, str]] = []
    changes: list[Change] = []
    for key, value in values.items():
        place = _find(text, root, key, where)
        if (
            isinstance(place.scalar, Scalar)
            and place.scalar.meaning == "text"
            and place.scalar.value == value
        ):
            continue
        new = _scalar_text(text, place, value)
        edits.append((place.start, place.end, new))
        changes.append(Change(file, key, text[place.start : place.end], new))
    return _encode(data, _apply_edits(text, edits, where)), tuple(changes)


def undo(files: Mapping[str, bytes], changes: Iterable[Change]) -> dict[str, bytes]:
    """`files` as they were before `changes`.

    Raises EvidenceError when a value is not what the change wrote.
    """
    result = dict(files)
    for batch in _batches(changes):
        for file in dict.fromkeys(change.file for change in batch):
            if file not in result:
                raise EvidenceError(
                    "a changed file is missing",
                    where=file,
                    advice="give the archive that was changed: this is another one",
                )
            file_changes = [change for change in batch if change.file == file]
            result[file] = _undo_in_file(result[file], file_changes, file)
    return result


def _undo_in_file(data: bytes, changes: list[Change], file: str) -> bytes:
    text, root = yaml_reader.parse(data, file, aliases=True, error=EvidenceError)
    edits: list[tuple[int, int, str]] = []
    for change in changes:
        place = _find(text, root, change.key, file, EvidenceError)
        start = place.end - len(change.new)
        if start < 0 or text[start : place.end] != change.new:
            problem = (
                f"{change.key} is {text[place.start : place.end]}, the change wrote "
                f"{change.new.strip()}"
            )
            raise EvidenceError(
                problem,
                where=f"{file}:{place.scalar.line + 1}",
                advice="give the archive that was changed: this is another one",
            )
        edits.append((start, place.end, change.old))
    return _encode(data, _apply_edits(text, edits, file))


def _batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """The changes in reverse order, split where a key repeats."""
    batch: list[Change] = []
    for change in reversed(tuple(changes)):
        if any((change.file, change.key) == (earlier.file, earlier.key) for earlier in batch):
            yield batch
            batch = []
        batch.append(change)
    if batch:
        yield batch


def _apply_edits(text: str, edits: list[tuple[int, int, str]], where: str) -> str:
    pieces: list[str] = []
    position = 0
    for start, end, new in sorted(edits):
        # Two keys may reach one value, like a.0 and a[0].
        if start < position:
            raise ConfigurationError(
                "two of the keys to set lead to the same value",
                where=where,
                advice="name each value once",
            )
        pieces += (text[position:start], new)
        position = end
    return "".join((*pieces, text[position:]))


def _encode(original: bytes, text: str) -> bytes:
    return (_BOM if original.startswith(_BOM) else b"") + text.encode()


def segments(key: str) -> list[str]:
    r"""The parts of a key.

    >>> segments(r"a.b\.c[0].d")
    ['a', 'b.c', '0', 'd']
    """
    parts = re.findall(r"(?:[^.\\]|\\.)+", _INDEX.sub(r".\1", key))
    return [re.sub(r"\\(.)", r"\1", part) for part in parts]


def _find(
    text: str,
    root: Node | None,
    key: str,
    where: str,
    error: type[PipelineError] = ConfigurationError,
) -> _Place:
    node, flow, in_list = root, False, False
    path = segments(key)
    for depth, part in enumerate(path):
        child = _child(node, part)
        if isinstance(node, Alias):
            problem = (
                f"{key} is reached through the alias *{node.name}: setting it would change "
                "other keys, too"
            )
            raise error(
                problem,
                where=f"{where}:{node.line + 1}",
                advice="write the values out at this place",
            )
        if child is None or node is None:
            raise _missing_key_error(root, node, key, path[:depth], where, error)
        if not isinstance(node, Scalar):
            _refuse_shared_anchor(root, node, key, where, error)
            flow = flow or node.flow
        in_list = isinstance(node, Sequence)
        node = child
    if not isinstance(node, (Scalar, Alias)):
        line = node.line + 1 if node else 1
        raise error(
            f"{key} is not one value but several",
            where=f"{where}:{line}",
            advice="name a key below it",
        )
    if isinstance(node, Scalar):
        _refuse_shared_anchor(root, node, key, where, error)
        # A tag like !!int would turn the new text into another type, or an error.
        if node.tag and not node.tag.endswith(":str"):
            raise error(
                f"{key} has the tag {node.tag}",
                where=f"{where}:{node.line + 1}",
                advice="remove the tag",
            )
    return _place(text, node, flow, in_list, key, where, error)


def _place(
    text: str,
    node: Scalar | Alias,
    flow: bool,
    in_list: bool,
    key: str,
    where: str,
    error: type[PipelineError],
) -> _Place:
    if isinstance(node, Scalar) and node.style in ("|", ">"):
        return _Place(
            node,
            node.start,
            node.start + len(text[node.start : node.end].rstrip(_BLANKS)),
            flow,
            False,
        )
    if node.start == node.end:
        if not (
            text[: node.start].endswith(":")
            or in_list
            or (isinstance(node, Scalar) and node.anchor)
        ):
            raise error(
                f"{key} has no value", where=f"{where}:{node.line + 1}", advice=f'write {key}: ""'
            )
        return _Place(node, node.start, node.end, flow, True)
    return _Place(node, node.start, node.end, flow, False)


def _child(node: Node | None, part: str) -> Node | None:
    if isinstance(node, yaml_reader.Mapping):
        return node.get(part)
    if isinstance(node, Sequence) and part.isdecimal() and int(part) < len(node.items):
        return node.items[int(part)]
    return None


def _missing_key_error(
    root: Node | None,
    node: Node | None,
    key: str,
    existing_parts: list[str],
    where: str,
    error: type[PipelineError],
) -> PipelineError:
    merged = isinstance(node, yaml_reader.Mapping) and "<<" in node.keys
    line = f":{node.line + 1}" if node is not None and existing_parts else ""
    if merged:
        advice = "it may come in by <<, which cannot be set: write the key out at this place"
    else:
        available_keys = [path for path, _ in scalars(root)]
        advice = yaml_reader.nearest_names(key, available_keys) or "the file has no values"
    return error(f"the key to set, {key}, does not exist", where=f"{where}{line}", advice=advice)


def _refuse_shared_anchor(
    root: Node | None, node: Node, key: str, where: str, error: type[PipelineError]
) -> None:
    """Refuse an anchored value that aliases repeat: setting it would change other keys, too."""
    anchor = None if isinstance(node, Alias) else node.anchor
    if anchor is None:
        return
    alias = next(
        (
            candidate
            for candidate in _nodes(root)
            if isinstance(candidate, Alias) and candidate.target is node
        ),
        None,
    )
    if alias is not None:
        problem = f"{key} has the anchor &{anchor}, setting it would change other keys too"
        advice = "write the values out where the alias stands"
        raise error(problem, where=f"{where}:{alias.line + 1}", advice=advice)


def _nodes(node: Node | None) -> Iterator[Node]:
    if node is None:
        return
    yield node
    if isinstance(node, yaml_reader.Mapping):
        for _, child in node.items:
            yield from _nodes(child)
    elif isinstance(node, Sequence):
        for child in node.items:
            yield from _nodes(child)


def scalars(node: Node | None, prefix: str = "") -> Iterator[tuple[str, Scalar]]:
    """Every value in a document with its key as `apply` takes it; aliases are not followed."""
    if isinstance(node, yaml_reader.Mapping):
        for key, child in node.items:
            part = re.sub(r"([\\.\[])", r"\\\1", key.value)
            yield from scalars(child, f"{prefix}.{part}" if prefix else part)
    elif isinstance(node, Sequence):
        for index, child in enumerate(node.items):
            yield from scalars(child, f"{prefix}[{index}]")
    elif isinstance(node, Scalar):
        yield prefix, node


def _scalar_text(text: str, place: _Place, value: str) -> str:
    style = place.scalar.style if isinstance(place.scalar, Scalar) else ""
    if style in ("|", ">"):
        return _block_text(text[place.start : place.end], value) or _double_quoted(value)
    if style == '"' or _unprintable(value):
        new = _double_quoted(value)
    elif style == "'":
        # YAML 1.1 §9.1.2: the only escape in single quotes is the doubled quote.
        new = "'" + value.replace("'", "''") + "'"
    elif (
        _PLAIN.fullmatch(value)
        and yaml_reader.meaning(value) == "text"
        and not (place.flow and ":" in value)
    ):
        new = value
    else:
        new = _double_quoted(value)
    return f" {new}" if place.empty else new


def _block_text(old: str, value: str) -> str | None:
    """A block scalar with new content and the old header; None when the value needs quotes."""
    header = _BLOCK.match(old)
    one_line = value.removesuffix("\n")
    if not header or not one_line.strip() or one_line[0] in " \t#" or _unprintable(one_line):
        return None
    return f"{header['header']}{header['indent']}{one_line.rstrip()}"


def _unprintable(text: str) -> bool:
    """Whether YAML must escape a character. The pattern is slow to compile, and most text is
    ASCII.
    """
    if text.isascii() and text.isprintable():
        return False
    return re.search(_UNPRINTABLE, text) is not None


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _double_quoted(value: str) -> str:
    def escaped(character: str) -> str:
        if character in _ESCAPES:
            return _ESCAPES[character]
        code = ord(character)
        if not _unprintable(character):
            return character
        return (
            f"\\x{code:02x}"
            if code < 256
            else f"\\u{code:04x}"
            if code < 65536
            else f"\\U{code:08x}"
        )

    return f'"{"".join(map(escaped, value))}"'
