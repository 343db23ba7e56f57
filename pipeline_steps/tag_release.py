"""Tag the tested content of each selected chart for release.

    python -m pipeline_steps.tag_release --chart hello
    pipeline-steps tag_release --local
    pipeline-steps tag_release --global 2026.11

First makes all of promote's checks without writing anything, so that no tag is published that
promote would refuse. Reads the records of the chart's content. Writes a record with the tag.
Changes outside: one annotated tag, named by `release.tag`, in the checkout and (without --local)
where it came from; a tag is never moved. On Gitea and GitHub the tag becomes a release that has the
chart, unless `promote` publishes it there.
"""

from __future__ import annotations

import logging

from pipeline_steps.building.channels import WritableChannel
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.release import version_tag
from pipeline_steps.release.derivation import derive_release
from pipeline_steps.release.global_tag import tag_all
from pipeline_steps.release.proof import require_releasable
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.workspace.checkout import open_checkout

STEP = Step(
    "tag_release",
    __doc__,
    reuses_records=True,
    subjects="charts",
    keywords=("plan", "again"),
    options=(
        Option("global", "text", "one tag of this name over all charts"),
        Option("local", "flag", "set the tag in this checkout only, push nothing"),
    ),
    doctor_needs=(
        "review release",
        "helm",
        "snapshot images",
        "snapshot charts",
        "production images",
        "production charts",
    ),
    reads=("build_image", "snapshot", "integration_test"),
    writes=("tag",),
    releases=True,
    checks_all_first=True,
    whole="global_",
)

log = logging.getLogger("pipeline_steps.tag_release")  # __name__ is __main__ under -m


def tag_release(
    name: str = "",
    *,
    config: Config,
    state: State,
    plan: bool = False,
    again: bool = False,
    local: bool = False,
    global_: str | None = None,
    charts: tuple[str, ...] = (),
) -> Record | tuple[Record, ...]:
    """Tag the chart `name` at the revision that is checked out.

    Args:
        plan: log what would be tagged; returns ().
        again: record even if a passed record exists.
        local: set the tag in this checkout only.
        global_: the name of one tag over all of `charts` (and name is not given).

    Returns:
        The new record, or the earlier one when the tag exists with this content.

    Raises:
        EvidenceError, NotApproved, ChartFailed: promote would refuse for this reason.
        Conflict: promote would refuse, or the tag exists with other content.
    """
    if global_:
        return tag_all(global_, charts, config=config, state=state, plan=plan, local=local)
    production = WritableChannel(config, "production")
    checkout = open_checkout(config)
    releases = None if local else version_tag.open_releases(config, checkout)
    proof = require_releasable(checkout, name, config, state, record=not plan)
    planned = version_tag.plan_tag(proof, config, local=local)
    # Asked even where a record says so: a tag can be removed, and a record cannot know.
    tagged = version_tag.tagged_revision(checkout, proof.chart)
    verdict = None if again else state.verdict(planned.key)
    if verdict and verdict.passed and tagged:
        return verdict
    # A tag is public and cannot be taken back: make all of promote's checks before it is set.
    release = derive_release(proof, checkout, config, production)
    # The tag's own where it is there: another revision may have the same content.
    revision = tagged or checkout.revision
    if releases:
        releases.require_release_access()
    if plan:
        would = "is there" if tagged else "would be set, replacing nothing"
        log.info("tag %s at %s %s", planned.name, revision, would)
        if releases:
            archive = release.archive
            log.info("its release would have %s (%s)", archive.file_name, archive.digest)
        return ()
    with planned.attempt(revision, state) as attempt:
        attempt.begin({"tag": f"{planned.name}@{revision}"})
        text = version_tag.message(proof.chart, release.copies)
        tag = checkout.source.create_tag(planned.name, revision, text, push=not local)
        outputs = {"tag": f"{tag.name}@{tag.revision}"}
        if releases:
            outputs["page"] = releases.publish_release_of(tag, release.archive)
        return attempt.passed(outputs)


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, tag_release, argv)


if __name__ == "__main__":
    raise SystemExit(main())
