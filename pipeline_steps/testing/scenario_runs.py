"""Run the scenarios of one chart and record each: what passed before, preparation, retries,
parallelism, JUnit reports.

What happens in the cluster is in `testing.install_and_test`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

from pipeline_steps.building import production_chart, snapshot_records
from pipeline_steps.building.channels import Channel
from pipeline_steps.building.snapshot_records import Snapshot
from pipeline_steps.charts.rewrite import Rewritten, replaced_values
from pipeline_steps.clusters import kubeconfig, namespaces
from pipeline_steps.clusters.helm import RELEASE_NAME_LIMIT, Helm
from pipeline_steps.clusters.kubernetes import Api
from pipeline_steps.config.language import Config
from pipeline_steps.state.attempt import Attempt, record_attempt
from pipeline_steps.state.origin import origin
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.testing import helm_arguments, pulls, settings
from pipeline_steps.testing.install_and_test import TestOutcome, TestRun, run_test
from pipeline_steps.testing.scenario import Scenario, images_not_run, values_files
from pipeline_steps.testing.settings import FRESH, Settings
from pipeline_steps.toolbox import clock, junit, scratch
from pipeline_steps.toolbox.errors import ChartFailed, Interrupted, PipelineError, Temporary, worst
from pipeline_steps.toolbox.wording import counted
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout

log = logging.getLogger(__name__)

#: The derived production chart, relative to the folder of the snapshot's archive.
DERIVED_FILE = "released/chart.tgz"


class TestSetup(NamedTuple):
    """All that the scenarios of one chart have in common.

    archive: the snapshot's .tgz.
    derived: the production chart that promote would make of it; None when nothing is tested.
    consumed: name → digest of the images and dependencies in the snapshot.
    images: image name → digest that must run.
    parts: image name → further digests under which nodes may report the image.
    has_crds: whether the snapshot has a crds folder; raises ChartFailed if helm cannot read it.
    values: values file → its path on disk.
    unused: values file → images that it does not render, but another values file does.
    api: cluster name → its API, opened once for all scenarios.
    helm: None when nothing is tested. helm_args: arguments besides values files.
    credentials: registry host → (user, password) for pulls.
    keep: leave the namespace of a failed scenario in the cluster.
    """

    config: Config
    state: State
    chart: Chart
    revision: str
    test_settings: Settings
    snapshot: Record
    consumed: Mapping[str, str]
    images: Mapping[str, str]
    parts: Callable[[str], Collection[str]]
    archive: Path
    derived: Rewritten | None
    has_crds: Callable[[], bool]
    values: Mapping[str, Path]
    unused: Mapping[str, Collection[str]]
    api: Callable[[str], Api]
    helm: Helm | None
    helm_args: tuple[str, ...]
    credentials: Mapping[str, tuple[str, str]]
    keep: bool = False


def find_passed(
    keys: Mapping[Scenario, str], state: State, channel: Channel
) -> dict[Scenario, Record]:
    """The scenarios that have passed with a snapshot that can still be released, and their records.

    keys: scenario → key of its record. channel: which must have the snapshot that was tested.
    """
    held: dict[str, bool] = {}  # by id: scenarios share snapshots

    def is_in_channel(snapshot: Record) -> bool:
        if snapshot.id not in held:
            held[snapshot.id] = channel.has_complete(snapshot, everywhere=False)
        return held[snapshot.id]

    passed: dict[Scenario, Record] = {}
    for scenario, key in keys.items():
        verdict = state.resolve(key)
        # All current records, not only the preferred one: any counts whose snapshot is in the
        # channel.
        for record in verdict.current if verdict.record and verdict.record.passed else ():
            if any(map(is_in_channel, snapshot_records.used_snapshots(record, state))):
                passed[scenario] = record
                break
    return passed


@contextlib.contextmanager
def prepare(
    checkout: Checkout,
    chart: Chart,
    test_settings: Settings,
    snapshot: Snapshot,
    state: State,
    clusters: Collection[str],
    tgz: bytes | None = None,
) -> Iterator[TestSetup]:
    """Fetch the snapshot, derive the production chart and write both and the values files to disk.

    The files are removed at the end of the block. clusters: names of those to test on. tgz: the
    snapshot's archive, if already fetched.
    """
    config = checkout.config
    images = {name: reference.rpartition("@")[2] for name, reference in snapshot.images.items()}
    with scratch.folder("test") as folder, ThreadPoolExecutor() as pool:
        # First: to load the Kubernetes client takes as long as all helm processes started here.
        names = () if test_settings.none else clusters
        apis = {name: pool.submit(_api, config, name) for name in names}
        archive = folder / f"{chart.name}.tgz"
        snapshot_tgz = snapshot_records.fetch_archive(snapshot, config) if tgz is None else tgz
        archive.write_bytes(snapshot_tgz)
        derived, helm = None, None
        if not test_settings.none:
            derived = _write_derived(snapshot, snapshot_tgz, chart, checkout, test_settings, folder)
            helm = Helm.find()
        has_crds = pool.submit(lambda: helm is not None and helm.has_crds(archive))
        values = _write_values_files(checkout, chart, test_settings, folder / "values")
        arguments = helm_arguments.parse(config, chart, test_settings.helm_args)
        helm_args = helm_arguments.write_values_files(checkout, arguments, folder / "arguments")
        unused = (
            _unused_images(helm, archive, values, helm_args, snapshot.images, config)
            if helm
            else {}
        )
        yield TestSetup(
            config=config,
            state=state,
            chart=chart,
            revision=checkout.revision,
            test_settings=test_settings,
            snapshot=snapshot.record,
            consumed=snapshot.consumed,
            images=images,
            parts=lambda name: pulls.image_digests(snapshot.images[name], config.hosts),
            archive=archive,
            derived=derived,
            has_crds=has_crds.result,
            values=values,
            unused=unused,
            api=lambda name: apis[name].result(),
            helm=helm,
            helm_args=helm_args,
            credentials=pulls.pull_credentials(snapshot.images.values(), config.hosts)
            if test_settings.pull_secret
            else {},
        )


def _write_derived(
    snapshot: Snapshot,
    snapshot_tgz: bytes,
    chart: Chart,
    checkout: Checkout,
    test_settings: Settings,
    folder: Path,
) -> Rewritten:
    """The production chart that promote would make of the snapshot, also as DERIVED_FILE below
    `folder`.
    """
    derived = production_chart.derive_production_chart(
        snapshot_tgz, snapshot.record, chart, checkout, test_settings.production
    )
    file = folder / DERIVED_FILE
    file.parent.mkdir()
    file.write_bytes(derived.archive.tgz)
    return derived


def _write_values_files(
    checkout: Checkout, chart: Chart, test_settings: Settings, folder: Path
) -> dict[str, Path]:
    prefix = f"{chart.path}/" if chart.path else ""
    names = values_files(settings.chart_files(checkout, chart), test_settings.values)
    written = {}
    for number, (path, data) in enumerate(
        checkout.tree.read([f"{prefix}{name}" for name in names]).items()
    ):
        # Numbered file names: helm splits the value of --values at commas.
        written[path.removeprefix(prefix)] = place = folder / f"{number}.yaml"
        folder.mkdir(exist_ok=True)
        place.write_bytes(data)
    return written


def _unused_images(
    helm: Helm,
    archive: Path,
    values: Mapping[str, Path],
    helm_args: tuple[str, ...],
    images: Mapping[str, str],
    config: Config,
) -> dict[str, set[str]]:
    """Values file → images that are not rendered with it; {} for a single values file.

    An image that no values file renders is in no set: that it did not run is then a failure.
    """
    if not images or len(values) < 2:
        return {}
    arguments = (*helm_args, *helm_arguments.offline_arguments(config))

    def missing(file: Path) -> set[str]:
        try:
            manifests = helm.template(archive, values=[file], args=arguments)
        except ChartFailed:
            return set()  # the install reports the reason
        return {
            name
            for name, image in images.items()
            if not pulls.manifests_name_image(image, manifests, config.hosts)
        }

    with ThreadPoolExecutor() as pool:
        missing_by_file = dict(zip(values, pool.map(missing, values.values()), strict=True))
    missing_everywhere = set.intersection(*missing_by_file.values())
    return {name: absent - missing_everywhere for name, absent in missing_by_file.items()}


def run_all(
    setup: TestSetup, scenarios: Collection[Scenario], *, retries: int
) -> dict[Scenario, Record]:
    """Run all scenarios, `tests.parallel` at once; a failure of one does not stop the others.

    retries: how often a scenario is repeated after a failure of the cluster. Raises one error with
    the reasons of all failures, of the kind with the worst exit code.
    """
    # In a namespace that all share, one release could be taken for the pods of another.
    at_once = setup.test_settings.parallel if setup.test_settings.namespace == FRESH else 1
    pool = ThreadPoolExecutor(min(at_once, len(scenarios)), thread_name_prefix="scenario")
    try:
        waiting = {
            scenario: pool.submit(_run_with_retries, setup, scenario, retries)
            for scenario in scenarios
        }
        wait(waiting.values())
    finally:
        # Wait for the threads: they remove their namespaces, without delay when the process was
        # told to end.
        pool.shutdown(wait=True, cancel_futures=True)
    errors: list[PipelineError] = []
    records: dict[Scenario, Record] = {}
    for scenario, future in waiting.items():
        try:
            records[scenario] = future.result()
        except PipelineError as error:
            errors.append(error)
    if errors:
        raise _combine_errors(errors, len(scenarios))
    return records


def _run_with_retries(setup: TestSetup, scenario: Scenario, retries: int) -> Record:
    for tries_left in range(retries, 0, -1):
        try:
            return run(setup, scenario)
        except Temporary as error:
            log.info("%s; %s", error, counted(tries_left, "more try", "more tries"))
    return run(setup, scenario)


def _combine_errors(errors: list[PipelineError], scenarios: int) -> PipelineError:
    """One error with the reasons of all, of the class of the first with the worst exit code."""
    code = worst([error.exit_code for error in errors])
    first = next(error for error in errors if error.exit_code == code)
    if len(errors) == 1 or isinstance(first, Interrupted):
        return first
    reasons = "\n".join(f"  {error}" for error in errors)
    return type(first)(f"{len(errors)} of {scenarios} scenarios did not pass:\n{reasons}")


def _api(config: Config, cluster: str) -> Api:
    """The API of a configured cluster; its kubeconfig is relative to pipeline.yaml's folder."""
    entry = config.clusters[cluster]
    return Api(kubeconfig.load(config.root / Path(entry.kubeconfig).expanduser(), entry.context))


