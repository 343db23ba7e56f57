"""T1c: SIGKILL at random moments of steps that wait for an engine, helm or a cluster, then once
more: as if nothing had been. Of namespaces only those may stay whose names a record tells: they are
`sweep`'s.

With a real engine, registry and node, which are used when they run and started when not.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.clusters import kubeconfig, namespaces
from pipeline_steps.clusters.kubernetes import Api
from tests.faults import kills
from tests.faults.figures import Figure, Settings, counted
from tests.faults.filled import tags
from tests.faults.world import MAKING, Outcome, Step, World, lines
from tests.support import machine
from tests.support.gits import Repo
from tests.support.helms import chart_files
from tests.support.images import BUSYBOX
from tests.support.registries import registry

PIPELINE = """\
charts:
  - path: charts/*
    images: {{web: {{image: "{{reference}}"}}}}
images: {{web: {{context: app}}}}
channels:
  snapshot: {{images: "{registry}/snapshot", charts: "oci://{registry}/snapshot/charts"}}
  production: {{images: "{registry}/production", charts: ["oci://{registry}/production/charts"]}}
hosts: {{"{registry}": {{plain_http: true}}}}
clusters: {{here: {{kubeconfig: "{kubeconfig}", context: "{context}"}}}}
tests: {{timeout: 60s}}
"""
DOCKERFILE = "FROM scratch\nCOPY busybox /bin/\n"
CHART = ("--chart", "web")
STEPS = (
    Step("build_image", ("build_image", *CHART)),
    *(Step(step.name, (*step.words[:-1], "web")) for step in MAKING),
)
WAITING = [step for step in STEPS if step.name in ("build_image", "integration_test", "promote")]
#: Kills of each step.
RANDOM, RANDOM_FULL = 2, 30


class Systems(NamedTuple):
    """What the steps wait for. host: of the registry, whose data lie below the world."""

    engine: machine.Engine
    node: machine.Node
    host: str


class Waiting(World):
    """A world whose steps build an image, push to a registry and test on a node."""

    def __init__(self, folder: Path, code: Path, systems: Systems) -> None:
        self.systems = systems
        self.api = Api(kubeconfig.load(systems.node.kubeconfig, systems.node.context))
        super().__init__(folder, code, steps=STEPS)

    def _fill(self, repo: Repo) -> None:
        node = self.systems.node
        repo.put(
            "pipeline.yaml",
            PIPELINE.format(
                registry=self.systems.host, kubeconfig=node.kubeconfig, context=node.context
            ),
        )
        repo.put("app/Dockerfile", DOCKERFILE)
        repo.put("app/busybox", BUSYBOX.read_bytes(), executable=True)
        for name, text in chart_files(image="unset").items():
            repo.put(f"charts/web/{name}", text)

    def environment(self, step: Step, **more: str) -> dict[str, str]:
        return super().environment(step, **{**self.systems.engine.environment, **more})

    def again(self, step: Step) -> str:
        """Also what is wrong with the namespaces that are left, which are removed."""
        wrong = super().again(step)
        known_lines = b"\n".join(lines(self.state))
        left = [name for name in self.namespaces() if f"/{name}".encode() not in known_lines]
        for name in self.namespaces():
            namespaces.remove(self.api, name)
        return wrong or (f"namespaces nobody recorded: {left}" if left else "")

    def namespaces(self) -> list[str]:
        """Those of ours that are not being removed."""
        selector = ",".join(f"{name}={value}" for name, value in namespaces.MANAGED.items())
        listed = self.api.items(self.api.core.list_namespace, label_selector=selector)
        return [
            namespace["metadata"]["name"]
            for namespace in listed
            if namespace["status"]["phase"] == "Active"
        ]

    def outcome(self) -> Outcome:
        """Also every tag of the registry with its digest."""
        return {**super().outcome(), "registry": tags(self.root / "registry")}


def at_random(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """One figure: kills after which the step, run again, ends as an undisturbed one."""
    dice = random.Random(settings.seed)
    number = RANDOM_FULL if settings.full else RANDOM
    with _systems(worlds[0]) as world:
        points = kills.moments(WAITING, number, dice)
        wrong = kills.killed_at([world], points, settings._replace(workers=1))
    what = (
        "the same for steps that wait for engine, helm or cluster; no namespace that nobody "
        "recorded"
    )
    return [counted("T1c", what, points, wrong)]


@contextlib.contextmanager
def _systems(beside: World) -> Iterator[Waiting]:
    folder = beside.root.parent.parent / "waiting"
    with (
        machine.docker_engine() as engine,
        registry(folder / "world/registry") as running,
        machine.kubernetes_node(running.host) as node,
    ):
        world = Waiting(folder, beside.code, Systems(engine, node, running.host))
        world.ready()
        yield world
