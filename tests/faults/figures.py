"""Figures that the faults yield, and the table they are printed in. Nothing here makes a fault."""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Settings(NamedTuple):
    """full: every point instead of a sample. seed: of every random choice. workers: worlds used at
    once.
    """

    full: bool
    seed: int
    workers: int


class Figure(NamedTuple):
    """One line of the table. id: of the test plan. wrong: what was seen against the demand, one
    text each.
    """

    id: str
    what: str
    demanded: str
    seen: str
    wrong: tuple[str, ...]
    seconds: float = 0.0


def timed(make: Callable[[], list[Figure]]) -> list[Figure]:
    """The figures of one test, its seconds on the first of them."""
    began = time.monotonic()
    first, *more = make()
    return [first._replace(seconds=time.monotonic() - began), *more]


def counted(
    id: str, what: str, points: Sequence[object], wrong: Sequence[str], more: str = ""
) -> Figure:
    """The figure of a test that demands the same of every point."""
    good = len(points) - len(wrong)
    points_text = more if points else "no point found"
    seen = f"{good}/{len(points)}{f', {points_text}' if points_text else ''}"
    return Figure(
        id,
        what,
        f"{len(points)}/{len(points)}",
        seen,
        tuple(wrong) or (() if points else ("no point",)),
    )


def sampled(
    points: Sequence[T], number: int, settings: Settings, alike: Callable[[T], tuple[str, str]]
) -> list[T]:
    """All points in the full size, else so many: of each step in its turn, unlike ones first.

    alike: (point) → its step, and what makes points of one step much like each other.
    """
    if settings.full:
        return list(points)
    shuffled = random.Random(settings.seed).sample(points, len(points))
    turns: dict[str, list[tuple[int, T]]] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for point in shuffled:
        step, _ = kind = alike(point)
        turns.setdefault(step, []).append((seen[kind], point))
        seen[kind] += 1
    queues = [
        [point for _, point in sorted(turn, key=lambda pair: pair[0])] for turn in turns.values()
    ]
    rounds = itertools.chain.from_iterable(itertools.zip_longest(*queues))
    return [point for point in rounds if point is not None][:number]


def spread(points: Sequence[T], workers: int, run: Callable[[int, T], str]) -> list[str]:
    """What is wrong at each point, "" left out. run: (number of the worker, whose world nobody else
    uses; point).
    """
    shares = [points[number::workers] for number in range(workers)]

    def work(number: int) -> list[str]:
        return [found for point in shares[number] if (found := said(judge(number, point)))]

    def said(found: str) -> str:
        if found:  # at once: whole sizes take hours
            print(f"wrong: {found}", file=sys.stderr, flush=True)
        return found

    def judge(number: int, point: T) -> str:
        try:
            return run(number, point)
        # whatever a broken file makes of the reading here is a finding, too
        except Exception as error:
            return f"{point}: what it left cannot be read: {error!r:.500}"

    with ThreadPoolExecutor(workers) as pool:
        return [result for share in pool.map(work, range(workers)) for result in share]


def show(figures: Sequence[Figure], settings: Settings) -> bool:
    """Print the table and, below it, what is wrong; whether all is as demanded."""
    rows = [("id", "what", "demanded", "seen", "seconds")]
    rows += [
        (f.id, f.what, f.demanded, f.seen, f"{f.seconds:.1f}" if f.seconds else "") for f in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
            + f"  {row[4]:>7}"
        )
    for figure in figures:
        for text in figure.wrong[:20]:
            print(f"WRONG {figure.id} {figure.what}: {text}")
    size = "full" if settings.full else "sampled"
    good = not any(figure.wrong for figure in figures)
    print(f"size {size}, seed {settings.seed}, {'all as demanded' if good else 'NOT as demanded'}")
    sys.stdout.flush()
    return good
