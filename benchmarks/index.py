"""One version more in a large index, against `helm repo index --merge`; both as processes, with
their memory.

python -m benchmarks.index      # these rows alone, without engine and node
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.rows import Row, alone
from tests.support.charts import packed
from tests.support.helms import helm

#: Charts, and versions in all: few with a long history, and many.
SIZES = ((60, 20_000), (500, 10_000))
ROUNDS = 3
ADD = """
import sys
from pathlib import Path
from pipeline_steps.charts import archive
from pipeline_steps.repositories.kinds import open_writable
path = Path(sys.argv[2])
open_writable(sys.argv[1], {}).publish(archive.open_archive(path.read_bytes(), path.name))
"""
WORDS = "a fast scalable database queue and proxy with high availability metrics backups for every cluster".split()
ENTRY = """\
  - annotations:
      artifacthub.io/changes: |
        - kind: changed
          description: "Raise the application to {version}"
        - kind: fixed
          description: It's ready in time
      category: Infrastructure
      licenses: Apache-2.0
    apiVersion: v2
    appVersion: {version}
    created: "2026-01-02T03:04:05.123456789Z"
    dependencies:
    - condition: postgresql.enabled
      name: postgresql
      repository: https://charts.example.com/stable
      version: 12.x.x
    - name: common
      repository: https://charts.example.com/stable
      tags:
      - common
      version: 2.x.x
    description: {description}
    digest: {digest}
    home: https://example.com/{name}
    icon: https://example.com/{name}/icons/{name}-stack-220x234.png
    keywords:
    - {name}
    - database
    - sql
    maintainers:
    - email: team@example.com
      name: Team
      url: https://example.com/team
    name: {name}
    sources:
    - https://example.com/{name}/source
    type: application
    urls:
    - {name}-{version}.tgz
    version: {version}
"""


def index(charts: int, versions: int) -> str:
    """An index as helm writes it, with what entries of public repositories have."""
    dice, parts = random.Random(1), ["apiVersion: v1\nentries:\n"]
    for name in (f"chart-{number:03}" for number in range(charts)):
        parts.append(f"  {name}:\n")
        for number in reversed(range(versions // charts + 1)):
            version = f"{number // 100}.{number // 10 % 10}.{number % 10}"
            description = " ".join(dice.choices(WORDS, k=12))
            digest = hashlib.sha256(f"{name} {version}".encode()).hexdigest()
            parts.append(
                ENTRY.format(name=name, version=version, description=description, digest=digest)
            )
    return "".join([*parts, 'generated: "2026-01-02T03:04:05.123456789Z"\n'])


def rows(folder: Path) -> list[Row]:
    """Two rows for each size: seconds, and MiB of memory at most."""
    return [row for size in SIZES for row in _rows(folder / str(size[0]), *size)]


def _rows(folder: Path, charts: int, versions: int) -> list[Row]:
    old, ours, theirs = folder / "index.yaml", folder / "ours", folder / "theirs"
    ours.mkdir(parents=True)
    old.write_text(index(charts, versions))
    shutil.copy(old, ours)
    measured = []
    for number in range(ROUNDS + 1):
        chart = packed("chart-030", f"9.0.{number}")
        shutil.rmtree(theirs, ignore_errors=True)
        theirs.mkdir()
        (theirs / chart.file_name).write_bytes(chart.tgz)
        (folder / chart.file_name).write_bytes(chart.tgz)
        add = (sys.executable, "-c", ADD, ours.as_uri(), str(folder / chart.file_name))
        merge = (str(helm(4)), "repo", "index", str(theirs), "--merge", str(old))
        measured.append((*process(*add), *process(*merge)))
    our_time, our_memory, their_time, their_memory = (
        statistics.median(column) for column in zip(*measured[1:], strict=True)
    )
    what = f"a version more: {versions:,} of {charts} charts"
    return [
        Row(f"{what} / helm", our_time, their_time, 0.1),
        Row("the same: memory / helm's", our_memory, their_memory, 0.5, "MiB"),
    ]


def process(*argv: str) -> tuple[float, float]:
    """Seconds and MiB that a program takes, which must succeed."""
    began = time.perf_counter()
    child = subprocess.Popen(argv)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(argv)} failed with {child.returncode}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


if __name__ == "__main__":
    raise SystemExit(alone(rows))
