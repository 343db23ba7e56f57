"""Chart.lock as helm writes it: exact versions of dependencies, and a digest that ties them to
Chart.yaml.

`helm dependency build` accepts the lock when its digest matches. Nothing is fetched or written
here.
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
    """A dependency with its locked version. range: the version or range in Chart.yaml."""

    name: str
    repository: str
    version: str
    range: str


class Lock(NamedTuple):
    """A lock to write. file: its name in the folder of the chart."""

    file: str
    entries: tuple[Locked, ...]
    digest: str

    def text(self, generated: str) -> bytes:
        """Content of the file. generated: RFC 3339."""
        entries = "".join(
            f"- name: {_scalar(entry.name)}\n  repository: {_scalar(entry.repository)}\n  "
            f"version: {_scalar(entry.version)}\n"
            for entry in self.entries
        )
        tail = f"digest: {self.digest}\ngenerated: {json.dumps(generated)}\n"
        return f"dependencies:\n{entries}{tail}".encode()


def missing_lock(files: Mapping[str, bytes], versions: Versions, where: str = "") -> Lock | None:
    """The lock that a chart needs and does not have, None when it needs none.

    It needs one when it has ranges without a lock, or a lock that does not match. Entries of the
    current lock that still match are kept. What is vendored in charts/ is locked to its version,
    everything else to the newest matching version, as helm does.

    Args:
        files: the package of the chart, with file:// subcharts in charts/.
        versions: the versions of a dependency in its repository, newest first.
        where: path of the chart, for errors.

    Raises:
        ConfigurationError: no version matches, or the chart is invalid.
    """
    metadata = metadata_of(files, where)
    dependencies, current_lock = dependencies_and_lock(metadata, files, where)
    vendored = vendored_versions(files, where)
    if not any(
        _needs_lock(dependency, entries, dependency.name in vendored)
        for dependency, entries in zip(
            dependencies, lock_entries(dependencies, current_lock), strict=True
        )
    ):
        return None
    return _lock(files, versions, where)


def outdated_lock(files: Mapping[str, bytes], versions: Versions, where: str = "") -> Lock | None:
    """The lock that replaces one that does not match, None where there is none or it matches.

    A folder of the source (file://) is locked to its own version, so raising that outdates the lock.
    Arguments and errors as `missing_lock`.
    """
    file = lock_name(metadata_of(files, where), files)
    if file not in files:
        return None
    lock = _lock(files, versions, where)
    current = yaml_reader.plain_value(yaml_reader.parse(files[file], f"{where}/{file}")[1]) or {}
    versions_locked = [str(entry.get("version")) for entry in current.get("dependencies") or ()]
    same = versions_locked == [entry.version for entry in lock.entries]
    return None if same and current.get("digest") == lock.digest else lock


def _lock(files: Mapping[str, bytes], versions: Versions, where: str) -> Lock:
    metadata = metadata_of(files, where)
    dependencies, current_lock = dependencies_and_lock(metadata, files, where)
    vendored = vendored_versions(files, where)
    entries = tuple(
        Locked(
            dependency.name,
            dependency.repository,
            _still_valid_version(dependency, current_entries)
            or _newest_version(dependency, vendored, versions, where),
            dependency.version,
        )
        for dependency, current_entries in zip(
            dependencies, lock_entries(dependencies, current_lock), strict=True
        )
    )
    raw = metadata.fields.get("dependencies") or ()
    return Lock(lock_name(metadata, files), entries, digest(raw, entries))


def digest(dependencies: Sequence[Mapping[str, Any]], entries: Sequence[Locked]) -> str:
    """The digest in Chart.lock over the dependencies and their exact versions.

    Source: helm, internal/resolver, HashReq.
    """
    locked = [
        as_helm({"name": entry.name, "version": entry.version, "repository": entry.repository})
        for entry in entries
    ]
    data = go_json([[as_helm(entry) for entry in dependencies], locked])
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _needs_lock(dependency: Dependency, entries: tuple[Dependency, ...], vendored: bool) -> bool:
    """Whether a range has no exact version, or the lock does not match it."""
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
    """The matching version in the current lock, or None; folders have their own version."""
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
        advice = f"take one that it has: {', '.join(available[:5]) or 'none'}"
        raise ConfigurationError(problem, where=dependency.repository, advice=advice)
    return fitting[0]


def _scalar(text: str) -> str:
    """A text as a YAML scalar, quoted where helm's writer quotes it.

    >>> [_scalar(text) for text in ("1.2.3", "1.10", "*", "")]
    ['1.2.3', '"1.10"', "'*'", '""']
    """
    # sigs.k8s.io/yaml, helm's writer, uses double quotes for numbers and single quotes for
    # signs.
    if yaml_reader.meaning(text) != "text":
        return json.dumps(text)
    plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_./:+~^-]*(?<!:)", text)
    return text if plain else "'" + text.replace("'", "''") + "'"
