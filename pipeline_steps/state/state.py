"""The state that steps are given: the union of the state files in one folder, and the one file we append to.

With evidence stores the union holds what these know about the contents at hand, too. Who asks them is not here:
a state does no network, it is given `Elsewhere`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pipeline_steps.state import file, union
from pipeline_steps.state.record import Record, decode, encode

FOLDER = ".pipeline"
FILE = "state.jsonl"


class Elsewhere(Protocol):
    """Records of other builds; what is asked raises MachineError's kinds or Temporary, never "absent" then."""

    def about(self, digests: Iterable[str], known: Collection[str]) -> list[tuple[bytes, Record]]:
        """Lines and records about these contents or outputs whose ids are not in `known`."""

    def named(self, ids: Iterable[str]) -> list[tuple[bytes, Record]]:
        """Lines and records by their ids, as many as there are."""

    def lacks(self, record: Record) -> bool:
        """Is this a record about something that was asked for, and not kept there?"""

    def put(self, line: bytes, record: Record, folder: Path) -> None:
        """Keep a record with its evidence files, which lie in `folder`."""


class State:
    """All records known in a checkout. `path` is appended to; `.pipeline/state*.jsonl` beside it are read too.

    elsewhere: the evidence stores, None without. Other processes append while we run: `refresh` reads them again.
    """

    def __init__(self, path: Path, elsewhere: Elsewhere | None = None) -> None:
        self.path = path
        self.folder = path.parent
        self.elsewhere = elsewhere
        self.added: list[Record] = []
        self._records: list[Record] | None = None
        self._asked: set[str] = set()
        self._fetched: list[Record] = []

    def records(self) -> list[Record]:
        """Every record, each once. Raises EvidenceError naming file and line of one that cannot be believed."""
        if self._records is None:
            # What was made here comes last: of several records that all stand, steps take the newest.
            self._records = union.union(self._fetched, *(file.load(path) for path in self._paths()))
        return self._records

    def torn(self) -> dict[Path, int]:
        """State files whose last line is torn → how many bytes of it there are; no record is read from them."""
        return {path: size for path in self._paths() if (size := file.torn(path))}

    def _paths(self) -> list[Path]:
        return sorted({*self.folder.glob("state*.jsonl"), self.path})

    def about(self, contents: Iterable[str | None]) -> None:
        """Ask the evidence stores for all they know about these contents, each once; without stores, nothing.

        Raises EvidenceError for a record there that cannot be believed, MachineError's kinds, Temporary.
        """
        wanted = [each for each in dict.fromkeys(contents) if each and each not in self._asked]
        if self.elsewhere is None or not wanted:
            return
        known = {record.id for record in self.records()}
        self._fetched += [record for _line, record in self.elsewhere.about(wanted, known)]
        self._asked.update(wanted)
        self._records = union.union(self._fetched, self.records())

    def settle(self) -> None:
        """Give the evidence store what it lacks of the contents asked for: a run before may not have reached it.

        Raises MachineError's kinds, Temporary.
        """
        if self.elsewhere is None:
            return
        lacking = {record.id for record in self.records() if self.elsewhere.lacks(record)}
        lines = [each for path in self._paths() for each in file.lines(path)] if lacking else []
        for line, record in {record.id: (line, record) for line, record in lines if record.id in lacking}.values():
            self.elsewhere.put(line, record, self.folder)

    def refresh(self) -> None:
        """Forget what was read; the next question reads the files again."""
        self._records = None

    def add(self, fields: Mapping[str, Any]) -> Record:
        """Append a record made of `fields` (all but schema and id), then give it to the evidence store.

        Raises MachineError, nothing is lost then; also when the store fails, and the record is in the file then.
        """
        return self.hand_on(*self.write(fields))

    def write(self, fields: Mapping[str, Any]) -> tuple[bytes, Record]:
        """Append a record to the state file only; its line and it. Raises MachineError."""
        known = self.records()
        file.folder(self.path)
        line = encode(fields)
        file.append(self.path, line)
        record = decode(line, where=str(self.path))
        known.append(record)
        self.added.append(record)
        return line, record

    def hand_on(self, line: bytes, record: Record) -> Record:
        """Give a record of the state file to the evidence store, if there is one, and return it.

        Not what a signal ended: nothing new is written outside then, and `settle` does it later.
        Raises MachineError's kinds, Temporary.
        """
        if self.elsewhere is not None and record.result != "interrupted":
            self.elsewhere.put(line, record, self.folder)
        return record

    def standing(self, key: str) -> union.Verdict:
        """The verdict of `key` with its contradictions and attempts."""
        return union.verdict(self.records(), key)

    def verdict(self, key: str) -> Record | None:
        """The record that decides `key`, or None: never run, only attempted, or contradictory."""
        return self.standing(key).record

    def find(
        self, *, step: str, subject: str | None = None, content: str | None = None, result: str | None = "passed"
    ) -> list[Record]:
        """Records that nothing supersedes, in the order they were written; the stores are asked about `content`.

        None: any.
        """
        self.about([content])
        records = [record for record in self.records() if record.step == step]
        gone = union.superseded(records)
        return [
            record
            for record in records
            if record.id not in gone
            and subject in (None, record.subject)
            and content in (None, record.content)
            and result in (None, record.result)
        ]
