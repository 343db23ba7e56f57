"""Install each snapshot in a cluster and test it: a record for each values file and cluster.

    pipeline-steps integration_test --chart hello --cluster k131 --retry-infrastructure 2

Reads the snapshot recorded for the chart's content, and fetches it by digest. In the cluster: a
fresh labelled namespace for each scenario, `helm install`, `helm test`, and all of it removed
again. Writes records, .pipeline/junit/integration_test-*.xml, and for what failed
.pipeline/failures/*/ with the cause first. Exits with 8 when the chart fails, with 75 when it is
the cluster's own trouble.
"""

from __future__ import annotations

import logging

from pipeline_steps.building import snapshot_records
from pipeline_steps.building.channels import Channel
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.testing import scenario_runs, settings
from pipeline_steps.workspace.checkout import open_checkout

STEP = Step(
    "integration_test",
    __doc__,
    reuses_records=True,
    subjects="charts",
    keywords=("plan", "again", "jobs", "timeout"),
    options=(
        Option(
            "cluster",
            "text",
            "the cluster of the configuration to test on; default: the only one, or tests.clusters",
        ),
        Option(
            "retry-infrastructure",
            "number",
            "how often a scenario is repeated after the cluster's own trouble",
        ),
    ),
    doctor_needs=("helm", "snapshot charts", "cluster"),
    reads=("snapshot",),
    writes=("namespaces and releases in clusters", ".pipeline/junit", ".pipeline/failures"),
)

log = logging.getLogger("pipeline_steps.integration_test")  # __name__ is __main__ under -m


def integration_test(
    name: str,
    *,
    config: Config,
    state: State,
    cluster: str | None = None,
    plan: bool = False,
    again: bool = False,
    timeout: float | None = None,
    retry_infrastructure: int | None = None,
    jobs: int | None = None,
) -> tuple[Record, ...]:
    """Test the chart `name` with every scenario that has not passed yet.

    Args:
        cluster: the cluster to test on, instead of `tests.clusters`.
        plan: log what would be tested; returns ().
        again: run scenarios that have passed, too.
        timeout: seconds for one scenario, instead of tests.timeout.
        retry_infrastructure: how often a scenario is repeated after a failure of the cluster.
        jobs: scenarios to run at once, instead of tests.parallel.

    Returns:
        The records of all scenarios, earlier ones included.

    Raises:
        EvidenceError: there is no snapshot of this content.
        ChartFailed, Temporary, MachineError: with several failed scenarios the one with the worst
            exit code, with the reasons of all.
        UsageError: no cluster is given, and there is no single one to choose.
    """
    checkout = open_checkout(config)
    chart = checkout.chart(name)
    test_settings = settings.settings(checkout, chart, timeout=timeout, parallel=jobs)
    snapshot = snapshot_records.find_snapshot(state, chart)
    keys = settings.scenario_keys(checkout, chart, test_settings, snapshot.consumed, cluster)
    channel = Channel(config, "snapshot")
    records = {} if again else scenario_runs.find_passed(keys, state, channel)
    open_scenarios = [scenario for scenario in keys if scenario not in records]
    if plan:
        for scenario in open_scenarios:
            place = settings.describe_place(test_settings, scenario)
            log.info("%s: would test %s with %s %s", name, snapshot.reference, scenario.name, place)
        return ()
    if open_scenarios:
        if config.channels.production.charts and not test_settings.none:
            log.info("%s: no upgrade from a published version is tested yet", name)
        clusters = {scenario.cluster for scenario in open_scenarios}
        with scenario_runs.prepare(
            checkout, chart, test_settings, snapshot, state, clusters
        ) as setup:
            records |= scenario_runs.run_all(
                setup, open_scenarios, retries=retry_infrastructure or 0
            )
    return tuple(records[scenario] for scenario in keys)


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, integration_test, argv)


if __name__ == "__main__":
    raise SystemExit(main())
