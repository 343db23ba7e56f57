"""`make bench`: prints a table of ratios, ours over what a user would do without us.

Times are medians of several rounds, but for: memory and the widest case, measured once; the loop
that `regenerate` is compared with, scaled up from parts; the time of one attempt, the smallest of
many.

Needs an engine and a node (KUBECONFIG), which tools/lanes.py brings up. Exit code 1 when a ratio is
above its limit.
"""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks import bazaar, git, index, package, regenerate, selection, state, subversion, trust
from benchmarks.job import Job
from benchmarks.rows import Row, alternately, measured, once, table, timed
from tools.machine import say


def run(*argv: str, cwd: Path | None = None) -> None:
    """Run a program that must succeed."""
    completed = subprocess.run(argv, cwd=cwd, capture_output=True, text=True)
    if completed.returncode:
        raise SystemExit(
            f"{' '.join(argv)} failed with "
            f"{completed.returncode}:\n{completed.stdout}{completed.stderr}"
        )


def main_job(job: Job, rounds: int) -> Row:
    """Source to production, alternately ours and theirs, each time with another app and another
    version.
    """
    ours, theirs = [], []
    for _ in range(rounds + 1):
        job.next_version()
        ours.append(once(job.ours))
        job.next_version()
        theirs.append(once(job.plain_script))
    return Row(
        "main job / plain script", statistics.median(ours[1:]), statistics.median(theirs[1:]), 1.0
    )


def tests_alone(job: Job, rounds: int) -> Row:
    """integration_test with its renderings, against helm's install and test of the same chart."""
    job.next_version()
    job.ours()
    job.plain_script()
    numbers = itertools.count()
    took = alternately(job.tests, lambda: job.plain_tests(f"alone-{next(numbers)}"), rounds)
    return Row("integration_test / helm install + test", *took, 1.5)


def nothing_to_do(job: Job, rounds: int) -> list[Row]:
    """Each making step that has nothing to do, against one `helm package`."""
    job.ours()
    chart = job.checkout / "charts/hello"
    rows = []
    for step in ("build_image", "snapshot", "integration_test", "tag_release", "promote"):
        took = alternately(
            partial(job.again, job.step(step)),
            lambda: run("helm", "package", str(chart), "--destination", str(job.folder)),
            rounds,
        )
        rows.append(Row(f"{step}, nothing to do / helm package", *took, 6.0))
        rows.append(Row(f"{step}, nothing to do / 500 ms", took[0], 0.5, 1.0))
    return rows


def start_up(rounds: int) -> list[Row]:
    """`list` and `--help` against an empty Python, in the virtual environment's own python."""
    empty = timed(lambda: run(sys.executable, "-c", "pass"), rounds)
    rows = []
    for word in ("list", "--help"):
        took = timed(partial(run, sys.executable, "-m", "pipeline_steps", word), rounds)
        rows.append(Row(f"{word} / python -c pass", took, empty, 8.0))
    return rows


def jobs(folder: Path) -> list[Row]:
    """The main job, and its steps when nothing is left to do."""
    job = Job(folder)
    with job.sandbox():
        return [main_job(job, 3), tests_alone(job, 5), *nothing_to_do(job, 25)]


#: What is measured besides the start, each in a folder of its own.
PARTS = {
    "state and evidence": state.rows,
    "a whole repository from tags": regenerate.rows,
    "a long history in git": git.rows,
    "a long history in Bazaar": bazaar.rows,
    "a long history in Subversion": subversion.rows,
    "selecting for one commit among many charts": selection.rows,
    "a version more in a large index": index.rows,
    "packaging and publishing one chart": package.rows,
    "exporting a context, checking and verifying a chart": trust.rows,
    "main job, 4 rounds each way, and steps with nothing to do": jobs,
}


def main() -> int:
    if "KUBECONFIG" not in os.environ:
        raise SystemExit("benchmarks need an engine and a node: make bench")
    # An installed package has its bytecode; one that may not write it would be compiled anew by
    # every process.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    rows = start_up(15)
    for about, part in PARTS.items():
        say(f"benchmarks: {about}")
        rows += measured(part)
    print(table(rows))
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
