"""T4b: publishers to one branch of a git repository at once, without a lock: nothing is lost,
nothing pushed by force.

Each publisher is a process, as if on a machine of its own, and publishes one version after the
other.
"""

from __future__ import annotations

import logging
import multiprocessing
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline_steps.repositories.kinds import open_repository, open_writable
from tests.faults.figures import Figure, Settings
from tests.faults.world import World
from tests.support.charts import packed
from tests.support.gits import bare

#: Versions, and publishers that share them.
SIZE, SIZE_FULL = (40, 8), (200, 16)
#: Tries that a version may take on average.
TRIES = 5.0


class Retries(logging.Handler):
    """Counts what the budget of tries says before each try but the first."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += "next try in" in record.getMessage()


def together(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """One figure: versions that are there, and how often each was tried."""
    number, publishers = SIZE_FULL if settings.full else SIZE
    pages = bare(worlds[0].root.parent / "T4b/pages.git", core__logAllRefUpdates="always")
    url = f"git+{pages.as_uri()}"
    versions = [f"1.0.{n}" for n in range(number)]
    context = multiprocessing.get_context("fork")
    results: Any = context.Queue()
    shares = [versions[n::publishers] for n in range(publishers)]
    children = [context.Process(target=_publish, args=(url, share, results)) for share in shares]
    for child in children:
        child.start()
    counts, failures = zip(*(results.get() for _ in children), strict=True)
    for child in children:
        child.join()
    tries = 1 + sum(counts) / number
    published = set(open_repository(url, {}).versions("hello")) & set(versions)
    wrong = [text for share in failures for text in share]
    wrong += [f"{version} is missing" for version in versions if version not in published]
    wrong += _forced(pages, number) + ([f"{tries:.1f} tries a version"] if tries > TRIES else [])
    return [
        Figure(
            "T4b",
            f"git: {number} versions by {publishers} publishers at once: all there, none by force",
            f"{number}/{number}, at most {TRIES:g} tries each",
            f"{len(published)}/{number}, {tries:.2f} tries each",
            tuple(wrong),
        ),
    ]


def _publish(url: str, versions: Sequence[str], results: Any) -> None:
    log, retries = logging.getLogger("pipeline_steps"), Retries()
    log.setLevel(logging.INFO)
    log.handlers[:], log.propagate = [retries], False
    failures = []
    for version in versions:
        try:
            open_writable(url, {}).publish(packed(version=version))
        except Exception as error:  # whatever stops a publisher is the finding
            failures.append(f"{version}: {error!r}")
    results.put((retries.count, failures))


def _forced(pages: Path, number: int) -> list[str]:
    """Whether the branch ever was anything but what it is now with commits less."""

    def git(*words: str) -> list[str]:
        return subprocess.run(
            ["git", *words], cwd=pages, capture_output=True, text=True, check=True
        ).stdout.split()

    history = git("rev-list", "--first-parent", "gh-pages")
    was = git("reflog", "show", "--format=%H", "gh-pages")
    return (
        []
        if history == was and len(was) == number
        else [f"{len(was)} pushes, {len(history)} commits left"]
    )
