"""T1: SIGKILL at every changing call of every step, then once more: as if nothing had been. T1b: at
random moments, with all that the step started."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.faults.calls import Call, broken, recorded
from tests.faults.figures import Figure, Settings, counted, sampled, spread
from tests.faults.world import STEPS, Step, World

SAMPLED = 54
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
#: Names of records are random, so one folder of a store more or less may be there already.
TRIES = 4
RANDOM, RANDOM_FULL = 2, 30


class Moment(NamedTuple):
    """When a step is killed, as a share of its duration. twice: the run after it is killed too, at
    `second`.
    """

    step: Step
    first: float
    second: float
    twice: bool


def at_every_call(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """One figure: points whose second run ends as an undisturbed one, of all points or a sample."""
    points = [(step, call) for step in STEPS for call in _changing(worlds[0], step)]
    chosen = sampled(points, SAMPLED, settings, lambda point: (point[0].name, point[1].kind))

    def run(number: int, point: tuple[Step, Call]) -> str:
        world, (step, call) = worlds[number], point
        for _ in range(TRIES):
            world.back(step)
            completed = broken(world, step, _at(call, world), "signal=KILL")
            if completed.returncode in KILLED:
                break
        if completed.returncode not in KILLED:
            return (
                f"{step.name} at {call}: not killed, exit {completed.returncode}: "
                f"{completed.stderr[-300:]}"
            )
        wrong = world.again(step)
        return f"{step.name} at {call}: {wrong}" if wrong else ""

    wrong = spread(chosen, settings.workers, run)
    what = f"SIGKILL at a changing call, then again ({len(points)} calls of {len(STEPS)} steps)"
    return [counted("T1", what, chosen, wrong)]


def at_random(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """One figure: kills of a step with all its children, at a random moment; every fifth run after
    it is killed too.
    """
    points = moments(STEPS, RANDOM_FULL if settings.full else RANDOM, random.Random(settings.seed))
    what = "SIGKILL of a step and its children at a random moment, then again"
    return [counted("T1b", what, points, killed_at(worlds, points, settings))]


def moments(steps: Sequence[Step], repeats: int, dice: random.Random) -> list[Moment]:
    """Random moments of each step."""
    return [
        Moment(step, dice.random(), dice.random(), n % 5 == 4)
        for step in steps
        for n in range(repeats)
    ]


def killed_at(worlds: Sequence[World], points: Sequence[Moment], settings: Settings) -> list[str]:
    """What is wrong after a kill at these moments and an undisturbed run after it."""
    lasts = {
        step: _duration(worlds[0], step) for step in dict.fromkeys(point.step for point in points)
    }
    in_time: list[Moment] = []

    def run(number: int, point: Moment) -> str:
        step, first, second, twice = point
        world = worlds[number]
        world.back(step)
        for share in [first, second] if twice else [first]:
            if _killed(world, step, share * lasts[step]):
                in_time.append(point)
        wrong = world.again(step)
        return f"{step.name} at {first:.2f} of its time: {wrong}" if wrong else ""

    wrong = spread(points, settings.workers, run)
    return wrong if in_time else [*wrong, "every step had ended before it was killed"]


def _changing(world: World, step: Step) -> list[Call]:
    return [call for call in recorded(world, step) if call.changes]


def _at(call: Call, world: World) -> Call:
    return call._replace(within=str(world.state)) if call.within else call


def _duration(world: World, step: Step) -> float:
    world.back(step)
    began = time.monotonic()
    world.run(step)
    return time.monotonic() - began


def _killed(world: World, step: Step, after: float) -> bool:
    """Whether it still ran then."""
    child = subprocess.Popen(
        world.command(step), cwd=world.source, env=world.environment(step),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    kill_after(child, after)
    return child.returncode == -signal.SIGKILL


def kill_after(child: subprocess.Popen[bytes], seconds: float) -> None:
    """End a process and all its children, and wait for it."""
    time.sleep(seconds)
    for process in [child.pid, *descendants(child.pid)]:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    child.wait()


def descendants(process: int) -> list[int]:
    """The children of a process, theirs, and so on, as they are now."""
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        children = [int(word) for task in tasks for word in (task / "children").read_text().split()]
    except OSError:
        return []
    return [pid for child in children for pid in (child, *descendants(child))]
