"""Whether an image is complete: its manifest, child manifests, configs and layers.

A registry may lose blobs (a restored disk, a failed garbage collection) and still serve the
manifest.
"""

from __future__ import annotations

from pipeline_steps.oci.registry import Registry


def missing_digests(registry: Registry, path: str, digest: str) -> list[str]:
    """The digests below a manifest, and its own, that the registry does not have. Each one is
    requested.
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
        # One HEAD each: a registry lists no blobs.
        *(blob.digest for blob in manifest.blobs if not registry.has_blob(path, blob.digest)),
    ]
