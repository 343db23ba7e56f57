"""What is required of a chart's content before a merge or a release, and which records fulfil it.

All decisions about requirements are here: promote and tag_release use it for
`channels.production.requires`, report for `review.requires`, the selection of charts for work that
is still open. So they cannot disagree. The only input is records, also those of evidence stores.

A record of `check` counts for the configured values files and commands, a record of the `record`
command for its name. Both cover the whole stored folder of the chart, files that .helmignore leaves
out too, because programs may read them. Tests count together with the images and dependencies that
they ran with: see `ImageSet`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from pipeline_steps.building import image_records
from pipeline_steps.config.language import Approval, Config, as_tuple
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.testing import helm_arguments, scenario, settings
from pipeline_steps.testing.scenario import Scenario
from pipeline_steps.testing.settings import NO_TEST, Settings, chart_files, values_pattern
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.toolbox.yaml_reader import nearest_names
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout

CHECK = "check"
#: Increase when the same content can give another result of `check` (or of `record`).
CHECK_FORMAT = 2
RECORD_FORMAT = 2
#: What comes before the name of an approval in `requires`; the format of its records.
APPROVAL = "approval."
APPROVAL_FORMAT = 1
#: Steps whose records are about certain images, not about the content alone.
IMAGE_STEPS = ("build_image", "snapshot", settings.STEP)
#: Steps that `requires` may name. Any other name stands for a program run by `record`.
STEP_NAMES = frozenset({CHECK, *IMAGE_STEPS})

Outcome = Literal[
    "passed", "failed", "missing", "infrastructure", "interrupted", "running", "contradictory"
]


class Requirement(NamedTuple):
    """One requirement of a chart's content, with its outcome.

    name: for people, like "check" or "integration_test install-default on k131".
    step: the step whose record is needed, or the name given to the `record` command.
    attempts: how often it was run in all.
    reason: why it has not passed, "" when it has.
    records: those that passed; all that contradict each other; else the one that did not pass.
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
    """A set of images and dependencies (by digest) in snapshots of the content.

    The same content may be packaged with different images; a test counts only for the set it ran
    with.

    snapshots: records of snapshots with this set, in the order of `State.preferred`; those of
        unmodified sources only, if there are any.
    builds: current records of build_image for these images.
    obstacle: why this set cannot be released whatever the tests say, "" when it can.
    requirements: the requirements that depend on the images.
    """

    snapshots: tuple[Record, ...]
    builds: tuple[Record, ...]
    obstacle: str
    requirements: tuple[Requirement, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.obstacle and all(requirement.passed for requirement in self.requirements)


class Required(NamedTuple):
    """All requirements of a chart's content.

    of_content: requirements that do not depend on the images.
    image_sets: in the order of their preferred snapshots.
    names_images: whether any requirement depends on the images.
    of_dependents: requirements of the charts whose tests count for this one, a library.
    """

    chart: Chart
    of_content: tuple[Requirement, ...]
    image_sets: tuple[ImageSet, ...]
    names_images: bool
    of_dependents: tuple[Requirement, ...] = ()

    @property
    def current(self) -> ImageSet | None:
        """The set to release: the first that passed, else without an obstacle, else the first."""
        order = sorted(
            self.image_sets, key=lambda images: (bool(images.obstacle), not images.passed)
        )
        return order[0] if order else None

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """All requirements, those of the current image set included."""
        if not self.names_images:
            return (*self.of_content, *self.of_dependents)
        current = self.current
        if current is None:
            no_snapshot = Requirement(
                settings.STEP,
                settings.STEP,
                "missing",
                reason="there is no snapshot of this content",
            )
            return (*self.of_content, no_snapshot, *self.of_dependents)
        unusable = (
            [Requirement("snapshot", "snapshot", "missing", reason=current.obstacle)]
            if current.obstacle
            else []
        )
        return (*self.of_content, *unusable, *current.requirements, *self.of_dependents)

    @property
    def passed(self) -> bool:
        return all(requirement.passed for requirement in self.requirements)


def required(
    checkout: Checkout,
    chart: Chart,
    config: Config,
    state: State,
    names: Iterable[str],
    *,
    review: str = "",
) -> Required:
    """The requirements of the chart's content, with the outcomes that the records give.

    Args:
        names: steps, names given to the `record` command, or approvals, as in `requires`.
        review: the id of the review whose approvals are meant, "" for those of a release.

    Raises:
        ConfigurationError: the tests cannot be planned.
        NotYet: the tests need something this version cannot do.
        MachineError, Temporary: an evidence store cannot be read.
    """
    state.load_evidence(checkout.chart_and_image_contents(chart))
    step_names = tuple(dict.fromkeys(names))
    of_content = [
        _requirement(name, name, requirement_key(name, checkout, chart, config, review), state)
        for name in step_names
        if name not in IMAGE_STEPS
    ]
    of_images = [name for name in step_names if name in IMAGE_STEPS]
    tests = _required_tests(checkout, chart) if settings.STEP in step_names else ()
    sets = [
        images._replace(
            requirements=tuple(
                requirement
                for name in of_images
                for requirement in _image_requirements(name, chart, images, tests, state)
            )
        )
        for images in _image_sets(chart, state)
    ]
    dependents = (
        _requirements_of_dependents(checkout, chart, config, state)
        if settings.STEP in step_names
        else ()
    )
    return Required(chart, tuple(of_content), tuple(sets), bool(of_images), tuple(dependents))


def _requirements_of_dependents(
    checkout: Checkout, chart: Chart, config: Config, state: State
) -> Iterator[Requirement]:
    """For a library: the test requirements of every chart that has it as a file:// dependency.

    helm cannot install a library. The content of such a chart includes the library's files, so its
    tests also test the library. A library with `tests.none` needs none of them.
    """
    if chart.type != "library" or settings.settings(checkout, chart).none != settings.LIBRARY:
        return
    dependents = [
        other_chart
        for other_chart in checkout.each_readable()
        if chart.path in other_chart.subcharts
    ]
    for dependent in dependents:
        tests = required(checkout, dependent, config, state, (settings.STEP,))
        for requirement in tests.requirements:
            yield requirement._replace(name=f"{requirement.name} of {dependent.name}")
    if not dependents:
        yield Requirement(
            settings.STEP,
            settings.STEP,
            "missing",
            reason="no chart here depends on it by file://, so nothing tests it",
        )


def _image_sets(chart: Chart, state: State) -> list[ImageSet]:
    """The image sets of all passed snapshots of the content, superseded snapshots last.

    A later snapshot with other images does not invalidate tests that passed with the former
    images; a later build of an image does.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Record]] = {}
    about_chart = ("snapshot", chart.name, chart.content)
    # Not State.find, which returns current records only: superseded snapshots count here.
    snapshots_of_content = [
        record
        for record in state.records()
        if (record.step, record.subject, record.content) == about_chart
    ]
    for record in state.preferred(snapshots_of_content):
        if record.passed:
            groups.setdefault(tuple(sorted(record.inputs.items())), []).append(record)
    # Reversed, so that the preferred build of an image comes last and stays in the dictionary.
    builds = {
        (build.subject, image_records.image_digest(build)): build
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
        # By digest as well: a rebuilt image has the same name, and was not in what was tested.
        missing_builds = [name for name, digest in images if (name, digest) not in builds]
        obstacle = ""
        if chart.modified:
            obstacle = f"the chart has local modifications: {', '.join(chart.modified[:5])}"
        elif not clean:
            obstacle = "its snapshot was made of local modifications"
        elif missing_builds:
            names = ", ".join(missing_builds)
            obstacle = (
                f"image {names} was built again since, or its build of the stored source is not "
                "recorded"
            )
        used = tuple(builds[image] for image in images if image in builds)
        sets.append(ImageSet(tuple(clean or snapshots), used, obstacle))
    return sets


class _Alternatives(NamedTuple):
    """Scenarios of which at least one must pass. name: shown when none was run."""

    name: str
    scenarios: tuple[Scenario, ...]
    settings: Settings


def _required_tests(checkout: Checkout, chart: Chart) -> list[_Alternatives]:
    """The tests that must pass: on all of `tests.clusters`; without it, on any configured cluster.

    See docs/explanation/releases.md#clusters.
    """
    test_settings = settings.settings(checkout, chart)
    if test_settings.none or test_settings.clusters:
        single = settings.scenarios(checkout, chart, test_settings, test_settings.clusters)
        return [
            _Alternatives(_scenario_title(item, test_settings), (item,), test_settings)
            for item in single
        ]
    return [
        _Alternatives(
            f"{settings.STEP} {item.name}",
            tuple(item._replace(cluster=cluster) for cluster in sorted(checkout.config.clusters)),
            test_settings,
        )
        for item in settings.scenarios(checkout, chart, test_settings, ("",))
    ]


def _image_requirements(
    name: str, chart: Chart, images: ImageSet, tests: Iterable[_Alternatives], state: State
) -> Iterator[Requirement]:
    """The requirements that one of IMAGE_STEPS gives for an image set."""
    snapshot = images.snapshots[0]
    if name == "snapshot":
        yield _requirement(name, name, snapshot.key, state)
    elif name == "build_image":
        for build in images.builds:
            yield _requirement(f"{name} {build.subject}", name, build.key, state)
    else:
        for alternatives in tests:
            yield _any_passed(alternatives, chart, snapshot.inputs, state)


def _any_passed(
    tests: _Alternatives, chart: Chart, consumed: Mapping[str, str], state: State
) -> Requirement:
    """One requirement for scenarios of which one must pass.

    consumed: name → digest of the images and dependencies in the snapshot.
    """
    results = [
        _requirement(
            _scenario_title(planned, tests.settings),
            settings.STEP,
            settings.scenario_key(planned, tests.settings, chart.content, consumed),
            state,
        )
        for planned in tests.scenarios
    ]
    passed = [result for result in results if result.passed]
    tried = [result for result in results if result.outcome != "missing"]
    for result in results:
        if result.outcome == "contradictory":  # a pass on another cluster does not resolve it
            return result
    if passed:
        return passed[0]._replace(
            records=tuple(record for result in passed for record in result.records)
        )
    return (
        tried[0] if tried else Requirement(tests.name, settings.STEP, "missing", reason="not run")
    )


def _scenario_title(planned_scenario: Scenario, test_settings: Settings) -> str:
    if planned_scenario == NO_TEST:
        return f"{settings.STEP} none: {test_settings.none}"
    return f"{settings.STEP} {planned_scenario.name} on {planned_scenario.cluster}"


def _requirement(name: str, step: str, key: str, state: State) -> Requirement:
    """The requirement that records of this key fulfil, with its current outcome."""
    verdict = state.resolve(key)
    # Without a verdict the attempt tells why there is none: it runs, was killed, or the cluster
    # failed.
    decisive = verdict.record or verdict.attempt
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
    elif decisive.step == "approval":  # refused: somebody has to approve; nothing is wrong
        outcome = "missing"
    records = verdict.current if decisive.passed else (decisive,)
    return Requirement(name, step, outcome, verdict.attempts, decisive.reason or "", records)


def requirement_key(
    name: str, checkout: Checkout, chart: Chart, config: Config, review: str = ""
) -> str:
    """The key of the chart's record of `check`, of an approval, or of the `record` command under
    `name`. review: see `required`.
    """
    if name == CHECK:
        return check_key(checkout, chart, config)
    if name.startswith(APPROVAL):
        return approval_key(name.removeprefix(APPROVAL), chart, config, review)
    return record_key(name, chart)


def approval_rule(config: Config, name: str) -> Approval:
    """What `approvals` says of one. Raises ConfigurationError naming the nearest."""
    if name not in config.approvals:
        raise ConfigurationError(
            f"{APPROVAL}{name} is required, and there is no approval {name!r}",
            where=config.where("approvals"),
            advice=nearest_names(name, config.approvals) if config.approvals
            else f"approvals: {{{name}: {{}}}}",
        )  # fmt: skip
    rule = config.approvals[name]
    if rule.count < 1:
        raise ConfigurationError(
            f"count is {rule.count}: nobody would have to approve",
            where=config.where(f"approvals.{name}.count"),
            advice="write 1 or more, or do not require it",
        )
    return rule


def approval_parameters(name: str, config: Config, review: str) -> dict[str, Any]:
    """What a record of an approval is about: its name, its rule, the review that it is asked of."""
    rule = approval_rule(config, name)
    by = {"by": list(as_tuple(rule.by)), "not_by": list(rule.not_by)}
    return {
        "approval": name,
        "rule": {**msgspec.structs.asdict(rule), **by},
        "review": review,
    }


def approval_key(name: str, chart: Chart, config: Config, review: str) -> str:
    """The key of the chart's record of an approval."""
    parameters = approval_parameters(name, config, review)
    return make_key(
        "approval", APPROVAL_FORMAT, parameters=parameters, content=chart.content, consumed={}
    )


def check_key(checkout: Checkout, chart: Chart, config: Config) -> str:
    """The key of the chart's record of `check`, see `check_parameters`."""
    parameters = check_parameters(checkout, chart, config)
    return make_key(CHECK, CHECK_FORMAT, parameters=parameters, content=chart.content, consumed={})


def check_parameters(checkout: Checkout, chart: Chart, config: Config) -> dict[str, Any]:
    """The parameters of `check`: values files ("" for the chart's own), commands, stored folder.

    With tests.helm_args also these, because they change what is rendered.
    """
    values = scenario.values_files(chart_files(checkout, chart), values_pattern(config, chart)) or (
        "",
    )
    parameters: dict[str, Any] = {
        "values": list(values),
        "commands": list(config.check.commands),
        "stored": chart.folder_digest,
    }
    # Only where they are set: records made before these keys existed stay valid.
    for key in ("kube_versions", "api_versions", "with_subcharts"):
        if value := getattr(config.check, key):
            parameters[key] = list(value) if isinstance(value, tuple) else value
    # Left out by default: records of before the key was there keep counting.
    if config.check.version != "notice":
        parameters["version"] = config.check.version
    arguments = helm_arguments.chart_arguments(config, chart)
    # As above: a chart without arguments keeps the key it had before.
    if arguments:
        parameters["helm_args"] = [f"{option}={value}" for option, value in arguments]
        parameters["helm_values"] = dict(helm_arguments.values_file_digests(checkout, arguments))
    return parameters


def record_key(name: str, chart: Chart) -> str:
    """The key of the chart's record of `record --name NAME`; the program is not part of it."""
    return make_key(
        name,
        RECORD_FORMAT,
        parameters={"stored": chart.folder_digest},
        content=chart.content,
        consumed={},
    )
