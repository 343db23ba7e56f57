"""Package each selected chart with its images' digests and publish it to the snapshot channel.

    python -m pipeline_steps.snapshot
    pipeline-steps snapshot --chart hello
    pipeline-steps snapshot --chart hello --diff --plan

Reads the chart as the source stores it (modifications included and marked .dirty) and the digests
that build_image recorded for its images. Writes a record with the chart's reference and tar digest.
Changes outside: one chart version in each repository of `channels.snapshot.charts`; the same
content and images always get the same tar. --diff shows how its rendering differs from the newest
version in production, and writes that to .pipeline/diff.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from pipeline_steps.building.channels import WritableChannel
from pipeline_steps.building.dependency_archives import check_archives_unchanged
from pipeline_steps.building.image_records import image_outputs, records_to_supersede
from pipeline_steps.building.packaging import ChartPackage, read_package
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.reporting import differences
from pipeline_steps.state.attempt import Attempt, record_attempt
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.workspace.checkout import Checkout, open_checkout

STEP = Step(
    "snapshot",
    __doc__,
    reuses_records=True,
    subjects="charts",
    keywords=("plan", "again"),
    options=(Option("diff", "flag", "say what it renders otherwise than what is published"),),
    doctor_needs=("snapshot images", "snapshot charts"),
    reads=("build_image",),
    writes=("chart", "tar", "image:NAME"),
)


def snapshot(
    name: str,
    *,
    config: Config,
    state: State,
    plan: bool = False,
    again: bool = False,
    diff: bool = False,
) -> Record | tuple[Record, ...]:
    """Publish a snapshot of the chart `name` and record it.

    Args:
        plan: log what would be published; returns ().
        again: publish and record even if a passed record exists.
        diff: also write .pipeline/diff/CHART.diff.

    Returns:
        The new record, or the earlier one when its chart is still in the channel.

    Raises:
        EvidenceError: an image was not built, or a dependency changed since the last release.
        ConfigurationError, Conflict.
    """
    channel = WritableChannel(config, "snapshot")
    checkout = open_checkout(config)
    chart = checkout.chart(name)
    package = read_package(checkout, chart, state)
    # Before anything is packed with them: an archive that was replaced may be an attack.
    check_archives_unchanged(checkout, chart, state, package.inputs, again=again)
    verdict = None if again else state.verdict(package.key)
    # With every repository of the channel: one that was added later gets the snapshot, too.
    published = verdict and verdict.passed and channel.has_complete(verdict, everywhere=True)
    if verdict and published and not diff:
        return verdict
    archive = package.pack()
    if diff:
        differences.write_diff(checkout, chart, config, state, archive, package.images)
    # Only now: --diff shows the differences of a snapshot that is published already, as well.
    if verdict and published:
        return verdict
    if plan:
        return channel.plan(archive)
    images = image_outputs(package.images)
    with _attempt(package, checkout, state) as attempt:
        attempt.begin({"chart": channel.first.url, "tar": archive.tar_digest, **images})
        return attempt.passed({**channel.publish(archive), **images})


def _attempt(
    package: ChartPackage, checkout: Checkout, state: State
) -> AbstractContextManager[Attempt]:
    """The record of this snapshot, which replaces the earlier ones of the same content."""
    chart = package.chart
    earlier = state.find(step="snapshot", subject=chart.name, content=chart.content)
    return record_attempt(
        state,
        step="snapshot",
        subject=chart.name,
        key=package.key,
        content=chart.content,
        revision=checkout.revision,
        parameters={"version": package.version, "modified": list(chart.modified)},
        inputs=package.inputs,
        uses=package.uses,
        supersedes=records_to_supersede(earlier, chart.modified),
    )


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, snapshot, argv)


if __name__ == "__main__":
    raise SystemExit(main())
