"""The real engine, node and registry of this machine, for the tests of one session.

What runs already (`make demo`, another test session) is used; else it is started here and ended
with the last session that uses it. Each session holds a shared lock as long as it does; who finds
nobody else holding one, ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.support import registries
from tools.engine import engine
from tools.kubernetes import node

SHARED = Path("/run/pipeline-steps")
#: Seconds in which a step has ended that got a signal beside other lanes, which take the cores from
#: it. Promised are four; T10 of `tests.faults` demands them, when no test of a lane runs.
SECONDS_AFTER_SIGNAL = 12.0


class Engine(NamedTuple):
    """A docker engine and BuildKit. environment: what makes `docker` and `docker buildx` use them."""

    host: str
    buildkit: str
    builder: str
    environment: dict[str, str]


class Node(NamedTuple):
    """A Kubernetes. kubeconfig: its file; context: the only one in it; version: like v1.34.4."""

    kubeconfig: Path
    context: str
    folder: Path
    version: str


@contextlib.contextmanager
def docker_engine() -> Iterator[Engine]:
    """The engine of tools/engine."""
    folder = engine.DEFAULT_FOLDER
    system = System(
        "engine",
        lambda: engine.read(folder),
        lambda: engine.up(folder),
        lambda: engine.down(folder),
    )
    with shared(system) as running:
        yield Engine(
            running["docker_host"], running["buildkit"], running["builder"], running["environment"]
        )


@contextlib.contextmanager
def kubernetes_node(*plain_registries: str) -> Iterator[Node]:
    """The node of tools/kubernetes, pulling from these registries (host:port) without TLS."""

    def folder() -> Path:
        running = node.live()
        return Path(running["folder"]) if running else node.DEFAULT_FOLDER

    up, down = lambda: node.up(folder(), list(plain_registries)), lambda: node.down(folder())
    with shared(System("node", node.live, up, down)) as running:
        yield Node(
            Path(running["kubeconfig"]),
            running["context"],
            Path(running["folder"]),
            running["version"],
        )


@contextlib.contextmanager
def registry(*, user: str = "", password: str = "") -> Iterator[registries.Running]:
    """An empty OCI registry on a free port of 127.0.0.1, plain http; with `user`, it asks for a
    login.
    """
    with tempfile.TemporaryDirectory(prefix="registry-") as place:
        folder = Path(place)
        auth = registries.htpasswd(folder, user, password) if user else ""
        with registries.registry(folder, auth=auth) as running:
            yield running


class System(NamedTuple):
    """How a system is asked for (None: does not run), started and ended; its facts name its
    `processes`.
    """

    name: str
    live: Callable[[], dict[str, Any] | None]
    up: Callable[[], dict[str, Any]]
    down: Callable[[], None]


@contextlib.contextmanager
def shared(system: System) -> Iterator[dict[str, Any]]:
    """Hold a system that several sessions may use; the last of them ends it if a session, not a
    person, started it.
    """
    SHARED.mkdir(parents=True, exist_ok=True)
    marker = SHARED / f"{system.name}.started-by-tests"
    with (SHARED / f"{system.name}.users").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        was_there = system.live() is not None
        facts = system.up()
        if not was_there:
            marker.write_text(json.dumps(facts["processes"]))
        try:
            yield facts
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                end_if_ours(system, marker)


def end_if_ours(system: System, marker: Path) -> None:
    """End a system when it is the very one that `marker` tells of."""
    current = system.live()
    if current and marker.exists() and json.loads(marker.read_text()) == current["processes"]:
        system.down()
    marker.unlink(missing_ok=True)
