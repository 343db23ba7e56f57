"""One scenario carried out: namespace, install, `helm test`, what ran, diagnosis when it failed,
clean-up always.

    observed = carry_out(helm, api, trial)       # observed.cause is None: it passed

Nothing here decides whether to repeat, and nothing is recorded: that is the step's.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline_steps.charts.compare import ADVICE
from pipeline_steps.clusters import diagnosis, namespaces
from pipeline_steps.clusters.cause import Cause, Phase
from pipeline_steps.clusters.helm import Helm, Target, said
from pipeline_steps.clusters.kubernetes import Api
from pipeline_steps.clusters.watch import Ran, Watcher
from pipeline_steps.testing import rendering
from pipeline_steps.testing.rendering import Charts, NotRendered, Rendering
from pipeline_steps.toolbox import process
from pipeline_steps.toolbox.clock import Deadline
from pipeline_steps.toolbox.errors import PipelineError
from pipeline_steps.toolbox.process import Completed

log = logging.getLogger(__name__)

UNINSTALL_SECONDS = 60.0


class Trial(NamedTuple):
    """What to install where, and how long all of it may take (seconds).

    chart: .tgz, and derived: the one that promote would make of it, with texts before and after
    that are replaced in it. fresh: the namespace is made and removed, else it is there and stays.
    missing: given the digests that ran, the names of images that should have and did not. bundle:
    folder for a failure's files. owner, build: who is told as the namespace's owner. credentials:
    registry host → (user, password) for pulls. keep: when it fails, leave everything for somebody
    to look at.
    """

    chart: Path
    derived: Path
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
    credentials: Mapping[str, tuple[str, str]] = {}
    keep: bool = False


class Case(NamedTuple):
    """One line of the test report: the install or a test hook. failure: None when it passed."""

    name: str
    seconds: float
    failure: str | None = None


class Observed(NamedTuple):
    """What came of a trial. renderings: on the server, as tested and as it would be released.

    platform: like linux/amd64, kubernetes: the kubelet's version; "" when not visible.
    """

    cases: tuple[Case, ...] = ()
    renderings: tuple[Rendering, ...] = ()
    ran: tuple[Ran, ...] = ()
    platform: str = ""
    kubernetes: str = ""
    cause: Cause | None = None
    bundle: tuple[Path, ...] = ()


def carry_out(helm: Helm, api: Api, trial: Trial) -> Observed:
    """Run the trial and clean up after it, whatever happens (but see Trial.keep).

    Raises Unreachable, AccessRefused, Temporary when the cluster cannot be used; Interrupted when
    we must end.
    """
    process.raise_if_stopping()
    kept = False
    if trial.fresh:
        life = round(2 * trial.timeout + 3600)
        namespaces.create(
            api,
            trial.namespace,
            owner=trial.owner,
            chart=trial.release,
            build=trial.build,
            expires_after=life,
        )
    else:
        namespaces.require(api, trial.namespace)
    try:
        if trial.fresh:
            namespaces.add_pull_secret(api, trial.namespace, trial.credentials)
        observed = _observed(helm, api, trial)
        kept = trial.keep and observed.cause is not None
        return observed
    finally:
        if not kept:
            _clean_up(helm, api, trial)


def _observed(helm: Helm, api: Api, trial: Trial) -> Observed:
    deadline = Deadline(trial.timeout)
    target = _target(api, trial)
    watcher = Watcher(api, trial.namespace, seconds=trial.timeout)
    charts = Charts(trial.chart, trial.derived, trial.replaced, trial.values, trial.helm_args)
    try:
        rendering.create_definitions(helm, api, charts, deadline)
        before = rendering.compared(helm, "install", charts, target, deadline)
    except NotRendered as error:
        return _not_rendered(api, trial, watcher, "install", error, ())
    if before.refused:
        watcher.stop()
        return _renders_otherwise((), (before,))
    start = time.monotonic()
    installed = helm.install(
        trial.chart,
        target,
        values=trial.values,
        timeout=deadline.left() or 1.0,
        args=trial.helm_args,
    )
    install = Case("install", time.monotonic() - start)
    if not installed.ok:
        return _failed(api, trial, watcher, "install", installed, (install,))
    nothing = _nothing_to_test(installed)
    if nothing:
        return Observed(
            (install, Case("test", 0.0, nothing)), cause=Cause("nothing to test", nothing)
        )
    try:
        upgrade = rendering.compared(helm, "upgrade", charts, target, deadline)
    except NotRendered as error:
        return _not_rendered(api, trial, watcher, "install", error, (install,))
    renderings = (before, upgrade)
    if upgrade.refused:
        watcher.stop()
        return _renders_otherwise((install,), renderings)
    tested = helm.test(target, timeout=deadline.left() or 1.0)
    cases = (install, *_cases(tested.stdout.decode(errors="replace")))
    if not tested.ok:
        return _failed(api, trial, watcher, "test", tested, cases)
    watcher.stop()
    return _what_ran(api, trial, watcher, cases)._replace(renderings=renderings)


def _renders_otherwise(cases: tuple[Case, ...], renderings: tuple[Rendering, ...]) -> Observed:
    """The chart must not be released: nobody tested what it would render then."""
    last = renderings[-1]
    listed = ", ".join(last.refused[:5]) + (
        f" and {len(last.refused) - 5} more" if len(last.refused) > 5 else ""
    )
    words = (
        f"as an {last.verb} on this cluster the chart that would be released renders otherwise than the tested one: "
        f"{listed}; {ADVICE}"
    )
    case = Case(f"render {last.verb}", 0.0, words)
    return Observed((*cases, case), renderings, cause=Cause("rendering", words))


def _not_rendered(
    api: Api,
    trial: Trial,
    watcher: Watcher,
    phase: Phase,
    error: NotRendered,
    cases: tuple[Case, ...],
) -> Observed:
    """Helm's dry run failed, by what the cluster shows the reason is the cluster's, or the chart's."""
    observed = _failed(api, trial, watcher, phase, error.done, (*cases, Case("render", 0.0)))
    cause = observed.cause
    if error.derived and cause and not cause.infrastructure:
        words = f"the chart that would be released cannot be rendered, the tested one can: {cause.words}"
        return observed._replace(cause=Cause("rendering", words))
    return observed


