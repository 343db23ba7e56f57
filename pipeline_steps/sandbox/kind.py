"""kind: Kubernetes nodes as docker containers (kind.sigs.k8s.io).

Nodes find the registry as kind's page "Local Registry" describes: containerd reads certs.d, and each node gets a
hosts.toml there.
"""

from __future__ import annotations

from pathlib import Path

from pipeline_steps.sandbox.tool import call, gateway, hosts_toml, words
from pipeline_steps.toolbox import files

PROGRAM = "kind"
# From kind 0.27 on this is the default; older ones need it.
CONFIG = """\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
containerdConfigPatches:
  - |-
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "/etc/containerd/certs.d"
"""


def up(name: str, kubeconfig: Path, registry: str) -> str:
    """Make the cluster, or take the one there is; see cluster.Maker."""
    if name not in words(PROGRAM, "get", "clusters"):
        settings = kubeconfig.with_name("kind.yaml")
        files.write(settings, CONFIG.encode())
        call(PROGRAM, "create", "cluster", "--name", name, "--kubeconfig", str(kubeconfig), "--config", str(settings),
             "--wait", "3m", timeout=900)  # fmt: skip
    call(PROGRAM, "export", "kubeconfig", "--name", name, "--kubeconfig", str(kubeconfig))
    address = gateway("kind")
    port = registry.rpartition(":")[2]
    target = f"/etc/containerd/certs.d/{registry}"
    for node in words(PROGRAM, "get", "nodes", "--name", name):
        call("docker", "exec", node, "mkdir", "-p", target)
        call("docker", "exec", "-i", node, "cp", "/dev/stdin", f"{target}/hosts.toml",
             stdin=hosts_toml(f"{address}:{port}"))  # fmt: skip
    return address


def down(name: str, kubeconfig: Path) -> None:
    """Remove the cluster; kind finds nothing wrong with one that is not there."""
    call(PROGRAM, "delete", "cluster", "--name", name, "--kubeconfig", str(kubeconfig))
