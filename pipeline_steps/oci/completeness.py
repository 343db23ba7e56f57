"""Whether an image is complete: its manifest, child manifests, configs and layers.

A registry may lose blobs (a restored disk, a failed garbage collection) and still serve the
manifest.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pipeline_steps.auth.reference import Reference
from pipeline_steps.oci.manifest import Manifest
from pipeline_steps.oci.registry import Registry

#: Blobs that are asked for at once: a request waits for its answer most of the time.
PARALLEL = 8


class StoredImage(NamedTuple):
    """What a registry has of an image.

    lost: the digests that it does not have. tagged: the digest that the image's tag names now, None
    when there is no such tag.
    """

    lost: list[str]
    tagged: str | None


def find_stored(registry: Registry, image: Reference) -> StoredImage:
    """What the registry has of `image`, which has a digest; every manifest and blob is requested."""
    digest = str(image.digest)
    tagged = registry.manifest(image.path, image.tag) if image.tag else None
    if tagged and tagged.digest == digest:
        return StoredImage(_missing_parts(registry, image.path, tagged), digest)
    lost = missing_digests(registry, image.path, digest)
    return StoredImage(lost, tagged.digest if tagged else None)


def missing_digests(registry: Registry, path: str, digest: str) -> list[str]:
    """The digests below a manifest, and its own, that the registry does not have. Each one is
    requested.
    """
    manifest = registry.manifest(path, digest)
    return [digest] if manifest is None else _missing_parts(registry, path, manifest)


def _missing_parts(registry: Registry, path: str, manifest: Manifest) -> list[str]:
    digests = [blob.digest for blob in manifest.blobs]
    with ThreadPoolExecutor(PARALLEL) as pool:
        present = pool.map(functools.partial(registry.has_blob, path), digests)
        lost = [
            digest for digest, is_present in zip(digests, present, strict=True) if not is_present
        ]
    below = (missing_digests(registry, path, child.digest) for child in manifest.children)
    return [*(each for lost_below in below for each in lost_below), *lost]
