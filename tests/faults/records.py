"""Records: many processes that write one state file; every bit of a state file turned."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Sequence
from pathlib import Path

from pipeline_steps.state import file
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import EvidenceError
from tests.faults.figures import Figure, Settings
from tests.faults.world import STEPS, Step, World

WRITERS = 200
#: Bits turned in a sample; a few of them through the command line.
BITS, BY_COMMAND = 4000, 6

REPRODUCE = next(step for step in STEPS if step.name == "reproduce")
VERIFY = Step("state verify", ("state", "verify"))


def writers(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """One figure: records that are there after all processes wrote at once."""
    path = worlds[0].root.parent / "writers/.pipeline/state.jsonl"
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(WRITERS)
    children = [
        context.Process(target=_write, args=(path, number, barrier)) for number in range(WRITERS)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    seen = {record.key for record in State(path).records()}
    failed = sum(child.exitcode != 0 for child in children)
    wrong = [f"writer {number} is missing" for number in range(WRITERS) if f"k{number}" not in seen]
    wrong += [f"{failed} writers failed"] if failed else []
    what = "processes that append to one state file at once: every record there"
    return [Figure("R13", what, f"{WRITERS}/{WRITERS}", f"{len(seen)}/{WRITERS}", tuple(wrong))]


def bits(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """Two figures: turned bits found when the state is read, and by `state verify`."""
    world = worlds[0]
    world.back(REPRODUCE)  # the whole chain is in its state
    data = world.state.read_bytes()
    dice = random.Random(settings.seed)
    last = [8 * (len(data) - 1) + bit for bit in range(8)]  # the end of the last line
    every = range(8 * len(data) - 8)
    chosen = [*(every if settings.full else dice.sample(every, BITS)), *last]
    missed = [f"bit {bit}" for bit in chosen if not _noticed(world.state, data, bit)]
    by_command = [
        bit
        for bit in [*dice.sample(every, BY_COMMAND), *last[:2]]
        if not _verified(world, data, bit)
    ]
    world.state.write_bytes(data)
    number, commands = len(chosen), BY_COMMAND + 2
    return [
        Figure(
            "T13",
            f"one bit of a state file of {len(data)} bytes turned: noticed by who reads it",
            f"{number}/{number}",
            f"{number - len(missed)}/{number}",
            tuple(missed),
        ),
        Figure(
            "T13",
            "one bit turned: state verify exits 4",
            f"{commands}/{commands}",
            f"{commands - len(by_command)}/{commands}",
            tuple(f"bit {bit}" for bit in by_command),
        ),
    ]


def _write(path: Path, number: int, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    State(path).add(
        {"step": "s", "subject": "x", "key": f"k{number}", "result": "passed", "started": "t"}
    )


def _turned(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _noticed(path: Path, data: bytes, bit: int) -> bool:
    path.write_bytes(_turned(data, bit))
    try:
        return len(file.load(path)) < data.count(
            b"\n"
        )  # the end of the last line: dropped with a notice
    except EvidenceError:
        return True


def _verified(world: World, data: bytes, bit: int) -> bool:
    world.state.write_bytes(_turned(data, bit))
    return world.run(VERIFY).returncode == 4
