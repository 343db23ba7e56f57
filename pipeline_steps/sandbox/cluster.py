"""Clusters for the sandbox: one that exists (kubeconfig), or one made by the program that is installed here.

One file per program. A cluster whose nodes are containers sees this machine under another address: `gateway` is
that address, and `up` teaches the nodes that the registry's images come from there.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

from urllib3.exceptions import HTTPError

from pipeline_steps.sandbox import k3d, kind, minikube
from pipeline_steps.sandbox.ledger import Made
from pipeline_steps.toolbox import process
from pipeline_steps.toolbox.errors import ConfigurationError, MachineError, ToolMissing, Unreachable, UsageError

log = logging.getLogger(__name__)
NAME = "pipeline-steps"
ADVICE = (
    "install kind, k3d or minikube, or name a cluster with --kubeconfig FILE [--context NAME]; without a cluster: "
    "--maker none; in a checkout of pipeline_steps `python3 tools/kubernetes/node.py up` starts one"
)


class Maker(Protocol):
    """A program that makes clusters on this machine; a module is enough."""

    PROGRAM: str

    def up(self, name: str, kubeconfig: Path, registry: str) -> str:
        """Make the cluster `name`, or find it made, and write its kubeconfig; returns the address of this machine
        as its nodes see it. registry: host:port, pulled from that address. Raises MachineError."""

    def down(self, name: str, kubeconfig: Path) -> None:
        """Remove the cluster; one that is not there is no error. Raises MachineError."""


MAKERS: dict[str, Maker] = {maker.PROGRAM: maker for maker in (kind, k3d, minikube)}


def choose(given: str | None, former: Made | None) -> str:
    """The kind of cluster to use: as given, as before, or the first maker that is installed.

    Raises UsageError for an unknown one, ToolMissing when there is none.
    """
    wanted = given or (former.kind if former and former.kind in MAKERS else None)
    if wanted is None:
        wanted = next((program for program in MAKERS if process.which(program)), None)
        if wanted is None:
            raise ToolMissing("no cluster: none of kind, k3d and minikube is installed", advice=ADVICE)
    if wanted not in MAKERS:
        raise UsageError(f"--maker {wanted}: there is {', '.join(MAKERS)} and none")
    if process.which(wanted) is None:
        raise ToolMissing(f"{wanted} is not installed", advice=ADVICE)
    return wanted


def existing(kubeconfig: Path, context: str | None, pull_from: str) -> Made:
    """A cluster that is there already, asked for its version. Raises ConfigurationError, Unreachable, MachineError."""
    path = kubeconfig.expanduser().resolve()
    if not path.is_file():
        raise ConfigurationError("no such file", where=f"--kubeconfig {kubeconfig}")
    log.info("cluster: Kubernetes %s (%s)", ask(path, context), path)
    return Made("kubeconfig", "", str(path), context, pull_from)


def ask(kubeconfig: Path, context: str | None, *, timeout: float = 10) -> str:
    """The cluster's version. Raises ConfigurationError, Unreachable, MachineError."""
    from kubernetes import client, config
    from kubernetes.config import ConfigException

    where = f"{kubeconfig}{f', context {context}' if context else ''}"
    try:
        with config.new_client_from_config(str(kubeconfig), context) as api:  # type: ignore[no-untyped-call]
            api.configuration.retries = False
            return str(client.VersionApi(api).get_code(_request_timeout=timeout).git_version)
    except ConfigException as error:
        raise ConfigurationError(f"not a usable kubeconfig: {error}", where=where) from error
    except (HTTPError, OSError) as error:
        advice = "start the cluster, or name another one with --kubeconfig"
        raise Unreachable(f"the cluster does not answer: {error}", where=where, advice=advice) from error
    except client.ApiException as error:
        raise MachineError(f"the cluster answers {error.status} {error.reason}", where=where) from error
