"""Records arranged for people: what was tried and how often, and the chain of evidence of each chart's content.

Pure functions over records. How a chain looks stands in `page` and `graph`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from pipeline_steps.state import union
from pipeline_steps.state.record import VERDICTS, Record

#: Steps that are links of the chain; every other step about a content is a gate beside it.
LINKS = ("build_image", "snapshot", "integration_test", "tag_release", "promote")


class Tried(NamedTuple):
    """The work of one key. record: what stands of it, else its last try. earlier: its other records, oldest first.

    attempts: how often it was tried in all. contradictory: passed beside failed, neither superseding the other.
    """

    record: Record
    attempts: int
    earlier: tuple[Record, ...]
    contradictory: bool

    @property
    def word(self) -> str:
        """The result in a word; an intent without outcome is "unfinished": it runs still, or was killed."""
        if self.contradictory:
            return "contradictory"
        return "unfinished" if self.record.result == "started" else self.record.result


class Chain(NamedTuple):
    """Everything known of one content of a chart. images, tests: those of `snapshot`, the newest one.

    gates: other steps about this content, like check.
    """

    chart: str
    content: str
    revision: str
    images: tuple[Tried, ...]
    snapshot: Tried | None
    tests: tuple[Tried, ...]
    tag: Tried | None
    production: Tried | None
    gates: tuple[Tried, ...]

    @property
    def word(self) -> str:
        """How far this content came: released, tested, failed or incomplete."""
        ends = [one for one in (*self.images, self.snapshot, *self.tests, self.tag, self.production) if one]
        if any(one.word in ("failed", "refused", "contradictory") for one in (*ends, *self.gates)):
            return "failed"
        if self.production and self.production.word == "passed":
            return "released"
        return "tested" if self.tests and all(one.word == "passed" for one in self.tests) else "incomplete"


def tried(records: Iterable[Record]) -> list[Tried]:
    """The records by key, in the order in which the keys were first seen.

    Records of keys that another key's record supersedes are among its earlier ones.
    """
    known = list(records)
    by_key: dict[str, list[Record]] = {}
    for record in known:
        by_key.setdefault(record.key, []).append(record)
    keys = {record.id: record.key for record in known}
    for record in known:
        for identity in record.supersedes:
            former = keys.get(identity, record.key)
            if former != record.key and former in by_key and record.key in by_key:
                by_key[record.key] = by_key.pop(former) + by_key[record.key]
                keys.update({moved.id: record.key for moved in by_key[record.key]})
    gone = union.superseded(known)
    return [_one(of_key, gone) for of_key in by_key.values()]


def _one(of_key: Sequence[Record], gone: set[str]) -> Tried:
    verdicts = [record for record in of_key if record.result in VERDICTS and record.id not in gone]
    ended = [record for record in of_key if record.result != "started"]
    shown = verdicts[-1] if verdicts else ended[-1] if ended else of_key[-1]
    answered = {identity for record in of_key for identity in record.uses}
    earlier = tuple(
        record
        for record in of_key
        if record.id != shown.id and not (record.result == "started" and record.id in answered)
    )
    return Tried(shown, union.attempts(of_key), earlier, len({record.result for record in verdicts}) > 1)


def chains(records: Iterable[Record]) -> list[Chain]:
    """One chain for each content of each chart; charts by name, their newest content first."""
    everything = tried(records)
    newest: dict[tuple[str, str], list[Tried]] = {}
    for one in everything:
        record = one.record
        if record.content and record.step != "build_image":
            found = newest.pop((record.subject, record.content), [])
            newest[record.subject, record.content] = [*found, one]
    made = [_chain(chart, content, found, everything) for (chart, content), found in reversed(newest.items())]
    return sorted(made, key=lambda chain: chain.chart)


def _chain(chart: str, content: str, found: Sequence[Tried], everything: Sequence[Tried]) -> Chain:
    def last(step: str) -> Tried | None:
        return next((one for one in reversed(found) if one.record.step == step), None)

    snapshot = last("snapshot")
    used = set(snapshot.record.uses) if snapshot else set()
    tests = [one for one in found if one.record.step == "integration_test"]
    return Chain(
        chart=chart,
        content=content,
        revision=next((one.record.revision or "" for one in reversed(found) if one.record.revision), ""),
        images=tuple(one for one in everything if one.record.step == "build_image" and _ids(one) & used),
        snapshot=snapshot,
        tests=tuple(one for one in tests if not snapshot or one.record.inputs == snapshot.record.inputs),
        tag=last("tag_release"),
        production=last("promote"),
        gates=tuple(one for one in found if one.record.step not in LINKS),
    )


def _ids(one: Tried) -> set[str]:
    return {one.record.id, *(record.id for record in one.earlier)}


def seconds(record: Record) -> float | None:
    """How long a try took; None when it has no end, or times that are none."""
    try:
        texts = (record.started, record.finished or "")
        start, end = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in texts)
    except ValueError:
        return None
    return max(0.0, (end - start).total_seconds())


def lasted(record: Record) -> str:
    """How long a try took, for people: "1.4 s", "3 min 20 s", "" when it has no end."""
    found = seconds(record)
    return "" if found is None else duration(found)


def duration(time: float) -> str:
    """Seconds for people.

    >>> duration(1.44), duration(200)
    ('1.4 s', '3 min 20 s')
    """
    return f"{time:.1f} s" if time < 100 else f"{int(time // 60)} min {int(time % 60):02d} s"


def short(value: str) -> str:
    """A digest or a reference as people recognize it: the last part of the name, 12 digits of the digest.

    >>> short("oci://r.example.com/charts/hello:1.0.0@sha256:" + "a" * 64)
    'hello:1.0.0 @aaaaaaaaaaaa'
    >>> short("sha256:" + "b" * 64), short("hello-1.0.0@" + "c" * 40)
    ('bbbbbbbbbbbb', 'hello-1.0.0 @cccccccccccc')
    """
    name, _, digest = value.rpartition("@")
    digits = digest.rpartition(":")[2]
    if not re.fullmatch(r"(\w+:)?[0-9a-f]{40,}", digest):
        return value
    return f"{name.rpartition('/')[2]} @{digits[:12]}" if name else digits[:12]
