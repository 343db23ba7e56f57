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
from collections.abc import Collection

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import build_definition
from pipeline_steps.building.image_records import is_modified, records_to_supersede
from pipeline_steps.ci.build import detect
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.images.builders import make_builder as builder_here
from pipeline_steps.images.existing import digest_at, resolve, tag_image
from pipeline_steps.oci.completeness import missing_digests
from pipeline_steps.oci.registry import Registry, connect
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import EvidenceError
from pipeline_steps.workspace.checkout import Checkout, open_checkout

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

#: How many files that are left out of a build its record lists.
LISTED = 100

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
    modified = checkout.image_modified(image)
    if modified and detect(os.environ).tag:
        raise EvidenceError(
            f"the image {image} has local modifications: {', '.join(modified[:5])}",
            where=str(config.root),
            advice="a build of a tag must not contain other changes: undo them",
        )
    if checkout.image_entry(image).context is None:
        return _resolve_existing(image, checkout, state, plan=plan, again=again, pull=pull)
    definition = build_definition.read_build_definition(checkout, image)
    earlier = state.preferred(
        state.find(step="build_image", subject=image, content=definition.content)
    )
    consumed = (
        None if pull else build_definition.digests_from_record(definition, earlier)
    ) or _resolve_inputs(definition, config)
    image_key = definition.image_key(consumed)
    target = build_definition.snapshot_destination(config, image, image_key)
    registry = connect(target, config.hosts)
    key = make_key(
        "build_image",
        build_definition.FORMAT,
        parameters={"image": image_key},
        content=definition.content,
        consumed=consumed,
    )
    verdict = state.verdict(key)
    # What was built of modifications that are committed by now is built once more: a release needs
    # a clean record.
    usable = verdict is not None and verdict.passed and (bool(modified) or not is_modified(verdict))
    recorded = (
        Reference.parse(verdict.outputs["image"]) if usable and verdict and not again else None
    )
    recorded_and_present = recorded if recorded and _is_whole(registry, target, recorded) else None
    if (
        verdict
        and recorded_and_present
        and digest_at(registry, recorded_and_present._replace(digest=None))
        == recorded_and_present.digest
    ):
        return verdict
    if not recorded_and_present and digest_at(
        registry, target
    ):  # asked before a long build: so a login that lacks is told, too
        log.info("%s: is an image without a record that counts here, which proves nothing", target)
    builder = builder_here(os.environ)
    builder.check_supported(
        definition.dockerfile, definition.entry.platforms, definition.entry.secrets
    )
    if plan:
        log.info(
            "%s: would %s",
            image,
            f"name {recorded_and_present} again"
            if recorded_and_present
            else f"build and push {target}",
        )
        return ()
    with record_attempt(
        state,
        step="build_image",
        subject=image,
        key=key,
        content=definition.content,
        revision=checkout.revision,
        parameters={
            "builder": definition.builder_kind,
            "key": image_key,
            "left_out": definition.files_not_sent(config)[:LISTED],
            "modified": list(modified),
        },
        inputs=consumed,
        supersedes=records_to_supersede(earlier, modified),
    ) as attempt:
        attempt.begin({"image": str(target)})
        if verdict and recorded_and_present:  # its tag is gone, or names another image by now
            attempt.parameters.update(
                taken=True, reproducible=verdict.parameters.get("reproducible")
            )
            return attempt.passed(
                {"image": str(tag_image(registry, target, str(recorded_and_present.digest)))}
            )
        known_ids = {record.id for record in state.records()}
        request = definition.build_request(_pushed(target), consumed, config, timeout)
        built = builder.build(request._replace(no_cache=again))
        attempt.tools.update(built.tools)
        built_elsewhere = (
            None
            if again
            else _built_meanwhile(state, key, definition.content, known_ids, registry, target)
        )
        attempt.parameters.update(
            taken=built_elsewhere is not None, reproducible=built.reproducible
        )
        reference = built_elsewhere or tag_image(registry, target, built.digest)
        return attempt.passed({"image": str(reference)})


def _pushed(target: Reference) -> Reference:
    """The tag for builders that cannot push by digest alone. It is overwritten and never read."""
    return target._replace(tag=str(target.tag).replace("k-", "pushed-", 1))


def _is_whole(registry: Registry, target: Reference, recorded: Reference) -> bool:
    """Whether the configured channel has the recorded image with all its layers."""
    if recorded.repository != target.repository or recorded.tag is None:
        return False
    lost = missing_digests(registry, recorded.path, str(recorded.digest))
    if lost:
        log.warning(
            "%s: the registry has lost %s; building it again", recorded, ", ".join(lost[:3])
        )
    return not lost


def _built_meanwhile(
    state: State,
    key: str,
    content: str,
    known_ids: Collection[str],
    registry: Registry,
    target: Reference,
) -> Reference | None:
    """The image of this key that another agent recorded during our build, if the channel has it."""
    state.refresh()
    state.load_evidence([content])
    current = state.resolve(key).current
    new_records = [
        record
        for record in current
        if record.id not in known_ids and record.passed and not is_modified(record)
    ]
    images = (Reference.parse(record.outputs["image"]) for record in new_records)
    return next((image for image in images if _is_whole(registry, target, image)), None)


def _resolve_existing(
    image: str, checkout: Checkout, state: State, *, plan: bool, again: bool, pull: bool
) -> Record | tuple[Record, ...]:
    """Resolve an image that is built elsewhere to its digest, once for each reference to it."""
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
    if earlier and not (again or pull):
        recorded = Reference.parse(earlier[0].outputs["image"])
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


def _resolve_inputs(definition: build_definition.BuildDefinition, config: Config) -> dict[str, str]:
    """The digests that the names of the base images have now, and those of the generated files that
    lie here.
    """
    where = definition.dockerfile.name
    bases = {
        str(base): resolve(base, config.hosts, where=where).name
        for base in definition.base_images()
    }
    return {**bases, **definition.generated_digests(config)}


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, build_image, argv)


if __name__ == "__main__":
    raise SystemExit(main())
