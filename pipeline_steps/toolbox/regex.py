"""Regular expressions that are compiled when they are first used: a start uses few of those that its modules name."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, AnyStr, Generic, cast

#: Not what `late` puts in its place.
_compile = re.compile


def regex(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """What `re.compile` gives, as far as its attributes go; compiling takes 0.1 to 0.4 ms, not before one is asked.

    >>> regex("[a-z]+").fullmatch("abc")[0]
    'abc'
    """
    return cast("re.Pattern[AnyStr]", _Late(text, flags))


@contextlib.contextmanager
def late() -> Iterator[None]:
    """Modules that are loaded in this block compile their patterns when they use them: `re.compile` is `regex`.

    Not for modules that give a pattern to a function of `re`, which takes only what `re.compile` itself made.
    """
    compiler, re.compile = re.compile, regex  # type: ignore[assignment]
    try:
        yield
    finally:
        re.compile = compiler


class _Late(Generic[AnyStr]):
    def __init__(self, text: AnyStr, flags: int) -> None:
        self._text: AnyStr = text
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        found = getattr(_compile(self._text, self._flags), name)
        setattr(self, name, found)
        return found
