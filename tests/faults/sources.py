"""T1e: SIGKILL of a step and its children at a random moment where the source is in Bazaar or
Subversion, whose tags and locks are others than git's; then once more: as if nothing had been.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.faults.figures import Figure, Settings, counted, spread
from tests.faults.kills import kill_after
from tests.faults.world import World, copy, lines
from tests.support.release_line import Line

SYSTEMS = ("bzr", "svn")
STEPS = ("check", "snapshot", "integration_test", "report", "tag_release", "promote")
REPEATS, REPEATS_FULL = 1, 30
#: What both systems leave of a process that held a lock.
LOCKS = ("*/.bzr/*/lock/held", "*/.svn/lock")


class Moment(NamedTuple):
    """When a step is killed, as a share of its duration."""

    system: str
    step: str
    share: float


class Chain:
    """A line of one system, kept as it was before each step; what an undisturbed step leaves, and
    how long it takes.
    """

    def __init__(self, folder: Path, system: str) -> None:
        self.kept = folder / "kept"
        (folder / "line").mkdir()
        self.kept.mkdir()
        self.line = Line(folder / "line", system=system)
        self.expected: dict[str, dict[str, object]] = {}
        self.seconds: dict[str, float] = {}

    def ready(self) -> Chain:
        for step in STEPS:
            copy(self.line.folder, self.kept / step)
            began = time.monotonic()
            self.line.ok(*self.words(step))
            self.seconds[step] = time.monotonic() - began
            self.expected[step] = self.outcome()
        return self

    def words(self, step: str) -> list[str]:
        local = step == "tag_release" and not self.line.repo.tags_on_server
        return [step, *(["--local"] if local else []), "--chart", self.line.chart]

    def killed(self, step: str, after: float) -> None:
        """Start a step as it was the first time, and end it and all its children after so many
        seconds.
        """
        copy(self.kept / step, self.line.folder)
        child = subprocess.Popen(
            [sys.executable, "-m", "pipeline_steps", *self.words(step)],
            cwd=self.line.repo.root,
            env=self.line.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        kill_after(child, after)

    def again(self, step: str) -> str:
        """What a second run leaves otherwise than an undisturbed one, "" when nothing."""
        completed = self.line.run(*self.words(step))
        if completed.returncode:
            return f"exits {completed.returncode}: {completed.stderr.strip()[-500:]}"
        seen, expected = self.outcome(), self.expected[step]
        return "".join(
            f"{name}: {seen[name]!r:.500}, undisturbed {expected[name]!r:.500}"
            for name in expected
            if seen[name] != expected[name]
        )

    def outcome(self) -> dict[str, object]:
        """Archives by their bytes, tags with their texts, verdicts, and what should not be left."""
        folder = self.line.folder
        archives = [*folder.glob("snapshots/*.tgz"), *folder.glob("charts/*.tgz")]
        left = [path for path in folder.rglob("*") if "tmp-" in path.name]
        left += [path for lock in LOCKS for path in folder.glob(lock)]
        return {
            "archives": sorted(
                (path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in archives
            ),
            "tags": self._tags(),
            "verdicts": self._verdicts(),
            "left": sorted(str(path) for path in left),
        }

    def _tags(self) -> list[str]:
        """The lines that tag_release writes, by tag."""
        repo = self.line.repo
        if self.line.system == "bzr":
            names = [line.split()[0] for line in repo.brz("tags").splitlines()]
            texts = [repo.brz("log", "-r", f"tag:{name}", "-n1") for name in names]
        else:
            names = repo.svn("list", "^/tags").split()
            texts = [repo.svn("log", "-l1", f"^/tags/{name}") for name in names]
        return [
            f"{name} {line.strip()}"
            for name, text in zip(names, texts, strict=True)
            for line in text.splitlines()
            if "Pipeline-" in line
        ]

    def _verdicts(self) -> list[tuple[str, ...]]:
        """(step, subject, key) of what passed and nothing supersedes, but for selections: the tag's
        own commit in Bazaar is a new revision, of which charts are selected again.
        """
        state = self.line.repo.root / ".pipeline/state.jsonl"
        records = [json.loads(line) for line in lines(state)]
        superseded = {id for record in records for id in record.get("supersedes", ())}
        return sorted(
            (record["step"], record["subject"], record["key"])
            for record in records
            if record["result"] == "passed"
            and record["step"] != "selection"
            and record["id"] not in superseded
        )


def killed_in_every_system(_worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """One figure: kills after which a second run ends as an undisturbed one."""
    dice = random.Random(settings.seed)
    repeats = REPEATS_FULL if settings.full else REPEATS
    points = [
        Moment(system, step, dice.random())
        for system, step, _ in itertools.product(SYSTEMS, STEPS, range(repeats))
    ]
    with tempfile.TemporaryDirectory(prefix="sources-") as folder:
        pairs = list(itertools.product(range(settings.workers), SYSTEMS))
        for number, system in pairs:
            Path(folder, f"{number}-{system}").mkdir()
        chains = [Chain(Path(folder, f"{number}-{system}"), system) for number, system in pairs]
        with ThreadPoolExecutor(settings.workers) as pool:
            ready = dict(zip(pairs, pool.map(Chain.ready, chains), strict=True))

        def run(number: int, point: Moment) -> str:
            chain = ready[number, point.system]
            chain.killed(point.step, point.share * chain.seconds[point.step])
            wrong = chain.again(point.step)
            return f"{point.step} on {point.system} at {point.share:.2f}: {wrong}" if wrong else ""

        wrong = spread(points, settings.workers, run)
    what = "SIGKILL of a step and its children with the source in Bazaar or Subversion, then again"
    return [counted("T1e", what, points, wrong)]
