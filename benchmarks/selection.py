"""Selecting for one commit among 1,000 charts, in git, Bazaar and Subversion: seconds, and that
they hardly grow with the files of the charts that it left alone: the source lists these, nothing
reads them.

python -m benchmarks.selection        # these rows alone; SHORT=1: a tenth of it
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bazaar import brz
from benchmarks.long_histories import PIPELINE, SCALE, run
from benchmarks.rows import Row, alone, alternately
from pipeline_steps.cli.selection import affected
from pipeline_steps.config.config_file import load
from pipeline_steps.sources import kinds
from pipeline_steps.workspace.checkout import Checkout

CHARTS = 1000 // SCALE
#: Files of each chart, in the two checkouts that are compared.
FEW, MANY = 3, 10
ROUNDS = 5
IDENTITY = {
    "GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x@example.com",
    "GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x@example.com",
    "BRZ_EMAIL": "x <x@example.com>",
}  # fmt: skip


def write(folder: Path, files: int) -> None:
    """pipeline.yaml and CHARTS charts of so many files each."""
    folder.mkdir()
    (folder / "pipeline.yaml").write_text(PIPELINE)
    for number in range(CHARTS):
        chart = folder / f"charts/chart-{number:04}"
        (chart / "templates").mkdir(parents=True)
        (chart / "Chart.yaml").write_text(f"apiVersion: v2\nname: {chart.name}\nversion: 1.0.0\n")
        for part in range(files - 1):
            (chart / f"templates/part-{part}.yaml").write_text(f"# {number} {part}\n" * 40)


def edit(checkout: Path) -> None:
    (checkout / "charts/chart-0000/templates/part-0.yaml").write_text("# changed\n")


def git(folder: Path, files: int) -> tuple[Path, str]:
    """A checkout whose newest commit changes one chart, and the revision before it."""
    write(folder / "git", files)
    commit = ("git", "commit", "-q", "-m", "x")
    for words in (("git", "init", "-q"), ("git", "add", "-A"), commit):
        run(*words, cwd=folder / "git")
    edit(folder / "git")
    run(*commit, "-a", cwd=folder / "git")
    return folder / "git", "HEAD~1"


def bazaar(folder: Path, files: int) -> tuple[Path, str]:
    """The same in a branch of Bazaar."""
    write(folder / "bzr", files)
    commit = ("commit", "-q", "-m", "x")
    for words in (("init", "-q"), ("add", "-q"), commit):
        brz(*words, cwd=folder / "bzr")
    edit(folder / "bzr")
    brz(*commit, cwd=folder / "bzr")
    return folder / "bzr", "1"


def subversion(folder: Path, files: int) -> tuple[Path, str]:
    """The same in a working copy of Subversion, which is updated after the commit."""
    write(folder / "imported", files)
    run("svnadmin", "create", folder / "repository")
    url = f"{(folder / 'repository').as_uri()}/trunk"
    run("svn", "import", "-q", "-m", "x", folder / "imported", url)
    run("svn", "checkout", "-q", url, folder / "svn")
    edit(folder / "svn")
    run("svn", "commit", "-q", "-m", "x", cwd=folder / "svn")
    run("svn", "update", "-q", cwd=folder / "svn")
    return folder / "svn", "1"


SYSTEMS = {"git": git, "bzr": bazaar, "svn": subversion}


def select(checkout: Path, base: str) -> None:
    """What a step with --since does before it looks at a chart."""
    with kinds.share_sources():
        opened = Checkout(load(start=checkout, environ={}))
        assert affected(opened, opened.source.revision(base)) == ("chart-0000",)


def rows(folder: Path) -> list[Row]:
    """All rows; `folder` is not used, as the checkouts are made in memory."""
    return [row for name in SYSTEMS for row in measured(name)]


def measured(name: str) -> Iterator[Row]:
    """Of one system: seconds against one second, and many files against few."""
    os.environ.update(IDENTITY)
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/dev/shm") as memory:
        places = []
        for files in (MANY, FEW):
            place = Path(memory, str(files))
            place.mkdir()
            places.append(SYSTEMS[name](place, files))
        many, few = alternately(lambda: select(*places[0]), lambda: select(*places[1]), ROUNDS)
    yield Row(f"{name}, {CHARTS:,} charts: one commit selected / 1 s", many, 1.0, 1.0)
    yield Row(f"{name}, charts of {MANY} files / of {FEW}", many, few, 2.0)


if __name__ == "__main__":
    sys.exit(alone(rows))
