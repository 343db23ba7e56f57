"""What promote publishes of a content that is proven, and whether a release before did so."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import msgspec

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import image_records
from pipeline_steps.building.channels import WritableChannel
from pipeline_steps.building.production_images import ImageCopy, image_copies
from pipeline_steps.config.language import Config, as_tuple
from pipeline_steps.oci.completeness import find_stored
from pipeline_steps.oci.copy import tag_points_to
from pipeline_steps.oci.registry import connect
from pipeline_steps.release.derivation import ReleaseCandidate
from pipeline_steps.release.proof import Proof
from pipeline_steps.repositories.repository import ArchiveGone
from pipeline_steps.sources.source import Tag
from pipeline_steps.state.attempt import Attempt, record_attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.workspace.checkout import Checkout
from pipeline_steps.workspace.content import FORMAT as CONTENT_FORMAT
from pipeline_steps.workspace.tags import read_trailers

#: Part of the key of every record of promote.
FORMAT = 1

log = logging.getLogger("pipeline_steps.promote")


class Publication(NamedTuple):
    """What the release of a tag publishes, before its chart is derived.

    images: where each image goes. parameters, key: of the record. format: of the content in the
    tag.
    """

    proof: Proof
    images: tuple[ImageCopy, ...]
    parameters: dict[str, Any]
    key: str
    format: int

    @property
    def image_outputs(self) -> dict[str, str]:
        """The outputs of the record that name the images in production."""
        return image_records.image_outputs({image.name: image.destination for image in self.images})

    def published(
        self, verdict: Record | None, production: WritableChannel, config: Config
    ) -> Record | None:
        """The record of this release if it passed, and all images and charts that it published are
        still there and complete; else None, and promote publishes what is missing again.
        """
        if verdict is None or not verdict.passed:
            return None
        # A record has one output for each repository: chart, chart-2, …
        charts = [value for name, value in verdict.outputs.items() if name.startswith("chart")]
        in_registries = [
            *(image.destination for image in self.images),
            *(
                Reference.parse(chart.removeprefix("oci://"), where=chart)
                for chart in charts
                if chart.startswith("oci://")
            ),
        ]
        for target in in_registries:
            stored = find_stored(connect(target, config.hosts), target)
            if stored.lost or stored.tagged != target.digest:
                return None
        try:
            return verdict if production.has_recorded_archives(verdict) else None
        except ArchiveGone as error:
            log.warning("%s", error)
            return None

    def attempt(
        self, release: ReleaseCandidate, checkout: Checkout, state: State
    ) -> AbstractContextManager[Attempt]:
        """The record of this release, with each change of the chart and all that proves it."""
        chart = self.proof.chart
        changes = [msgspec.structs.asdict(change) for change in release.changes]
        return record_attempt(
            state,
            step="promote",
            subject=chart.name,
            key=self.key,
            content=chart.content,
            revision=checkout.revision,
            parameters={**self.parameters, "changes": changes},
            inputs=self.proof.consumed,
            uses=self.proof.uses,
        )


def plan_publication(proof: Proof, checkout: Checkout, config: Config, tag: Tag) -> Publication:
    """What the release of `tag` publishes. checkout: of its revision.

    Raises ConfigurationError when the production channel has no place for images.
    """
    chart = proof.chart
    # A tag made by hand says no format; its images then have the names of today.
    tagged = read_trailers(tag).get(chart.name)
    format = tagged.format if tagged else CONTENT_FORMAT
    images = image_copies(proof.snapshots[0], chart, checkout, format=format)
    parameters = {
        "version": chart.version,
        "images": [str(image.destination) for image in images],
        "charts": list(as_tuple(config.channels.production.charts)),
    }
    key = make_key(
        "promote", FORMAT, parameters=parameters, content=chart.content, consumed=proof.consumed
    )
    return Publication(proof, images, parameters, key, format)


def log_images(publication: Publication, config: Config) -> None:
    """Say for --plan what would be copied."""
    for image in publication.images:
        there = tag_points_to(image.destination, str(image.destination.digest), hosts=config.hosts)
        would = "is there" if there else f"would be copied from {image.source}, replacing nothing"
        log.info("%s %s", image.destination, would)
