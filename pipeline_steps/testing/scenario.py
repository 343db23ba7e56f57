"""What the scenarios of a chart are, what makes two runs of one the same test, and what counts as
having run.

Pure. `settings` plans them for a chart; which of them a release needs is decided in `requirements`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

INSTALL = "install"


class Scenario(NamedTuple):
    """One test of a chart. values: file relative to the chart's folder, "" for the chart's own
    values.

    kind: "install". cluster: name in the configuration. values_digest: of the file's bytes, ""
    without a file. argument_digests: files that tests.helm_args names, relative to pipeline.yaml's
    folder, and the digests of theirs.
    """

    kind: str
    values: str
    cluster: str
    values_digest: str = ""
    argument_digests: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Name for people and files, like install-default or install-tls.

        >>> Scenario("install", "ci/tls-values.yaml", "k131").name, Scenario("install", "", "k131").name
        ('install-tls', 'install-default')
        """
        stem = PurePosixPath(self.values).name.removesuffix(".yaml").removesuffix("-values")
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-.")
        return f"{self.kind}-{slug or 'default'}"


def planned(files: Iterable[str], pattern: str, clusters: Iterable[str]) -> tuple[Scenario, ...]:
    """The scenarios of a chart with these `files` (relative to its folder): values files ×
    clusters, sorted.

    pattern: glob of values files; without a match the chart's own values are the only ones.

    >>> [s.values for s in planned(["ci/b-values.yaml", "ci/a-values.yaml", "x.yaml"], "ci/*-values.yaml", ["c"])]
    ['ci/a-values.yaml', 'ci/b-values.yaml']
    >>> planned(["values.yaml"], "ci/*-values.yaml", ["c"])
    (Scenario(kind='install', values='', cluster='c', values_digest='', argument_digests=()),)
    """
    found = values_files(files, pattern) or ("",)
    return tuple(Scenario(INSTALL, values, cluster) for cluster in clusters for values in found)


def values_files(files: Iterable[str], pattern: str) -> tuple[str, ...]:
    """The `files` that the glob matches, sorted; "*" does not cross a "/".

    >>> values_files(["ci/a-values.yaml", "charts/sub/ci/a-values.yaml"], "ci/*-values.yaml")
    ('ci/a-values.yaml',)
    """
    depth = len(PurePosixPath(pattern).parts)
    paths = (PurePosixPath(file) for file in files)
    return tuple(
        sorted(str(path) for path in paths if len(path.parts) == depth and path.match(pattern))
    )


def parameters(scenario: Scenario, *, namespace: str, helm_args: Iterable[str]) -> dict[str, Any]:
    """The parameters of a scenario that matter for its key: what may change the outcome for the
    same content.

    namespace: "fresh", or the name of a given one.
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


def missing(
    expected: Mapping[str, str], ran: Collection[str], parts: Callable[[str], Collection[str]]
) -> list[str]:
    """Names of `expected` (image name → digest) of which nothing in `ran` (digests of nodes) is a
    part.

    Nodes report the digest that was asked for, the manifest of their platform, or its
    configuration, depending on the runtime. parts: name → digests of all these; asked only when the
    digest itself did not run.

    >>> missing({"a": "sha256:1", "b": "sha256:2"}, {"sha256:1", "sha256:9"}, lambda name: ["sha256:9"])
    []
    >>> missing({"a": "sha256:1"}, {"sha256:7"}, lambda name: [])
    ['a']
    """
    return [
        name
        for name, digest in expected.items()
        if digest not in ran and not set(ran).intersection(parts(name))
    ]
