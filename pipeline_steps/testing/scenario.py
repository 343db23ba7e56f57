"""Test scenarios of a chart as pure functions: which there are, their key parameters, image check.

`settings` plans them for a chart; `requirements` decides which of them a release needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

INSTALL = "install"


class Scenario(NamedTuple):
    """One test of a chart.

    kind: "install", or "none" for a chart that is not tested.
    values: values file relative to the chart's folder, "" for the chart's own values.
    cluster: name in the configuration.
    values_digest: digest of the values file, "" without one.
    argument_digests: (path relative to pipeline.yaml's folder, digest) of files in tests.helm_args.
    """

    kind: str
    values: str
    cluster: str
    values_digest: str = ""
    argument_digests: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The name in reports and file names, like install-default or install-tls.

        >>> Scenario("install", "ci/tls-values.yaml", "k131").name
        'install-tls'
        >>> Scenario("install", "", "k131").name
        'install-default'
        """
        stem = PurePosixPath(self.values).name.removesuffix(".yaml").removesuffix("-values")
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-.")
        return f"{self.kind}-{slug or 'default'}"


def plan_scenarios(
    files: Iterable[str], pattern: str, clusters: Iterable[str]
) -> tuple[Scenario, ...]:
    """The scenarios of a chart, sorted: each values file on each cluster.

    Args:
        files: files of the chart, relative to its folder.
        pattern: glob of values files. Without a match the chart's own values are tested.

    >>> files = ["ci/b-values.yaml", "ci/a-values.yaml", "x.yaml"]
    >>> [scenario.values for scenario in plan_scenarios(files, "ci/*-values.yaml", ["c"])]
    ['ci/a-values.yaml', 'ci/b-values.yaml']
    >>> plan_scenarios(["values.yaml"], "ci/*-values.yaml", ["c"])
    (Scenario(kind='install', values='', cluster='c', values_digest='', argument_digests=()),)
    """
    values_files_matched = values_files(files, pattern) or ("",)
    return tuple(
        Scenario(INSTALL, values, cluster)
        for cluster in clusters
        for values in values_files_matched
    )


def values_files(files: Iterable[str], pattern: str) -> tuple[str, ...]:
    """The `files` that the glob matches, sorted; "*" does not cross a "/".

    >>> values_files(["ci/a-values.yaml", "charts/sub/ci/a-values.yaml"], "ci/*-values.yaml")
    ('ci/a-values.yaml',)
    """
    # PurePath.match compares from the right: without the depth, a subchart's ci/ would match, too.
    depth = len(PurePosixPath(pattern).parts)
    paths = (PurePosixPath(file) for file in files)
    return tuple(
        sorted(str(path) for path in paths if len(path.parts) == depth and path.match(pattern))
    )


def parameters(scenario: Scenario, *, namespace: str, helm_args: Iterable[str]) -> dict[str, Any]:
    """The parameters in a scenario's key: all that can change its outcome for the same content.

    namespace: "fresh", or the name of an existing namespace.
    """
    return {
        "scenario": scenario.kind,
        "values": scenario.values,
        "values_digest": scenario.values_digest,
        "cluster": scenario.cluster,
        "namespace": namespace,
        "helm_args": list(helm_args),
        **({"helm_values": dict(scenario.argument_digests)} if scenario.argument_digests else {}),
    }


def images_not_run(
    expected: Mapping[str, str], ran: Collection[str], parts: Callable[[str], Collection[str]]
) -> list[str]:
    """Names of the expected images that did not run.

    Nodes report the digest that was asked for, the manifest of their platform, or its
    configuration, depending on the container runtime.

    Args:
        expected: image name → digest.
        ran: digests that nodes reported.
        parts: gives all digests under which an image may be reported. It reads from the registry,
            so it is called only when the expected digest is not in `ran`.

    >>> expected = {"a": "sha256:1", "b": "sha256:2"}
    >>> images_not_run(expected, {"sha256:1", "sha256:9"}, lambda name: ["sha256:9"])
    []
    >>> images_not_run({"a": "sha256:1"}, {"sha256:7"}, lambda name: [])
    ['a']
    """
    return [
        name
        for name, digest in expected.items()
        if digest not in ran and not set(ran).intersection(parts(name))
    ]
