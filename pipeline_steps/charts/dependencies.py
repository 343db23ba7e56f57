"""Dependencies from repositories: the archives a chart still needs in charts/ according to its
lock.

Pure except for the callable that fetches. file:// dependencies are folders of the source
(`collect`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from pipeline_steps.charts import archive, ranges
from pipeline_steps.charts.archive import Files, metadata_of
from pipeline_steps.charts.read import LOCKS, Dependency, Metadata, read_dependencies, read_metadata
from pipeline_steps.charts.version import parse_loosely, parse_strict
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError

_LOCK = "run pipeline-steps check --fix and commit the lock it writes"
_BUILD = "run helm dependency build, or helm dependency update for newer versions"


class MissingArchive(NamedTuple):
    """An archive to fetch. prefix: where the chart that wants it lies in the package, "" or
    "charts/NAME/…". digest: of its bytes, where the lock says one.
    """

    prefix: str
    name: str
    version: str
    repository: str
    digest: str = ""

    @property
    def place(self) -> str:
        """Its path in the package."""
        return f"{self.prefix}charts/{self.name}-{self.version}.tgz"


Fetch = Callable[[MissingArchive], bytes]


def fill(files: Files, fetch: Fetch, where: str = "") -> Files:
    """The package with every repository dependency as an archive in charts/; existing ones stay.

    Raises ConfigurationError: a range without a lock, a lock or archive that does not match
    Chart.yaml, or a dependency without a repository.
    """
    added: dict[str, bytes] = {}
    for missing in missing_archives(files, where):
        tgz = fetch(missing)
        _check_digest(
            missing.digest, tgz, f"{missing.repository}: {missing.name} {missing.version}"
        )
        fetched = archive.open_subchart(
            tgz, f"{missing.repository}: {missing.name}-{missing.version}.tgz"
        )
        if (fetched.name, fetched.version) != (missing.name, missing.version):
            problem = (
                f"the archive of {missing.name} {missing.version} holds the chart {fetched.name} "
                f"{fetched.version}"
            )
            raise ConfigurationError(
                problem,
                where=missing.repository,
                advice="check who may write there; nothing of the archive was used",
            )
        added[missing.place] = tgz
    return Files({**files, **added}, files.executables)


def missing_archives(files: Mapping[str, bytes], where: str = "") -> tuple[MissingArchive, ...]:
    """The archives that are missing in charts/, also of the charts that are in the package as
    folders.

    where: path of the chart, for errors. Raises ConfigurationError.
    """
    return tuple(_missing_archives(files, "", where))


def _missing_archives(
    files: Mapping[str, bytes], prefix: str, where: str
) -> Iterator[MissingArchive]:
    chart_files = {
        path.removeprefix(prefix): data for path, data in files.items() if path.startswith(prefix)
    }
    place = f"{where}/{prefix}".strip("/")
    metadata = metadata_of(chart_files, place, strict=not prefix)
    dependencies, lock = dependencies_and_lock(metadata, chart_files, place)
    vendored = vendored_versions(chart_files, place)
    for dependency, entries in zip(dependencies, lock_entries(dependencies, lock), strict=True):
        if dependency.name in vendored:
            # Helm locks the range then.
            locked = locked_version(dependency, entries, place) if dependency.repository else None
            _check_vendored_version(dependency, locked, vendored[dependency.name], place)
            for entry in entries:
                path = f"charts/{entry.name}-{entry.version}.tgz"
                if path in chart_files:
                    _check_digest(entry.digest, chart_files[path], f"{place}/{path}".lstrip("/"))
            continue
        version = _exact_version(dependency, entries, place)
        if version is None or not is_remote(dependency):
            raise _no_source_error(dependency, place)
        digests = [entry.digest for entry in entries if entry.version == version and entry.digest]
        repository = dependency.repository.rstrip("/")
        yield MissingArchive(prefix, dependency.name, version, repository, *digests[:1])
    for folder in sorted(
        {
            path.split("/")[1]
            for path in chart_files
            if path.startswith("charts/") and path.count("/") > 1
        }
    ):
        if f"charts/{folder}/Chart.yaml" in chart_files:
            yield from _missing_archives(files, f"{prefix}charts/{folder}/", where)


def _check_digest(expected: str, tgz: bytes, where: str) -> None:
    """Raises EvidenceError for an archive with other bytes than the lock says."""
    actual = f"sha256:{hashlib.sha256(tgz).hexdigest()}"
    if expected and expected.removeprefix("sha256:") != actual.removeprefix("sha256:"):
        raise EvidenceError(
            f"the lock has {expected} for this archive, its digest is {actual}",
            where=where,
            advice="find out who replaced it; helm dependency update writes a new lock",
        )


def is_remote(dependency: Dependency) -> bool:
    """Whether it comes from a repository with the same name on every machine (not an alias of helm
    repo).
    """
    return dependency.repository.startswith(("oci://", "https://", "http://"))


def dependencies_and_lock(
    metadata: Metadata, files: Mapping[str, bytes], place: str
) -> tuple[tuple[Dependency, ...], tuple[Dependency, ...]]:
    """The dependencies and lock entries of a chart."""
    lock_file = lock_name(metadata, files)
    lock = read_dependencies(files[lock_file], f"{place}/{lock_file}") if lock_file in files else ()
    return metadata.dependencies, lock


def lock_entries(
    dependencies: tuple[Dependency, ...], lock: tuple[Dependency, ...]
) -> list[tuple[Dependency, ...]]:
    """For each dependency the lock entries with its name.

    When a name occurs as often in the lock as in Chart.yaml, entries are assigned by their order.
    """
    result: list[tuple[Dependency, ...]] = []
    for number, dependency in enumerate(dependencies):
        entries = tuple(entry for entry in lock if entry.name == dependency.name)
        alike = [entry.name for entry in dependencies].count(dependency.name)
        before = [entry.name for entry in dependencies[:number]].count(dependency.name)
        result.append(entries[before : before + 1] if len(entries) == alike else entries)
    return result


def lock_name(metadata: Metadata, files: Mapping[str, bytes]) -> str:
    """Name of the lock file. Of two, helm counts requirements.lock, whatever the apiVersion; its
    own name for a new one follows the apiVersion (pkg/downloader, writeLock).
    """
    new = LOCKS[metadata.api_version == "v2"]
    return next((name for name in LOCKS if name in files), new)


def vendored_versions(files: Mapping[str, bytes], place: str) -> dict[str, list[str]]:
    """Name → versions of the charts in charts/, as folders and as archives; archives are
    checked.
    """
    versions: dict[str, list[str]] = {}
    for path, data in files.items():
        parts = path.split("/")
        if parts[0] != "charts":
            continue
        where = f"{place}/{path}".lstrip("/")
        # helm loads archives only directly in charts/, not in folders below it.
        if len(parts) == 2 and path.endswith(".tgz"):
            vendored = archive.open_subchart(data, where, ConfigurationError)
            versions.setdefault(vendored.name, []).append(vendored.version)
        elif parts[2:] == ["Chart.yaml"]:
            metadata = read_metadata(data, where, strict=False)
            versions.setdefault(metadata.name, []).append(metadata.version)
    return versions


def locked_version(
    dependency: Dependency, entries: tuple[Dependency, ...], place: str
) -> str | None:
    """The version that the lock has for a dependency, None when it has no entry.

    Raises ConfigurationError when the entries do not match Chart.yaml.
    """
    where = f"{place}/Chart.lock".lstrip("/")
    for entry in entries:
        version = parse_loosely(entry.version)
        same_repository = entry.repository.rstrip("/") == dependency.repository.rstrip("/")
        if version is None or (not same_repository and len(entries) == 1):
            problem = (
                f"the lock of {entry.name} ({entry.version} from {entry.repository}) does not "
                "belong to Chart.yaml"
            )
            raise ConfigurationError(problem, where=where, advice=_LOCK)
        if same_repository and (
            not dependency.version or ranges.is_in_range(version, dependency.version, where)
        ):
            return entry.version
    if entries:
        problem = (
            f"the lock has {dependency.name} {entries[0].version}, Chart.yaml needs "
            f"{dependency.version}"
        )
        raise ConfigurationError(problem, where=where, advice=_LOCK)
    return None


def _exact_version(
    dependency: Dependency, entries: tuple[Dependency, ...], place: str
) -> str | None:
    """The exact version of a repository dependency: the lock's or its own; None without a
    repository.
    """
    if dependency.local or not dependency.repository:
        return None
    locked = locked_version(dependency, entries, place)
    if locked is None and ranges.is_range(dependency.version):
        problem = (
            f"the dependency {dependency.name} {dependency.version or '(any version)'} is a range "
            "without a lock"
        )
        raise ConfigurationError(problem, where=f"{place}/Chart.lock".lstrip("/"), advice=_LOCK)
    return locked or dependency.version


def _check_vendored_version(
    dependency: Dependency, locked: str | None, versions: list[str], place: str
) -> None:
    """Check that the vendored chart has the version of the lock, or one in the range."""
    where = f"{place}/Chart.yaml".lstrip("/")
    vendored = " and ".join(versions)
    if locked and not dependency.local and locked not in versions:
        problem = f"charts/ has {dependency.name} {vendored}, the lock has {locked}"
        raise ConfigurationError(problem, where=where, advice=_BUILD)
    if dependency.version and not any(
        ranges.is_in_range(
            parse_loosely(version) or parse_strict(version, where), dependency.version, where
        )
        for version in versions
    ):
        advice = (
            f"correct the range, or the version of {dependency.folder}"
            if dependency.local
            else _BUILD
        )
        problem = (
            f"the dependency {dependency.name} {dependency.version} is there as {vendored}, which "
            "does not fit"
        )
        raise ConfigurationError(problem, where=where, advice=advice)


def _no_source_error(dependency: Dependency, place: str) -> ConfigurationError:
    where = f"{place}/Chart.yaml".lstrip("/")
    if dependency.local:  # of a chart that lies in charts/; those of sources are there already
        problem = (
            f"the dependency {dependency.name} is the folder {dependency.folder}, and charts/ of "
            "this chart does not have it"
        )
        return ConfigurationError(problem, where=where, advice=_BUILD)
    if not dependency.repository:
        problem = f"the dependency {dependency.name} has no repository and is not in charts/"
        return ConfigurationError(
            problem,
            where=where,
            advice=f"put it into charts/{dependency.name}, or name a repository",
        )
    problem = (
        f"the dependency {dependency.name} has the repository {dependency.repository!r}, which is "
        "not a URL"
    )
    return ConfigurationError(
        problem, where=where, advice="write oci://…, https://… or file://…: names differ by machine"
    )
