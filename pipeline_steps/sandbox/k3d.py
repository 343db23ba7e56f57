"""k3d: k3s nodes as docker containers (k3d.io).

Nodes get a registries.yaml when they are made; host.k3d.internal is k3d's name for this machine.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipeline_steps.sandbox.tool import call, gateway
from pipeline_steps.toolbox import files

PROGRAM = "k3d"


def up(name: str, kubeconfig: Path, registry: str) -> str:
    """Make the cluster, or start the one there is; see cluster.Maker."""
    port = registry.rpartition(":")[2]
    mirror = json.dumps({"mirrors": {registry: {"endpoint": [f"http://host.k3d.internal:{port}"]}}}).encode()
    mirrors = kubeconfig.with_name("k3d-registries.yaml")
    if _exists(name) and mirrors.is_file() and mirrors.read_bytes() == mirror:
        call(PROGRAM, "cluster", "start", name, "--wait", timeout=300)
    else:
        down(name, kubeconfig)  # one that pulls from a former port cannot be taught another
        files.write(mirrors, mirror)
        call(PROGRAM, "cluster", "create", name, "--registry-config", str(mirrors), "--kubeconfig-update-default=false",
             "--kubeconfig-switch-context=false", "--wait", "--timeout", "300s", timeout=900)  # fmt: skip
    files.write(kubeconfig, call(PROGRAM, "kubeconfig", "get", name))
    return gateway(f"k3d-{name}")


def down(name: str, kubeconfig: Path) -> None:
    """Remove the cluster when it is there."""
    if _exists(name):
        call(PROGRAM, "cluster", "delete", name)


def _exists(name: str) -> bool:
    return any(cluster["name"] == name for cluster in json.loads(call(PROGRAM, "cluster", "list", "-o", "json")))
