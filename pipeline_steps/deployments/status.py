"""Who deployed what, when and from which revision, asked of the clusters themselves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline_steps.clusters import lease
from pipeline_steps.config.language import Config
from pipeline_steps.deployments import place, revision_secrets
from pipeline_steps.deployments.deploy_and_undo import FORMAT, STEP
from pipeline_steps.deployments.revisions import Revision
from pipeline_steps.reporting.rendering import utc
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import MachineError, PipelineError

Row = dict[str, str]

log = logging.getLogger("pipeline_steps.deploy")


def rows_of(config: Config, names: Sequence[str], cluster: str | None) -> list[Row]:
    """A row for each deployment, in their order; "error" of those whose cluster does not answer.

    cluster: the name in `clusters` of another cluster than the configured one.
    """

    def row(name: str) -> Row:
        try:
            return _row(place.find(config, name, cluster))
        except PipelineError as error:
            return {"deployment": name, "error": str(error), "code": str(error.exit_code)}

    # All at once: each may wait for another cluster.
    with ThreadPoolExecutor(min(16, len(names) or 1)) as pool:
        return list(pool.map(row, names))


def _row(where: place.Place) -> Row:
    api = place.connect(where)
    revisions = revision_secrets.read(api, where.target)
    holder = lease.holder(api, where.target.namespace, where.lease)
    row = {"deployment": where.name, "release": str(where), **_of_revisions(revisions)}
    if holder:
        row["at work"] = f"{holder.identity} since {utc(holder.since)}"
    return row


def _of_revisions(revisions: Sequence[Revision]) -> Row:
    if not revisions:
        return {"status": "not deployed"}
    last = revisions[-1]
    notes, release = last.notes, last.release
    row = {
        "status": release.status,
        "helm revision": str(last.number),
        "chart": f"{release.chart} {release.version}",
        "when": utc(f"{release.updated[:19]}Z"),
        "by": notes.by if notes else "by hand: not with pipeline-steps",
    }
    if last.origin != last.number:
        row["rolled back to"] = str(last.origin)
    if notes is None:
        return row
    row |= {
        "source": notes.source,
        "content": notes.content,
        "modified": ", ".join(notes.modified),
        "build": notes.build,
        "result": f"{notes.result} {notes.reason}".strip(),
    }
    return {name: value for name, value in row.items() if value}


def text(row: Row) -> str:
    """A row for people: the deployment, and below it what is known of it.

    >>> print(text({"deployment": "web-a", "status": "not deployed"}), end="")
    web-a
      status         not deployed
    """
    facts = [(name, value) for name, value in row.items() if name not in ("deployment", "code")]
    lines = [f"  {name:<14} {value.splitlines()[0]}" for name, value in facts]
    return "\n".join([row["deployment"], *lines]) + "\n"


def record_status(
    config: Config, state: State, deployment: str | None, cluster: str | None, *, plan: bool
) -> Record | tuple[Record, ...]:
    """Ask for the status of a deployment (None: of all) and record it; with `plan`, log it.

    Raises MachineError when that of one is not known, once all were asked.
    """
    names = [place.find(config, deployment, cluster).name] if deployment else [*config.deployments]
    rows = rows_of(config, names, cluster)
    if plan:
        log.info("%s", "".join(map(text, rows)))
        return ()
    key = make_key(
        STEP, FORMAT, parameters={"status": names, "cluster": cluster}, content=None, consumed={}
    )
    parameters = {"deployments": rows}
    with record_attempt(state, step=STEP, subject=STEP, key=key, parameters=parameters) as attempt:
        failed = [row for row in rows if "error" in row]
        if failed:
            raise MachineError(
                f"the status of {len(failed)} of {len(rows)} deployments is not known: "
                f"{failed[0]['error']}",
                advice="run it again when the cluster answers; the rows above say which",
            )
        return attempt.passed({})
