"""Bazaar: a history of 10,000 revisions, and 1,000 chart versions from tags, against brz alone.

python -m benchmarks.bazaar        # these rows alone; SHORT=1: a tenth of it
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

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

#: Run by brz's own Python: revisions from lines of JSON, [{path: text}, tag or null], without a
#: working tree in between.
IMPORT = """
import json, sys
import breezy, breezy.bzr
from breezy import commit, controldir
breezy.initialize()
branch = controldir.ControlDir.create_branch_convenience(
    sys.argv[1], force_new_tree=False, format=controldir.format_registry.make_controldir("bzr"))
tree = branch.create_memorytree()
folders = {""}
with tree.lock_write():
    tree.add([""], ["directory"], [b"root-id"])
    for line in sys.stdin:
        files, tag = json.loads(line)
        for path, text in files.items():
            parts = path.split("/")[:-1]
            for depth in range(1, len(parts) + 1):
                folder = "/".join(parts[:depth])
                if folder not in folders:
                    folders.add(folder)
                    tree.mkdir(folder)
            if not tree.has_filename(path):
                tree.add([path], ["file"])
            tree.put_file_bytes_non_atomic(path, text.encode())
        revision = tree.commit("x", timestamp=1577836800.0, timezone=0, committer="x <x@x>",
                               reporter=commit.NullCommitReporter())
        if tag:
            branch.tags.set_tag(tag, revision)
"""


def brz(*arguments: str | Path, cwd: Path | None = None) -> None:
    # brz looks for its Python beside the first python3 on PATH.
    run("env", f"PATH=/usr/bin:{os.environ['PATH']}", "brz", *arguments, cwd=cwd)


def make(folder: Path, charts: int, versions: int, revisions: int) -> Path:
    """A new branch without a working tree: `versions` of each chart, all tagged, in at least so
    many revisions. It has pipeline.yaml.
    """
    lines: list[tuple[dict[str, str], str | None]] = [({"pipeline.yaml": PIPELINE}, None)]
    for version in range(versions):
        for chart in range(charts):
            name = f"chart-{chart:03}"
            lines.append((dict(chart_files(name, version)), f"{name}-1.{version}.0"))
    while len(lines) < revisions:
        values = f"charts/chart-{len(lines) % charts:03}/values.yaml"
        lines.append(({values: f"number: {len(lines)}\n"}, None))
    # In memory, as brz waits for the disk at each revision.
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/dev/shm") as memory:
        subprocess.run(
            ["/usr/bin/python3", "-c", IMPORT, f"{memory}/branch"],
            input="".join(f"{json.dumps(line)}\n" for line in lines),
            text=True,
            check=True,
            env={**os.environ, "BRZ_LOG": os.devnull},
        )
        shutil.move(f"{memory}/branch", folder)
    return folder


class Rebuild(long_histories.Rebuild):
    system = "bzr"

    def export(self, tag: str, chart: str, place: Path) -> None:
        brz("export", "-q", "-r", f"tag:{tag}", place, f"{self.url}/charts/{chart}")


class History(long_histories.History):
    system = "bzr"

    def __init__(self, folder: Path) -> None:
        checkout = make(folder / "long", CHARTS, 2, REVISIONS)
        brz("checkout", "-q", cwd=checkout)
        super().__init__(folder, checkout, str(REVISIONS - CHANGED))

    def plain_content(self) -> None:
        shutil.rmtree(self.exported, ignore_errors=True)
        brz("revision-info", cwd=self.checkout)
        brz("status", cwd=self.checkout)
        brz("export", "-q", self.exported, "charts/chart-000", cwd=self.checkout)

    def plain_selection(self) -> None:
        brz("revision-info", "-r", f"{self.base}..-1", cwd=self.checkout)
        brz("status", "-S", "-r", f"{self.base}..-1", cwd=self.checkout)

    def plain_version(self) -> None:
        self.plain_content()
        brz("log", "-q", "--limit", "1", "charts/chart-000", cwd=self.checkout)
        brz("log", "-q", "--limit", "1", "pipeline.yaml", cwd=self.checkout)


def rows(folder: Path) -> list[Row]:
    """All rows; `folder` is empty."""
    tagged = make(folder / "tagged", CHARTS, VERSIONS, 0)
    return [*History(folder).rows(), *Rebuild(folder, str(tagged)).rows()]


if __name__ == "__main__":
    sys.exit(alone(rows))
