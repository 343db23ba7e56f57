"""What the scenarios of one chart are run with, and one scenario from intent to record.

The order of scenarios, repeating and reporting several failures are the step's; what happens in the
cluster is `testing.trial`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

from pipeline_steps.building import production_chart, snapshot_records
from pipeline_steps.building.snapshot_records import Snapshot
from pipeline_steps.charts.rewrite import Rewritten, replaced_values
from pipeline_steps.clusters import kubeconfig, namespaces
from pipeline_steps.clusters.helm import Helm
from pipeline_steps.clusters.kubernetes import Api
from pipeline_steps.config.language import Config
from pipeline_steps.state.attempt import Attempt, record_attempt
from pipeline_steps.state.origin import origin
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.testing import helm_arguments, pulls, scenario, settings
from pipeline_steps.testing.scenario import Scenario
from pipeline_steps.testing.settings import FRESH, Settings
from pipeline_steps.testing.trial import Observed, Trial, carry_out
from pipeline_steps.toolbox import clock, junit, scratch
from pipeline_steps.toolbox.errors import ChartFailed, Interrupted, PipelineError, Temporary, worst
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout

log = logging.getLogger(__name__)

#: Helm's limit for the name of a release.
LONGEST_RELEASE = 53
#: Where the derived chart lies on disk, from the snapshot's folder on.
RELEASED = "released/chart.tgz"


class Bench(NamedTuple):
    """archive: the snapshot's .tgz. released: what promote would make of it, None when there is
    nothing to test.

    values: values file → where it lies. consumed: what the snapshot is made of. images: name →
    digest that has to run. parts: name → digests that nodes may report instead of it. credentials:
    registry host → (user, password) for pulls. api: of a cluster by name, one for all scenarios.
    unused: values file → names of images that it leaves out and another one does not. helm: None
    when there is nothing to test, helm_args: what it is given beside values files. keep: leave what
    fails in the cluster.
    """

    config: Config
    state: State
    chart: Chart
    revision: str
    wanted: Settings
    snapshot: Record
    consumed: Mapping[str, str]
    images: Mapping[str, str]
    parts: Callable[[str], Collection[str]]
    archive: Path
    released: Rewritten | None
    values: Mapping[str, Path]
    unused: Mapping[str, Collection[str]]
    api: Callable[[str], Api]
    helm: Helm | None
    helm_args: tuple[str, ...]
    credentials: Mapping[str, tuple[str, str]]
    keep: bool = False


@contextlib.contextmanager
def prepared(
    checkout: Checkout,
    chart: Chart,
    wanted: Settings,
    snapshot: Snapshot,
    state: State,
    tgz: bytes | None = None,
) -> Iterator[Bench]:
    """Fetch the snapshot, write it and the values files to disk for as long as the block runs, find
    helm.

    tgz: the snapshot, when it is at hand already.
    """
    config = checkout.config
    images = {name: reference.rpartition("@")[2] for name, reference in snapshot.images.items()}
    with scratch.folder("test") as folder:
        archive = folder / f"{chart.name}.tgz"
        tested = snapshot_records.fetch(snapshot, config) if tgz is None else tgz
        archive.write_bytes(tested)
        released = None
        if not wanted.none:
            released = production_chart.derive(
                tested, snapshot.record, chart, checkout, wanted.production
            )
            (folder / RELEASED).parent.mkdir()
            (folder / RELEASED).write_bytes(released.archive.tgz)
        helm = None if wanted.none else Helm.find()
        values = _values(checkout, chart, wanted, folder / "values")
        arguments = helm_arguments.parse(config, chart, wanted.helm_args)
        helm_args = helm_arguments.stage(checkout, arguments, folder / "arguments")
        yield Bench(
            config=config,
            state=state,
            chart=chart,
            revision=checkout.revision,
            wanted=wanted,
            snapshot=snapshot.record,
            consumed=snapshot.consumed,
            images=images,
            parts=lambda name: pulls.parts(snapshot.images[name], config.hosts),
            archive=archive,
            released=released,
            values=values,
            unused=_unused(helm, archive, values, helm_args, snapshot.images, config)
            if helm and images and len(values) > 1
            else {},
            api=functools.cache(functools.partial(_api, config)),
            helm=helm,
            helm_args=helm_args,
            credentials=pulls.credentials(snapshot.images.values(), config.hosts)
            if wanted.pull_secret
            else {},
        )


def _values(checkout: Checkout, chart: Chart, wanted: Settings, folder: Path) -> dict[str, Path]:
    prefix = f"{chart.path}/" if chart.path else ""
    names = scenario.values_files(settings.own_files(checkout, chart), wanted.values)
    written = {}
    for number, (path, data) in enumerate(
        checkout.tree.read([f"{prefix}{name}" for name in names]).items()
    ):
        # Numbered, so that no name means anything to helm, which splits at commas.
        written[path.removeprefix(prefix)] = place = folder / f"{number}.yaml"
        folder.mkdir(exist_ok=True)
        place.write_bytes(data)
    return written


def _unused(
    helm: Helm,
    archive: Path,
    values: Mapping[str, Path],
    helm_args: tuple[str, ...],
    images: Mapping[str, str],
    config: Config,
) -> dict[str, set[str]]:
    """Which images each values file leaves out, as the chart renders; what all leave out is left
    out by none.
    """

    def missing(file: Path) -> set[str]:
        try:
            manifests = helm.template(archive, values=[file], args=helm_args)
        except ChartFailed:
            return set()  # the install says why
        return {
            name
            for name, image in images.items()
            if not pulls.named(image, manifests, config.hosts)
        }

    with ThreadPoolExecutor() as pool:
        found = dict(zip(values, pool.map(missing, values.values()), strict=True))
    nowhere = set.intersection(*found.values())
    return {name: absent - nowhere for name, absent in found.items()}


def run_all(bench: Bench, todo: Collection[Scenario], *, retries: int) -> dict[Scenario, Record]:
    """Every scenario of `todo`, tests.parallel at once, each tried to its end whatever happens to
    others.

    retries: how often one is repeated after the cluster's own trouble. Raises the worst failure,
    telling all.
    """
    at_once = bench.wanted.parallel if bench.wanted.namespace == FRESH else 1
    pool = ThreadPoolExecutor(min(at_once, len(todo)), thread_name_prefix="scenario")
    try:
        waiting = {one: pool.submit(_repeated, bench, one, retries) for one in todo}
        wait(waiting.values())
    finally:
        # Threads are waited for: they remove their namespaces, at once when this process has to
        # end.
        pool.shutdown(wait=True, cancel_futures=True)
    errors: list[PipelineError] = []
    done: dict[Scenario, Record] = {}
    for one, future in waiting.items():
        try:
            done[one] = future.result()
        except PipelineError as error:
            errors.append(error)
    if errors:
        raise _together(errors, len(todo))
    return done


def _repeated(bench: Bench, one: Scenario, retries: int) -> Record:
    for left in range(retries, 0, -1):
        try:
            return run(bench, one)
        except Temporary as error:
            log.info("%s; %d more tries", error, left)
    return run(bench, one)


def _together(errors: list[PipelineError], scenarios: int) -> PipelineError:
    """One error for several: the first with the worst exit code, the words of all."""
    code = worst([error.exit_code for error in errors])
    first = next(error for error in errors if error.exit_code == code)
    if len(errors) == 1 or isinstance(first, Interrupted):
        return first
    told = "\n".join(f"  {error}" for error in errors)
    return type(first)(f"{len(errors)} of {scenarios} scenarios did not pass:\n{told}")


def _api(config: Config, cluster: str) -> Api:
    """The API of a configured cluster; its kubeconfig is relative to pipeline.yaml's folder."""
    entry = config.clusters[cluster]
    return Api(kubeconfig.load(config.root / Path(entry.kubeconfig).expanduser(), entry.context))


