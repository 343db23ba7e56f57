"""Every fault, and its figures as one table.

    python -m tests.faults [--full] [--seed N] [--only T1,T3 | --without T1c,T11]

Exit codes: 0 all as demanded, 1 not.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults import (
    deploys,
    errors,
    filled,
    kills,
    links,
    power,
    publishers,
    pushes,
    records,
    releases,
    same,
    signals,
    sources,
    waiting,
)
from tests.faults.figures import Figure, Settings, show, timed
from tests.faults.world import World, worlds

Test = Callable[[Sequence[World], Settings], list[Figure]]
TESTS: dict[str, Test] = {
    "T1": kills.at_every_call,
    "T1b": kills.at_random,
    "T1c": waiting.at_random,
    "T1d": filled.at_every_request,
    "T1e": sources.killed_in_every_system,
    "T2": power.cuts,
    "T3": errors.at_every_call,
    "T4b": pushes.together,
    "T4": publishers.distinct,
    "T4c": publishers.shared,
    "T4d": publishers.rivals,
    "T4e": publishers.killed,
    "T10": signals.at_random,
    "T11": deploys.at_random,
    "T12": same.everywhere,
    "T13": records.bits,
    "T18": links.planted,
    "R13": records.writers,
    "X1": releases.refused_or_harmless,
    "X2": releases.released,
}
#: Tests that break nothing in a world, and those that take no more than the code from one.
WITHOUT_WORLDS = {"T1e", "X1", "X2"}
CODE_ONLY = {"T1c", "T11"}
NEW_MOUNTS = 0x00020000


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--full", action="store_true", default=os.environ.get("FULL", "") not in ("", "0")
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6)),
    )
    parser.add_argument("--only", default="", help="ids of tests, with commas between them")
    parser.add_argument("--without", default="", help="ids of tests to leave out")
    arguments = parser.parse_args()
    settings = Settings(arguments.full, arguments.seed, workers=max(2, os.cpu_count() or 2))
    chosen = arguments.only.split(",") if arguments.only else list(TESTS)
    chosen = [name for name in chosen if name not in arguments.without.split(",")]
    logging.getLogger("pipeline_steps").setLevel(
        logging.CRITICAL
    )  # torn lines are what is wanted here
    # Background jobs of a shell ignore it, and all that they start would, until it says otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        in_memory(Path(folder))
        try:
            in_worlds = set(chosen) - WITHOUT_WORLDS
            needed = settings.workers if in_worlds - CODE_ONLY else min(1, len(in_worlds))
            broken = worlds(Path(folder), needed)
            figures = [figure for name in chosen for figure in ran(name, broken, settings)]
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
    good = show(figures, settings)
    print(f"{time.monotonic() - began:.0f} s")
    return 0 if good else 1


def ran(name: str, broken: Sequence[World], settings: Settings) -> list[Figure]:
    """The figures of one test."""
    print(f"{name} …", file=sys.stderr, flush=True)
    return timed(lambda: TESTS[name](broken, settings))


def in_memory(folder: Path) -> None:
    """Mount a file system in memory on `folder`, which nobody else sees: fsync costs nothing, all
    goes at the end.

    Another one is for what libfaketime leaves when its process is killed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_MOUNTS):
        raise SystemExit("the faults need root: they mount file systems of their own")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "faults", folder], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "faults", "/dev/shm"], check=True)


if __name__ == "__main__":
    sys.exit(main())
