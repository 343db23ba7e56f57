"""Workflow D: two developers, one repository, no chart repository between it and Kubernetes."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from kubernetes.client import V1Namespace, V1ObjectMeta

from pipeline_steps.clusters import kubeconfig, namespaces
from pipeline_steps.clusters.kubernetes import Api
from tests.support import busybox, docs
from tests.support.gits import Repo, bare
from tests.support.helms import chart_files, helm
from tests.support.machine import Node, kubernetes_node, registry

HOW_TO = docs.ROOT / "docs/how-to/deploy.md"


class Cluster(NamedTuple):
    """A node that pulls from a registry (host:port) with the image web:k-1, and a fresh namespace."""

    node: Node
    images: str
    namespace: str


@pytest.fixture(scope="module")
def machine() -> Iterator[tuple[Node, str]]:
    with registry() as running:
        busybox.push(running.host)
        with kubernetes_node(running.host) as node:
            yield node, running.host


@pytest.fixture
def cluster(machine: tuple[Node, str]) -> Iterator[Cluster]:
    node, images = machine
    api = Api(kubeconfig.load(node.kubeconfig, node.context))
    name = f"team-{secrets.token_hex(4)}"
    api.once(api.core.create_namespace, V1Namespace(metadata=V1ObjectMeta(name=name)))
    yield Cluster(node, images, name)
    namespaces.remove(api, name)


class Git:
    """The checkout of a developer, of a repository that they share."""

    system = "git"

    def __init__(self, folder: Path, name: str) -> None:
        self.shared = folder / "shared.git"
        if not self.shared.exists():
            bare(self.shared)
        self.repo = Repo(folder / name, folder / f"{name}-gitconfig", str(self.shared))
        self.root = self.repo.root

    def check_in(self) -> str:
        revision = self.repo.commit()
        self.repo.git("push", "-q", "origin", "HEAD:main")
        return revision

    def update(self) -> None:
        self.repo.git("pull", "-q", "origin", "main")

    def environment(self) -> dict[str, str]:
        return {"GIT_CONFIG_GLOBAL": str(self.repo.config)}


SYSTEMS = {"git": Git}


def write(root: Path, cluster: Cluster) -> None:
    """The chart `hello` with its deployments."""
    files = chart_files("hello", image="none", test="true")
    for name, text in files.items():
        place = root / "charts/hello" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    (root / "env").mkdir(exist_ok=True)
    (root / "env/a.yaml").write_text("word: first\n")
    deployment = {"chart": "hello", "cluster": "k131", "namespace": cluster.namespace}
    settings = {
        "charts": [{"path": "charts/*", "images": {"web": {"image": "{reference}"}}}],
        "images": {"web": {"existing": f"{cluster.images}/web:k-1"}},
        "channels": {"snapshot": {"images": f"{cluster.images}/snapshots"}},
        "clusters": {
            "k131": {
                "kubeconfig": str(cluster.node.kubeconfig),
                "context": cluster.node.context,
            }
        },
        "deployments": {
            "hello-team-a": {**deployment, "release": "hello", "values": ["env/a.yaml"]},
            "hello-other": {**deployment, "release": "other"},
        },
    }
    (root / "pipeline.yaml").write_text(yaml.safe_dump(settings))


def run(line: str, root: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A line of shell in a checkout."""
    programs = f"{Path(sys.executable).parent}:{helm(4).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-c", line],
        cwd=root,
        env={"PATH": programs, "HOME": str(root.parent), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("system", SYSTEMS)
def test_b_deploys_what_a_has_checked_in(system: str, cluster: Cluster, tmp_path: Path) -> None:
    a = SYSTEMS[system](tmp_path, "a")
    write(a.root, cluster)
    first = a.check_in()
    b = SYSTEMS[system](tmp_path, "b")
    b.update()
    direct = "pipeline-steps run direct --deployment hello-team-a --channels configured"
    done = run(direct, b.root, b.environment())
    assert done.returncode == 0, done.stderr
    assert re.search(r"✓ deploy +\d+\.\d s  deploy: passed k131/\S+/hello:1", done.stderr)
    (a.root / "env/a.yaml").write_text("word: second\n")
    second = a.check_in()
    b.update()
    assert run("pipeline-steps deploy hello-team-a", b.root, b.environment()).returncode == 0
    (b.root / "env/a.yaml").write_text("word: mine\n")
    refused = run("pipeline-steps deploy hello-team-a", b.root, b.environment())
    assert refused.returncode == 4 and "local modifications: env/a.yaml" in refused.stderr
    done = run("pipeline-steps deploy hello-team-a --modified", b.root, b.environment())
    assert done.returncode == 0, done.stderr
    said = run("pipeline-steps deploy hello-team-a --status", a.root, a.environment()).stdout
    assert f"source         {system} {second}" in said and "modified       env/a.yaml" in said
    for expected in (second, first):
        undone = run("pipeline-steps deploy hello-team-a --undo", a.root, a.environment())
        assert undone.returncode == 0, undone.stderr
        said = run("pipeline-steps deploy --status", b.root, b.environment()).stdout
        assert f"source         {system} {expected}" in said
    shown = run("pipeline-steps state show", b.root, b.environment()).stdout
    assert (
        re.search(r"(?m)^deploy +hello +passed", shown)
        and f"release: k131/{cluster.namespace}/hello:3" in shown
    )


def test_the_how_to_does_what_it_says(cluster: Cluster, tmp_path: Path) -> None:
    git = Git(tmp_path, "a")
    write(git.root, cluster)
    git.check_in()
    built = run("pipeline-steps build_image", git.root, git.environment())
    assert built.returncode == 0, built.stderr
    for number, line in enumerate(docs.scripts(HOW_TO)):
        if "--undo" in line:
            (git.root / "env/a.yaml").write_text(f"word: w{number}\n")
            git.check_in()
            run("pipeline-steps deploy hello-team-a", git.root, git.environment())
        if "--modified" in line:
            (git.root / "env/a.yaml").write_text("word: mine\n")
        done = run(line, git.root, git.environment())
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
