"""Subversion: a history of 10,000 revisions, and 1,000 chart versions from tags, against svn alone.

    python -m benchmarks.subversion        # these rows alone; SHORT=1: a tenth of it

The loop (`svn export` of a tag's chart, `helm package`) is measured on a sample of the versions, and
its time for all is the mean of these times the versions.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from benchmarks.rows import Row, alone, alternately, once
from pipeline_steps.config.config_file import load
from pipeline_steps.sources import kinds
from pipeline_steps.workspace.checkout import Checkout

SCALE = 10 if os.environ.get("SHORT") else 1
CHARTS, VERSIONS, REVISIONS = 20, 50 // SCALE, 10_000 // SCALE
SAMPLE, ROUNDS = 20, 5
HELM = os.environ.get("HELM", "helm")
_TEXT = "\n".join(f"line {number}: {{{{ .Values.key{number} }}}}" for number in range(40))
_PIPELINE = "charts:\n  - path: charts/*\n"


def make(folder: Path, charts: int, versions: int, revisions: int) -> str:
    """The URL of a new repository: `versions` of each chart, all tagged, in at least so many
    revisions. Its trunk has pipeline.yaml.
    """
    run("svnadmin", "create", folder)
    command = ["svnadmin", "load", "--quiet", "--no-flush-to-disk", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        _write(process.stdin, charts, versions, revisions)
        process.stdin.close()
    if process.returncode:
        raise SystemExit("svnadmin load failed")
    return folder.as_uri()


def _write(stream: IO[bytes], charts: int, versions: int, revisions: int) -> None:
    stream.write(b"SVN-fs-dump-format-version: 2\n\n")
    number = 0

    def commit(*nodes: tuple[str, str, bytes | None]) -> None:
        nonlocal number
        number += 1
        properties = _properties({"svn:log": "x", "svn:date": f"2020-01-01T00:00:00.{number:06}Z"})
        _record(stream, {"Revision-number": str(number)}, properties, None)
        for node in nodes:
            _node(stream, *node, number)

    commit(*(("folder", name, None) for name in ("trunk", "tags", "branches", "trunk/charts")),
           ("add", "trunk/pipeline.yaml", _PIPELINE.encode()))  # fmt: skip
    for version in range(versions):
        for chart in range(charts):
            name = f"chart-{chart:03}"
            commit(*_files(name, version))
            commit(("tag", f"tags/{name}-1.{version}.0", None))
    while number < revisions:
        values = f"trunk/charts/chart-{number % charts:03}/values.yaml"
        commit(("change", values, f"number: {number}\n".encode()))


def _files(name: str, version: int) -> Iterator[tuple[str, str, bytes | None]]:
    folder, action = f"trunk/charts/{name}", "change" if version else "add"
    if not version:
        yield "folder", folder, None
        yield "folder", f"{folder}/templates", None
    metadata = f"apiVersion: v2\nname: {name}\nversion: 1.{version}.0\n"
    yield action, f"{folder}/Chart.yaml", metadata.encode()
    yield action, f"{folder}/values.yaml", f"number: {version}\n".encode()
    for part in range(20):
        if not version or part == version % 20:
            text = f"# {name} {version} {part}\n{_TEXT}\n"
            yield action, f"{folder}/templates/part-{part}.txt", text.encode()


def _node(stream: IO[bytes], action: str, path: str, data: bytes | None, number: int) -> None:
    kind = "file" if action in ("add", "change") else "dir"
    headers = {"Node-path": path, "Node-kind": kind}
    headers["Node-action"] = "change" if action == "change" else "add"
    if action == "tag":
        headers.update({"Node-copyfrom-rev": str(number - 1), "Node-copyfrom-path": "trunk"})
    _record(stream, headers, None, data)


def _record(
    stream: IO[bytes], headers: dict[str, str], properties: bytes | None, data: bytes | None
) -> None:
    if properties is not None:
        headers["Prop-content-length"] = str(len(properties))
    if data is not None:
        headers["Text-content-length"] = str(len(data))
    body = (properties or b"") + (data or b"")
    headers["Content-length"] = str(len(body))
    stream.write("".join(f"{name}: {value}\n" for name, value in headers.items()).encode())
    stream.write(b"\n" + body + b"\n\n")


def _properties(values: dict[str, str]) -> bytes:
    lines = (f"K {len(k)}\n{k}\nV {len(v)}\n{v}\n" for k, v in values.items())
    return "".join(lines).encode() + b"PROPS-END\n"


def run(*argv: str | Path, cwd: Path | None = None) -> None:
    """Run a program that must succeed."""
    command = [str(each) for each in argv]
    completed = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if completed.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {completed.stderr}")


class Rebuild:
    """A repository of charts made from tags, by us and by the loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = make(folder / "tagged", CHARTS, VERSIONS, 0)
        self._out = folder / "ours"

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
            tag, place = f"chart-{chart:03}-1.{version}.0", self._folder / "exported"
            path = f"{self.url}/tags/{tag}/charts/chart-{chart:03}"
            run("svn", "export", "--quiet", path, place)
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
        loop, total = statistics.median(loops), f"{CHARTS * VERSIONS:,} versions"
        return [
            Row(f"regenerate {total} from svn / loop", statistics.median(times), loop, 0.1),
            Row(f"the same again, svn, {total} / loop", statistics.median(again), loop, 0.01),
        ]


class History:
    """A working copy of a long history: what steps ask, and the commands that read the same."""

    def __init__(self, folder: Path) -> None:
        self._url = make(folder / "long", CHARTS, 2, REVISIONS)
        self._copy = folder / "copy"
        self._export = folder / "plain"
        run("svn", "checkout", "--quiet", f"{self._url}/trunk", self._copy)
        self._base = REVISIONS - 10

    def content(self) -> None:
        with kinds.share_sources():
            assert Checkout(load(start=self._copy, environ={})).chart("chart-000").content

    def plain_content(self) -> None:
        shutil.rmtree(self._export, ignore_errors=True)
        run("svn", "info", self._copy)
        run("svn", "status", self._copy)
        run("svn", "export", "--quiet", self._copy / "charts/chart-000", self._export)

    def selection(self) -> None:
        with kinds.share_sources():
            source = kinds.open_source(self._copy)
            assert source.changed(source.revision(str(self._base)), source.revision(), "")

    def plain_selection(self) -> None:
        run("svn", "info", self._copy)
        run("svn", "info", "-r", str(self._base), self._copy)
        run("svn", "diff", "--summarize", "-r", f"{self._base}:{REVISIONS}", f"{self._url}/trunk")

    def version(self) -> None:
        with kinds.share_sources():
            checkout = Checkout(load(start=self._copy, environ={}))
            assert checkout.mainline_position(checkout.chart("chart-000"))

    def plain_version(self) -> None:
        self.plain_content()
        run("svn", "log", "--limit", "1", self._copy / "charts/chart-000")
        run("svn", "log", "--limit", "1", self._copy / "pipeline.yaml")

    def rows(self) -> list[Row]:
        pairs = {
            "content": (self.content, self.plain_content),
            "selection": (self.selection, self.plain_selection),
            "version": (self.version, self.plain_version),
        }
        return [
            Row(f"svn, {REVISIONS:,} revisions: {name} / commands", *alternately(*pair, ROUNDS), 2)
            for name, pair in pairs.items()
        ]


def rows(folder: Path) -> list[Row]:
    """All rows; `folder` is empty."""
    return [*History(folder).rows(), *Rebuild(folder).rows()]


if __name__ == "__main__":
    sys.exit(alone(rows))
