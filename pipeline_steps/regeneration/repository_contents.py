"""What regeneration and migration have in common: version filter, repository contents, report."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from pipeline_steps.charts import archive as archives
from pipeline_steps.charts.metadata import CREATED
from pipeline_steps.charts.version import is_withdrawn
from pipeline_steps.repositories import index, index_rows
from pipeline_steps.repositories.repository import Indexed, Publication, Repository, Rewritable
from pipeline_steps.toolbox.errors import EvidenceError, MachineError, PipelineError
from pipeline_steps.toolbox.wording import counted

log = logging.getLogger(__name__)

#: Source: RFC 3339, section 5.6.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


class Report(NamedTuple):
    """The result of a regeneration or a migration: a line for each version.

    published: were missing and are published now.
    kept: already published with the same tar.
    unmade: already published, but cannot be packaged again for comparison.
    differs: already published with another tar, which stays.
    withdrawn: not published because `release.withdrawn` names them.
    failed: missing and could not be packaged or published.
    without_chart: tags that name no chart.
    unapproved: missing, and not published because an approval is missing.
    """

    published: list[str]
    kept: list[str]
    unmade: list[str]
    differs: list[str]
    withdrawn: list[str]
    failed: list[str]
    without_chart: list[str]
    unapproved: list[str]

    @classmethod
    def empty(cls) -> Report:
        """A report without versions."""
        return cls(*([] for _ in cls._fields))

    @property
    def counts(self) -> dict[str, int]:
        """How many versions of each, and none that is not approved: only some runs ask."""
        asked = ("without_chart", "unapproved")
        return {field: len(lines) for field, lines in self._asdict().items() if field not in asked}

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
        if self.unapproved:
            counts.append(f"{len(self.unapproved)} not approved")
        if self.without_chart:
            counts.append(f"{counted(len(self.without_chart), 'tag')} without a chart")
        return ", ".join(counts)


class VersionFilter(NamedTuple):
    """Selects versions. withdrawn: VERSION or NAME-VERSION. charts: names, () for all.

    shard: (I, N), the I-th of N parts, I from 1.
    """

    withdrawn: frozenset[str]
    charts: tuple[str, ...] = ()
    shard: tuple[int, int] | None = None

    def includes(self, name: str, version: str) -> bool:
        """Whether a version is of one of these charts and in this shard, also if withdrawn."""
        if self.charts and name not in self.charts:
            return False
        if self.shard is None:
            return True
        # By hash, not by position: a version stays in its shard when other versions are added.
        number = int.from_bytes(hashlib.sha256(f"{name}-{version}".encode()).digest()[:8], "big")
        return number % self.shard[1] == self.shard[0] - 1

    def is_withdrawn(self, name: str, version: str) -> bool:
        """Whether a version is withdrawn."""
        return is_withdrawn(self.withdrawn, name, version)


def require_repository(repository: Repository) -> None:
    """Raises MachineError where there is no repository to read, EvidenceError where its index is
    lost.
    """
    data = read_index(repository)
    if not isinstance(repository, Indexed) or index.Index(data, repository.url).names():
        return
    archives_there = [name for name in repository.files() or () if name.endswith(".tgz")]
    if archives_there:
        problem = (
            "there is no index.yaml that lists charts, and there are archives like "
            f"{archives_there[0]}"
        )
        advice = "restore the index, or make it from the archives: pipeline-steps audit --fix URL"
        raise EvidenceError(problem, where=repository.url, advice=advice)
    if data is not None:
        return
    advice = "correct the URL, its folder or branch, or mount the folder"
    raise MachineError("there is no chart repository", where=repository.url, advice=advice)


class RepositoryContents:
    """The versions in a repository at the start of a run.

    The index is read once; without an index, the versions of a chart are read when first needed.
    digests: name → version → digest of the archive, if the index was read before.
    readable: take of the index what can be read, as helm does; `faults` has what is skipped.
    """

    def __init__(
        self,
        repository: Repository,
        digests: Mapping[str, Mapping[str, str]] | None = None,
        *,
        readable: bool = False,
    ) -> None:
        self.faults: dict[str, list[EvidenceError]] = {}
        self._repository = repository
        self._entries: dict[tuple[str, str], index.Entry] = {}
        self._charts: dict[str, Mapping[str, str]] = dict(digests or {})
        self._whole = digests is not None or isinstance(repository, Indexed)
        if self._whole and digests is None:
            whole = index.Index(read_index(repository), f"{repository.url}/index.yaml")
            if readable:
                charts = {name: index_rows.readable(whole, name) for name in whole.names()}
                self.faults = {name: chart.faults for name, chart in charts.items()}
                parsed = {name: chart.entries for name, chart in charts.items()}
            else:
                parsed = whole.entries()
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
        """The digest of a version's archive in the index; "" if unknown, None if not published."""
        if name not in self._charts and not self._whole:
            self._charts[name] = dict.fromkeys(self._repository.versions(name), "")
        return self._charts.get(name, {}).get(version)

    def entry(self, name: str, version: str) -> index.Entry | None:
        """A version in the index; None if it is not published, or there is no index."""
        return self._entries.get((name, version))

    def host(self, name: str, version: str) -> str:
        """The host of an archive's URL in the index, "" for one beside the index."""
        entry = self._entries.get((name, version))
        return urlsplit(entry.urls[0]).netloc if entry and entry.urls else ""

    def created(self, name: str, version: str) -> str:
        """The `created` time of a version in the index (RFC 3339), or CREATED if it has none."""
        entry = self._entries.get((name, version))
        # Other programs write anything there, and helm refuses a whole index for one bad time.
        return entry.created if entry and _TIME.fullmatch(entry.created) else CREATED


