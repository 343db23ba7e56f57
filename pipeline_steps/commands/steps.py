"""The implemented steps with their functions, for `run`, `doctor` and the generated reference.

`command_names` has their names and purposes without importing them.
"""

from __future__ import annotations

from pipeline_steps import (
    approval,
    audit,
    build_image,
    check,
    deploy,
    integration_test,
    merge,
    promote,
    regenerate,
    report,
    snapshot,
    tag_release,
    verify,
)
from pipeline_steps.cli.step import Step, StepFunction

STEPS: dict[str, tuple[Step, StepFunction]] = {
    step.name: (step, function)
    for step, function in (
        (check.STEP, check.check),
        (build_image.STEP, build_image.build_image),
        (snapshot.STEP, snapshot.snapshot),
        (integration_test.STEP, integration_test.integration_test),
        (report.STEP, report.report),
        (approval.STEP, approval.approval),
        (merge.STEP, merge.merge),
        (tag_release.STEP, tag_release.tag_release),
        (promote.STEP, promote.promote),
        (regenerate.STEP, regenerate.regenerate),
        (deploy.STEP, deploy.deploy),
        (audit.STEP, audit.audit),
        (verify.STEP, verify.verify),
    )
}
