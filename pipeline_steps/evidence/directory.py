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
from urllib.parse import unquote, urlsplit

from pipeline_steps.evidence.store import entry, hexadecimal, identity, subjects
from pipeline_steps.state.record import Record
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError, MachineError

#: For other builds and people to read; who may write is up to the folder's owner and the umask.
_MODE, _FOLDERS = 0o644, 0o775


class DirectoryStore:
    """`url` is file:///folder, which is made by the first record."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ConfigurationError(
                "not the URL of a folder", where=url, advice="write file:///folder, absolute"
            )
        self.url = url.rstrip("/")
        self._folder = Path(unquote(parts.path))

    def put(self, line: bytes, record: Record, attached: Mapping[str, bytes]) -> None:
        """See Store."""
        name = entry(record)
        for data in attached.values():
            self._keep(self._place("files", files.sha256(data)), data)
        self._keep(self._record(record.id), line)
        for digest in subjects(record):
            self._mark(self._place("about", digest) / name)

    def about(self, digest: str) -> set[str]:
        """See Store."""
        place = self._place("about", digest)
        try:
            names = [path.name for path in place.iterdir()]
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise _unreadable(error, place) from error
        return {record_id for name in names if (record_id := identity(name))}

    def read(self, identity: str) -> bytes | None:
        """See Store."""
        return self._bytes(self._record(identity))

    def attached(self, digest: str) -> bytes | None:
        """See Store."""
        place = self._place("files", digest)
        data = self._bytes(place)
        if data is not None and files.sha256(data) != digest:
            raise EvidenceError(f"has the digest {files.sha256(data)} now", where=str(place))
        return data

    def _record(self, identity: str) -> Path:
        place = self._place("records", identity)
        return place.with_name(f"{place.name}.json")

    def _place(self, kind: str, digest: str) -> Path:
        name = hexadecimal(digest)
        return self._folder / kind / name[:2] / name[2:]

    def _home(self, place: Path) -> Path:
        """The folder of `place`, made when missing. A symbolic link below the store's own folder is
        not followed.
        """
        path = files.folder(self._folder, mode=_FOLDERS)
        for name in place.parent.relative_to(path).parts:
            path = files.own_folder(path / name, mode=_FOLDERS)
        return path

    def _keep(self, place: Path, data: bytes) -> None:
        kept = self._bytes(place)
        if kept is None:
            files.write(self._home(place) / place.name, data, mode=_MODE)
        elif kept != data:
            what = "is there with other bytes: nothing was written"
            raise EvidenceError(
                what, where=str(place), advice="restore the store's folder; its files never change"
            )

    def _mark(self, place: Path) -> None:
        self._home(place)
        try:
            os.close(
                os.open(
                    place,
                    os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
                    _MODE,
                )
            )
            files.sync_folder(place.parent)
        except FileExistsError:
            return
        except OSError as error:
            raise files.failure(error, place) from error

    def _bytes(self, place: Path) -> bytes | None:
        try:
            return place.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(error, place) from error


def _unreadable(error: OSError, place: Path) -> MachineError:
    return MachineError(f"cannot be read: {error.strerror}", where=str(place))
