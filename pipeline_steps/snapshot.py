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

import logging

from pipeline_steps.building import dependency_archives, image_records, packaging
from pipeline_steps.building.channels import WritableChannel
from pipeline_steps.charts.rewrite import rewrite
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.reporting import differences
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.workspace.checkout import open_checkout

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

log = logging.getLogger("pipeline_steps.snapshot")  # __name__ is __main__ under -m


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
    state.load_evidence(checkout.chart_and_image_contents(chart))
    images, uses = image_records.recorded_images(checkout, chart, state)
    files = packaging.package_files(checkout, chart)
    inputs = packaging.package_inputs(images, files)
    # Before anything is packed with them: an archive that was replaced may be an attack.
    dependency_archives.check_archives_unchanged(checkout, chart, state, inputs, again=again)
    edits = packaging.image_edits(checkout, chart, files, images)
    version = packaging.snapshot_version(checkout, chart, edits, inputs)
    key = make_key(
        "snapshot",
        packaging.FORMAT,
        parameters={"version": version},
        content=chart.content,
        consumed=inputs,
    )
    verdict = None if again else state.verdict(key)
    published = verdict and verdict.passed and channel.has_recorded(verdict, everywhere=True)
    # With every repository of the channel: one that was added later gets the snapshot, too.
    if verdict and published and not diff:
        return verdict
    archive = rewrite(files, version, edits, chart.path).archive
    if diff:
        differences.write_diff(checkout, chart, config, state, archive, images)
    # Only now: --diff shows the differences of a snapshot that is published already, as well.
    if verdict and published:
        return verdict
    if plan:
        return channel.plan(archive)
    image_outputs = image_records.image_outputs(images)
    with record_attempt(
        state,
        step="snapshot",
        subject=name,
        key=key,
        content=chart.content,
        revision=checkout.revision,
        parameters={"version": version, "modified": list(chart.modified)},
        inputs=inputs,
        uses=uses,
        supersedes=image_records.records_to_supersede(
            state.find(step="snapshot", subject=name, content=chart.content), chart.modified
        ),
    ) as attempt:
        attempt.begin({"chart": channel.first.url, "tar": archive.tar_digest, **image_outputs})
        return attempt.passed({**channel.publish(archive), **image_outputs})


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, snapshot, argv)


if __name__ == "__main__":
    raise SystemExit(main())
