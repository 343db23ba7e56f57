"""Packaging a chart, and publishing a snapshot of it, against `helm package` and `helm push` to the
same registry.

python -m benchmarks.package      # these rows alone, without engine and node
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.rows import Row, alone, alternately, once
from pipeline_steps.charts import archive
from tests.support.gits import Repo
from tests.support.helms import helm
from tests.support.registries import registry
from tests.support.sources import gathered

ROUNDS = 25


def rows(folder: Path) -> list[Row]:
    """Two rows: in this process, and the step as a process; each round of it publishes another
    content.
    """
    with registry(folder / "registry") as running:
        chart = Chart(folder, running.host)
        return [
            Row(
                "package in-process / helm package",
                *alternately(chart.pack, chart.package, ROUNDS),
                0.1,
            ),
            Row("snapshot / helm package + push", *published(chart, ROUNDS), 2.5),
        ]


def published(chart: Chart, rounds: int) -> tuple[float, float]:
    """Median seconds of both sides in turns, after a round that is not counted; commits are not
    counted either.
    """
    times = []
    for _ in range(rounds + 1):
        chart.another()
        times.append((once(chart.snapshot), once(chart.publish)))
    return statistics.median([ours for ours, _ in times[1:]]), statistics.median(
        [theirs for _, theirs in times[1:]]
    )


class Chart:
    """What `helm create` makes, in a git checkout; both sides push to one registry."""

    def __init__(self, folder: Path, host: str) -> None:
        self.folder = folder
        self.host = host
        self.number = 0
        self.repo = Repo(folder / "source", folder / "gitconfig")
        self.helm = str(helm(4))
        self.environment = {
            **os.environ,
            "HOME": str(folder),
            "GIT_CONFIG_GLOBAL": str(self.repo.config),
        }
        self.repo.put(
            "pipeline.yaml",
            f"charts: [{{path: hello}}]\nchannels: {{snapshot: {{charts: 'oci://{host}/a'}}}}\n",
        )
        self.run(self.helm, "create", "hello")
        self.repo.commit()

    def run(self, *argv: str) -> None:
        completed = subprocess.run(
            argv, cwd=self.repo.root, env=self.environment, capture_output=True, text=True
        )
        if completed.returncode:
            raise SystemExit(
                f"{' '.join(argv)} failed with "
                f"{completed.returncode}:\n{completed.stdout}{completed.stderr}"
            )

    def pack(self) -> None:
        """Files read, gathered, packed and compressed."""
        archive.pack(gathered(self.repo.root / "hello", self.repo.root))

    def package(self) -> None:
        self.run(self.helm, "package", "hello", "--destination", str(self.folder))

    def another(self) -> None:
        """Another content, committed."""
        self.number += 1
        self.repo.put("hello/templates/round.yaml", f"# {self.number}\n")
        self.repo.commit()

    def snapshot(self) -> None:
        """The step: nothing of this content is there."""
        self.run(sys.executable, "-m", "pipeline_steps", "snapshot", "--chart", "hello")

    def publish(self) -> None:
        """The same with helm."""
        version = f"1.0.0-{self.number}"
        self.run(
            self.helm, "package", "hello", "--version", version, "--destination", str(self.folder)
        )
        archived = str(self.folder / f"hello-{version}.tgz")
        self.run(self.helm, "push", archived, f"oci://{self.host}/theirs", "--plain-http")


if __name__ == "__main__":
    raise SystemExit(alone(rows))
