"""The arguments of `tests.helm_args` for helm: used for installs and for every local rendering."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline_steps.charts import paths
from pipeline_steps.clusters.helm import csv_field
from pipeline_steps.config import helm_args
from pipeline_steps.config.helm_args import Argument
from pipeline_steps.config.language import (
    TEST_DEFAULTS,
    ChartEntry,
    ChartTests,
    Check,
    Config,
    merge_tests,
)
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout


def chart_arguments(config: Config, chart: Chart) -> tuple[Argument, ...]:
    """The chart's own `tests.helm_args`, else those for all charts.

    Raises ConfigurationError for an argument that is not allowed.
    """
    return entry_arguments(config, chart.name, chart.entry)


def entry_arguments(config: Config, name: str, entry: ChartEntry) -> tuple[Argument, ...]:
    """Like `chart_arguments`, of the chart `name` by the merged entries about it."""
    tests = merge_tests(TEST_DEFAULTS, config.tests, entry.tests or ChartTests())
    return _parse(config, name, entry, tests.helm_args or ())


def parse(config: Config, chart: Chart, words: Iterable[str]) -> tuple[Argument, ...]:
    """Parse `words`, the chart's `tests.helm_args`. Raises ConfigurationError if not allowed."""
    return _parse(config, chart.name, chart.entry, words)


def _parse(
    config: Config, name: str, entry: ChartEntry, words: Iterable[str]
) -> tuple[Argument, ...]:
    set_for_chart = entry.tests is not None and entry.tests.helm_args is not None
    where = f"chart {name}" if set_for_chart else config.where("tests.helm_args")
    return helm_args.parse(tuple(words), lambda _number: where)


def offline_arguments(config: Config) -> tuple[str, ...]:
    """What helm is told of the cluster where there is none: `check.kube_versions`, the first of
    them, and `check.api_versions`.
    """
    version = [f"--kube-version={kube_version}" for kube_version in config.check.kube_versions[:1]]
    return (*version, *api_arguments(config.check))


def api_arguments(check: Check) -> tuple[str, ...]:
    """`check.api_versions` for `helm template`; lint has no such option."""
    return tuple(f"--api-versions={api_version}" for api_version in check.api_versions)


def values_files(arguments: Iterable[Argument]) -> tuple[str, ...]:
    """The values files among the arguments, relative to pipeline.yaml's folder, without duplicates.

    Raises ConfigurationError for a path outside that folder.
    """
    files = (argument.value for argument in arguments if argument.option == helm_args.VALUES)
    return tuple(
        dict.fromkeys(paths.relative_path(file, where="tests.helm_args") for file in files)
    )


def values_file_digests(
    checkout: Checkout, arguments: Iterable[Argument]
) -> tuple[tuple[str, str], ...]:
    """Path and digest of each values file among the arguments.

    Raises ConfigurationError for a file that the source does not store.
    """
    return tuple(checkout.tree.digests(_require_stored(checkout, values_files(arguments))).items())


def write_values_files(
    checkout: Checkout, arguments: Iterable[Argument], folder: Path
) -> tuple[str, ...]:
    """Write the stored values files below `folder`; returns the arguments with these paths.

    Helm reads what the source stores (the committed bytes), not what lies in the checkout.
    Raises ConfigurationError for a file that the source does not store.
    """
    arguments = tuple(arguments)
    data = checkout.tree.read(_require_stored(checkout, values_files(arguments)))
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, Path] = {}
    for number, (file, content) in enumerate(data.items()):
        written[file] = folder / f"argument-{number}.yaml"
        written[file].write_bytes(content)
    return tuple(
        f"{option}={csv_field(str(written[paths.relative_path(value)]))}"
        if option == helm_args.VALUES
        else f"{option}={value}"
        for option, value in arguments
    )


def _require_stored(checkout: Checkout, files: tuple[str, ...]) -> tuple[str, ...]:
    entries = checkout.tree.entries()
    for file in files:
        if file not in entries or entries[file].kind not in ("file", "executable"):
            raise ConfigurationError(
                "tests.helm_args names this file, but the source does not store it",
                where=file,
                advice="add the file to the source; its path is relative to pipeline.yaml's folder",
            )
    return files
