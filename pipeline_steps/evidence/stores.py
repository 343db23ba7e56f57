"""The evidence stores of a step: several are read as one union, one of them is written.

They are asked in parallel. A store that failed once is not asked again by this process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pipeline_steps.evidence.store import Store, lookup_digests
from pipeline_steps.state.record import Record, decode
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import (
    EvidenceError,
    Interrupted,
    MachineError,
    PipelineError,
    Temporary,
)

Question = TypeVar("Question")
Answer = TypeVar("Answer")
#: Requests at once.
MAX_PARALLEL = 8

log = logging.getLogger(__name__)


class Stores:
    """read: the stores whose records count. write: where new records go, often one of `read`."""

    def __init__(self, read: Sequence[Store], write: Store | None) -> None:
        self._read = tuple(read)
        self._write = write
        self._ids_in_write_store: dict[
            str, set[str]
        ] = {}  # digest → ids of the records about it in the store that is written
        self._write_error: PipelineError | None = None
        self._read_error: PipelineError | None = None

    def fetch_records(
        self, digests: Iterable[str], known_ids: Collection[str]
    ) -> list[tuple[bytes, Record]]:
        """Lines and records about these contents or outputs whose ids are not in `known_ids`.

        Raises EvidenceError for a record that is not what its name says, MachineError's kinds,
        Temporary; the same again without asking when a store has been tried in vain: not for every
        chart anew.
        """
        if self._read_error is not None:
            raise self._read_error
        try:
            return self._fetch_records(digests, known_ids)
        except (MachineError, Temporary) as error:
            self._read_error = error
            raise

    def _fetch_records(
        self, digests: Iterable[str], known_ids: Collection[str]
    ) -> list[tuple[bytes, Record]]:
        lookups = [(store, digest) for digest in digests for store in self._all_stores]
        holders: dict[str, Store] = {}  # record id → a store that has it
        answers = self._map(lambda question: question[0].record_ids(question[1]), lookups)
        for (store, digest), ids in zip(lookups, answers, strict=True):
            if store is self._write:
                self._ids_in_write_store[digest] = ids
            if store in self._read:
                holders |= dict.fromkeys(ids.difference(known_ids), store)
        return _sort_records(
            self._map(
                lambda item: _read_record(item[1], item[0], listed=True), list(holders.items())
            )
        )

    @property
    def _all_stores(self) -> list[Store]:
        return [
            *self._read,
            *([self._write] if self._write and self._write not in self._read else []),
        ]

    def fetch_by_id(self, ids: Iterable[str]) -> list[tuple[bytes, Record]]:
        """Lines and records by their ids, as many as there are. Raises as `fetch_records` does."""
        return _sort_records(self._map(self._by_id, list(ids)))

    def _by_id(self, record_id: str) -> tuple[bytes, Record] | None:
        return next(
            (record for store in self._read if (record := _read_record(store, record_id))), None
        )

    def _map(
        self, ask: Callable[[Question], Answer], questions: Sequence[Question]
    ) -> list[Answer]:
        """`ask` for all questions, in parallel; few questions to folders need no threads."""
        # Starting threads costs more than a few reads of files.
        local = all(store.url.startswith("file:") for store in self._all_stores)
        if len(questions) < (MAX_PARALLEL if local else 2):
            return [ask(question) for question in questions]
        with ThreadPoolExecutor(
            min(MAX_PARALLEL, len(questions)), thread_name_prefix="evidence"
        ) as pool:
            return list(pool.map(ask, questions))

    @property
    def urls(self) -> str:
        """The stores that are read, for messages."""
        return ", ".join(store.url for store in self._read) or "no store"

    def evidence_file(self, digest: str) -> bytes | None:
        """A file of evidence by its digest, from the first store that has it."""
        return next(
            (data for store in self._read if (data := store.evidence_file(digest)) is not None),
            None,
        )

    def lacks(self, record: Record) -> bool:
        """Whether the store that is written lacks this record about a digest looked up before."""
        return any(
            digest in self._ids_in_write_store and record.id not in self._ids_in_write_store[digest]
            for digest in lookup_digests(record)
        )

    def put(self, line: bytes, record: Record, folder: Path) -> None:
        """Keep a record with its evidence files, which lie in `folder`. Raises MachineError's
        kinds, Temporary.
        """
        if self._write is None:
            return
        if self._write_error is not None:
            raise self._write_error
        try:
            self._write.put(line, record, _read_evidence_files(record, folder))
        except Interrupted:
            raise
        except PipelineError as error:
            message = (
                f"the record {record.id[:19]} of {record.step} is not in the evidence store: "
                f"{error.what}"
            )
            remedy = f"{error.advice}; " if error.advice else ""
            advice = (
                f"{remedy}it is in {folder}, and the next step of this content puts it there, once "
                "the store takes it"
            )
            self._write_error = type(error)(
                message, where=error.where or self._write.url, advice=advice
            )
            raise self._write_error from error
        for digest in lookup_digests(record):
            if digest in self._ids_in_write_store:
                self._ids_in_write_store[digest].add(record.id)


def _read_record(
    store: Store, record_id: str, *, listed: bool = False
) -> tuple[bytes, Record] | None:
    """The line and the record of an id, which it must have. listed: one that is missing is an
    error.
    """
    where = f"{store.url}, record {record_id[:19]}"
    line = store.record_line(record_id)
    if line is None:
        if listed:
            raise EvidenceError(
                "the record is listed, but missing",
                where=where,
                advice="restore the store from a backup",
            )
        return None
    record = decode(line, where=where)
    # A store is found by names: one that hands out another record under them proves nothing.
    if record.id != record_id:
        raise EvidenceError(
            f"the store holds another record, {record.id[:19]}",
            where=where,
            advice="restore the store from a backup",
        )
    return line, record


def _sort_records(records: Iterable[tuple[bytes, Record] | None]) -> list[tuple[bytes, Record]]:
    """Roughly in the order of writing; only `supersedes` decides which record replaces which."""
    present = [pair for pair in records if pair is not None]
    return sorted(present, key=lambda pair: (pair[1].finished or pair[1].started, pair[1].id))


def _read_evidence_files(record: Record, folder: Path) -> Mapping[str, bytes]:
    """The evidence files of a record that are in `folder` and have the recorded digest.

    Raises MachineError for a file that cannot be read now: without it the record would be written,
    and would stay, incomplete.
    """
    evidence_files = {}
    for name, digest in record.evidence.items():
        try:
            data = (folder / name).read_bytes()
        except FileNotFoundError:
            log.warning(
                "%s: not copied to the evidence store: the file does not exist any more",
                folder / name,
            )
            continue
        except OSError as error:
            raise files.unreadable(error, folder / name) from error
        # The file may have been written again by a later run with the same name.
        if files.sha256(data) == digest:
            evidence_files[name] = data
        else:
            log.warning(
                "%s: not copied to the evidence store: the file changed since it was recorded",
                folder / name,
            )
    return evidence_files
