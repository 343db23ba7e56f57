"""git: a history of 10,000 revisions, against git alone.

python -m benchmarks.git        # these rows alone; SHORT=1: a tenth of it
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import long_histories
from benchmarks.long_histories import CHANGED, CHARTS, PIPELINE, REVISIONS, chart_files, run
from benchmarks.rows import Row, alone


def make(folder: Path, charts: int, revisions: int) -> Path:
    """A new checkout with so many revisions of charts. It has pipeline.yaml."""
    run("git", "init", "-q", "-b", "main", folder)
    commits: list[dict[str, str]] = [{"pipeline.yaml": PIPELINE}]
    commits += [dict(chart_files(f"chart-{chart:03}", 0)) for chart in range(charts)]
    while len(commits) < revisions:
        values = f"charts/chart-{len(commits) % charts:03}/values.yaml"
        commits.append({values: f"number: {len(commits)}\n"})
    stream = "".join(_commit(number, files) for number, files in enumerate(commits))
    command = ["git", "-C", str(folder), "fast-import", "--quiet"]
    subprocess.run(command, input=stream, text=True, check=True)
    run("git", "reset", "-q", "--hard", cwd=folder)
    return folder


def _commit(number: int, files: dict[str, str]) -> str:
    """One commit as fast-import reads it."""
    changes = (f"M 644 inline {path}\n{_data(text)}" for path, text in files.items())
    who = f"committer x <x@example.com> {1577836800 + number} +0000\n"
    return f"commit refs/heads/main\n{who}{_data('x')}{''.join(changes)}\n"


def _data(text: str) -> str:
    return f"data {len(text.encode())}\n{text}\n"


class History(long_histories.History):
    system = "git"

    def __init__(self, folder: Path) -> None:
        checkout = make(folder / "long-git", CHARTS, REVISIONS)
        super().__init__(folder, checkout, f"HEAD~{CHANGED}")

    def plain_content(self) -> None:
        shutil.rmtree(self.exported, ignore_errors=True)
        run("git", "rev-parse", "HEAD", cwd=self.checkout)
        run("git", "status", "--porcelain", cwd=self.checkout)
        archive = ("git", "archive", "-o", f"{self.exported}.tar", "HEAD", "charts/chart-000")
        run(*archive, cwd=self.checkout)
        self.exported.mkdir()
        run("tar", "-xf", f"{self.exported}.tar", "-C", self.exported)

    def plain_selection(self) -> None:
        run("git", "rev-parse", "HEAD", cwd=self.checkout)
        run("git", "rev-parse", self.base, cwd=self.checkout)
        run("git", "diff", "--name-only", self.base, "HEAD", cwd=self.checkout)

    def plain_version(self) -> None:
        self.plain_content()
        run("git", "log", "-1", "--first-parent", "-m", "--", "charts/chart-000", cwd=self.checkout)
        run("git", "log", "-1", "--first-parent", "-m", "--", "pipeline.yaml", cwd=self.checkout)
        run("git", "rev-list", "--count", "HEAD", cwd=self.checkout)


def rows(folder: Path) -> list[Row]:
    """All rows; `folder` is empty."""
    return History(folder).rows()


if __name__ == "__main__":
    sys.exit(alone(rows))
