"""Package each selected chart with its images' digests and publish it to the snapshot channel.

    python -m pipeline_steps.snapshot
    pipeline-steps snapshot --chart hello
    pipeline-steps snapshot --chart hello --diff --plan

Reads the chart as the source stores it (modifications included and marked .dirty) and the digests that build_image
recorded for its images. Writes a record with the chart's reference and tar digest. Changes outside: one chart
version in each repository of `channels.snapshot.charts`; the same content and images always get the same tar.
--diff says what it renders otherwise than the newest version in production, and writes it to .pipeline/diff.
"""

from __future__ import annotations

import fnmatch
import logging
import os
from collections.abc import Mapping

from pipeline_steps.building import consumed, image_records, packaging
from pipeline_steps.charts import version
from pipeline_steps.charts.references import Edits
from pipeline_steps.charts.rewrite import rewrite
from pipeline_steps.ci.build import detect
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.release import publishing
from pipeline_steps.reporting import differences
from pipeline_steps.state.attempt import attempt
from pipeline_steps.state.record import Record, fingerprint, make_key
from pipeline_steps.state.state import State
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout, opened

STEP = Step(
    "snapshot",
    __doc__,
    kind="making",
    subjects="charts",
    keywords=("plan", "again"),
    options=(Option("diff", "flag", "say what it renders otherwise than what is published"),),
    needs=("snapshot images", "snapshot charts"),
    reads=("build_image",),
    writes=("chart", "tar", "image:NAME"),
)
FORMAT = 1

log = logging.getLogger("pipeline_steps.snapshot")  # __name__ is __main__ under -m


def snapshot(
    chart: str, *, config: Config, state: State, plan: bool = False, again: bool = False, diff: bool = False
) -> Record | tuple[Record, ...]:
    """Publish a snapshot of `chart` and record it; the former record when that still holds.

    diff: write .pipeline/diff/CHART.diff, too. Returns () when only planned. Raises EvidenceError (an image was not
    built, a dependency is another one than the last release used), ConfigurationError, Conflict.
    """
    checkout = opened(config)
    it = checkout.chart(chart)
    state.about(checkout.contents_of(it))
    images, uses = image_records.built(checkout, it, state)
    files = packaging.files_of(checkout, it)
    inputs = packaging.inputs(images, files)
    consumed.unchanged(checkout, it, state, inputs, again=again)
    edits = packaging.edits(checkout, it, files, images)
    number = numbered(checkout, it, edits, inputs)
    parameters = {"version": number}
    key = make_key("snapshot", FORMAT, parameters=parameters, content=it.content, consumed=inputs)
    repositories = publishing.repositories(config, "snapshot")
    former = None if again else state.verdict(key)
    if former and not (former.passed and publishing.stands(repositories, former, chart, number)):
        former = None
    if former and not diff:
        return former
    made = rewrite(files, number, edits, it.path).archive
    if diff:
        differences.write(checkout, it, config, state, made, images)
    if former:
        return former
    if plan:
        return publishing.plan(repositories, made)
    names = image_records.outputs(images)
    with attempt(
        state, step="snapshot", subject=chart, key=key, content=it.content, revision=checkout.revision,
        parameters={**parameters, "modified": list(it.modified)}, inputs=inputs, uses=uses,
        supersedes=[former.id for former in state.find(step="snapshot", subject=chart, content=it.content)],
    ) as trial:  # fmt: skip
        trial.begin({"chart": repositories[0].url, "tar": made.tar_digest, **names})
        return trial.passed({**publishing.publish(repositories, made), **names})


def numbered(checkout: Checkout, chart: Chart, edits: Edits, inputs: Mapping[str, str]) -> str:
    """The snapshot's version. It stands for all that is in it, so one version never means two tars."""
    return version.snapshot(
        version.strict(chart.version, chart.path),
        released=packaging.released(checkout, chart),
        count=checkout.position(chart) if on_mainline(checkout) else 0,
        fingerprint=fingerprint([chart.content, edits, dict(inputs), FORMAT]),
        dirty=bool(chart.modified),
    )


def on_mainline(checkout: Checkout) -> bool:
    """Whether a snapshot gets its mainline position; reviews and other branches get 0, which sorts below them all."""
    build = detect(os.environ)
    branch = build.branch or checkout.source.branch() or ""
    mainline = any(fnmatch.fnmatchcase(branch, pattern) for pattern in checkout.config.release.branches)
    return bool(build.tag) or (mainline and not build.review)


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, snapshot, argv)


if __name__ == "__main__":
    raise SystemExit(main())
