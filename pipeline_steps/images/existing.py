"""Images that are in a registry: names resolved to digests, and the tag of a built image set once, never moved."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.images.builder import Built
from pipeline_steps.oci.registry import Registry, connect
from pipeline_steps.toolbox.errors import Conflict, EvidenceError, MachineError


def resolve(reference: Reference, hosts: Mapping[str, Host], *, where: str = "") -> Reference:
    """`reference` with the digest that its tag names now; one that has a digest is checked to be there.

    Raises EvidenceError when the registry says it does not exist, and what oci raises when it cannot be asked.
    """
    manifest = connect(reference, hosts).head(reference.path, reference.name)
    if manifest is None:
        raise EvidenceError(
            f"the image {reference} does not exist", where=where, advice="correct the name, or push it first"
        )
    return reference._replace(digest=manifest.digest)


def digest_at(registry: Registry, image: Reference) -> str | None:
    """The digest that the registry has under the name of `image`, None when there is none."""
    manifest = registry.head(image.path, image.name)
    return manifest.digest if manifest else None


def tag_built_image(registry: Registry, target: Reference, built: Built) -> str:
    """The digest that the target's tag names in the end: an image that was there first keeps the tag.

    Raises MachineError when the registry does not have what was pushed.
    """
    digest = digest_at(registry, target)
    if digest is None and not built.named:
        manifest = registry.manifest(target.path, built.digest)
        if manifest is None:
            raise MachineError(f"the builder pushed {built.digest}, which is not there", where=target.repository)
        try:
            return registry.put_manifest(target.path, target.name, manifest.body, manifest.media_type)
        except Conflict:  # another build was faster
            digest = digest_at(registry, target)
    if digest is None:
        raise MachineError("was pushed and is not there", where=str(target))
    return digest
