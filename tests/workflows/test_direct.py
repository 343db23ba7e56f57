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
from tests.support import busybox, docs, gits, source_systems
from tests.support.helms import chart_files, helm
from tests.support.machine import Node, kubernetes_node, registry
from tools.demo import direct as demo_direct

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


#: How a developer brings a checkout to what is checked in. brz is a program of the system's Python,
#: which it looks for on PATH.
UPDATE = {
    "git": "git pull -q",
    "bzr": "PATH=/usr/bin:$PATH brz pull -q",
    "svn": "svn update -q",
}


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
        timeout=600,
    )


@pytest.mark.parametrize("system", source_systems.SYSTEMS)
def test_b_deploys_what_a_has_checked_in(system: str, cluster: Cluster, tmp_path: Path) -> None:
    environment = dict(source_systems.SYSTEMS[system].environment(tmp_path))
    with source_systems.SYSTEMS[system].server(tmp_path / "server") as server:
        a = server.checkout(tmp_path / "a")

        def check_in(word: str) -> str:
            a.put("env/a.yaml", f"word: {word}\n")
            revision = a.commit(word)
            a.push()
            return revision

        def typed(line: str, root: Path, code: int = 0) -> str:
            done = run(line, root, environment)
            assert done.returncode == code, f"{line}\n{done.stdout}{done.stderr}"
            return done.stdout + done.stderr

        write(a.root, cluster)
        first = check_in("first")
        b = server.checkout(tmp_path / "b").root
        direct = "pipeline-steps run direct --deployment hello-team-a --channels configured"
        assert re.search(r"✓ deploy +\d+\.\d s  deploy: passed k131/\S+/hello:1", typed(direct, b))
        second = check_in("second")
        typed(f"{UPDATE[system]} && pipeline-steps deploy hello-team-a", b)
        (b / "env/a.yaml").write_text("word: mine\n")
        assert "local modifications: env/a.yaml" in typed(
            "pipeline-steps deploy hello-team-a", b, 4
        )
        typed("pipeline-steps deploy hello-team-a --modified", b)
        said = typed("pipeline-steps deploy hello-team-a --status", a.root)
        assert f"source         {system} {second}" in said and "modified       env/a.yaml" in said
        for expected in (second, first):
            typed("pipeline-steps deploy hello-team-a --undo", a.root)
            assert f"source         {system} {expected}" in typed(
                "pipeline-steps deploy --status", b
            )
        shown = typed("pipeline-steps state show", b)
        assert re.search(r"(?m)^deploy +hello +passed", shown)
        assert f"release: k131/{cluster.namespace}/hello:3" in shown
        page = b / ".pipeline/state.html"
        typed(f"pipeline-steps state html --output {page}", b)
        assert f"k131/{cluster.namespace}/hello:3" in page.read_text()


def test_the_how_to_does_what_it_says(cluster: Cluster, tmp_path: Path) -> None:
    checkout = gits.checkout(tmp_path)
    environment = gits.environment(tmp_path)
    write(checkout.root, cluster)
    for number, line in enumerate(["pipeline-steps build_image", *docs.scripts(HOW_TO)]):
        checkout.put("env/a.yaml", f"word: w{number}\n")
        if "--modified" not in line:
            checkout.commit(f"w{number}")
        if "--undo" in line:
            run("pipeline-steps deploy hello-team-a", checkout.root, environment)
        done = run(line, checkout.root, environment)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def test_make_demo_direct_tells_a_story_that_ends_with_what_b_deployed(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Its commands, on the systems of the tests; `make demo-direct` starts its own."""
    folder, overlay = tmp_path / "demo", tmp_path / "overlay.yaml"
    node, place = cluster.node, f"{cluster.images}/demo"
    settings = {
        "hosts": {cluster.images: {"plain_http": True}},
        "channels": {"snapshot": {"images": place, "charts": f"oci://{place}/charts"}},
        "clusters": {"sandbox": {"kubeconfig": str(node.kubeconfig), "context": node.context}},
    }
    overlay.write_text(yaml.safe_dump(settings))
    variables = {
        "PATH": f"{Path(sys.executable).parent}:{helm(4).parent}:{os.environ['PATH']}",
        "PIPELINE_STEPS_CONFIG": str(overlay),
        "PIPELINE_STEPS_CHANNELS": "configured",
    }
    demo_direct.working_copies(docs.ROOT / "examples/hello", folder, cluster.namespace)
    assert demo_direct.story(folder, variables) == 0
    status = run("pipeline-steps deploy --status", folder / "a", variables)
    assert f"{cluster.namespace}/hello" in status.stdout + status.stderr, status
