"""T2: power cuts, modelled. A step's calls are recorded with their data; whatever no fsync made
durable may be lost, may come before what was done earlier, may come in part. Every such state of
the disk is built and looked at, and the step is run again on it.

The model: data of a file are durable once the file is fsynced, names once their folder is. Nothing
is assumed of order between calls that no fsync separates. A write may leave its first half, or
zeros for its first half.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import yaml

from pipeline_steps.state import file
from pipeline_steps.state.record import decode
from pipeline_steps.toolbox.errors import PipelineError
from tests.faults.figures import Figure, Settings, counted, sampled, spread
from tests.faults.world import STEPS, Step, World, difference, lost, stored

CALLS = (
    "openat,write,pwrite64,lseek,ftruncate,fchmod,chmod,fsync,fdatasync,rename,unlink,mkdir,rmdir"
)
THREADS = "clone,clone3"
#: More operations than these are never pending, or the model is not exhaustive and says so.
PENDING = 8
SAMPLED = 60
#: Steps and folders whose names nobody misses: of a proposal's checkout, which is made again.
MADE_AGAIN = {("merge", ".pipeline"), ("merge", "proposals")}
_LINE = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)(?:<(.*)>)?")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_OPENED = re.compile(r"^(\d+)<(.*?)>")


class Write(NamedTuple):
    """Data of a file, from an offset on. size: the file's length afterwards when it was cut, else
    None.
    """

    inode: int
    offset: int
    data: bytes
    size: int | None = None


class Names(NamedTuple):
    """Entries of one folder that change at once: path → inode, None: gone, FOLDER: a folder."""

    folder: str
    entries: tuple[tuple[str, int | None], ...]


class Sync(NamedTuple):
    """An fsync: of the data of an inode, or of the names in a folder. path: for people."""

    of: int | str
    path: str


FOLDER = -1
#: Step → what it makes outside, which must not be there without a record that it began.
INTENDED = {
    "snapshot": "snapshots/*.tgz",
    "promote": "released/charts/*.tgz",
    "regenerate": "regenerated/*.tgz",
}
Operation = Write | Names | Sync
Disk = dict[str, bytes | None]  # path → content, None: a folder


class Trace(NamedTuple):
    """What a step did to the disk. start: what was there; inodes of it; operations in their order."""

    start: Disk
    inodes: dict[str, int]
    operations: tuple[Operation, ...]


class State(NamedTuple):
    """A disk after a power cut. done: the step had ended."""

    disk: Disk
    done: bool


def cuts(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """Three figures: disks that hold, disks on which the step ends well again, fsyncs whose absence
    is noticed.
    """
    with ThreadPoolExecutor(len(worlds)) as pool:  # paths and times are each world's own
        traces = list(
            pool.map(lambda world: {step.name: record(world, step) for step in STEPS}, worlds)
        )
    cases = [[(step, state) for step in STEPS for state in states(of[step.name])] for of in traces]
    bad = [
        f"{step.name}: {wrong}"
        for step in STEPS
        for wrong in _broken(worlds[0], step, traces[0][step.name])
    ]
    most = max(
        len(pending) for trace in traces[0].values() for _, pending in moments(trace.operations)
    )
    numbers = range(min(map(len, cases)))
    chosen = sampled(
        numbers,
        SAMPLED,
        settings,
        lambda number: (cases[0][number][0].name, str(cases[0][number][1].done)),
    )

    def run(worker: int, number: int) -> str:
        world = worlds[worker]
        step, state = cases[worker][number]
        world.back(step)
        lay(world, state.disk)
        wrong = world.again(step)
        return f"{step.name}: {wrong}" if wrong else ""

    differ = spread(chosen, settings.workers, run)
    if most > PENDING:
        bad.append(f"{most} operations pending at once: not every state was built")
    return [
        counted(
            "T2",
            f"power cut: records whole, promises kept (at most {most} calls pending)",
            cases[0],
            bad,
        ),
        counted("T2", "the same disks: the step again", chosen, differ),
        _mutations(worlds[0], traces[0]),
    ]


def _broken(world: World, step: Step, trace: Trace) -> Iterator[str]:
    """The rules that disks after a power cut in this step break."""
    world.back(step)
    return (wrong for state in states(trace) if (wrong := broken_rule(world, step, state)))


def _mutations(world: World, traces: dict[str, Trace]) -> Figure:
    """Without any one fsync, some disk must break a rule: else the model sees nothing."""
    points, missed, spared = [], [], 0
    for step in STEPS:
        operations = traces[step.name].operations
        for number, operation in enumerate(operations):
            if not isinstance(operation, Sync):
                continue
            points.append(operation)
            without = traces[step.name]._replace(
                operations=operations[:number] + operations[number + 1 :]
            )
            if any(_broken(world, step, without)):
                continue
            later = [
                later_operation
                for later_operation in operations[number + 1 :]
                if isinstance(later_operation, Sync) and later_operation.of == operation.of
            ]
            if (step.name, operation.path) in MADE_AGAIN or (
                later and isinstance(operation.of, str)
            ):
                spared += 1
            else:
                missed.append(f"{step.name}: nobody misses the fsync of {operation.path}")
    more = f"{spared} of a folder that is fsynced or made again" if spared else ""
    return counted("T2", "each fsync left out: noticed, or made up for", points, missed, more)


def record(world: World, step: Step) -> Trace:
    """Run the step and keep what it does below the state folder and the repositories."""
    world.back(step)
    start = disk(world)
    output = world.root.parent / "traces"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    options = [
        "-ff",
        "--seccomp-bpf",
        "-ttt",
        "-qq",
        "-y",
        "-xx",
        "-s",
        "10000000",
        "-o",
        f"{output}/of",
    ]
    completed = world.run(step, "strace", *options, "-e", f"trace={CALLS},{THREADS}")
    assert completed.returncode == 0, completed.stderr
    reader = _Reader(world, start)
    for line in threads(output):
        reader.read(line[1], line[2], int(line[3]), _plain(line[4] or ""))
    return Trace(start, reader.first, tuple(reader.operations))


def threads(output: Path) -> list[re.Match[str]]:
    """The calls of our own process in their order: of its first thread, and of those that this one
    started.
    """
    files = {path.suffix: path.read_text().splitlines() for path in output.iterdir()}
    ours = [min((suffix for suffix in files if files[suffix]), key=lambda suffix: files[suffix][0])]
    for suffix in ours:  # grows while it is read
        ours += [
            f".{line.rpartition(' = ')[2]}" for line in files[suffix] if "CLONE_THREAD" in line
        ]
    calls = sorted(line.partition(" ")[::2] for suffix in ours for line in files.get(suffix, ()))
    return [match for _time, call in calls if (match := _LINE.match(call))]


class _Reader:
    """Turns lines of strace into operations."""

    def __init__(self, world: World, start: Disk) -> None:
        self.places = tuple(map(str, world.places))
        files = [path for path, data in start.items() if data is not None]
        self.first = {path: number for number, path in enumerate(files)}
        self.names = dict(self.first)
        self.opened: dict[int, tuple[int, int]] = {}  # descriptor → inode, offset
        self.operations: list[Operation] = []
        self.inodes = len(self.first)

    def read(self, call: str, arguments: str, result: int, opened: str) -> None:
        if result < 0:
            return
        paths = [_plain(text) for text in _TEXT.findall(arguments)]
        descriptor = _OPENED.match(arguments)
        number, path = (int(descriptor[1]), _plain(descriptor[2])) if descriptor else (-1, "")
        if call == "openat":
            self._open(arguments, result, opened)
        elif call in ("rename", "unlink", "rmdir", "mkdir"):
            self._name(call, paths)
        elif call in ("fsync", "fdatasync"):  # also of the folders that our places stand in
            self.operations.append(
                Sync(self.opened[number][0] if number in self.opened else path, Path(path).name)
            )
        elif not self._ours(path):
            return
        elif number in self.opened:
            self._data(call, number, arguments, result, paths)

    def _open(self, arguments: str, result: int, path: str) -> None:
        self.opened.pop(result, None)
        if not self._ours(path) or "O_DIRECTORY" in arguments:
            return
        if path not in self.names:
            self.names[path] = self.inodes
            self.inodes += 1
            self.operations.append(Names(str(Path(path).parent), ((path, self.names[path]),)))
        self.opened[result] = (self.names[path], 0)

    def _name(self, call: str, paths: list[str]) -> None:
        if not self._ours(paths[0]):
            return
        folder = str(Path(paths[0]).parent)
        if call == "mkdir":
            self.operations.append(Names(folder, ((paths[0], FOLDER),)))
        elif call == "rename":
            inode = self.names.pop(paths[0])
            self.names[paths[1]] = inode
            self.operations.append(Names(folder, ((paths[0], None), (paths[1], inode))))
        else:
            self.names.pop(paths[0], None)
            self.operations.append(Names(folder, ((paths[0], None),)))

    def _data(self, call: str, number: int, arguments: str, result: int, paths: list[str]) -> None:
        inode, offset = self.opened[number]
        if call == "lseek":
            self.opened[number] = (inode, result)
        elif call == "ftruncate":
            self.operations.append(Write(inode, 0, b"", int(arguments.rpartition(", ")[2])))
        elif call == "write":
            data = bytes.fromhex(_TEXT.findall(arguments)[-1].replace("\\x", ""))[:result]
            self.operations.append(Write(inode, offset, data))
            self.opened[number] = (inode, offset + result)

    def _ours(self, path: str) -> bool:
        return any(path == place or path.startswith(f"{place}/") for place in self.places)


def _plain(text: str) -> str:
    return (
        bytes.fromhex(text.replace("\\x", "")).decode(errors="replace")
        if text.startswith("\\x")
        else text
    )


def moments(operations: Sequence[Operation]) -> Iterator[tuple[list[int], list[int]]]:
    """At each moment the numbers of the operations that are durable, and of those that are pending."""
    durable: list[int] = []
    pending: list[int] = []
    yield [], []
    for number, operation in enumerate(operations):
        if isinstance(operation, Sync):
            covered = [n for n in pending if _covers(operation, operations[n])]
            durable += covered
            pending = [n for n in pending if n not in covered]
        else:
            pending.append(number)
        yield sorted(durable), list(pending)


def _covers(sync: Sync, operation: Operation) -> bool:
    return sync.of == (
        operation.inode if isinstance(operation, Write) else getattr(operation, "folder", None)
    )


def states(trace: Trace) -> Iterator[State]:
    """Every disk that a power cut can leave, each once."""
    tried: set[object] = set()
    seen: set[object] = set()
    every = list(moments(trace.operations))
    for moment, (durable, pending) in enumerate(every):
        complete = moment == len(every) - 1
        for choice in itertools.product((False, True), repeat=min(len(pending), PENDING)):
            kept = [
                n for n, gone in itertools.zip_longest(pending, choice, fillvalue=False) if not gone
            ]
            writes = [n for n in kept if isinstance(trace.operations[n], Write)]
            for torn in (None, *itertools.product(writes, ("half", "zeros"))):
                numbers = (*sorted([*durable, *kept]),)
                if (numbers, torn, complete) not in tried:
                    tried.add((numbers, torn, complete))
                    disk = built(trace, numbers, torn)
                    if (mark := (_fingerprint(disk), complete)) not in seen:
                        seen.add(mark)
                        yield State(disk, complete)


def built(trace: Trace, numbers: Sequence[int], torn: tuple[int, str] | None) -> Disk:
    """The disk after some of the operations; torn: one that came in part."""
    names: dict[str, int] = {
        **trace.inodes,
        **{path: FOLDER for path, data in trace.start.items() if data is None},
    }
    data = {inode: bytearray(trace.start[path] or b"") for path, inode in trace.inodes.items()}
    for number in numbers:
        operation = trace.operations[number]
        if isinstance(operation, Names):
            for path, inode in operation.entries:
                if inode is None:
                    names.pop(path, None)
                else:
                    names[path] = inode
        elif isinstance(operation, Write):
            how = torn[1] if torn and torn[0] == number else ""
            _write(data.setdefault(operation.inode, bytearray()), operation, how)
    folders = {path for path, inode in names.items() if inode == FOLDER}
    unmade = {entry for entry, inode in _changed(trace) if inode == FOLDER} - folders
    return {
        path: None if inode == FOLDER else bytes(data.get(inode, b""))
        for path, inode in sorted(names.items())
        if unmade.isdisjoint(_above(path))
    }


def _changed(trace: Trace) -> list[tuple[str, int | None]]:
    return [
        entry for names in trace.operations if isinstance(names, Names) for entry in names.entries
    ]


@functools.cache
def _above(path: str) -> tuple[str, ...]:
    """All folders above."""
    return tuple(map(str, Path(path).parents))


def _write(content: bytearray, operation: Write, torn: str) -> None:
    if operation.size is not None:
        del content[operation.size :]
        return
    written = operation.data
    half = len(written) // 2
    if torn == "half":
        written = written[:half]
    elif torn == "zeros":
        written = bytes(half) + written[half:]
    content.extend(bytes(max(0, operation.offset - len(content))))
    content[operation.offset : operation.offset + len(written)] = written


def broken_rule(world: World, step: Step, state: State) -> str:
    """The rule that a disk breaks before anything is run on it again, "" when it breaks none."""
    lay(world, state.disk)
    try:
        records = file.load(world.state)
    except PipelineError as error:
        return f"the state cannot be read: {error}"
    for record in records:
        for name, digest in record.evidence.items():
            if not _is(world.state.parent / name, digest):
                return f"{record.step}: evidence {name} is missing or changed"
        for value in record.outputs.values() if record.passed else ():
            place, _, digest = value.rpartition("@")
            if place.startswith("file://") and not _is(Path(place.removeprefix("file://")), digest):
                return f"{record.step} passed, {place} is missing or changed"
    wrong = (
        _store(world)
        or _index(world)
        or ("" if step.before else _intents(world, {record.step for record in records}))
    )
    if not wrong and state.done:
        # temporary files go later; tags and merges are git's
        aside = {"left": [], "tags": "", "mainline": "", "proposals": ""}
        wrong = difference({**world.expected[step.name], **aside}, {**world.outcome(), **aside})
        kept = world.state.parent / ".gitignore"
        wrong = wrong or (
            "" if kept.exists() and kept.read_bytes() == b"*\n" else "done, .gitignore is not there"
        )
        wrong = wrong and f"done, but lost: {wrong}"
    return wrong


def _store(world: World) -> str:
    known_lines = stored(world.store)
    try:
        for line in known_lines:
            decode(line, where=str(world.store))
    except PipelineError as error:
        return f"the store cannot be read: {error}"
    missing = lost(world.store, known_lines)
    return f"evidence of the store is lost: {missing}" if missing else ""


def _index(world: World) -> str:
    for path in [path for place in world.repositories for path in place.glob("index.yaml")]:
        try:
            entries = yaml.safe_load(path.read_bytes())["entries"].values()
            named = [
                (entry["urls"][0], entry["digest"].removeprefix("sha256:"))
                for kind in entries
                for entry in kind
            ]
        except (yaml.YAMLError, AttributeError, IndexError, KeyError, TypeError) as error:
            return f"{path.name} is broken: {error!r}"
        for url, digest in named:
            if not _is(path.parent / url, f"sha256:{digest}"):
                return f"{path.name} names {url}, which is missing or changed"
    return ""


def _intents(world: World, steps: set[str]) -> str:
    for name, pattern in INTENDED.items():
        if list(world.root.glob(pattern)) and name not in steps:
            return f"{pattern} is there, no record says that {name} began"
    return ""


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" == digest


def disk(world: World) -> Disk:
    """What is there now, below our places."""
    content: Disk = {}
    for place in world.places:
        if place.is_dir():
            content[str(place)] = None
        for path in place.rglob("*"):
            content[str(path)] = None if path.is_dir() else path.read_bytes()
    return content


def lay(world: World, disk: Disk) -> None:
    """Make our places hold exactly this disk, recorded in the same world. Files that are as before
    keep their times: the key of a selection has those of modified files.
    """
    before = {
        path: (path.read_bytes(), path.stat())
        for place in world.places
        for path in place.rglob("*")
        if path.is_file()
    }
    for place in world.places:
        shutil.rmtree(place, ignore_errors=True)
    for name, data in sorted(disk.items()):
        path = Path(name)
        if data is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o600 if path.suffix == ".jsonl" else 0o644)
            old_data, status = before.get(path, (None, None))
            if status and old_data == data:
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _fingerprint(disk: Disk) -> int:
    return hash(tuple(sorted(disk.items(), key=lambda item: item[0])))
