"""An evidence store in a registry: oci://host/path.

    path/records:ID            a record: its line as config, which a registry keeps byte for byte, then its files
    path/DIGEST:STEP-ID        an entry for each record about a content or output

A repository for each content keeps listing its tags independent of the store's size. All names hold
hashes, so no two writers ever want one name for different things: registries without conditional
writes will do.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping
from typing import Any

from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.evidence.store import entry_name, hex_digits, lookup_digests, parse_entry_name
from pipeline_steps.oci.manifest import OCI_MANIFEST
from pipeline_steps.oci.registry import Registry, connect
from pipeline_steps.state.record import Record
from pipeline_steps.toolbox.errors import EvidenceError
from pipeline_steps.toolbox.files import sha256

RECORD = "application/vnd.pipeline-steps.record.v1+json"
FILE = "application/octet-stream"
TITLE = "org.opencontainers.image.title"
#: Bytes of a line that stand in the manifest too (OCI descriptor's `data`), which saves reading the
#: blob.
MAX_EMBEDDED = 2**20


class OciStore:
    """`url` is oci://host/path; repositories below it are made by the first record."""

    def __init__(self, url: str, hosts: Mapping[str, Host]) -> None:
        self.url = url.rstrip("/")
        self._base = Reference.parse(self.url.removeprefix("oci://"), where=url)
        self._hosts = hosts
        self._records = f"{self._base.path}/records"

    def put(self, line: bytes, record: Record, evidence_files: Mapping[str, bytes]) -> None:
        """See Store."""
        name, registry = entry_name(record), self._registry
        if registry.manifest(self._records, hex_digits(record.id)) is None:
            blobs = [line, *evidence_files.values()]
            for data in blobs:
                registry.push_blob(self._records, data, sha256(data))
            self._tag(self._records, hex_digits(record.id), _manifest(line, evidence_files), blobs)
        for digest in lookup_digests(record):
            path = self._index_path(digest)
            # Mounted where the registry can: the line is there already, under another path.
            if not registry.mount(path, sha256(line), self._records):
                registry.push_blob(path, line, sha256(line))
            self._tag(path, name, _manifest(line, {}), [line])

    def record_ids(self, digest: str) -> set[str]:
        """See Store."""
        return {
            record_id
            for tag in self._registry.tags(self._index_path(digest))
            if (record_id := parse_entry_name(tag))
        }

    def record_line(self, record_id: str) -> bytes | None:
        """See Store."""
        where = f"{self._base.host}/{self._records}:{hex_digits(record_id)}"
        manifest = self._registry.manifest(self._records, hex_digits(record_id))
        if manifest is None:
            return None
        config = manifest.content.get("config")
        if not isinstance(config, dict) or config.get("mediaType") != RECORD:
            raise EvidenceError(
                "the artifact is not a record",
                where=where,
                advice="remove this tag, and let nothing else push below this path",
            )
        # Lines longer than MAX_EMBEDDED are in the blob only.
        line = _embedded(config) or self._registry.blob(self._records, str(config.get("digest")))
        if line is None:
            raise EvidenceError(
                "the registry has the record's manifest but not its bytes",
                where=where,
                advice="restore the registry from a backup",
            )
        return line

    def evidence_file(self, digest: str) -> bytes | None:
        """See Store."""
        # Only for its check: what is no digest must not become part of a URL.
        hex_digits(digest)
        return self._registry.blob(self._records, digest)

    @functools.cached_property
    def _registry(self) -> Registry:
        return connect(self._base, self._hosts)

    def _index_path(self, digest: str) -> str:
        return f"{self._base.path}/{hex_digits(digest)}"

    def _tag(self, path: str, tag: str, manifest: bytes, blobs: list[bytes]) -> None:
        by_digest = {sha256(data): data for data in blobs}

        def refill(digest: str) -> None:
            self._registry.push_blob(path, by_digest[digest], digest)

        self._registry.put_manifest(path, tag, manifest, OCI_MANIFEST, refill)


def _manifest(line: bytes, evidence_files: Mapping[str, bytes]) -> bytes:
    """Manifest of a record; it has a layer in any case, which some registries demand."""
    record = _descriptor(RECORD, line)
    data = {"data": base64.b64encode(line).decode()} if len(line) <= MAX_EMBEDDED else {}
    layers = [
        _descriptor(FILE, each) | {"annotations": {TITLE: name}}
        for name, each in sorted(evidence_files.items())
    ]
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": record | data,
        "layers": [record, *layers],
    }
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}


def _embedded(descriptor: Mapping[str, Any]) -> bytes | None:
    """The bytes that stand in a descriptor, if they have its digest."""
    try:
        data = base64.b64decode(descriptor.get("data") or "", validate=True)
    except (ValueError, TypeError):
        return None
    return data if sha256(data) == descriptor.get("digest") else None
