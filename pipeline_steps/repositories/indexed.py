"""What repositories with an index.yaml share: entries, their archives, and groups of new versions.

How files are read and written is in the file of each kind.
"""

from __future__ import annotations

import abc
import posixpath
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from pipeline_steps.charts import archive as archives
from pipeline_steps.charts.archive import Archive
from pipeline_steps.charts.metadata import CREATED
from pipeline_steps.charts.version import newest_first
from pipeline_steps.repositories import index, index_rows, index_types
from pipeline_steps.repositories.repository import (
    Indexed,
    Publication,
    Published,
    Rewritable,
    archive_gone_error,
    check_version_free,
    content_conflict,
    published_archive,
)
from pipeline_steps.toolbox.clock import Deadline
from pipeline_steps.toolbox.errors import EvidenceError, PipelineError
from pipeline_steps.toolbox.files import sha256

INDEX = "index.yaml"
#: What may be published at once: files, and bytes of their archives, which are held in memory.
_FILES, _BYTES = 256, 64 * 2**20


class IndexedArchive(NamedTuple):
    """A version in the index, and access to its archive.

    place: reference without digest.
    where: names the archive in errors.
    read: returns its bytes, None when it is missing.
    advice: for an archive that is missing or differs from the index.
    """

    entry: index.Entry
    place: str
    where: str
    read: Callable[[], bytes | None]
    advice: str = "restore the archive, or regenerate the repository"

    def missing(self) -> EvidenceError:
        """The error for an entry without archive."""
        problem = "the index names this archive, which is missing"
        return archive_gone_error(self.entry.digest, problem, where=self.where, advice=self.advice)

    def reference(self, digest: str) -> str:
        """The reference of an archive with this digest. Raises EvidenceError when the index has
        another one.
        """
        if self.entry.digest not in ("", digest):
            problem = f"the archive has the digest {digest}, the index says {self.entry.digest}"
            raise EvidenceError(problem, where=self.where, advice=self.advice)
        return f"{self.place}@{digest}"

    def tgz(self) -> bytes:
        """The archive's bytes, compared with the index. Raises EvidenceError."""
        tgz = self.read()
        if tgz is None:
            raise self.missing()
        self.reference(sha256(tgz))
        return tgz

    def published(self) -> Published:
        """The version with its checked archive. Raises EvidenceError."""
        tgz = self.tgz()
        reference = self.reference(sha256(tgz))
        name, version = self.entry.name, self.entry.version
        return published_archive(
            tgz, name, version, reference, where=self.where, advice=self.advice
        )


class IndexReader(Indexed, abc.ABC):
    """A repository that is read through its index."""

    @abc.abstractmethod
    def _index(self) -> index.Index:
        """The current index."""

    @abc.abstractmethod
    def _stored(self, name: str, version: str, *, first: bool = False) -> IndexedArchive | None:
        """A version in the current index, None when it has none; see `find_readable` for `first`."""

    def resolve(self, name: str, version: str) -> str | None:
        """See Repository: from the index, or the archive's digest when the index has none."""
        stored = self._stored(name, version)
        if stored is None:
            return None
        return stored.reference(stored.entry.digest or sha256(stored.tgz()))

    def find(self, name: str, version: str) -> Published | None:
        """See Repository."""
        stored = self._stored(name, version)
        return stored.published() if stored else None

    def find_first(self, name: str, version: str) -> Published | None:
        """As `find`, but of a version that is there twice what helm takes: to copy a repository."""
        stored = self._stored(name, version, first=True)
        return stored.published() if stored else None

    def versions(self, name: str) -> list[str]:
        """See Repository."""
        return newest_first(entry.version for entry in self.readable(name).entries)

    def readable(self, name: str) -> index_rows.Readable:
        """What the index says of one chart, and what of it is skipped, as helm skips it."""
        return index_rows.readable(self._index(), name)

    def charts(self) -> list[str]:
        """See Repository."""
        return sorted(self._index().names())


class IndexWriter(IndexReader, Rewritable):
    """A repository whose index we write, for groups of versions."""

    _is_index_checked = False

    def _refuse_rejected_index(self, current_index: index.Index) -> None:
        """Raises EvidenceError where helm refuses the index that others wrote: nobody could have
        what is published beside it.
        """
        if not self._is_index_checked:
            index_types.refuse_rejected(current_index.data, current_index.where)
            # Once: afterwards the index changes by what is published here, which is checked before.
            self._is_index_checked = True

    def publish(
        self, archive: Archive, provenance: bytes | None = None, created: str = CREATED
    ) -> Published:
        """See Writable."""
        (outcome,) = self.publish_all([Publication(archive, provenance, created)])
        if isinstance(outcome, PipelineError):
            raise outcome
        return outcome

    def _check_version_free(
        self, archive: Archive, existing: Published | None, current_index: index.Index
    ) -> Published | None:
        """See `check_version_free`. current_index has the other versions of the chart."""
        versions = (entry.version for entry in current_index.versions(archive.name))
        return check_version_free(archive, existing, lambda: versions, self.url)


