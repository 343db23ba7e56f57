"""A chart repository in a folder: archives and index.yaml, as any web server serves it to helm.

Publishers share a lock that dies with its process; the artifact is written first, the index last, both atomically.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline_steps.charts import archive as archives
from pipeline_steps.charts import version as versions_of
from pipeline_steps.charts.archive import Archive
from pipeline_steps.charts.metadata import CREATED
from pipeline_steps.charts.read import read_metadata
from pipeline_steps.core.errors import ConfigurationError, Conflict, EvidenceError, MachineError, PipelineError
from pipeline_steps.repositories import index
from pipeline_steps.repositories.repository import (
    Guarantees,
    Publication,
    Published,
    conflict,
    one_by_one,
    twin_conflict,
)
from pipeline_steps.toolbox import files

log = logging.getLogger(__name__)

INDEX = "index.yaml"
LOCK = ".lock"
#: Published files are for web servers to read.
_MODE = 0o644


class DirectoryRepository:
    """`url` is file:///folder, which is made when it is missing."""

    guarantees = Guarantees(atomic=True, words="publishers of this folder wait for each other (flock)")

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ConfigurationError("not the URL of a folder", where=url, advice="write file:///folder, absolute")
        self.folder = Path(unquote(parts.path))
        self.url = url.rstrip("/")

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
        return index.Index(self._read(self.folder / INDEX), str(self.folder / INDEX))

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
        files.folder(self.folder, mode=0o755)
        with files.locked(self.folder / LOCK):
            files.sweep_temporaries(self.folder)
            return self._publish(archive, provenance, created)

    def publish_all(self, publications: Iterable[Publication]) -> Iterator[Published | PipelineError]:
        """See Repository."""
        return one_by_one(self, publications)

    def _publish(self, archive: Archive, provenance: bytes | None, created: str) -> Published:
        known = self._index()
        entry = known.find(archive.name, archive.version)
        if entry:
            there = self._published(entry, self._bytes(entry))
            if there.tar_digest != archive.tar_digest:
                raise conflict(archive, there.tar_digest, there.reference)
            log.info("%s: already there", there.reference)
            return there
        twin = versions_of.twin(archive.version, (one.version for one in known.versions(archive.name)))
        if twin:
            raise twin_conflict(archive, twin, self.url)
        path = self.folder / archive.file_name
        tgz = self._artifact(path, archive, provenance)
        fields = read_metadata(archives.unpack(tgz, str(path))["Chart.yaml"], str(path), strict=False).fields
        data = known.with_entry(index.entry(fields, files.sha256(tgz), archive.file_name, created))
        files.write(self.folder / INDEX, data, mode=_MODE)
        if self._read(self.folder / INDEX) != data or self._read(path) != tgz:
            raise MachineError("it reads differently from what was just written", where=str(self.folder))
        digest = files.sha256(tgz)
        reference = f"{path.absolute().as_uri()}@{digest}"
        return Published(archive.name, archive.version, reference, archive.tar_digest, digest)

    def _artifact(self, path: Path, archive: Archive, provenance: bytes | None) -> bytes:
        """Write the archive and its .prov; what a killed publisher left of the same tar stays."""
        left = self._read(path)
        if left is not None:
            theirs = archives.tar_digest(left, str(path))
            if theirs != archive.tar_digest:
                raise conflict(archive, theirs, str(path))
            return left
        if provenance is not None:
            files.write(path.with_name(f"{path.name}.prov"), provenance, mode=_MODE)
        files.write(path, archive.tgz, mode=_MODE)
        return archive.tgz

    def versions(self, name: str) -> list[str]:
        """See Repository."""
        return versions_of.newest_first(entry.version for entry in self._index().versions(name))

    def charts(self) -> list[str]:
        """See Repository."""
        return sorted(self._index().entries())

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
