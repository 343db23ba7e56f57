#!/usr/bin/env python3
"""The checks and tests of this checkout, lane by lane, with the time of each.

    python3 tools/lanes.py check     # lint, unit, contract: minutes, no engine, no cluster; one test needs root
    python3 tools/lanes.py test      # all lanes, with a real engine and a real node, started and ended here
    python3 tools/lanes.py faults    # the table of tests/faults, as root; FULL=1 for every point, SEED=N to repeat one
    python3 tools/lanes.py mutants   # the guards of tests/mutants, broken one by one
    python3 tools/lanes.py bench     # the table of benchmarks/

Installs what is missing and says so. A lane whose real system cannot be had fails. Exit codes: 0
all lanes passed, 1 a lane failed, 7 this machine cannot.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

if not __package__:  # run as a file: let `tools` be found beside this one
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from tools import environment, systems, users
from tools.machine import ends_with_exit_code, find_program, say, seconds_since
from tools.programs import debian, programs

ROOT = environment.ROOT
BASE_PACKAGES = ("python", "registry", "sources")
ALL_PACKAGES = (
    *BASE_PACKAGES,
    *(
        "engine",
        "kubernetes",
        "example",
        "browser",
        "gerrit",
        "gitea",
        "definitions",
        "image",
        "measuring",
    ),
)
BASE_PROGRAMS = ("helm4", "helm3")
#: Small ones first; act takes minutes.
DEFINITION_PROGRAMS = (
    *("github-description", "github-enterprise", "github-graphql"),
    *("gitlab-ci-local", "groovy-cps", "actionlint", "act", "debian"),
)
BUILT_PROGRAMS = (*systems.ENGINE_PROGRAMS, "crane", *DEFINITION_PROGRAMS)


class LaneResult(NamedTuple):
    """How a lane ended. seconds: of wall time. failures: the tests that pytest says failed.
    reasons: where it failed, pytest's lines of what was expected, or else the end of its output.
    """

    name: str
    passed: bool
    seconds: float
    failures: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


class Lane(NamedTuple):
    """A name and its commands, run from the checkout; all of them, even when an earlier one fails."""

    name: str
    commands: tuple[tuple[str, ...], ...]


class Group(NamedTuple):
    """Names of lanes, started in the order of LANES, so many side by side: one begins when another
    ends.
    """

    names: tuple[str, ...]
    side_by_side: int


PYTEST = ("python", "-m", "pytest", "-q")
FAULT_TABLE = ("python", "-m", "tests.faults")
#: Faults of which most time is waiting, one after the other: T1c counts the namespaces on the node.
WAITING_FAULTS = "T1c,T1e,T11,X1,X2"
#: Of tests/workflows, those about whole repositories: a lane of their own, or the others would all
#: have ended long before that of the workflows.
WHOLE_REPOSITORIES = tuple(
    str(path.relative_to(ROOT))
    for name in ("audit", "field", "regenerate")
    for path in sorted(ROOT.glob(f"tests/workflows/test_{name}*.py"))
)
LANES = (
    Lane("lint", (("ruff", "check", "."), ("mypy",), ("lint-imports",))),
    *(
        Lane(name, ((*PYTEST, f"tests/{name}"),))
        for name in ("unit", "contract", "systems", "reviews")
    ),
    Lane(
        "workflows",
        ((*PYTEST, "tests/workflows", *(f"--ignore={path}" for path in WHOLE_REPOSITORIES)),),
    ),
    Lane("whole repositories", ((*PYTEST, *WHOLE_REPOSITORIES),)),
    # All of them within a minute on two idle cores; beside other lanes in more.
    Lane("mutants", (("python", "-m", "tests.mutants", "--seconds", "240"),)),
    Lane("faults", ((*FAULT_TABLE, "--without", WAITING_FAULTS),)),
    Lane("faults that wait", ((*FAULT_TABLE, "--only", WAITING_FAULTS),)),
    Lane(
        "properties",
        (
            (*PYTEST, "-m", "hypothesis", "tests/unit"),
            (*PYTEST, "tests/unit/test_fuzz.py"),
        ),
    ),
)
#: Of the lines that say why a lane failed, so many of the first and of the last are repeated at the
#: end, cut to so many characters: whoever reads only the end of a long log needs them.
FIRST_REASONS, LAST_REASONS, REASON_WIDTH = 6, 12, 200
#: Those of `make check`: two, for their tests compute more than they wait.
CHECK = Group(("lint", "unit", "contract"), 2)
#: Three, for much of their time is waiting for a registry, a cluster or a review system.
WITH_NODE = Group(("systems", "reviews", "workflows", "whole repositories", "mutants"), 3)
#: Without other lanes: kills are timed, and nobody else may use the node.
FAULTS = Group(("faults", "faults that wait"), 2)
PROPERTIES = Group(("properties",), 1)


def check() -> int:
    """Lanes that need no engine and no cluster."""
    debian.install(list(BASE_PACKAGES), yes=False)
    systems.get(BASE_PROGRAMS)()
    environment.ensure()
    began = time.monotonic()
    return verdict(run(CHECK, base_environment()), began)


def test() -> int:
    """Every lane. Kubernetes and Gitea compile while the first lanes run one by one."""
    debian.install(all_packages(), yes=False)
    programs_needed = systems.get((*systems.ENGINE_PROGRAMS, *DEFINITION_PROGRAMS))
    building = systems.Background(
        systems.get(BASE_PROGRAMS),
        after(systems.kubernetes, programs_needed, systems.gitea),
        systems.gerrit,
    )
    environment.ensure()
    systems.get(BASE_PROGRAMS)()
    began = time.monotonic()
    group = CHECK._replace(side_by_side=1) if building.lasts() else CHECK
    results = run(group, base_environment())
    start = time.monotonic()
    building.wait()
    results.append(LaneResult("waiting for builds", True, time.monotonic() - start))
    with tempfile.TemporaryDirectory(prefix="pipeline-steps-lanes-") as folder:
        results += with_systems((WITH_NODE, FAULTS), Path(folder) / "started.json")
    return verdict(results, began)


def faults() -> int:
    """Kills, failing disks, power cuts and signals, with engine and node; a part of every point
    unless FULL is set, which also tries many more examples of every property and inputs of every
    reader.
    """
    everything()
    full = os.environ.get("FULL", "") not in ("", "0")
    groups = (FAULTS, PROPERTIES) if full else (FAULTS,)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pipeline-steps-lanes-") as folder:
        return verdict(with_systems(groups, Path(folder) / "started.json"), began)


def mutants() -> int:
    """Each guard that the project promises, broken once: do its tests notice? No engine, no node."""
    debian.install(list(BASE_PACKAGES), yes=False)
    systems.get(BASE_PROGRAMS)()
    environment.ensure()
    return subprocess.run(
        [environment.PYTHON, "-m", "tests.mutants"],
        cwd=ROOT,
        env={**os.environ, **base_environment()},
    ).returncode


def bench() -> int:
    """The benchmarks, with engine and node; those that ONLY names, if it is set."""
    everything()
    with tempfile.TemporaryDirectory(prefix="pipeline-steps-lanes-") as folder:
        started = users.Started(Path(folder) / "started.json", process=os.getpid())
        try:
            completed = subprocess.run(
                [environment.PYTHON, "-m", "benchmarks", "--only", os.environ.get("ONLY", "")],
                cwd=ROOT,
                env={**os.environ, **full_environment(started)},
            )
        finally:
            systems.down(started)
    return 1 if completed.returncode else 0


def everything() -> None:
    """Packages, programs, Kubernetes and the virtual environment, made when missing."""
    debian.install(all_packages(), yes=False)
    systems.get((*BASE_PROGRAMS, *BUILT_PROGRAMS))()
    systems.kubernetes()
    systems.gerrit()
    systems.gitea()
    environment.ensure()


def all_packages() -> list[str]:
    """The purposes of everything; a node and npm that are there already, from wherever, will do."""
    has_node = find_program("node") is not None and find_program("npm") is not None
    return [*ALL_PACKAGES, *(() if has_node else ("node",))]


def after(*tasks: Callable[[], object]) -> Callable[[], None]:
    """One task of several, one after the other: each would use all cores."""

    def task() -> None:
        for each in tasks:
            each()

    return task


def base_environment() -> dict[str, str]:
    """helm 4 on PATH, and this checkout's commands before all."""
    return {"PATH": systems.path_with(environment.VENV / "bin", programs.get("helm4"))}


