"""How far a long piece of work is: rate and time left, as a bar on a terminal, else as a line now and then."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Any

log = logging.getLogger("pipeline_steps")

#: Seconds between two plain lines.
_EVERY = 10.0


class Tally:
    """Counts up to `total`. what: the things counted, like "versions packaged"."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._began = self._told = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Tally:
        # A program that calls the step as a function, or wants quiet, has no handler for talk.
        if self._total and log.handlers and log.isEnabledFor(logging.INFO) and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn(self._what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
            self._bar.add_task(self._what, total=self._total, rate="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def one(self) -> None:
        """One more is done."""
        self._done += 1
        now = time.monotonic()
        rate = self._done / max(now - self._began, 1e-6)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done, rate=f"{rate:.0f}/s")
        elif now - self._told >= _EVERY:
            self._told = now
            left = (self._total - self._done) / rate
            log.info("%d of %d %s, %.0f/s, %.0f s left", self._done, self._total, self._what, rate, left)
