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

from pipeline_steps.building import image_build
from pipeline_steps.building.existing_images import record_existing
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.images.builders import make_builder
from pipeline_steps.images.existing import digest_at
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.workspace.checkout import open_checkout

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
    modified = image_build.modified_files(checkout, image)
    if checkout.image_entry(image).context is None:
        return record_existing(image, checkout, state, plan=plan, again=again or pull)
    build = image_build.plan_build(image, checkout, state, modified, pull=pull)
    # By key, not by tag: whoever may push to the snapshot channel can set a tag, but makes no
    # record.
    verdict = None if again else state.verdict(build.key)
    recorded = image_build.recorded_image(verdict, build)
    if recorded and recorded.is_tagged:
        return recorded.record
    # Asked before a long build, too: it shows that the login is good for reading.
    if not recorded and digest_at(build.registry, build.target):
        log.info("%s: has no record that counts here, so it proves nothing", build.target)
    builder, entry = make_builder(os.environ), build.definition.entry
    builder.check_supported(build.definition.dockerfile, entry.platforms, entry.secrets)
    if plan:
        push = f"build and push {build.target}"
        log.info("%s: would %s", image, f"name {recorded.reference} again" if recorded else push)
        return ()
    with build.attempt(checkout, state, recorded) as attempt:
        # Recorded before the push: a build that is killed has pushed an image that nothing else
        # names.
        attempt.begin({"image": str(build.target)})
        if recorded:
            reference = image_build.tag_again(build, recorded, attempt)
        else:
            request = build.request(config, timeout)._replace(no_cache=again)
            reference = image_build.run_build(builder, request, build, state, attempt)
        return attempt.passed({"image": str(reference)})


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, build_image, argv)


if __name__ == "__main__":
    raise SystemExit(main())