def run(setup: TestSetup, scenario: Scenario) -> Record:
    """Run one scenario and record it. Raises ChartFailed, Temporary, MachineError, Interrupted."""
    test_settings, helm = setup.test_settings, setup.helm
    with record_attempt(
        setup.state,
        step=settings.STEP,
        subject=setup.chart.name,
        key=settings.scenario_key(scenario, test_settings, setup.chart.content, setup.consumed),
        content=setup.chart.content,
        revision=setup.revision,
        parameters=settings.parameters(scenario, test_settings),
        inputs=setup.consumed,
        uses=[setup.snapshot.id],
        tools={"helm": helm.version} if helm else {},
    ) as attempt:
        if helm is None:
            return attempt.passed({})
        fresh = test_settings.namespace == FRESH
        namespace = namespaces.fresh_name(setup.chart.name) if fresh else test_settings.namespace
        # The intent is recorded before the namespace exists, so that it can be found after a kill.
        intent = attempt.begin({"namespace": f"{scenario.cluster}/{namespace}"})
        name = f"{setup.chart.name}-{scenario.name}-{intent.id.removeprefix('sha256:')[:8]}"
        test_run = _test_run(setup, scenario, namespace, setup.state.folder / "failures" / name)
        try:
            outcome = run_test(helm, setup.api(scenario.cluster), test_run)
        except PipelineError as error:
            case = junit.Case(scenario.name, outcome="error", text=str(error))
            _report(setup, attempt, name, scenario, [case])
            raise
        _record_what_ran(attempt, outcome)
        _record_renderings(attempt, outcome, setup)
        _report(setup, attempt, name, scenario, _cases(outcome))
        for file in outcome.bundle:
            attempt.attach(file)
        if outcome.cause:
            raise failed_test_error(
                outcome,
                f"{setup.chart.name} {scenario.name} on {scenario.cluster}",
                test_run.bundle,
                setup.state,
            )
        return attempt.passed({})


