"""The sandbox's cluster: an existing one (kubeconfig), or one created by an installed program.

The nodes of kind, k3d and minikube are docker containers, which see this machine under another
address. `up` returns that address and configures the nodes to pull the registry's images from it.
"""

from __future__ import annotations

import ipaddress
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pipeline_steps.clusters.kubeconfig import load
from pipeline_steps.clusters.kubernetes import Api
from pipeline_steps.sandbox.ledger import ClusterRecord
from pipeline_steps.toolbox import files, process
from pipeline_steps.toolbox.errors import ConfigurationError, MachineError, ToolMissing, UsageError

log = logging.getLogger(__name__)
NAME = "pipeline-steps"
ADVICE = (
    "install kind, k3d or minikube, or name a cluster with --kubeconfig FILE [--context NAME]; "
    "without a cluster: --maker none; in a checkout of pipeline_steps `python3 "
    "tools/kubernetes/node.py up` starts one"
)
# From kind 0.27 on this is the default; older ones need it.
KIND_CONFIG = """\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
containerdConfigPatches:
  - |-
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "/etc/containerd/certs.d"
"""


class Maker(Protocol):
    """A program that creates clusters on this machine."""

    def up(self, name: str, kubeconfig: Path, registry: str) -> str:
        """Create or start the cluster `name` and write its kubeconfig.

        registry: host:port of the images' names. Returns the address of this machine as the nodes
        see it; images are pulled from there. Raises MachineError.
        """

    def down(self, name: str, kubeconfig: Path) -> None:
        """Remove the cluster, if there is one. Raises MachineError."""


class Kind:
    """kind.sigs.k8s.io; nodes find the registry as described there on the page "Local Registry"."""

    def up(self, name: str, kubeconfig: Path, registry: str) -> str:
        """Create the cluster, or use the existing one."""
        if name not in words("kind", "get", "clusters"):
            settings = kubeconfig.with_name("kind.yaml")
            files.write(settings, KIND_CONFIG.encode())
            call("kind", "create", "cluster", "--name", name, "--kubeconfig", str(kubeconfig),
                 "--config", str(settings), "--wait", "3m", timeout=900)  # fmt: skip
        # Also for an existing cluster, whose kubeconfig may be lost or belong to an earlier
        # one.
        call("kind", "export", "kubeconfig", "--name", name, "--kubeconfig", str(kubeconfig))
        address = gateway("kind")
        port = registry.rpartition(":")[2]
        target = f"/etc/containerd/certs.d/{registry}"
        for node in words("kind", "get", "nodes", "--name", name):
            call("docker", "exec", node, "mkdir", "-p", target)
            call("docker", "exec", "-i", node, "cp", "/dev/stdin", f"{target}/hosts.toml",
                 stdin=hosts_toml(f"{address}:{port}"))  # fmt: skip
        return address

    def down(self, name: str, kubeconfig: Path) -> None:
        """Remove the cluster; kind finds nothing wrong with one that is not there."""
        call("kind", "delete", "cluster", "--name", name, "--kubeconfig", str(kubeconfig))


class K3d:
    """k3d.io. Nodes get a registries.yaml at creation; host.k3d.internal is this machine."""

    def up(self, name: str, kubeconfig: Path, registry: str) -> str:
        """Create the cluster, or start the existing one."""
        port = registry.rpartition(":")[2]
        mirror = json.dumps(
            {"mirrors": {registry: {"endpoint": [f"http://host.k3d.internal:{port}"]}}}
        ).encode()
        mirrors = kubeconfig.with_name("k3d-registries.yaml")
        if self._exists(name) and mirrors.is_file() and mirrors.read_bytes() == mirror:
            call("k3d", "cluster", "start", name, "--wait", timeout=300)
        else:
            # One that pulls from a former port cannot be taught another.
            self.down(name, kubeconfig)
            files.write(mirrors, mirror)
            call("k3d", "cluster", "create", name, "--registry-config", str(mirrors),
                 "--kubeconfig-update-default=false", "--kubeconfig-switch-context=false", "--wait",
                 "--timeout", "300s", timeout=900)  # fmt: skip
        files.write(kubeconfig, call("k3d", "kubeconfig", "get", name))
        return gateway(f"k3d-{name}")

    def down(self, name: str, kubeconfig: Path) -> None:
        """Remove the cluster when it is there."""
        if self._exists(name):
            call("k3d", "cluster", "delete", name)

    def _exists(self, name: str) -> bool:
        return any(
            cluster["name"] == name
            for cluster in json.loads(call("k3d", "cluster", "list", "-o", "json"))
        )


