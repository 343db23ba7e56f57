"""A repository of 3,000 chart versions made from git tags, and again, against the loop that a
maintainer would write.

    python -m benchmarks.regenerate        # these rows alone; FULL=1: 30,000 versions, too

The loop (checkout, `helm package`, `helm repo index --merge` for every tag) would take half an
hour: it is measured on a sample, with indexes of several sizes up to the last one, in turns with
ours, and its time for all versions is the mean of these times the versions. Its merge grows with
the index, so that is what the whole loop would take.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks import tagged_charts
from benchmarks.rows import Row, alone, once

CHARTS, VERSIONS = 60, 50
#: Sizes of the index at which the loop is measured, as parts of the whole, and how many versions at
#: each.
PARTS, SAMPLE = (0.0, 0.34, 0.67, 1.0), 15
TINY = (300, 3_000, 30_000) if os.environ.get("FULL") else (300, 3_000)
MEMORY = 500.0
#: Many charts with few versions each, small ones, and the seconds that these may take.
WIDE, WIDE_SECONDS = (500, 20), 20.0
HELM = os.environ.get("HELM", "helm")


class Place:
    """A repository of tagged charts, and where ours and the loop put theirs."""

    def __init__(self, folder: Path, charts: int, versions: int, *, tiny: bool = False) -> None:
        self.folder = folder
        self.total = charts * versions
        self.out = folder / "ours"
        folder.mkdir()
        tagged_charts.make(folder / "source", charts, versions, tiny=tiny)

    def ours(self) -> float:
        """Seconds of one run; returns after the process has ended well."""
        return once(lambda: self.watched().wait_well())

    def watched(self) -> Watched:
        patterns = ("--charts", "charts/*", "--tags", "{name}-{version}")
        command = (
            sys.executable,
            "-m",
            "pipeline_steps",
            "regenerate",
            "--source",
            "source",
            *patterns,
        )
        return Watched([*command, "--to", self.out.as_uri(), "--quiet"], self.folder)

    def clean(self) -> None:
        """As if nothing had been made."""
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.rmtree(self.folder / ".pipeline", ignore_errors=True)

    def stored(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.out.iterdir() if path.name != ".lock"}

    def loop(self, part: float) -> float:
        """Seconds for one version of the plain loop, with an index that has `part` of all versions
        already.
        """
        work, new = self.folder / "work", self.folder / "new"
        if not work.exists():
            run("git", "clone", "--quiet", "--no-checkout", self.folder / "source", work)
        index = self.folder / "index.yaml"
        index.write_bytes(first_entries((self.out / "index.yaml").read_bytes(), part))
        tags = run("git", "-C", work, "tag").split()
        step = len(tags) // SAMPLE
        start = time.perf_counter()
        for tag in tags[step // 2 :: step][:SAMPLE]:
            new.mkdir()
            run("git", "-C", work, "checkout", "--quiet", "--force", tag)
            run(HELM, "package", work / "charts" / tag.rpartition("-")[0], "--destination", new)
            run(HELM, "repo", "index", new, "--merge", index)
            (new / "index.yaml").replace(index)
            shutil.rmtree(new)
        return (time.perf_counter() - start) / SAMPLE


class Watched:
    """A process whose memory, with that of all it starts, is looked at while it runs."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.peak = 0.0
        self._process = subprocess.Popen(command, cwd=folder)

    def wait_well(self) -> None:
        if self._process.wait():
            raise SystemExit("regenerate failed")

    def measure(self) -> float:
        """The largest sum of resident memory seen, in MiB; pages that processes share count several
        times.
        """
        watcher = threading.Thread(target=self._watch)
        watcher.start()
        self.wait_well()
        watcher.join()
        return self.peak

    def _watch(self) -> None:
        while self._process.poll() is None:
            self.peak = max(self.peak, sum(map(resident, family(self._process.pid))))
            time.sleep(0.05)


def family(pid: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(
                int(path.parent.name)
            )
        except OSError:
            continue
    pids = [pid]
    for parent in pids:
        pids += parents.get(parent, [])
    return pids


def resident(pid: int) -> float:
    """MiB."""
    try:
        return (
            int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            * os.sysconf("SC_PAGESIZE")
            / 2**20
        )
    except OSError:
        return 0.0


def first_entries(index: bytes, part: float) -> bytes:
    """An index with the first `part` of each chart's versions."""
    import yaml

    whole = yaml.load(index, yaml.CSafeLoader)
    kept = {
        name: entries[len(entries) - round(part * len(entries)) :]
        for name, entries in whole["entries"].items()
    }
    whole["entries"] = {name: entries for name, entries in kept.items() if entries}
    return yaml.dump(whole, Dumper=yaml.CSafeDumper).encode()


def run(*argv: str | Path) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def rows(folder: Path) -> list[Row]:
    """All of them. folder: empty, on a real disk."""
    place = Place(folder / "charts", CHARTS, VERSIONS)
    memory = place.watched().measure()
    first, second, theirs = [], [], []
    before = place.stored()
    for part in PARTS:
        theirs.append(place.loop(part))
        place.clean()
        first.append(place.ours())
        second.append(place.ours())
        if place.stored() != before:
            raise SystemExit("regenerated again, it is not the same")
    loop = statistics.mean(theirs) * place.total
    summary = " ".join(
        f"{round(part * place.total)}: {took:.2f} s"
        for part, took in zip(PARTS, theirs, strict=True)
    )
    print(
        f"loop, a version with an index of {summary}; {place.total} versions: {loop:.0f} s "
        "(scaled)",
        file=sys.stderr,
    )
    flat = per_version(folder)
    return [
        *wide(folder),
        Row(
            f"15 x regenerate {place.total} versions / loop",
            15 * statistics.median(first),
            loop,
            1.0,
        ),
        Row("200 x the same again / loop", 200 * statistics.median(second), loop, 1.0),
        Row(f"peak memory / {MEMORY:.0f} MiB", memory, MEMORY, 1.0, "MiB"),
        *(
            Row(f"a version of {size} / of {TINY[0]}", flat[size], flat[TINY[0]], 1.3)
            for size in TINY[1:]
        ),
    ]


def wide(folder: Path) -> list[Row]:
    """Many charts, once: seconds and memory against what they may be."""
    place = Place(folder / "wide", *WIDE, tiny=True)
    began = time.perf_counter()
    memory = place.watched().measure()
    took = time.perf_counter() - began
    what = f"{place.total:,} versions of {WIDE[0]} charts"
    return [
        Row(f"{what} / {WIDE_SECONDS:.0f} s", took, WIDE_SECONDS, 1.0),
        Row(f"the same: peak memory / {MEMORY:.0f} MiB", memory, MEMORY, 1.0, "MiB"),
    ]


def per_version(folder: Path) -> dict[int, float]:
    """Number of small versions → seconds that one of them takes, measured in turns."""
    places = {
        size: Place(folder / f"tiny-{size}", CHARTS, size // CHARTS, tiny=True) for size in TINY
    }
    times: dict[int, list[float]] = {size: [] for size in TINY}
    for _ in range(3):
        for size, place in places.items():
            place.clean()
            times[size].append(place.ours() / size)
    return {size: statistics.median(size_times) for size, size_times in times.items()}


if __name__ == "__main__":
    raise SystemExit(alone(rows))
