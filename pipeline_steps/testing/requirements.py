"""What a chart's content needs before it is merged or released, and what the records say to each:
decided here only.

promote and tag_release ask it for `channels.production.requires`, report for `review.requires`, and
selection for what is not done yet, so they cannot disagree. Nobody is asked but the records, those
of the evidence stores among them.

A record of `check` counts for the values files and commands of today, a record that `record` made
for its name; both for the whole stored folder of the chart, ignored files too, as programs may read
them. Tests count with the images and dependencies that they ran with: see `ImageSet`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from pipeline_steps.building import image_records
from pipeline_steps.config.language import Config
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.testing import helm_arguments, scenario, settings
from pipeline_steps.testing.scenario import Scenario
from pipeline_steps.testing.settings import NOTHING, Settings, own_files, values_pattern
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout

CHECK = "check"
#: Raise when what a record of `check` (or of `record`) says changes for the same content.
CHECK_FORMAT = 2
RECORD_FORMAT = 2
#: Steps whose records are about certain images, not about the content alone.
OF_IMAGES = ("build_image", "snapshot", settings.STEP)
#: Steps of ours that `requires` may name; any other name is a program's, whose result `record`
#: keeps.
OWN = frozenset({CHECK, *OF_IMAGES})

Outcome = Literal[
    "passed", "failed", "missing", "infrastructure", "interrupted", "running", "contradictory"
]


class Requirement(NamedTuple):
    """One thing that is required of a chart's content. step: whose record it is, or a program's
    name for `record`.

    name: like check, or integration_test install-default on k131. attempts: how often it was tried
    in all. reason: why it has not passed, "" when it has. records: those that passed, all of a
    contradiction, else one that did not.
    """

    name: str
    step: str
    outcome: Outcome
    attempts: int = 0
    reason: str = ""
    records: tuple[Record, ...] = ()

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"


class ImageSet(NamedTuple):
    """Images and dependencies, by digest, of which snapshots of the content were made; tests count
    for one such set.

    snapshots: their records, by `State.preferred`; only those of unmodified sources where there are
    any. builds: current records of build_image for these images. obstacle: why no release can be
    made of it whatever the tests say, "" when it can. requirements: what is required with these
    images.
    """

    snapshots: tuple[Record, ...]
    builds: tuple[Record, ...]
    obstacle: str
    requirements: tuple[Requirement, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.obstacle and all(requirement.passed for requirement in self.requirements)


class Required(NamedTuple):
    """All that is required of a chart's content. of_content: whatever the images are.

    image_sets: which of their snapshots counts first is first. names_images: is anything of them
    required? of_dependents: what is required of the charts that stand for this one, a library.
    """

    chart: Chart
    of_content: tuple[Requirement, ...]
    image_sets: tuple[ImageSet, ...]
    names_images: bool
    of_dependents: tuple[Requirement, ...] = ()

    @property
    def current(self) -> ImageSet | None:
        """The set that a release would be made of: one that passed, else one that may be released,
        else the first.
        """
        order = sorted(
            self.image_sets, key=lambda images: (bool(images.obstacle), not images.passed)
        )
        return order[0] if order else None

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """Everything that is required, for the current images."""
        if not self.names_images:
            return (*self.of_content, *self.of_dependents)
        current = self.current
        if current is None:
            lacking = Requirement(
                settings.STEP,
                settings.STEP,
                "missing",
                reason="there is no snapshot of this content",
            )
            return (*self.of_content, lacking, *self.of_dependents)
        unfit = (
            [Requirement("snapshot", "snapshot", "missing", reason=current.obstacle)]
            if current.obstacle
            else []
        )
        return (*self.of_content, *unfit, *current.requirements, *self.of_dependents)

    @property
    def passed(self) -> bool:
        return all(requirement.passed for requirement in self.requirements)


def required(
    checkout: Checkout, chart: Chart, config: Config, state: State, names: Iterable[str]
) -> Required:
    """What the steps and programs in `names` have to say to the chart's content, and what they
    said.

    Raises ConfigurationError for tests that cannot be planned, NotYet for those of a later version,
    and what asking the evidence stores raises.
    """
    state.load_evidence(checkout.contents_of(chart))
    needs = tuple(dict.fromkeys(names))
    of_content = [
        _of_key(name, name, key_of(name, checkout, chart, config), state)
        for name in needs
        if name not in OF_IMAGES
    ]
    of_images = [name for name in needs if name in OF_IMAGES]
    tests = _planned(checkout, chart) if settings.STEP in needs else ()
    sets = [
        images._replace(
            requirements=tuple(
                each
                for name in of_images
                for each in _with_images(name, chart, images, tests, state)
            )
        )
        for images in _image_sets(chart, state)
    ]
    dependents = _of_dependents(checkout, chart, config, state) if settings.STEP in needs else ()
    return Required(chart, tuple(of_content), tuple(sets), bool(of_images), tuple(dependents))


def _of_dependents(
    checkout: Checkout, chart: Chart, config: Config, state: State
) -> Iterator[Requirement]:
    """What the tests say of every chart here that a library is packed into by file://.

    helm cannot install a library, and the content of such a chart holds the library's: that it
    passed says that the library works. With `tests.none` the library needs none of it.
    """
    if chart.type != "library" or settings.settings(checkout, chart).none != settings.LIBRARY:
        return
    dependents = [
        checkout.chart(name)
        for name, other in checkout.charts.items()
        if chart.path in other.subcharts
    ]
    for dependent in dependents:
        for each in required(checkout, dependent, config, state, (settings.STEP,)).requirements:
            yield each._replace(name=f"{each.name} of {dependent.name}")
    if not dependents:
        yield Requirement(
            settings.STEP,
            settings.STEP,
            "missing",
            reason="no chart here depends on this library by file://, so nothing tests it: "
            "say in tests.none why it needs no test",
        )


def _image_sets(chart: Chart, state: State) -> list[ImageSet]:
    """The sets of which there are passed snapshots of the content, superseded ones too, after those
    that are not.

    A later snapshot with other images does not take back what passed with the former ones; a later
    build does.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Record]] = {}
    about = ("snapshot", chart.name, chart.content)
    made = [
        record
        for record in state.records()
        if (record.step, record.subject, record.content) == about
    ]
    for record in state.preferred(made):
        if record.passed:
            groups.setdefault(tuple(sorted(record.inputs.items())), []).append(record)
    builds = {
        (build.subject, image_records.digest_of(build)): build
        for build in reversed(state.preferred(state.find(step="build_image")))
        if not image_records.is_modified(build)
    }
    sets = []
    for snapshots in groups.values():
        clean = [snapshot for snapshot in snapshots if not snapshot.parameters.get("modified")]
        images = [
            (name, image.digest)
            for name, image in sorted(image_records.images_of(snapshots[0]).items())
        ]
        lacking = [name for name, digest in images if (name, digest) not in builds]
        obstacle = ""
        if chart.modified:
            obstacle = f"the chart has local modifications: {', '.join(chart.modified[:5])}"
        elif not clean:
            obstacle = "its snapshot was made of local modifications"
        elif lacking:
            names = ", ".join(lacking)
            obstacle = f"image {names} was built again since, or its build of the stored source is not recorded"
        used = tuple(builds[image] for image in images if image in builds)
        sets.append(ImageSet(tuple(clean or snapshots), used, obstacle))
    return sets


