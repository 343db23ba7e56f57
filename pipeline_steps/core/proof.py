"""The proof that a chart's content may be released, from records alone: tested, by what, with which images?

Nothing is asked from the network but which images the snapshot channel names, when several sets passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pipeline_steps.charts.chart import Chart
from pipeline_steps.core import packaging, testing
from pipeline_steps.core.checkout import Checkout, opened
from pipeline_steps.core.config import Config
from pipeline_steps.core.errors import ConfigurationError, Conflict, EvidenceError, NotYet, UsageError
from pipeline_steps.state.record import VERDICTS, Record
from pipeline_steps.state.state import State
from pipeline_steps.state.union import superseded

#: Steps of ours that `requires` may name; any other name is a program's, whose result `record` keeps.
OWN = frozenset({"check", "build_image", "snapshot", testing.STEP})


class Proof(NamedTuple):
    """Why a chart's content may be released. consumed: name → digest of images and dependencies as tested.

    snapshot: the record of what was tested. tests: of every required scenario. gates: of the other required steps.
    """

    chart: Chart
    snapshot: Record
    tests: tuple[Record, ...]
    gates: tuple[Record, ...]
    consumed: Mapping[str, str]

    @property
    def uses(self) -> list[str]:
        """Ids of all records the release rests on."""
        return list(dict.fromkeys(record.id for record in (self.snapshot, *self.tests, *self.gates)))


def prove(checkout: Checkout, name: str, config: Config, state: State) -> Proof:
    """The proof that the chart's content in `checkout` may be released.

    Raises EvidenceError when something required is missing, contradictory or marked as modified; NotYet for
    requirements of a later version.
    """
    chart = checkout.chart(name)
    if chart.modified:
        raise EvidenceError(
            f"chart {name} has local modifications: {', '.join(chart.modified[:5])}",
            where=chart.path,
            advice="commit them and let them be tested, or undo them",
        )
    state.about([chart.content, *(checkout.image_content(image) for image in chart.images)])
    gates = tuple(_gates(chart, config, state))
    candidates = _candidates(checkout, chart, config, state)
    if not candidates:
        raise _untested(checkout, chart, config, state)
    snapshot, tests = candidates[-1] if len(candidates) == 1 else _named(candidates, config)
    return Proof(chart, snapshot, tests, gates, dict(snapshot.inputs))


def _gates(chart: Chart, config: Config, state: State) -> Iterable[Record]:
    """The standing passed record of each required step but integration_test."""
    for need in config.channels.production.requires:
        if need.startswith("approval"):
            raise NotYet(f"channels.production.requires {need}", where=config.where("channels.production.requires"))
        if need == testing.STEP:
            continue
        records = [
            record
            for record in state.find(step=need, subject=chart.name, content=chart.content, result=None)
            if record.result in VERDICTS
        ]
        _consistent(records)
        if not records:
            ours = f"{need} --chart {chart.name}"
            any_program = f"record --name {need} --subject {chart.name} -- PROGRAM"
            raise EvidenceError(
                f"no record of {need} for content {chart.content[:19]} of {chart.name}, which production requires",
                advice=f"run pipeline-steps {ours if need in OWN else any_program}",
            )
        if not records[-1].passed:
            raise EvidenceError(f"{need} of {chart.name} {records[-1].result}: {records[-1].reason}")
        yield records[-1]


def _consistent(records: list[Record]) -> None:
    """Raises EvidenceError when records of one key contradict each other."""
    for record in records:
        against = [other for other in records if other.key == record.key and other.result != record.result]
        if record.passed and against:
            listed = ", ".join(f"{other.result} {other.id[7:19]} ({other.finished})" for other in (record, *against))
            raise EvidenceError(
                f"{record.step} of {record.subject} contradicts itself: {listed}",
                advice="run it again: its record then replaces them",
            )


def _candidates(
    checkout: Checkout, chart: Chart, config: Config, state: State
) -> list[tuple[Record, tuple[Record, ...]]]:
    """Snapshots of this content whose images stand and with which every required scenario passed."""
    replaced = superseded(record for record in state.records() if record.step == "build_image")
    wanted = testing.settings(config, chart)
    found: dict[tuple[tuple[str, str], ...], tuple[Record, tuple[Record, ...]]] = {}
    for snapshot in state.find(step="snapshot", subject=chart.name, content=chart.content):
        if snapshot.parameters.get("modified") or replaced.intersection(snapshot.uses):
            continue
        tests = _tests(checkout, chart, wanted, snapshot, state)
        if tests:
            tested = next((s for s in _snapshots_of(tests, state) if s.inputs == snapshot.inputs), snapshot)
            found.setdefault(tuple(sorted(snapshot.inputs.items())), (tested, tests))
    return list(found.values())


def _tests(
    checkout: Checkout, chart: Chart, wanted: testing.Settings, snapshot: Record, state: State
) -> tuple[Record, ...]:
    """The passed record of every required scenario with this snapshot's images, or none when one is missing."""
    if wanted.none:
        keys = [[testing.key_of_none(wanted.none, chart.content, snapshot.inputs)]]
    else:
        known = {str(record.parameters.get("cluster", "")) for record in state.find(step=testing.STEP, result=None)}
        clusters = wanted.clusters or tuple(sorted(known))
        by_cluster = [
            [testing.key_of(one, wanted, chart.content, snapshot.inputs) for one in on]
            for on in (testing.scenarios(checkout, chart, wanted, (cluster,)) for cluster in clusters)
        ]
        # Named clusters must all have passed; without names any one of them is enough for a scenario.
        keys = (
            [[key] for on in by_cluster for key in on]
            if wanted.clusters
            else [list(row) for row in zip(*by_cluster, strict=True)]
        )
    found = []
    for alternatives in keys:
        verdicts = [state.standing(key) for key in alternatives]
        for verdict in verdicts:
            _consistent(list(verdict.standing))
        passed = [verdict.record for verdict in verdicts if verdict.record is not None and verdict.record.passed]
        if not passed:
            return ()
        found.append(passed[-1])
    return tuple(found)


