"""X1, X2: releases that must not happen, and their legitimate neighbours, each run end to end on
the command line.

What is released is what was tested and what the source stores: each case changes one thing between
the test and the release, or tries to bring in what nobody tested. A case that must not happen is
refused by its code and its words, or released as the source has it; nothing is published otherwise.
A neighbour that looks like one of them passes. Every case runs with charts in folders and in a
registry, and with the source in git, Bazaar and Subversion, as far as it can be tried there.
"""

from __future__ import annotations

import random
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.faults import (
    release_clusters,
    release_evidence,
    release_reviews,
    release_sources,
    release_votes,
)
from tests.faults.figures import Figure, Settings, counted, spread
from tests.faults.release_runs import Case
from tests.faults.world import World
from tests.support.registries import registry
from tests.support.release_line import Line

#: How many of each kind run when not all do.
SAMPLED = 8
AREAS = (release_sources, release_evidence, release_reviews, release_votes, release_clusters)
MUST_NOT = tuple(case for area in AREAS for case in area.MUST_NOT)
MAY = tuple(case for area in AREAS for case in area.MAY)
#: Where charts are published: kinds of repositories.
KINDS = ("file://", "oci://")


def refused_or_harmless(_worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """One figure: releases that must not happen."""
    what = "releases that must not happen: refused by name, or as the source has it"
    return _tried("X1", MUST_NOT, what, settings)


def released(_worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """One figure: neighbours of them that must happen."""
    return _tried("X2", MAY, "their legitimate neighbours: released", settings)


def _tried(id: str, cases: Sequence[Case], what: str, settings: Settings) -> list[Figure]:
    points = [(case, kind, system) for case in cases for kind in KINDS for system in case.systems]
    chosen = points
    if not settings.full:
        chosen = random.Random(settings.seed).sample(points, min(SAMPLED, len(points)))

    def run(_number: int, point: tuple[Case, str, str]) -> str:
        case, kind, system = point
        with tempfile.TemporaryDirectory(prefix="release-") as folder:
            wrong = on_line(case, kind, system, Path(folder))
        return f"{case.name} ({kind}, {system}): {wrong}" if wrong else ""

    wrong = spread(chosen, settings.workers, run)
    return [counted(id, f"{what} ({len(chosen)} of {len(points)})", chosen, wrong)]


def on_line(case: Case, kind: str, system: str, folder: Path) -> str:
    """Run a case on a line of its own, with a registry."""
    with registry(folder / "registry") as running:
        base = f"oci://{running.host}" if kind == "oci://" else f"file://{folder}"
        line = Line(folder, base, system)
        line.host = running.host
        try:
            return case.run(line)
        except (AssertionError, subprocess.CalledProcessError) as error:
            return f"{type(error).__name__}: {error}"[-600:]
