"""One file of the configuration language as plain values that know where they were written.

Reading and merging only; what is expanded and which file wins stands in `config_file`, the types in
`language`. No library does it: those that merge configuration forget which file and line a value
came from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline_steps.toolbox import files, yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError

#: A larger pipeline.yaml is a mistake, and would be read slowly before anything says so.
MAX_BYTES = 1024 * 1024
KeyPath = tuple["str | int", ...]


class Location(NamedTuple):
    """Where a value stands: file and line for errors; text: the scalar as written, else ""."""

    where: str
    text: str


class Document(NamedTuple):
    """value: dicts, lists, texts, integers, floats, booleans, None.

    locations: path of keys and indices → file and line.
    """

    value: dict[str, Any]
    locations: dict[KeyPath, Location]


def read(path: Path, name: str) -> Document:
    """The file `path`, called `name` in errors. Raises ConfigurationError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigurationError(
            "there is no such file",
            where=str(path),
            advice="correct the path, or write the file: pipeline-steps init",
        ) from error
    except IsADirectoryError as error:
        raise ConfigurationError(
            "this is a folder, not a file", where=str(path), advice="name the file in it"
        ) from error
    except OSError as error:
        raise files.unreadable(error, path) from error
    return parse(data, name)


def parse(data: bytes, name: str) -> Document:
    """The document in `data`. Raises ConfigurationError when it is empty, no YAML or no mapping."""
    _, root = yaml_reader.parse(data, name, largest=MAX_BYTES)
    if root is None or (isinstance(root, yaml_reader.Scalar) and root.meaning == "null"):
        raise ConfigurationError(
            "the file is empty",
            where=name,
            advice="name the charts: charts: [{path: charts/*}]; pipeline-steps init writes a first one",
        )
    if not isinstance(root, yaml_reader.Mapping):
        raise ConfigurationError(
            "the file is not a mapping of keys",
            where=f"{name}:{root.line + 1}",
            advice="begin with a line charts:",
        )
    locations: dict[KeyPath, Location] = {}
    value = _value(root, (), name, locations)
    assert isinstance(value, dict)
    return Document(value, locations)


def _value(
    node: yaml_reader.Node, path: KeyPath, name: str, locations: dict[KeyPath, Location]
) -> Any:
    assert not isinstance(node, yaml_reader.Alias), "the reader refuses them"
    text = node.value if isinstance(node, yaml_reader.Scalar) else ""
    locations.setdefault(path, Location(f"{name}:{node.line + 1}", text))
    if isinstance(node, yaml_reader.Mapping):
        result = {}
        for key, item in node.items:
            key_path = (*path, key.value)
            locations[key_path] = Location(
                f"{name}:{key.line + 1}", item.value if isinstance(item, yaml_reader.Scalar) else ""
            )
            result[key.value] = _value(item, key_path, name, locations)
        return result
    if isinstance(node, yaml_reader.Sequence):
        return [
            _value(item, (*path, index), name, locations) for index, item in enumerate(node.items)
        ]
    return _scalar(node)


def _scalar(node: yaml_reader.Scalar) -> Any:
    meaning = node.meaning
    if meaning == "int":
        # 0x1F, 0o17 and 1_000 are numbers in YAML 1.1. NaN fits no type of the language, so the
        # error shows the text as it was written instead of a number that nobody sees there.
        return int(node.value) if node.value.lstrip("+-").isdecimal() else float("nan")
    # y and n are texts in PyYAML and truth values in Go: this file is read here alone.
    if meaning == "bool" and len(node.value) > 1:
        return node.value.lower() in ("true", "yes", "on")
    if meaning == "float":
        # 0o17, 1_0.5 and the like: a number nobody writes here, and never a text
        return float(node.value) if re.fullmatch(r"[-+.\deE]+", node.value) else float("nan")
    return None if meaning == "null" else node.value


def merge(lower: Document, upper: Document) -> Document:
    """`upper` over `lower`: mappings key by key, `charts` appended (later entries win), all else
    replaced.
    """
    locations = dict(lower.locations)
    value = _merge_values(lower.value, upper.value, (), upper.locations, locations)
    return Document(value, locations)


def _merge_values(
    lower: dict[str, Any],
    upper: dict[str, Any],
    path: KeyPath,
    upper_locations: dict[KeyPath, Location],
    locations: dict[KeyPath, Location],
) -> dict[str, Any]:
    """`upper` over `lower`, both of which stand at `path`; `locations` is updated in place."""
    result = dict(lower)
    for key, value in upper.items():
        key_path = (*path, key)
        lower_value = result.get(key)
        if isinstance(lower_value, dict) and isinstance(value, dict):
            result[key] = _merge_values(lower_value, value, key_path, upper_locations, locations)
        elif key_path == ("charts",) and isinstance(lower_value, list) and isinstance(value, list):
            result[key] = lower_value + value
            for below in _paths_below(upper_locations, key_path):
                if len(below) > 1 and isinstance(below[1], int):
                    # An appended entry gets the next free index.
                    shifted = ("charts", below[1] + len(lower_value), *below[2:])
                    locations[shifted] = upper_locations[below]
        else:
            result[key] = value
            # An error must name the line of the value that counts, and none of those it replaced.
            for below in _paths_below(locations, key_path):
                del locations[below]
            for below in _paths_below(upper_locations, key_path):
                locations[below] = upper_locations[below]
    return result


def select_sections(document: Document, keys: tuple[str, ...]) -> Document:
    """The sections `keys` of a document."""
    value = {key: section for key, section in document.value.items() if key in keys}
    return Document(
        value,
        {path: place for path, place in document.locations.items() if not path or path[0] in keys},
    )


def drop_sections(document: Document, keys: tuple[str, ...]) -> Document:
    """A document but for the sections `keys`."""
    return select_sections(document, tuple(key for key in document.value if key not in keys))


def _paths_below(locations: dict[KeyPath, Location], path: KeyPath) -> list[KeyPath]:
    return [key for key in locations if key[: len(path)] == path]


def format_key(path: KeyPath) -> str:
    """A path of keys as people write it.

    >>> format_key(("charts", 0, "path")), format_key(("hosts", "a.example.com", "password"))
    ('charts[0].path', 'hosts."a.example.com".password')
    """
    return "".join(_format_part(part) for part in path).removeprefix(".")


def _format_part(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f'."{part}"' if "." in part else f".{part}"


def walk_strings(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Every text in a value with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from walk_strings(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from walk_strings(item, (*path, index))
