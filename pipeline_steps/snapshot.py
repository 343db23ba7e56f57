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

import fnmatch
import logging
import os
from collections.abc import Mapping

from pipeline_steps.building import dependency_archives, image_records, packaging
from pipeline_steps.building.channels import WritableChannel
from pipeline_steps.charts import version as versions
from pipeline_steps.charts.references import Edits
from pipeline_steps.charts.rewrite import rewrite
from pipeline_steps.ci.build import detect
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.reporting import differences
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record, fingerprint, make_key
from pipeline_steps.state.state import State
from pipeline_steps.workspace.chart import Chart
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
FORMAT = 1

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
    dependency_archives.check_archives_unchanged(checkout, chart, state, inputs, again=again)
    edits = packaging.image_edits(checkout, chart, files, images)
    version = snapshot_version(checkout, chart, edits, inputs)
    key = make_key(
        "snapshot", FORMAT, parameters={"version": version}, content=chart.content, consumed=inputs
    )
    verdict = None if again else state.verdict(key)
    published = verdict and verdict.passed and channel.has_recorded(verdict, everywhere=True)
    if verdict and published and not diff:
        return verdict
    archive = rewrite(files, version, edits, chart.path).archive
    if diff:
        differences.write_diff(checkout, chart, config, state, archive, images)
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


def snapshot_version(
    checkout: Checkout, chart: Chart, edits: Edits, inputs: Mapping[str, str]
) -> str:
    """The version stands for all that is in the chart, so one version never means two tars
    (docs/reference/versions.md#snapshots).
    """
    return versions.snapshot(
        versions.parse_strict(chart.version, chart.path),
        released=packaging.is_version_taken(checkout, chart),
        count=checkout.mainline_position(chart) if on_mainline(checkout) else 0,
        fingerprint=fingerprint([chart.content, edits, dict(inputs), FORMAT]),
        dirty=bool(chart.modified),
    )


def on_mainline(checkout: Checkout) -> bool:
    """Whether the snapshot's version contains its mainline position.

    Builds of reviews and other branches get position 0, which sorts below all others.
    """
    build = detect(os.environ)
    branch = build.branch or checkout.source.branch() or ""
    mainline = any(
        fnmatch.fnmatchcase(branch, pattern) for pattern in checkout.config.release.branches
    )
    return bool(build.tag) or (mainline and not build.review)


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, snapshot, argv)


if __name__ == "__main__":
    raise SystemExit(main())