def full_environment(started: users.Started) -> dict[str, str]:
    """The base with crane, an engine and a node; tests find the last two themselves where they run."""
    engine = systems.engine_up(started)
    node = systems.node_up(started, [])
    path = f"{base_environment()['PATH']}:{programs.get('crane')}"
    return {**engine["environment"], "PATH": path, "KUBECONFIG": node["kubeconfig"]}


def with_systems(groups: tuple[Group, ...], note: Path) -> list[LaneResult]:
    """Run groups of lanes one after the other with an engine and a node; end both when they were
    started here.
    """
    started = users.Started(note, process=os.getpid())
    start = time.monotonic()
    try:
        environment = full_environment(started)
        results = [LaneResult("engine and node up", True, time.monotonic() - start)]
        for group in groups:
            results += run(group, environment)
        return results
    finally:
        systems.down(started)


def run(group: Group, variables: dict[str, str]) -> list[LaneResult]:
    """Run all lanes of a group; lines of those side by side are marked with their lane."""
    chosen = [lane for lane in LANES if lane.name in group.names]
    marked = group.side_by_side > 1
    with ThreadPoolExecutor(group.side_by_side) as pool:
        return list(pool.map(lambda lane: run_lane(lane, variables, marked=marked), chosen))


def run_lane(lane: Lane, variables: dict[str, str], *, marked: bool) -> LaneResult:
    """Run all commands of a lane, also when an earlier one fails."""
    say(f"--- {lane.name}")
    start = time.monotonic()
    codes = []
    failures = []
    expectations = []
    last_lines: deque[str] = deque(maxlen=LAST_REASONS)
    for words in lane.commands:
        command = [str(environment.VENV / "bin" / words[0]), *words[1:]]
        output = subprocess.PIPE if marked or "pytest" in words else None
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **variables},
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                say(f"{lane.name} | {line.rstrip()}" if marked else line.rstrip())
                if line.startswith(("FAILED tests/", "ERROR tests/")):
                    failures.append(line.split(" - ")[0].strip())
                if line.startswith("E  "):
                    expectations.append(line.rstrip())
                last_lines.append(line.rstrip())
        codes.append(process.returncode)
    reasons = shortened(expectations or list(last_lines)) if any(codes) else ()
    seconds = time.monotonic() - start
    return LaneResult(lane.name, not any(codes), seconds, tuple(failures), reasons)


