"""Copy an image or artifact by digest, within a registry (blobs are mounted) or between two.

Order: blobs, child manifests, index, signatures and attestations, then the tag. So a reader sees
nothing or everything, and a later run continues after a kill. A tag that names another digest is
never moved; a free tag is claimed before it is put (see `oci.claim`). No library does this: oras
and the docker SDK copy by tag, in any order.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.oci.claim import claim_tag
from pipeline_steps.oci.manifest import MANIFESTS, OCI_INDEX, Manifest
from pipeline_steps.oci.registry import Registry, connect
from pipeline_steps.toolbox import scratch
from pipeline_steps.toolbox.errors import ConfigurationError, Conflict, EvidenceError, MachineError

log = logging.getLogger(__name__)

#: Suffixes of cosign's tags for a digest: sha256-<hex>.sig and so on.
COSIGN = (".sig", ".att", ".sbom")


def copy(source: Reference, destination: Reference, *, hosts: Mapping[str, Host]) -> str:
    """Copy what `source` names by digest to `destination` and return the digest.

    Copies everything that an index names, and of each manifest its cosign signatures, attestations
    and referrers.

    Args:
        source: with a digest.
        destination: with a tag, or without one to copy by digest only.
        hosts: logins and trust from the configuration.

    Raises:
        Conflict: the tag names another digest, or another publisher claims it.
        EvidenceError: the source no longer has it.
    """
    if not source.digest:
        raise ConfigurationError(
            f"{source} has no digest: only what was tested by digest is copied",
            advice="name it by digest: NAME@sha256:…",
        )
    copy_job = _Copy(source, destination, connect(source, hosts), connect(destination, hosts))
    return copy_job.run(source.digest)


def tag_points_to(destination: Reference, digest: str, *, hosts: Mapping[str, Host]) -> bool:
    """Whether the tag of `destination` names `digest` already; False when the tag is free.

    Raises Conflict naming both digests when it names another one.
    """
    return _tag_points_to(connect(destination, hosts), destination, digest)


def _tag_points_to(registry: Registry, destination: Reference, digest: str) -> bool:
    current = registry.head(destination.path, destination.tag or digest)
    if current is None:
        return False
    # Registries take a second PUT of a tag without a word: nobody else would refuse it.
    if current.digest != digest:
        raise Conflict(
            f"the tag is already there with another digest: theirs {current.digest}, ours {digest}",
            where=f"{destination.repository}:{destination.tag}",
            advice="nothing was written; raise the version",
        )
    return True


class _Copy:
    def __init__(
        self,
        source: Reference,
        destination: Reference,
        source_registry: Registry,
        destination_registry: Registry,
    ) -> None:
        self.source, self.destination, self.source_registry, self.destination_registry = (
            source,
            destination,
            source_registry,
            destination_registry,
        )
        # By base URL: mounting works within one registry, whatever the paths are.
        self.mountable = source_registry.base == destination_registry.base

    def run(self, digest: str) -> str:
        is_tagged = _tag_points_to(self.destination_registry, self.destination, digest)
        manifest = self._read_manifest(digest)
        # Also of one that is named: a registry may have lost a part of it.
        copied = self._copy_tree(manifest)
        for copied_manifest in copied:
            self._copy_attached(copied_manifest.digest)
        if self.destination.tag and not is_tagged:
            self._claim(manifest, self.destination.tag)
            # Another writer may have put the tag meanwhile.
            if not _tag_points_to(self.destination_registry, self.destination, digest):
                self._put(manifest, self.destination.tag)
            log.debug(
                "%s: copied from %s",
                self.destination._replace(digest=digest),
                self.source.repository,
            )
        return digest

    def _claim(self, manifest: Manifest, tag: str) -> None:
        where = f"{self.destination.repository}:{tag}"
        claim_tag(
            self.destination_registry,
            self.destination.path,
            tag,
            manifest.digest,
            manifest,
            subject=f"the tag {tag}",
            where=where,
        )

    def _read_manifest(self, digest: str) -> Manifest:
        manifest = self.source_registry.manifest(self.source.path, digest)
        if manifest is None:
            raise EvidenceError(
                f"the registry no longer has {digest}",
                where=self.source.repository,
                advice="build and test it again",
            )
        # Of another type it is not known what it names, and a part of it might be left behind.
        if manifest.media_type not in MANIFESTS:
            raise MachineError(
                f"{digest} has media type {manifest.media_type!r}",
                where=self.source.repository,
                advice="push it again as an OCI or docker image",
            )
        return manifest

    def _copy_tree(self, manifest: Manifest) -> list[Manifest]:
        """Copy a manifest and everything below it, children first. Returns all its manifests."""
        below: list[Manifest] = []
        for child in manifest.children:
            below.extend(self._copy_tree(self._read_manifest(child.digest)))
        for blob in manifest.blobs:
            self._copy_blob(blob.digest)
        # By digest and untagged, so readers cannot see an incomplete image.
        if self.destination_registry.head(self.destination.path, manifest.digest) is None:
            self._put(manifest, manifest.digest)
        return [manifest, *below]

    def _put(self, manifest: Manifest, name: str) -> None:
        self.destination_registry.put_manifest(
            self.destination.path, name, manifest.body, manifest.media_type, refill=self._transfer
        )

    def _copy_blob(self, digest: str) -> None:
        if self.destination_registry.has_blob(self.destination.path, digest):
            return
        if self.mountable and self.destination_registry.mount(
            self.destination.path, digest, self.source.path
        ):
            return
        self._transfer(digest)

    def _transfer(self, digest: str) -> None:
        # Through a file: layers have gigabytes, and their digest is compared before a byte is sent
        # on.
        with scratch.folder("blob") as folder, (folder / "blob").open("w+b") as file:
            self.source_registry.save_blob(self.source.path, digest, file)
            self.destination_registry.push_blob(self.destination.path, folder / "blob", digest)

    def _copy_attached(self, digest: str) -> None:
        """Copy what is attached to a manifest: cosign's tags, and referrers (OCI distribution
        specification).
        """
        # The referrers fallback tag, and the beginning of cosign's tags, is the digest with
        # - instead of :.
        base = digest.replace(":", "-")
        for tag in (f"{base}{kind}" for kind in COSIGN):
            self._copy_tag(tag)
        fallback = self.source_registry.manifest(self.source.path, base)
        if fallback is not None:
            self._copy_referrers(base, fallback)
        else:
            self._copy_referrers(base, self.source_registry.referrers(self.source.path, digest))

    def _copy_tag(self, tag: str) -> None:
        manifest = self.source_registry.manifest(self.source.path, tag)
        if manifest is None:
            return
        existing = self.destination_registry.head(self.destination.path, tag)
        # A signature that is there is kept: cosign appends to such a tag, and theirs may hold more.
        if existing is None:
            self._copy_tree(manifest)
            self._put(manifest, tag)
        elif existing.digest != manifest.digest:
            log.info("%s:%s is there already and is kept", self.destination.repository, tag)

    def _copy_referrers(self, tag: str, index: Manifest | None) -> None:
        """Copy referring manifests. Without a referrers API, also add them to the fallback tag.

        Registries have no locks, so the fallback tag is read, changed and written as the
        specification says, and read again until our entries are in it.
        """
        if index is None or not index.children:
            return
        for child in index.children:
            self._copy_tree(self._read_manifest(child.digest))
        if (
            self.destination_registry.referrers(self.destination.path, tag.replace("-", ":", 1))
            is not None
        ):
            return
        source_entries = {entry["digest"]: entry for entry in index.content["manifests"]}
        # As often as this only when others write at the same moment, each of them once.
        for _ in range(5):
            current = self.destination_registry.manifest(self.destination.path, tag)
            current_entries = (
                {entry["digest"]: entry for entry in current.content["manifests"]}
                if current
                else {}
            )
            if source_entries.keys() <= current_entries.keys():
                return
            if current is None:
                body = index.body
            else:
                content = {
                    **current.content,
                    "manifests": list({**current_entries, **source_entries}.values()),
                }
                body = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
            try:
                self.destination_registry.put_manifest(self.destination.path, tag, body, OCI_INDEX)
            except Conflict:
                continue
        raise Conflict(
            "other writers changed the index of referrers 5 times in a row",
            where=f"{self.destination.repository}:{tag}",
            advice="run it again when fewer builds write there",
        )
