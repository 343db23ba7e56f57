"""Laws of records taken together: pure functions over any collection of them.

The union is commutative, associative and idempotent, because a record is named by its hash. Nothing here orders
by a clock: what replaces what is said by `supersedes`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pipeline_steps.state.record import VERDICTS, Record


class Verdict(NamedTuple):
    """What the records of one key come to. current: the verdicts that nothing supersedes, in the order of the records.

    attempts: how often it was tried in all. latest: its newest record, of whatever result; None when there is none.
    """

    current: tuple[Record, ...]
    attempts: int
    latest: Record | None = None

    @property
    def contradictory(self) -> bool:
        """Passed beside something else, neither superseding the other: two builds at once disagree."""
        return len({record.result for record in self.current}) > 1

    @property
    def record(self) -> Record | None:
        """The record that decides, or None without a verdict or with a contradiction."""
        return None if self.contradictory or not self.current else self.current[-1]


def union(*collections: Iterable[Record]) -> list[Record]:
    """Every record once, in the order first seen."""
    return list({record.id: record for records in collections for record in records}.values())


def superseded(records: Iterable[Record]) -> set[str]:
    """Ids of all records that another names in `supersedes`."""
    return {identity for record in records for identity in record.supersedes}


def resolve(records: Iterable[Record], key: str) -> Verdict:
    """The verdict of `key` over `records`, which must hold every record known of it."""
    of_key = [record for record in records if record.key == key]
    replaced = superseded(of_key)
    current = tuple(record for record in of_key if record.result in VERDICTS and record.id not in replaced)
    return Verdict(current, attempts(of_key), of_key[-1] if of_key else None)


def attempts(records: Iterable[Record]) -> int:
    """How often a step was tried: every record but the intents of tries that have an outcome."""
    tries = list(records)
    ended = {identity for record in tries if record.result != "started" for identity in record.uses}
    return sum(1 for record in tries if record.result != "started" or record.id not in ended)
