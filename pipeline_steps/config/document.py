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

from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError, MachineError

LARGEST = 1024 * 1024
KeyPath = tuple["str | int", ...]


class Place(NamedTuple):
    """Where a value stands: file and line for errors; text: the scalar as written, else ""."""

    where: str
    text: str


class Document(NamedTuple):
    """value: dicts, lists, texts, integers, floats, booleans, None. places: path of keys and
    indices → place.
    """

    value: dict[str, Any]
    places: dict[KeyPath, Place]


def read(path: Path, name: str) -> Document:
    """The file `path`, called `name` in errors. Raises ConfigurationError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigurationError("there is no such file", where=str(path)) from error
    except IsADirectoryError as error:
        raise ConfigurationError("is a folder, not a file", where=str(path)) from error
    except OSError as error:
        raise MachineError(f"cannot read: {error.strerror}", where=str(path)) from error
    return parse(data, name)


def parse(data: bytes, name: str) -> Document:
    """The document in `data`. Raises ConfigurationError when it is empty, no YAML or no mapping."""
    _, root = yaml_reader.parse(data, name, largest=LARGEST)
    if root is None or (isinstance(root, yaml_reader.Scalar) and root.meaning == "null"):
        raise ConfigurationError(
            "is empty", where=name, advice="it needs charts: and channels:; see pipeline-steps init"
        )
    if not isinstance(root, yaml_reader.Mapping):
        raise ConfigurationError(
            "is not a mapping of keys",
            where=f"{name}:{root.line + 1}",
            advice="begin with a line charts:",
        )
    places: dict[KeyPath, Place] = {}
    value = _value(root, (), name, places)
    assert isinstance(value, dict)
    return Document(value, places)


def _value(node: yaml_reader.Node, path: KeyPath, name: str, places: dict[KeyPath, Place]) -> Any:
    assert not isinstance(node, yaml_reader.Alias), "the reader refuses them"
    text = node.value if isinstance(node, yaml_reader.Scalar) else ""
    places.setdefault(path, Place(f"{name}:{node.line + 1}", text))
    if isinstance(node, yaml_reader.Mapping):
        result = {}
        for key, item in node.items:
            here = (*path, key.value)
            places[here] = Place(
                f"{name}:{key.line + 1}", item.value if isinstance(item, yaml_reader.Scalar) else ""
            )
            result[key.value] = _value(item, here, name, places)
        return result
    if isinstance(node, yaml_reader.Sequence):
        return [_value(item, (*path, index), name, places) for index, item in enumerate(node.items)]
    return _scalar(node)


def _scalar(node: yaml_reader.Scalar) -> Any:
    meaning = node.meaning
    if meaning == "int":
        return int(node.value) if node.value.lstrip("+-").isdecimal() else float("nan")
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
    places = dict(lower.places)
    value = _merged(lower.value, upper.value, (), upper.places, places)
    return Document(value, places)


def _merged(
    lower: dict[str, Any],
    upper: dict[str, Any],
    path: KeyPath,
    theirs: dict[KeyPath, Place],
    places: dict[KeyPath, Place],
) -> dict[str, Any]:
    result = dict(lower)
    for key, value in upper.items():
        here = (*path, key)
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            result[key] = _merged(old, value, here, theirs, places)
        elif here == ("charts",) and isinstance(old, list) and isinstance(value, list):
            result[key] = old + value
            for place in _under(theirs, here):
                if len(place) > 1 and isinstance(place[1], int):
                    moved = ("charts", place[1] + len(old), *place[2:])
                    places[moved] = theirs[place]
        else:
            result[key] = value
            for place in _under(places, here):
                del places[place]
            places.update({place: theirs[place] for place in _under(theirs, here)})
    return result


def only(document: Document, keys: tuple[str, ...]) -> Document:
    """The sections `keys` of a document."""
    value = {key: section for key, section in document.value.items() if key in keys}
    return Document(
        value,
        {path: place for path, place in document.places.items() if not path or path[0] in keys},
    )


def without(document: Document, keys: tuple[str, ...]) -> Document:
    """A document but for the sections `keys`."""
    return only(document, tuple(key for key in document.value if key not in keys))


def _under(places: dict[KeyPath, Place], path: KeyPath) -> list[KeyPath]:
    return [place for place in places if place[: len(path)] == path]


def spelled(path: KeyPath) -> str:
    """A path of keys as people write it.

    >>> spelled(("charts", 0, "path")), spelled(("hosts", "a.example.com", "password"))
    ('charts[0].path', 'hosts."a.example.com".password')
    """
    return "".join(_part(part) for part in path).removeprefix(".")


def _part(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f'."{part}"' if "." in part else f".{part}"


def texts(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Every text in a value with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from texts(item, (*path, index))
