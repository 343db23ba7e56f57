"""What the cluster makers share: calling a program that must succeed, and a node's way to our registry."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping

from pipeline_steps.toolbox import process
from pipeline_steps.toolbox.errors import MachineError

log = logging.getLogger(__name__)


def call(
    *argv: str,
    timeout: float = 120,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    may_fail: bool = False,
) -> bytes:
    """Run a program and return its stdout. Raises MachineError with the end of its output when it fails."""
    log.info("%s", " ".join(argv))
    done = process.run(argv, timeout=timeout, stdin=stdin, env=env)
    if not done.ok and not may_fail:
        ending = f"not done within {timeout:.0f} s" if done.code is None else f"failed with {done.code}"
        raise MachineError(f"{' '.join(argv[:3])} {ending}:\n{done.tail()}")
    return done.stdout


def words(*argv: str) -> list[str]:
    """The words a program prints."""
    return call(*argv).decode().split()


def gateway(network: str) -> str:
    """This machine's IPv4 address in a docker network. Raises MachineError."""
    found = words("docker", "network", "inspect", network, "-f", "{{range .IPAM.Config}}{{.Gateway}} {{end}}")
    for text in found:
        if ipaddress.ip_address(text).version == 4:
            return text
    raise MachineError(f"docker network {network} has no IPv4 gateway: {' '.join(found) or 'none'}")


def hosts_toml(endpoint: str) -> bytes:
    """containerd's hosts.toml for images that come from `endpoint` (host:port) over plain HTTP."""
    return f'[host."http://{endpoint}"]\n  capabilities = ["pull", "resolve"]\n'.encode()
