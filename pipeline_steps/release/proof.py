"""The proof that a chart's content may be released, from records alone: tested, by what, with which images?

Nothing is asked from the network but which images the snapshot channel names, when several sets passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pipeline_steps.building import image_records
from pipeline_steps.config.language import Config
from pipeline_steps.oci.copy import standing
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.state.union import Verdict
from pipeline_steps.testing import requirements, settings
from pipeline_steps.toolbox.errors import ConfigurationError, Conflict, EvidenceError, NotYet, UsageError
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout, opened

#: Steps of ours that `requires` may name; any other name is a program's, whose result `record` keeps.
OWN = frozenset({"check", "build_image", "snapshot", settings.STEP})


class Proof(NamedTuple):
    """Why a chart's content may be released. consumed: name → digest of images and dependencies as tested.

    snapshots: records of what was tested, the same but for version and place. tests: of every required scenario.
    requirements: of the other required steps.
    """

    chart: Chart
    snapshots: tuple[Record, ...]
    tests: tuple[Record, ...]
    requirements: tuple[Record, ...]
    consumed: Mapping[str, str]

    @property
    def uses(self) -> list[str]:
        """Ids of all records the release rests on."""
        return list(dict.fromkeys(record.id for record in (*self.snapshots, *self.tests, *self.requirements)))


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
    required = tuple(_gates(checkout, chart, config, state))
    sets = candidates(checkout, chart, config, state)
    if not sets:
        raise _untested(checkout, chart, config, state)
    tested = sets[0] if len(sets) == 1 else _named(sets, config)
    return Proof(chart, tested.snapshots, tested.tests, required, dict(tested.snapshots[0].inputs))


def _gates(checkout: Checkout, chart: Chart, config: Config, state: State) -> Iterator[Record]:
    """The standing passed record of each required step but integration_test."""
    state.about([chart.content])
    for need in config.channels.production.requires:
        if need.startswith("approval"):
            raise NotYet(f"channels.production.requires {need}", where=config.where("channels.production.requires"))
        if need == settings.STEP:
            continue
        verdict = state.resolve(requirements.key_of(need, checkout, chart, config))
        consistent(verdict)
        if verdict.record is None:
            ours = f"{need} --chart {chart.name}"
            any_program = f"record --name {need} --subject {chart.name} -- PROGRAM"
            raise EvidenceError(
                f"no record of {need} for content {chart.content[:19]} of {chart.name}, which production requires",
                advice=f"run pipeline-steps {ours if need in OWN else any_program}",
            )
        if not verdict.record.passed:
            raise EvidenceError(f"{need} of {chart.name} {verdict.record.result}: {verdict.record.reason}")
        yield verdict.record


def consistent(verdict: Verdict) -> None:
    """Raises EvidenceError when the standing records of a key contradict each other."""
    if not verdict.contradictory:
        return
    listed = ", ".join(f"{one.result} {one.id[7:19]} ({one.finished})" for one in verdict.current)
    first = verdict.current[0]
    raise EvidenceError(
        f"{first.step} of {first.subject} contradicts itself: {listed}",
        advice="run it again: its record then replaces them",
    )


class Tested(NamedTuple):
    """A set of images and dependencies that passed. snapshots: what was tested with it, none of them modified."""

    snapshots: tuple[Record, ...]
    tests: tuple[Record, ...]


def candidates(checkout: Checkout, chart: Chart, config: Config, state: State) -> list[Tested]:
    """The sets of images of this content that stand and with which every required scenario passed.

    Asks the evidence stores, nobody else. Raises EvidenceError for contradictions, NotYet for tests of later versions.
    """
    state.about([chart.content, *(checkout.image_content(name) for name in chart.images)])
    built = {(one.subject, image_records.digest_of(one)) for one in state.find(step="build_image")}
    wanted = settings.settings(config, chart)
    found: dict[tuple[tuple[str, str], ...], Tested] = {}
    for snapshot in state.records():
        if (snapshot.step, snapshot.subject, snapshot.content) != ("snapshot", chart.name, chart.content):
            continue
        images = tuple(sorted(snapshot.inputs.items()))
        used_images = {(name, image.digest) for name, image in image_records.images_of(snapshot).items()}
        if images in found or not _releasable(snapshot) or not used_images <= built:
            continue
        tests = _tests(checkout, chart, config, wanted, snapshot, state)
        if tests:
            used = {identity for record in tests for identity in record.uses}
            same = [one for one in state.records() if one.step == "snapshot" and one.inputs == snapshot.inputs]
            of_tests = [one for one in same if one.id in used and one.content == chart.content and _releasable(one)]
            found[images] = Tested(tuple(of_tests) or (snapshot,), tests)
    return list(found.values())


def _releasable(snapshot: Record) -> bool:
    return snapshot.passed and not snapshot.parameters.get("modified")


def _tests(
    checkout: Checkout, chart: Chart, config: Config, wanted: settings.Settings, snapshot: Record, state: State
) -> tuple[Record, ...]:
    """The passed records of every required scenario with this snapshot's images, or none when one is missing."""
    found: list[Record] = []
    for alternatives in _keys(checkout, chart, config, wanted, snapshot):
        verdicts = [state.resolve(key) for key in alternatives]
        for verdict in verdicts:
            consistent(verdict)
        passed = [verdict.record for verdict in verdicts if verdict.record is not None and verdict.record.passed]
        if not passed:
            return ()
        found += passed
    return tuple(found)


def _keys(
    checkout: Checkout, chart: Chart, config: Config, wanted: settings.Settings, snapshot: Record
) -> list[list[str]]:
    """For each required scenario the keys of which one must have passed.

    Clusters named for the chart must all have passed; without names any configured one is enough (design.md §14).
    """
    if wanted.none:
        return [[settings.key_of_none(wanted.none, chart.content, snapshot.inputs)]]
    by_cluster = [
        [
            settings.key_of(one, wanted, chart.content, snapshot.inputs)
            for one in settings.scenarios(checkout, chart, wanted, (cluster,))
        ]
        for cluster in wanted.clusters or sorted(config.clusters)
    ]
    if wanted.clusters or not by_cluster:
        return [[key] for keys in by_cluster for key in keys] or [[]]
    return [list(row) for row in zip(*by_cluster, strict=True)]


def _named(sets: list[Tested], config: Config) -> Tested:
    """Of several tested sets of images, the one that the key tags of the snapshot channel name now."""
    named = []
    for tested in sets:
        images = image_records.images_of(tested.snapshots[0])
        try:
            if all(standing(image, image.digest or "", hosts=config.hosts) for image in images.values()):
                named.append(tested)
        except Conflict:  # the tag names another of the sets
            continue
    if len(named) == 1:
        return named[0]
    which = "several" if named else "none"
    raise EvidenceError(
        f"{len(sets)} sets of images passed the tests, and the snapshot channel names {which} of them",
        advice="run build_image --again, snapshot and integration_test: its records then replace the former ones",
    )


def _untested(checkout: Checkout, chart: Chart, config: Config, state: State) -> EvidenceError:
    """Why no release is possible: what failed for this content, else the nearest tested content and what differs."""
    mine = state.find(step=settings.STEP, subject=chart.name, content=chart.content, result=None)
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
    others = [record for record in state.find(step=settings.STEP, subject=chart.name) if record.content]
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
