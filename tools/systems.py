"""Brings together what the demo and the tests need: packages, programs, an engine, a node; ends
what it started.

An engine that runs already and answers is used as it is, and so is a node; only what was started
here is noted, in a file, and ended again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools.engine import engine
from tools.kubernetes import build, node
from tools.machine import Cannot, agreed, cache, find_program, say
from tools.programs import debian, programs

ENGINE_PROGRAMS = ("buildx", "buildkitd")


def missing_packages(purposes: Sequence[str]) -> dict[str, str]:
    """Debian packages to install → why."""
    return debian.missing(list(purposes))


def missing_programs(names: Sequence[str], *, kubernetes: bool) -> dict[str, str]:
    """What is not in the cache yet → where it comes from."""
    found = {}
    for name in names:
        program = programs.PROGRAMS[name]
        if not (cache() / "programs" / f"{name}-{program.version}").exists():
            found[f"{name} {program.version}"] = program.source
    if kubernetes and not build.folder().exists():
        found[f"kubernetes {build.version()}"] = (
            "Go modules, built here: about 7 minutes on 2 cores"
        )
    return found


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


class Started:
    """What was started here, noted in a file before it is, so that a later command can end it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.names: dict[str, str] = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            self.names = {}

    def note(self, name: str, value: str) -> None:
        self.names[name] = value
        self._write()

    def forget(self, name: str) -> None:
        self.names.pop(name, None)
        self._write()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_name(f".{self.path.name}.new")
        aside.write_text(json.dumps(self.names, indent=2) + "\n")
        aside.replace(self.path)


def engine_up(started: Started) -> dict[str, Any]:
    """The engine of tools/engine; noted when it did not run before. Raises Cannot."""
    folder = engine.DEFAULT_FOLDER
    if engine.read(folder) is None:
        started.note("engine", str(folder))
    return engine.up(folder)


def node_up(started: Started, registries: list[str]) -> dict[str, Any]:
    """The node of this machine, pulling from `registries`; noted when it did not run before. Raises
    Cannot.
    """
    running = node.live()
    if running is None:
        started.note("node", str(node.DEFAULT_FOLDER))
        return node.up(node.DEFAULT_FOLDER, registries)
    return node.up(Path(running["folder"]), sorted({*running.get("registries", []), *registries}))


def down(started: Started) -> None:
    """End the engine and the node that were started here; the one also when the other cannot be
    ended.
    """
    try:
        if "node" in started.names:
            say("node: ending it")
            node.down(Path(started.names["node"]))
            started.forget("node")
    finally:
        if "engine" in started.names:
            say("engine: ending it")
            engine.down(Path(started.names["engine"]))
            started.forget("engine")


def path_with(*folders: Path) -> str:
    """PATH with these folders first."""
    return ":".join([*(str(folder) for folder in folders), os.environ.get("PATH", "/usr/bin:/bin")])


def confirm(what: str, *, yes: bool) -> None:
    """Ask on a terminal; without one, or with `yes`, go on. Raises Cannot when the answer is no."""
    if sys.stdin.isatty() and not yes and not agreed(what):
        raise Cannot("not confirmed: nothing was installed")
