"""Subversion: a history of 10,000 revisions, and 1,000 chart versions from tags, against svn alone.

python -m benchmarks.subversion        # these rows alone; SHORT=1: a tenth of it
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from benchmarks import long_histories
from benchmarks.long_histories import (
    CHANGED,
    CHARTS,
    PIPELINE,
    REVISIONS,
    VERSIONS,
    chart_files,
    run,
)
from benchmarks.rows import Row, alone


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
           ("add", "trunk/pipeline.yaml", PIPELINE.encode()))  # fmt: skip
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
    for path, text in chart_files(name, version):
        yield action, f"trunk/{path}", text.encode()


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


class Rebuild(long_histories.Rebuild):
    system = "svn"

    def export(self, tag: str, chart: str, place: Path) -> None:
        run("svn", "export", "--quiet", f"{self.url}/tags/{tag}/charts/{chart}", place)


class History(long_histories.History):
    system = "svn"

    def __init__(self, folder: Path) -> None:
        self._url = make(folder / "long", CHARTS, 2, REVISIONS)
        checkout = folder / "copy"
        run("svn", "checkout", "--quiet", f"{self._url}/trunk", checkout)
        super().__init__(folder, checkout, str(REVISIONS - CHANGED))

    def plain_content(self) -> None:
        shutil.rmtree(self.exported, ignore_errors=True)
        run("svn", "info", self.checkout)
        run("svn", "status", self.checkout)
        run("svn", "export", "--quiet", self.checkout / "charts/chart-000", self.exported)

    def plain_selection(self) -> None:
        run("svn", "info", self.checkout)
        run("svn", "info", "-r", self.base, self.checkout)
        run("svn", "diff", "--summarize", "-r", f"{self.base}:{REVISIONS}", f"{self._url}/trunk")

    def plain_version(self) -> None:
        self.plain_content()
        run("svn", "log", "--limit", "1", self.checkout / "charts/chart-000")
        run("svn", "log", "--limit", "1", self.checkout / "pipeline.yaml")


def rows(folder: Path) -> list[Row]:
    """All rows; `folder` is empty."""
    tagged = make(folder / "tagged", CHARTS, VERSIONS, 0)
    return [*History(folder).rows(), *Rebuild(folder, tagged).rows()]


if __name__ == "__main__":
    sys.exit(alone(rows))
