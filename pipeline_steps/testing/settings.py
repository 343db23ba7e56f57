"""The effective test settings of a chart, its scenarios, and the keys of their records.

integration_test runs what is planned here; `requirements` decides what a release or review needs.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from pipeline_steps.auth.hosts import pulled
from pipeline_steps.auth.reference import Reference
from pipeline_steps.building.production_images import production_image_names
from pipeline_steps.config.language import (
    TEST_DEFAULTS,
    ChartTests,
    Config,
    merge_tests,
    require_cluster,
)
from pipeline_steps.state.record import make_key
from pipeline_steps.testing import helm_arguments
from pipeline_steps.testing import scenario as scenario_rules
from pipeline_steps.testing.scenario import Scenario
from pipeline_steps.toolbox.clock import DURATION_ADVICE, seconds
from pipeline_steps.toolbox.errors import ConfigurationError, NotYet, UsageError
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout, open_checkout

STEP = "integration_test"
FORMAT = 3
FRESH = "fresh"
#: Output of a test's record: the tar digest of the production chart that promote would derive.
DERIVED_TAR = "derived.tar"
#: The only scenario of a chart with `tests: {none: REASON}`.
NO_TEST = Scenario("none", "", "")
#: Why a library has no test of its own: helm does not install libraries
#: (https://helm.sh/docs/topics/library_charts).
LIBRARY = "a library: charts here that depend on it are tested"


class Settings(NamedTuple):
    """The effective test settings of one chart.

    none: why the chart is not tested, or None.
    timeout: seconds for one scenario.
    values: glob of values files, relative to the chart's folder.
    clusters: names of clusters on which all tests must pass; empty: on any configured cluster.
    namespace: "fresh", or the name of an existing namespace.
    helm_args: as configured; only allowed arguments.
    parallel: scenarios run at once.
    fail_fast: a crash loop or an unschedulable pod ends a scenario.
    production: image name → its reference in production, used for the derived chart; empty when
        channels.production.images is not set.
    pulled: the same references as clusters pull them.
    """

    none: str | None
    timeout: float
    values: str
    clusters: tuple[str, ...]
    namespace: str
    pull_secret: bool
    helm_args: tuple[str, ...]
    parallel: int
    fail_fast: bool
    production: Mapping[str, Reference]
    pulled: Mapping[str, str]


def settings(
    checkout: Checkout, chart: Chart, *, timeout: float | None = None, parallel: int | None = None
) -> Settings:
    """Merge the chart's own test settings over those for all charts, and these over the defaults.

    timeout and parallel override all of them. Raises NotYet for settings that this version does not
    support, ConfigurationError for invalid ones.
    """
    config = checkout.config
    chart_tests: ChartTests = chart.entry.tests or ChartTests()
    configured = merge_tests(config.tests, chart_tests)
    # The configuration language has these keys already; no step implements them yet.
    for key in ("prepare", "upgrade_from", "breaking"):
        if getattr(configured, key):
            raise NotYet(f"tests.{key} of chart {chart.name}", where=_config_place(config, key))
    # Parsed here only to refuse invalid arguments before anything is installed.
    helm_arguments.parse(config, chart, configured.helm_args or ())
    tests = merge_tests(TEST_DEFAULTS, configured)
    try:
        limit = timeout or seconds(tests.timeout or "")
    except ValueError as error:
        raise ConfigurationError(
            f"tests.timeout of chart {chart.name}: {error}", advice=DURATION_ADVICE
        ) from error
    production = production_image_names(checkout, chart)
    return Settings(
        none=tests.none or (LIBRARY if chart.type == "library" else None),
        timeout=limit,
        values=tests.values or "",
        clusters=tests.clusters or (),
        namespace=tests.namespace or FRESH,
        pull_secret=bool(tests.pull_secret),
        helm_args=tests.helm_args or (),
        parallel=max(1, parallel or tests.parallel or 1),
        fail_fast=bool(tests.fail_fast),
        production=production,
        pulled={name: str(pulled(target, config.hosts)) for name, target in production.items()},
    )


def _config_place(config: Config, key: str) -> str:
    """File and line of a setting of `tests`, for all charts or for one of them."""
    keys = (
        name for name in config.locations if re.fullmatch(rf"(charts\[\d+\]\.)?tests\.{key}", name)
    )
    return config.where(next(keys, "charts"))


#: Test settings that cannot change an outcome: they are not in keys.
NOT_IN_KEYS = ("timeout", "parallel", "pull_secret", "fail_fast")


def settings_in_keys(tests: ChartTests | None) -> ChartTests:
    """The test settings of a chart's entry without NOT_IN_KEYS."""
    return msgspec.structs.replace(tests or ChartTests(), **dict.fromkeys(NOT_IN_KEYS))


def local_modifications(checkout: Checkout, name: str) -> tuple[str, ...]:
    """What keeps a chart from being released: its files that differ from the checked-out revision,
    and pipeline.yaml when it asks for something else there. Raises ConfigurationError.
    """
    return (*checkout.chart(name).modified, *_modified_requirements(checkout, name))


