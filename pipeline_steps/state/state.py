"""The state that steps are given: the union of the state files in one folder, and the one file we append to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline_steps.state import file, union
from pipeline_steps.state.record import Record, decode, encode

FOLDER = ".pipeline"
FILE = "state.jsonl"


class State:
    """All records known in a checkout. `path` is appended to; `.pipeline/state*.jsonl` beside it are read too.

    Other processes append while we run: `refresh` reads them again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path.parent
        self.added: list[Record] = []
        self._records: list[Record] | None = None

    def records(self) -> list[Record]:
        """Every record, each once. Raises EvidenceError naming file and line of one that cannot be believed."""
        if self._records is None:
            paths = {*self.folder.glob("state*.jsonl"), self.path}
            self._records = union.union(*(file.load(path) for path in sorted(paths)))
        return self._records

    def refresh(self) -> None:
        """Forget what was read; the next question reads the files again."""
        self._records = None

    def add(self, fields: Mapping[str, Any]) -> Record:
        """Append a record made of `fields` (all but schema and id). Raises MachineError; nothing is lost then."""
        known = self.records()
        file.folder(self.path)
        line = encode(fields)
        file.append(self.path, line)
        record = decode(line, where=str(self.path))
        known.append(record)
        self.added.append(record)
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
        """Records that nothing supersedes, in the order they were written. None: any."""
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
