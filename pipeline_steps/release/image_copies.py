"""Which images of a release are copied where: from the proof and the configuration alone."""

from __future__ import annotations

from typing import NamedTuple

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import image_records
from pipeline_steps.config.language import Config, named
from pipeline_steps.release.proof import Proof
from pipeline_steps.state.record import Record
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.workspace.checkout import Checkout
from pipeline_steps.workspace.content import FORMAT, FORMAT_1


class ImageCopy(NamedTuple):
    """An image to copy: the tested one by digest, and the name it gets in production."""

    name: str
    source: Reference
    target: Reference


def image_copies(
    proof: Proof, checkout: Checkout, config: Config, snapshot: Record | None = None, *, format: int = FORMAT
) -> tuple[ImageCopy, ...]:
    """Where each image goes, from where `snapshot` (any of the proof's when None) has it.

    checkout: where the released chart is. format: of the tag that is released.
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
    copies = []
    for name, source in sorted(images.items()):
        shared = len(checkout.image_users(name)) > 1
        tag = image_tag(config.release.image_tag, proof.chart.name, proof.chart.version, shared=shared, format=format)
        copies.append(ImageCopy(name, source, Reference.parse(f"{place}/{name}:{tag}@{source.digest}")))
    return tuple(copies)


def image_tag(template: str | None, chart: str, version: str, *, shared: bool, format: int = FORMAT) -> str:
    """The tag of an image that is released with a chart: `release.image_tag` filled, + as registries can have it.

    template: None for the default. shared: several charts use the image, and would want the tag {version} for it.

    >>> image_tag(None, "shop", "4.0.0+b", shared=False), image_tag(None, "shop", "4.0.0", shared=True)
    ('4.0.0_b', 'shop-4.0.0')
    """
    default = "{name}-{version}" if shared and format != FORMAT_1 else "{version}"
    return named(template or default, chart, version).replace("+", "_")