def _modified_requirements(checkout: Checkout, name: str) -> tuple[str, ...]:
    """pipeline.yaml, if the edited one asks for other tests, checks or approvals of a chart than
    the stored one; else ().

    Such an edit changes no content, so that it is in no snapshot; but what nobody stored must not
    decide what a release needs. Overlays are the words of whoever runs the step.
    """
    if checkout.config_path not in checkout.tree.modified:
        return ()
    try:
        stored, edited = (
            (
                settings_in_keys(tree.own_tests_of(name)),
                tree.own_tests_and_check[1],
                tree.own_approval_rules,
            )
            for tree in (open_checkout(checkout.config, checkout.revision), checkout)
        )
        same = stored == edited
    except ConfigurationError:  # a chart that is not stored yet
        same = False
    return () if same else (checkout.config_path,)


def values_pattern(config: Config, chart: Chart) -> str:
    """The glob of the chart's test values files; unlike `settings` it never raises NotYet."""
    return merge_tests(TEST_DEFAULTS, config.tests, chart.entry.tests or ChartTests()).values or ""


def cluster_names(
    config: Config, chart: Chart, settings: Settings, cluster: str | None
) -> tuple[str, ...]:
    """The clusters to test on: `cluster`, else tests.clusters, else the only one configured.

    Raises UsageError when there is none, or several to choose from: there is no default cluster.
    """
    names = (cluster,) if cluster else settings.clusters or tuple(config.clusters)
    for name in names:
        require_cluster(config, name)
    if not names:
        raise UsageError(
            f"there is no cluster to test {chart.name} on",
            advice="name one in `clusters` of pipeline.yaml (kubeconfig, context), "
            "or start one with pipeline-steps sandbox up and use its --config",
        )
    # Guessing would test on whichever is named first, and a release might need another.
    if len(names) > 1 and not cluster and not settings.clusters:
        raise UsageError(
            f"several clusters are configured ({', '.join(sorted(names))})",
            advice="name one with --cluster, or those that count with tests.clusters",
        )
    return names


def scenario_keys(
    checkout: Checkout,
    chart: Chart,
    settings: Settings,
    consumed: Mapping[str, str],
    cluster: str | None,
) -> dict[Scenario, str]:
    """Every scenario that must pass, with the key of its record.

    consumed: name → digest of the images and dependencies in the snapshot. Raises UsageError when
    no cluster can be chosen.
    """
    clusters = () if settings.none else cluster_names(checkout.config, chart, settings, cluster)
    planned = scenarios(checkout, chart, settings, clusters)
    return {
        scenario: scenario_key(scenario, settings, chart.content, consumed) for scenario in planned
    }


def scenarios(
    checkout: Checkout, chart: Chart, settings: Settings, clusters: tuple[str, ...]
) -> tuple[Scenario, ...]:
    """The scenarios that must pass for this chart on each of `clusters`.

    A chart with `tests: {none: REASON}` has the single scenario NO_TEST, on no cluster.
    """
    if settings.none:
        return (NO_TEST,)
    planned = scenario_rules.plan_scenarios(chart_files(checkout, chart), settings.values, clusters)
    files = {
        item.values: posixpath.join(chart.path, item.values) for item in planned if item.values
    }
    digests = checkout.tree.digests(files.values())
    arguments = helm_arguments.parse(checkout.config, chart, settings.helm_args)
    argument_digests = helm_arguments.values_file_digests(checkout, arguments)
    return tuple(
        item._replace(
            values_digest=digests[files[item.values]] if item.values else "",
            argument_digests=argument_digests,
        )
        for item in planned
    )


def chart_files(checkout: Checkout, chart: Chart) -> tuple[str, ...]:
    """The files that the source stores in the chart's folder, relative to it."""
    prefix = f"{chart.path}/" if chart.path else ""
    return tuple(
        path.removeprefix(prefix) for path in checkout.tree.entries() if path.startswith(prefix)
    )


def scenario_key(
    scenario: Scenario, settings: Settings, content: str, consumed: Mapping[str, str]
) -> str:
    """The key of a scenario's record, see `scenario_keys`."""
    return make_key(
        STEP, FORMAT, parameters=parameters(scenario, settings), content=content, consumed=consumed
    )


def parameters(scenario: Scenario, settings: Settings) -> dict[str, Any]:
    """The settings that can change a scenario's outcome: its record and its key contain them."""
    if scenario == NO_TEST:
        return {"scenario": NO_TEST.kind, "none": settings.none or ""}
    parameters_of_scenario = scenario_rules.parameters(
        scenario, namespace=settings.namespace, helm_args=settings.helm_args
    )
    # The cluster also renders the chart that promote would release: an image's name in production
    # is part of what is tested.
    return {**parameters_of_scenario, "production": dict(settings.pulled)}


def describe_place(settings: Settings, scenario: Scenario) -> str:
    """Where a scenario runs, in words for --plan."""
    if scenario == NO_TEST:
        return f"on no cluster: {settings.none}"
    fresh = settings.namespace == FRESH
    return f"on cluster {scenario.cluster} in " + (
        "a fresh namespace, removed after it" if fresh else settings.namespace
    )
