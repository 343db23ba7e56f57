"""T10: SIGTERM, SIGINT and SIGHUP at random moments of every step, also while its children ignore
them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.faults.figures import Figure, Settings, counted, spread
from tests.faults.world import STEPS, Step, World, lines, stored

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
MOMENTS, MOMENTS_FULL = 24, 100
LIMIT = 4.0
DEAF = """#!/bin/sh
trap '' TERM INT HUP
case "$1" in version) exec {helm} "$@";; esac
: > {waits}
sleep 30 & sleep 30; wait
"""


class Ended(NamedTuple):
    """How a step ended after a signal. code: as a shell reports it; left: its children that still
    ran then.
    """

    code: int
    seconds: float
    left: list[str]
    talk: str


def at_random(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """Two figures: any step at any moment; steps that call helm while helm ignores every signal."""
    dice = random.Random(settings.seed)
    number = MOMENTS_FULL if settings.full else MOMENTS
    lasts = {step.name: _lasts(worlds[0], step) for step in STEPS}
    chosen = zip(range(number), itertools.cycle(STEPS), itertools.cycle(SIGNALS), strict=False)
    moments = [(step, kind, dice.uniform(0.0, lasts[step.name])) for _, step, kind in chosen]
    slowest, in_time = [0.0], [0]

    def run(worker: int, point: tuple[Step, signal.Signals, float]) -> str:
        step, kind, after = point
        world = worlds[worker]
        ended = _ended(world, step, kind, after, {})
        slowest[0] = max(slowest[0], ended.seconds)
        in_time[0] += ended.code != 0
        wrong = judged(ended, kind, may_be_done=True) or unrecorded(world) or world.again(step)
        return f"{step.name}, {kind.name} after {after:.3f} s: {wrong}" if wrong else ""

    wrong = spread(moments, settings.workers, run)
    if not in_time[0]:
        wrong.append("every step had ended before its signal")
    more = f"{in_time[0]} in time, slowest end {slowest[0]:.2f} s"
    return [
        counted(
            "T10",
            "SIGTERM, SIGINT, SIGHUP at a random moment: out, 128+n, no child, then again",
            moments,
            wrong,
            more,
        ),
        _deaf(worlds, settings),
    ]


def _deaf(worlds: Sequence[World], settings: Settings) -> Figure:
    calling = [step for step in STEPS if step.name in ("check", "tag_release", "promote")]
    repeats = 4 if settings.full else 1
    points = [(step, kind) for step in calling for kind in SIGNALS] * repeats
    slowest = [0.0]

    def run(worker: int, point: tuple[Step, signal.Signals]) -> str:
        step, kind = point
        world = worlds[worker]
        folder = world.root.parent / "deaf"
        folder.mkdir(exist_ok=True)
        waits = folder / "waits"
        helm = f"{world.code}/helm{world.helm_major}/helm"
        (folder / "helm").write_text(DEAF.format(helm=helm, waits=waits))
        (folder / "helm").chmod(0o755)
        more = {"PATH": f"{folder}:{world.environment(step)['PATH']}"}
        ended = _ended(world, step, kind, 0.1, more, waits)
        slowest[0] = max(slowest[0], ended.seconds)
        wrong = judged(ended, kind, may_be_done=False) or unrecorded(world) or world.again(step)
        return f"{step.name}, {kind.name} while helm is deaf: {wrong}" if wrong else ""

    wrong = spread(points, settings.workers, run)
    what = "the same while helm ignores all signals"
    return counted("T10", what, points, wrong, f"slowest end {slowest[0]:.2f} s")


def _ended(
    world: World,
    step: Step,
    kind: signal.Signals,
    after: float,
    more: Mapping[str, str],
    waits: Path | None = None,
) -> Ended:
    """How the step ends, see `signalled`. One that took too long is tried again: a step that is
    slow at some moment is so each time, a machine that stalls is not.
    """
    for _ in range(2):
        world.back(step)
        if waits:
            waits.unlink(missing_ok=True)
        ended = signalled(world, step, kind, after, more, waits)
        if ended.seconds <= LIMIT:
            break
    return ended


def signalled(
    world: World,
    step: Step,
    kind: signal.Signals,
    after: float,
    more: Mapping[str, str],
    waits: Path | None = None,
) -> Ended:
    """Start the step, send the signal after some seconds, and see how it ends.

    waits: a file whose appearance begins the seconds.
    """
    child = subprocess.Popen(
        world.command(step), cwd=world.source, env={**world.environment(step, **more), "LC_FAULTS": str(world.root)},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while waits is not None and not waits.exists() and child.poll() is None:
        time.sleep(0.02)
    time.sleep(after)
    began = time.monotonic()
    child.send_signal(kind)
    assert child.stderr is not None
    try:
        code = child.wait(timeout=20)
    except subprocess.TimeoutExpired:
        child.kill()
        code = child.wait()
    seconds = time.monotonic() - began
    left = _left(world)
    for pid in _marked(world):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    talk = child.stderr.read()
    child.stderr.close()
    return Ended(code if code >= 0 else 128 - code, seconds, left, talk)


def judged(ended: Ended, kind: signal.Signals, *, may_be_done: bool) -> str:
    """What of the way a step ended is not as demanded."""
    if (
        may_be_done
        and kind == signal.SIGINT
        and ended.code in (1, 139)
        and "/pipeline_steps/" not in ended.talk
    ):
        # Python itself was still starting: it exits with 1, or crashes, before any of our code runs
        return ""
    if ended.code != 128 + kind and not (may_be_done and ended.code == 0):
        return f"exit {ended.code}: {ended.talk[-600:]}"
    if ended.seconds > LIMIT:
        return f"took {ended.seconds:.2f} s"
    if ended.left:
        return f"children left: {ended.left}"
    if "This is a bug" in ended.talk or "Logging error" in ended.talk:
        return f"a bug report: {ended.talk[-2000:]}"
    return ""


def unrecorded(world: World) -> str:
    """An archive or a tag that no record of an intent names, "" when there is none."""
    known_lines = [*lines(world.state), *lines(world.root / "agent.jsonl"), *stored(world.store)]
    steps = {json.loads(line)["step"] for line in known_lines if line}
    places = {"snapshot": "snapshots/*.tgz", "promote": "released/**/*.tgz", "tag_release": "source/.git/refs/tags/*",
              "regenerate": "regenerated/*.tgz"}  # fmt: skip
    for name, pattern in places.items():
        if name not in steps and list(world.root.glob(pattern)):
            return f"{pattern} was made without a record of {name}"
    return ""


def _lasts(world: World, step: Step) -> float:
    world.back(step)
    began = time.monotonic()
    world.run(step)
    return time.monotonic() - began


def _left(world: World) -> list[str]:
    """Command lines of processes that the step started and that live on a moment after it."""
    deadline = time.monotonic() + 0.2
    while _marked(world) and time.monotonic() < deadline:
        time.sleep(0.02)
    return [_words(pid) for pid in _marked(world) if not _killed(pid)]


def _killed(pid: int) -> bool:
    """Whether a process got SIGKILL, and only waits for a core to end on."""
    pending = 0
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(("SigPnd:", "ShdPnd:")):
                pending |= int(line.split()[1], 16)
    return bool(pending & 1 << signal.SIGKILL - 1)


def _marked(world: World) -> list[int]:
    """Processes with this world's mark in their environment, which children inherit (LC_* is kept)."""
    mark = f"LC_FAULTS={world.root}\0".encode()
    marked = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (place / "environ").read_bytes():
                    marked.append(int(place.name))
    return marked


def _words(pid: int) -> str:
    with contextlib.suppress(OSError):
        return (
            Path(f"/proc/{pid}/cmdline")
            .read_bytes()
            .decode(errors="replace")
            .replace("\0", " ")
            .strip()
        )
    return str(pid)
