"""Filling the repositories of a channel, one after the other, each with a record of its own."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pipeline_steps.config.language import Config, as_tuple
from pipeline_steps.regeneration.repository_contents import Report
from pipeline_steps.repositories.repository import Repository
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import ChartFailed, NotApproved, UsageError
from pipeline_steps.toolbox.wording import counted

#: Part of the key of every record of regenerate.
FORMAT = 1
#: How many lines of a kind a record contains; all are logged.
LISTED = 100
#: Above so many failures the most frequent reasons are told after them.
_READABLE, _REASONS = 20, 5

log = logging.getLogger("pipeline_steps.regenerate")


class Fill(NamedTuple):
    """A repository, and what fills it; `work` takes `plan` and `again`."""

    repository: Repository
    work: Callable[..., Report]


def urls_to_fill(to: str | None, config: Config) -> tuple[str, ...]:
    """The repository `to`, else those of the production channel, the authoritative one first.

    Raises UsageError without any repository.
    """
    urls = (to,) if to else as_tuple(config.channels.production.charts)
    if not urls:
        raise UsageError(
            "no repository to fill: --to is not given, and channels.production.charts is not set",
            advice="give --to URL, like file:///srv/charts",
        )
    return urls


def plan_all(fills: Iterable[Fill], *, again: bool) -> None:
    """Say what filling would publish."""
    for repository, work in fills:
        log_report(work(plan=True, again=again), f"{repository.url}, planned only")


def fill_all(
    fills: Iterable[Fill], parameters: Mapping[str, Any], state: State, *, again: bool
) -> tuple[Record, ...]:
    """Fill every repository, whatever happens to the others. Raises the first NotApproved, or
    ChartFailed.
    """
    records: list[Record] = []
    failed: list[ChartFailed | NotApproved] = []
    for fill in fills:
        try:
            records.append(_fill(fill, parameters, state, again=again))
        except (ChartFailed, NotApproved) as error:
            failed.append(error)
    if failed:
        raise min(failed, key=lambda error: error.exit_code)
    return tuple(records)


def _fill(fill: Fill, parameters: Mapping[str, Any], state: State, *, again: bool) -> Record:
    """Fill one repository and record it. Raises as `_refuse_failed`."""
    url = fill.repository.url
    parameters = {**parameters, "to": url}
    key = make_key("regenerate", FORMAT, parameters=parameters, content=None, consumed={})
    with record_attempt(
        state, step="regenerate", subject="regenerate", key=key, parameters=parameters
    ) as attempt:
        attempt.begin({"repository": url})
        report = fill.work(plan=False, again=again)
        log_report(report, url)
        attempt.parameters.update(
            counts=report.counts, differs=report.differs[:LISTED], failed=report.failed[:LISTED]
        )
        if report.without_chart:
            attempt.parameters["without_chart"] = report.without_chart[:LISTED]
        if report.unapproved:
            attempt.parameters["unapproved"] = report.unapproved[:LISTED]
        _refuse_failed(report, url)
        return attempt.passed({"repository": url})


def _refuse_failed(report: Report, url: str) -> None:
    """Raises NotApproved when a version may not be released, ChartFailed when one could not be
    packaged, or no tag stands for a chart.
    """
    if report.unapproved:
        raise NotApproved(
            f"not approved: {counted(len(report.unapproved), 'version')} missing in production",
            where=url,
            advice="ask for what each line above lacks; copy what was released before from a mirror "
            "with --from",
        )
    if report.failed:
        failed = counted(len(report.failed), "version")
        problem = f"{failed} could not be packaged; all others are published"
        advice = (
            "correct what each line above names, or copy what an old repository has with --from"
        )
        raise ChartFailed(problem, where=url, advice=advice)
    if report.without_chart and not any(report.counts.values()):
        problem = f"no fitting tag of {len(report.without_chart)} stands for a chart"
        advice = "correct --charts, or --tags; the tags are listed above"
        raise ChartFailed(problem, where=url, advice=advice)


def log_report(report: Report, title: str) -> None:
    """Log versions that need attention line by line, the others as counts."""
    for line in (*report.without_chart, *report.withdrawn, *report.unmade):
        log.info("%s", line)
    for line in (*report.differs, *report.unapproved, *report.failed):
        log.warning("%s", line)
    if len(report.failed) > _READABLE:
        reasons = Counter(line.partition("): ")[2] or line for line in report.failed)
        for reason, count in reasons.most_common(_REASONS):
            if count > 1:
                log.warning("%d of %d failed: %s", count, len(report.failed), reason)
    log.info("%s: %s", title, report)
