"""Plain values into the types of `language`, with errors that say file, line, key, what was
expected and found.

msgspec converts; what it says of a mistake has no line, no near key, and `[...]` for the name of a
host or an image.
"""

from __future__ import annotations

import types
import typing
from typing import Any, TypeVar

import msgspec

from pipeline_steps.config.document import Document, KeyPath, format_key
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.toolbox.yaml_reader import nearest_names

Kind = TypeVar("Kind")


def convert(document: Document, kind: type[Kind]) -> Kind:
    """The document as a `kind`. Raises ConfigurationError for the first thing that does not fit."""
    try:
        return msgspec.convert(document.value, kind)
    except msgspec.ValidationError as error:
        raise_mismatch(document, document.value, kind, ())
        raise ConfigurationError(
            str(error),
            where=where(document, ()),
            advice="compare it with the schema of pipeline.yaml: docs/reference/configuration.md",
        ) from error


def where(document: Document, path: KeyPath) -> str:
    """File and line of `path`, or of the nearest key above it."""
    while path and path not in document.locations:
        path = path[:-1]
    return document.locations[path].where if path in document.locations else ""


def raise_mismatch(document: Document, value: Any, kind: Any, path: KeyPath) -> None:
    """Raise the error for the innermost part of `value` that does not fit `kind`."""
    if _fits(value, kind):
        return
    choices = _choices(kind)
    struct = next(
        (c for c in choices if isinstance(c, type) and issubclass(c, msgspec.Struct)), None
    )
    if isinstance(value, dict) and struct is not None:
        _raise_struct_mismatch(document, value, struct, path)
    # A level deeper before this value is judged: the error names the innermost key that is wrong.
    for choice in choices:
        origin, arguments = typing.get_origin(choice), typing.get_args(choice)
        if isinstance(value, dict) and origin is dict:
            for key, item in value.items():
                raise_mismatch(document, item, arguments[1], (*path, key))
        if isinstance(value, list) and origin is tuple:
            for index, item in enumerate(value):
                raise_mismatch(document, item, arguments[0], (*path, index))
    expected = " or ".join(
        dict.fromkeys(_describe_type(choice) for choice in choices if choice is not types.NoneType)
    )
    actual, advice = _describe_value(document, value, path, expected)
    raise ConfigurationError(
        f"{format_key(path)} must be {expected}, not {actual}",
        where=where(document, path),
        advice=advice,
    )


def _raise_struct_mismatch(
    document: Document, value: dict[str, Any], struct: type[msgspec.Struct], path: KeyPath
) -> None:
    hints = typing.get_type_hints(struct)
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for key in value:
        if key not in fields:
            advice = nearest_names(str(key), fields)
            inside = f" in {format_key(path)}" if path else ""
            raise ConfigurationError(
                f"unknown key {key}{inside}", where=where(document, (*path, key)), advice=advice
            )
    for key, field in fields.items():
        if key in value:
            raise_mismatch(document, value[key], hints[field.name], (*path, key))
        elif field.required:
            inside = f" of {format_key(path)}" if path else ""
            raise ConfigurationError(
                f"the key {key}{inside} is missing", where=where(document, path), advice="add it"
            )


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _choices(kind: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(kind) in (types.UnionType, typing.Union)
    return typing.get_args(kind) if is_union else (kind,)


def _describe_type(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " or ".join(str(a) for a in arguments)
    if origin is tuple:
        return "a list"
    if origin is dict or (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return "a mapping of keys"
    return {str: "a text", int: "a whole number", bool: "true or false"}.get(kind, str(kind))


def _describe_value(
    document: Document, value: Any, path: KeyPath, expected: str
) -> tuple[str, str]:
    """What was found, and what to do about it."""
    text = document.locations[path].text if path in document.locations else ""
    # `tag: 1.10` and `on: yes` lose what was written; show the text, not Python's value of it.
    if isinstance(value, (bool, int, float)):
        kind = "the truth value" if isinstance(value, bool) else "the number"
        return (
            f"{kind} {text}",
            f'YAML reads it so: quote it, "{text}"' if "text" in expected else "",
        )
    if isinstance(value, dict):
        return "a mapping of keys", ""
    if isinstance(value, list):
        return "a list", ""
    if value is None:
        return "nothing", "write a value, or remove the key"
    return f"the text {value!r}", f"write [{value}]" if expected == "a list" else ""