def _what_ran(api: Api, trial: Trial, watcher: Watcher, cases: tuple[Case, ...]) -> Observed:
    ran = watcher.ran
    platform, kubernetes = _node(api, watcher)
    absent = trial.missing({each.digest for each in ran})
    if not absent:
        return Observed(cases, (), ran, platform, kubernetes)
    seen = ", ".join(sorted({f"{each.image} ({each.digest[:19]})" for each in ran})) or "nothing"
    words = (
        f"of image {', '.join(absent)} what was built never ran; what ran: {seen}. Check the values keys that "
        "pipeline.yaml names for the image, and that this scenario uses it"
    )
    cause = Cause("image not run", words)
    return Observed((*cases, Case("images", 0.0, words)), (), ran, platform, kubernetes, cause)


def _failed(
    api: Api, trial: Trial, watcher: Watcher, phase: Phase, done: Completed, cases: tuple[Case, ...]
) -> Observed:
    seen = diagnosis.look(api, trial.namespace, watcher, phase=phase, said=said(done))
    cause = diagnosis.judge(
        seen, functools.partial(diagnosis.log_of, api, trial.namespace, watcher)
    )
    bundle = diagnosis.collect(api, trial.namespace, watcher, seen, cause, trial.bundle)
    if phase == "test" and not any(case.failure for case in cases):
        cases = (*cases, Case("test", 0.0, str(cause)))
    failed = [case for case in cases if case.failure] or [cases[-1]]
    shown = tuple(case._replace(failure=str(cause)) if case in failed else case for case in cases)
    return Observed(shown, ran=watcher.ran, cause=cause, bundle=tuple(bundle))


def _nothing_to_test(installed: Completed) -> str | None:
    """Why this release cannot be tested, from helm's JSON of it; None when it has tests."""
    release: dict[str, Any] = json.loads(installed.stdout)
    hooks = release.get("hooks") or ()
    if not str(release.get("manifest") or "").strip() and not hooks:
        return "the chart renders nothing at all with these values"
    if any(
        event in ("test", "test-success") for hook in hooks for event in hook.get("events") or ()
    ):
        return None
    return (
        "the chart has no test: add a pod or job with the annotation helm.sh/hook: test below templates/tests/, "
        'or say in pipeline.yaml why there is none (tests: {none: "…"})'
    )


def _cases(output: str) -> tuple[Case, ...]:
    """The test hooks in the output of `helm test` with their seconds.

    >>> _cases("TEST SUITE:     web-test\\nLast Started:   Sun Nov 22 17:00:00 2026\\n"
    ...        "Last Completed: Sun Nov 22 17:00:02 2026\\nPhase:          Failed\\n")
    (Case(name='web-test', seconds=2.0, failure='Failed'),)
    """
    cases = []
    for block in re.split(r"(?m)^TEST SUITE:\s*", output)[1:]:
        name = block.split("\n", 1)[0].strip()
        said_of = dict(re.findall(r"(?m)^(Last Started|Last Completed|Phase):\s*(.*?)\s*$", block))
        phase = said_of.get("Phase", "")
        if name != "None" and phase:
            cases.append(Case(name, _between(said_of), None if phase == "Succeeded" else phase))
    return tuple(cases)


def _between(said_of: Mapping[str, str]) -> float:
    try:
        start, end = (
            time.mktime(time.strptime(said_of[f"Last {each}"])) for each in ("Started", "Completed")
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


def _clean_up(helm: Helm, api: Api, trial: Trial) -> None:
    """Remove what the trial made; what cannot be removed is told, never an outcome of the test."""
    try:
        if process.is_stopping():
            if trial.fresh:
                namespaces.abandon(api, trial.namespace)
            return
        # What a chart makes outside its namespace only helm knows.
        done = helm.uninstall(_target(api, trial), timeout=UNINSTALL_SECONDS)
        if not done.ok:
            log.warning("release %s is not removed cleanly: %s", trial.release, said(done))
        if trial.fresh:
            namespaces.remove(api, trial.namespace)
    except PipelineError as error:
        log.warning("namespace %s is left behind for sweep: %s", trial.namespace, error)


def _target(api: Api, trial: Trial) -> Target:
    return Target(api.connection.kubeconfig, api.connection.context, trial.namespace, trial.release)
