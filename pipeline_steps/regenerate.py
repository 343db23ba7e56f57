"""Rebuild a chart repository from the tagged sources, or copy one from elsewhere.

    pipeline-steps regenerate --source . --charts 'charts/*' --tags '{name}-{version}' --to file:///srv/charts
    pipeline-steps regenerate --from https://charts.example.com --to oci://registry.example.com/charts

Works without a pipeline.yaml; one that there is gives the charts, `release.tag` and
`channels.production.charts` where the options do not. Every version that a tag names is packaged,
without a checkout, and published if it is missing. Published archives are never replaced: a
different one is listed and keeps its bytes. For a tag made by tag_release the result is the chart
that promote publishes. Versions in `release.withdrawn` stay withdrawn. --from copies archives and
their .prov files byte for byte. Writes a record with all counts. Changes outside: archives and
names in the repository. Run again it continues where it was stopped, and does nothing when nothing
is missing. Exits with 8 when a version could not be packaged.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from pipeline_steps.approvals.requiring import required_names
from pipeline_steps.cli.options import Option, Shard
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config, as_tuple
from pipeline_steps.regeneration import from_tags, migration
from pipeline_steps.regeneration.filling import Report, VersionFilter
from pipeline_steps.repositories.kinds import open_repository, open_writable
from pipeline_steps.repositories.repository import Repository
from pipeline_steps.sources.kinds import is_url
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.testing.requirements import APPROVAL
from pipeline_steps.toolbox.errors import ChartFailed, UsageError
from pipeline_steps.toolbox.http import safe_url

STEP = Step(
    "regenerate",
    __doc__,
    reuses_records=False,
    subjects="none",
    keywords=("chart", "shard", "plan", "again", "jobs"),
    options=(
        Option(
            "source", "text", "checkout, repository without one, or URL; default: pipeline.yaml's"
        ),
        Option(
            "charts",
            "texts",
            "pattern of charts' folders (repeatable: charts move); default: those of pipeline.yaml",
        ),
        Option(
            "tags",
            "text",
            "template like {name}-{version}, or a shell pattern like v*; default: release.tag",
        ),
        Option("to", "text", "URL of the repository to fill; default: channels.production.charts"),
        Option(
            "served-at",
            "texts",
            "another URL of the repository (repeatable), by which its charts depend on each other",
        ),
        Option("from", "text", "URL of a repository to copy instead, byte for byte"),
    ),
    doctor_needs=("production charts",),
    writes=("repository",),
    needs_configuration=False,
)
FORMAT = 1
#: How many lines of a kind a record contains; all are logged.
LISTED = 100
#: Above so many failures the most frequent reasons are told after them.
_READABLE, _REASONS = 20, 5
#: Fills a repository; takes `plan` and `again`.
Fill = Callable[..., Report]

log = logging.getLogger("pipeline_steps.regenerate")  # __name__ is __main__ under -m


def regenerate(
    *,
    config: Config,
    state: State,
    source: str | None = None,
    charts: tuple[str, ...] = (),
    tags: str | None = None,
    to: str | None = None,
    served_at: tuple[str, ...] = (),
    from_: str | None = None,
    chart: tuple[str, ...] = (),
    shard: Shard | None = None,
    plan: bool = False,
    again: bool = False,
    jobs: int | None = 1,
) -> tuple[Record, ...]:
    """Fill the repository `to` from tags, or from the repository `from_`.

    Args:
        source: checkout, bare repository or URL; default: the checkout of pipeline.yaml.
        charts: patterns of chart folders.
        tags: template like {name}-{version}, or a shell pattern.
        served_at: other URLs of the repository. Dependencies that these do not give are taken
            from what this run made or the repository has.
        chart: names of charts, () for all.
        plan: log what would be published; returns ().
        again: look at every tag and archive, not only at what changed since the last run.
        jobs: processes that package, None for one per CPU. With more than one, each imports the
            main module of the calling program, so that must start its work below
            `if __name__ == "__main__"`.

    Returns:
        A record for each repository.

    Raises:
        ChartFailed: a version could not be packaged; raised after all others were published.
    """
    urls = (to,) if to else as_tuple(config.channels.production.charts)
    if not urls:
        raise UsageError(
            "no repository to fill: --to is not given, and channels.production.charts is not set",
            advice="give --to URL, like file:///srv/charts",
        )
    _warn_without_approvals(urls, config)
    version_filter = VersionFilter(frozenset(config.release.withdrawn), tuple(chart), shard)
    first, *further = [open_writable(url, config.hosts) for url in urls]
    package = partial(
        from_tags.regenerate,
        source=source,
        patterns=charts,
        tags=tags,
        own_urls=(*urls, *served_at),
        jobs=jobs,
    )
    copy = partial(migration.migrate, version_filter=version_filter)
    fill_first: Fill = partial(package, first, config, version_filter, state=state)
    if from_:
        fill_first = partial(copy, open_repository(from_, config.hosts), first)
    # The first repository of a channel is authoritative; the others are copies of it.
    fills: list[tuple[Repository, Fill]] = [
        (first, fill_first),
        *((repository, partial(copy, first, repository)) for repository in further),
    ]
    if plan:
        for repository, fill in fills:
            log_report(fill(plan=True, again=again), f"{repository.url}, planned only")
        return ()
    parameters = {
        "source": safe_url(source) if source and is_url(source) else None,
        "charts": list(charts),
        "tags": tags,
        "from": safe_url(from_) if from_ else None,
    }
    return _fill_all(fills, parameters, state, again=again)


def _warn_without_approvals(urls: Iterable[str], config: Config) -> None:
    """Say what is not asked for: a tag that somebody set by hand is released here, too."""
    production = config.channels.production
    names = required_names(production.requires)
    if names and {url.rstrip("/") for url in urls} & {
        url.rstrip("/") for url in as_tuple(production.charts)
    }:
        log.warning(
            "regenerate asks for no approval, and production requires %s: see who set the tags of "
            "versions that are missing there",
            ", ".join(f"{APPROVAL}{name}" for name in names),
        )


def _fill_all(
    fills: Iterable[tuple[Repository, Fill]],
    parameters: Mapping[str, Any],
    state: State,
    *,
    again: bool,
) -> tuple[Record, ...]:
    """Fill every repository, whatever happens to the others. Raises the first ChartFailed."""
    records: list[Record] = []
    failed: list[ChartFailed] = []
    for repository, fill in fills:
        work = partial(fill, plan=False, again=again)
        try:
            records.append(
                _fill_repository(repository, work, {**parameters, "to": repository.url}, state)
            )
        except ChartFailed as error:
            failed.append(error)
    if failed:
        raise failed[0]
    return tuple(records)


def _fill_repository(
    repository: Repository, fill: Callable[[], Report], parameters: Mapping[str, Any], state: State
) -> Record:
    """Fill one repository and record it. Raises ChartFailed when a version cannot be packaged."""
    key = make_key("regenerate", FORMAT, parameters=parameters, content=None, consumed={})
    with record_attempt(
        state, step="regenerate", subject="regenerate", key=key, parameters=parameters
    ) as attempt:
        attempt.begin({"repository": repository.url})
        report = fill()
        log_report(report, repository.url)
        attempt.parameters.update(
            counts=report.counts, differs=report.differs[:LISTED], failed=report.failed[:LISTED]
        )
        if report.without_chart:
            attempt.parameters["without_chart"] = report.without_chart[:LISTED]
        if report.failed:
            problem = (
                f"{len(report.failed)} versions could not be packaged; all others are published"
            )
            advice = "each is listed above with its reason; what an old repository has of them, "
            raise ChartFailed(problem, where=repository.url, advice=f"{advice}--from copies")
        if report.without_chart and not any(report.counts.values()):
            problem = f"none of {len(report.without_chart)} fitting tags stands for a chart"
            advice = "correct --charts, or --tags; the tags are listed above"
            raise ChartFailed(problem, where=repository.url, advice=advice)
        return attempt.passed({"repository": repository.url})


def log_report(report: Report, title: str) -> None:
    """Log versions that need attention line by line, the others as counts."""
    for line in (*report.without_chart, *report.withdrawn, *report.unmade):
        log.info("%s", line)
    for line in (*report.differs, *report.failed):
        log.warning("%s", line)
    if len(report.failed) > _READABLE:
        reasons = Counter(line.partition("): ")[2] or line for line in report.failed)
        for reason, count in reasons.most_common(_REASONS):
            if count > 1:
                log.warning("%d of %d failed: %s", count, len(report.failed), reason)
    log.info("%s: %s", title, report)


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, regenerate, argv)


if __name__ == "__main__":
    raise SystemExit(main())
