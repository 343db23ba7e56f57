"""What a benchmark yields: a row of two figures and the limit of their ratio; and how both are
measured.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple


class Row(NamedTuple):
    """One comparison. ours, theirs: seconds or MiB; limit: of their ratio, from the
    issue that promised it.

    unit: what they are shown in.
    """

    name: str
    ours: float
    theirs: float
    limit: float
    unit: Literal["ms", "MiB"] = "ms"

    @property
    def holds(self) -> bool:
        return self.ours <= self.limit * self.theirs

    def shown(self, value: float) -> str:
        """Three digits are enough to compare."""
        number = value * 1000 if self.unit == "ms" else value
        return (
            f"{number:6.0f} ms"
            if number >= 10 and self.unit == "ms"
            else f"{number:6.1f} {self.unit}"
        )


def timed(work: Callable[[], object], rounds: int) -> float:
    """Median seconds of `rounds` calls, after one that is not counted."""
    work()
    return statistics.median([once(work) for _ in range(rounds)])


def alternately(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[float, float]:
    """Median seconds of each, called in turns after one that is not counted: what else runs meets
    both.
    """
    times = [(once(ours), once(theirs)) for _ in range(rounds + 1)][1:]
    return statistics.median([time for time, _ in times]), statistics.median(
        [time for _, time in times]
    )


def once(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alone(rows: Callable[[Path], list[Row]]) -> int:
    """Print the table of one benchmark, measured in a folder of its own; 1 when a ratio is above
    its limit, else 0.
    """
    # An installed package has its bytecode; one that may not write it would be compiled anew by
    # every process.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    measured_rows = measured(rows)
    print(table(measured_rows))
    return 0 if all(row.holds for row in measured_rows) else 1


def measured(rows: Callable[[Path], list[Row]]) -> list[Row]:
    """The rows of a benchmark that wants a folder, which is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        return rows(Path(folder))


def table(rows: list[Row]) -> str:
    """All rows, those above their limit marked."""
    head = f"{'':46} {'ours':>10} {'theirs':>10} {'ratio':>7} {'limit':>7}"
    lines = [
        f"{row.name:46} {row.shown(row.ours):>10} {row.shown(row.theirs):>10} "
        f"{row.ours / row.theirs:6.2f}x "
        f"{row.limit:6.1f}x {'' if row.holds else ' above'}"
        for row in rows
    ]
    return "\n".join([head, *lines])
