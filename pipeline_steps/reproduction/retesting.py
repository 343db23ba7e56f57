"""Repeat a recorded test with the same snapshot and values, on the same or another cluster."""

from __future__ import annotations

import contextlib
import glob
import posixpath
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from pipeline_steps.building import packaging, snapshot_records
from pipeline_steps.config.language import Config
from pipeline_steps.reproduction import repacking
from pipeline_steps.reproduction.comparison import Outcome, differing_tools
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import FILE, FOLDER, State
from pipeline_steps.testing import scenario_runs, settings
from pipeline_steps.testing.scenario import Scenario, values_files
from pipeline_steps.testing.settings import Settings
from pipeline_steps.toolbox.errors import (
    ChartFailed,
    ConfigurationError,
    EvidenceError,
    PipelineError,
    UsageError,
)
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout

#: Folder below .pipeline for bundles and reports of repeated tests. Steps do not read it.
REPRODUCED = "reproduced"


def integration_test(
    record: Record,
    config: Config,
    records_by_id: Mapping[str, Record],
    *,
    cluster: str | None,
    keep: bool,
    timeout: float | None,
) -> Outcome:
    """Run the recorded scenario again; compare its result and the images that ran.

    Args:
        records_by_id: of the state.
        cluster: instead of the recorded one.
        keep: leave the namespace of a failed test in the cluster.
        timeout: seconds for the scenario.

    Raises:
        UsageError: there is nothing to run, or no cluster can be chosen.
        EvidenceError: the content or the snapshot is not available.
        MachineError, Temporary: the cluster cannot be used.
    """
    _refuse_untestable(record)
    tested = repacking.used_record(record, "snapshot", records_by_id)
    checkout = repacking.checkout_of_record(
        record, config, lambda checkout: _tested_content(record, checkout)
    )
    chart = checkout.chart(record.subject)
    test_settings = _settings(record, checkout, chart, timeout)
    scenario = _scenario(record, config, chart, test_settings, cluster)
    # A state of its own: a repeated test must never count as evidence for a release.
    state = State(config.root / FOLDER / REPRODUCED / record.id.removeprefix("sha256:")[:12] / FILE)
    snapshot, tgz = snapshot_records.snapshot_of_record(tested), _tested_archive(tested, checkout)
    with (
        scenario_runs.prepare(
            checkout, chart, test_settings, snapshot, state, {scenario.cluster}, tgz
        ) as setup,
        contextlib.suppress(ChartFailed),  # the failure is recorded; the records are compared
    ):
        scenario_runs.run(setup._replace(keep=keep), scenario)
    again = state.added[-1]
    outcome = compare_runs(record, again)
    if again.result == "failed":
        lines = kubectl_lines(state, config, scenario.cluster) if keep else []
        where = state.folder / "failures"
        outcome = outcome._replace(
            notes=(*outcome.notes, f"here: {again.reason}", f"what was collected: {where}", *lines)
        )
    return outcome


def compare_runs(record: Record, again: Record) -> Outcome:
    """Compare two runs of a scenario: results, reasons of failures, and images that ran."""
    tools = differing_tools(record.tools, again.tools)
    notes = (f"versions: {tools}",) if tools else ()
    if record.result != again.result:
        cause = (
            f"tool version: {tools}"
            if tools
            else "not the content: the cluster, the time, or chance"
        )
        reason = (again if again.result == "failed" else record).reason or ""
        difference = (
            f"recorded {record.result}, here {again.result} ({_first_line(reason)}); likely "
            f"cause: {cause}"
        )
        return Outcome((), (difference,), notes)
    if record.result == "failed":
        return _compare_failures(record, again, notes)
    return _compare_images_run(record, again, notes)


def _compare_failures(record: Record, again: Record, notes: tuple[str, ...]) -> Outcome:
    old, new = failure_kind(record.reason or ""), failure_kind(again.reason or "")
    if old == new:
        return Outcome((f"fails as recorded: {old}",), (), notes)
    difference = (
        f"fails otherwise: recorded {_first_line(record.reason)}, here {_first_line(again.reason)}"
    )
    return Outcome((), (difference,), notes)


def _compare_images_run(record: Record, again: Record, notes: tuple[str, ...]) -> Outcome:
    """Compare two runs that passed."""
    images_run = [
        {k: v for k, v in test.outputs.items() if k.startswith("ran.")} for test in (record, again)
    ]
    differences = [
        f"{name}: recorded {images_run[0].get(name, 'nothing')}, here "
        f"{images_run[1].get(name, 'nothing')}; likely cause: unpinned input: an image without "
        "digest"
        for name in sorted(images_run[0].keys() | images_run[1].keys())
        if images_run[0].get(name) != images_run[1].get(name)
    ]
    if differences:
        return Outcome((), tuple(differences), notes)
    return Outcome(
        (
            "passes as recorded",
            *(f"{name} {value}" for name, value in sorted(images_run[1].items())),
        ),
        (),
        notes,
    )


