"""The real engine, node and registry of this machine, for the tests of one session.

What runs already (`make demo`, another test session) is used; else it is started here and ended with the last
session that uses it. Each session holds a shared lock as long as it does; who finds nobody else holding one, ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support import registries
from tools.engine import engine
from tools.kubernetes import node

SHARED = Path("/run/pipeline-steps")


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
    with shared("engine", lambda: engine.read(folder) is not None, lambda: engine.down(folder)):
        found = engine.up(folder)
        yield Engine(found["docker_host"], found["buildkit"], found["builder"], found["environment"])


@contextlib.contextmanager
def kubernetes_node(*plain_registries: str) -> Iterator[Node]:
    """The node of tools/kubernetes, pulling from these registries (host:port) without TLS."""
    with shared("node", lambda: node.live() is not None, lambda: node.down(node.DEFAULT_FOLDER)):
        running = node.live()
        folder = Path(running["folder"]) if running else node.DEFAULT_FOLDER
        found = node.up(folder, list(plain_registries))
        yield Node(Path(found["kubeconfig"]), found["context"], folder, found["version"])


@contextlib.contextmanager
def registry(*, user: str = "", password: str = "") -> Iterator[registries.Running]:
    """An empty OCI registry on a free port of 127.0.0.1, plain http; with `user`, it asks for a login."""
    with tempfile.TemporaryDirectory(prefix="registry-") as place:
        folder = Path(place)
        auth = registries.htpasswd(folder, user, password) if user else ""
        with registries.registry(folder, auth=auth) as running:
            yield running


@contextlib.contextmanager
def shared(name: str, runs: Callable[[], bool], end: Callable[[], None]) -> Iterator[None]:
    """Hold a system that several sessions may use; the last of them ends it if a session, not a person, started it."""
    SHARED.mkdir(parents=True, exist_ok=True)
    ours = SHARED / f"{name}.started-by-tests"
    with (SHARED / f"{name}.users").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        if not runs():
            ours.touch()
        try:
            yield
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if ours.exists():
                    end()
                    ours.unlink()
