"""What build_image builds under which key, whether the channel has an image of that key, and the
build itself.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import NamedTuple

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import build_definition
from pipeline_steps.building.build_definition import BuildDefinition
from pipeline_steps.building.image_records import is_modified, records_to_supersede
from pipeline_steps.ci.detect import detect
from pipeline_steps.config.language import Config
from pipeline_steps.images.builder import Builder, BuildRequest
from pipeline_steps.images.existing import resolve, tag_image
from pipeline_steps.oci.completeness import find_stored
from pipeline_steps.oci.registry import Registry, connect
from pipeline_steps.state.attempt import Attempt, record_attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import EvidenceError
from pipeline_steps.workspace.checkout import Checkout

#: How many files that are left out of a build its record lists.
LISTED = 100

log = logging.getLogger("pipeline_steps.build_image")


class ImageBuild(NamedTuple):
    """An image to build.

    consumed: digests of base images and generated files. modified: files with local modifications.
    earlier: the records of this content, the first that counts first.
    image_key: key of the image, which is in the tag of `target`. key: key of the record.
    """

    definition: BuildDefinition
    consumed: dict[str, str]
    modified: tuple[str, ...]
    earlier: list[Record]
    image_key: str
    key: str
    target: Reference
    registry: Registry

    def request(self, config: Config, timeout: float | None) -> BuildRequest:
        """What to ask the builder. timeout: in seconds.

        Raises ConfigurationError when a secret is not given.
        """
        # For builders that cannot push by digest alone; this tag is overwritten and never read. Not
        # the key's own tag: another agent may be about to claim it for its image.
        tag = str(self.target.tag).replace("k-", "pushed-", 1)
        destination = self.target._replace(tag=tag)
        return self.definition.build_request(destination, self.consumed, config, timeout)

    def attempt(
        self, checkout: Checkout, state: State, recorded: RecordedImage | None
    ) -> AbstractContextManager[Attempt]:
        """The record of this build, with all that decides what is in the image.

        recorded: the image that is only named again: what was left out of it is not looked for, and
        neither are generated files.
        """
        definition = self.definition
        left_out = (
            recorded.record.parameters.get("left_out", [])
            if recorded
            else definition.files_not_sent(checkout.config)[:LISTED]
        )
        return record_attempt(
            state,
            step="build_image",
            subject=definition.image,
            key=self.key,
            content=definition.content,
            revision=checkout.revision,
            parameters={
                "builder": definition.builder_kind,
                "key": self.image_key,
                "left_out": left_out,
                "modified": list(self.modified),
            },
            inputs=self.consumed,
            supersedes=records_to_supersede(self.earlier, self.modified),
        )


def modified_files(checkout: Checkout, image: str) -> tuple[str, ...]:
    """The local modifications of an image. Raises EvidenceError for any in the build of a tag."""
    modified = checkout.image_modified(image)
    if modified and detect(os.environ).tag:
        raise EvidenceError(
            f"the image {image} has local modifications: {', '.join(modified[:5])}",
            where=str(checkout.config.root),
            advice="a build of a tag must not contain other changes: undo them",
        )
    return modified


def plan_build(
    image: str, checkout: Checkout, state: State, modified: tuple[str, ...], *, pull: bool
) -> ImageBuild:
    """What is built of an image as the checkout has it.

    pull: resolve base images now; else as an earlier record has them. Raises ConfigurationError,
    Unreachable, AccessRefused.
    """
    config = checkout.config
    definition = build_definition.read_build_definition(checkout, image)
    content = definition.content
    earlier = state.preferred(state.find(step="build_image", subject=image, content=content))
    recorded = None if pull else build_definition.digests_from_record(definition, earlier)
    consumed = recorded or _resolve_inputs(definition, config)
    image_key = definition.image_key(consumed)
    target = build_definition.snapshot_destination(config, image, image_key)
    key = make_key(
        "build_image",
        build_definition.FORMAT,
        parameters={"image": image_key},
        content=content,
        consumed=consumed,
    )
    registry = connect(target, config.hosts)
    return ImageBuild(definition, consumed, modified, earlier, image_key, key, target, registry)


def _resolve_inputs(definition: BuildDefinition, config: Config) -> dict[str, str]:
    """The digests that the names of the base images have now, and those of the generated files that
    lie here.
    """
    where = definition.dockerfile.name
    # Asked at each build, so that a base image that was replaced gives another key.
    bases = {
        str(base): resolve(base, config.hosts, where=where).name
        for base in definition.base_images()
    }
    return {**bases, **definition.generated_digests(config)}


class RecordedImage(NamedTuple):
    """The image that a record names, complete in the channel. tagged: what its tag names there."""

    record: Record
    reference: Reference
    tagged: str | None

    @property
    def is_tagged(self) -> bool:
        """Whether the recorded tag still names it."""
        return self.tagged == self.reference.digest


def recorded_image(verdict: Record | None, build: ImageBuild) -> RecordedImage | None:
    """The image of a passed record, if the channel has all of it.

    What was built of modifications that are committed by now is built once more: a release needs a
    clean record.
    """
    if verdict is None or not verdict.passed or (is_modified(verdict) and not build.modified):
        return None
    return _complete_image(verdict, build)


def tag_again(build: ImageBuild, recorded: RecordedImage, attempt: Attempt) -> Reference:
    """The name of a recorded image whose tag is gone, or names another image by now."""
    attempt.parameters.update(
        taken=True, reproducible=recorded.record.parameters.get("reproducible")
    )
    return tag_image(build.registry, build.target, str(recorded.reference.digest))


def run_build(
    builder: Builder, request: BuildRequest, build: ImageBuild, state: State, attempt: Attempt
) -> Reference:
    """The name of the image that was built, or of the one that was recorded meanwhile."""
    # Known before the build, so that what came meanwhile can be told from what was there.
    known_ids = {record.id for record in state.records()}
    built = builder.build(request)
    attempt.tools.update(built.tools)
    # --again wants an image of its own.
    other = None if request.no_cache else _built_meanwhile(state, build, known_ids)
    attempt.parameters.update(taken=other is not None, reproducible=built.reproducible)
    return other or tag_image(build.registry, build.target, built.digest)


def _built_meanwhile(
    state: State, build: ImageBuild, known_ids: Collection[str]
) -> Reference | None:
    """The image of this key that another agent recorded during our build, if the channel has it."""
    # The store was asked before the build, which took minutes.
    state.refresh()
    state.load_evidence([build.definition.content])
    images = (
        _complete_image(record, build)
        for record in state.resolve(build.key).current
        if record.id not in known_ids and record.passed and not is_modified(record)
    )
    return next((image.reference for image in images if image), None)


def _complete_image(record: Record, build: ImageBuild) -> RecordedImage | None:
    """The recorded image, if the configured channel has it with all its layers."""
    image = Reference.parse(record.outputs["image"])
    # The channel may be configured anew: an image elsewhere could not be pulled by the tests.
    if image.repository != build.target.repository or image.tag is None:
        return None
    stored = find_stored(build.registry, image)
    if stored.lost:
        lost = ", ".join(stored.lost[:3])
        log.warning("%s: the registry has lost %s; building it again", image, lost)
        return None
    return RecordedImage(record, image, stored.tagged)
