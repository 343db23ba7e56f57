"""The node of tools/kubernetes: pods, services and names work; nothing is left of it, however it
ended.

There can be one node a machine, so those that end it do so on a machine of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import apart, machine
from tools.kubernetes import build, components, network, node
from tools.programs import programs

NODE = Path(node.__file__)
POD = """
apiVersion: v1
kind: Pod
metadata: {name: sleeper}
spec:
  containers: [{name: sleeper, image: "localhost/pause:1", imagePullPolicy: Never, command: [/program]}]
"""


@pytest.fixture(scope="module")
def kubectl() -> str:
    return str(programs.get("helm4") / "kubectl")


@pytest.fixture
def elsewhere() -> Iterator[apart.Apart]:
    build.built()
    with apart.machine() as machine_:
        yield machine_


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("n") / "node"  # a short path: sockets lie in it


def tool(where: apart.Apart, *words: str) -> subprocess.CompletedProcess[str]:
    return where.run(sys.executable, str(NODE), *words)


def start(where: apart.Apart, folder: Path, kubectl: str) -> None:
    """A node with a running pod."""
    started = tool(where, "up", "--folder", str(folder))
    assert started.returncode == 0, started.stderr
    environment = {"KUBECONFIG": str(folder / "kubeconfig")}
    (folder / "pod.yaml").write_text(POD)
    assert where.run(kubectl, "apply", "-f", f"{folder}/pod.yaml", **environment).returncode == 0
    ready = where.run(
        kubectl, "wait", "--for=condition=Ready", "pod/sleeper", "--timeout=120s", **environment
    )
    assert ready.returncode == 0, ready.stderr


def control_groups(folder: Path) -> list[Path]:
    """Control groups of the containers in a node's folder."""
    names = components.container_ids(folder)
    return [path for path in Path("/sys/fs/cgroup").glob("**/k8s.io/*") if path.name in names]


def test_a_pod_pulls_its_image_and_reaches_a_service_by_name(
    docker_engine: machine.Engine, kubernetes_node: machine.Node, kubectl: str, tmp_path: Path
) -> None:
    (tmp_path / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (tmp_path / "busybox").chmod(0o755)
    (tmp_path / "Dockerfile").write_text(
        "FROM scratch\nCOPY busybox /bin/busybox\nCOPY Dockerfile /www/index.html\n"
    )
    space = f"node-test-{time.monotonic_ns()}"

    def cluster(*words: str, stdin: str = "") -> str:
        command = [
            kubectl,
            "--kubeconfig",
            str(kubernetes_node.kubeconfig),
            "--namespace",
            space,
            *words,
        ]
        completed = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=180
        )
        assert completed.returncode == 0, completed.stderr
        return completed.stdout

    with machine.registry() as registry, machine.kubernetes_node(registry.host):
        image = f"{registry.host}/web:1"
        built = subprocess.run(
            ["docker", "buildx", "build", "--push", "-t", image, str(tmp_path)],
            env={**os.environ, **docker_engine.environment}, capture_output=True, text=True,
        )  # fmt: skip
        assert built.returncode == 0, built.stderr
        cluster("create", "namespace", space)
        try:
            cluster("apply", "-f", "-", stdin=WEB.replace("IMAGE", image))
            cluster("wait", "--for=condition=Ready", "pod/web", "--timeout=120s")
            cluster(
                "apply", "-f", "-", stdin=ASKING.replace("IMAGE", image).replace("SPACE", space)
            )
            cluster(
                "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/asking", "--timeout=120s"
            )
            assert "COPY busybox" in cluster("logs", "asking")
        finally:
            cluster("delete", "namespace", space, "--wait=false")


def test_up_again_finds_it_and_takes_another_registry(
    elsewhere: apart.Apart, folder: Path, kubectl: str
) -> None:
    first = json.loads(
        tool(elsewhere, "up", "--folder", str(folder), "--registry", "127.0.0.1:5001").stdout
    )
    again = json.loads(
        tool(elsewhere, "up", "--folder", str(folder), "--registry", "127.0.0.1:5002").stdout
    )
    assert again.pop("registries") == ["127.0.0.1:5001", "127.0.0.1:5002"]
    assert first.pop("registries") == ["127.0.0.1:5001"]
    assert again == first
    assert first["host"] == elsewhere.address
    assert "insecure" not in Path(first["kubeconfig"]).read_text()
    second = tool(elsewhere, "up", "--folder", f"{folder}-2")
    assert second.returncode == 7
    assert f"a node runs on this machine in {folder}, and there can be one only" in second.stderr
    assert not Path(f"{folder}-2").exists()
    mistaken = tool(elsewhere, "down", "--folder", f"{folder}-2")
    assert (mistaken.returncode, mistaken.stderr) == (
        2, f"node.py: the node of this machine is in {folder}, not in {folder}-2\n",
    )  # fmt: skip
    assert tool(elsewhere, "status", "--folder", str(folder)).returncode == 0


