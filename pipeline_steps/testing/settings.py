"""How a chart is tested: the settings that hold for it, its scenarios, and the keys of their
records.

integration_test runs what is planned here. What a release or review needs of it is decided in
`requirements`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from pipeline_steps.auth.hosts import pulled
from pipeline_steps.auth.reference import Reference
from pipeline_steps.building.production_chart import targets
from pipeline_steps.config.language import TEST_DEFAULTS, ChartTests, Config, merged
from pipeline_steps.state.record import make_key
from pipeline_steps.testing import helm_arguments, scenario
from pipeline_steps.testing.scenario import Scenario
from pipeline_steps.toolbox.clock import seconds
from pipeline_steps.toolbox.errors import ConfigurationError, NotYet, UsageError
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout

STEP = "integration_test"
FORMAT = 3
FRESH = "fresh"
#: The output of a test's record that is the tar digest of the chart that promote would derive.
DERIVED_TAR = "derived.tar"
#: The only scenario of a chart that says why it has no tests.
NOTHING = Scenario("none", "", "")
#: Why a library has no test of its own: helm installs none (https://helm.sh/docs/topics/library_charts).
LIBRARY = "a library: charts here that depend on it are tested"


class Settings(NamedTuple):
    """What holds for one chart. none: why it has no test, or None. timeout: seconds for a scenario.

    clusters: names its tests must pass on; empty: any configured one. namespace: "fresh" or a given
    one's name. helm_args: as written, only what is allowed. production: image → its name in
    production, of which the derived chart is made; none: no place is configured. pulled: the same
    as clusters see it there.
    """

    none: str | None
    timeout: float
    values: str
    clusters: tuple[str, ...]
    namespace: str
    pull_secret: bool
    helm_args: tuple[str, ...]
    parallel: int
    production: Mapping[str, Reference]
    pulled: Mapping[str, str]


def settings(
    checkout: Checkout, chart: Chart, *, timeout: float | None = None, parallel: int | None = None
) -> Settings:
    """The chart's own test settings over those for all charts over the defaults; timeout, parallel:
    over all that.

    Raises NotYet for what this version cannot test, ConfigurationError for what cannot be.
    """
    config = checkout.config
    own: ChartTests = chart.entry.tests or ChartTests()
    configured = merged(config.tests, own)
    for key in ("prepare", "upgrade_from", "breaking"):
        if getattr(configured, key):
            raise NotYet(f"tests.{key} of chart {chart.name}", where=_place(config, key))
    helm_arguments.parse(config, chart, configured.helm_args or ())
    tests = merged(TEST_DEFAULTS, configured)
    try:
        limit = timeout or seconds(tests.timeout or "")
    except ValueError as error:
        raise ConfigurationError(f"tests.timeout of chart {chart.name}: {error}") from error
    production = targets(checkout, chart)
    return Settings(
        none=tests.none or (LIBRARY if chart.type == "library" else None),
        timeout=limit,
        values=tests.values or "",
        clusters=tests.clusters or (),
        namespace=tests.namespace or FRESH,
        pull_secret=bool(tests.pull_secret),
        helm_args=tests.helm_args or (),
        parallel=max(1, parallel or tests.parallel or 1),
        production=production,
        pulled={name: str(pulled(target, config.hosts)) for name, target in production.items()},
    )


def _place(config: Config, key: str) -> str:
    """Where a setting of tests is written, for all charts or for some."""
    written = (
        name for name in config.places if re.fullmatch(rf"(charts\[\d+\]\.)?tests\.{key}", name)
    )
    return config.where(next(written, "charts"))


#: Settings of tests that change no outcome: they are part of no key.
NOT_IN_KEYS = ("timeout", "parallel", "pull_secret")


def of_keys(tests: ChartTests | None) -> ChartTests:
    """What an entry says of tests, without what is part of no key."""
    return msgspec.structs.replace(tests or ChartTests(), **dict.fromkeys(NOT_IN_KEYS))


def values_pattern(config: Config, chart: Chart) -> str:
    """The glob of the chart's test values files; needs nothing that cannot be tested yet."""
    return merged(TEST_DEFAULTS, config.tests, chart.entry.tests or ChartTests()).values or ""


