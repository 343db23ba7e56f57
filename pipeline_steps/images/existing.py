"""Images that are in a registry: names resolved to digests, and tags of built images set once,
never moved.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.oci.claim import put_tag_once
from pipeline_steps.oci.registry import Registry, connect
from pipeline_steps.toolbox.errors import Conflict, EvidenceError, MachineError


def resolve(reference: Reference, hosts: Mapping[str, Host], *, where: str = "") -> Reference:
    """`reference` with the digest that its tag names now; one that has a digest is checked to be
    there.

    Raises EvidenceError when the registry says it does not exist, and what oci raises when it
    cannot be asked.
    """
    manifest = connect(reference, hosts).head(reference.path, reference.name)
    if manifest is None:
        raise EvidenceError(
            f"the image {reference} does not exist",
            where=where,
            advice="correct the name, or push it first",
        )
    return reference._replace(digest=manifest.digest)


def digest_at(registry: Registry, image: Reference) -> str | None:
    """The digest that the registry has under the name of `image`, None when there is none."""
    manifest = registry.head(image.path, image.name)
    return manifest.digest if manifest else None


def tag_image(registry: Registry, destination: Reference, digest: str) -> Reference:
    """The name of an image that is in the registry by its digest: the target's tag, if that is free
    or names it.

    A tag that names another image is not moved; the name then ends with the first 8 digits of the
    digest. Of several that want a free tag at the same time one gets it (see `oci.claim`). Raises
    MachineError when the registry does not have the image.
    """
    with_digest = destination._replace(
        tag=f"{destination.tag}-{digest.removeprefix('sha256:')[:8]}"
    )
    # Two builds of one key may differ (a package that was updated): both must have a name.
    for name in (destination, with_digest):
        current = digest_at(registry, name)
        if current is None:
            current = _put_free_tag(registry, name, digest)
        if current == digest:
            return name._replace(digest=digest)
    raise Conflict(
        f"the tag names {digest_at(registry, with_digest)}, and so is not free for {digest}",
        where=str(with_digest),
        advice="delete that tag when nobody uses it, or build under another channels.snapshot.images",
    )


def _put_free_tag(registry: Registry, name: Reference, digest: str) -> str | None:
    """Give an image a free tag; the digest that it names then, None when another claims it."""
    manifest = registry.manifest(name.path, digest)
    if manifest is None:
        raise MachineError(
            f"the builder pushed {digest}, which is not there",
            where=name.repository,
            advice="build again: --again; if it stays, the registry loses what is pushed",
        )
    return put_tag_once(registry, name.path, str(name.tag), manifest)
