"""A chart repository in a folder: archives and index.yaml, as a web server serves them to helm.

Publishers share a lock that ends with its process. Archives are written first, the index last, both
atomically; readers need no lock. Slow work (writing archives, fsync) happens before taking the
lock: others wait a fraction of a second, while a group of archives is renamed and the index is
replaced. Groups are limited in files and bytes, which are kept open and in memory, and in time,
because a killed run loses its group.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

from pipeline_steps.auth.hosts import Host
from pipeline_steps.charts.archive import Archive
from pipeline_steps.repositories import index, index_rows, indexed
from pipeline_steps.repositories.indexed import INDEX, IndexedArchive, IndexWriter
from pipeline_steps.repositories.repository import Publication, Published
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import (
    ConfigurationError,
    Conflict,
    EvidenceError,
    MachineError,
    PipelineError,
)

log = logging.getLogger(__name__)

LOCK = ".lock"
#: Published files are for web servers to read. Who may write into the folder may write them, too.
_MODE, _FOLDER_MODE = 0o644, 0o755
#: Seconds until a group is complete.
_SECONDS = 2.0


class _NewChart(NamedTuple):
    """A chart that is written but not renamed yet. names: its final paths, in the order of
    renaming.
    """

    publication: Publication
    path: Path
    entry: Mapping[str, Any]
    tgz: bytes
    names: Sequence[Path] = ()

    @property
    def published(self) -> Published:
        source = self.publication.archive
        archive = Archive(source.name, source.version, source.tar_digest, self.tgz)
        return Published(f"{self.path.absolute().as_uri()}@{archive.digest}", archive)


_Outcome: TypeAlias = "Published | PipelineError | _NewChart"


def _provenance_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.prov")


class DirectoryRepository(IndexWriter):
    """`url` is file:///folder; the folder is created when missing. Its publishers wait for each
    other (flock).
    """

    def __init__(self, url: str, hosts: Mapping[str, Host] | None = None) -> None:
        """hosts: unused, folders have no logins."""
        self.folder = files.folder_at(url)
        # As references have it, where a folder's name has a space or an @.
        self.url = self.folder.as_uri()
        self._parsed: tuple[bytes | None, index.Index] | None = None

    @property
    def _mode(self) -> int:
        """Of files and the lock, so that several accounts of a group can publish."""
        return files.shared_mode(self.folder, _MODE)

    def _make_folder(self) -> None:
        files.folder(self.folder, mode=files.shared_mode(self.folder, _FOLDER_MODE))

    def resolve(self, name: str, version: str) -> str | None:
        """See Repository: reads the index and the archive."""
        stored = self._stored(name, version)
        return stored.reference(files.sha256(stored.tgz())) if stored else None

    def _index(self) -> index.Index:
        """The current index. Entries of the previous one that did not change are not parsed
        again.
        """
        data = self.index()
        if self._parsed is None or self._parsed[0] != data:
            earlier = self._parsed[1] if self._parsed else None
            self._parsed = data, index.Index(data, str(self.folder / INDEX), earlier)
        return self._parsed[1]

    def _stored(self, name: str, version: str, *, first: bool = False) -> IndexedArchive | None:
        return self._archive_of(index_rows.find_readable(self._index(), name, version, first=first))

    def _archive_of(self, entry: index.Entry | None) -> IndexedArchive | None:
        if entry is None:
            return None
        label = f"{entry.name} {entry.version}"
        path = self._path_of_url(entry.urls[0] if entry.urls else "", label)
        return IndexedArchive(
            entry,
            path.absolute().as_uri(),
            str(path),
            functools.partial(files.read_if_present, path),
        )

    def _path_of_url(self, url: str, label: str) -> Path:
        parts = urlsplit(url)
        relative = unquote(parts.path)
        if parts.netloc:  # what the folder is served as is not known: its end is a file here
            names = relative.strip("/").split("/")
            tails = ["/".join(names[start:]) for start in range(len(names))]
            relative = next((tail for tail in tails if (self.folder / tail).is_file()), names[-1])
        path = self.folder / relative
        # Resolved: a link in the folder may lead out of it as well as "..".
        if not url or not path.resolve().is_relative_to(self.folder.resolve()):
            problem = f"{label} has the URL {url!r}, which is not in this folder"
            raise EvidenceError(
                problem, where=str(self.folder / INDEX), advice="regenerate rebuilds the index"
            )
        return path

    def provenance(self, published: Published) -> bytes | None:
        """See Repository."""
        return files.read_if_present(
            _provenance_path(Path(unquote(urlsplit(published.place).path)))
        )

    def publish_all(
        self, publications: Iterable[Publication]
    ) -> Iterator[Published | PipelineError]:
        """See Writable: the index is written once per group."""
        for group in indexed.group_publications(publications, seconds=_SECONDS):
            yield from self._publish(group)

    def _publish(self, group: Sequence[Publication]) -> list[Published | PipelineError]:
        """Publish a group of different versions."""
        self._make_folder()
        current_index = self._index()
        self._refuse_rejected_index(current_index)
        outcomes: list[_Outcome | None] = [
            self._existing(current_index, outcome.archive) for outcome in group
        ]
        with files.Batch(mode=self._mode) as batch:
            for number, publication in enumerate(group):
                if outcomes[number] is None:
                    outcomes[number] = self._write_unnamed(batch, publication)
            if any(isinstance(outcome, _NewChart) for outcome in outcomes):
                batch.sync()
                with files.locked(self.folder / LOCK, mode=self._mode):
                    # With the lock, so that what is swept is no living publisher's.
                    files.sweep_temporaries(self.folder)
                    outcomes = self._name_and_index(batch, outcomes)
        return [
            outcome.published if isinstance(outcome, _NewChart) else outcome
            for outcome in outcomes
            if outcome is not None
        ]

    def _existing(
        self, current_index: index.Index, archive: Archive
    ) -> Published | PipelineError | None:
        """The outcome for a version that the index has, None when the version is free."""
        try:
            stored = self._archive_of(current_index.find(archive.name, archive.version))
            if stored and stored.read() is None and stored.entry.digest == archive.digest:
                files.write(Path(stored.where), archive.tgz, mode=self._mode)
                log.warning("%s: restored, the index had it and the folder did not", stored.where)
            existing = self._check_version_free(
                archive, stored.published() if stored else None, current_index
            )
        except (ConfigurationError, Conflict, EvidenceError) as error:
            return error
        if existing:
            log.info("%s: already there", existing.reference)
        return existing

    def _write_unnamed(
        self, batch: files.Batch, publication: Publication
    ) -> _NewChart | PipelineError:
        """Write the archive and its .prov under temporary names."""
        archive, path = publication.archive, self.folder / publication.archive.file_name
        try:
            entry = indexed.new_entry(
                archive.tgz,
                archive.file_name,
                archive.file_name,
                publication.created,
                archive.fields,
            )
        except (ConfigurationError, EvidenceError) as error:
            return error
        if publication.provenance is not None:
            batch.add(_provenance_path(path), publication.provenance)
        batch.add(path, archive.tgz)
        return _NewChart(publication, path, entry, archive.tgz)

    def _name_and_index(
        self, batch: files.Batch, outcomes: Sequence[_Outcome | None]
    ) -> list[_Outcome | None]:
        """With the lock: rename charts that are new and whose version is still free, then replace
        the index.
        """
        current_index = self._index()
        final: list[_Outcome | None] = []
        for outcome in outcomes:
            final.append(
                self._existing(current_index, outcome.publication.archive)
                or self._files_to_name(outcome)
                if isinstance(outcome, _NewChart)
                else outcome
            )
        new_charts = [outcome for outcome in final if isinstance(outcome, _NewChart)]
        if new_charts:
            is_there = self.index() is not None
            if not is_there or current_index.is_cut:
                group = [new_chart.publication for new_chart in new_charts]
                indexed.refuse_lost_index(self.files(), group, self.url)
            if not is_there:
                # First, so that archives without an index are never left by a killed publisher.
                files.write(self.folder / INDEX, current_index.data, mode=self._mode)
            batch.name([path for new_chart in new_charts for path in new_chart.names])
            data = current_index.with_entries([new_chart.entry for new_chart in new_charts])
            files.write(self.folder / INDEX, data, mode=self._mode)
            # A network file system may lose or reorder writes.
            if self.index() != data or any(
                files.read_if_present(new_chart.path) != new_chart.tgz for new_chart in new_charts
            ):
                raise MachineError(
                    "the folder's files differ from what was just written",
                    where=str(self.folder),
                    advice="run it again; if it stays, look at the disk or the network file system",
                )
        return final

    def _files_to_name(self, chart: _NewChart) -> _NewChart | PipelineError:
        """The files to rename; where a killed publisher left the archive, only what is missing."""
        leftover = files.read_if_present(chart.path)
        provenance_paths = (
            [] if chart.publication.provenance is None else [_provenance_path(chart.path)]
        )
        try:
            tgz = indexed.bytes_to_publish(chart.publication, leftover, str(chart.path))
        except (ConfigurationError, Conflict, EvidenceError) as error:
            return error
        if tgz == leftover:
            digest = files.sha256(tgz).removeprefix("sha256:")
            return chart._replace(
                tgz=tgz, entry={**chart.entry, "digest": digest}, names=provenance_paths
            )
        if not provenance_paths:  # a .prov without its archive signs other bytes
            files.remove(_provenance_path(chart.path))
        # The .prov first: helm asks for it as soon as it has the archive.
        return chart._replace(names=[*provenance_paths, chart.path])

    def index(self) -> bytes | None:
        """See Indexed."""
        return files.read_if_present(self.folder / INDEX)

    def files(self) -> Mapping[str, int]:
        """See Indexed."""
        paths = (
            path
            for path in self.folder.rglob("*")
            if path.is_file() and path.name not in (INDEX, LOCK)
        )
        return {
            path.relative_to(self.folder).as_posix(): path.stat().st_size for path in sorted(paths)
        }

    def read(self, name: str) -> bytes | None:
        """See Indexed."""
        return files.read_if_present(self._path_of_url(name, name))

    def rewrite(self, before: bytes | None, after: bytes) -> None:
        """See Rewritable."""
        self._make_folder()
        with files.locked(self.folder / LOCK, mode=self._mode):
            if self.index() != before:
                raise Conflict(
                    "the index was changed meanwhile",
                    where=str(self.folder / INDEX),
                    advice="run it again",
                )
            files.write(self.folder / INDEX, after, mode=self._mode)
