"""Check a chart without a cluster: lint, schema, rendering, your own commands.

    pipeline-steps check --chart hello

Reads the chart as the source stores it, with its dependencies; each of its test values files is
linted (`helm lint --strict`, which applies values.schema.json) and rendered. The version of a
changed chart must be free and above that of the branch that a review goes to: a notice, or a
failure with `check: {version: required}`. A test values file must not set the keys of images: they
are what is tested. `check: {commands: […]}` of
pipeline.yaml run in its folder. Writes .pipeline/junit/check-*.xml and a record; changes nothing
outside. Exits with 8 when the chart fails. With --fix it first writes the Chart.lock that ranges of
dependencies need, for you to commit; nothing else.
"""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path

from pipeline_steps.building import chart_locks
from pipeline_steps.ci.detect import detect
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.clusters.helm import Helm
from pipeline_steps.config.language import Config
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.testing import offline_checks, requirements, version_policy
from pipeline_steps.toolbox import clock, junit
from pipeline_steps.toolbox.errors import ChartFailed
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout, open_checkout

STEP = Step(
    "check",
    __doc__,
    reuses_records=False,
    subjects="charts",
    keywords=("since", "plan", "jobs", "timeout"),
    options=(
        Option(
            "fix",
            "flag",
            "write the Chart.lock that ranges of dependencies need; never from the environment",
            from_environment=False,
        ),
    ),
    doctor_needs=("helm",),
    writes=(".pipeline/junit",),
)

log = logging.getLogger("pipeline_steps.check")  # __name__ is __main__ under -m


def check(
    name: str,
    *,
    config: Config,
    state: State,
    since: str | None = None,
    plan: bool = False,
    fix: bool = False,
    jobs: int | None = None,
    timeout: float | None = None,
) -> Record | tuple[Record, ...]:
    """Check the chart `name` and record the result; earlier records are not reused.

    Args:
        since: the revision or branch that the version must be above; default: the branch that the
            CI's review goes to.
        plan: log what would be checked; returns ().
        fix: first write missing Chart.lock files (with `plan`: log them).
        jobs: checks to run at once.
        timeout: seconds for each of the configured commands.

    Raises:
        ChartFailed: names every check that failed.
        ToolMissing, ConfigurationError.
    """
    checkout = open_checkout(config)
    chart = checkout.chart(name)
    if fix and chart_locks.write_missing_locks(checkout, chart, plan=plan):
        checkout = Checkout(config)  # the opened checkout has cached the files without the lock
        chart = checkout.chart(name)
    parameters = requirements.check_parameters(checkout, chart, config)
    values = tuple(parameters["values"])
    if plan:
        description = "lint it" if chart.type == "library" else "lint and render it"
        files = ", ".join(file or "its own values" for file in values)
        log.info("%s: would %s with %s; writes nothing outside", name, description, files)
        return ()
    with record_attempt(
        state,
        step="check",
        subject=name,
        key=requirements.check_key(checkout, chart, config),
        content=chart.content,
        revision=checkout.revision,
        parameters=parameters,
    ) as attempt:
        helm = Helm.find()
        attempt.tools["helm"] = helm.version
        started = clock.now()
        cases = offline_checks.run_all(
            helm, checkout, chart, values, jobs=jobs or 4, timeout=timeout
        )
        cases += offline_checks.image_keys(checkout, chart, values)
        cases += _check_version(checkout, chart, since)
        attempt.attach(_write_report(state, checkout, chart, cases, started))
        _raise_failed(cases, chart)
        return attempt.passed({})


def _write_report(
    state: State, checkout: Checkout, chart: Chart, cases: list[junit.Case], started: str
) -> Path:
    """The JUnit file of one check."""
    # Random part of the name: two checks of one chart may run at the same time.
    return junit.write(
        state.folder / "junit" / f"check-{chart.name}-{secrets.token_hex(4)}.xml",
        f"check.{chart.name}",
        cases,
        started=started,
        properties={"content": chart.content, "revision": checkout.revision},
    )


def _raise_failed(cases: list[junit.Case], chart: Chart) -> None:
    """Raises ChartFailed naming every case that has not passed."""
    failed = [case for case in cases if case.outcome != "passed"]
    if failed:
        listed = "\n".join(f"{case.name}: {case.text}" for case in failed)
        problem = f"{len(failed)} of {len(cases)} checks failed:\n{listed}"
        raise ChartFailed(
            problem, where=chart.path or chart.name, advice="correct the chart and run check again"
        )


def _check_version(checkout: Checkout, chart: Chart, since: str | None) -> list[junit.Case]:
    """The case of a version that must go up; as a notice it is logged, too."""
    target = since or detect(os.environ).target or ""
    finding = version_policy.find_or_warn(checkout, chart, target)
    if finding is None:
        return []
    required = checkout.config.check.version == "required"
    if not required:
        log.warning("%s: %s", chart.name, finding)
    return [junit.Case("version", outcome="failure" if required else "passed", text=str(finding))]


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, check, argv)


if __name__ == "__main__":
    raise SystemExit(main())
