"""Which images of a release are copied where: from the proof and the configuration alone."""

from __future__ import annotations

from typing import NamedTuple

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import image_records
from pipeline_steps.config.language import Config, named
from pipeline_steps.release.proof import Proof
from pipeline_steps.state.record import Record
from pipeline_steps.toolbox.errors import ConfigurationError


class ImageCopy(NamedTuple):
    """An image to copy: the tested one by digest, and the name it gets in production."""

    name: str
    source: Reference
    target: Reference


def image_copies(proof: Proof, config: Config, snapshot: Record | None = None) -> tuple[ImageCopy, ...]:
    """Where each image goes, from where `snapshot` (any of the proof's when None) has it.

    Raises ConfigurationError when the production channel has no place for images.
    """
    images = image_records.images_of(snapshot or proof.snapshots[0])
    place = config.channels.production.images
    if images and not place:
        raise ConfigurationError(
            "channels.production.images is missing",
            where=config.where("channels.production"),
            advice="name a registry path, like registry.example.com/production",
        )
    tag = image_tag(config.release.image_tag, proof.chart.name, proof.chart.version)
    return tuple(
        ImageCopy(name, source, Reference.parse(f"{place}/{name}:{tag}@{source.digest}"))
        for name, source in sorted(images.items())
    )


def image_tag(template: str, name: str, version: str) -> str:
    """The tag of a chart's images in production: `release.image_tag` filled, + written as registries can have it."""
    return named(template, name, version).replace("+", "_")
