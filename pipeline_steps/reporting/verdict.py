"""The verdict on selected charts: the outcomes of `review.requires`, combined into one word.

A failure makes it negative; a missing, interrupted or prevented test makes it incomplete
(docs/explanation/releases.md#verdict-of-a-review).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from pipeline_steps.building import image_records
from pipeline_steps.config.language import Config
from pipeline_steps.state.state import State
from pipeline_steps.testing import settings, version_policy
from pipeline_steps.testing.requirements import Requirement, required
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout

Word = Literal["positive", "negative", "incomplete"]


class ChartVerdict(NamedTuple):
    """A chart with its snapshot, images and requirements. snapshot: reference, "" without one.

    notice: why the chart's version must go up, "" when it need not.
    """

    chart: Chart
    snapshot: str
    images: dict[str, str]
    requirements: tuple[Requirement, ...]
    notice: str = ""

    @property
    def word(self) -> Word:
        return combine_outcomes(requirement.outcome for requirement in self.requirements)


def combine_outcomes(outcomes: Iterable[str]) -> Word:
    """The verdict for several outcomes.

    >>> outcomes = (["passed", "missing", "failed"], ["passed", "infrastructure"], ["passed"])
    >>> [combine_outcomes(names) for names in outcomes]
    ['negative', 'incomplete', 'positive']
    """
    distinct = set(outcomes)
    # Before anything that is missing: a failure is certain, whatever is still to come.
    if "failed" in distinct:
        return "negative"
    return "positive" if distinct <= {"passed"} else "incomplete"


def combined_verdict(verdicts: Iterable[ChartVerdict]) -> Word:
    """The verdict on all charts; positive without any."""
    return combine_outcomes(
        requirement.outcome for verdict in verdicts for requirement in verdict.requirements
    )


def chart_verdict(
    checkout: Checkout,
    chart: Chart,
    config: Config,
    state: State,
    target: str = "",
    review: str = "",
) -> ChartVerdict:
    """The verdict on a chart's content, from the records.

    target: the branch that the review goes to, "" for none. review: its id, for approvals.
    """
    names = config.review.requires
    unreadable_settings: tuple[Requirement, ...] = ()
    try:
        result = required(checkout, chart, config, state, names, review=review)
    except ConfigurationError as error:  # invalid test settings count as missing tests
        result = required(
            checkout,
            chart,
            config,
            state,
            [name for name in names if name != settings.STEP],
            review=review,
        )
        unreadable_settings = (
            Requirement(settings.STEP, settings.STEP, "missing", reason=str(error)),
        )
    snapshot = result.current.snapshots[0] if result.current else None
    images = image_records.images_of(snapshot) if snapshot else {}
    return ChartVerdict(
        chart,
        snapshot.outputs.get("chart", "") if snapshot else "",
        {name: str(image) for name, image in images.items()},
        (*result.requirements, *unreadable_settings),
        str(version_policy.find_or_warn(checkout, chart, target) or ""),
    )