def failure_kind(reason: str) -> str:
    """The kind of failure in a recorded reason: the words after "on CLUSTER:".

    >>> failure_kind("hello install-default on k131: image not run: of image web nothing ran")
    'image not run'
    """
    match = re.match(r"\S+ \S+ on [^:]+: ([^:]+)", reason)
    return match[1] if match else _first_line(reason)


def kubectl_lines(state: State, config: Config, cluster: str) -> list[str]:
    """kubectl commands that inspect the kept namespace, and one that removes it."""
    places = [record.outputs["namespace"] for record in state.added if record.result == "started"]
    namespace = places[-1].partition("/")[2]
    entry = config.clusters[cluster]
    file = config.root / Path(entry.kubeconfig).expanduser()
    context = f" --context {shlex.quote(entry.context)}" if entry.context else ""
    call = f"kubectl --kubeconfig {shlex.quote(str(file))}{context}"
    return [
        f"namespace {namespace} is kept on {cluster}:",
        f"{call} -n {namespace} get pods,jobs,events",
        f"{call} -n {namespace} describe pods",
        # kubectl logs needs a pod or a selector; this selector matches every pod.
        f"{call} -n {namespace} logs --all-containers --prefix --tail 100 --selector "
        "'!no-such-label'",
        f"{call} delete namespace {namespace}",
    ]


def _refuse_untestable(record: Record) -> None:
    if record.parameters.get("scenario") == settings.NO_TEST.kind:
        raise UsageError(
            f"the record is of a chart without a test ({record.parameters.get('none')}): there is "
            "nothing to run again",
            advice="name the record of a test on a cluster",
        )
    if record.result not in ("passed", "failed"):
        raise UsageError(
            f"this test {record.result} and says nothing about the chart: "
            f"{record.reason or 'no reason given'}",
            advice="name a passed or failed one; state show lists them",
        )


def _tested_content(record: Record, checkout: Checkout) -> str | None:
    """The chart's content in a checkout.

    Raises ConfigurationError when a values file is not the one that was tested with.
    """
    content = checkout.chart_content_if_readable(record.subject)
    if content is None:
        return None
    values = str(record.parameters.get("values") or "")
    tested = dict(record.parameters.get("helm_values", {}))
    # Records of FORMAT 1 hold the file by their content.
    if values and record.parameters.get("values_digest"):
        path = posixpath.join(checkout.chart(record.subject).path, values)
        tested[path] = record.parameters["values_digest"]
    for path, recorded in tested.items():
        if path not in checkout.tree.entries() or checkout.tree.digests([path])[path] != recorded:
            raise ConfigurationError(
                "this is not the values file that was tested with",
                where=path,
                advice="check out the revision that was tested",
            )
    return content


def _settings(record: Record, checkout: Checkout, chart: Chart, timeout: float | None) -> Settings:
    """The chart's test settings at the revision, overridden by those in the record."""
    test_settings = settings.settings(checkout, chart, timeout=timeout)._replace(
        none=None,
        namespace=str(record.parameters["namespace"]),
        helm_args=tuple(map(str, record.parameters.get("helm_args", ()))),
    )
    values = str(record.parameters.get("values", ""))
    if values and values not in values_files(
        settings.chart_files(checkout, chart), test_settings.values
    ):
        # The pattern may be another by now; the file that was tested with must be found all the
        # same.
        test_settings = test_settings._replace(values=glob.escape(values))
    return test_settings


def _scenario(
    record: Record, config: Config, chart: Chart, test_settings: Settings, cluster: str | None
) -> Scenario:
    recorded = str(record.parameters["cluster"])
    requested = cluster or (recorded if recorded in config.clusters else None)
    names = settings.cluster_names(config, chart, test_settings, requested)
    if len(names) > 1:
        available = ", ".join(names)
        raise UsageError(
            f"the recorded cluster {recorded} is not configured",
            advice=f"name one with --cluster: {available}",
        )
    return Scenario(
        kind=str(record.parameters["scenario"]),
        values=str(record.parameters.get("values", "")),
        cluster=names[0],
        values_digest=str(record.parameters.get("values_digest", "")),
        argument_digests=tuple(sorted(record.parameters.get("helm_values", {}).items())),
    )


def _tested_archive(tested: Record, checkout: Checkout) -> bytes:
    """The tested snapshot's archive: the published one, else packaged again with equal tar."""
    try:
        return repacking.fetch_published(tested, checkout.config)
    except PipelineError as error:
        chart = checkout.chart(tested.subject)
        archive = repacking.repack_snapshot(
            tested, checkout, chart, packaging.package_files(checkout, chart)
        )
        if archive.tar_digest != tested.outputs.get("tar"):
            raise EvidenceError(
                f"the tested snapshot cannot be fetched, packed again its tar differs: {error}",
                where=tested.id[:19],
                advice="restore it in the snapshot channel",
            ) from error
        return archive.tgz


def _first_line(text: str | None) -> str:
    return (text or "no reason").partition("\n")[0]
