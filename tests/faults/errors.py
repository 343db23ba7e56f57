"""T3: a call that fails at the disk's will, each in its turn; and a file system that is really
full.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.faults.calls import Call, broken, recorded, was_injected
from tests.faults.figures import Figure, Settings, counted, sampled, spread
from tests.faults.world import STEPS, Step, World, difference

#: What can go wrong with each kind of call.
ERRORS = {
    "openat": ("ENOSPC", "EDQUOT", "EROFS", "EMFILE", "EIO"),
    "mkdir": ("ENOSPC", "EDQUOT", "EROFS", "EIO"),
    "write": ("ENOSPC", "EDQUOT", "EIO"),
    "fsync": ("EIO", "ENOSPC", "EDQUOT"),
    "rename": ("ENOSPC", "EDQUOT", "EROFS", "EIO"),
    "ftruncate": ("EIO",),
    "fchmod": ("EROFS", "EIO"),
    "chmod": ("EROFS", "EIO"),
}
SAMPLED = 54
CANNOT = 7
#: Names of records are random, so one folder of a store more or less may be there already.
TRIES = 4
#: KiB left on the full file system.
LEFT = (0, 4, 8, 12, 16, 24)


def at_every_call(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """Two figures: injected errors, and the full file system."""
    points = [
        (step, call, error)
        for step in STEPS
        for call in _calls(worlds[0], step)
        for error in ERRORS.get(call.name, ())
    ]  # fmt: skip
    chosen = sampled(
        points, SAMPLED, settings, lambda point: (point[0].name, f"{point[1].kind} {point[2]}")
    )

    def run(number: int, point: tuple[Step, Call, str]) -> str:
        step, call, error = point
        world = worlds[number]
        at = call._replace(within=str(world.state)) if call.within else call
        for _ in range(TRIES):
            world.back(step)
            before = _kept(world)
            completed = broken(world, step, at, f"error={error}")
            if was_injected(world):
                break
        else:
            return f"{step.name}, {error} at {call}: never met"
        wrong = judged(world, completed, before, step) or world.again(step)
        return f"{step.name}, {error} at {call}: {wrong}" if wrong else ""

    wrong = spread(chosen, settings.workers, run)
    what = f"ENOSPC, EDQUOT, EROFS, EMFILE, EIO ({len(points)} points of {len(STEPS)} steps)"
    return [counted("T3", what, chosen, wrong), _full(worlds, settings)]


def judged(
    world: World, completed: subprocess.CompletedProcess[str], before: dict[Path, bytes], step: Step
) -> str:
    """What is not as it must be after a step that met a failing disk.

    A step that exits with 0 has done all of its work. One that fails has changed no file but those
    that are as after an undisturbed run, and what lines it added.
    """
    expected = world.expected[step.name]
    if completed.returncode == 0 and (wrong := difference(expected, world.outcome())):
        return f"exit 0, and {wrong}"
    if completed.returncode not in (0, CANNOT) or "This is a bug" in completed.stderr:
        return f"exit {completed.returncode}: {completed.stderr.strip()[-500:]}"
    for path, data in before.items():
        now = path.read_bytes() if path.exists() else b""
        grows = path.suffix == ".jsonl" and now.startswith(data)
        finished = now and expected.get(f"file {path.relative_to(world.root)}") == world.describe(
            path
        )
        if now != data and not grows and not finished:
            return f"{path.name} was changed"
    left = world.left()
    return f"left: {left}" if left else ""


def _full(worlds: Sequence[World], settings: Settings) -> Figure:
    points = sampled(
        [(step, left) for step in STEPS for left in LEFT],
        2 * len(STEPS),
        settings,
        lambda point: (point[0].name, str(point[1])),
    )

    def run(number: int, point: tuple[Step, int]) -> str:
        step, left = point
        world = worlds[number]
        world.back(step)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "small", world.root], check=True)
        try:
            subprocess.run(
                ["cp", "-a", "--", f"{world.kept / step.name}/.", world.root], check=True
            )
            before = _kept(world)
            filler = world.root / "filler"
            _fill(filler, left)
            wrong = judged(world, world.run(step), before, step)
            filler.unlink()
            wrong = wrong or world.again(step)
        finally:
            subprocess.run(["umount", "--lazy", world.root], check=True)
        return f"{step.name} with {left} KiB left: {wrong}" if wrong else ""

    return counted("T3", "a real full file system", points, spread(points, settings.workers, run))


def _fill(filler: Path, left: int) -> None:
    """Write until nothing more fits, then give some KiB back."""
    with filler.open("wb", buffering=0) as file:
        size = 0
        while True:
            try:
                size += file.write(bytes(4096))
            except OSError:
                break
        file.truncate(max(0, size - left * 1024))


def _calls(world: World, step: Step) -> list[Call]:
    """Those on state and repositories, reading ones included."""
    return [call for call in recorded(world, step) if call.below(*world.places)]


def _kept(world: World) -> dict[Path, bytes]:
    return {
        path: path.read_bytes()
        for place in world.places
        for path in place.rglob("*")
        if path.is_file()
    }