class _Tests(NamedTuple):
    """Scenarios of which one has to pass; all of the same settings. name: for people, when none was
    run.
    """

    name: str
    scenarios: tuple[Scenario, ...]
    settings: Settings


def _planned(checkout: Checkout, chart: Chart) -> list[_Tests]:
    """What has to pass. Clusters that are named for the chart must all have passed; without names
    any configured one is enough (docs/explanation/releases.md#clusters)."""
    chosen = settings.settings(checkout, chart)
    if chosen.none or chosen.clusters:
        single = settings.scenarios(checkout, chart, chosen, chosen.clusters)
        return [_Tests(_name_of(each, chosen), (each,), chosen) for each in single]
    return [
        _Tests(
            f"{settings.STEP} {each.name}",
            tuple(each._replace(cluster=cluster) for cluster in sorted(checkout.config.clusters)),
            chosen,
        )
        for each in settings.scenarios(checkout, chart, chosen, ("",))
    ]


def _with_images(
    name: str, chart: Chart, images: ImageSet, tests: Iterable[_Tests], state: State
) -> Iterator[Requirement]:
    """What the records say to one of OF_IMAGES, with these images."""
    snapshot = images.snapshots[0]
    if name == "snapshot":
        yield _of_key(name, name, snapshot.key, state)
    elif name == "build_image":
        for build in images.builds:
            yield _of_key(f"{name} {build.subject}", name, build.key, state)
    else:
        for each in tests:
            yield _one_of(each, chart, snapshot.inputs, state)


