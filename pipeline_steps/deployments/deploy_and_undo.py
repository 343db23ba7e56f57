"""One change of a release with its record: deploy, undo, and what either would do.

What happens in the cluster is in `rollout`.
"""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline_steps.clusters.helm import Helm
from pipeline_steps.config.language import Config
from pipeline_steps.deployments import changes, package, place, revision_secrets, revisions, rollout
from pipeline_steps.deployments.package import Package
from pipeline_steps.deployments.place import Place
from pipeline_steps.deployments.revisions import DeployNotes, Revision
from pipeline_steps.deployments.rollout import Rollout
from pipeline_steps.state.attempt import Attempt, record_attempt
from pipeline_steps.state.origin import origin
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.toolbox import clock, scratch
from pipeline_steps.toolbox.errors import UsageError
from pipeline_steps.toolbox.redact import redact

STEP = "deploy"
FORMAT = 1

log = logging.getLogger("pipeline_steps.deploy")


class Change:
    """A deployment with what it is changed by. Raises the errors of cluster and helm."""

    def __init__(self, config: Config, state: State, where: Place, seconds: float) -> None:
        self.config, self.state, self.where, self.seconds = config, state, where, seconds
        self.api = place.connect(where)
        place.require_namespace(self.api, where)
        # helm dies with this process: it must not write after the next deployer has mended the
        # release.
        self.helm = Helm.find(tied=True)
        # Random, so that two deploys of one account at the same second differ.
        self.id = secrets.token_hex(8)
        self.by = f"{origin()['actor'] or 'unknown'}@{socket.gethostname()}"

    def parameters(self) -> dict[str, object]:
        """Of the record."""
        return {
            "deployment": self.where.name,
            "cluster": self.where.cluster,
            "namespace": self.where.target.namespace,
            "release": self.where.target.release,
            "deploy": self.id,
        }

    def key(self, content: str | None, consumed: Mapping[str, str]) -> str:
        parameters = {"deployment": self.where.name, "place": str(self.where)}
        return make_key(STEP, FORMAT, parameters=parameters, content=content, consumed=consumed)

    def rollout(self) -> AbstractContextManager[Rollout]:
        """The release with its lease held."""
        identity = f"{self.by}/{self.id}"
        return rollout.open_rollout(self.where, self.helm, self.api, identity, self.seconds)

    @property
    def bundle(self) -> Path:
        """The folder for the files that explain a failure."""
        return self.state.folder / "failures" / f"deploy-{self.where.name}-{self.id[:8]}"


def put(change: Change, new: Package, *, again: bool) -> Record:
    with record_attempt(
        change.state,
        step=STEP,
        subject=new.archive.name,
        key=change.key(new.content, new.inputs),
        content=new.content,
        revision=new.revision,
        parameters={
            **change.parameters(),
            "version": new.archive.version,
            "modified": list(new.modified),
        },
        inputs=new.inputs,
        uses=new.uses,
        tools={"helm": change.helm.version},
    ) as attempt:
        # Recorded before the cluster is touched, like every step that writes outside.
        attempt.begin({"release": str(change.where), "tar": new.archive.tar_digest})
        with change.rollout() as held:
            current = held.mend()
            # Under the lease: before it another deploy could still change what runs.
            same = revisions.find_unchanged(current, new.archive.tar_digest, new.inputs)
            if same and not again:
                log.info("%s: %s runs already", change.where, same)
                outcome = rollout.Outcome(same)
            else:
                outcome = held.put(new, _notes(change, new), current, change.bundle)
        return _ended(attempt, change, outcome, {"tar": new.archive.tar_digest})


def _notes(change: Change, new: Package) -> DeployNotes:
    return DeployNotes(
        id=change.id,
        deployment=change.where.name,
        by=change.by,
        started=clock.now(),
        chart=new.archive.name,
        version=new.archive.version,
        tar=new.archive.tar_digest,
        source=new.source,
        content=new.content or "",
        revision=new.revision or "",
        modified=new.modified,
        diff=new.diff,
        images=dict(new.images),
        inputs=dict(new.inputs),
        build=redact((origin()["ci"] or {}).get("url") or ""),
    )


def undo(change: Change) -> Record:
    target = _require_previous(change, revision_secrets.read(change.api, change.where.target))
    notes = target.notes
    with record_attempt(
        change.state,
        step=STEP,
        subject=target.release.chart,
        key=change.key(notes.content or None if notes else None, {}),
        content=(notes.content if notes else "") or None,
        revision=(notes.revision if notes else "") or None,
        parameters={**change.parameters(), "undo": True, "version": target.release.version},
        tools={"helm": change.helm.version},
    ) as attempt:
        attempt.begin({"release": str(change.where)})
        with change.rollout() as held:
            target = _require_previous(change, held.mend())
            outcome = held.back(target, change.bundle)
        return _ended(attempt, change, outcome, {"tar": notes.tar} if notes else {})


def _require_previous(change: Change, current: Sequence[Revision]) -> Revision:
    previous = revisions.previous_good(current)
    if previous is None:
        raise UsageError(
            "there is no good revision before what runs",
            where=str(change.where),
            advice="helm history shows what there is; helm uninstall removes it",
        )
    return previous


def _ended(
    attempt: Attempt, change: Change, outcome: rollout.Outcome, outputs: dict[str, str]
) -> Record:
    for file in outcome.bundle:
        attempt.attach(file)
    if outcome.revision:
        attempt.outputs["release"] = f"{change.where}:{outcome.revision.number}"
    if outcome.cause:
        bundle = Path(change.state.folder.name) / change.bundle.relative_to(change.state.folder)
        raise rollout.failure(outcome, change.where, f"see {bundle}")
    return attempt.passed(outputs)


def plan(change: Change, new: Package) -> tuple[Record, ...]:
    current = revision_secrets.read(change.api, change.where.target)
    running = revisions.running(current)
    log.info("%s: would deploy %s (%s)", change.where, new, new.source)
    log.info("it replaces %s", running or "nothing")
    if new.diff:
        log.info("local modifications:\n%s", new.diff)
    if rollout.is_busy(current):
        log.info("it is %s, which would be mended first", current[-1].release.status)
        return ()
    with scratch.folder("deploy") as folder:
        chart, values = package.write(new, folder)
        found = changes.changes(
            change.helm,
            chart,
            change.where.target,
            values,
            running and running.release,
            names=(
                f"{running.release.chart}-{running.release.version}" if running else "",
                f"{new.archive.name}-{new.archive.version}",
            ),
            timeout=change.seconds,
        )
    log.info("%s", changes.text(found))
    return ()


def plan_undo(change: Change) -> tuple[Record, ...]:
    current = revision_secrets.read(change.api, change.where.target)
    previous = _require_previous(change, current)
    log.info("%s: would go back from %s to %s", change.where, revisions.running(current), previous)
    return ()