def _snapshots_of(tests: Iterable[Record], state: State) -> list[Record]:
    used = {identity for record in tests for identity in record.uses}
    known = [record for record in state.records() if record.step == "snapshot" and record.id in used]
    return [record for record in known if record.passed and not record.parameters.get("modified")]


def _named(candidates: list[tuple[Record, tuple[Record, ...]]], config: Config) -> tuple[Record, tuple[Record, ...]]:
    """Of several tested sets of images, the one that the key tags of the snapshot channel name now."""
    from pipeline_steps.oci.copy import standing

    for snapshot, tests in candidates:
        images = packaging.images_of(snapshot)
        try:
            if all(standing(image, image.digest or "", hosts=config.hosts) for image in images.values()):
                return snapshot, tests
        except Conflict:  # the tag names another of the sets
            continue
    raise EvidenceError(
        "several sets of images passed the tests, and the snapshot channel names none of them",
        advice="run build_image, snapshot and integration_test again",
    )


def _untested(checkout: Checkout, chart: Chart, config: Config, state: State) -> EvidenceError:
    """Why no release is possible: what failed for this content, else the nearest tested content and what differs."""
    mine = state.find(step=testing.STEP, subject=chart.name, content=chart.content, result=None)
    failed = [record for record in mine if record.result in ("failed", "refused")]
    what = f"no passed test of content {chart.content[:19]} of {chart.name}"
    if failed:
        return EvidenceError(f"{what}: {failed[-1].reason}", advice="mend the chart and test it again")
    snapshots = state.find(step="snapshot", subject=chart.name, content=chart.content)
    if snapshots and all(record.parameters.get("modified") for record in snapshots):
        return EvidenceError(
            f"{what} from the source: its snapshots were made of local modifications",
            advice="run snapshot again; tests of the same content stand",
        )
    if mine:
        return EvidenceError(
            f"{what} with the images that stand now, in every required scenario",
            advice="run integration_test; pipeline-steps state show lists what passed",
        )
    others = [record for record in state.find(step=testing.STEP, subject=chart.name) if record.content]
    if not others:
        return EvidenceError(what, advice="run build_image, snapshot and integration_test first")
    nearest = others[-1]
    return EvidenceError(
        f"{what}; the nearest tested content is {str(nearest.content)[:19]} of revision "
        f"{str(nearest.revision)[:12]}{_differences(checkout, chart, nearest, config)}",
        advice="test this content, or release the tested one",
    )


def _differences(checkout: Checkout, chart: Chart, record: Record, config: Config) -> str:
    """Names of files that differ from the recorded revision, when that is still here."""
    try:
        other = opened(config, revision=record.revision)
        changed = checkout.source.changed(other.revision, checkout.revision, checkout.folder)
    except (ConfigurationError, UsageError):
        return ""
    mine = [path for path in changed if path in chart.closure]
    return f", which differs in {', '.join(mine[:5])}" if mine else ""
