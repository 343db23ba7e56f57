"""What every evidence store promises, and the names that records have there.

A store only ever gains entries, each under a name made of hashes: writers never meet, so they need
no protocol, and nothing is overwritten. Which records count, and what they say, does not belong
here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

from pipeline_steps.state.record import Record
from pipeline_steps.toolbox.errors import EvidenceError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
#: Names of steps as they stand in file names and tags.
_NAME = r"[a-z][a-z0-9_.-]{0,59}"
STEP = re.compile(_NAME)
_ENTRY = re.compile(rf"{_NAME}-([0-9a-f]{{64}})")


class Store(Protocol):
    """Records as lines, byte for byte as they were written, and the files that are evidence of
    them.

    Every method raises MachineError's kinds or Temporary when the store cannot be asked: never
    "absent" then.
    """

    @property
    def url(self) -> str:
        """As configured."""

    def put(self, line: bytes, record: Record, evidence_files: Mapping[str, bytes]) -> None:
        """Write the line of `record` and the files of its evidence (name → bytes), once.

        What the store has already stays. `record_ids` lists the record only when all is written.
        """

    def record_ids(self, digest: str) -> set[str]:
        """Ids of all records of a content or with an output of that digest; none is no error."""

    def record_line(self, record_id: str) -> bytes | None:
        """The line of a record by its id; None when there is none."""

    def evidence_file(self, digest: str) -> bytes | None:
        """A file of evidence by its digest; None when there is none. Raises EvidenceError or
        MachineError when its bytes have another digest.
        """


def hex_digits(digest: str) -> str:
    """The 64 digits of a digest or id. Raises EvidenceError for anything else."""
    if not _DIGEST.fullmatch(digest):
        raise EvidenceError(
            f"this is not a digest: {digest[:80]!r}", advice="write sha256: and 64 hex digits"
        )
    return digest.removeprefix("sha256:")


def lookup_digests(record: Record) -> list[str]:
    """The digests under which a record is listed: those of its outputs, then its content."""
    outputs = [digest for value in record.outputs.values() for digest in _DIGEST.findall(value)]
    content = [record.content] if record.content and _DIGEST.fullmatch(record.content) else []
    return [*dict.fromkeys(digest for digest in outputs if digest not in content), *content]


def entry_name(record: Record) -> str:
    """STEP-ID, the name under which a record is listed. Raises EvidenceError."""
    if not STEP.fullmatch(record.step):
        raise EvidenceError(
            f"{record.step[:80]!r} is not the name of a step",
            where=f"record {record.id[:19]}",
            advice="use small letters, digits, _ . and -, at most 60, a letter first",
        )
    return f"{record.step}-{hex_digits(record.id)}"


def parse_entry_name(name: str) -> str | None:
    """The record id in the name of an entry; None when the name is not an entry's.

    >>> parse_entry_name("check-" + "0" * 64) == "sha256:" + "0" * 64, parse_entry_name("latest")
    (True, None)
    """
    match = _ENTRY.fullmatch(name)
    return f"sha256:{match[1]}" if match else None
