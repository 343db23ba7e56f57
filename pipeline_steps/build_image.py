"""Build and push the images of the selected charts, each once for its inputs; resolve the existing
ones.

    python -m pipeline_steps.build_image
    pipeline-steps build_image --chart hello
    pipeline-steps build_image --pull            # resolve base images again

Reads Dockerfile and context as the source stores them, less what .dockerignore leaves out, files of
`generated`, args, target, platforms, and the digests of the base images, which are resolved once
for an image's content. Writes a record with the image's digest, and does nothing where a record of
the same inputs names one that is there, whole. Changes outside:
`channels.snapshot.images`/NAME:k-<12 hex of the key>. Such a tag proves nothing and is never moved:
if it names another image, the new image gets the tag k-<12 hex>-<8 hex of its digest>. After a
build the records are read again: an image that another agent recorded meanwhile is used instead.
"""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import build_definition
from pipeline_steps.building.existing_images import record_existing
from pipeline_steps.building.image_build import (
    ImageBuild,
    RecordedImage,
    built_meanwhile,
    plan_build,
    recorded_image,
)
from pipeline_steps.building.image_records import records_to_supersede
from pipeline_steps.ci.detect import detect
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.images.builder import Builder, BuildRequest
from pipeline_steps.images.builders import make_builder as builder_here
from pipeline_steps.images.existing import digest_at, tag_image
from pipeline_steps.state.attempt import Attempt, record_attempt
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import EvidenceError
from pipeline_steps.workspace.checkout import Checkout, open_checkout

STEP = Step(
    "build_image",
    __doc__,
    reuses_records=True,
    subjects="images",
    keywords=("plan", "again", "timeout"),
    options=(Option("pull", "flag", "resolve base images and existing images again"),),
    doctor_needs=("engine", "buildx", "snapshot images"),
    writes=("image",),
)

#: How many files that are left out of a build its record lists.
LISTED = 100

log = logging.getLogger("pipeline_steps.build_image")  # __name__ is __main__ under -m


def build_image(
    image: str,
    *,
    config: Config,
    state: State,
    plan: bool = False,
    again: bool = False,
    pull: bool = False,
    timeout: float | None = None,
) -> Record | tuple[Record, ...]:
    """Make sure that `image` is in the snapshot channel, and record its digest.

    Args:
        plan: log what would be done; returns ().
        again: build even if a passed record exists.
        pull: resolve base images and `existing` images again.
        timeout: seconds for the build.

    Returns:
        The new record, or the earlier one when the image it names is still in the channel.

    Raises:
        ChartFailed: the build failed.
        EvidenceError: a tag is built, and the checkout has local modifications.
        MachineError, AccessRefused, Unreachable, ConfigurationError.
    """
    checkout = open_checkout(config)
    modified = _modified_files(checkout, image)
    if checkout.image_entry(image).context is None:
        return record_existing(image, checkout, state, plan=plan, again=again or pull)
    definition = build_definition.read_build_definition(checkout, image)
    earlier = state.preferred(
        state.find(step="build_image", subject=image, content=definition.content)
    )
    digests = None if pull else build_definition.digests_from_record(definition, earlier)
    build = plan_build(definition, digests, image, config)
    # By key, not by tag: whoever may push to the snapshot channel can set a tag, but makes no
    # record.
    verdict = None if again else state.verdict(build.key)
    recorded = recorded_image(verdict, build, modified=bool(modified))
    if recorded and recorded.is_tagged:
        return recorded.record
    # Asked before a long build, too: it shows that the login is good for reading.
    if not recorded and digest_at(build.registry, build.target):
        log.info("%s: has no record that counts here, so it proves nothing", build.target)
    builder = builder_here(os.environ)
    builder.check_supported(
        definition.dockerfile, definition.entry.platforms, definition.entry.secrets
    )
    if plan:
        push = f"build and push {build.target}"
        log.info("%s: would %s", image, f"name {recorded.reference} again" if recorded else push)
        return ()
    with _attempt(state, checkout, definition, build, earlier, modified) as attempt:
        # Recorded before the push: a build that is killed has pushed an image that nothing else
        # names.
        attempt.begin({"image": str(build.target)})
        if recorded:
            reference = _tag_again(build, recorded, attempt)
        else:
            request = definition.build_request(
                _pushed(build.target), build.consumed, config, timeout
            )
            reference = _build(builder, request._replace(no_cache=again), build, state, attempt)
        return attempt.passed({"image": str(reference)})


def _attempt(
    state: State,
    checkout: Checkout,
    definition: build_definition.BuildDefinition,
    build: ImageBuild,
    earlier: list[Record],
    modified: tuple[str, ...],
) -> AbstractContextManager[Attempt]:
    """The record of this build, with all that decides what is in the image."""
    return record_attempt(
        state,
        step="build_image",
        subject=definition.image,
        key=build.key,
        content=definition.content,
        revision=checkout.revision,
        parameters={
            "builder": definition.builder_kind,
            "key": build.image_key,
            "left_out": definition.files_not_sent(checkout.config)[:LISTED],
            "modified": list(modified),
        },
        inputs=build.consumed,
        supersedes=records_to_supersede(earlier, modified),
    )


def _modified_files(checkout: Checkout, image: str) -> tuple[str, ...]:
    """The local modifications of an image. Raises EvidenceError for any in the build of a tag."""
    modified = checkout.image_modified(image)
    if modified and detect(os.environ).tag:
        raise EvidenceError(
            f"the image {image} has local modifications: {', '.join(modified[:5])}",
            where=str(checkout.config.root),
            advice="a build of a tag must not contain other changes: undo them",
        )
    return modified


def _tag_again(build: ImageBuild, recorded: RecordedImage, attempt: Attempt) -> Reference:
    """The name of a recorded image whose tag is gone, or names another image by now."""
    attempt.parameters.update(
        taken=True, reproducible=recorded.record.parameters.get("reproducible")
    )
    return tag_image(build.registry, build.target, str(recorded.reference.digest))


def _build(
    builder: Builder, request: BuildRequest, build: ImageBuild, state: State, attempt: Attempt
) -> Reference:
    """The name of the image that was built, or of the one that was recorded meanwhile."""
    # Known before the build, so that what came meanwhile can be told from what was there.
    known_ids = {record.id for record in state.records()}
    built = builder.build(request)
    attempt.tools.update(built.tools)
    # --again wants an image of its own.
    other = None if request.no_cache else built_meanwhile(state, build, known_ids)
    attempt.parameters.update(taken=other is not None, reproducible=built.reproducible)
    return other or tag_image(build.registry, build.target, built.digest)


def _pushed(target: Reference) -> Reference:
    """The tag for builders that cannot push by digest alone. It is overwritten and never read."""
    # Not the key's own tag: another agent may be about to claim it for its image.
    return target._replace(tag=str(target.tag).replace("k-", "pushed-", 1))


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, build_image, argv)


if __name__ == "__main__":
    raise SystemExit(main())
