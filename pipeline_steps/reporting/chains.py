"""Records grouped for people: by key with the number of attempts, and by chart and content.

Pure functions. Which of several records counts is decided by `union.preferred`, as for all steps;
lists have the order of the records; clocks are not compared. `state_page` and `state_text` show
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from pipeline_steps.building.image_records import IMAGE, is_modified
from pipeline_steps.reporting.rendering import duration
from pipeline_steps.state import union
from pipeline_steps.state.record import VERDICTS, Record

#: Sorts records, the one that counts first; see `union.preferred`.
Order = Callable[[Iterable[Record]], list[Record]]
#: Steps that are links of the chain; other steps about a content are shown as checks beside it.
LINKS = ("build_image", "snapshot", "integration_test", "tag_release", "promote")


class Work(NamedTuple):
    """All records of one key.

    record: the current verdict, else the last attempt. attempts: number of attempts in all.
    earlier: the other records, oldest first. contradictory: current records passed and failed.
    """

    record: Record
    attempts: int
    earlier: tuple[Record, ...]
    contradictory: bool

    @property
    def outcome(self) -> str:
        """The result; "unfinished" for an intent without outcome: it is running, or was killed."""
        return "contradictory" if self.contradictory else outcome(self.record)


class Chain(NamedTuple):
    """All records about one content of a chart. images, tests: those of `snapshot`, which
    `released_snapshot` chooses.

    checks: other steps about this content, like check.
    """

    chart: str
    content: str
    revision: str
    images: tuple[Work, ...]
    snapshot: Work | None
    tests: tuple[Work, ...]
    tag: Work | None
    production: Work | None
    checks: tuple[Work, ...]

    @property
    def works(self) -> tuple[Work, ...]:
        """All items: the checks first, then link by link."""
        links = (*self.images, self.snapshot, *self.tests, self.tag, self.production)
        return (*self.checks, *(work for work in links if work))

    @property
    def status(self) -> str:
        """The state of this content: released, tested, failed or incomplete."""
        if any(work.outcome in ("failed", "refused", "contradictory") for work in self.works):
            return "failed"
        if self.production and self.production.outcome == "passed":
            return "released"
        return (
            "tested"
            if self.tests and all(test.outcome == "passed" for test in self.tests)
            else "incomplete"
        )


def outcome(record: Record) -> str:
    """The result of one record, for people."""
    return "unfinished" if record.result == "started" else record.result


def work_items(records: Iterable[Record], preferred: Order = union.preferred) -> list[Work]:
    """Group the records by key, in the order in which the keys first occur. preferred: `State`'s,
    which knows the channels configured now.

    If a record supersedes one of another key, both groups are joined.
    """
    all_records = list(records)
    by_key: dict[str, list[Record]] = {}
    for record in all_records:
        by_key.setdefault(record.key, []).append(record)
    keys = {record.id: record.key for record in all_records}
    for record in all_records:
        for identity in record.supersedes:
            former = keys.get(identity, record.key)
            if former != record.key and former in by_key and record.key in by_key:
                # A key changes with each format of a step: its later record still replaces the
                # former.
                by_key[record.key] = by_key.pop(former) + by_key[record.key]
                keys.update({moved_record.id: record.key for moved_record in by_key[record.key]})
    superseded = union.superseded(all_records)
    return [_work_item(of_key, superseded, preferred) for of_key in by_key.values()]


def _work_item(of_key: Sequence[Record], superseded: set[str], preferred: Order) -> Work:
    verdicts = [
        record for record in of_key if record.result in VERDICTS and record.id not in superseded
    ]
    ended = [record for record in of_key if record.result != "started"]
    shown = preferred(verdicts or ended or of_key)[0]
    answered = {identity for record in of_key for identity in record.uses}
    earlier = tuple(
        record
        for record in of_key
        if record.id != shown.id and not (record.result == "started" and record.id in answered)
    )
    return Work(
        shown,
        union.count_attempts(of_key),
        earlier,
        len({record.result for record in verdicts}) > 1,
    )


def unused_verdicts(
    records: Iterable[Record], preferred: Order = union.preferred
) -> dict[str, str]:
    """Ids of current verdicts that steps do not use → id of the one of the same key that they use,
    "" where these contradict each other.

    Nothing here is asked whether it still has the outputs.
    """
    all_records = list(records)
    superseded = union.superseded(all_records)
    by_key: dict[str, list[Record]] = {}
    for record in all_records:
        if record.result in VERDICTS and record.id not in superseded:
            by_key.setdefault(record.key, []).append(record)
    unused: dict[str, str] = {}
    for of_key in by_key.values():
        first, *others = preferred(of_key)
        if len({record.result for record in of_key}) > 1:
            unused.update({record.id: "" for record in of_key})
        else:
            unused.update({record.id: first.id for record in others})
    return unused


def released_snapshot(
    snapshots: Iterable[Record], current: Iterable[Record], preferred: Order = union.preferred
) -> Record | None:
    """Of the passed snapshots of one content the one whose images a release takes.

    First those whose images were not built again since, then those whose recorded tests have all
    passed, then as `preferred`. current: records of build_image and of integration_test that
    nothing supersedes; see `testing.requirements`, which knows the tests that are required, too.
    """
    builds: set[tuple[str, str]] = set()
    outcomes: dict[tuple[object, ...], set[bool]] = {}
    for record in current:
        if record.step == "integration_test":
            outcomes.setdefault(_inputs(record), set()).add(record.passed)
        elif record.step == "build_image" and record.passed and not is_modified(record):
            builds.add((record.subject, _digest(record.outputs.get("image", ""))))

    def rank(snapshot: Record) -> tuple[bool, bool]:
        images = {
            (name.removeprefix(IMAGE), _digest(text))
            for name, text in snapshot.outputs.items()
            if name.startswith(IMAGE)
        }
        # False sorts first, so each part says what speaks against a snapshot.
        return not images <= builds, outcomes.get(_inputs(snapshot)) != {True}

    return min(preferred(snapshots), key=rank, default=None)


def _inputs(record: Record) -> tuple[object, ...]:
    return (record.content, *sorted(record.inputs.items()))


def _digest(reference: str) -> str:
    """The digest in a reference. Records of anybody are shown, so it may be any text."""
    return reference.rpartition("@")[2]


def build_chains(
    items: Sequence[Work],
    checked_out: Mapping[str, str] | None = None,
    preferred: Order = union.preferred,
) -> dict[str, list[Chain]]:
    """Chart → one chain for each of its contents; charts by name.

    The content that is checked out comes first (checked_out: chart → content), then the others, the
    one with the newest record first.
    """
    by_content: dict[tuple[str, str], list[Work]] = {}
    for work in items:
        record = work.record
        if record.content and record.step != "build_image":
            earlier = by_content.pop((record.subject, record.content), [])
            by_content[record.subject, record.content] = [*earlier, work]
    builds = {
        identity: number
        for number, work in enumerate(items)
        if work.record.step == "build_image"
        for identity in (work.record.id, *(record.id for record in work.earlier))
    }
    of_charts: dict[str, list[Chain]] = {}
    # Records are in the order of writing, so the newest content comes first.
    for (chart, content), content_items in reversed(by_content.items()):
        of_charts.setdefault(chart, []).append(
            _chain(chart, content, content_items, items, builds, preferred)
        )
    for chart, of_chart in of_charts.items():
        current = (checked_out or {}).get(chart)
        of_chart.sort(key=lambda chain: chain.content != current)
    return dict(sorted(of_charts.items()))


def _chain(
    chart: str,
    content: str,
    content_items: Sequence[Work],
    items: Sequence[Work],
    builds: Mapping[str, int],
    preferred: Order,
) -> Chain:
    """The chain of one content.

    content_items: the items of this content. builds: id of an image's record → index in `items`.
    """

    tests = [work for work in content_items if work.record.step == "integration_test"]

    def first(step: str) -> Work | None:
        """The work of a step that counts first: what passed before what did not."""
        of_step = {work.record.id: work for work in content_items if work.record.step == step}
        passed = [work.record for work in of_step.values() if work.outcome == "passed"]
        records = preferred(passed or [work.record for work in of_step.values()])
        return of_step[records[0].id] if records else None

    snapshot = _released_snapshot(content_items, items, preferred) or first("snapshot")
    used = snapshot.record.uses if snapshot else ()
    images = sorted({builds[identity] for identity in used if identity in builds})
    return Chain(
        chart=chart,
        content=content,
        revision=next(
            (
                work.record.revision or ""
                for work in reversed(content_items)
                if work.record.revision
            ),
            "",
        ),
        images=tuple(items[number] for number in images),
        snapshot=snapshot,
        tests=tuple(
            # A test counts for the images and dependencies that it ran with.
            test
            for test in tests
            if not snapshot or test.record.inputs == snapshot.record.inputs
        ),
        tag=first("tag_release"),
        production=first("promote"),
        checks=tuple(work for work in content_items if work.record.step not in LINKS),
    )


def _released_snapshot(
    content_items: Iterable[Work], items: Iterable[Work], preferred: Order
) -> Work | None:
    passed = {
        work.record.id: work
        for work in content_items
        if work.record.step == "snapshot" and work.outcome == "passed"
    }
    records = [work.record for work in passed.values()]
    record = released_snapshot(records, [work.record for work in items], preferred)
    return passed[record.id] if record else None


def values_text(test: Record) -> str:
    """The values file of a test, or why the chart has no test, for people."""
    return str(test.parameters.get("values") or test.parameters.get("none") or "the chart's own")


def seconds(record: Record) -> float | None:
    """The duration of an attempt in seconds; None without an end, or with invalid times."""
    try:
        texts = (record.started, record.finished or "")
        start, end = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in texts)
        return max(0.0, (end - start).total_seconds())
    except (ValueError, TypeError):  # TypeError: only one of them names a zone
        return None


def duration_text(record: Record) -> str:
    """The duration of an attempt for people: "1.4 s", "3 min 20 s", "" without an end."""
    time = seconds(record)
    return "" if time is None else duration(time)