def read_index(repository: Repository) -> bytes | None:
    """The index of a repository; None if it is missing, or the repository has none by its kind."""
    return repository.index() if isinstance(repository, Indexed) else None


def with_empty_index(repository: Repository, error: EvidenceError, *, again: bool) -> Rewritable:
    """Replace an unreadable index by an empty one if `again` is set, else raise.

    error: what is wrong with the index. Raises EvidenceError with advice without `again`, or when
    the index of this repository cannot be rewritten.
    """
    if not again or not isinstance(repository, Rewritable):
        advice = (
            "regenerate --again rebuilds the index from the archives and the tags, unless a server "
            "generates it"
        )
        raise EvidenceError(error.what, where=error.where, advice=advice) from error
    log.warning("%s; the index is rebuilt", error)
    repository.rewrite(repository.index(), index.Index(None, "").data)
    return repository


def with_lost_index(repository: Repository) -> Rewritable | None:
    """The repository with an empty index where it has archives and none; None for any other."""
    if not isinstance(repository, Rewritable) or repository.index() is not None:
        return None
    if not any(name.endswith(".tgz") for name in repository.files() or ()):
        return None
    log.warning("%s: there is no index.yaml; it is made anew of the archives", repository.url)
    repository.rewrite(None, index.Index(None, "").data)
    return repository


def add_unlisted_archives(
    repository: Rewritable, version_filter: VersionFilter, report: Report
) -> None:
    """Add the archives of the repository that its new index lacks, except withdrawn versions."""
    unlisted: list[Publication] = []
    contents = RepositoryContents(repository)
    for name in repository.files() or ():
        data = repository.read(name) if name.endswith(".tgz") else None
        try:
            archive = archives.open_archive(data, name) if data is not None else None
        except EvidenceError as error:
            report.failed.append(str(error))
            continue
        if archive is None or version_filter.is_withdrawn(archive.name, archive.version):
            continue
        # Files of GitHub releases have URLs as names.
        if name != archive.file_name and "://" not in name:
            continue
        if contents.digest(archive.name, archive.version) is None:
            unlisted.append(Publication(archive))
    for publication, outcome in zip(unlisted, repository.publish_all(unlisted), strict=True):
        name_and_version = f"{publication.archive.name} {publication.archive.version}"
        if isinstance(outcome, PipelineError):
            report.failed.append(f"{name_and_version}: {outcome}")
        else:
            report.kept.append(name_and_version)
