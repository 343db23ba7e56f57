"""Entries of `charts`: which chart folders an entry is about, and the entries of one chart merged.

No file is read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline_steps.charts import paths
from pipeline_steps.charts.paths import chart_yaml
from pipeline_steps.charts.read import REQUIREMENTS
from pipeline_steps.config.document import Document, merge
from pipeline_steps.toolbox.errors import ConfigurationError

#: An entry of `charts` as plain values, as the YAML reader gives it.
RawEntry = Mapping[str, Any]


def is_chart_yaml(path: str) -> bool:
    """Whether `path` is the Chart.yaml of some chart."""
    return path == "Chart.yaml" or path.endswith("/Chart.yaml")


def describes_chart(path: str) -> bool:
    """Whether `path` is a Chart.yaml, or a requirements.yaml, which helm reads over it."""
    return is_chart_yaml(path) or path.rpartition("/")[2] == REQUIREMENTS


def match_chart_folders(pattern: str, chart_folders: Sequence[str], where: str) -> list[str]:
    """The chart folders that the `path` of an entry matches.

    Args:
        pattern: a folder, or a glob with braces.
        chart_folders: every folder that has a Chart.yaml.
        where: file and line of the entry, for errors.

    Raises:
        ConfigurationError: a folder has no Chart.yaml, or a glob matches no chart.
    """
    matched: dict[str, None] = {}
    for part in paths.expand_braces(pattern):
        plain = paths.relative_path(part, where=where)
        expression = paths.glob_pattern(plain)
        matches = [folder for folder in chart_folders if expression.fullmatch(folder)]
        # An error, where a shell would go on: charts that nothing selects are never tested.
        if not matches and paths.is_glob(plain):
            raise ConfigurationError(
                f"no folder with a Chart.yaml fits {part!r}",
                where=where,
                advice="correct the path, or add a chart",
            )
        if not matches:
            raise ConfigurationError(
                f"there is no {chart_yaml(plain)} in the source",
                where=where,
                advice="correct the path, or add the chart to the source",
            )
        matched.update(dict.fromkeys(matches))
    return list(matched)


def entries_by_folder(document: Document, chart_folders: Sequence[str]) -> dict[str, RawEntry]:
    """Chart folder → the merged entries of a pipeline.yaml about the chart there.

    Unlike in `match_chart_folders`, an entry that matches no chart is no error: the pipeline.yaml
    may be that of another revision.
    """
    entries_of: dict[str, list[RawEntry]] = {folder: [] for folder in chart_folders}
    for entry in document.value.get("charts", []):
        patterns = _patterns(entry)
        for folder in chart_folders:
            if any(pattern.fullmatch(folder) for pattern in patterns):
                entries_of[folder].append(entry)
    return {folder: merge_entries(entries) for folder, entries in entries_of.items()}


def lists_folder(document: Document, folder: str) -> bool:
    """Whether a pipeline.yaml has an entry about the chart in `folder`, if only its path."""
    return any(
        pattern.fullmatch(folder)
        for entry in document.value.get("charts", [])
        for pattern in _patterns(entry)
    )


def _patterns(entry: RawEntry) -> list[re.Pattern[str]]:
    return [
        paths.glob_pattern(paths.relative_path(part)) for part in paths.expand_braces(entry["path"])
    ]


def merge_entries(entries: Iterable[RawEntry]) -> RawEntry:
    """Later entries over earlier ones, without their `path`: mappings key by key, all else replaced.

    >>> merge_entries([{"path": "a", "tests": {"timeout": "5m"}}, {"path": "b", "tests": {"values": "ci/*"}}])
    {'tests': {'timeout': '5m', 'values': 'ci/*'}}
    """
    result = Document({}, {})
    for entry in entries:
        result = merge(result, Document(dict(entry), {}))
    return {key: value for key, value in result.value.items() if key != "path"}
