"""Build an image again without cache and without pushing, and compare it with the recorded one.

If the record says that the build is reproducible, the digests must be equal. Otherwise files, their
modes and owners, and the configuration are compared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import build_definition
from pipeline_steps.building.build_definition import BuildDefinition
from pipeline_steps.config.language import Config
from pipeline_steps.images import docker, image_layers
from pipeline_steps.images.builders import make_builder
from pipeline_steps.images.image_layers import Image, Member
from pipeline_steps.oci.manifest import OCI_INDEX, OCI_MANIFEST
from pipeline_steps.oci.registry import connect
from pipeline_steps.reproduction.comparison import (
    ComparedFile,
    Difference,
    Outcome,
    differing_names,
    differing_tools,
    first_difference,
)
from pipeline_steps.reproduction.repacking import checkout_of_record
from pipeline_steps.state.record import Record
from pipeline_steps.toolbox import scratch
from pipeline_steps.toolbox.errors import EvidenceError, MachineError, PipelineError, UsageError
from pipeline_steps.workspace.checkout import Checkout

#: Files are compared byte by byte up to this size, above it by digest.
MAX_COMPARED_BYTES = 64 * 2**20
#: Fields of an image's configuration that the Dockerfile decides (OCI Image Specification,
#: "Image Configuration"); others contain times, history and layers.
_CONFIG_FIELDS = ("config", "architecture", "os", "variant")


def build_image(record: Record, config: Config, *, timeout: float | None) -> Outcome:
    """Build an image from the recorded inputs and compare it with the recorded image.

    Raises:
        UsageError: the image was built elsewhere.
        EvidenceError: the inputs are not available any more.
        MachineError: this machine has another builder.
        ChartFailed: the build failed.
    """
    if record.parameters.get("builder") == "existing":
        raise UsageError(
            f"the image {record.subject} is built elsewhere: {record.parameters.get('reference')}",
            advice="name the record of an image that build_image built",
        )
    checkout = checkout_of_record(
        record, config, lambda definition: definition.image_content(record.subject)
    )
    with scratch.folder("reproduce") as folder:
        definition = _recorded_definition(record, checkout)
        recorded = Reference.parse(record.outputs["image"])
        # A random tag: two reproductions on one machine must not take each other's image.
        reference = recorded._replace(tag=f"reproduce-{os.urandom(6).hex()}", digest=None)
        media_type = _manifest_media_type(recorded, config)
        request = definition.build_request(reference, record.inputs, config, timeout)._replace(
            # Without cache: the recorded layers must not be compared with themselves.
            no_cache=True,
            output_file=folder / "image.tar",
            oci_media_types=media_type is None or media_type in (OCI_INDEX, OCI_MANIFEST),
        )
        image_builder = make_builder(os.environ)
        image_builder.check_supported(
            definition.dockerfile, definition.entry.platforms, definition.entry.secrets
        )
        built = image_builder.build(request)
        # docker without buildx writes no archive by itself.
        if not built.digest:
            docker.save_and_remove_image(reference, folder / "image.tar")
        tools = differing_tools(record.tools, built.tools)
        notes = (f"versions: {tools}",) if tools else ()
        if built.digest == recorded.digest:
            return Outcome((f"manifest {built.digest}",), (), notes)
        outcome = _compare_images(record, recorded, built.digest, folder, config, tools)
        return outcome._replace(notes=(*notes, *outcome.notes))


def _recorded_definition(record: Record, checkout: Checkout) -> BuildDefinition:
    """The build definition with the recorded key, from the source.

    Files of `generated` must be in the checkout with the recorded content. Raises EvidenceError
    when the key differs, MachineError when this machine has another builder.
    """
    definition = build_definition.read_build_definition(checkout, record.subject)
    if definition.builder_kind != record.parameters.get("builder"):
        raise MachineError(
            f"the image was built with {record.parameters.get('builder')}, this machine has "
            f"{definition.builder_kind}",
            advice="install docker's buildx plugin"
            if definition.builder_kind == "docker"
            else "use a machine without buildx",
        )
    missing_bases = [
        str(base) for base in definition.base_images() if str(base) not in record.inputs
    ]
    if not missing_bases and definition.image_key(record.inputs) == record.parameters.get("key"):
        return definition
    raise EvidenceError(
        f"the base images {', '.join(missing_bases)} are not recorded"
        if missing_bases
        else "the files of the context are not those that were built: the key differs",
        where=f"image {record.subject}",
        advice="use the version of pipeline_steps and the --config overlays that it was built with",
    )


def _manifest_media_type(recorded: Reference, config: Config) -> str | None:
    """The media type of the recorded manifest, None when the registry cannot be read.

    The media type is part of the manifest, so the rebuilt image must have the same.
    """
    try:
        descriptor = connect(recorded, config.hosts).head(recorded.path, str(recorded.digest))
    except PipelineError:
        return None
    return descriptor.media_type if descriptor else None


def _compare_images(
    record: Record, recorded: Reference, digest: str, folder: Path, config: Config, tools: str
) -> Outcome:
    """Compare files and configurations of both images; reproducible ones by digest, too."""
    must_be_equal = bool(record.parameters.get("reproducible"))
    digests = f"manifest: recorded {recorded.digest}, here {digest}"
    for side in ("theirs", "ours"):
        (folder / side).mkdir()
    try:
        recorded_images = image_layers.from_registry(
            recorded._replace(tag=None), config.hosts, folder / "theirs"
        )
    except PipelineError as error:
        note = f"the recorded image cannot be compared file by file: {error}"
        if must_be_equal:
            return Outcome((), (digests,), (note,))
        raise EvidenceError(
            f"{note}, and its builder promises no equal digest",
            where=str(recorded),
            advice="restore the image in the registry; without it nothing can be compared",
        ) from error
    rebuilt_images = {
        image.platform: image
        for image in image_layers.from_tar(folder / "image.tar", folder / "ours")
    }
    differences, notes = _all_differences(
        recorded_images, rebuilt_images, tools, times=must_be_equal
    )
    if differences:
        return Outcome((), (digests, *differences), tuple(notes))
    if must_be_equal:
        cause = (
            "files, modes and configuration are equal: compression, or order in the layers; "
            f"likely cause: {f'tool version: {tools}' if tools else 'the builder'}"
        )
        return Outcome((), (digests, cause), tuple(notes))
    words = (
        f"{len(recorded_images[0].members())} files, their modes and owners, and the configuration"
    )
    note = (
        f"this builder promises no equal digest: recorded {recorded.digest}, here "
        f"{digest or 'none'}"
    )
    return Outcome((words,), (), (note,))


def _all_differences(
    recorded: Sequence[Image], rebuilt: Mapping[str, Image], tools: str, *, times: bool
) -> tuple[list[str], list[str]]:
    """The differences and notes of all recorded platforms. rebuilt: platform → image."""
    differences: list[str] = []
    notes: list[str] = []
    for image in recorded:
        if image.platform not in rebuilt:
            differences.append(f"platform {image.platform} is recorded and not made here")
            continue
        image_differences, image_notes = _image_differences(
            image, rebuilt[image.platform], tools, times=times
        )
        differences += image_differences
        notes += image_notes
    return differences, notes


def _image_differences(
    recorded: Image, rebuilt: Image, tools: str, *, times: bool
) -> tuple[list[str], list[str]]:
    """Differences of the configurations and of the first file, and the number of such files."""
    differences = [
        f"configuration {name}: recorded {recorded.config.get(name)}, here "
        f"{rebuilt.config.get(name)}; likely cause: "
        + (f"tool version: {tools}" if tools else "an argument or base image that is not recorded")
        for name in _CONFIG_FIELDS
        if recorded.config.get(name) != rebuilt.config.get(name)
    ]
    old, new = recorded.members(), rebuilt.members()
    recorded_files, rebuilt_files = _compared_files(old), _compared_files(new)
    names = differing_names(recorded_files, rebuilt_files)
    if names:
        first = _compare_bytes(names[0], recorded, rebuilt, old, new, tools)
        differences.append(
            str(first or f"{names[0]} differs beyond its first {MAX_COMPARED_BYTES} bytes")
        )
    elif times and (
        other_times := [name for name in sorted(old) if old[name].time != new[name].time]
    ):
        differences.append(
            f"{other_times[0]}: recorded time {old[other_times[0]].time}, "
            f"here {new[other_times[0]].time}; likely cause: mtime"
        )
    return differences, [f"{len(names)} files differ: {', '.join(names[:10])}"] if len(
        names
    ) > 1 else []


def _compared_files(members: Mapping[str, Member]) -> dict[str, ComparedFile]:
    return {
        name: ComparedFile(member.digest.encode(), member.mode, member.kind, member.owner)
        for name, member in members.items()
    }


def _compare_bytes(
    name: str,
    recorded: Image,
    rebuilt: Image,
    old: Mapping[str, Member],
    new: Mapping[str, Member],
    tools: str,
) -> Difference | None:
    sides = []
    for image, members in ((recorded, old), (rebuilt, new)):
        member = members.get(name)
        data = image.read(name, member.layer, MAX_COMPARED_BYTES) if member else b""
        sides.append(
            {name: ComparedFile(data, member.mode, member.kind, member.owner)} if member else {}
        )
    return first_difference(*sides, tools=tools)
