"""The names that a release gives the images of a tested snapshot in production, before any is copied
there.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import image_records
from pipeline_steps.config.language import fill_name_template
from pipeline_steps.state.record import Record
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout
from pipeline_steps.workspace.content import FORMAT, FORMAT_1


class ImageCopy(NamedTuple):
    """An image to copy: the tested one by digest, and the name it gets in production."""

    name: str
    source: Reference
    destination: Reference


def image_copies(
    snapshot: Record, chart: Chart, checkout: Checkout, *, format: int
) -> tuple[ImageCopy, ...]:
    """Where each image of a snapshot of `chart` goes, from where the record says that it is.

    checkout: where the released chart is. format: of the tag that is released.
    Raises ConfigurationError when the production channel has no place for images.
    """
    images = image_records.images_of(snapshot)
    destinations = production_image_names(checkout, chart, format=format)
    if images and not destinations:
        raise ConfigurationError(
            "channels.production.images is missing",
            where=checkout.config.where("channels.production"),
            advice="name a registry path, like registry.example.com/production",
        )
    return tuple(
        ImageCopy(name, source, destinations[name]._replace(digest=source.digest))
        for name, source in sorted(images.items())
    )


def production_image_names(
    checkout: Checkout, chart: Chart, *, format: int = FORMAT
) -> dict[str, Reference]:
    """Image name → its name in production, without digest; none when the channel has no place for
    images.
    """
    config = checkout.config
    place = config.channels.production.images
    if not place:
        return {}
    names = {}
    for image in chart.images:
        shared = len(checkout.image_users(image)) > 1
        tag = image_tag(
            config.release.image_tag, chart.name, chart.version, shared=shared, format=format
        )
        names[image] = Reference.parse(f"{place}/{image}:{tag}")
    return names


def image_tag(
    template: str | None, chart: str, version: str, *, shared: bool, format: int = FORMAT
) -> str:
    """The tag of an image that is released with a chart: `release.image_tag` filled, + as
    registries can have it.

    template: None for the default. shared: several charts use the image, and would want the tag
    {version} for it.

    >>> image_tag(None, "shop", "4.0.0+b", shared=False), image_tag(None, "shop", "4.0.0", shared=True)
    ('4.0.0_b', 'shop-4.0.0')
    """
    default = "{name}-{version}" if shared and format != FORMAT_1 else "{version}"
    # A tag has no "+" (distribution specification); helm writes "_" for it as well.
    return fill_name_template(template or default, chart, version).replace("+", "_")
