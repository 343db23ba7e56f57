"""Images that are built elsewhere: their digests, resolved and recorded once for each reference."""

from __future__ import annotations

import logging

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import build_definition
from pipeline_steps.building.image_records import is_modified
from pipeline_steps.images.existing import resolve
from pipeline_steps.oci.registry import connect
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.workspace.checkout import Checkout

log = logging.getLogger(__name__)


def record_existing(
    image: str, checkout: Checkout, state: State, *, plan: bool, again: bool
) -> Record | tuple[Record, ...]:
    """The record of the image's digest; an earlier one if the image is still there.

    again: resolve it even then. Returns () when only planned.
    """
    config, content = checkout.config, checkout.image_content(image)
    reference = build_definition.existing_reference(checkout, image)
    parameters = {"builder": "existing", "reference": str(reference)}
    modified = checkout.image_modified(image)
    earlier = [
        record
        for record in state.preferred(
            state.find(step="build_image", subject=image, content=content)
        )
        if record.parameters.get("reference") == str(reference)
        and is_modified(record) == bool(modified)
    ]
    if earlier and not again:
        recorded = Reference.parse(earlier[0].outputs["image"])
        # Not resolved again while it is there: a tag that moves would make a new snapshot each day.
        if connect(recorded, config.hosts).head(recorded.path, str(recorded.digest)):
            return earlier[0]
        log.warning("%s: %s is not there any more, resolving %s again", image, recorded, reference)
    resolved = resolve(reference, config.hosts, where=config.where(f"images.{image}"))
    if plan:
        log.info("%s: is %s, built elsewhere", image, resolved)
        return ()
    consumed = {"image": resolved.name}
    with record_attempt(
        state,
        step="build_image",
        subject=image,
        key=make_key(
            "build_image",
            build_definition.FORMAT,
            parameters=parameters,
            content=content,
            consumed=consumed,
        ),
        content=content,
        revision=checkout.revision,
        parameters={**parameters, "modified": list(modified)},
        inputs={str(reference): resolved.name},
        supersedes=[record.id for record in earlier],
    ) as attempt:
        return attempt.passed({"image": str(resolved)})
