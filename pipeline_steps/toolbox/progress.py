"""Progress of long work on stderr: live on a terminal, else a log line every few seconds."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from pipeline_steps.toolbox.redact import printable

log = logging.getLogger("pipeline_steps")

#: Seconds between two lines.
_EVERY = 10.0


@contextlib.contextmanager
def counter(unit: str, total: int) -> Iterator[Callable[[], None]]:
    """A function to call after each of `total` items; shows rate and remaining time.

    unit: what is counted, like "versions".
    """
    started = last_line = time.monotonic()
    completed = 0

    def advance() -> None:
        nonlocal completed, last_line
        completed += 1
        current_time = time.monotonic()
        rate = completed / max(current_time - started, 1e-6)
        # The live display limits its own refresh rate.
        if bars:
            bars.update(bars.task_ids[0], completed=completed, rate=f"{rate:.0f}/s")
        elif current_time - last_line >= _EVERY:
            last_line = current_time
            log.info(
                "%d of %d %s, %.0f/s, %.0f s left",
                completed,
                total,
                unit,
                rate,
                (total - completed) / rate,
            )

    if not (total and _is_live()):
        bars = None
        yield advance
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(unit),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    with Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as bars:
        bars.add_task(unit, total=total, rate="")
        yield advance


@contextlib.contextmanager
def clock() -> Iterator[Callable[[str], None]]:
    """A function to call with the name of each phase; shows it with a running clock until the next
    call.
    """
    if not _is_live():
        yield lambda name: log.info("%s ...", name)
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("", total=None, visible=False)
        yield lambda name: bars.reset(task, description=printable(name), visible=True)


def _is_live() -> bool:
    # A program that calls a step as a function, or wants quiet, has no handler for what steps say.
    return bool(log.handlers) and log.isEnabledFor(logging.INFO) and is_watched(sys.stderr)


def is_watched(stream: TextIO) -> bool:
    """Whether a person reads the stream while it is written: a terminal, but not one that a CI
    system gives a job, which is a log all the same.
    """
    return stream.isatty() and not os.environ.get("CI")