class Minikube:
    """minikube.sigs.k8s.io with containerd; host.minikube.internal is this machine."""

    def up(self, name: str, kubeconfig: Path, registry: str) -> str:
        """Create the node, or start the existing one."""
        call("minikube", "start", "-p", name, "--driver=docker", "--container-runtime=containerd", "--keep-context",
             "--wait=all", timeout=900, env={"KUBECONFIG": str(kubeconfig)})  # fmt: skip
        lines = (
            call(
                "minikube",
                "ssh",
                "-p",
                name,
                "--",
                "grep host.minikube.internal /etc/hosts",
                may_fail=True,
            )
            .decode()
            .split()
        )
        if not lines:
            raise MachineError(
                "minikube's node has no host.minikube.internal",
                advice=f"run minikube delete -p {name}, then sandbox up",
            )
        address = lines[0]
        target = f"/etc/containerd/certs.d/{registry}"
        text = hosts_toml(f"{address}:{registry.rpartition(':')[2]}").decode()
        write = f"sudo mkdir -p {target} && printf %s '{text}' | sudo tee {target}/hosts.toml"
        call("minikube", "ssh", "-p", name, "--", write)
        return address

    def down(self, name: str, kubeconfig: Path) -> None:
        """Remove the node when it is there."""
        profiles = json.loads(
            call("minikube", "profile", "list", "-o", "json", may_fail=True) or b"{}"
        )
        every = [*(profiles.get("valid") or ()), *(profiles.get("invalid") or ())]
        if any(profile.get("Name") == name for profile in every):
            call("minikube", "delete", "-p", name, timeout=300)


MAKERS: Mapping[str, Maker] = {"kind": Kind(), "k3d": K3d(), "minikube": Minikube()}


def choose_maker(option: str | None, former: ClusterRecord | None) -> str:
    """The program to use: the given one, the one used before, or the first that is installed.

    Raises UsageError for an unknown program, ToolMissing when none is installed.
    """
    maker = option or (former.kind if former and former.kind in MAKERS else None)
    if maker is None:
        maker = next((program for program in MAKERS if process.which(program)), None)
        if maker is None:
            raise ToolMissing(
                "no cluster: none of kind, k3d and minikube is installed", advice=ADVICE
            )
    if maker not in MAKERS:
        raise UsageError(
            f"--maker {maker} is no program that makes clusters",
            advice=f"use {', '.join(MAKERS)}, or none",
        )
    if process.which(maker) is None:
        advice = ADVICE
        if former and former.kind == maker:
            advice = (
                f"the sandbox's cluster is of {maker}: install it again, then sandbox up or down"
            )
        raise ToolMissing(f"{maker} is not installed", advice=advice)
    return maker


def existing_cluster(kubeconfig: Path, context: str | None, pull_from: str) -> ClusterRecord:
    """An existing cluster, after asking it for its version.

    Raises ConfigurationError, Unreachable, MachineError.
    """
    path = kubeconfig.expanduser().resolve()
    if not path.is_file():
        raise ConfigurationError(
            f"the kubeconfig {kubeconfig} does not exist",
            advice="name the cluster's own with --kubeconfig FILE",
        )
    log.info("cluster: Kubernetes %s (%s)", version(path, context), path)
    return ClusterRecord("kubeconfig", "", str(path), context, pull_from)


def version(kubeconfig: Path, context: str | None) -> str:
    """The cluster's version. Raises ConfigurationError, Unreachable, AccessRefused, MachineError,
    Temporary.
    """
    return Api(load(kubeconfig, context)).version()


def call(
    *argv: str,
    timeout: float = 120,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    may_fail: bool = False,
) -> bytes:
    """Run a program and return its stdout. Raises MachineError with the end of its output."""
    log.info("%s", " ".join(argv))
    completed = process.run(argv, timeout=timeout, stdin=stdin, env=env)
    if not completed.ok and not may_fail:
        ending = (
            f"did not finish within {timeout:.0f} s"
            if completed.code is None
            else f"ended with exit code {completed.code}"
        )
        raise MachineError(
            f"{' '.join(argv[:3])} {ending}:\n{completed.tail()}",
            advice="correct what it names, then run sandbox up again",
        )
    return completed.stdout


def words(*argv: str) -> list[str]:
    """The words in a program's output."""
    return call(*argv).decode().split()


def gateway(network: str) -> str:
    """This machine's IPv4 address in a docker network. Raises MachineError."""
    addresses = words(
        "docker", "network", "inspect", network, "-f", "{{range .IPAM.Config}}{{.Gateway}} {{end}}"
    )
    for text in addresses:
        if ipaddress.ip_address(text).version == 4:
            return text
    raise MachineError(
        f"the docker network {network} has no IPv4 gateway",
        advice=f"run sandbox down, docker network rm {network}, sandbox up",
    )


def hosts_toml(endpoint: str) -> bytes:
    """containerd's hosts.toml to pull images from `endpoint` (host:port) over plain HTTP."""
    return f'[host."http://{endpoint}"]\n  capabilities = ["pull", "resolve"]\n'.encode()
