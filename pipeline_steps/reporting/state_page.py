"""The page of `state html`: the values for `templates/state.html`, made from chains of records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pipeline_steps.reporting import chains
from pipeline_steps.reporting.chains import Chain, Work, seconds
from pipeline_steps.reporting.rendering import duration, kind, render
from pipeline_steps.state import union
from pipeline_steps.state.record import Record

#: Which of several records is shown where none supersedes the other.
WITH_CHANNELS = (
    "Where several passed records of one key stand beside each other, steps use the one whose "
    "outputs are in the channels configured here, then the one with the smallest id. No channel "
    "was asked whether it still has them: pipeline-steps state verify asks."
)
WITHOUT_CHANNELS = (
    "Several passed records of one key stand beside each other. Steps use the one whose outputs "
    "are in their channels first; no channels are configured here, so the one with the smallest id "
    "is shown as the one that counts. Name a configuration: --config FILE."
)

Values = tuple[tuple[str, str], ...]


class Stage(NamedTuple):
    """A box in the picture of a chain. note: result and time, or why there is none.

    attempts: 0 if none was in vain. values: label → reference or digest, "" for one that is not
    known.
    """

    name: str
    kind: str
    note: str
    attempts: int
    values: Values


class Row(NamedTuple):
    """A record as a line that unfolds.

    values, cluster: of a test. attempts: 0 for an earlier record of the same key.
    bar: duration in percent of the longest attempt. build: URL of the CI build, "" without one.
    place: actor, run, tools and other facts of the build. earlier: newest first.
    """

    record: Record
    outcome: str
    name: str
    values: str
    cluster: str
    attempts: int
    lasted: str
    bar: float
    build: str
    place: str
    parameters: str
    earlier: tuple[Row, ...]


class ChainView(NamedTuple):
    """A chain with the rows of its tests, checks and problems."""

    chain: Chain
    stages: tuple[Stage, ...]
    tests: tuple[Row, ...]
    checks: tuple[Row, ...]
    problems: tuple[Row, ...]


class ChartView(NamedTuple):
    """A chart: the first chain is unfolded. order: why that chain is first."""

    name: str
    order: str
    chains: tuple[ChainView, ...]


def page(
    records: Iterable[Record],
    title: str,
    *,
    files: bool = False,
    checked_out: Mapping[str, str] | None = None,
    preferred: chains.Order = union.preferred,
    channels_known: bool = True,
) -> str:
    """The HTML document.

    Args:
        files: evidence files are beside the page and are linked.
        checked_out: chart → content in the checkout; None when it is not known.
        preferred: `State.preferred`, which knows the channels configured now.
        channels_known: whether any are configured.
    """
    all_records = list(records)
    items = chains.work_items(all_records, preferred)
    longest = max((seconds(work.record) or 0.0 for work in items), default=0.0)
    rows = {work.record.id: _row(work.record, work, longest) for work in items}
    charts = [
        ChartView(
            name,
            _order(chart_chains[0], checked_out),
            tuple(_chain_view(chain, rows) for chain in chart_chains),
        )
        for name, chart_chains in chains.build_chains(items, checked_out, preferred).items()
    ]
    chosen = any(chains.unused_verdicts(all_records, preferred).values())
    rule = WITH_CHANNELS if channels_known else WITHOUT_CHANNELS
    times = sorted(record.finished or record.started for record in all_records)
    return render(
        "state.html",
        title=title,
        files=files,
        number=len(all_records),
        span=(times[0], times[-1]) if times else (),
        failed=sum(kind(work.outcome) == "bad" for work in items),
        charts=charts,
        rows=list(reversed(rows.values())),
        rule=rule if chosen else "",
    )


def _order(first: Chain, checked_out: Mapping[str, str] | None) -> str:
    """Text that says which content of a chart the page shows first."""
    if checked_out is None:
        return "content with the newest record first"
    if first.chart not in checked_out:
        return "not a chart of this checkout; content with the newest record first"
    if first.content == checked_out[first.chart]:
        return "as checked out"
    return "nothing is recorded of what is checked out; content with the newest record first"


def _chain_view(chain: Chain, rows: Mapping[str, Row]) -> ChainView:
    def of(works: Iterable[Work]) -> tuple[Row, ...]:
        return tuple(rows[work.record.id] for work in works)

    problems = [work for work in chain.works if work.record.reason and work.outcome != "passed"]
    return ChainView(chain, _stages(chain), of(chain.tests), of(chain.checks), of(problems))


def _stages(chain: Chain) -> tuple[Stage, ...]:
    images = [(work.record.subject, work.record.outputs.get("image", "")) for work in chain.images]
    images_title = "Image" if len(images) == 1 else f"{len(images)} images" if images else "Images"
    passed = sum(test.outcome == "passed" for test in chain.tests)
    tests_title = f"Tests {passed}/{len(chain.tests)}" if chain.tests else "Tests"
    outputs = {entry for test in chain.tests for entry in test.record.outputs.items()}
    images_run = sorted({image for name, image in outputs if name.startswith("ran.")})
    ran = tuple(("image that ran", image) for image in images_run)
    packed = _outputs(chain.snapshot, "chart", "tar")
    released = _outputs(chain.production, "chart", "tar")
    return (
        Stage("Content", "good", "", 0, (("content", chain.content), ("revision", chain.revision))),
        _stage(images_title, chain.images, "none recorded", tuple(images)),
        _stage("Snapshot", _as_tuple(chain.snapshot), "not yet", packed),
        _stage(tests_title, chain.tests, "not tested", ran),
        _stage("Tag", _as_tuple(chain.tag), "not yet", _outputs(chain.tag, "tag")),
        _stage("Production", _as_tuple(chain.production), "not yet", released),
    )


def _as_tuple(work: Work | None) -> tuple[Work, ...]:
    return (work,) if work else ()


def _stage(name: str, works: Sequence[Work], missing: str, values: Values) -> Stage:
    """The box for these items; its colour is that of the first that did not pass."""
    if not works:
        return Stage(name, "none", missing, 0, values)
    worst = next((work for work in works if work.outcome != "passed"), works[-1])
    time = sum(seconds(work.record) or 0.0 for work in works)
    note = f"{worst.outcome} · {duration(time)}" if worst.record.finished else worst.outcome
    attempts = sum(work.attempts for work in works)
    return Stage(name, kind(worst.outcome), note, attempts if attempts > len(works) else 0, values)


def _outputs(work: Work | None, *names: str) -> Values:
    """The named outputs of a step, and the chart in every further repository (chart-…)."""
    outputs = work.record.outputs if work else {}
    further = [name for name in outputs if name.startswith("chart-")]
    return tuple((name, outputs.get(name, "")) for name in (*names, *further))


def _row(record: Record, work: Work | None, longest: float) -> Row:
    """The row of a record. work: the item it stands for, None for an earlier record of an item."""
    ci = record.ci or {}
    url = str(ci.get("url", ""))
    # Of a record, whoever wrote it: only web addresses may become links of a page.
    linked = re.fullmatch(r"https?://\S+", url) is not None
    tools = [f"{name} {version}" for name, version in sorted(record.tools.items())]
    place = [
        f"by {record.actor}" if record.actor else "",
        "" if linked else " ".join(map(str, ci.values())),
        f"run {record.run}" if record.run else "",
        *tools,
    ]
    return Row(
        record=record,
        outcome=work.outcome if work else chains.outcome(record),
        name=_name(record),
        values=chains.values_text(record),
        cluster=str(record.parameters.get("cluster") or "none"),
        attempts=work.attempts if work else 0,
        lasted=chains.duration_text(record),
        bar=max(1.0, 100 * (seconds(record) or 0.0) / longest) if longest else 1.0,
        build=url if linked else "",
        place=" · ".join(part for part in place if part),
        parameters=json.dumps(record.parameters, indent=1, ensure_ascii=False)
        if record.parameters
        else "",
        earlier=tuple(_row(earlier, None, longest) for earlier in reversed(work.earlier))
        if work
        else (),
    )


def _name(record: Record) -> str:
    """The subject, and of a test what it was tested with."""
    parameters = record.parameters
    details = [parameters.get(name) for name in ("values", "cluster") if "scenario" in parameters]
    return " ".join([record.subject, *(str(detail) for detail in details if detail)])
