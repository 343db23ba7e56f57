"""Release what was tested: images by digest, the chart with only version and references replaced.

    python -m pipeline_steps.promote --tag hello-1.4.0
    pipeline-steps promote --plan

Reads the tag (--tag, else the CI's, else the one tag_release recorded here), the content of its
charts and the records of that content; nothing is built or tested here. Writes a record with each
change and every digest. Changes outside: images copied to `channels.production.images`, then one
version in each of `channels.production.charts`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building.channels import WritableChannel
from pipeline_steps.building.production_images import ImageCopy, image_copies
from pipeline_steps.ci.detect import detect
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config, as_tuple
from pipeline_steps.oci.completeness import find_stored
from pipeline_steps.oci.copy import copy, tag_points_to
from pipeline_steps.oci.registry import connect
from pipeline_steps.release import derivation
from pipeline_steps.release.proof import require_approvals, require_proof
from pipeline_steps.repositories.repository import ArchiveGone
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError, NotYet, UsageError
from pipeline_steps.workspace.checkout import Checkout, open_checkout
from pipeline_steps.workspace.content import FORMAT as CONTENT_FORMAT
from pipeline_steps.workspace.tags import read_trailers, require_tag

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
FORMAT = 1

log = logging.getLogger("pipeline_steps.promote")  # __name__ is __main__ under -m


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
        tag: the tag to release; see `default_tag`.
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
        raise NotYet("promote --apply")
    production = WritableChannel(config, "production")
    checkout = open_checkout(config)
    # Here, though the tag's revision is released: who runs promote in a changed checkout believes
    # that the change goes out.
    refuse_modified(checkout, name)
    release_tag = require_tag(checkout.source, tag or default_tag(checkout, name, state))
    checkout = open_checkout(config, revision=release_tag.revision)
    proof = require_proof(checkout, name, config, state)
    proof = require_approvals(proof, checkout, config, state, record=not plan)
    # A tag made by hand says no format; its images then have the names of today.
    tagged = read_trailers(release_tag).get(name)
    format = tagged.format if tagged else CONTENT_FORMAT
    images = image_copies(proof.snapshots[0], proof.chart, checkout, format=format)
    parameters = {
        "version": proof.chart.version,
        "images": [str(image.destination) for image in images],
        "charts": list(as_tuple(config.channels.production.charts)),
    }
    key = make_key(
        "promote",
        FORMAT,
        parameters=parameters,
        content=proof.chart.content,
        consumed=proof.consumed,
    )
    verdict = None if again else state.verdict(key)
    if verdict and verdict.passed and is_still_released(verdict, images, production, config):
        return verdict
    release = derivation.derive_release(proof, checkout, config, production, format=format)
    if plan:
        _plan_images(images, config)
        return production.plan(release.archive)
    changes = [msgspec.structs.asdict(change) for change in release.changes]
    image_outputs = {f"image:{image.name}": str(image.destination) for image in images}
    with record_attempt(
        state,
        step="promote",
        subject=name,
        key=key,
        content=proof.chart.content,
        revision=checkout.revision,
        parameters={**parameters, "changes": changes},
        inputs=proof.consumed,
        uses=proof.uses,
    ) as attempt:
        attempt.begin(
            {"chart": production.first.url, "tar": release.archive.tar_digest, **image_outputs}
        )
        # Images first: a published chart must never name an image that is not there.
        for image in images:
            copy(image.source, image.destination, hosts=config.hosts)
        return attempt.passed(
            {**production.publish(release.archive, release_tag.created), **image_outputs}
        )


def _plan_images(images: Iterable[ImageCopy], config: Config) -> None:
    """Log what would be copied."""
    for image in images:
        there = tag_points_to(image.destination, str(image.destination.digest), hosts=config.hosts)
        would = "is there" if there else f"would be copied from {image.source}, replacing nothing"
        log.info("%s %s", image.destination, would)


def default_tag(checkout: Checkout, name: str, state: State) -> str:
    """The tag of the CI build, else the tag recorded by tag_release for the checked-out content.

    Raises UsageError when there is neither.
    """
    tag = detect(os.environ).tag
    if tag:
        return tag
    records = state.find(step="tag_release", subject=name, content=checkout.chart(name).content)
    if not records:
        raise UsageError(
            f"no tag to promote {name} from: none is given, CI builds none, and tag_release recorded "
            "none",
            advice="give --tag NAME, or run tag_release first",
        )
    return str(state.preferred(records)[0].parameters["tag"])


def refuse_modified(checkout: Checkout, name: str) -> None:
    """Raises EvidenceError when the chart has local modifications: they would not be released."""
    try:
        modified = checkout.chart(name).modified
    except ConfigurationError:  # the chart was removed or renamed after the tag was made
        return
    if modified:
        raise EvidenceError(
            f"chart {name} has local modifications: {', '.join(modified[:5])}",
            where=str(checkout.config.root),
            advice="commit or undo them: only what is in the source is released",
        )


def is_still_released(
    record: Record, images: tuple[ImageCopy, ...], production: WritableChannel, config: Config
) -> bool:
    """Whether all images and charts that the record published are still there and complete.

    If not, promote publishes what is missing again.
    """
    # A record has one output for each repository: chart, chart-2, …
    charts = [value for name, value in record.outputs.items() if name.startswith("chart")]
    in_registries = [
        *(image.destination for image in images),
        *(
            Reference.parse(chart.removeprefix("oci://"), where=chart)
            for chart in charts
            if chart.startswith("oci://")
        ),
    ]
    for target in in_registries:
        stored = find_stored(connect(target, config.hosts), target)
        if stored.lost or stored.tagged != target.digest:
            return False
    try:
        return production.has_recorded_archives(record)
    except ArchiveGone as error:
        log.warning("%s", error)
        return False


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, promote, argv)


if __name__ == "__main__":
    raise SystemExit(main())
