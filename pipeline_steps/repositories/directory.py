"""A chart repository in a folder: archives and index.yaml, as any web server serves it to helm.

Publishers share a lock that dies with its process; the artifact is written first, the index last, both atomically.
Readers need no lock. What takes long, writing archives and waiting for the disk, comes before the lock: others wait
only while a group of archives gets its names and the index is replaced, a fraction of a second. So groups are bounded
by files and bytes, which are held open and in memory, and by time, which a killed run has lost.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

from pipeline_steps.charts import archive as archives
from pipeline_steps.charts import version as versions_of
from pipeline_steps.charts.archive import Archive
from pipeline_steps.charts.metadata import CREATED
from pipeline_steps.charts.read import read_metadata
from pipeline_steps.repositories import index
from pipeline_steps.repositories.repository import (
    Guarantees,
    Publication,
    Published,
    conflict,
    twin_conflict,
)
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.clock import Deadline
from pipeline_steps.toolbox.errors import ConfigurationError, Conflict, EvidenceError, MachineError, PipelineError

log = logging.getLogger(__name__)

INDEX = "index.yaml"
LOCK = ".lock"
#: Published files are for web servers to read.
_MODE = 0o644


#: What a group may have: open files (a process often has 1024), bytes, seconds until it is complete.
_FILES, _BYTES, _SECONDS = 256, 64 * 2**20, 2.0


class _New(NamedTuple):
    """A chart that is written and not named yet. names: of its files, in the order they are given."""

    publication: Publication
    path: Path
    entry: Mapping[str, Any]
    tgz: bytes
    names: Sequence[Path] = ()

    @property
    def published(self) -> Published:
        archive, digest = self.publication.archive, files.sha256(self.tgz)
        reference = f"{self.path.absolute().as_uri()}@{digest}"
        return Published(archive.name, archive.version, reference, archive.tar_digest, digest)


_Outcome: TypeAlias = "Published | PipelineError | _New"


def _groups(publications: Iterable[Publication]) -> Iterator[list[Publication]]:
    """Publications to be named together: no version twice, not even one that only differs in build metadata."""
    group: dict[tuple[str, str], Publication] = {}
    held = size = 0
    deadline = Deadline(_SECONDS)
    for one in publications:
        key = one.archive.name, one.archive.version.partition("+")[0]
        if key in group:
            yield list(group.values())
            group = {}
        if not group:
            held, size, deadline = 0, 0, Deadline(_SECONDS)
        group[key] = one
        held += 1 + (one.provenance is not None)
        size += len(one.archive.tgz)
        if held >= _FILES or size >= _BYTES or deadline.over:
            yield list(group.values())
            group = {}
    if group:
        yield list(group.values())


def _provenance(path: Path) -> Path:
    return path.with_name(f"{path.name}.prov")


class DirectoryRepository:
    """`url` is file:///folder, which is made when it is missing."""

    guarantees = Guarantees(atomic=True, words="publishers of this folder wait for each other (flock)")

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ConfigurationError("not the URL of a folder", where=url, advice="write file:///folder, absolute")
        self.folder = Path(unquote(parts.path))
        self.url = url.rstrip("/")
        self._parsed: tuple[bytes | None, index.Index] | None = None

    def standing(self, name: str, version: str) -> str | None:
        """See Repository: the index and the archive are read."""
        entry = self._entry(name, version)
        return self._reference(entry, files.sha256(self._bytes(entry))) if entry else None

    def find(self, name: str, version: str) -> Published | None:
        """See Repository."""
        entry = self._entry(name, version)
        return self._published(entry, self._bytes(entry)) if entry else None

    def _published(self, entry: index.Entry, tgz: bytes) -> Published:
        reference = self._reference(entry, files.sha256(tgz))
        found = archives.opened(tgz, reference)
        if (found.name, found.version) != (entry.name, entry.version):
            what = f"the archive holds the chart {found.name} {found.version}, the index says {entry.version}"
            raise EvidenceError(what, where=reference, advice="regenerate rebuilds the index")
        return Published(entry.name, entry.version, reference, found.tar_digest, files.sha256(tgz))

    def _entry(self, name: str, version: str) -> index.Entry | None:
        return self._index().find(name, version)

    def _index(self) -> index.Index:
        """The index as it is now; what was read of it before is not read again."""
        data = self.index()
        if self._parsed is None or self._parsed[0] != data:
            earlier = self._parsed[1] if self._parsed else None
            self._parsed = data, index.Index(data, str(self.folder / INDEX), earlier)
        return self._parsed[1]

    def _bytes(self, entry: index.Entry) -> bytes:
        """The archive of an entry, compared with the digest in the index."""
        path = self._path(entry)
        data = self._read(path)
        if data is None:
            raise EvidenceError("the index names this archive, which is missing", where=str(path), advice="regenerate")
        if entry.digest and files.sha256(data) != entry.digest:
            what = f"the archive has the digest {files.sha256(data)}, the index says {entry.digest}"
            raise EvidenceError(what, where=str(path), advice="restore the archive")
        return data

    def _path(self, entry: index.Entry) -> Path:
        return self._at(entry.urls[0] if entry.urls else "", f"{entry.name} {entry.version}")

    def _at(self, url: str, what: str) -> Path:
        parts = urlsplit(url)
        path = self.folder / (unquote(parts.path) if not parts.netloc else Path(unquote(parts.path)).name)
        if not url or not path.resolve().is_relative_to(self.folder.resolve()):
            message = f"{what} has the URL {url!r}, which is not in this folder"
            raise EvidenceError(message, where=str(self.folder / INDEX), advice="regenerate rebuilds the index")
        return path

    def _reference(self, entry: index.Entry, digest: str) -> str:
        return f"{self._path(entry).absolute().as_uri()}@{digest}"

    def _read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MachineError(f"cannot be read: {error.strerror}", where=str(path)) from error

    def fetch(self, published: Published) -> bytes:
        """See Repository."""
        place, _, digest = published.reference.rpartition("@")
        path = Path(unquote(urlsplit(place).path))
        data = self._read(path)
        if data is None:
            raise EvidenceError("the chart is not there any more", where=str(path))
        if files.sha256(data) != digest:
            raise EvidenceError(f"the archive has the digest {files.sha256(data)}, expected {digest}", where=str(path))
        return data

    def provenance(self, published: Published) -> bytes | None:
        """See Repository."""
        place = unquote(urlsplit(published.reference.rpartition("@")[0]).path)
        return self._read(Path(f"{place}.prov"))

    def publish(self, archive: Archive, provenance: bytes | None = None, created: str = CREATED) -> Published:
        """See Repository."""
        (outcome,) = self.publish_all([Publication(archive, provenance, created)])
        if isinstance(outcome, PipelineError):
            raise outcome
        return outcome

    def publish_all(self, publications: Iterable[Publication]) -> Iterator[Published | PipelineError]:
        """See Repository: the index is written once for each group."""
        for group in _groups(publications):
            yield from self._publish(group)

    def _publish(self, group: Sequence[Publication]) -> list[Published | PipelineError]:
        """Publish versions of which no two are the same."""
        files.folder(self.folder, mode=0o755)
        known = self._index()
        outcomes: list[_Outcome | None] = [self._there(known, one.archive) for one in group]
        with files.Batch(mode=_MODE) as batch:
            for number, one in enumerate(group):
                if outcomes[number] is None:
                    outcomes[number] = self._prepared(batch, one)
            if any(isinstance(one, _New) for one in outcomes):
                batch.sync()
                with files.locked(self.folder / LOCK):
                    files.sweep_temporaries(self.folder)
                    outcomes = self._named(batch, outcomes)
        return [one.published if isinstance(one, _New) else one for one in outcomes if one is not None]

    def _there(self, known: index.Index, archive: Archive) -> Published | PipelineError | None:
        """What the index says of a version that is on its way, None when it may come."""
        try:
            entry = known.find(archive.name, archive.version)
            if entry is None:
                bare = archive.version.partition("+")[0]
                alike = (one.version for one in known.versions(archive.name) if one.version.partition("+")[0] == bare)
                twin = versions_of.twin(archive.version, alike)
                return twin_conflict(archive, twin, self.url) if twin else None
            there = self._published(entry, self._bytes(entry))
            if there.tar_digest != archive.tar_digest:
                return conflict(archive, there.tar_digest, there.reference)
        except (ConfigurationError, EvidenceError) as error:
            return error
        log.info("%s: already there", there.reference)
        return there

    def _prepared(self, batch: files.Batch, publication: Publication) -> _New | PipelineError:
        """Write the archive and its .prov, still without names."""
        archive, path = publication.archive, self.folder / publication.archive.file_name
        try:
            content = archives.unpack(archive.tgz, archive.file_name)
            fields = read_metadata(content["Chart.yaml"], archive.file_name, strict=False).fields
        except (ConfigurationError, EvidenceError) as error:
            return error
        if publication.provenance is not None:
            batch.add(_provenance(path), publication.provenance)
        batch.add(path, archive.tgz)
        entry = index.entry(fields, archive.digest, archive.file_name, publication.created)
        return _New(publication, path, entry, archive.tgz)

    def _named(self, batch: files.Batch, outcomes: Sequence[_Outcome | None]) -> list[_Outcome | None]:
        """Under the lock: give names to what is new and may still come, then replace the index."""
        known = self._index()
        there = [self._there(known, one.publication.archive) if isinstance(one, _New) else one for one in outcomes]
        found = [
            self._left(new) if one is None and isinstance(new, _New) else one
            for new, one in zip(outcomes, there, strict=True)
        ]
        news = [one for one in found if isinstance(one, _New)]
        if news:
            batch.name([path for new in news for path in new.names])
            data = known.with_entries([new.entry for new in news])
            files.write(self.folder / INDEX, data, mode=_MODE)
            if self.index() != data or any(self._read(new.path) != new.tgz for new in news):
                raise MachineError("it reads differently from what was just written", where=str(self.folder))
        return found

    def _left(self, new: _New) -> _New | PipelineError:
        """What is to be named: what a killed publisher left of the same tar stays, when no .prov needs other bytes."""
        archive, provenance = new.publication.archive, new.publication.provenance
        left = self._read(new.path)
        try:
            theirs = archives.tar_digest(left, str(new.path)) if left is not None else archive.tar_digest
        except (ConfigurationError, EvidenceError) as error:
            return error
        if theirs != archive.tar_digest:
            return conflict(archive, theirs, str(new.path))
        beside = [_provenance(new.path)] if provenance is not None else []
        if left is not None and (left == archive.tgz or provenance is None):
            digest = files.sha256(left).removeprefix("sha256:")
            return new._replace(tgz=left, entry={**new.entry, "digest": digest}, names=beside)
        if provenance is None:  # one that was left is of other bytes
            files.remove(_provenance(new.path))
        return new._replace(names=[*beside, new.path])

    def versions(self, name: str) -> list[str]:
        """See Repository."""
        return versions_of.newest_first(entry.version for entry in self._index().versions(name))

    def charts(self) -> list[str]:
        """See Repository."""
        return sorted(self._index().names())

    def index(self) -> bytes | None:
        """See Classic."""
        return self._read(self.folder / INDEX)

    def files(self) -> Mapping[str, int]:
        """See Classic."""
        found = (path for path in self.folder.rglob("*") if path.is_file() and path.name not in (INDEX, LOCK))
        return {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in sorted(found)}

    def read(self, name: str) -> bytes | None:
        """See Classic."""
        return self._read(self._at(name, name))

    def rewrite(self, before: bytes | None, after: bytes) -> None:
        """See Classic."""
        files.folder(self.folder, mode=0o755)
        with files.locked(self.folder / LOCK):
            if self.index() != before:
                raise Conflict("the index was changed meanwhile", where=str(self.folder / INDEX), advice="start again")
            files.write(self.folder / INDEX, after, mode=_MODE)
