"""Release what was tested: images by digest, the chart with only version and references replaced.

    python -m pipeline_steps.promote --tag hello-1.4.0
    pipeline-steps promote --plan

Reads the tag (--tag, else the CI's, else the one tag_release recorded here), the content of its
charts and the records of that content; nothing is built or tested here. Writes a record with each
change and every digest. Changes outside: images copied to `channels.production.images`, then one
version in each of `channels.production.charts`.
"""

from __future__ import annotations

from pathlib import Path

from pipeline_steps.building.channels import WritableChannel
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.oci.copy import copy
from pipeline_steps.release.derivation import derive_release
from pipeline_steps.release.proof import require_releasable
from pipeline_steps.release.publication import log_images, plan_publication
from pipeline_steps.release.version_tag import open_at_tag
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import NotYet

STEP = Step(
    "promote",
    __doc__,
    reuses_records=True,
    subjects="charts",
    keywords=("plan", "again"),
    options=(
        Option(
            "tag",
            "text",
            "the tag to release; default: the CI's, else the one tag_release recorded here",
        ),
        Option("apply", "path", "carry out exactly this plan (not yet)", from_environment=False),
    ),
    doctor_needs=(
        "review system",
        "helm",
        "snapshot images",
        "snapshot charts",
        "production images",
        "production charts",
    ),
    reads=("build_image", "snapshot", "integration_test", "tag_release"),
    writes=("chart", "tar", "image:NAME"),
    releases=True,
)


def promote(
    name: str,
    *,
    config: Config,
    state: State,
    tag: str | None = None,
    plan: bool = False,
    again: bool = False,
    apply: Path | None = None,
) -> Record | tuple[Record, ...]:
    """Release the chart `name` as it is at `tag`.

    Args:
        tag: the tag to release; default: see `version_tag.default_tag`.
        plan: log what would be published; returns ().
        again: publish even if a passed record exists.

    Returns:
        The new record, or the earlier one when all it published is still there.

    Raises:
        EvidenceError: something required has not passed for this content.
        NotApproved: an approval is missing now.
        Conflict: the version or an image's tag is used by other content.
        ChartFailed: the release would render differently from what was tested.
    """
    if apply:
        raise NotYet("promote --apply", advice="leave --apply out: promote makes the plan anew")
    production = WritableChannel(config, "production")
    checkout, release_tag = open_at_tag(name, tag, config, state)
    proof = require_releasable(checkout, name, config, state, record=not plan)
    publication = plan_publication(proof, checkout, config, release_tag)
    earlier = None if again else state.verdict(publication.key)
    if released := publication.published(earlier, production, config):
        return released
    release = derive_release(proof, checkout, config, production, format=publication.format)
    if plan:
        log_images(publication, config)
        return production.plan(release.archive)
    images = publication.image_outputs
    with publication.attempt(release, checkout, state) as attempt:
        attempt.begin({"chart": production.first.url, "tar": release.archive.tar_digest, **images})
        # Images first: a published chart must never name an image that is not there.
        for image in publication.images:
            copy(image.source, image.destination, hosts=config.hosts)
        return attempt.passed(
            {**production.publish(release.archive, release_tag.created), **images}
        )


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, promote, argv)


if __name__ == "__main__":
    raise SystemExit(main())