def shortened(lines: list[str]) -> tuple[str, ...]:
    """The first and last of many lines, each cut to REASON_WIDTH."""
    if len(lines) > FIRST_REASONS + LAST_REASONS:
        lines = [*lines[:FIRST_REASONS], "…", *lines[-LAST_REASONS:]]
    return tuple(line[:REASON_WIDTH] for line in lines)


def verdict(results: list[LaneResult], began: float) -> int:
    """Say how each lane ended, how long it took, which tests failed, and why; 0 or 1."""
    say("")
    for result in results:
        for line in (*result.failures, *(f"{result.name} | {line}" for line in result.reasons)):
            say(line)
    for result in results:
        say(f"{result.name:20} {'passed' if result.passed else 'FAILED':7} {result.seconds:7.1f} s")
    failed = [result.name for result in results if not result.passed]
    say(f"{', '.join(failed) + ' failed' if failed else 'all passed'}, {seconds_since(began)}")
    return 1 if failed else 0


def main(argv: list[str]) -> int:
    verbs = {"check": check, "test": test, "faults": faults, "mutants": mutants, "bench": bench}
    if len(argv) != 1 or argv[0] not in verbs:
        say(f"usage: lanes.py {'|'.join(verbs)}")
        return 2
    # Without bytecode every process that a test starts compiles the package anew, a third of its time.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return verbs[argv[0]]()


if __name__ == "__main__":
    ends_with_exit_code(main)
