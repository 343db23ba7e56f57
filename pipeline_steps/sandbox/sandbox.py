"""Up, down and status of the sandbox; each service has a file of its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from pipeline_steps.images import docker
from pipeline_steps.sandbox import cluster, ledger, processes
from pipeline_steps.sandbox.ledger import ClusterRecord, Ledger
from pipeline_steps.toolbox import daemon, files
from pipeline_steps.toolbox.errors import MachineError, PipelineError, UsageError

log = logging.getLogger(__name__)
#: The configuration overlay that points a pipeline at the sandbox.
OVERLAY = "overlay.yaml"
#: The folder of the evidence store, below the sandbox's.
EVIDENCE = "evidence"
#: What the overlay calls the sandbox's cluster.
CLUSTER = "sandbox"


class UpRequest(NamedTuple):
    """The options of `up`.

    maker: kind, k3d, minikube, none, or None for the current one. pull_from: this machine's address
    for the cluster's nodes, when that is not 127.0.0.1.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    maker: str | None = None
    pull_from: str | None = None


class StatusLine(NamedTuple):
    """One service in the output of `status`."""

    name: str
    alive: bool
    detail: str


def default_folder() -> Path:
    """The sandbox's folder: from the environment, as for --folder, or below XDG_STATE_HOME."""
    if folder := os.environ.get("PIPELINE_STEPS_FOLDER"):
        return Path(folder)
    try:
        base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    except RuntimeError as error:  # no entry for this uid in the user database either
        raise MachineError(
            "this account has no home", advice="set HOME, XDG_STATE_HOME or PIPELINE_STEPS_FOLDER"
        ) from error
    return Path(base) / "pipeline-steps" / "sandbox"


def overlay(folder: Path | None = None) -> Path | None:
    """The overlay of the running sandbox, None when its registry does not answer."""
    folder = folder or default_folder()
    state = ledger.read(folder)
    live = processes.REGISTRY in state.ports and processes.is_answering(state, processes.REGISTRY)
    return folder / OVERLAY if live and (folder / OVERLAY).is_file() else None


def up(folder: Path, request: UpRequest) -> Path:
    """Start what is missing and return the overlay; running services are left alone.

    Raises UsageError, and MachineError for the engine, the registry program or the cluster.
    """
    folder = folder.expanduser().absolute()
    log.info("docker engine: %s", docker.engine_version())
    with ledger.exclusive_lock(folder):
        _refuse_foreign(files.folder(folder))
        state = ledger.write(folder, processes.choose_ports(ledger.read(folder)))
        for name in ("registry", "charts", EVIDENCE):
            files.folder(folder / name)
        state = processes.start_registry(folder, state)
        state = processes.start_web(folder, state)
        state = _with_cluster(folder, state, request)
        state = processes.start_node_registry(folder, state)
        files.write(folder / OVERLAY, _overlay_text(folder, state).encode())
    return folder / OVERLAY


def down(folder: Path) -> None:
    """End and remove everything that `up` started, also by a killed run. Nothing else is
    touched.
    """
    folder = folder.expanduser().absolute()
    if not folder.exists():
        log.info("no sandbox in %s", folder)
        return
    with ledger.exclusive_lock(folder):
        if not folder.exists():  # another `down` was waited for
            log.info("no sandbox in %s", folder)
            return
        _refuse_foreign(folder)
        state = ledger.read(folder)
        cluster_record = state.cluster
        if cluster_record is not None and _made_by_sandbox(cluster_record):
            cluster.MAKERS[cluster_record.kind].down(
                cluster_record.name, Path(cluster_record.kubeconfig)
            )
        for name in (processes.NODE_REGISTRY, processes.REGISTRY, processes.WEB):
            state = processes.end(folder, state, name)
        # Last: a `down` that is killed earlier can be repeated.
        shutil.rmtree(folder)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()
    log.info("sandbox: down, %s removed", folder)


def status(folder: Path) -> list[StatusLine]:
    """The state of each service; empty when there is no sandbox."""
    state = ledger.read(folder)
    lines = []
    for name, started in state.daemons.items():
        host, port = processes.address(state, name)
        lives = daemon.alive(started) and processes.is_answering(state, name)
        lines.append(StatusLine(name, lives, f"{host}:{port}, pid {started.pid}"))
    cluster_record = state.cluster
    if cluster_record is not None:
        try:
            version = cluster.version(Path(cluster_record.kubeconfig), cluster_record.context)
            lines.append(
                StatusLine(
                    "cluster",
                    True,
                    f"Kubernetes {version}, {cluster_record.kind}, {cluster_record.kubeconfig}",
                )
            )
        except PipelineError as error:
            lines.append(StatusLine("cluster", False, f"{cluster_record.kind}: {error}"))
    if lines:
        lines.append(StatusLine("overlay", (folder / OVERLAY).is_file(), str(folder / OVERLAY)))
    return lines


