"""Laws of records taken together: pure functions over any collection of them.

The union is commutative, associative and idempotent, because a record is named by its hash. Nothing here orders
by a clock: what replaces what is said by `supersedes`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pipeline_steps.state.record import VERDICTS, Record


class Verdict(NamedTuple):
    """What stands for a key: the verdicts that nothing supersedes, and how many attempts there were in all."""

    standing: tuple[Record, ...]
    attempts: int

    @property
    def contradictory(self) -> bool:
        """Passed beside something else, neither superseding the other: two builds at once disagree."""
        return len({record.result for record in self.standing}) > 1

    @property
    def record(self) -> Record | None:
        """The record that decides, or None without a verdict or with a contradiction."""
        return None if self.contradictory or not self.standing else self.standing[-1]


def union(*collections: Iterable[Record]) -> list[Record]:
    """Every record once, in the order first seen."""
    return list({record.id: record for records in collections for record in records}.values())


def superseded(records: Iterable[Record]) -> set[str]:
    """Ids of all records that another names in `supersedes`."""
    return {identity for record in records for identity in record.supersedes}


def verdict(records: Iterable[Record], key: str) -> Verdict:
    """The verdict of `key` over `records`, which must hold every record known of it."""
    of_key = [record for record in records if record.key == key]
    gone = superseded(of_key)
    standing = tuple(record for record in of_key if record.result in VERDICTS and record.id not in gone)
    return Verdict(standing, attempts(of_key))


def attempts(records: Iterable[Record]) -> int:
    """How often a step was tried: every record but the intents of tries that have an outcome."""
    known = list(records)
    answered = {identity for record in known if record.result != "started" for identity in record.uses}
    return sum(1 for record in known if record.result != "started" or record.id not in answered)
