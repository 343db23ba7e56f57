"""An image built again without cache and without pushing, compared with the recorded one.

Where the record says that the same inputs give the same digest anywhere, that is demanded; of
others the files, their modes and owners and the configuration are compared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import recipe
from pipeline_steps.building.recipe import Recipe
from pipeline_steps.config.language import Config
from pipeline_steps.images import docker, image_layers
from pipeline_steps.images.builders import builder
from pipeline_steps.images.image_layers import Image, Member
from pipeline_steps.oci.manifest import OCI_INDEX, OCI_MANIFEST
from pipeline_steps.oci.registry import connect
from pipeline_steps.reproduction.comparison import (
    Difference,
    Outcome,
    Part,
    first_difference,
    how_many,
    tools_that_differ,
)
from pipeline_steps.reproduction.repacking import source_of
from pipeline_steps.state.record import Record
from pipeline_steps.toolbox import scratch
from pipeline_steps.toolbox.errors import EvidenceError, MachineError, PipelineError, UsageError
from pipeline_steps.workspace.checkout import Checkout

#: Bytes of a file that are compared one by one; what differs beyond is told by digests.
MOST = 64 * 2**20
#: What of a configuration is set by the Dockerfile; times, history and layers follow from other
#: things.
_SET = ("config", "architecture", "os", "variant")


def build_image(record: Record, config: Config, *, timeout: float | None) -> Outcome:
    """Build the recorded inputs again and compare.

    Raises EvidenceError (the inputs are not to be had), MachineError (no such builder here),
    ChartFailed (the build).
    """
    if record.parameters.get("builder") == "existing":
        raise UsageError(
            f"image {record.subject} is built elsewhere: {record.parameters.get('reference')}"
        )
    checkout = source_of(record, config, lambda it: it.image_content(record.subject))
    with scratch.folder("reproduce") as folder:
        it = _recipe(record, checkout, config)
        recorded = Reference.parse(record.outputs["image"])
        target = recorded._replace(tag=f"reproduce-{os.urandom(6).hex()}", digest=None)
        media = _media(recorded, config)
        request = it.request(target, record.inputs, config, timeout)._replace(
            fresh=True,
            to=folder / "image.tar",
            oci=media is None or media in (OCI_INDEX, OCI_MANIFEST),
        )
        builds = builder(os.environ)
        builds.check(it.dockerfile, it.entry.platforms, it.entry.secrets)
        built = builds.build(request)
        if not built.digest:
            docker.save(target, folder / "image.tar")
        tools = tools_that_differ(record.tools, built.tools)
        notes = (f"versions: {tools}",) if tools else ()
        if built.digest == recorded.digest:
            return Outcome((f"manifest {built.digest}",), (), notes)
        found = _compared(record, recorded, built.digest, folder, config, tools)
        return found._replace(notes=(*notes, *found.notes))


def _recipe(record: Record, checkout: Checkout, config: Config) -> Recipe:
    """The recipe with the recorded key, from the source; what was generated must lie in the
    checkout as it was.
    """
    it = recipe.read(checkout, record.subject)
    if it.kind != record.parameters.get("builder"):
        raise MachineError(
            f"recorded was a build with {record.parameters.get('builder')}, this machine has {it.kind}",
            advice="install docker's buildx plugin"
            if it.kind == "docker"
            else "use a machine without buildx",
        )
    lacking = [str(base) for base in it.needs() if str(base) not in record.inputs]
    if not lacking and it.key(record.inputs) == record.parameters.get("key"):
        return it
    raise EvidenceError(
        f"the base images {', '.join(lacking)} are not recorded"
        if lacking
        else "the files of the context are not those that were built: the key differs",
        where=f"image {record.subject}",
        advice="another FORMAT of pipeline_steps, or an overlay that says something about the image",
    )


def _media(recorded: Reference, config: Config) -> str | None:
    """The media type of the recorded manifest: part of what its digest is over. None when it cannot
    be asked.
    """
    try:
        found = connect(recorded, config.hosts).head(recorded.path, str(recorded.digest))
    except PipelineError:
        return None
    return found.media_type if found else None


def _compared(
    record: Record, recorded: Reference, digest: str, folder: Path, config: Config, tools: str
) -> Outcome:
    """Files and configuration of both images; how strict, the record says."""
    demanded = bool(record.parameters.get("reproducible"))
    digests = f"manifest: recorded {recorded.digest}, here {digest}"
    for place in ("theirs", "ours"):
        (folder / place).mkdir()
    try:
        theirs = image_layers.from_registry(
            recorded._replace(tag=None), config.hosts, folder / "theirs"
        )
    except PipelineError as error:
        note = f"the recorded image cannot be compared file by file: {error}"
        if demanded:
            return Outcome((), (digests,), (note,))
        raise EvidenceError(
            f"{note}, and its builder promises no equal digest", where=str(recorded)
        ) from error
    ours = {
        image.platform: image
        for image in image_layers.from_tar(folder / "image.tar", folder / "ours")
    }
    found: list[str] = []
    notes: list[str] = []
    for image in theirs:
        if image.platform not in ours:
            found.append(f"platform {image.platform} is recorded and not made here")
            continue
        odd, several = _differences(image, ours[image.platform], tools, times=demanded)
        found += odd
        notes += several
    if found or demanded:
        same = (
            ""
            if found
            else "files, modes and configuration are equal: compression, or order in the layers; "
        )
        cause = (
            [f"{same}likely cause: {f'tool version: {tools}' if tools else 'the builder'}"]
            if not found
            else []
        )
        return Outcome((), (digests, *found, *cause), tuple(notes))
    words = f"{len(theirs[0].members())} files, their modes and owners, and the configuration"
    note = f"this builder promises no equal digest: recorded {recorded.digest}, here {digest or 'none'}"
    return Outcome((words,), (), (note,))


def _differences(
    theirs: Image, ours: Image, tools: str, *, times: bool
) -> tuple[list[str], list[str]]:
    """Lines about the configuration and the first file that differ; how many files do."""
    found = [
        f"configuration {name}: recorded {theirs.config.get(name)}, here {ours.config.get(name)}; likely cause: "
        + (f"tool version: {tools}" if tools else "an argument or base image that is not recorded")
        for name in _SET
        if theirs.config.get(name) != ours.config.get(name)
    ]
    old, new = theirs.members(), ours.members()
    mine, other = _parts(old), _parts(new)
    names = how_many(mine, other)
    if names:
        first = _with_bytes(names[0], theirs, ours, old, new, tools)
        found.append(str(first or f"{names[0]} differs beyond its first {MOST} bytes"))
    elif times and (late := [name for name in sorted(old) if old[name].time != new[name].time]):
        found.append(
            f"{late[0]}: recorded time {old[late[0]].time}, here {new[late[0]].time}; likely cause: mtime"
        )
    return found, [f"{len(names)} files differ: {', '.join(names[:10])}"] if len(names) > 1 else []


def _parts(members: Mapping[str, Member]) -> dict[str, Part]:
    return {
        name: Part(one.digest.encode(), one.mode, one.kind, one.owner)
        for name, one in members.items()
    }


def _with_bytes(
    name: str,
    theirs: Image,
    ours: Image,
    old: Mapping[str, Member],
    new: Mapping[str, Member],
    tools: str,
) -> Difference | None:
    sides = []
    for image, members in ((theirs, old), (ours, new)):
        one = members.get(name)
        data = image.data(name, one.layer, MOST) if one else b""
        sides.append({name: Part(data, one.mode, one.kind, one.owner)} if one else {})
    return first_difference(*sides, tools=tools)
