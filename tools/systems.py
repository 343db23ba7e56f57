"""Brings together what the demo and the tests need: packages, programs, an engine, a node; ends
what it started.

An engine that runs already and answers is used as it is, and so is a node; what is ended again, and
by whom, is in users.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools import environment, users
from tools.engine import engine
from tools.gerrit import build as gerrit_build
from tools.gitea import build as gitea_build
from tools.kubernetes import build, node
from tools.machine import Cannot, agreed, cache, find_program, say
from tools.programs import debian, programs

ENGINE_PROGRAMS = ("buildx", "buildkitd")


def missing_packages(purposes: Sequence[str]) -> dict[str, str]:
    """Debian packages to install → why."""
    return debian.missing(list(purposes))


def missing_programs(names: Sequence[str], *, kubernetes: bool) -> dict[str, str]:
    """What is not in the cache yet → where it comes from."""
    missing = {}
    for name in names:
        program = programs.PROGRAMS[name]
        if not (cache() / "programs" / f"{name}-{program.version}").exists():
            missing[f"{name} {program.version}"] = program.source
    if kubernetes and not build.folder().exists():
        missing[f"kubernetes {build.version()}"] = (
            "Go modules, built here: about 7 minutes on 2 cores"
        )
    return missing


class Background:
    """Long builds in threads while something else is done; `wait` raises what went wrong in them."""

    def __init__(self, *tasks: Callable[[], object]) -> None:
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(task,), daemon=True) for task in tasks
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, task: Callable[[], object]) -> None:
        try:
            task()
        except BaseException as error:
            self._errors.append(error)

    def lasts(self, seconds: float = 2.0) -> bool:
        """Whether there is something to build: all is done in no time when it was built before."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return any(thread.is_alive() for thread in self._threads)

    def wait(self) -> None:
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]


def get(names: Sequence[str]) -> Callable[[], None]:
    """A task that has these programs."""

    def task() -> None:
        for name in names:
            programs.get(name)

    return task


def kubernetes() -> None:
    """A task that has the node's program."""
    build.built()


def gerrit() -> None:
    """A task that has Gerrit's jars and an empty site."""
    gerrit_build.built()


def gitea() -> None:
    """A task that has the forge's program."""
    gitea_build.built()


def own_engine() -> bool:
    """Whether a docker engine of the user's answers, with a buildx that works: then no other is
    started.
    """
    if find_program("docker") is None:
        return False
    for command in (
        ["docker", "version", "--format", "{{.Server.Version}}"],
        ["docker", "buildx", "version"],
    ):
        if subprocess.run(command, capture_output=True, timeout=60).returncode:
            return False
    return True


def engine_up(started: users.Started) -> dict[str, Any]:
    """The engine of tools/engine, noted as used by `started`. Raises Cannot."""
    folder = engine.DEFAULT_FOLDER
    users.enter("engine", folder, started, running=lambda: engine.read(folder) is not None)
    return engine.up(folder)


def node_up(started: users.Started, registries: list[str]) -> dict[str, Any]:
    """The node of this machine, noted as used by `started`, pulling from `registries`. Raises Cannot."""
    running = node.live()
    folder = Path(running["folder"]) if running else node.DEFAULT_FOLDER
    users.enter("node", folder, started, running=lambda: node.live() is not None)
    before = running.get("registries", []) if running else []
    return node.up(folder, sorted({*before, *registries}))


def down(started: users.Started) -> None:
    """Leave the engine and the node; each is ended when nobody else uses it.

    The engine is left also when the node cannot be ended.
    """
    try:
        users.leave("node", started, node.down)
    finally:
        users.leave("engine", started, engine.down)


def path_with(*folders: Path) -> str:
    """PATH with these folders first."""
    return ":".join([*(str(folder) for folder in folders), os.environ.get("PATH", "/usr/bin:/bin")])


def ask_to_install(
    command: str, packages: Mapping[str, str], programs: Mapping[str, str], *, yes: bool
) -> None:
    """Say what this machine lacks for a command and where it goes, and ask; nothing is installed.

    packages: of Debian, with the reason. programs: with where they come from. Raises Cannot.
    """
    venv = environment.is_stale()
    if not (packages or programs or venv):
        return
    say(f"{command} installs what this machine lacks:")
    for package, why in packages.items():
        say(f"  Debian package {package}: {why}")
    for name, source in programs.items():
        say(f"  {name} ({source}) into {cache()}")
    if venv:
        say(f"  Python packages of requirements/test.txt (PyPI) into {environment.VENV}")
    confirm("Go on?", yes=yes)


def confirm(what: str, *, yes: bool) -> None:
    """Ask on a terminal; without one, or with `yes`, go on. Raises Cannot when the answer is no."""
    if sys.stdin.isatty() and not yes and not agreed(what):
        raise Cannot("not confirmed: nothing was installed")