def _one_of(tests: _Tests, chart: Chart, consumed: Mapping[str, str], state: State) -> Requirement:
    """What came of scenarios of which one has to pass. consumed: digests of images and
    dependencies.
    """
    results = [
        _of_key(
            _name_of(planned, tests.settings),
            settings.STEP,
            settings.key_of(planned, tests.settings, chart.content, consumed),
            state,
        )
        for planned in tests.scenarios
    ]
    passed = [result for result in results if result.passed]
    tried = [result for result in results if result.outcome != "missing"]
    for result in results:
        if result.outcome == "contradictory":  # passing on another cluster does not settle it
            return result
    if passed:
        return passed[0]._replace(
            records=tuple(record for result in passed for record in result.records)
        )
    return (
        tried[0] if tried else Requirement(tests.name, settings.STEP, "missing", reason="not run")
    )


def _name_of(planned: Scenario, chosen: Settings) -> str:
    if planned == NOTHING:
        return f"{settings.STEP} none: {chosen.none}"
    return f"{settings.STEP} {planned.name} on {planned.cluster}"


def _of_key(name: str, step: str, key: str, state: State) -> Requirement:
    """What the records of one key say."""
    verdict = state.resolve(key)
    decisive = verdict.record or verdict.latest
    if decisive is None:
        return Requirement(name, step, "missing", reason="not run")
    if verdict.contradictory:
        reason = "builds at the same time came to different results: run it again"
        return Requirement(name, step, "contradictory", verdict.attempts, reason, verdict.current)
    outcome: Outcome = "failed"
    if decisive.result == "started":
        outcome = "running"
    elif decisive.result in ("passed", "infrastructure", "interrupted"):
        outcome = decisive.result
    records = verdict.current if decisive.passed else (decisive,)
    return Requirement(name, step, outcome, verdict.attempts, decisive.reason or "", records)


def key_of(name: str, checkout: Checkout, chart: Chart, config: Config) -> str:
    """The key of the record that `check`, or a name given to `record`, leaves for the chart's
    content.
    """
    if name == CHECK:
        return check_key(checkout, chart, config)
    return record_key(name, chart)


def check_key(checkout: Checkout, chart: Chart, config: Config) -> str:
    """The key of `check` with the values files of the chart and the commands of the configuration."""
    parameters = check_parameters(checkout, chart, config)
    return make_key(CHECK, CHECK_FORMAT, parameters=parameters, content=chart.content, consumed={})


def check_parameters(checkout: Checkout, chart: Chart, config: Config) -> dict[str, Any]:
    """What `check` runs, and on what: values files ("" for the chart's own values), commands, the
    stored folder; and what of tests.helm_args it renders with."""
    values = scenario.values_files(own_files(checkout, chart), values_pattern(config, chart)) or (
        "",
    )
    parameters: dict[str, Any] = {
        "values": list(values),
        "commands": list(config.check.commands),
        "stored": chart.stored,
    }
    arguments = helm_arguments.arguments_of(config, chart)
    if arguments:
        parameters["helm_args"] = [f"{option}={value}" for option, value in arguments]
        parameters["helm_values"] = dict(helm_arguments.digests(checkout, arguments))
    return parameters


def record_key(name: str, chart: Chart) -> str:
    """The key of what `record --name NAME` made of the chart's content, whatever program ran."""
    return make_key(
        name, RECORD_FORMAT, parameters={"stored": chart.stored}, content=chart.content, consumed={}
    )
