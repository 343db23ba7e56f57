"""An evidence store in a folder, also a shared one: file:///folder.

    records/ab/cdef….json      the line of a record, by its id
    files/ab/cdef…             a file of evidence, by its digest
    about/ab/cdef…/STEP-ID     an empty file for each record about a content or output

Folders are split by the first two digits, so that none holds too many entries. Writers take no
lock.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipeline_steps.evidence.store import entry_name, hex_digits, lookup_digests, parse_entry_name
from pipeline_steps.state.record import Record
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import EvidenceError

#: For other builds and people to read; who may write is up to the folder's owner and the umask.
_FILE_MODE, _FOLDER_MODE = 0o644, 0o775


class DirectoryStore:
    """`url` is file:///folder, which is made by the first record."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._folder = files.folder_at(url)

    def put(self, line: bytes, record: Record, evidence_files: Mapping[str, bytes]) -> None:
        """See Store."""
        name = entry_name(record)
        # Files, then the record, then the markers: who finds a marker finds all that it stands for.
        for data in evidence_files.values():
            self._write_once(self._path("files", files.sha256(data)), data)
        self._write_once(self._record_path(record.id), line)
        for digest in lookup_digests(record):
            self._create_marker(self._path("about", digest) / name)

    def record_ids(self, digest: str) -> set[str]:
        """See Store."""
        path = self._path("about", digest)
        try:
            names = [entry.name for entry in path.iterdir()]
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise files.unreadable(error, path) from error
        # Temporary files of writers, and what file systems leave (.nfs…), are no entries.
        return {record_id for name in names if (record_id := parse_entry_name(name))}

    def record_line(self, record_id: str) -> bytes | None:
        """See Store."""
        return files.read_if_present(self._record_path(record_id))

    def evidence_file(self, digest: str) -> bytes | None:
        """See Store."""
        path = self._path("files", digest)
        data = files.read_if_present(path)
        if data is not None and files.sha256(data) != digest:
            raise EvidenceError(
                f"the file has the digest {files.sha256(data)}, not the one in its name",
                where=str(path),
                advice="restore the store's folder; its files never change",
            )
        return data

    def _record_path(self, record_id: str) -> Path:
        path = self._path("records", record_id)
        return path.with_name(f"{path.name}.json")

    def _path(self, kind: str, digest: str) -> Path:
        name = hex_digits(digest)
        return self._folder / kind / name[:2] / name[2:]

    def _make_parent(self, path: Path) -> Path:
        """Create the folder of `path` if it is missing, and return it.

        A symbolic link below the store's folder is refused: it could lead out of the store.
        """
        folder = files.folder(self._folder, mode=_FOLDER_MODE)
        for name in path.parent.relative_to(folder).parts:
            folder = files.created_folder(folder / name, mode=_FOLDER_MODE)
        return folder

    def _write_once(self, path: Path, data: bytes) -> None:
        existing = files.read_if_present(path)
        if existing is None:
            files.write(self._make_parent(path) / path.name, data, mode=_FILE_MODE)
        elif existing != data:
            message = "the file is there with other bytes: nothing was written"
            raise EvidenceError(
                message,
                where=str(path),
                advice="restore the store's folder; its files never change",
            )

    def _create_marker(self, path: Path) -> None:
        self._make_parent(path)
        try:
            # O_EXCL and O_NOFOLLOW: on a shared file system a link could lead to a file of ours.
            os.close(
                os.open(
                    path,
                    os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
                    _FILE_MODE,
                )
            )
            files.sync_folder(path.parent)
        except FileExistsError:
            return
        except OSError as error:
            raise files.failure(error, path) from error
