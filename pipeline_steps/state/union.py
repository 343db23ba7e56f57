"""Laws of records taken together: pure functions over any collection of them.

The union is commutative, associative and idempotent, because a record is named by its hash. Nothing
here orders by a clock: what replaces what is said by `supersedes`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from pipeline_steps.state.record import VERDICTS, Record


class Verdict(NamedTuple):
    """What the records of one key come to. current: the verdicts that nothing supersedes, by
    `preferred`.

    attempts: how often it was tried in all. attempt: the record that says how it stands where there
    is no verdict, see `decisive_attempt`; None without any record.
    """

    current: tuple[Record, ...]
    attempts: int
    attempt: Record | None = None

    @property
    def contradictory(self) -> bool:
        """Whether current records disagree: two builds at once, neither superseding the other."""
        return len({record.result for record in self.current}) > 1

    @property
    def record(self) -> Record | None:
        """The record that decides, or None without a verdict or with a contradiction."""
        return None if self.contradictory or not self.current else self.current[0]


def union(*collections: Iterable[Record]) -> list[Record]:
    """Every record once, in the order first seen."""
    return list({record.id: record for records in collections for record in records}.values())


def superseded(records: Iterable[Record]) -> set[str]:
    """Ids of all records that another names in `supersedes`."""
    return {identity for record in records for identity in record.supersedes}


def preferred(records: Iterable[Record], channel_locations: Collection[str] = ()) -> list[Record]:
    """The records, the one that counts first at the head.

    A record comes before those that it supersedes; clocks and the order in a file decide nothing.
    Of records that nothing orders, those whose outputs are all below `channel_locations` come
    first, then the one with the smallest id: every agent must choose the same one.
    """
    by_id = {record.id: record for record in records}
    depth: dict[str, int] = {}  # how many records supersede this one, one after the other
    level, number = set(by_id) - superseded(by_id.values()), 0
    # A later level overwrites, so the longest chain to a record decides. Hashes allow no cycle.
    while level:
        depth.update(dict.fromkeys(level, number))
        level, number = (
            {older for identity in level for older in by_id[identity].supersedes if older in by_id},
            number + 1,
        )
    # Channels are written with or without oci:// and a final slash; references have neither.
    prefixes = tuple(
        f"{location.removeprefix('oci://').rstrip('/')}/" for location in channel_locations
    )
    return sorted(
        by_id.values(),
        key=lambda record: (depth[record.id], _outputs_outside(record, prefixes), record.id),
    )


def _outputs_outside(record: Record, prefixes: tuple[str, ...]) -> int:
    """How many outputs of a record are not below `prefixes`; 0 without any prefix."""
    if not prefixes:
        return 0
    references = [
        value.removeprefix("oci://") for value in record.outputs.values() if "@sha256:" in value
    ]
    return sum(not reference.startswith(prefixes) for reference in references)


def resolve(
    records: Iterable[Record], key: str, channel_locations: Collection[str] = ()
) -> Verdict:
    """The verdict of `key`. records: every record known of it. channel_locations: see `preferred`."""
    of_key = [record for record in records if record.key == key]
    superseded_ids = superseded(of_key)
    current = [
        record for record in of_key if record.result in VERDICTS and record.id not in superseded_ids
    ]
    return Verdict(
        tuple(preferred(current, channel_locations)),
        count_attempts(of_key),
        decisive_attempt(of_key, channel_locations),
    )


def decisive_attempt(
    records: Iterable[Record], channel_locations: Collection[str] = ()
) -> Record | None:
    """Of the records of one key the one that says how it stands, whatever their order in a file.

    An intent without outcome first (it runs, or was killed), then what nothing supersedes, as
    `preferred` has it.
    """
    attempt_records = list(records)
    answered = {identity for record in attempt_records for identity in record.uses}
    # It uses the intent's id once it has an outcome.
    running = [
        record
        for record in attempt_records
        if record.result == "started" and record.id not in answered
    ]
    ended = [record for record in attempt_records if record.result != "started"]
    return next(iter(preferred(running or ended or attempt_records, channel_locations)), None)


def count_attempts(records: Iterable[Record]) -> int:
    """How often a step was tried: every record but the intents of tries that have an outcome."""
    attempt_records = list(records)
    ended = {
        identity
        for record in attempt_records
        if record.result != "started"
        for identity in record.uses
    }
    return sum(
        1 for record in attempt_records if record.result != "started" or record.id not in ended
    )
