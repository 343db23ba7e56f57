"""A long history, and a repository of charts made from its tags, against the plain commands of the
source's system; `git`, `bazaar` and `subversion` make the histories.

The loop (export of a tag's chart, `helm package`) is measured on a sample of the versions, and its
time for all is the mean of these times the versions.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rows import Row, alternately, once
from pipeline_steps.config.config_file import load
from pipeline_steps.sources import kinds
from pipeline_steps.workspace.checkout import Checkout

SCALE = 10 if os.environ.get("SHORT") else 1
CHARTS, VERSIONS, REVISIONS = 20, 50 // SCALE, 10_000 // SCALE
SAMPLE, ROUNDS = 20, 5
HELM = os.environ.get("HELM", "helm")
#: Revisions that the selection is about.
CHANGED = 10
PIPELINE = "charts:\n  - path: charts/*\n"
_TEXT = "\n".join(f"line {number}: {{{{ .Values.key{number} }}}}" for number in range(40))


def chart_files(name: str, version: int) -> Iterator[tuple[str, str]]:
    """(path, text) of what a version of a chart changes; of the first, all its files."""
    folder = f"charts/{name}"
    yield f"{folder}/Chart.yaml", f"apiVersion: v2\nname: {name}\nversion: 1.{version}.0\n"
    yield f"{folder}/values.yaml", f"number: {version}\n"
    for part in range(20):
        if not version or part == version % 20:
            yield f"{folder}/templates/part-{part}.txt", f"# {name} {version} {part}\n{_TEXT}\n"


def run(*argv: str | Path, cwd: Path | None = None) -> None:
    """Run a program that must succeed."""
    command = [str(each) for each in argv]
    completed = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if completed.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {completed.stderr}")


class Rebuild(ABC):
    """A repository of charts made from tags, by us and by the loop."""

    system: str

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self.url = url
        self._out = folder / "ours"

    @abstractmethod
    def export(self, tag: str, chart: str, place: Path) -> None:
        """Write the chart of a tag to a folder by the system's own command."""

    def ours(self) -> None:
        words = ["--source", self.url, "--charts", "charts/*", "--tags", "{name}-{version}"]
        command = [sys.executable, "-m", "pipeline_steps", "regenerate", *words, "--quiet"]
        run(*command, "--to", self._out.as_uri(), cwd=self._folder)

    def clean(self) -> None:
        for name in ("ours", ".pipeline"):
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def loop(self) -> float:
        """Seconds of the plain loop for all versions."""
        versions = [(chart, version) for chart in range(CHARTS) for version in range(VERSIONS)]
        step = max(1, len(versions) // SAMPLE)
        sample, start = versions[::step], time.perf_counter()
        for chart, version in sample:
            place = self._folder / "exported"
            self.export(f"chart-{chart:03}-1.{version}.0", f"chart-{chart:03}", place)
            run(HELM, "package", place, "--destination", self._folder / "theirs")
            shutil.rmtree(place)
        return (time.perf_counter() - start) / len(sample) * len(versions)

    def rows(self) -> list[Row]:
        times, again, loops = [], [], []
        for _ in range(3):
            self.clean()
            loops.append(self.loop())
            times.append(once(self.ours))
            again.append(once(self.ours))
        loop, total = statistics.median(loops), f"{CHARTS * VERSIONS:,}"
        name = self.system
        return [
            Row(
                f"regenerate {total} versions from {name} / loop",
                statistics.median(times),
                loop,
                0.1,
            ),
            Row(f"the same again, {name} / loop", statistics.median(again), loop, 0.01),
        ]


class History(ABC):
    """A checkout of a long history: what steps ask, and the commands that read the same. base: the
    revision that is CHANGED before the newest.
    """

    system: str

    def __init__(self, folder: Path, checkout: Path, base: str) -> None:
        self.checkout = checkout
        self.exported = folder / "plain"
        self.base = base

    def content(self) -> None:
        with kinds.share_sources():
            assert Checkout(load(start=self.checkout, environ={})).chart("chart-000").content

    @abstractmethod
    def plain_content(self) -> None:
        """The newest revision, what differs from it, and an export of a chart."""

    def selection(self) -> None:
        with kinds.share_sources():
            source = kinds.open_source(self.checkout)
            assert source.changed(source.revision(self.base), source.revision(), "")

    @abstractmethod
    def plain_selection(self) -> None:
        """Two revisions, and the paths that differ between them."""

    def version(self) -> None:
        with kinds.share_sources():
            checkout = Checkout(load(start=self.checkout, environ={}))
            assert checkout.mainline_position(checkout.chart("chart-000"))

    @abstractmethod
    def plain_version(self) -> None:
        """The content, and the newest revisions that changed a chart and pipeline.yaml."""

    def rows(self) -> list[Row]:
        pairs = {
            "content": (self.content, self.plain_content),
            "selection": (self.selection, self.plain_selection),
            "version": (self.version, self.plain_version),
        }
        return [
            Row(
                f"{self.system}, {REVISIONS:,} revisions: {name} / commands",
                *alternately(*pair, ROUNDS),
                2,
            )
            for name, pair in pairs.items()
        ]
