"""Pass only when somebody who may has approved each selected chart, for this content.

    python -m pipeline_steps.approval --chart hello
    pipeline-steps approval --review 17

In the build of a review it asks for the review's newest revision; else for every change of the
mainline since the chart's last release, as tag_release and promote do again. Asks the approvals
that `channels.production.requires` and `review.requires` name (approval.NAME), or all of
`approvals`. Writes one record for each, with who approved what when; ends with 6 and says what is
missing. Changes nothing outside.
"""

from __future__ import annotations

import logging
import os

from pipeline_steps.approvals.requiring import (
    require_for_release,
    require_for_review,
    required_names,
)
from pipeline_steps.ci.detect import detect
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError
from pipeline_steps.workspace.checkout import open_checkout

STEP = Step(
    "approval",
    __doc__,
    reuses_records=False,
    subjects="charts",
    keywords=("plan",),
    options=(
        Option("review", "text", "the review to ask for, by number or URL; default: the CI's"),
    ),
    doctor_needs=("review approvals",),
    releases=True,
)

log = logging.getLogger("pipeline_steps.approval")  # __name__ is __main__ under -m


def approval(
    name: str, *, config: Config, state: State, review: str | None = None, plan: bool = False
) -> tuple[Record, ...]:
    """Ask for the approvals of the chart `name` as it is checked out.

    Args:
        review: ask for this review's newest revision; default: for the review that CI builds, else
            for what a release would bring.
        plan: ask, and record nothing; returns ().

    Returns:
        One record for each approval.

    Raises:
        NotApproved: an approval is missing; says whose, on which revision, and why.
        ConfigurationError: no approval or no review system is configured.
        EvidenceError: the chart has local modifications.
    """
    names = approval_names(config)
    checkout = open_checkout(config)
    chart = checkout.chart(name)
    if chart.modified:
        raise EvidenceError(
            f"chart {name} has local modifications: {', '.join(chart.modified[:5])}",
            where=chart.path,
            advice="commit or undo them: nobody can have approved them",
        )
    build = detect(os.environ)
    if review:
        build = build._replace(review=review, head=None)
    what = f"review {build.review}" if build.review else "a release"
    log.debug("%s: asking for %s of %s", name, ", ".join(names), what)
    if build.review:
        return require_for_review(checkout, chart, config, state, names, build, record=not plan)
    return require_for_release(checkout, chart, config, state, names, record=not plan)


def approval_names(config: Config) -> tuple[str, ...]:
    """The approvals that a release or a review requires; of none, all that there are.

    Raises ConfigurationError when there is none at all.
    """
    required = (*config.channels.production.requires, *config.review.requires)
    names = required_names(required) or tuple(config.approvals)
    if not names:
        raise ConfigurationError(
            "no approval is configured",
            where=config.where("approvals"),
            advice="configure one, as in approvals: {code: {}}, and require it, as in "
            "channels.production.requires: [check, integration_test, approval.code]",
        )
    return names


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, approval, argv)


if __name__ == "__main__":
    raise SystemExit(main())
