"""The images of a chart, its file:// subcharts' among them, as records name them: the one place
that reads them there.

Which images a chart has stands in `Chart.images`, what they are made of in
`Checkout.image_content`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pipeline_steps.auth.reference import Reference
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import EvidenceError
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout

#: What the names of images among a record's inputs and outputs begin with.
IMAGE = "image:"


def recorded_images(
    checkout: Checkout, chart: Chart, state: State
) -> tuple[dict[str, Reference], list[str]]:
    """The images of a chart as build_image recorded them for their current content.

    Returns image name → reference with digest, and the ids of the records.
    Raises EvidenceError naming the image that has no such record.
    """
    images: dict[str, Reference] = {}
    uses: list[str] = []
    for name in chart.images:
        content = checkout.image_content(name)
        records = state.find(step="build_image", subject=name, content=content)
        # What an overlay changes is no content: here, the build of these very modifications is
        # meant.
        records = [
            record
            for record in records
            if is_modified(record) == bool(checkout.image_modified(name))
        ]
        if not records:
            raise EvidenceError(
                f"image {name} of chart {chart.name} has no record for its content {content[:19]}",
                where=str(state.path),
                advice="run pipeline-steps build_image first",
            )
        build = state.preferred(records)[0]
        images[name] = Reference.parse(build.outputs["image"])
        uses.append(build.id)
    return images, uses


def is_modified(record: Record) -> bool:
    """Whether what was built or packed had local modifications: such a record is never released."""
    return bool(record.parameters.get("modified"))


def records_to_supersede(earlier: Iterable[Record], modified: Sequence[str]) -> list[str]:
    """Ids of the earlier records of a content that a new one replaces: a modified one never
    replaces a clean one.
    """
    return [record.id for record in earlier if not modified or is_modified(record)]


def image_digest(build: Record) -> str | None:
    """The digest of the image that a record of build_image names."""
    return Reference.parse(build.outputs["image"]).digest


def images_of(record: Record) -> dict[str, Reference]:
    """Image name → reference with digest, as the record of a snapshot or a release names them."""
    outputs = record.outputs.items()
    return {
        name.removeprefix(IMAGE): Reference.parse(text)
        for name, text in outputs
        if name.startswith(IMAGE)
    }


def image_outputs(images: Mapping[str, Reference]) -> dict[str, str]:
    """The outputs of a record that name the images of a chart; `images_of` reads them."""
    return {f"{IMAGE}{name}": str(image) for name, image in images.items()}
