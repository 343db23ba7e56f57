"""What promote makes of a tested snapshot: the names of its images in production, and the chart
that names them.

integration_test asks the same before there is a tag, to see that the derived chart renders as the
tested one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import image_records, packaging
from pipeline_steps.charts.archive import unpack
from pipeline_steps.charts.rewrite import Rewritten, rewrite
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
    snapshot: Record, chart: Chart, checkout: Checkout, *, format: int = FORMAT
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


def derive_production_chart(
    tested: bytes,
    snapshot: Record,
    chart: Chart,
    checkout: Checkout,
    images: Mapping[str, Reference],
) -> Rewritten:
    """The production chart of a snapshot: its version, its appVersion where configured, its images
    replaced.

    tested: the snapshot's .tgz. images: as `production_image_names` gives them; empty: only the version is
    replaced. Raises ConfigurationError, EvidenceError when the archive is not the recorded one.
    """
    files = unpack(tested, snapshot.outputs["chart"])
    digests = {name: tested.digest for name, tested in image_records.images_of(snapshot).items()}
    edits = {}
    if images or not digests:
        released = {name: images[name]._replace(digest=digest) for name, digest in digests.items()}
        edits = packaging.image_edits(checkout, chart, files, released)
    return rewrite(files, chart.version, edits, chart.path)
