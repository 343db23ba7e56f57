"""Rebuild a chart repository from the tagged sources, or copy one from elsewhere.

    pipeline-steps regenerate --source . --charts 'charts/*' --tags '{name}-{version}' --to file:///srv/charts
    pipeline-steps regenerate --from https://charts.example.com --to oci://registry.example.com/charts

Works without a pipeline.yaml; one that there is gives the charts, `release.tag` and
`channels.production.charts` where the options do not. Every version that a tag names is packaged,
without a checkout, and published if it is missing. Published archives are never replaced: a
different one is listed and keeps its bytes. For a tag made by tag_release the result is the chart
that promote publishes. Versions in `release.withdrawn` stay withdrawn. Where production requires
approvals, they are asked for of each version that is missing there, as promote does. --from copies
archives and their .prov files byte for byte, and asks for none. Writes a record with all counts.
Changes outside: archives and names in the repository. Run again it continues where it was stopped,
and does nothing when nothing is missing. Exits with 6 when a version is not approved, with 8 when
one could not be packaged.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pipeline_steps.cli.options import Option, Shard
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.regeneration import from_tags
from pipeline_steps.regeneration.approved import refuse_unapproved
from pipeline_steps.regeneration.channel import Fill, fill_all, plan_all, urls_to_fill
from pipeline_steps.regeneration.migration import migrate
from pipeline_steps.regeneration.repository_contents import VersionFilter
from pipeline_steps.repositories.kinds import open_repository, open_writable
from pipeline_steps.sources.kinds import is_url
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
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
        NotApproved: production requires approvals, and a version that is missing there lacks one.
        ChartFailed: a version could not be packaged. Both are raised after all others were published.
    """
    urls = urls_to_fill(to, config)
    version_filter = VersionFilter(frozenset(config.release.withdrawn), tuple(chart), shard)
    first, *further = [open_writable(url, config.hosts) for url in urls]
    copy = partial(migrate, version_filter=version_filter, hosts=config.hosts)
    if from_:
        fills = [Fill(first, partial(copy, open_repository(from_, config.hosts), first))]
    else:
        package = partial(
            from_tags.regenerate, first, config, version_filter, source=source, patterns=charts
        )
        own_urls = (*urls, *served_at)
        refuse = refuse_unapproved(urls, config, state, source=source, plan=plan)
        work = partial(package, tags=tags, own_urls=own_urls, refuse=refuse, state=state, jobs=jobs)
        fills = [Fill(first, work)]
    # The first repository of a channel is authoritative; the others are copies of it.
    fills += [Fill(repository, partial(copy, first, repository)) for repository in further]
    if plan:
        plan_all(fills, again=again)
        return ()
    return fill_all(fills, _parameters(source, charts, tags, from_), state, again=again)


def _parameters(
    source: str | None, charts: tuple[str, ...], tags: str | None, from_: str | None
) -> dict[str, Any]:
    """What the record says of the call: no logins, no paths of this machine."""
    return {
        "source": safe_url(source) if source and is_url(source) else None,
        "charts": list(charts),
        "tags": tags,
        "from": safe_url(from_) if from_ else None,
    }


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, regenerate, argv)


if __name__ == "__main__":
    raise SystemExit(main())
