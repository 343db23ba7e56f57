"""`make bench`: prints a table of ratios, ours over what a user would do without us.

    python -m benchmarks [--only "main job,nothing to do"]

Times are medians of several rounds, but for: memory and the widest case, measured once; the loop
that `regenerate` is compared with, scaled up from parts; the time of one attempt, the smallest of
many.

Needs an engine and a node (KUBECONFIG), which tools/lanes.py brings up. Exit code 1 when a ratio is
above its limit.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
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


def main_job(job: Job, rounds: int) -> list[Row]:
    """Source to production, alternately ours and theirs, each time with another app and another
    version.
    """
    ours, theirs = [], []
    for _ in range(rounds + 1):
        job.next_version()
        ours.append(once(job.ours))
        job.next_version()
        theirs.append(once(job.plain_script))
    took = statistics.median(ours[1:]), statistics.median(theirs[1:])
    return [Row("main job / plain script", *took, 1.0)]


def tests_alone(job: Job, rounds: int) -> list[Row]:
    """integration_test with its renderings, against helm's install and test of the same chart."""
    job.next_version()
    job.ours()
    job.plain_script()
    numbers = itertools.count()
    took = alternately(job.tests, lambda: job.plain_tests(f"alone-{next(numbers)}"), rounds)
    return [Row("integration_test / helm install + test", *took, 1.5)]


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


def jobs(folder: Path, names: list[str]) -> list[Row]:
    """Those of JOB_PARTS, in one sandbox."""
    job = Job(folder)
    with job.sandbox():
        return [row for name in names for row in JOB_PARTS[name](job)]


#: Name of a part → what measures it, in a folder of its own.
PARTS: dict[str, Callable[[Path], list[Row]]] = {
    "start": lambda _: start_up(15),
    "state and evidence": state.rows,
    "a whole repository from tags": regenerate.rows,
    "a long history in git": git.rows,
    "a long history in Bazaar": bazaar.rows,
    "a long history in Subversion": subversion.rows,
    "selecting for one commit among many charts": selection.rows,
    "a version more in a large index": index.rows,
    "packaging and publishing one chart": package.rows,
    "exporting a context, checking and verifying a chart": trust.rows,
}
#: The same of the parts that need a node, one after the other in the same checkout and sandbox.
JOB_PARTS: dict[str, Callable[[Job], list[Row]]] = {
    "main job, 4 rounds each way": partial(main_job, rounds=3),
    "integration_test alone": partial(tests_alone, rounds=5),
    "steps with nothing to do": partial(nothing_to_do, rounds=25),
}


def chosen(only: str) -> list[str]:
    """Names of parts that have one of the texts in them; texts with commas between them.

    Raises SystemExit when a text is in no name.
    """
    names = [*PARTS, *JOB_PARTS]
    texts = [text.strip() for text in only.split(",")]
    for text in texts:
        if not any(text in name for name in names):
            raise SystemExit(
                f"no benchmark has {text!r} in its name; there are: {names_of_parts()}"
            )
    return [name for name in names if any(text in name for text in texts)]


def names_of_parts() -> str:
    return "; ".join([*PARTS, *JOB_PARTS])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Parts: {names_of_parts()}.",
    )
    parser.add_argument(
        "--only", default="", help="what is in the names of the parts wanted, with commas between"
    )
    names = chosen(parser.parse_args().only)
    if "KUBECONFIG" not in os.environ:
        raise SystemExit("benchmarks need an engine and a node: make bench")
    # An installed package has its bytecode; one that may not write it would be compiled anew by
    # every process.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    rows = []
    for name in names:
        if name in PARTS:
            say(f"benchmarks: {name}")
            rows += measured(PARTS[name])
    if of_job := [name for name in names if name in JOB_PARTS]:
        say(f"benchmarks: {'; '.join(of_job)}")
        rows += measured(partial(jobs, names=of_job))
    print(table(rows))
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
