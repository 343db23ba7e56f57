"""A deployment as the configuration has it, with the cluster that it is on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.clusters import kubeconfig
from pipeline_steps.clusters.helm import RELEASE_NAME_LIMIT, Target
from pipeline_steps.clusters.kubernetes import Api
from pipeline_steps.config.language import TEST_DEFAULTS, Config, Deployment, merge_tests
from pipeline_steps.toolbox import clock
from pipeline_steps.toolbox.errors import ConfigurationError, MachineError, UsageError
from pipeline_steps.toolbox.yaml_reader import nearest_names

#: What helm takes as the name of a release.
_RELEASE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class Place(NamedTuple):
    """Where a deployment goes. name: its key in `deployments`; cluster: its name in `clusters`."""

    name: str
    deployment: Deployment
    cluster: str
    target: Target

    def __str__(self) -> str:
        return f"{self.cluster}/{self.target.namespace}/{self.target.release}"

    @property
    def lease(self) -> str:
        """The name of the lease that whoever changes the release holds."""
        return f"pipeline-steps-{self.target.release}"


def find(config: Config, name: str | None, cluster: str | None = None) -> Place:
    """The deployment `name`; None for the only one there is.

    cluster: the name in `clusters` of another cluster than the configured one. Raises UsageError,
    ConfigurationError.
    """
    names = list(config.deployments)
    if not names:
        raise ConfigurationError(
            "no deployment is configured",
            where=config.where("deployments"),
            advice="configure one, as in deployments: {NAME: {chart: CHART, cluster: CLUSTER, namespace: NAMESPACE}}",
        )
    if name is None and len(names) > 1:
        raise UsageError(
            f"{len(names)} deployments are configured, and none is named",
            advice=f"name one: {', '.join(names)}",
        )
    name = name or names[0]
    if name not in config.deployments:
        raise UsageError(
            f"there is no deployment {name!r}",
            where=config.where("deployments"),
            advice=nearest_names(name, names),
        )
    deployment = config.deployments[name]
    cluster = cluster or deployment.cluster
    return Place(name, deployment, cluster, _target(config, name, deployment, cluster))


def _target(config: Config, name: str, deployment: Deployment, cluster: str) -> Target:
    entry = config.clusters.get(cluster)
    if entry is None:
        raise ConfigurationError(
            f"deployment {name}: there is no cluster {cluster!r}",
            where=config.where(f"deployments.{name}.cluster"),
            advice=nearest_names(cluster, list(config.clusters)),
        )
    release = deployment.release or name
    if len(release) > RELEASE_NAME_LIMIT or not _RELEASE.fullmatch(release):
        raise ConfigurationError(
            f"deployment {name}: {release!r} is no name of a release: small letters, digits, - and "
            f"., at most {RELEASE_NAME_LIMIT}",
            where=config.where(f"deployments.{name}"),
            advice=f"set deployments.{name}.release",
        )
    # Relative to pipeline.yaml, wherever the command is called.
    path = config.root / Path(entry.kubeconfig).expanduser()
    return Target(path, entry.context, deployment.namespace, release)


def connect(place: Place) -> Api:
    """The API of the deployment's cluster. Raises ConfigurationError, MachineError."""
    return Api(kubeconfig.load(place.target.kubeconfig, place.target.context))


def require_namespace(api: Api, place: Place) -> None:
    """Raises MachineError when the namespace does not exist: a mistyped one must not be made."""
    namespace = place.target.namespace
    if api.ask(api.core.read_namespace, namespace) is None:
        raise MachineError(
            f"namespace {namespace} does not exist",
            where=f"{place.cluster} ({api.connection.server})",
            advice=f"create it: kubectl create namespace {namespace}",
        )


def timeout(config: Config, seconds: float | None) -> float:
    """Seconds for a deploy: as given, else `tests.timeout`, which says how long charts need."""
    if seconds is not None:
        return seconds
    return clock.seconds(str(merge_tests(TEST_DEFAULTS, config.tests).timeout))
