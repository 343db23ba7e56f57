"""JSON of foreign systems: one reader, whose only error is ValueError."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def decode(data: bytes) -> Any:
    """The value of a JSON document. Raises ValueError, also for what Python's own reader lets pass:
    halves of surrogate pairs, which no file and no terminal can hold, NaN, and nesting without end.

    >>> decode(b'{"tags": ["1.0.0"]}')
    {'tags': ['1.0.0']}
    """
    return decode_as(Any, data)


def decode_as(kind: type[T], data: bytes | str) -> T:
    """The value of a JSON document, which is of a type that msgspec knows. Raises ValueError, also
    for bytes that are no UTF-8.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
