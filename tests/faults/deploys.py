"""T11: `deploy` killed at random moments, then run by somebody else with another checkout: the
release ends deployed at the right revision.

With a real node, helm 3 and 4. First installs, upgrades, upgrades whose tests fail (so that going
back is killed) and undoing are killed, with all that they started or alone, some takeovers too.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kubernetes.client import AppsV1Api, V1Namespace, V1ObjectMeta

from pipeline_steps.clusters import kubeconfig, lease, namespaces
from pipeline_steps.clusters.helm import Target
from pipeline_steps.clusters.kubernetes import Api
from pipeline_steps.deployments import revision_secrets
from tests.faults import kills
from tests.faults.figures import Figure, Settings, counted, spread
from tests.faults.world import World
from tests.support import busybox
from tests.support.gits import Repo
from tests.support.helms import chart_files, helm
from tests.support.machine import Node, kubernetes_node
from tests.support.registries import registry

KINDS = ("install", "upgrade", "failing upgrade", "undo")
#: Kills in all.
RANDOM, RANDOM_FULL = 4, 50


class Moment(NamedTuple):
    """What is killed, and when, as a share of its duration. alone: without what it has started.
    second: when the takeover is killed too; None: it is not.
    """

    kind: str
    helm: int
    first: float
    alone: bool
    second: float | None

    def __str__(self) -> str:
        twice = f" and {self.second:.2f}" if self.second is not None else ""
        alone = " alone" if self.alone else ""
        return (
            f"{self.kind}, helm {self.helm}, killed{alone} at {self.first:.2f}{twice} of its time"
        )


class Deploys:
    """Two developers' checkouts of one chart, and a namespace for each worker and moment."""

    def __init__(self, folder: Path, world: World, node: Node, images: str) -> None:
        self.folder, self.world, self.node, self.images = folder, world, node, images
        self.api = Api(kubeconfig.load(node.kubeconfig, node.context))
        self.lasts: dict[tuple[str, int], float] = {}

    def checkout(self, name: str, namespace: str, word: str, *, test: str = "true") -> Repo:
        """The checkout of one developer with the chart as it is now, committed."""
        place = self.folder / namespace
        place.mkdir(parents=True, exist_ok=True)
        repo = Repo(place / name, place / "gitconfig")
        files = chart_files(test=test, image=f"{self.images}/web:k-1")
        for path, text in files.items():
            repo.put(f"charts/web/{path}", text)
        repo.put("env.yaml", f"word: {word}\n")
        cluster = {"kubeconfig": str(self.node.kubeconfig), "context": self.node.context}
        deployment = {"chart": "web", "cluster": "here", "namespace": namespace}
        settings = {
            "charts": [{"path": "charts/*"}],
            "clusters": {"here": cluster},
            "deployments": {"web": {**deployment, "values": ["env.yaml"]}},
        }
        repo.put("pipeline.yaml", json.dumps(settings))
        repo.commit(word)
        return repo

    def start(self, repo: Repo, major: int, *words: str) -> subprocess.Popen[str]:
        """The step in a checkout, as a process."""
        home = repo.root.parent / f"{repo.root.name}-home"
        (home / "tmp").mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": f"{helm(major).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            "GIT_CONFIG_GLOBAL": str(repo.config),
            "PYTHONPATH": str(self.world.code),
        }
        return subprocess.Popen(
            [self.world.python, "-m", "pipeline_steps", "deploy", "web", "--timeout", "100s", *words],
            cwd=repo.root, env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, repo: Repo, major: int, *words: str) -> tuple[int, str]:
        """The step to its end: exit code and what it said."""
        child = self.start(repo, major, *words)
        talk = child.communicate(timeout=300)[1]
        return child.returncode, talk

    def prepared(self, kind: str, major: int, namespace: str) -> tuple[Repo, tuple[str, ...]]:
        """What is there before the kill; the checkout and words of what is killed."""
        self.api.once(
            self.api.core.create_namespace, V1Namespace(metadata=V1ObjectMeta(name=namespace))
        )
        for word in {"install": (), "undo": ("one", "two")}.get(kind, ("one",)):
            code, talk = self.run(self.checkout("a", namespace, word), major)
            assert code == 0, talk
        if kind == "undo":
            return self.checkout("a", namespace, "two"), ("--undo",)
        test = "exit 3" if kind == "failing upgrade" else "true"
        return self.checkout("a", namespace, "killed", test=test), ()

    def seconds(self, kind: str, major: int) -> float:
        """How long a deploy of a kind takes undisturbed."""
        if (kind, major) not in self.lasts:
            namespace = f"faults-last-{kind.replace(' ', '-')}-{major}-{os.urandom(3).hex()}"
            repo, words = self.prepared(kind, major, namespace)
            began = time.monotonic()
            code, talk = self.run(repo, major, *words)
            assert code == (8 if kind == "failing upgrade" else 0), talk
            self.lasts[kind, major] = time.monotonic() - began
            namespaces.remove(self.api, namespace)
        return self.lasts[kind, major]

    def killed(self, moment: Moment) -> str:
        """What is wrong after the kill and a deploy of somebody else, "" for nothing."""
        namespace = f"faults-{os.urandom(4).hex()}"
        lasts = self.seconds(moment.kind, moment.helm)
        try:
            repo, words = self.prepared(moment.kind, moment.helm, namespace)
            self._kill(repo, moment, moment.first * lasts, *words)
            other = self.checkout("b", namespace, "right")
            if moment.second is not None:
                self._kill(other, moment, moment.second * (lasts + lease.DURATION))
            return self._wrong(other, moment, namespace)
        finally:
            namespaces.remove(self.api, namespace)

    def _kill(self, repo: Repo, moment: Moment, after: float, *words: str) -> None:
        child = self.start(repo, moment.helm, *words)
        time.sleep(after)
        others = [] if moment.alone else kills.descendants(child.pid)
        for process in [child.pid, *others]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        child.communicate()

    def _wrong(self, other: Repo, moment: Moment, namespace: str) -> str:
        code, talk = self.run(other, moment.helm)
        if code:
            return f"exit {code}: {talk[-600:]}"
        last = revision_secrets.read(
            self.api, Target(self.node.kubeconfig, None, namespace, "web")
        )[-1]
        head = other.git("rev-parse", "HEAD")
        if last.release.status != "deployed" or not last.notes or last.notes.revision != head:
            return f"{last.release.status}: {last}, not {head}"
        read = AppsV1Api(self.api.client).read_namespaced_deployment
        running = self.api.ask(read, "web", namespace) or {}
        if running["metadata"]["labels"]["word"] != "right":
            return f"the cluster has {running['metadata']['labels']}"
        if not running.get("status", {}).get("readyReplicas"):
            return f"nothing is ready: {running.get('status')}"
        if holder := lease.holder(self.api, namespace, "pipeline-steps-web"):
            return f"{holder} still has the lease"
        return ""


def at_random(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """One figure: kills after which somebody else's deploy ends as it should."""
    dice = random.Random(settings.seed)
    number = RANDOM_FULL if settings.full else RANDOM
    points = [
        Moment(
            KINDS[n % len(KINDS)],
            3 + (n // len(KINDS) + n) % 2,
            dice.random(),
            bool(dice.getrandbits(1)),
            dice.random() if n % 5 == 4 else None,
        )
        for n in range(number)
    ]
    with _deploys(worlds[0]) as deploys:

        def run(_worker: int, moment: Moment) -> str:
            wrong = deploys.killed(moment)
            return f"{moment}: {wrong}" if wrong else ""

        # Each has a namespace of its own, and mostly waits.
        wrong = spread(points, 2 * settings.workers, run)
    what = "deploy killed at a random moment, then run by somebody else: deployed at the right revision"
    return [counted("T11", what, points, wrong)]


@contextlib.contextmanager
def _deploys(beside: World) -> Iterator[Deploys]:
    folder = beside.root.parent.parent / "deploys"
    with registry(folder / "registry") as running, kubernetes_node(running.host) as node:
        busybox.push(running.host)
        yield Deploys(folder, beside, node, running.host)
