"""Charts into the repositories of a channel: what snapshot and promote share."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pipeline_steps.charts.metadata import CREATED
from pipeline_steps.config.language import Config, several
from pipeline_steps.repositories.kinds import open_repository
from pipeline_steps.repositories.repository import Repository
from pipeline_steps.state.record import Record
from pipeline_steps.toolbox.errors import ConfigurationError

if TYPE_CHECKING:
    from pipeline_steps.charts.archive import Archive

log = logging.getLogger(__name__)


def repositories(config: Config, channel: Literal["snapshot", "production"]) -> list[Repository]:
    """The chart repositories of a channel, the authoritative one first. Raises ConfigurationError without one."""
    settings = config.channels.snapshot if channel == "snapshot" else config.channels.production
    urls = several(settings.charts)
    if not urls:
        raise ConfigurationError(
            f"channels.{channel}.charts is missing",
            where=config.where(f"channels.{channel}"),
            advice="name a repository, like oci://registry.example.com/charts or file:///srv/charts",
        )
    return [open_repository(url, config.hosts) for url in urls]


def output(number: int) -> str:
    """The name of a repository's output in a record: chart, chart-2, chart-3."""
    return "chart" if number == 0 else f"chart-{number + 1}"


def stands(repositories: Sequence[Repository], record: Record, name: str, version: str) -> bool:
    """Does every repository still have the version of a chart under the reference that the record names?"""
    recorded = [record.outputs.get(output(number)) for number in range(len(repositories))]
    return all(
        reference is not None and repository.standing(name, version) == reference
        for repository, reference in zip(repositories, recorded, strict=True)
    )


def publish(repositories: Sequence[Repository], archive: Archive, created: str = CREATED) -> dict[str, str]:
    """Publish everywhere, the authoritative repository first; the outputs of the record.

    created: when the version was tagged, for an index. Raises Conflict when the version stands for another tar; the
    repositories after that one are left alone.
    """
    outputs = {"tar": archive.tar_digest}
    for number, repository in enumerate(repositories):
        published = repository.publish(archive, created=created)
        log.info("%s: %s", archive.file_name, published.reference)
        outputs[output(number)] = published.reference
    return outputs


def plan(repositories: Sequence[Repository], archive: Archive) -> tuple[Record, ...]:
    """Say what `publish` would write: where, which digest, what it replaces. Returns no record."""
    for repository in repositories:
        there = repository.standing(archive.name, archive.version)
        what = f"is there as {there}" if there else "would be published, replacing nothing"
        log.info("%s (tar %s) %s: %s", archive.file_name, archive.tar_digest, what, repository.url)
    return ()