def run(bench: Bench, one: Scenario) -> Record:
    """Carry out one scenario and record it. Raises ChartFailed, Temporary, MachineError,
    Interrupted.
    """
    wanted, helm = bench.wanted, bench.helm
    with record_attempt(
        bench.state,
        step=settings.STEP,
        subject=bench.chart.name,
        key=settings.key_of(one, wanted, bench.chart.content, bench.consumed),
        content=bench.chart.content,
        revision=bench.revision,
        parameters=settings.parameters(one, wanted),
        inputs=bench.consumed,
        uses=[bench.snapshot.id],
        tools={"helm": helm.version} if helm else {},
    ) as it:
        if helm is None:
            return it.passed({})
        fresh = wanted.namespace == FRESH
        namespace = namespaces.fresh_name(bench.chart.name) if fresh else wanted.namespace
        intent = it.begin({"namespace": f"{one.cluster}/{namespace}"})
        name = f"{one.name}-{intent.id.removeprefix('sha256:')[:8]}"
        trial = _trial(bench, one, namespace, bench.state.folder / "failures" / name)
        try:
            observed = carry_out(helm, bench.api(one.cluster), trial)
        except PipelineError as error:
            case = junit.Case(one.name, outcome="error", text=str(error))
            _report(bench, it, f"{bench.chart.name}-{name}", one, [case])
            raise
        _note(it, observed)
        _note_renderings(it, observed, bench)
        _report(bench, it, f"{bench.chart.name}-{name}", one, _cases(observed))
        for file in observed.bundle:
            it.attach(file)
        if observed.cause:
            raise failure(
                observed,
                f"{bench.chart.name} {one.name} on {one.cluster}",
                trial.bundle,
                bench.state,
            )
        return it.passed({})