def test_down_leaves_nothing(elsewhere: apart.Apart, folder: Path, kubectl: str) -> None:
    before = elsewhere.traces()
    start(elsewhere, folder, kubectl)
    new = elsewhere.new_since(before)
    assert new.keys() >= {
        "processes",
        "mounts",
        "interfaces",
        "rules",
        "files",
    }  # else the last line proves nothing
    groups = control_groups(folder)
    assert groups
    ended = tool(elsewhere, "down", "--folder", str(folder))
    assert ended.returncode == 0, ended.stderr
    assert elsewhere.new_since(before) == {}
    assert not [group for group in groups if group.exists()]
    assert not folder.exists()


def test_nothing_is_left_of_a_node_killed_with_its_pods(
    elsewhere: apart.Apart, folder: Path, kubectl: str
) -> None:
    before = elsewhere.traces()
    start(elsewhere, folder, kubectl)
    # all daemons at once, but neither shims nor containers
    names = (
        "etcd|kube-apiserver|kube-controller|kube-scheduler|kubelet|kube-proxy|coredns|containerd"
    )
    elsewhere.run(
        "sh",
        "-c",
        f"ps -eo pid=,comm= | grep -E ' ({names})$' | awk '{{print $1}}' | xargs kill -9",
    )
    assert tool(elsewhere, "status", "--folder", str(folder)).returncode == 7
    groups = control_groups(folder)
    start(elsewhere, folder, kubectl)
    assert not [group for group in groups if group.exists()]
    assert tool(elsewhere, "down", "--folder", str(folder)).returncode == 0
    assert elsewhere.new_since(before) == {}


@pytest.mark.parametrize("seconds", ["0.4", "1.5", "3"])
def test_an_up_killed_half_way_is_cleaned_up(
    elsewhere: apart.Apart, folder: Path, seconds: str
) -> None:
    before = elsewhere.traces()
    killed = elsewhere.run(
        "timeout",
        "--signal=KILL",
        seconds,
        sys.executable,
        str(NODE),
        "up",
        "--folder",
        str(folder),
    )
    assert killed.returncode in (-9, 137)
    assert tool(elsewhere, "down", "--folder", str(folder)).returncode == 0
    assert elsewhere.new_since(before) == {}


def test_a_component_that_dies_at_start_is_told_with_its_log(
    elsewhere: apart.Apart, folder: Path, tmp_path: Path
) -> None:
    dying = tmp_path / "etcd"
    dying.write_text("#!/bin/sh\necho no space left on this device; exit 4\n")
    dying.chmod(0o755)
    before = elsewhere.traces()
    completed = elsewhere.run(
        "sh", "-c", f"PATH={tmp_path}:$PATH exec {sys.executable} {NODE} up --folder {folder}"
    )
    assert completed.returncode == 7
    assert "etcd ended with 4 at start" in completed.stderr
    assert "no space left on this device" in completed.stderr
    assert elsewhere.new_since(before) == {}


def test_rules_of_others_survive_the_clean_up() -> None:
    saved = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:CNI-FORWARD - [0:0]
:DOCKER-USER - [0:0]
:KUBE-FORWARD - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD
-A CNI-FORWARD -d 10.88.0.7/32 -j ACCEPT
-A CNI-FORWARD -s 10.213.0.2/32 -j ACCEPT
-A KUBE-FORWARD -j ACCEPT
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
COMMIT
"""
    assert (
        network.removal(saved, frozenset({"CNI-FORWARD"}))
        == """\
*filter
-D FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-D CNI-FORWARD -s 10.213.0.2/32 -j ACCEPT
-F KUBE-FORWARD
-X KUBE-FORWARD
COMMIT
"""
    )
    assert network.removal("*nat\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n", frozenset()) == ""


WEB = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: web, image: IMAGE, command: [/bin/busybox, httpd, -f, -p, "8080", -h, /www]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""
ASKING = """
apiVersion: v1
kind: Pod
metadata: {name: asking}
spec:
  restartPolicy: OnFailure
  containers:
  - name: asking
    image: IMAGE
    command: [/bin/busybox, wget, -q, -O, "-", "http://web.SPACE.svc.cluster.local/"]
"""
