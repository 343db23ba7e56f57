"""A `with` block that threads share, for what stays open while many revisions are read."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TypeVar

_Reader = TypeVar("_Reader", bound="SharedBlock")


class SharedBlock:
    """The block may be entered by several threads, and again inside itself: whoever leaves last ends
    the process or connection. A subclass sets `_lock` and `_blocks` (0), and says in `_end` what to
    end; the next reading opens it again.
    """

    _lock: threading.RLock
    _blocks: int

    def __enter__(self: _Reader) -> _Reader:
        with self._lock:
            self._blocks += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                self._end()

    def _end(self) -> None:
        raise NotImplementedError
