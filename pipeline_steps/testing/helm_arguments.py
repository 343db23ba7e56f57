"""What helm is given for `tests.helm_args`: the same for installs, check's renderings and those
before a release.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline_steps.charts import paths
from pipeline_steps.clusters.helm import csv_field
from pipeline_steps.config import helm_args
from pipeline_steps.config.helm_args import Argument
from pipeline_steps.config.language import TEST_DEFAULTS, ChartTests, Config, merged
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout


def arguments_of(config: Config, chart: Chart) -> tuple[Argument, ...]:
    """The chart's own `tests.helm_args`, else those for all. Raises ConfigurationError for what is
    not allowed.
    """
    tests = merged(TEST_DEFAULTS, config.tests, chart.entry.tests or ChartTests())
    return parse(config, chart, tests.helm_args or ())


def parse(config: Config, chart: Chart, words: Iterable[str]) -> tuple[Argument, ...]:
    """The arguments in `words` of the chart's settings. Raises ConfigurationError for what is not
    allowed.
    """
    own = chart.entry.tests is not None and chart.entry.tests.helm_args is not None
    where = f"chart {chart.name}" if own else config.where("tests.helm_args")
    return helm_args.parse(tuple(words), lambda _number: where)


def files_of(arguments: Iterable[Argument]) -> tuple[str, ...]:
    """The values files among arguments, relative to pipeline.yaml's folder, each once.

    Raises ConfigurationError for one that leads out of it."""
    files = (argument.value for argument in arguments if argument.option == helm_args.FILE)
    return tuple(
        dict.fromkeys(paths.relative_path(file, where="tests.helm_args") for file in files)
    )


def digests(checkout: Checkout, arguments: Iterable[Argument]) -> tuple[tuple[str, str], ...]:
    """File and digest of the values files among arguments. Raises ConfigurationError for one that
    is not stored.
    """
    return tuple(checkout.tree.digests(_stored(checkout, files_of(arguments))).items())


def stage(checkout: Checkout, arguments: Iterable[Argument], folder: Path) -> tuple[str, ...]:
    """What helm is given: the bytes that the source stores are written below `folder`.

    Raises ConfigurationError for a file that is not stored."""
    arguments = tuple(arguments)
    data = checkout.tree.read(_stored(checkout, files_of(arguments)))
    folder.mkdir(parents=True, exist_ok=True)
    places: dict[str, Path] = {}
    for number, (file, content) in enumerate(data.items()):
        places[file] = folder / f"argument-{number}.yaml"
        places[file].write_bytes(content)
    return tuple(
        f"{option}={csv_field(str(places[paths.relative_path(value)])) if option == helm_args.FILE else value}"
        for option, value in arguments
    )


def _stored(checkout: Checkout, files: tuple[str, ...]) -> tuple[str, ...]:
    entries = checkout.tree.entries()
    for file in files:
        if file not in entries or entries[file].kind not in ("file", "executable"):
            raise ConfigurationError(
                "tests.helm_args names it, and it is no file that the source stores",
                where=file,
                advice="add it to the source; the name is relative to pipeline.yaml's folder",
            )
    return files
