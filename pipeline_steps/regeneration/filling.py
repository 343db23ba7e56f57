"""What is filled, with what, and what came of it: what a regeneration and a migration of a
repository share.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from typing import NamedTuple

from pipeline_steps.charts import archive as archives
from pipeline_steps.charts.metadata import CREATED
from pipeline_steps.charts.version import is_withdrawn
from pipeline_steps.repositories import index
from pipeline_steps.repositories.repository import Indexed, Publication, Repository, Rewritable
from pipeline_steps.toolbox.errors import EvidenceError, PipelineError

log = logging.getLogger(__name__)

#: Source: RFC 3339, section 5.6.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


class Report(NamedTuple):
    """What came of a regeneration or a migration. published, kept: how many; the others a line for
    each.

    kept: were there before, with the same tar. unmade: are there, and stay, but cannot be made
    again to compare. differs: were there, and stay, with another tar than made now. without_chart:
    tags that stand for no chart.
    """

    published: list[str]
    kept: list[str]
    unmade: list[str]
    differs: list[str]
    withdrawn: list[str]
    failed: list[str]
    without_chart: list[str]

    @classmethod
    def empty(cls) -> Report:
        """Nothing yet."""
        return cls([], [], [], [], [], [], [])

    @property
    def counts(self) -> dict[str, int]:
        """How many versions of each."""
        return {
            field: len(lines) for field, lines in self._asdict().items() if field != "without_chart"
        }

    def __str__(self) -> str:
        words = (
            "published",
            "there before",
            "there and not to be made again",
            "differ from what is published",
            "withdrawn",
            "failed",
        )
        counts = [f"{n} {word}" for word, n in zip(words, self.counts.values(), strict=True)]
        if self.without_chart:
            counts.append(f"{len(self.without_chart)} tags without a chart")
        return ", ".join(counts)


class VersionFilter(NamedTuple):
    """Which versions are meant. withdrawn: "VERSION" or "NAME-VERSION"; charts: names, () for all;
    shard: (I, N).
    """

    withdrawn: frozenset[str]
    charts: tuple[str, ...] = ()
    shard: tuple[int, int] | None = None

    def includes(self, name: str, version: str) -> bool:
        """Whether a version is one of these charts and of this shard; withdrawn ones are."""
        if self.charts and name not in self.charts:
            return False
        if self.shard is None:
            return True
        number = int.from_bytes(hashlib.sha256(f"{name}-{version}".encode()).digest()[:8], "big")
        return number % self.shard[1] == self.shard[0] - 1

    def gone(self, name: str, version: str) -> bool:
        """Whether a version is withdrawn."""
        return is_withdrawn(self.withdrawn, name, version)


class RepositoryContents:
    """What is in a repository when we begin, read once: its index, or the versions of each chart
    when asked for.

    known: name → version → digest of the archive, of an index that was read before.
    """

    def __init__(
        self, repository: Repository, known: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        self._repository = repository
        self._entries: dict[tuple[str, str], index.Entry] = {}
        self._charts: dict[str, Mapping[str, str]] = dict(known or {})
        self._whole = known is not None or isinstance(repository, Indexed)
        if self._whole and known is None:
            parsed = index.Index(read_index(repository), f"{repository.url}/index.yaml").entries()
            self._entries = {
                (name, entry.version): entry
                for name, entries in parsed.items()
                for entry in entries
            }
            self._charts = {
                name: {entry.version: entry.digest for entry in entries}
                for name, entries in parsed.items()
            }

    def digest(self, name: str, version: str) -> str | None:
        """The digest of a version's archive as the index says it, "" when that is not known, None
        when absent.
        """
        if name not in self._charts and not self._whole:
            self._charts[name] = dict.fromkeys(self._repository.versions(name), "")
        return self._charts.get(name, {}).get(version)

    def created(self, name: str, version: str) -> str:
        """When a version was made, as the index says it, in RFC 3339; the fixed time where it says
        nothing of use.
        """
        entry = self._entries.get((name, version))
        return entry.created if entry and _TIME.fullmatch(entry.created) else CREATED


def read_index(repository: Repository) -> bytes | None:
    """The index of a repository that has one; None where it is not there, or there is no such
    thing.
    """
    return repository.index() if isinstance(repository, Indexed) else None


def with_empty_index(repository: Repository, error: EvidenceError, *, again: bool) -> Rewritable:
    """The repository with an empty index in place of one that cannot be read, when asked to look at
    all `again`.

    error: what is wrong with the index; raised, with what to do, when not asked.
    """
    if not again or not isinstance(repository, Rewritable):
        advice = (
            "regenerate --again makes the index anew from the archives and the tags, where no "
            "server makes it"
        )
        raise EvidenceError(error.what, where=error.where, advice=advice) from error
    log.warning("%s; the index is made anew", error)
    repository.rewrite(repository.index(), index.Index(None, "").data)
    return repository


def add_unlisted_archives(repository: Rewritable, wanted: VersionFilter, report: Report) -> None:
    """Give every archive of a folder that its new index does not have its entry, but not what is
    withdrawn.
    """
    unlisted: list[Publication] = []
    contents = RepositoryContents(repository)
    for name in repository.files() or ():
        data = repository.read(name) if name.endswith(".tgz") else None
        try:
            archive = archives.open_archive(data, name) if data is not None else None
        except EvidenceError as error:
            report.failed.append(str(error))
            continue
        if archive is None or wanted.gone(archive.name, archive.version):
            continue
        if (
            name != archive.file_name and "://" not in name
        ):  # a file of a release is called by its URL
            continue
        if contents.digest(archive.name, archive.version) is None:
            unlisted.append(Publication(archive))
    for publication, outcome in zip(unlisted, repository.publish_all(unlisted), strict=True):
        name_and_version = f"{publication.archive.name} {publication.archive.version}"
        if isinstance(outcome, PipelineError):
            report.failed.append(f"{name_and_version}: {outcome}")
        else:
            report.kept.append(name_and_version)
