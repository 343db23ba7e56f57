"""One test in a cluster: namespace, install, `helm test`, which images ran, diagnosis, clean-up.

    outcome = run_test(helm, api, test_run)       # outcome.cause is None: passed

Retries and records are decided in `scenario_runs`.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from pipeline_steps.charts.compare import ADVICE
from pipeline_steps.clusters import diagnosis, namespaces
from pipeline_steps.clusters.cause import Cause, Phase
from pipeline_steps.clusters.helm import Helm, Target, error_text
from pipeline_steps.clusters.kubernetes import Api
from pipeline_steps.clusters.watch import StartedContainer, Watcher
from pipeline_steps.testing import rendering
from pipeline_steps.testing.rendering import ChartPair, NotRendered, Rendering
from pipeline_steps.testing.waiting import WaitMonitor
from pipeline_steps.toolbox import process
from pipeline_steps.toolbox.clock import Deadline
from pipeline_steps.toolbox.errors import PipelineError
from pipeline_steps.toolbox.process import Completed

log = logging.getLogger(__name__)

UNINSTALL_SECONDS = 60.0


class TestRun(NamedTuple):
    """What to install, and where.

    chart: the snapshot (.tgz). derived: the production chart that promote would make of it.
    has_crds: whether the chart has a crds folder; raises ChartFailed if helm cannot read it.
    replaced: (text before, text after) of each change in `derived`.
    timeout: seconds for everything but clean-up.
    missing: takes the digests that ran; returns the names of expected images that did not.
    bundle: folder for the files that explain a failure.
    owner, build: labels of the namespace that say who made it, in which CI build.
    fresh: create the namespace and remove it; otherwise it must exist and stays.
    credentials: registry host → (user, password) for pulls.
    keep: after a failure, leave namespace and release for inspection.
    offline_args: more for helm where it renders without the cluster.
    fail_fast: end on a crash loop or an unschedulable pod, which might heal.
    """

    chart: Path
    derived: Path
    has_crds: Callable[[], bool]
    replaced: tuple[tuple[str, str], ...]
    values: tuple[Path, ...]
    namespace: str
    release: str
    timeout: float
    missing: Callable[[set[str]], list[str]]
    bundle: Path
    owner: str
    build: str | None = None
    fresh: bool = True
    helm_args: tuple[str, ...] = ()
    offline_args: tuple[str, ...] = ()
    credentials: Mapping[str, tuple[str, str]] = {}
    keep: bool = False
    fail_fast: bool = False


class Case(NamedTuple):
    """One case of the JUnit report: the install or a test hook. failure: None when it passed."""

    name: str
    seconds: float
    failure: str | None = None


class TestOutcome(NamedTuple):
    """The result of a test run. cause: why it failed, None when it passed.

    renderings: comparisons of the tested and the derived chart, rendered on the server.
    platform: like linux/amd64. kubernetes: the kubelet's version. Both "" when not readable.
    """

    cases: tuple[Case, ...] = ()
    renderings: tuple[Rendering, ...] = ()
    ran: tuple[StartedContainer, ...] = ()
    platform: str = ""
    kubernetes: str = ""
    cause: Cause | None = None
    bundle: tuple[Path, ...] = ()


def run_test(helm: Helm, api: Api, test_run: TestRun) -> TestOutcome:
    """Run the test and clean up, also after errors (but see TestRun.keep).

    Raises Unreachable, AccessRefused or Temporary when the cluster cannot be used, Interrupted when
    this process is told to end.
    """
    # A process that was told to end must not create a namespace it has no time to remove.
    process.raise_if_stopping()
    keep_namespace = False
    if test_run.fresh:
        # Label for cleaning up: if this process is killed, nobody else removes the namespace.
        # Far beyond the timeout: `sweep` must never take the namespace of a test that still runs.
        life = round(2 * test_run.timeout + 3600)
        namespaces.create(
            api,
            test_run.namespace,
            owner=test_run.owner,
            chart=test_run.release,
            build=test_run.build,
            expires_after=life,
        )
    else:
        namespaces.require_existing(api, test_run.namespace)
    try:
        if test_run.fresh:
            namespaces.add_pull_secret(api, test_run.namespace, test_run.credentials)
        outcome = _install_and_test(_Session.begin(helm, api, test_run))
        # After the outcome is known: an error of the cluster leaves nothing worth keeping.
        keep_namespace = test_run.keep and outcome.cause is not None
        return outcome
    finally:
        if not keep_namespace:
            _clean_up(helm, api, test_run)


class _Session(NamedTuple):
    """A test while it runs, all of it within one deadline."""

    helm: Helm
    api: Api
    test_run: TestRun
    deadline: Deadline
    target: Target
    watcher: Watcher
    waiting: WaitMonitor
    charts: ChartPair

    @classmethod
    def begin(cls, helm: Helm, api: Api, test_run: TestRun) -> _Session:
        """The clock starts, and the watch of the namespace."""
        deadline = Deadline(test_run.timeout)
        watcher = Watcher(api, test_run.namespace, seconds=test_run.timeout)
        waiting = WaitMonitor(
            api,
            test_run.namespace,
            watcher,
            subject=f"{test_run.release} in {test_run.namespace}",
            fail_fast=test_run.fail_fast,
        )
        charts = ChartPair(
            test_run.chart,
            test_run.derived,
            test_run.replaced,
            test_run.values,
            test_run.helm_args,
            test_run.offline_args,
        )
        target = _target(api, test_run)
        return cls(helm, api, test_run, deadline, target, watcher, waiting, charts)


def _install_and_test(session: _Session) -> TestOutcome:
    helm, api, test_run, deadline, target, watcher, waiting, charts = session
    try:
        if test_run.has_crds():
            rendering.create_crds(helm, api, charts, deadline)
        before = rendering.compare_on_server(helm, "install", charts, target, deadline)
    except NotRendered as error:
        return _not_rendered(api, test_run, watcher, "install", error, ())
    # Before the install, as the install would cost minutes and could not make the chart releasable.
    if before.refused:
        watcher.stop()
        return _rendering_refused((), (before,))
    start = time.monotonic()
    installed = helm.install(
        test_run.chart,
        target,
        values=test_run.values,
        timeout=deadline.left() or 1.0,
        args=test_run.helm_args,
        give_up=waiting,
    )
    install = Case("install", time.monotonic() - start)
    if not installed.ok:
        return _failed(api, test_run, watcher, "install", installed, (install,))
    nothing = _nothing_to_test(installed)
    if nothing:
        return TestOutcome(
            (install, Case("test", 0.0, nothing)), cause=Cause("nothing to test", nothing)
        )
    return _test_installed(session, install, before)


def _test_installed(session: _Session, install: Case, before: Rendering) -> TestOutcome:
    """Run `helm test` and compare the renderings of an upgrade meanwhile.

    before: the comparison of the renderings of the install.
    """
    helm, api, test_run, deadline, target, watcher, waiting, charts = session
    # Beside `helm test`, which mostly waits for pods; helm's dry run of an upgrade changes nothing.
    with ThreadPoolExecutor(1) as pool:
        comparison = pool.submit(
            rendering.compare_on_server, helm, "upgrade", charts, target, deadline
        )
        tested = helm.test(target, timeout=deadline.left() or 1.0, give_up=waiting)
    try:
        upgrade = comparison.result()
    except NotRendered as error:
        return _not_rendered(api, test_run, watcher, "install", error, (install,))
    renderings = (before, upgrade)
    if upgrade.refused:
        watcher.stop()
        return _rendering_refused((install,), renderings)
    cases = (install, *_cases(tested.stdout.decode(errors="replace")))
    if not tested.ok:
        return _failed(api, test_run, watcher, "test", tested, cases)
    watcher.stop()
    return _check_images_ran(api, test_run, watcher, cases)._replace(renderings=renderings)


def _rendering_refused(cases: tuple[Case, ...], renderings: tuple[Rendering, ...]) -> TestOutcome:
    """The derived chart renders something that was not tested: it must not be released."""
    last = renderings[-1]
    listed = ", ".join(last.refused[:5]) + (
        f" and {len(last.refused) - 5} more" if len(last.refused) > 5 else ""
    )
    words = (
        f"as an {last.verb} on this cluster the chart that would be released renders otherwise "
        f"than the tested one: {listed}; {ADVICE}"
    )
    case = Case(f"render {last.verb}", 0.0, words)
    return TestOutcome((*cases, case), renderings, cause=Cause("rendering", words))


def _not_rendered(
    api: Api,
    test_run: TestRun,
    watcher: Watcher,
    phase: Phase,
    error: NotRendered,
    cases: tuple[Case, ...],
) -> TestOutcome:
    """Helm's dry run failed. The state of the cluster decides: its own trouble, or the chart's."""
    outcome = _failed(api, test_run, watcher, phase, error.dry_run, (*cases, Case("render", 0.0)))
    cause = outcome.cause
    if error.derived and cause and not cause.infrastructure:
        words = (
            "the chart that would be released cannot be rendered, the tested one can: "
            f"{cause.words}"
        )
        return outcome._replace(cause=Cause("rendering", words))
    return outcome


def _check_images_ran(
    api: Api, test_run: TestRun, watcher: Watcher, cases: tuple[Case, ...]
) -> TestOutcome:
    ran = watcher.ran
    platform, kubernetes = _node(api, watcher)
    missing_images = test_run.missing({container.digest for container in ran})
    if not missing_images:
        return TestOutcome(cases, (), ran, platform, kubernetes)
    seen = (
        ", ".join(sorted({f"{container.image} ({container.digest[:19]})" for container in ran}))
        or "nothing"
    )
    words = (
        f"of image {', '.join(missing_images)} what was built never ran; what ran: {seen}. Check "
        "the values keys that pipeline.yaml names for the image, and that this scenario uses it"
    )
    cause = Cause("image not run", words)
    return TestOutcome((*cases, Case("images", 0.0, words)), (), ran, platform, kubernetes, cause)


def _failed(
    api: Api,
    test_run: TestRun,
    watcher: Watcher,
    phase: Phase,
    completed: Completed,
    cases: tuple[Case, ...],
) -> TestOutcome:
    evidence = diagnosis.observe(
        api, test_run.namespace, watcher, phase=phase, helm_error=error_text(completed)
    )
    cause = diagnosis.find_cause(
        evidence, functools.partial(diagnosis.container_log, api, test_run.namespace, watcher)
    )
    bundle = diagnosis.write_bundle(
        api, test_run.namespace, watcher, evidence, cause, test_run.bundle
    )
    # helm may fail without a failed hook (a time-out): a report of passed cases only would hide it.
    if phase == "test" and not any(case.failure for case in cases):
        cases = (*cases, Case("test", 0.0, str(cause)))
    failed = [case for case in cases if case.failure] or [cases[-1]]
    shown = tuple(case._replace(failure=str(cause)) if case in failed else case for case in cases)
    return TestOutcome(shown, ran=watcher.ran, cause=cause, bundle=tuple(bundle))


def _nothing_to_test(installed: Completed) -> str | None:
    """Why this release has nothing to test, from the JSON of `helm install`; None when it has."""
    release: dict[str, Any] = json.loads(installed.stdout)
    hooks = release.get("hooks") or ()
    if not str(release.get("manifest") or "").strip() and not hooks:
        return "the chart renders nothing at all with these values"
    # test-success is the name that helm 2 used; helm still runs such hooks
    # (https://helm.sh/docs/topics/chart_tests/).
    if any(
        event in ("test", "test-success") for hook in hooks for event in hook.get("events") or ()
    ):
        return None
    return (
        "the chart has no test: add a pod or job with the annotation helm.sh/hook: test below "
        'templates/tests/, or say in pipeline.yaml why there is none (tests: {none: "…"})'
    )


def _cases(output: str) -> tuple[Case, ...]:
    """The test hooks in the output of `helm test`, with their duration in seconds.

    >>> _cases("TEST SUITE:     web-test\\nLast Started:   Sun Nov 22 17:00:00 2026\\n"
    ...        "Last Completed: Sun Nov 22 17:00:02 2026\\nPhase:          Failed\\n")
    (Case(name='web-test', seconds=2.0, failure='Failed'),)
    """
    # `helm test` has no JSON output: this is the text of its status printer.
    cases = []
    for block in re.split(r"(?m)^TEST SUITE:\s*", output)[1:]:
        name = block.split("\n", 1)[0].strip()
        fields = dict(re.findall(r"(?m)^(Last Started|Last Completed|Phase):\s*(.*?)\s*$", block))
        phase = fields.get("Phase", "")
        if name != "None" and phase:
            cases.append(Case(name, _duration(fields), None if phase == "Succeeded" else phase))
    return tuple(cases)


def _duration(fields: Mapping[str, str]) -> float:
    try:
        start, end = (
            # helm prints local times without a zone; only their difference is used.
            time.mktime(time.strptime(fields[f"Last {event}"]))
            for event in ("Started", "Completed")
        )
    except (KeyError, ValueError, OverflowError):
        return 0.0
    return max(0.0, end - start)


def _node(api: Api, watcher: Watcher) -> tuple[str, str]:
    """Platform and kubelet version of the node that ran the first pod."""
    name = next(
        (str(pod["spec"]["nodeName"]) for pod in watcher.pods if pod["spec"].get("nodeName")), ""
    )
    try:
        node = (api.ask(api.core.read_node, name) if name else None) or {}
    except PipelineError as error:
        log.debug("node %s: %s", name, error)
        return "", ""
    info = node.get("status", {}).get("nodeInfo", {})
    if not info:
        return "", ""
    return f"{info['operatingSystem']}/{info['architecture']}", str(
        info["kubeletVersion"]
    ).removeprefix("v")


def _clean_up(helm: Helm, api: Api, test_run: TestRun) -> None:
    """Remove release and namespace. A failure to remove is logged and is no failure of the test."""
    try:
        # There are four seconds left, and helm uninstall takes longer: one request, the rest is
        # `sweep`'s.
        if process.is_stopping():
            if test_run.fresh:
                namespaces.request_deletion(api, test_run.namespace)
            return
        # Only helm knows which resources the chart created outside the namespace.
        uninstalled = helm.uninstall(_target(api, test_run), timeout=UNINSTALL_SECONDS)
        if not uninstalled.ok:
            log.warning(
                "release %s is not removed cleanly: %s", test_run.release, error_text(uninstalled)
            )
        if test_run.fresh:
            namespaces.remove(api, test_run.namespace)
    except PipelineError as error:
        log.warning("namespace %s is left behind for sweep: %s", test_run.namespace, error)


def _target(api: Api, test_run: TestRun) -> Target:
    return Target(
        api.connection.kubeconfig, api.connection.context, test_run.namespace, test_run.release
    )
