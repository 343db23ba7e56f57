"""A real image of one static program, pushed to a registry by its API: no engine is needed for it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

from pipeline_steps.auth.hosts import Host
from pipeline_steps.oci.registry import connect


def push(host: str, path: str = "web", tag: str = "k-1", *, label: str = "") -> str:
    """Push an image with /bin/busybox (and /bin/sh) as host/path:tag; returns its digest. label:
    makes it another.
    """
    registry = connect(f"{host}/{path}", {host: Host(plain_http=True)})
    layer = _layer()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/bin/busybox"], "Labels": {"label": label}},
        "rootfs": {"type": "layers", "diff_ids": [_digest(gzip.decompress(layer))]},
    }
    blobs = [json.dumps(config).encode(), layer]
    for blob in blobs:
        registry.push_blob(path, blob, _digest(blob))
    kinds = (
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.oci.image.layer.v1.tar+gzip",
    )
    parts = [
        {"mediaType": kind, "size": len(blob), "digest": _digest(blob)}
        for kind, blob in zip(kinds, blobs, strict=True)
    ]
    media_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": parts[0],
        "layers": parts[1:],
    }
    return registry.put_manifest(path, tag, json.dumps(manifest).encode(), media_type)


def push_index(host: str, path: str, tag: str, manifests: list[str]) -> str:
    """Push an index of manifests that are there already; returns its digest."""
    registry = connect(f"{host}/{path}", {host: Host(plain_http=True)})
    found_manifests = [
        manifest
        for manifest in (registry.manifest(path, digest) for digest in manifests)
        if manifest
    ]
    parts = [
        {"mediaType": manifest.media_type, "size": len(manifest.body), "digest": manifest.digest}
        for manifest in found_manifests
    ]
    media_type = "application/vnd.oci.image.index.v1+json"
    index = {"schemaVersion": 2, "mediaType": media_type, "manifests": parts}
    return registry.put_manifest(path, tag, json.dumps(index).encode(), media_type)


def _layer() -> bytes:
    program = next(
        path for path in (Path("/bin/busybox"), Path("/usr/bin/busybox")) if path.exists()
    )
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        member = tarfile.TarInfo("bin/busybox")
        data = program.read_bytes()
        member.size, member.mode = len(data), 0o755
        tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("bin/sh")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(link)
    return gzip.compress(stream.getvalue(), 1, mtime=0)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