def refuse_lost_index(
    archives_there: Iterable[str], group: Iterable[Publication], where: str
) -> None:
    """Raises EvidenceError where archives are there, and no index that says which: a new one would
    hide them. What a killed publisher left of this group does not count.
    """
    own = {publication.archive.file_name for publication in group}
    charts = [name for name in archives_there if re.search(r"-v?[0-9][^/]*\.tgz$", name)]
    if lost := [name for name in charts if name.rpartition("/")[2] not in own]:
        example = lost[0].rpartition("/")[2]
        what = f"there is no index.yaml that lists charts, and there are archives like {example}"
        advice = "restore the index, or make it from the archives: pipeline-steps audit --fix URL"
        raise EvidenceError(f"{what}, which a new index would hide", where=where, advice=advice)


def group_publications(
    publications: Iterable[Publication], *, seconds: float, files: int = _FILES
) -> Iterator[list[Publication]]:
    """Groups of publications to be published together; never two versions that helm cannot tell
    apart.

    seconds: until a group is complete, however small; a killed run loses this much work.
    """
    group: dict[tuple[str, str], Publication] = {}
    file_count = size = 0
    deadline = Deadline(seconds)
    for publication in publications:
        archive = publication.archive
        # helm ignores build metadata when it compares versions.
        key = archive.name, archive.version.partition("+")[0]
        if key in group:
            yield list(group.values())
            group = {}
        if not group:
            file_count, size, deadline = 0, 0, Deadline(seconds)
        group[key] = publication
        file_count += 1 if publication.provenance is None else 2
        size += len(archive.tgz)
        if file_count >= files or size >= _BYTES or deadline.over:
            yield list(group.values())
            group = {}
    if group:
        yield list(group.values())


def new_entry(
    tgz: bytes, file: str, url: str, created: str, fields: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The index entry of an archive.

    Args:
        tgz: the archive.
        file: names it in errors.
        fields: its Chart.yaml, where it was packed or read here; else it is read from the archive.
        url: see `index.new_entry_fields`.
        created: RFC 3339.

    Raises:
        EvidenceError, ConfigurationError: it is not a chart.
    """
    if fields is None:
        fields = archives.metadata_of(archives.unpack(tgz, file), file, strict=False).fields
    return index.new_entry_fields(fields, sha256(tgz), url, created)


def bytes_to_publish(publication: Publication, leftover: bytes | None, where: str) -> bytes:
    """The .tgz to publish.

    An archive of the same tar that a killed publisher left is kept, because somebody may have read
    it; but not together with a .prov of other bytes.

    Args:
        leftover: archive without an index entry.
        where: names it in errors.

    Raises:
        Conflict: it has another tar.
        EvidenceError: it is not a chart.
    """
    archive = publication.archive
    if leftover is None or leftover == archive.tgz:
        return archive.tgz
    leftover_digest = archives.tar_digest(leftover, where)
    if leftover_digest != archive.tar_digest:
        raise content_conflict(archive, leftover_digest, where)
    return leftover if publication.provenance is None else archive.tgz


def commit_message(published: Iterable[Published]) -> str:
    """The commit message for these new versions."""
    lines = [f"{chart.name} {chart.version}" for chart in published]
    if len(lines) == 1:
        return f"Publish {lines[0]}"
    return "\n".join((f"Publish {len(lines)} charts", "", *lines, ""))


def find_file(url: str, files: Container[str]) -> str | None:
    """The file among `files` that a URL in the index refers to, or None.

    Relative URLs are paths. Absolute URLs end with the path; the beginning depends on the web
    server. A file may also be named by its whole URL.

    >>> find_file("https://example.com/pages/web-1.0.0%2Ba.tgz", {"web-1.0.0+a.tgz"})
    'web-1.0.0+a.tgz'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    path = posixpath.normpath(unquote(parts.path)).lstrip("/")
    names = path.split("/")
    # From the longest: "charts/web-1.0.0.tgz" before a "web-1.0.0.tgz" at the top.
    tails = ["/".join(names[start:]) for start in range(len(names))] if parts.netloc else [path]
    return next((file for file in (*tails, url) if file in files), None)


def path_of(url: str) -> str:
    """Where the file that a URL in the index means belongs: a relative URL is a path, of an absolute
    one, whose beginning only who serves it knows, the last name.

    >>> path_of("charts/web-1.0.0%2Ba.tgz"), path_of("https://example.com/pages/web-1.0.0.tgz")
    ('charts/web-1.0.0+a.tgz', 'web-1.0.0.tgz')
    """
    parts = urlsplit(url)
    path = posixpath.normpath(unquote(parts.path)).lstrip("/")
    return posixpath.basename(path) if parts.netloc else path
