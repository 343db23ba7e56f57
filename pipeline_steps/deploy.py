"""Install or upgrade a chart in a namespace that stays, wait, test it, and go back when it fails.

    pipeline-steps deploy hello-team-a --plan
    pipeline-steps deploy hello-team-a
    pipeline-steps deploy hello-team-a --undo
    pipeline-steps deploy --status

Reads an entry of `deployments`; its chart as the source stores it, with the images that build_image
recorded, or a chart from a repository, whose chain of evidence must hold as for `verify`. A chart
that differs from its revision is refused unless --modified. In the cluster: a Lease, so that one
process at a time changes the release; the release; a Secret beside each of its revisions that says
who deployed what. What a killed deploy left is mended by the next. --plan says what would change,
rendered on the server, without the values of Secrets. --status asks the clusters of all deployments
and prints to stdout. Writes a record, and for what failed .pipeline/failures/*/ with the cause
first. Exits with 8 when the chart fails, with 75 when somebody else is at work.
"""

from __future__ import annotations

import logging

from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.deployments import deploy_and_undo, package, place
from pipeline_steps.deployments import status as statuses
from pipeline_steps.deployments.deploy_and_undo import Change
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import UsageError

STEP = Step(
    "deploy",
    __doc__,
    reuses_records=False,
    subjects="none",
    keywords=("plan", "again", "timeout"),
    options=(
        Option("deployment", "word", "its name in `deployments`; default: the only one"),
        Option("cluster", "text", "another cluster of the configuration than the deployment's"),
        Option("status", "flag", "say who deployed what, when, from which revision"),
        Option(
            "undo", "flag", "go back to the good revision before what runs", from_environment=False
        ),
        Option(
            "modified",
            "flag",
            "deploy local modifications, too, and keep what they are",
            from_environment=False,
        ),
    ),
    doctor_needs=("helm", "cluster"),
    reads=("build_image", "promote"),
    writes=("release", "tar", ".pipeline/failures"),
)

log = logging.getLogger("pipeline_steps.deploy")  # __name__ is __main__ under -m


def deploy(
    *,
    config: Config,
    state: State,
    deployment: str | None = None,
    cluster: str | None = None,
    status: bool = False,
    undo: bool = False,
    modified: bool = False,
    plan: bool = False,
    again: bool = False,
    timeout: float | None = None,
) -> Record | tuple[Record, ...]:
    """Deploy, undo a deploy, or ask for the status of deployments.

    Args:
        deployment: its name in `deployments`; None for the only one, with `status` for all.
        cluster: another cluster of the configuration than the deployment's.
        status: change nothing; the record's parameter "deployments" has what the clusters say.
        undo: go back to the good revision before what runs.
        modified: deploy a chart that differs from its revision.
        plan: log what would be done; returns ().
        again: deploy what runs already, too.
        timeout: seconds for waiting for others, and again for the deploy with its tests, instead of
            tests.timeout.

    Raises:
        EvidenceError: the chart differs from its revision, an image was not built, or the chain of
            evidence of a chart from a repository does not hold.
        ChartFailed: it cannot be rendered, does not get ready, or its tests fail.
        Temporary: somebody else is at work, or the cluster has passing trouble.
        UsageError, ConfigurationError, MachineError.
    """
    if status and undo:
        raise UsageError("--status and --undo exclude each other", advice="give one of them")
    if status:
        return statuses.record_status(config, state, deployment, cluster, plan=plan)
    where = place.find(config, deployment, cluster)
    change = Change(config, state, where, place.timeout(config, timeout))
    if undo:
        return deploy_and_undo.plan_undo(change) if plan else deploy_and_undo.undo(change)
    new = package.package(where, config, state, modified=modified)
    if plan:
        return deploy_and_undo.plan(change, new)
    log.info("%s: %s, from %s", where, new, new.source)
    return deploy_and_undo.put(change, new, again=again)


def shown(record: Record, _state: State) -> str:
    """What --status found, for stdout."""
    return "".join(map(statuses.text, record.parameters.get("deployments", [])))


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, deploy, argv, shown=shown)


if __name__ == "__main__":
    raise SystemExit(main())