def _trial(bench: Bench, one: Scenario, namespace: str, bundle: Path) -> Trial:
    fresh = bench.wanted.namespace == FRESH
    values = [bench.values[one.values]] if one.values else []
    where = origin()
    unused = bench.unused.get(one.values, ())
    expected = {name: digest for name, digest in bench.images.items() if name not in unused}
    # A release in a given namespace meets those of other builds there.
    release = (
        bench.chart.name if fresh else namespaces.fresh_name(bench.chart.name).removeprefix("ps-")
    )
    return Trial(
        chart=bench.archive,
        derived=bench.archive.parent / RELEASED,
        replaced=replaced_values(bench.released.changes) if bench.released else (),
        values=tuple(values),
        namespace=namespace,
        release=release[:LONGEST_RELEASE].strip("-."),
        timeout=bench.wanted.timeout,
        missing=lambda ran: scenario.missing(expected, ran, bench.parts),
        bundle=bundle,
        owner=where["actor"] or "unknown",
        build=(where["ci"] or {}).get("url"),
        fresh=fresh,
        helm_args=bench.helm_args,
        credentials=bench.credentials if bench.wanted.pull_secret else {},
        keep=bench.keep,
    )


def _note(it: Attempt, observed: Observed) -> None:
    """What really ran: platform, and the digest of every container by its name."""
    if observed.kubernetes:
        it.tools["kubernetes"] = observed.kubernetes
    if observed.platform:
        it.outputs["platform"] = observed.platform
    digests: dict[str, set[str]] = {}
    for each in observed.ran:
        digests.setdefault(each.container, set()).add(each.digest)
    for container, found in sorted(digests.items()):
        it.outputs[f"ran.{container}"] = " ".join(sorted(found))


def _note_renderings(it: Attempt, observed: Observed, bench: Bench) -> None:
    """What the server rendered, by digest, and where the derived chart differs; never the text,
    which has secrets.
    """
    if bench.released:
        it.outputs[settings.DERIVED_TAR] = bench.released.archive.tar_digest
    only_version = bench.images and not bench.wanted.production
    places: dict[str, Any] = {
        "derived": "only the version: channels.production.images is not set"
        if only_version
        else "version and images"
    }
    for each in observed.renderings:
        it.outputs[f"rendered.{each.verb}.tested"] = each.tested
        it.outputs[f"rendered.{each.verb}.derived"] = each.derived
        places[each.verb] = {"allowed": list(each.allowed), "refused": list(each.refused)}
    it.parameters["rendering"] = places


def _cases(observed: Observed) -> list[junit.Case]:
    bad: junit.Outcome = "error" if observed.cause and observed.cause.infrastructure else "failure"
    told = "".join(
        f"\n{file.name}:\n{_end(file)}" for file in observed.bundle if file.suffix == ".log"
    )
    return [
        junit.Case(case.name, case.seconds, bad, f"{case.failure}{told}")
        if case.failure
        else junit.Case(case.name, case.seconds)
        for case in observed.cases
    ]


def _end(file: Path) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-30:]) + "\n"


def _report(bench: Bench, it: Attempt, name: str, one: Scenario, cases: list[junit.Case]) -> None:
    properties = {"content": bench.chart.content, "revision": bench.revision, "cluster": one.cluster,
                  "values": one.values, **it.tools}  # fmt: skip
    path = bench.state.folder / "junit" / f"{settings.STEP}-{name}.xml"
    suite = f"{settings.STEP}.{bench.chart.name}.{one.name}"
    it.attach(junit.write(path, suite, cases, started=clock.now(), properties=properties))


def failure(observed: Observed, subject: str, bundle: Path, state: State) -> PipelineError:
    """The error of a failed trial. It is recorded, so it names the bundle from the state's folder
    on: another machine has the records elsewhere."""
    cause = observed.cause
    assert cause is not None, "only what failed has an error"
    place = Path(state.folder.name) / bundle.relative_to(state.folder)
    kind = Temporary if cause.infrastructure else ChartFailed
    return kind(str(cause), where=subject, advice=f"see {place}" if observed.bundle else "")
