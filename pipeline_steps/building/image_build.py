"""What build_image builds under which key, and whether the channel has an image of that key."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import NamedTuple

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import build_definition
from pipeline_steps.building.build_definition import BuildDefinition
from pipeline_steps.building.image_records import is_modified
from pipeline_steps.config.language import Config
from pipeline_steps.images.existing import resolve
from pipeline_steps.oci.completeness import find_stored
from pipeline_steps.oci.registry import Registry, connect
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State

log = logging.getLogger(__name__)


class ImageBuild(NamedTuple):
    """An image to build.

    consumed: digests of base images and generated files.
    image_key: key of the image, which is in the tag of `target`. key: key of the record.
    """

    definition: BuildDefinition
    consumed: Mapping[str, str]
    image_key: str
    key: str
    target: Reference
    registry: Registry


def plan_build(
    definition: BuildDefinition, consumed: Mapping[str, str] | None, image: str, config: Config
) -> ImageBuild:
    """consumed: as an earlier record has them; None: as they are now."""
    consumed = consumed or _resolve_inputs(definition, config)
    image_key = definition.image_key(consumed)
    target = build_definition.snapshot_destination(config, image, image_key)
    key = make_key(
        "build_image",
        build_definition.FORMAT,
        parameters={"image": image_key},
        content=definition.content,
        consumed=consumed,
    )
    return ImageBuild(definition, consumed, image_key, key, target, connect(target, config.hosts))


def _resolve_inputs(definition: BuildDefinition, config: Config) -> dict[str, str]:
    """The digests that the names of the base images have now, and those of the generated files that
    lie here.
    """
    where = definition.dockerfile.name
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


def recorded_image(
    verdict: Record | None, build: ImageBuild, *, modified: bool
) -> RecordedImage | None:
    """The image of a passed record, if the channel has all of it.

    modified: whether the checkout has modifications of the image. What was built of modifications
    that are committed by now is built once more: a release needs a clean record.
    """
    if verdict is None or not verdict.passed or (is_modified(verdict) and not modified):
        return None
    return _complete_image(verdict, build)


def built_meanwhile(
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
