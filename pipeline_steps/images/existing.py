"""Names of images resolved to digests: base images, and images that are built elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.oci.registry import connect
from pipeline_steps.toolbox.errors import EvidenceError


def resolve(reference: Reference, hosts: Mapping[str, Host], *, where: str = "") -> Reference:
    """`reference` with the digest that its tag names now; one that has a digest is checked to be there.

    Raises EvidenceError when the registry says it does not exist, and what oci raises when it cannot be asked.
    """
    found = connect(reference, hosts).head(reference.path, reference.name)
    if found is None:
        raise EvidenceError(
            f"the image {reference} does not exist", where=where, advice="correct the name, or push it first"
        )
    return reference._replace(digest=found.digest)
