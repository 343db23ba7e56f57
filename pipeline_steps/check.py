"""Check a chart without a cluster: lint, schema, rendering, version policy, your own commands.

    pipeline-steps check --chart hello

Reads the chart as the source stores it, with its dependencies; each of its test values files is linted
(`helm lint --strict`, which applies values.schema.json) and rendered. A version that is released with other
content is said: tag_release will refuse it. `check: {commands: […]}` of pipeline.yaml run in its folder.
Writes .pipeline/junit/check-*.xml and a record; changes nothing outside. Exits with 8 when the chart fails.
With --fix it first writes the Chart.lock that ranges of dependencies need, for you to commit; nothing else.
"""

from __future__ import annotations

import logging
import secrets
from concurrent.futures import ThreadPoolExecutor

from pipeline_steps.building import locking
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.clusters.helm import Helm
from pipeline_steps.config.language import Config
from pipeline_steps.reporting import checks
from pipeline_steps.state.attempt import attempt
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.testing import requirements
from pipeline_steps.toolbox import clock, junit, scratch
from pipeline_steps.toolbox.errors import ChartFailed
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout, opened

STEP = Step(
    "check",
    __doc__,
    kind="asking",
    subjects="charts",
    keywords=("plan", "jobs", "timeout"),
    options=(
        Option(
            "fix",
            "flag",
            "write the Chart.lock that ranges of dependencies need; never from the environment",
            from_environment=False,
        ),
    ),
    needs=("helm",),
    writes=(".pipeline/junit",),
)

log = logging.getLogger("pipeline_steps.check")  # __name__ is __main__ under -m


def check(
    chart: str,
    *,
    config: Config,
    state: State,
    plan: bool = False,
    fix: bool = False,
    jobs: int | None = None,
    timeout: float | None = None,
) -> Record | tuple[Record, ...]:
    """Check `chart` and record it; it is asked anew every time. timeout: seconds for each of your commands.

    fix: first write the locks that it lacks, or only say so when planning.

    Raises ChartFailed naming every check that failed, ToolMissing, ConfigurationError. Returns () when only planned.
    """
    checkout = opened(config)
    it = checkout.chart(chart)
    if fix and locking.fix(checkout, it, plan=plan):
        checkout = Checkout(config)  # the one that was opened knows nothing of the new files
        it = checkout.chart(chart)
    parameters = requirements.check_parameters(checkout, it, config)
    values = tuple(parameters["values"])
    if plan:
        log.info("%s: would lint and render it with %s; writes nothing outside", chart, ", ".join(values))
        return ()
    with attempt(
        state, step="check", subject=chart, key=requirements.check_key(checkout, it, config), content=it.content,
        revision=checkout.revision, parameters=parameters,
    ) as trial:  # fmt: skip
        helm = Helm.find()
        trial.tools["helm"] = helm.version
        started = clock.now()
        cases = _cases(helm, checkout, it, values, jobs=jobs or 4, timeout=timeout)
        name = f"check-{chart}-{secrets.token_hex(4)}.xml"
        properties = {"content": it.content, "revision": checkout.revision}
        trial.attach(junit.write(state.folder / "junit" / name, f"check.{chart}", cases, started=started,
                                 properties=properties))  # fmt: skip
        failed = [case for case in cases if case.outcome != "passed"]
        if failed:
            told = "\n".join(f"{case.name}: {case.text}" for case in failed)
            raise ChartFailed(f"{len(failed)} of {len(cases)} checks failed:\n{told}", where=it.path or chart)
        return trial.passed({})


def _cases(
    helm: Helm, checkout: Checkout, chart: Chart, values: tuple[str, ...], *, jobs: int, timeout: float | None
) -> list[junit.Case]:
    """Every check of the chart, the independent ones at once."""
    with scratch.folder("check") as folder, ThreadPoolExecutor(jobs) as pool:
        staged = checks.stage(checkout, chart, values, folder)
        waiting = [pool.submit(checks.lint, helm, chart, staged, file) for file in values]
        if chart.type != "library":  # helm renders no library
            waiting += [pool.submit(checks.render, helm, chart, staged, file) for file in values]
        waiting += [
            pool.submit(checks.command, checkout.config, chart, line, timeout)
            for line in checkout.config.check.commands
        ]
        notice = checks.version_notice(checkout, chart)
        if notice:
            log.warning("%s: %s", chart.name, notice)
        return [one.result() for one in waiting]


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, check, argv)


if __name__ == "__main__":
    raise SystemExit(main())
