"""minikube: one node as a docker container (minikube.sigs.k8s.io), with containerd inside.

host.minikube.internal is minikube's name for this machine; containerd reads certs.d there.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipeline_steps.sandbox.tool import call, hosts_toml
from pipeline_steps.toolbox.errors import MachineError

PROGRAM = "minikube"


def up(name: str, kubeconfig: Path, registry: str) -> str:
    """Make the node, or start the one there is; see cluster.Maker."""
    call(PROGRAM, "start", "-p", name, "--driver=docker", "--container-runtime=containerd", "--keep-context",
         "--wait=all", timeout=900, env={"KUBECONFIG": str(kubeconfig)})  # fmt: skip
    lines = call(PROGRAM, "ssh", "-p", name, "--", "grep host.minikube.internal /etc/hosts").decode().split()
    if not lines:
        raise MachineError("minikube's node has no host.minikube.internal", advice=f"minikube delete -p {name}")
    address = lines[0]
    target = f"/etc/containerd/certs.d/{registry}"
    text = hosts_toml(f"{address}:{registry.rpartition(':')[2]}").decode()
    write = f"sudo mkdir -p {target} && printf %s '{text}' | sudo tee {target}/hosts.toml"
    call(PROGRAM, "ssh", "-p", name, "--", write)
    return address


def down(name: str, kubeconfig: Path) -> None:
    """Remove the node when it is there."""
    profiles = json.loads(call(PROGRAM, "profile", "list", "-o", "json", may_fail=True) or b"{}")
    every = [*(profiles.get("valid") or ()), *(profiles.get("invalid") or ())]
    if any(profile.get("Name") == name for profile in every):
        call(PROGRAM, "delete", "-p", name, timeout=300)