def _with_cluster(folder: Path, state: Ledger, request: UpRequest) -> Ledger:
    """Ensure that there is a cluster. One that we create is recorded before, so that `down` finds
    it.
    """
    former = state.cluster
    if request.kubeconfig is not None or request.maker == "none":
        if former is not None and _made_by_sandbox(former):
            raise _other_cluster_error(former)
        cluster_record = request.kubeconfig and cluster.existing_cluster(
            request.kubeconfig, request.context, request.pull_from or ""
        )
        return ledger.write(folder, replace(state, cluster=cluster_record))
    if former is not None and not _made_by_sandbox(former) and request.maker is None:
        pull_from = request.pull_from or former.pull_from
        cluster_record = cluster.existing_cluster(
            Path(former.kubeconfig), request.context or former.context, pull_from
        )
        return ledger.write(folder, replace(state, cluster=cluster_record))
    chosen = cluster.choose_maker(request.maker, former)
    if former is not None and _made_by_sandbox(former) and former.kind != chosen:
        raise _other_cluster_error(former)
    name = former.name if former is not None else _cluster_name(folder)
    cluster_record = ClusterRecord(chosen, name, str(folder / "kubeconfig"))
    state = ledger.write(folder, replace(state, cluster=cluster_record))
    registry = f"{processes.LOOPBACK}:{state.ports[processes.REGISTRY]}"
    address = cluster.MAKERS[chosen].up(
        cluster_record.name, Path(cluster_record.kubeconfig), registry
    )
    return ledger.write(
        folder,
        replace(state, cluster=replace(cluster_record, pull_from=request.pull_from or address)),
    )


def _cluster_name(folder: Path) -> str:
    """Another for every folder: `down` of one sandbox never removes the cluster of another."""
    if folder == default_folder():
        return cluster.NAME
    return f"{cluster.NAME}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]}"


def _made_by_sandbox(record: ClusterRecord) -> bool:
    return record.kind != "kubeconfig"


def _other_cluster_error(former: ClusterRecord) -> UsageError:
    return UsageError(
        f"the sandbox has a {former.kind} cluster of its own",
        advice="pipeline-steps sandbox down ends it",
    )


def _refuse_foreign(folder: Path) -> None:
    """Refuse to fill or remove a folder that is not a sandbox: --folder may be mistyped. Raises
    UsageError.
    """
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    if ledger.FILE not in names and any(not name.startswith(files.TEMPORARY) for name in names):
        raise UsageError(
            f"{folder} is not empty and has no {ledger.FILE}: it is not the folder of a sandbox",
            advice="give another --folder",
        )


def _overlay_settings(folder: Path, state: Ledger) -> dict[str, Any]:
    """The overlay as plain values."""
    host = f"127.0.0.1:{state.ports['registry']}"
    cluster_record = state.cluster
    entry: dict[str, Any] = {"plain_http": True}
    # kind, k3d and minikube nodes pull under our own name, from the mirror they were told; others
    # by another name.
    if (
        cluster_record is not None
        and cluster_record.kind == "kubeconfig"
        and cluster_record.pull_from
    ):
        entry["pull_as"] = f"{cluster_record.pull_from}:{state.ports['registry']}"
    evidence = (folder / EVIDENCE).as_uri()
    settings: dict[str, Any] = {
        "channels": {
            "snapshot": {"images": f"{host}/snapshot", "charts": f"oci://{host}/snapshot-charts"},
            "production": {
                "images": f"{host}/production",
                "charts": [f"oci://{host}/charts", (folder / "charts").as_uri()],
                "evidence": [
                    evidence
                ],  # a release into the sandbox rests on what was done with the sandbox
            },
        },
        "evidence": evidence,
        "hosts": {host: entry},
    }
    if cluster_record is not None:
        cluster_entry = {
            "kubeconfig": cluster_record.kubeconfig,
            **({"context": cluster_record.context} if cluster_record.context else {}),
        }
        settings["clusters"] = {CLUSTER: cluster_entry}
    return settings


def _overlay_text(folder: Path, state: Ledger) -> str:
    """The overlay as YAML (JSON is a subset), with comments for people."""
    web = f"http://127.0.0.1:{state.ports['web']}/"
    return (
        "# Written by `pipeline-steps sandbox up`; give it to any step with --config, after your "
        "pipeline.yaml.\n"
        f"# The folder repository of channels.production is served at {web}\n"
        f"{json.dumps(_overlay_settings(folder, state), indent=2)}\n"
    )
