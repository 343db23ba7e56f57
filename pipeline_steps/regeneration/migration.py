"""Copy a chart repository into another, byte for byte with .prov files: `regenerate --from`."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from pipeline_steps.auth.hosts import Host
from pipeline_steps.regeneration.repository_contents import (
    Report,
    RepositoryContents,
    VersionFilter,
    require_repository,
)
from pipeline_steps.repositories.indexed import IndexedArchive, IndexReader
from pipeline_steps.repositories.other_hosts import OtherHosts, is_absolute
from pipeline_steps.repositories.repository import (
    ArchiveGone,
    Indexed,
    Publication,
    Published,
    Repository,
    Writable,
)
from pipeline_steps.toolbox import progress
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    Conflict,
    EvidenceError,
    MachineError,
    PipelineError,
    Temporary,
)
from pipeline_steps.toolbox.http import safe_url

Key = tuple[str, str]
#: Charts read at once; most of the time is spent waiting for the network.
READERS = 8


def migrate(
    source: Repository,
    target_repository: Writable,
    version_filter: VersionFilter,
    *,
    hosts: Mapping[str, Host],
    plan: bool,
    again: bool,
) -> Report:
    """Copy every version of `source` that `target_repository` lacks; one that is there with the same
    tar stays as it is.

    again: read and compare also what both indexes call equal. An archive that is refused, or that
    the target has with another tar, is in the report. Raises MachineError's kinds and Temporary: run
    again, it goes on.
    """
    report = Report.empty()
    local = source.url.startswith(("file://", "git+file://"))
    archives = _Archives(source, OtherHosts(hosts, local=local))
    target = RepositoryContents(target_repository)
    require_repository(source)
    origin = RepositoryContents(source, readable=True)
    keys = _versions_to_copy(source, origin, target, version_filter, report, again=again)
    in_progress: deque[tuple[Key, str]] = deque()

    def publications() -> Iterator[Publication]:
        for key, outcome in archives.read(keys, origin):
            if isinstance(outcome, PipelineError):
                report.failed.append(f"{' '.join(key)}: {outcome}")
            elif plan:
                tar = outcome.archive.tar_digest
                report.published.append(f"{' '.join(key)} would be published (tar {tar})")
            else:
                in_progress.append((key, outcome.archive.digest))
                yield outcome
                continue
            advance()

    with progress.counter("versions", len(keys)) as advance:
        for outcome in target_repository.publish_all(publications()):
            key, digest = in_progress.popleft()
            _report_outcome(report, key, digest, outcome, new=target.digest(*key) is None)
            advance()
    return report


def _versions_to_copy(
    source: Repository,
    origin: RepositoryContents,
    target: RepositoryContents,
    version_filter: VersionFilter,
    report: Report,
    *,
    again: bool,
) -> list[Key]:
    """The versions to read; all others are in the report. Raises MachineError, and AccessRefused
    when no chart may be read.
    """
    keys: list[Key] = []
    names = version_filter.charts or source.charts()
    if not names:
        advice = "name the charts, --chart NAME: many registries list none"
        raise MachineError("the repository lists no chart", where=source.url, advice=advice)
    refused: list[AccessRefused] = []
    for name in names:
        try:
            versions = source.versions(name)
        except AccessRefused as error:  # of this chart: the others may be readable
            refused.append(error)
            report.failed.append(f"{name}: {error}")
            continue
        faults = origin.faults.get(name, [])
        report.failed.extend(f"{name}: {fault}" for fault in faults)
        if not versions and not faults and version_filter.charts:
            report.failed.append(f"{name}: {source.url} has no version of it")
        for version in reversed(versions):
            if version_filter.is_withdrawn(name, version):
                report.withdrawn.append(f"{name} {version} is withdrawn, and not copied")
            elif version_filter.includes(name, version):
                digest = target.digest(name, version)
                if digest and digest == origin.digest(name, version) and not again:
                    report.kept.append(f"{name} {version}")
                else:
                    keys.append((name, version))
    if len(refused) == len(names):
        raise refused[0]
    return keys


def _report_outcome(
    report: Report, key: Key, digest: str, outcome: Published | PipelineError, *, new: bool
) -> None:
    name_and_version = " ".join(key)
    if isinstance(outcome, Conflict):
        report.differs.append(f"{name_and_version}: {outcome}")
    elif isinstance(outcome, PipelineError):
        report.failed.append(f"{name_and_version}: {outcome}")
    elif outcome.archive_digest != digest:
        report.differs.append(
            f"{name_and_version}: was there with the same tar in other bytes, which stay "
            f"({outcome.reference})"
        )
    else:
        (report.published if new else report.kept).append(name_and_version)


class _Archives:
    """The archives of a repository, wherever its index says they are."""

    def __init__(self, source: Repository, other_hosts: OtherHosts) -> None:
        self._source = source
        self._other_hosts = other_hosts
        self._unreachable: dict[str, PipelineError] = {}

    def read(
        self, keys: list[Key], origin: RepositoryContents
    ) -> Iterator[tuple[Key, Publication | PipelineError]]:
        """Each version with its archive and .prov file, or the error; READERS are read at once."""
        fetch = functools.partial(self._fetch, origin)
        with ThreadPoolExecutor(READERS) as pool:
            for start in range(0, len(keys), READERS):
                part = keys[start : start + READERS]
                yield from zip(part, pool.map(fetch, part), strict=True)

    def _fetch(self, origin: RepositoryContents, key: Key) -> Publication | PipelineError:
        host = origin.host(*key)
        if host in self._unreachable:
            return self._unreachable[host]
        # Of the repository itself: nothing else can be had.
        is_own = not host or host in self._source.url
        try:
            return self._publication(origin, key)
        except (EvidenceError, ConfigurationError) as error:
            return error.fresh()
        except AccessRefused as error:
            if isinstance(self._source, Indexed) and is_own:
                raise
            return error.fresh()  # of this archive; a registry decides for each chart and tag
        except (MachineError, Temporary) as error:
            if is_own:
                raise
            self._unreachable[host] = error.fresh()
            return self._unreachable[host]

    def _publication(self, origin: RepositoryContents, key: Key) -> Publication:
        source = self._source
        take = source.find_first if isinstance(source, IndexReader) else source.find
        try:
            published = take(*key)
        except ArchiveGone:  # as chart-releaser leaves it: on a branch there is only the index
            entry = origin.entry(*key)
            if entry is None or not is_absolute(url := entry.urls[0]):
                raise
            read = functools.partial(self._other_hosts.read, url)
            published = IndexedArchive(entry, url, safe_url(url), read).published()
            provenance = self._other_hosts.read(f"{url}.prov")
            return Publication(published.archive, provenance, origin.created(*key))
        if published is None:
            raise EvidenceError(
                "the chart is listed, but its archive is missing",
                where=source.url,
                advice="remove it from the index: pipeline-steps audit --fix URL, or restore the archive",
            )
        return Publication(published.archive, source.provenance(published), origin.created(*key))
