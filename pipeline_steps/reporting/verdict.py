"""The verdict on selected charts: what `review.requires` asks for each, and what the records say to it.

Asks nobody but the records, and writes nothing. Missing means "incomplete"; a failure is negative; the cluster's own
trouble and interruptions are neither (design.md §11). Attempts are counted: retry-until-green is visible.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from pipeline_steps.config.language import Config
from pipeline_steps.state import union
from pipeline_steps.state.record import VERDICTS, Record
from pipeline_steps.state.state import State
from pipeline_steps.testing import requirements, settings
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout

Outcome = Literal["passed", "failed", "missing", "infrastructure", "interrupted", "running", "contradictory"]
Word = Literal["positive", "negative", "incomplete"]


class Item(NamedTuple):
    """One thing that is required of a chart. attempts: how often it was tried, intents with an outcome not counted.

    name: like check, or integration_test install-default. reason: why it did not pass, "" when it did.
    """

    name: str
    outcome: Outcome
    attempts: int = 0
    reason: str = ""
    record: Record | None = None


class ChartVerdict(NamedTuple):
    """A chart with what was made of its content and what is required of it. snapshot: reference, "" without one."""

    chart: Chart
    snapshot: str
    images: dict[str, str]
    items: tuple[Item, ...]

    @property
    def word(self) -> Word:
        return word_of(item.outcome for item in self.items)


def word_of(outcomes: Iterable[Outcome]) -> Word:
    """What several outcomes come to.

    >>> word_of(["passed", "missing", "failed"]), word_of(["passed", "infrastructure"]), word_of(["passed"])
    ('negative', 'incomplete', 'positive')
    """
    found = set(outcomes)
    if "failed" in found:
        return "negative"
    return "positive" if found <= {"passed"} else "incomplete"


def together(verdicts: Iterable[ChartVerdict]) -> Word:
    """The verdict on all charts; no chart affected is nothing to object to."""
    return word_of(item.outcome for verdict in verdicts for item in verdict.items)


def of_chart(checkout: Checkout, chart: Chart, config: Config, state: State) -> ChartVerdict:
    """What the records say to everything that is required of the chart's content."""
    snapshots = state.find(step="snapshot", subject=chart.name, content=chart.content)
    snapshot = snapshots[-1] if snapshots else None
    items: list[Item] = []
    for need in config.review.requires:
        if need == settings.STEP:
            items += _tests(checkout, chart, config, state, snapshot)
        else:
            items.append(_item(need, _of_key(state, requirements.key_of(need, checkout, chart, config))))
    outputs = snapshot.outputs if snapshot else {}
    images = {k.removeprefix("image:"): v for k, v in outputs.items() if k.startswith("image:")}
    return ChartVerdict(chart, outputs.get("chart", ""), images, tuple(items))


def _tests(checkout: Checkout, chart: Chart, config: Config, state: State, snapshot: Record | None) -> Iterator[Item]:
    """One item for every scenario, of the newest snapshot's images and dependencies."""
    if snapshot is None:
        yield Item(settings.STEP, "missing", reason="there is no snapshot of this content")
        return
    try:
        wanted = settings.settings(config, chart)
    except ConfigurationError as error:
        yield Item(settings.STEP, "missing", reason=str(error))
        return
    if wanted.none:
        key = settings.key_of_none(wanted.none, chart.content, snapshot.inputs)
        yield _item(f"{settings.STEP} none: {wanted.none}", _of_key(state, key))
        return
    clusters = wanted.clusters or tuple(config.clusters)
    for one in settings.scenarios(checkout, chart, wanted, ("",)):
        keys = {
            cluster: settings.key_of(one._replace(cluster=cluster), wanted, chart.content, snapshot.inputs)
            for cluster in sorted(clusters)
        }
        found = {cluster: _item(f"{settings.STEP} {one.name} on {cluster}", _of_key(state, key))
                 for cluster, key in keys.items()}  # fmt: skip
        if wanted.clusters:
            yield from found.values()
        else:  # passed on any configured cluster is enough
            tried = [item for item in found.values() if item.outcome != "missing"]
            passed = [item for item in tried if item.outcome == "passed"]
            yield (passed or tried or [Item(f"{settings.STEP} {one.name}", "missing", reason="not run")])[0]


def _of_key(state: State, key: str) -> list[Record]:
    return [record for record in state.records() if record.key == key]


def _item(name: str, records: list[Record]) -> Item:
    """The item for the records of one requirement, in the order they were written."""
    if not records:
        return Item(name, "missing", reason="not run")
    gone = union.superseded(records)
    standing = [record for record in records if record.result in VERDICTS and record.id not in gone]
    attempts = union.attempts(records)
    if len({record.result for record in standing}) > 1:
        reason = "builds at the same time came to different results: run it again"
        return Item(name, "contradictory", attempts, reason, standing[-1])
    last = standing[-1] if standing else records[-1]
    outcome: Outcome = "failed"
    if last.result == "started":
        outcome = "running"
    elif last.result in ("passed", "infrastructure", "interrupted"):
        outcome = last.result
    return Item(name, outcome, attempts, last.reason or "", last)
