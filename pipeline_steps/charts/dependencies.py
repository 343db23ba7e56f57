"""Dependencies from repositories: which archives a chart still needs in charts/, by its lock, and what is there.

Pure but for the callable that fetches. file:// dependencies are folders of the source (`gather`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from pipeline_steps.charts import archive, ranges
from pipeline_steps.charts.archive import Files, metadata_of
from pipeline_steps.charts.read import Dependency, Metadata, read_dependencies, read_metadata
from pipeline_steps.charts.version import parse, strict
from pipeline_steps.core.errors import ConfigurationError

_BUILD = "run helm dependency build, or helm dependency update for newer versions"


class Needed(NamedTuple):
    """An archive to fetch. prefix: where the chart that wants it lies in the package, "" or "charts/NAME/…"."""

    prefix: str
    name: str
    version: str
    repository: str

    @property
    def place(self) -> str:
        """Its path in the package."""
        return f"{self.prefix}charts/{self.name}-{self.version}.tgz"


Fetch = Callable[[Needed], bytes]


def fill(files: Files, fetch: Fetch, where: str = "") -> Files:
    """The package with every repository dependency as an archive in charts/; those already there stay.

    Raises ConfigurationError: a range without a lock, a lock or archive that does not fit, a dependency nowhere.
    """
    added: dict[str, bytes] = {}
    for one in needed(files, where):
        tgz = fetch(one)
        found = archive.opened(tgz, f"{one.repository}: {one.name}-{one.version}.tgz")
        if (found.name, found.version) != (one.name, one.version):
            what = f"the archive of {one.name} {one.version} holds the chart {found.name} {found.version}"
            raise ConfigurationError(what, where=one.repository, advice="nothing of it was used")
        added[one.place] = tgz
    return Files({**files, **added}, files.executables)


def needed(files: Mapping[str, bytes], where: str = "") -> tuple[Needed, ...]:
    """What is missing in the charts/ folders of a package and of the charts that lie in it as folders.

    where: the chart's path, for errors. Raises ConfigurationError.
    """
    return tuple(_needed(files, "", where))


def _needed(files: Mapping[str, bytes], prefix: str, where: str) -> Iterator[Needed]:
    own = {path.removeprefix(prefix): data for path, data in files.items() if path.startswith(prefix)}
    place = f"{where}/{prefix}".strip("/")
    metadata = metadata_of(own, place) if not prefix else _packed_metadata(own, place)
    wanted, lock = _wanted(metadata, own, place)
    there = _there(own, place)
    for dependency in wanted:
        version = _locked(dependency, lock, place)
        if dependency.name in there:
            _fitting(dependency, version, there[dependency.name], place)
        elif dependency.repository.startswith(("oci://", "https://", "http://")) and version:
            yield Needed(prefix, dependency.name, version, dependency.repository.rstrip("/"))
        else:
            raise _nowhere(dependency, place)
    for folder in sorted({path.split("/")[1] for path in own if path.startswith("charts/") and path.count("/") > 1}):
        if f"charts/{folder}/Chart.yaml" in own:
            yield from _needed(files, f"{prefix}charts/{folder}/", where)


def _packed_metadata(files: Mapping[str, bytes], place: str) -> Metadata:
    return read_metadata(files["Chart.yaml"], f"{place}/Chart.yaml", strict=False)


def _wanted(
    metadata: Metadata, files: Mapping[str, bytes], place: str
) -> tuple[tuple[Dependency, ...], tuple[Dependency, ...]]:
    """Dependencies and lock; charts of apiVersion v1 have them in files of their own."""
    wanted, lock = metadata.dependencies, "Chart.lock"
    if metadata.api_version == "v1" and "requirements.yaml" in files:
        wanted = read_dependencies(files["requirements.yaml"], f"{place}/requirements.yaml")
        lock = "requirements.lock"
    return wanted, read_dependencies(files[lock], f"{place}/{lock}") if lock in files else ()


def _there(files: Mapping[str, bytes], place: str) -> dict[str, str]:
    """Name → version of the charts in charts/, folders and archives, which are checked."""
    found: dict[str, str] = {}
    for path, data in files.items():
        parts = path.split("/")
        if parts[0] != "charts" or not ((len(parts) == 2 and path.endswith(".tgz")) or parts[2:] == ["Chart.yaml"]):
            continue
        where = f"{place}/{path}".lstrip("/")
        if path.endswith(".tgz"):
            one = archive.opened(data, where, ConfigurationError)
            name, version = one.name, one.version
        else:
            metadata = read_metadata(data, where, strict=False)
            name, version = metadata.name, metadata.version
        if name in found:
            what = f"the chart {name} is twice in charts/: {found[name]} and {version}"
            raise ConfigurationError(what, where=where, advice="keep one of them")
        found[name] = version
    return found


def _locked(dependency: Dependency, lock: tuple[Dependency, ...], place: str) -> str | None:
    """The exact version of a dependency from a repository: its own, or the lock's; None when neither says one."""
    entry = next((one for one in lock if one.name == dependency.name), None)
    if dependency.local or not dependency.repository:
        return None
    where = f"{place}/Chart.lock".lstrip("/")
    if entry is None:
        if not ranges.is_range(dependency.version):
            return dependency.version
        what = f"the dependency {dependency.name} {dependency.version or '(any version)'} is a range without a lock"
        raise ConfigurationError(what, where=where, advice="run helm dependency update and commit Chart.lock")
    locked = parse(entry.version)
    if locked is None or entry.repository.rstrip("/") != dependency.repository.rstrip("/"):
        what = f"the lock of {dependency.name} ({entry.version} from {entry.repository}) does not belong to Chart.yaml"
        raise ConfigurationError(what, where=where, advice="run helm dependency update and commit Chart.lock")
    if dependency.version and not ranges.fits(locked, dependency.version, where):
        what = f"the lock says {dependency.name} {entry.version}, Chart.yaml wants {dependency.version}"
        raise ConfigurationError(what, where=where, advice="run helm dependency update and commit Chart.lock")
    return entry.version


def _fitting(dependency: Dependency, locked: str | None, version: str, place: str) -> None:
    where = f"{place}/Chart.yaml".lstrip("/")
    if locked and version != locked:
        what = f"charts/ has {dependency.name} {version}, the lock says {locked}"
        raise ConfigurationError(what, where=where, advice=_BUILD)
    if dependency.version and not ranges.fits(strict(version, where), dependency.version, where):
        advice = f"correct the range, or the version of {dependency.folder}" if dependency.local else _BUILD
        what = f"the dependency {dependency.name} {dependency.version} is there as {version}, which does not fit"
        raise ConfigurationError(what, where=where, advice=advice)


def _nowhere(dependency: Dependency, place: str) -> ConfigurationError:
    where = f"{place}/Chart.yaml".lstrip("/")
    if not dependency.repository:
        what = f"the dependency {dependency.name} has no repository and is not in charts/"
        return ConfigurationError(
            what, where=where, advice=f"put it into charts/{dependency.name}, or name a repository"
        )
    what = f"the dependency {dependency.name} has the repository {dependency.repository!r}, which is not a URL"
    return ConfigurationError(what, where=where, advice="write oci://…, https://… or file://…: names differ by machine")
