"""Several evidence stores as a state sees them: read as one union, one of them written.

It asks many at once, and a store that failed once is not asked again by this process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pipeline_steps.evidence.store import Store, subjects
from pipeline_steps.state.record import Record, decode
from pipeline_steps.toolbox.errors import EvidenceError, Interrupted, MachineError, PipelineError, Temporary
from pipeline_steps.toolbox.files import sha256

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
#: Requests at once.
AT_ONCE = 8

log = logging.getLogger(__name__)


class Stores:
    """read: the stores whose records count. write: where new records go, which need not be one of those."""

    def __init__(self, read: Sequence[Store], write: Store | None) -> None:
        self._read = tuple(read)
        self._write = write
        self._there: dict[str, set[str]] = {}
        self._broken: PipelineError | None = None
        self._silent: PipelineError | None = None

    def about(self, digests: Iterable[str], known: Collection[str]) -> list[tuple[bytes, Record]]:
        """Lines and records about these contents or outputs whose ids are not in `known`.

        Raises EvidenceError for a record that is not what its name says, MachineError's kinds, Temporary; the same
        again without asking when a store has been tried in vain: not for every chart anew.
        """
        if self._silent is not None:
            raise self._silent
        try:
            return self._about(digests, known)
        except (MachineError, Temporary) as error:
            self._silent = error
            raise

    def _about(self, digests: Iterable[str], known: Collection[str]) -> list[tuple[bytes, Record]]:
        stores = [*self._read, *([self._write] if self._write and self._write not in self._read else [])]
        pairs = [(store, digest) for digest in digests for store in stores]
        wanted: dict[str, Store] = {}
        for (store, digest), found in zip(pairs, self._all(lambda pair: pair[0].about(pair[1]), pairs), strict=True):
            if store is self._write:
                self._there[digest] = found
            if store in self._read:
                wanted |= {one: store for one in found if one not in known}
        return _in_order(self._all(lambda pair: _record(pair[1], pair[0], listed=True), list(wanted.items())))

    def named(self, ids: Iterable[str]) -> list[tuple[bytes, Record]]:
        """Lines and records by their ids, as many as there are. Raises as `about` does."""
        return _in_order(self._all(self._named, list(ids)))

    def _all(self, ask: Callable[[Asked], Answer], questions: Sequence[Asked]) -> list[Answer]:
        """The answers to all questions, many asked at once. A few to folders are answered before threads would be."""
        near = all(store.url.startswith("file:") for store in (*self._read, *([self._write] if self._write else [])))
        if len(questions) < (AT_ONCE if near else 2):
            return [ask(question) for question in questions]
        with ThreadPoolExecutor(min(AT_ONCE, len(questions)), thread_name_prefix="evidence") as pool:
            return list(pool.map(ask, questions))

    @property
    def urls(self) -> str:
        """The stores that are read, for messages."""
        return ", ".join(store.url for store in self._read) or "no store"

    def _named(self, identity: str) -> tuple[bytes, Record] | None:
        return next((found for store in self._read if (found := _record(store, identity))), None)

    def attached(self, digest: str) -> bytes | None:
        """A file of evidence from whichever store has it."""
        return next((data for store in self._read if (data := store.attached(digest)) is not None), None)

    def lacks(self, record: Record) -> bool:
        """Is this a record about something that was asked for, and not in the store that is written?"""
        return any(digest in self._there and record.id not in self._there[digest] for digest in subjects(record))

    def put(self, line: bytes, record: Record, folder: Path) -> None:
        """Keep a record with its evidence files, which lie in `folder`. Raises MachineError's kinds, Temporary."""
        if self._write is None:
            return
        if self._broken is not None:
            raise self._broken
        try:
            self._write.put(line, record, _attached(record, folder))
        except Interrupted:
            raise
        except PipelineError as error:
            what = f"the record {record.id[:19]} of {record.step} is not in the evidence store: {error.what}"
            advice = f"it stands in {folder}; the next step of this content puts it there, once the store answers"
            self._broken = type(error)(what, where=error.where or self._write.url, advice=advice)
            raise self._broken from error
        for digest in subjects(record):
            if digest in self._there:
                self._there[digest].add(record.id)


def _record(store: Store, identity: str, *, listed: bool = False) -> tuple[bytes, Record] | None:
    """The line and the record of an id, which it must have. listed: one that is missing is an error."""
    where = f"{store.url}, record {identity[:19]}"
    line = store.read(identity)
    if line is None:
        if listed:
            raise EvidenceError("is listed and not there", where=where, advice="restore the store")
        return None
    record = decode(line, where=where)
    if record.id != identity:
        raise EvidenceError(f"holds another record, {record.id[:19]}", where=where, advice="restore the store")
    return line, record


def _in_order(found: Iterable[tuple[bytes, Record] | None]) -> list[tuple[bytes, Record]]:
    """Roughly as they were written. Nothing is decided by that: what replaces what says `supersedes`."""
    return sorted((one for one in found if one), key=lambda one: (one[1].finished or one[1].started, one[1].id))


def _attached(record: Record, folder: Path) -> Mapping[str, bytes]:
    """The evidence files that lie here and are what the record says.

    Raises MachineError for one that cannot be read now: without it the record would be there for ever.
    """
    found = {}
    for name, digest in record.evidence.items():
        try:
            data = (folder / name).read_bytes()
        except FileNotFoundError:
            log.warning("%s: not kept as evidence: it is gone", folder / name)
            continue
        except OSError as error:
            raise MachineError(f"cannot read: {error.strerror}", where=str(folder / name)) from error
        if sha256(data) == digest:
            found[name] = data
        else:
            log.warning("%s: not kept as evidence: it changed since it was recorded", folder / name)
    return found
