"""Is an image whole: its manifest, the manifests below it, and every configuration and layer of
theirs?

A registry may lose blobs (a disk restored, a collection of garbage gone wrong) and still answer for
the manifest.
"""

from __future__ import annotations

from pipeline_steps.oci.registry import Registry


def missing_digests(registry: Registry, path: str, digest: str) -> list[str]:
    """The digests that a manifest leads to and the registry does not have, its own among them; each
    is asked for.
    """
    manifest = registry.manifest(path, digest)
    if manifest is None:
        return [digest]
    lost = [
        each
        for child in manifest.children
        for each in missing_digests(registry, path, child.digest)
    ]
    return [
        *lost,
        *(blob.digest for blob in manifest.blobs if not registry.has_blob(path, blob.digest)),
    ]
