"""T18: a symbolic link planted at every name that a step writes is not followed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.faults.calls import Call, record, recorded
from tests.faults.figures import Figure, Settings, counted, sampled, spread
from tests.faults.world import STEPS, Step, World

SAMPLED = 60
CONTENT = b"entries: {}\n"
#: 2: `check --fix` does not read a lock that is a link out of the source. 8: `regenerate` lists the
#: version that has no place there, and goes on with the others.
REFUSED = (2, 4, 5, 7, 8)


def planted(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """One figure: names whose link was not followed. The names are those that two undisturbed runs
    make.
    """
    points = [
        (step, name, kind)
        for step in STEPS
        for name in sorted(
            _names(worlds[0], recorded(worlds[0], step))
            & _names(worlds[0], record(worlds[0], step))
        )
        for kind in ("file", "folder", "nothing")
    ]
    chosen = sampled(points, SAMPLED, settings, lambda point: (point[0].name, point[1]))

    def run(number: int, point: tuple[Step, str, str]) -> str:
        step, name, kind = point
        world = worlds[number]
        world.back(step)
        target = world.root.parent / "elsewhere"
        _lay_target(target, kind)
        link = world.root / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_dir():
            shutil.rmtree(link)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        before = _seen(target)
        completed = world.run(step)
        wrong = ""
        if _seen(target) != before:
            wrong = f"followed: {_seen(target)}"
        elif completed.returncode not in (0, *REFUSED) or "This is a bug" in completed.stderr:
            wrong = f"exit {completed.returncode}: {completed.stderr.strip()[-400:]}"
        return f"{step.name}, {name} → a {kind}: {wrong}" if wrong else ""

    wrong = spread(chosen, settings.workers, run)
    what = f"a symbolic link at a name we write: not followed ({len(points)} of {len(STEPS)} steps)"
    return [counted("T18", what, chosen, wrong)]


def _names(world: World, calls: Sequence[Call]) -> set[str]:
    """Names below the world that a step makes, but for those that the configuration chose: a
    person's link.
    """
    names = set()
    chosen = (world.root / "released", *world.repositories, world.store)
    for call in calls:
        if (
            call.changes
            and call.name in ("openat", "mkdir", "rename")
            and call.below(*world.places)
        ):
            path = Path(call.paths[-1])
            if "tmp-" not in path.name and path not in chosen:
                names.add(str(path.relative_to(world.root)))
    return names


def _lay_target(target: Path, kind: str) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    if kind == "file":
        target.write_bytes(CONTENT)
    elif kind == "folder":
        target.mkdir()


def _seen(target: Path) -> object:
    if target.is_dir():
        return sorted(path.name for path in target.iterdir())
    return target.read_bytes() if target.exists() else None