def _test_run(setup: TestSetup, scenario: Scenario, namespace: str, bundle: Path) -> TestRun:
    fresh = setup.test_settings.namespace == FRESH
    values = [setup.values[scenario.values]] if scenario.values else []
    origin_facts = origin()
    unused = setup.unused.get(scenario.values, ())
    expected = {name: digest for name, digest in setup.images.items() if name not in unused}
    # In an existing namespace there may be releases of other builds: use a unique release name.
    release = (
        setup.chart.name if fresh else namespaces.fresh_name(setup.chart.name).removeprefix("ps-")
    )
    return TestRun(
        chart=setup.archive,
        derived=setup.archive.parent / DERIVED_FILE,
        replaced=replaced_values(setup.derived.changes) if setup.derived else (),
        values=tuple(values),
        namespace=namespace,
        # Cut names may end with a dash, which helm refuses.
        release=release[:RELEASE_NAME_LIMIT].strip("-."),
        timeout=setup.test_settings.timeout,
        missing=lambda ran: images_not_run(expected, ran, setup.parts),
        bundle=bundle,
        owner=origin_facts["actor"] or "unknown",
        build=(origin_facts["ci"] or {}).get("url"),
        has_crds=setup.has_crds,
        fresh=fresh,
        helm_args=setup.helm_args,
        offline_args=helm_arguments.offline_arguments(setup.config),
        credentials=setup.credentials if setup.test_settings.pull_secret else {},
        keep=setup.keep,
        fail_fast=setup.test_settings.fail_fast,
    )


