"""The state that steps are given: the union of the state files in one folder, and the one file we
append to.

With evidence stores the union holds what these know about the contents at hand, too. Who asks them
is not here: a state does no network, it is given `EvidenceStores`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pipeline_steps.state import file, union
from pipeline_steps.state.record import Record, decode, encode

FOLDER = ".pipeline"
FILE = "state.jsonl"


class EvidenceStores(Protocol):
    """Records of other builds; what is asked raises MachineError's kinds or Temporary, never
    "absent" then.
    """

    def fetch_records(
        self, digests: Iterable[str], known_ids: Collection[str]
    ) -> list[tuple[bytes, Record]]:
        """Lines and records about these contents or outputs whose ids are not in `known_ids`."""

    def fetch_by_id(self, ids: Iterable[str]) -> list[tuple[bytes, Record]]:
        """Lines and records by their ids, as many as there are."""

    def evidence_file(self, digest: str) -> bytes | None:
        """A file of evidence by its digest, from whichever store has it."""

    def lacks(self, record: Record) -> bool:
        """Is this a record about something that was asked for, and not kept there?"""

    def put(self, line: bytes, record: Record, folder: Path) -> None:
        """Keep a record with its evidence files, which lie in `folder`."""


class State:
    """All records known in a checkout: of `.pipeline/state*.jsonl` and of the evidence stores.

    Other processes append while this one runs: `refresh` makes the next question read again.

    Args:
        path: the state file that new records are appended to.
        stores: the evidence stores, None without any.
        accepts: says whether a record of the state files is used; all are by default.
        channel_locations: charts and images URLs of the channels configured now.
    """

    def __init__(
        self,
        path: Path,
        stores: EvidenceStores | None = None,
        accepts: Callable[[Record], bool] = lambda _record: True,
        channel_locations: Collection[str] = (),
    ) -> None:
        self.path = path
        self.folder = path.parent
        self.stores = stores
        self._accepts = accepts
        self._channel_locations = tuple(channel_locations)
        self.added: list[Record] = []
        self._records: list[Record] | None = None
        self._loaded_contents: set[str] = set()
        self._fetched: list[Record] = []

    def records(self) -> list[Record]:
        """Every record that counts, each once. Raises EvidenceError naming file and line of one
        that was edited.
        """
        if self._records is None:
            # Stores are not filtered: those that are asked were chosen as trusted when the state
            # was opened.
            in_files = [
                record
                for path in self.state_files()
                for record in file.load(path)
                if self._accepts(record)
            ]
            self._records = union.union(self._fetched, in_files)
        return self._records

    def torn_files(self) -> dict[Path, int]:
        """State files whose last line is torn → how many bytes of it there are; no record is read
        from them.
        """
        return {path: size for path in self.state_files() if (size := file.torn_bytes(path))}

    def state_files(self) -> list[Path]:
        """The state files that are read; `path` may not be there yet."""
        return sorted({*self.folder.glob("state*.jsonl"), self.path})

    def load_evidence(self, contents: Iterable[str | None]) -> None:
        """Add all that the evidence stores know about these contents; without stores, nothing.

        Each content is asked for once, however many questions need it; that nothing is known is an
        answer, too. What other agents record meanwhile is seen after `refresh` only: a step decides
        by one view of the records, and its own record supersedes what it saw. Raises EvidenceError
        for a record there that cannot be believed, MachineError's kinds, Temporary.
        """
        new = [
            content
            for content in dict.fromkeys(contents)
            if content and content not in self._loaded_contents
        ]
        if self.stores is None or not new:
            return
        known_ids = {record.id for record in self.records()}
        self._fetched += [record for _line, record in self.stores.fetch_records(new, known_ids)]
        self._loaded_contents.update(new)
        self._records = union.union(self._fetched, self.records())

    def flush(self) -> None:
        """Give the evidence store what it lacks of the contents asked for: a run before may not
        have reached it.

        Only what counts here. Raises MachineError's kinds, Temporary.
        """
        if self.stores is None:
            return
        # Files are read a second time only when something is missing: lines are copied as they are,
        # as encoding a record again would lose fields of a newer version.
        missing_ids = {record.id for record in self.records() if self.stores.lacks(record)}
        lines = (
            [pair for path in self.state_files() for pair in file.load_lines(path)]
            if missing_ids
            else []
        )
        for line, record in {
            record.id: (line, record) for line, record in lines if record.id in missing_ids
        }.values():
            self.stores.put(line, record, self.folder)

    def refresh(self) -> None:
        """Read the files again at the next question, and ask the stores about every content again."""
        self._records = None
        self._loaded_contents.clear()

    def add(self, fields: Mapping[str, Any]) -> Record:
        """Append a record of `fields` (all but schema and id), then copy it to the evidence store.

        Raises MachineError. When only the evidence store fails, the record is in the state file
        already and `flush` copies it later.
        """
        return self.replicate(*self.append(fields))

    def append(self, fields: Mapping[str, Any]) -> tuple[bytes, Record]:
        """Append a record to the state file only; its line and it. Raises MachineError."""
        records = self.records()
        file.ensure_folder(self.path)
        line = encode(fields)
        file.append(self.path, line)
        # Read back from the line, so that the record is what every later reader gets (redacted,
        # checked).
        record = decode(line, where=str(self.path))
        records.append(record)
        self.added.append(record)
        return line, record

    def replicate(self, line: bytes, record: Record) -> Record:
        """Give a record of the state file to the evidence store, if there is one, and return it.

        Not what a signal ended: nothing new is written outside then, and `flush` does it later.
        Raises MachineError's kinds, Temporary.
        """
        if self.stores is not None and record.result != "interrupted":
            self.stores.put(line, record, self.folder)
        return record

    def resolve(self, key: str) -> union.Verdict:
        """The verdict of `key` with its contradictions and attempts."""
        return union.resolve(self.records(), key, self._channel_locations)

    def verdict(self, key: str) -> Record | None:
        """The record that decides `key`, or None: never run, only attempted, or contradictory."""
        return self.resolve(key).record

    def preferred(self, records: Iterable[Record]) -> list[Record]:
        """The records, the one that counts first at the head: see `union.preferred`."""
        return union.preferred(records, self._channel_locations)

    def find(
        self,
        *,
        step: str,
        subject: str | None = None,
        content: str | None = None,
        result: str | None = "passed",
    ) -> list[Record]:
        """Records that nothing supersedes, in the order they were written; the stores are asked
        about `content`.

        None: any.
        """
        self.load_evidence([content])
        records = [record for record in self.records() if record.step == step]
        superseded_ids = union.superseded(records)
        return [
            record
            for record in records
            if record.id not in superseded_ids
            and subject in (None, record.subject)
            and content in (None, record.content)
            and result in (None, record.result)
        ]
