"""The system calls of a step, as strace sees them: recorded, then one of them made to kill or to
fail.

Only the calls of our own process: what git and helm do between them is theirs.
"""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.faults.world import Step, World

#: Calls that change files; openat counts when it creates.
CHANGING = (
    "write pwrite64 writev fsync fdatasync ftruncate truncate fallocate rename renameat "
    "renameat2 link linkat symlink "
    "symlinkat unlink unlinkat rmdir mkdir mkdirat chmod fchmod fchmodat chown fchown "
    "fchownat utimensat "
    "copy_file_range sendfile"
).split()
_LINE = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)")
_PATHS = re.compile(r'<(/[^>]*)>|"(/[^"]*)"')


class Call(NamedTuple):
    """The nth call of that name. text: its arguments; paths: the files it names, by name or
    descriptor.

    within: counted in each thread among the calls on this file only; "" counts those of the main
    thread on any.
    """

    name: str
    nth: int
    text: str
    paths: tuple[str, ...]
    within: str = ""

    def __str__(self) -> str:
        return (
            f"{self.name} {self.nth} "
            f"({' → '.join(Path(path).name for path in self.paths) or 'a pipe'})"
        )

    @property
    def kind(self) -> str:
        """What calls that do much the same have in common: their name, and kind and folder of the
        file.
        """
        path = Path(self.paths[-1]) if self.paths else Path()
        return f"{self.name} {path.parent.name} {path.suffix}"

    @property
    def changes(self) -> bool:
        return self.name != "openat" or "O_CREAT" in self.text

    def below(self, *folders: Path) -> bool:
        return any(
            path.startswith(f"{folder}/") or path == str(folder)
            for path in self.paths
            for folder in folders
        )


@functools.cache
def recorded(world: World, step: Step) -> list[Call]:
    """What `record` says, asked once for all that breaks single calls."""
    return record(world, step)


def record(world: World, step: Step) -> list[Call]:
    """Every call of CHANGING and every openat of an undisturbed run, of other threads those on the
    state file.
    """
    world.back(step)
    main = _traced(world, step)
    world.back(step)
    state = str(world.state)
    other_calls = _traced(world, step, "-f", "-P", state)
    lines: dict[str, list[str]] = {}
    for line in other_calls.splitlines():
        thread, _, call = line.partition(" ")
        lines.setdefault(thread, []).append(call.strip())
    calls_ = parse(main)
    if not any(
        call.below(world.state) and call.changes for call in calls_
    ):  # it is written by another thread
        calls_ += [
            call._replace(within=state)
            for texts in lines.values()
            for call in parse("\n".join(texts))
        ]
    return calls_


def _traced(world: World, step: Step, *options: str) -> str:
    output = world.root.parent / "trace"
    names = f"trace=openat,{','.join(CHANGING)}"
    completed = world.run(step, "strace", "-qq", "-y", *options, "-o", str(output), "-e", names)
    assert completed.returncode == 0, completed.stderr
    return output.read_text(errors="replace")


def parse(text: str) -> list[Call]:
    """The calls in strace's output for one thread."""
    counts: dict[str, int] = {}
    calls = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match:
            name, arguments, _result = match.groups()
            counts[name] = counts.get(name, 0) + 1
            paths = tuple(a or b for a, b in _PATHS.findall(arguments))
            if name == "openat":  # its first descriptor is the working folder
                paths = paths[1:] or paths
            calls.append(Call(name, counts[name], arguments, paths))
    return calls


def broken(world: World, step: Step, call: Call, how: str) -> subprocess.CompletedProcess[str]:
    """Run the step with that call injected. how: "signal=KILL" or "error=ENOSPC"."""
    options = [
        "-qq",
        "-o",
        str(_trace(world)),
        "-e",
        f"trace={call.name}",
        "-e",
        f"inject={call.name}:{how}:when={call.nth}",
    ]
    if call.within:
        options += ["-f", "-P", call.within]
    return world.run(step, "strace", *options)


def was_injected(world: World) -> bool:
    """Whether the last `broken` came to its call at all: one that did not has shown nothing."""
    return "(INJECTED)" in _trace(world).read_text(errors="replace")


def _trace(world: World) -> Path:
    return world.root.parent / "broken"