def _record_what_ran(attempt: Attempt, outcome: TestOutcome) -> None:
    """Put into the record what ran: Kubernetes version, platform, digests by container name."""
    if outcome.kubernetes:
        attempt.tools["kubernetes"] = outcome.kubernetes
    if outcome.platform:
        attempt.outputs["platform"] = outcome.platform
    digests: dict[str, set[str]] = {}
    for ran in outcome.ran:
        digests.setdefault(ran.container, set()).add(ran.digest)
    for container, container_digests in sorted(digests.items()):
        # By container, as pods have random names; several digests when an upgrade or hook brings
        # another.
        attempt.outputs[f"ran.{container}"] = " ".join(sorted(container_digests))


def _record_renderings(attempt: Attempt, outcome: TestOutcome, setup: TestSetup) -> None:
    """Put into the record the digests of the server's renderings and where the charts differ.

    Never the rendered text: it may contain secrets.
    """
    if setup.derived:
        attempt.outputs[settings.DERIVED_TAR] = setup.derived.archive.tar_digest
    only_version = setup.images and not setup.test_settings.production
    places: dict[str, Any] = {
        "derived": "only the version: channels.production.images is not set"
        if only_version
        else "version and images"
    }
    for rendering in outcome.renderings:
        attempt.outputs[f"rendered.{rendering.verb}.tested"] = rendering.tested
        attempt.outputs[f"rendered.{rendering.verb}.derived"] = rendering.derived
        places[rendering.verb] = {
            "allowed": list(rendering.allowed),
            "refused": list(rendering.refused),
        }
    attempt.parameters["rendering"] = places


def _cases(outcome: TestOutcome) -> list[junit.Case]:
    unsuccessful: junit.Outcome = (
        "error" if outcome.cause and outcome.cause.infrastructure else "failure"
    )
    logs = ""
    for file in outcome.bundle:
        if file.suffix == ".log":
            last_lines = file.read_text(errors="replace").splitlines()[-30:]
            logs += "\n".join((f"\n{file.name}:", *last_lines, ""))
    return [
        junit.Case(case.name, case.seconds, unsuccessful, f"{case.failure}{logs}")
        if case.failure
        else junit.Case(case.name, case.seconds)
        for case in outcome.cases
    ]


def _report(
    setup: TestSetup, attempt: Attempt, name: str, scenario: Scenario, cases: list[junit.Case]
) -> None:
    properties = {
        "content": setup.chart.content,
        "revision": setup.revision,
        "cluster": scenario.cluster,
        "values": scenario.values,
        **attempt.tools,
    }
    path = setup.state.folder / "junit" / f"{settings.STEP}-{name}.xml"
    suite = f"{settings.STEP}.{setup.chart.name}.{scenario.name}"
    attempt.attach(junit.write(path, suite, cases, started=clock.now(), properties=properties))


def failed_test_error(
    outcome: TestOutcome, subject: str, bundle: Path, state: State
) -> PipelineError:
    """The error for a failed test run.

    Its text is recorded, so it names the bundle relative to the parent of the state's folder:
    another machine has the records elsewhere.
    """
    cause = outcome.cause
    assert cause is not None, "only what failed has an error"
    place = Path(state.folder.name) / bundle.relative_to(state.folder)
    error_class = Temporary if cause.infrastructure else ChartFailed
    return error_class(str(cause), where=subject, advice=f"see {place}" if outcome.bundle else "")
