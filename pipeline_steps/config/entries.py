"""Entries of `charts`: which folders they are about, and several of them about one chart merged. No
file is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline_steps.charts import paths
from pipeline_steps.charts.paths import chart_yaml
from pipeline_steps.config.document import Document, merge
from pipeline_steps.toolbox.errors import ConfigurationError

#: An entry as plain values.
Raw = Mapping[str, Any]


def is_chart(path: str) -> bool:
    """Whether `path` is the Chart.yaml of some chart."""
    return path == "Chart.yaml" or path.endswith("/Chart.yaml")


def folders(pattern: str, known: Sequence[str], where: str) -> list[str]:
    """The folders of charts that the path of an entry stands for. known: folders with a Chart.yaml.

    Raises ConfigurationError for a folder without Chart.yaml, and for a glob that fits nothing.
    """
    found: dict[str, None] = {}
    for part in paths.expand_braces(pattern):
        plain = paths.relative_path(part, where=where)
        fitting = [folder for folder in known if paths.glob_pattern(plain).fullmatch(folder)]
        if not fitting and paths.is_glob(plain):
            advice = "correct the path, or add a chart"
            raise ConfigurationError(
                f"no folder with a Chart.yaml fits {part!r}", where=where, advice=advice
            )
        if not fitting:
            advice = "correct the path, or add the chart to the source"
            raise ConfigurationError(
                f"there is no {chart_yaml(plain)} in the source", where=where, advice=advice
            )
        found.update(dict.fromkeys(fitting))
    return list(found)


def by_folder(document: Document, known: Sequence[str]) -> dict[str, Raw]:
    """Folder → the entries of a pipeline.yaml about the chart there, merged; entries that fit
    nothing are no error.
    """
    found: dict[str, list[Raw]] = {folder: [] for folder in known}
    for entry in document.value.get("charts", []):
        plain = [paths.relative_path(part) for part in paths.expand_braces(entry["path"])]
        for folder in known:
            if any(paths.glob_pattern(part).fullmatch(folder) for part in plain):
                found[folder].append(entry)
    return {folder: merged(about) for folder, about in found.items()}


def merged(entries: Iterable[Raw]) -> Raw:
    """Later entries over earlier ones: mappings key by key, all else replaced; `path` says only
    whom they are about.

    >>> merged([{"path": "a", "tests": {"timeout": "5m"}}, {"path": "b", "tests": {"values": "ci/*"}}])
    {'tests': {'timeout': '5m', 'values': 'ci/*'}}
    """
    result = Document({}, {})
    for entry in entries:
        result = merge(result, Document(dict(entry), {}))
    return {key: value for key, value in result.value.items() if key != "path"}
