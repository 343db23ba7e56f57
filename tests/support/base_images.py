"""Images for `FROM` where no registry of images can be reached: made of tar files, pushed by API."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline_steps.auth.hosts import Host
from pipeline_steps.oci.registry import connect

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def layer(files: Mapping[str, Path]) -> bytes:
    """A layer with these files and folders, by their path in the image."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as tar:
        for name, place in files.items():
            tar.add(place.resolve(), name.lstrip("/"))
    return stream.getvalue()


def push_image(
    host: str,
    path: str,
    tag: str,
    layers: Sequence[bytes],
    *,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Push an image of gzipped layers as host/path:tag, and return that reference."""
    registry = connect(f"{host}/{path}", {host: Host(plain_http=True)})
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [f"{name}={text}" for name, text in (environment or {}).items()]},
        "rootfs": {
            "type": "layers",
            "diff_ids": [_digest(gzip.decompress(each)) for each in layers],
        },
    }
    blobs = [(_CONFIG, json.dumps(config).encode()), *((_LAYER, each) for each in layers)]
    for _, blob in blobs:
        registry.push_blob(path, blob, _digest(blob))
    parts = [
        {"mediaType": kind, "size": len(blob), "digest": _digest(blob)} for kind, blob in blobs
    ]
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": parts[0], "layers": parts[1:]}
    registry.put_manifest(path, tag, json.dumps(manifest).encode(), _MANIFEST)
    return f"{host}/{path}:{tag}"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
