"""Chart.lock as helm writes it: the exact version of each dependency, and a digest that ties them
to Chart.yaml.

`helm dependency build` takes the lock when its digest fits. Nothing is fetched or written here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline_steps.charts import ranges
from pipeline_steps.charts.archive import metadata_of
from pipeline_steps.charts.dependencies import (
    dependencies_and_lock,
    is_remote,
    lock_entries,
    lock_name,
    locked_version,
    vendored_versions,
)
from pipeline_steps.charts.metadata import dependency as as_helm
from pipeline_steps.charts.metadata import go_json
from pipeline_steps.charts.read import Dependency
from pipeline_steps.charts.version import parse, parse_strict
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError

#: The versions of a dependency that its repository has, newest first.
Versions = Callable[[Dependency], Sequence[str]]


class Locked(NamedTuple):
    """What a dependency is locked to. range: the version that the chart asks for."""

    name: str
    repository: str
    version: str
    range: str


class Lock(NamedTuple):
    """A lock to write. file: its name in the chart's folder."""

    file: str
    entries: tuple[Locked, ...]
    digest: str

    def text(self, generated: str) -> bytes:
        """The file. generated: RFC 3339."""
        entries = "".join(
            f"- name: {_scalar(entry.name)}\n  repository: {_scalar(entry.repository)}\n  "
            f"version: {_scalar(entry.version)}\n"
            for entry in self.entries
        )
        return f"dependencies:\n{entries}digest: {self.digest}\ngenerated: {json.dumps(generated)}\n".encode()


def missing_lock(files: Mapping[str, bytes], versions: Versions, where: str = "") -> Lock | None:
    """The lock that a chart needs and does not have: one for its ranges, or instead of one that
    does not fit.

    files: its package, file:// subcharts in charts/. What the present lock says and still fits is
    kept, what lies in charts/ is locked to that version, everything else to the newest that fits,
    as helm does it. None when it needs none. Raises ConfigurationError.
    """
    metadata = metadata_of(files, where)
    dependencies, current_lock = dependencies_and_lock(metadata, files, where)
    vendored = vendored_versions(files, where)
    dependency_entries = list(
        zip(dependencies, lock_entries(dependencies, current_lock), strict=True)
    )
    if not any(
        _needs_lock(dependency, entries, dependency.name in vendored)
        for dependency, entries in dependency_entries
    ):
        return None
    entries = tuple(
        Locked(
            dependency.name,
            dependency.repository,
            _still_valid_version(dependency, current_entries)
            or _newest_version(dependency, vendored, versions, where),
            dependency.version,
        )
        for dependency, current_entries in dependency_entries
    )
    file = lock_name(metadata, files)
    raw = yaml_reader.plain_value(
        yaml_reader.parse(files[file.replace(".lock", ".yaml")], where)[1]
    )["dependencies"]
    return Lock(file, entries, digest(raw, entries))


def digest(dependencies: Sequence[Mapping[str, Any]], entries: Sequence[Locked]) -> str:
    """Ties exact versions to the dependencies a chart asks for. Source: helm, internal/resolver,
    HashReq.
    """
    locked = [
        as_helm({"name": entry.name, "version": entry.version, "repository": entry.repository})
        for entry in entries
    ]
    return f"sha256:{hashlib.sha256(go_json([[as_helm(entry) for entry in dependencies], locked])).hexdigest()}"


def _needs_lock(dependency: Dependency, entries: tuple[Dependency, ...], vendored: bool) -> bool:
    """Is it a range that nothing decides, or does the lock say what does not fit?"""
    if not dependency.repository:
        return False
    try:
        exact = locked_version(dependency, entries, "")
    except ConfigurationError:
        return True
    return (
        not exact and not vendored and is_remote(dependency) and ranges.is_range(dependency.version)
    )


def _still_valid_version(dependency: Dependency, entries: tuple[Dependency, ...]) -> str | None:
    """The version that the present lock says, None when it says none that fits; a folder has its
    own.
    """
    try:
        return None if dependency.local else locked_version(dependency, entries, "")
    except ConfigurationError:
        return None


def _newest_version(
    dependency: Dependency, vendored: Mapping[str, Sequence[str]], versions: Versions, where: str
) -> str:
    if not dependency.repository:
        return dependency.version
    available = vendored.get(dependency.name) or versions(dependency)
    fitting = [
        candidate
        for candidate in available
        if parse(candidate)
        and ranges.is_in_range(parse_strict(candidate, where), dependency.version or "*", where)
    ]
    if not fitting:
        problem = f"no version of the dependency {dependency.name} fits {dependency.version}"
        advice = f"it has {', '.join(available[:5]) or 'no version of it'}"
        raise ConfigurationError(problem, where=dependency.repository, advice=advice)
    return fitting[0]


def _scalar(text: str) -> str:
    """A text as YAML; what would be read as something else is quoted, as helm's own writer quotes
    it.

    >>> [_scalar(text) for text in ("1.2.3", "1.10", "*", "")]
    ['1.2.3', '"1.10"', "'*'", '""']
    """
    if yaml_reader.meaning(text) != "text":
        return json.dumps(text)
    plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_./:+~^-]*(?<!:)", text)
    return text if plain else "'" + text.replace("'", "''") + "'"