def cluster_names(
    config: Config, chart: Chart, settings: Settings, given: str | None
) -> tuple[str, ...]:
    """The clusters to test on now: the given one, else those the chart names, else the only one
    configured.

    Raises UsageError when that leaves none or a choice: there is no default cluster.
    """
    names = (given,) if given else settings.clusters or tuple(config.clusters)
    configured = ", ".join(sorted(config.clusters)) or "none"
    for name in names:
        if name not in config.clusters:
            raise UsageError(
                f"no cluster {name} in the configuration (there are: {configured})",
                advice="add it to `clusters` in pipeline.yaml, or start one with pipeline-steps sandbox up",
            )
    if not names:
        raise UsageError(
            f"no cluster to test {chart.name} on",
            advice="name one in `clusters` of pipeline.yaml (kubeconfig, context), "
            "or start one with pipeline-steps sandbox up and use its --config",
        )
    if len(names) > 1 and not given and not settings.clusters:
        raise UsageError(
            f"several clusters are configured ({configured})",
            advice="name one with --cluster, or those that count with tests.clusters",
        )
    return names


def keys(
    checkout: Checkout,
    chart: Chart,
    settings: Settings,
    consumed: Mapping[str, str],
    cluster: str | None,
) -> dict[Scenario, str]:
    """Every scenario that has to pass now, and the key of its record. Raises UsageError when no
    cluster is named.

    consumed: digests of the images and dependencies in the snapshot.
    """
    clusters = () if settings.none else cluster_names(checkout.config, chart, settings, cluster)
    planned = scenarios(checkout, chart, settings, clusters)
    return {each: key_of(each, settings, chart.content, consumed) for each in planned}


def scenarios(
    checkout: Checkout, chart: Chart, settings: Settings, clusters: tuple[str, ...]
) -> tuple[Scenario, ...]:
    """What has to pass for this chart on each of `clusters`.

    A chart that says why it has no tests has one scenario of the kind "none", on no cluster.
    """
    if settings.none:
        return (NOTHING,)
    planned = scenario.planned(own_files(checkout, chart), settings.values, clusters)
    files = {
        each.values: posixpath.join(chart.path, each.values) for each in planned if each.values
    }
    digests = checkout.tree.digests(files.values())
    arguments = helm_arguments.parse(checkout.config, chart, settings.helm_args)
    read = helm_arguments.digests(checkout, arguments)
    return tuple(
        each._replace(
            values_digest=digests[files[each.values]] if each.values else "", argument_digests=read
        )
        for each in planned
    )


def own_files(checkout: Checkout, chart: Chart) -> tuple[str, ...]:
    """The files of the chart's folder, relative to it, as the source has them."""
    prefix = f"{chart.path}/" if chart.path else ""
    return tuple(
        path.removeprefix(prefix) for path in checkout.tree.entries() if path.startswith(prefix)
    )


def key_of(planned: Scenario, settings: Settings, content: str, consumed: Mapping[str, str]) -> str:
    """The key of a scenario's record. consumed: digests of the images and dependencies in the
    snapshot.
    """
    return make_key(
        STEP, FORMAT, parameters=parameters(planned, settings), content=content, consumed=consumed
    )


def parameters(planned: Scenario, settings: Settings) -> dict[str, Any]:
    """What of the settings matters for the outcome of a scenario; stands in its record."""
    if planned == NOTHING:
        return {"scenario": NOTHING.kind, "none": settings.none or ""}
    own = scenario.parameters(planned, namespace=settings.namespace, helm_args=settings.helm_args)
    # Another name in production makes another chart to release, which the cluster has to render
    # too.
    return {**own, "production": dict(settings.pulled)}


def place(settings: Settings, planned: Scenario) -> str:
    """Where a scenario runs, for --plan."""
    if planned == NOTHING:
        return f"on no cluster: {settings.none}"
    fresh = settings.namespace == FRESH
    return f"on cluster {planned.cluster} in " + (
        "a fresh namespace, removed after it" if fresh else settings.namespace
    )
