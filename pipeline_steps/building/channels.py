"""The chart repositories of a channel: what is published there, asked here only, and publishing
into all of them.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Literal

from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.charts.archive import Archive
from pipeline_steps.charts.metadata import CREATED
from pipeline_steps.config.language import Config, as_tuple
from pipeline_steps.oci.completeness import missing_digests
from pipeline_steps.oci.registry import connect
from pipeline_steps.repositories.kinds import open_repository, open_writable
from pipeline_steps.repositories.repository import (
    ArchiveGone,
    Published,
    Repository,
    Writable,
    check_version_free,
)
from pipeline_steps.state.record import Record
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError

ChannelName = Literal["snapshot", "production"]

log = logging.getLogger(__name__)


def repository_urls(config: Config) -> list[str]:
    """The URLs of all chart repositories that the configuration names."""
    return [
        *as_tuple(config.channels.production.charts),
        *as_tuple(config.channels.snapshot.charts),
    ]


def output_name(number: int) -> str:
    """The name of a repository's output in a record: chart, chart-2, chart-3."""
    return "chart" if number == 0 else f"chart-{number + 1}"


def find_recorded(record: Record, repository: Repository) -> Published:
    """The version that a record says it published, as a repository has it now.

    Raises EvidenceError when it is gone, or has another tar than the record says.
    """
    reference, tar = record.outputs["chart"], record.outputs.get("tar")
    gone = f"the {record.step} {reference} is gone"
    advice = f"run pipeline-steps {record.step} --chart {record.subject}: it publishes it again"
    try:
        published = repository.find(record.subject, str(record.parameters["version"]))
    except ArchiveGone as error:
        raise EvidenceError(f"{gone}: {error.what}", where=error.where, advice=advice) from error
    if published is None:
        raise EvidenceError(gone, where=repository.url, advice=advice)
    # The tar and not the archive: another gzip of the same files is the same chart.
    if tar not in (None, published.tar_digest):
        message = f"the published chart has the tar {published.tar_digest}, recorded is {tar}"
        advice = "restore the archive that was published, and see who replaced it"
        raise EvidenceError(message, where=reference, advice=advice)
    return published


class Channel:
    """The repositories that `channels.NAME.charts` names, to read; nothing is asked of them yet.

    Raises ConfigurationError when it names none.
    """

    def __init__(self, config: Config, name: ChannelName) -> None:
        self._hosts = config.hosts
        self.repositories: Sequence[Repository] = [
            open_repository(url, config.hosts) for url in _urls(config, name)
        ]

    @property
    def first(self) -> Repository:
        """The authoritative repository, of which the others are copies."""
        return self.repositories[0]

    def has_version(self, name: str, version: str) -> bool:
        """Is a version published in the authoritative repository?"""
        return self.first.resolve(name, version) is not None

    def published(self, name: str, version: str) -> Published | None:
        """A version in the authoritative repository, with its archive; None without one."""
        return self.first.find(name, version)

    def newest(self, name: str) -> Published | None:
        """The highest version of a chart in the authoritative repository; None when it has none."""
        version = next(iter(self.first.versions(name)), None)
        return self.published(name, version) if version else None

    def has_recorded(self, record: Record, *, everywhere: bool) -> bool:
        """Is the version that a record published still there under the reference that it names?

        everywhere: in every repository of the channel, not only the authoritative one.
        """
        repositories = self.repositories if everywhere else self.repositories[:1]
        return all(
            _has_recorded(repository, record, output_name(number))
            for number, repository in enumerate(repositories)
        )

    def has_complete(self, record: Record, *, everywhere: bool) -> bool:
        """Like `has_recorded`, and registries still have every layer."""
        return self.has_recorded(record, everywhere=everywhere) and all(
            _is_complete(record.outputs[output_name(number)], self._hosts)
            for number in range(len(self.repositories) if everywhere else 1)
        )

    def has_recorded_archives(self, record: Record) -> bool:
        """Like `has_recorded` everywhere, but reads the archives: a name may lead to one that is
        lost.

        Raises ArchiveGone.
        """
        version = str(record.parameters["version"])
        published_charts = [
            repository.find(record.subject, version) for repository in self.repositories
        ]
        return all(
            published is not None and published.reference == record.outputs.get(output_name(number))
            for number, published in enumerate(published_charts)
        )


class WritableChannel(Channel):
    """The same to publish into. Raises ConfigurationError when one of them is only read, too."""

    repositories: Sequence[Writable]

    def __init__(self, config: Config, name: ChannelName) -> None:
        self._hosts = config.hosts
        self.repositories = [open_writable(url, config.hosts) for url in _urls(config, name)]

    def check_version_free(self, archive: Archive) -> None:
        """Raises Conflict when a version stands for another tar somewhere, or cannot be told from
        another one.
        """
        for repository in self.repositories:
            try:
                existing = repository.find(archive.name, archive.version)
            except ArchiveGone as error:
                if error.digest != archive.digest:
                    raise
                continue  # the very archive: publishing gives it back
            check_version_free(
                archive,
                existing,
                functools.partial(repository.versions, archive.name),
                repository.url,
            )

    def publish(self, archive: Archive, created: str = CREATED) -> dict[str, str]:
        """Publish everywhere, the authoritative repository first; the outputs of the record.

        created: when the version was tagged, for an index. Raises Conflict when the version stands
        for another tar; the repositories after that one are left alone.
        """
        outputs = {"tar": archive.tar_digest}
        for number, repository in enumerate(self.repositories):
            published = repository.publish(archive, created=created)
            log.debug("%s: %s", archive.file_name, published.reference)
            outputs[output_name(number)] = published.reference
        return outputs

    def plan(self, archive: Archive) -> tuple[Record, ...]:
        """Log what `publish` would write: where, which digest, what it replaces. No record."""
        for repository in self.repositories:
            reference = repository.resolve(archive.name, archive.version)
            status = (
                f"is there as {reference}" if reference else "would be published, replacing nothing"
            )
            log.info(
                "%s (tar %s) %s: %s", archive.file_name, archive.tar_digest, status, repository.url
            )
        return ()


def _urls(config: Config, name: ChannelName) -> Sequence[str]:
    settings = config.channels.snapshot if name == "snapshot" else config.channels.production
    urls = as_tuple(settings.charts)
    if not urls:
        raise ConfigurationError(
            f"channels.{name}.charts is missing",
            where=config.where(f"channels.{name}"),
            advice="name a repository, like oci://registry.example.com/charts or "
            "file:///srv/charts",
        )
    return urls


def _has_recorded(repository: Repository, record: Record, output: str) -> bool:
    reference = record.outputs.get(output)
    version = str(record.parameters.get("version", ""))
    try:
        # By reference with digest: a version that was replaced is not what was recorded.
        return reference is not None and repository.resolve(record.subject, version) == reference
    except ArchiveGone as error:  # the very archive, published again, is given back
        log.warning("%s", error)
        return False


def _is_complete(chart: str, hosts: Mapping[str, Host]) -> bool:
    """Whether a registry has all layers of a published chart; other repositories have one file."""
    if not chart.startswith("oci://"):
        return True
    reference = Reference.parse(chart.removeprefix("oci://"), where=chart)
    # A registry that lost blobs still serves the manifest, which is all that `resolve` asks for.
    lost = missing_digests(connect(reference, hosts), reference.path, str(reference.digest))
    if lost:
        log.warning("%s: the registry has lost %s", chart, ", ".join(lost))
    return not lost
