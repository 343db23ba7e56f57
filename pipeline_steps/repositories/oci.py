"""Charts in OCI registries as helm pushes and pulls them, but with a reproducible manifest.

Source: helm 3 and 4, pkg/registry (media types, annotations); OCI image specification 1.1.
"""

from __future__ import annotations

import functools
import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.charts import archive as archives
from pipeline_steps.charts import version as versions_of
from pipeline_steps.charts.archive import Archive
from pipeline_steps.charts.metadata import CREATED, helm_json, oci_annotations
from pipeline_steps.oci.claim import claim_tag
from pipeline_steps.oci.completeness import missing_digests
from pipeline_steps.oci.manifest import OCI_MANIFEST, Manifest
from pipeline_steps.oci.registry import connect
from pipeline_steps.repositories.repository import (
    ArchiveGone,
    Publication,
    Published,
    Writable,
    archive_gone_error,
    check_version_free,
    publish_one,
    published_archive,
)
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError, PipelineError
from pipeline_steps.toolbox.files import sha256

log = logging.getLogger(__name__)

CONFIG = "application/vnd.cncf.helm.config.v1+json"
CONTENT = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
PROVENANCE = "application/vnd.cncf.helm.chart.provenance.v1.prov"
#: Charts published at once: each waits for answers most of the time.
PUBLISHERS = 8


class Push(NamedTuple):
    """What is pushed for a chart: the manifest and the blobs that it names by digest."""

    manifest: bytes
    blobs: dict[str, bytes]

    @property
    def digest(self) -> str:
        return sha256(self.manifest)


def build_push(archive: Archive, provenance: bytes | None = None) -> Push:
    """Manifest and blobs of a chart; the same archive has the same digest everywhere."""
    files = archives.unpack(archive.tgz, archive.file_name)
    fields = archives.metadata_of(files, archive.file_name, strict=False).fields
    config = helm_json(fields)
    # helm sorts layers by digest, config stays first; the manifest must be the same as helm's.
    layers = [(CONTENT, archive.tgz), *([(PROVENANCE, provenance)] if provenance else [])]
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor(CONFIG, config),
        "layers": sorted(
            (_descriptor(*layer) for layer in layers), key=lambda layer: str(layer["digest"])
        ),
        "annotations": dict(sorted(oci_annotations(fields).items())),
    }
    body = json.dumps(manifest, separators=(",", ":"), ensure_ascii=False).encode()
    return Push(body, {sha256(data): data for data in (config, *(data for _, data in layers))})


def _push_concurrently(push: Callable[[str], None], digests: Iterable[str]) -> None:
    """Push the two or three blobs of a chart in parallel: each needs three requests in sequence."""
    failures: list[BaseException] = []

    def push_in_thread(digest: str) -> None:
        try:
            push(digest)
        except BaseException as error:
            failures.append(error)

    first_digest, *other_digests = digests
    # Daemon threads, so that the process can exit when a push failed or a signal arrived.
    threads = [
        threading.Thread(target=push_in_thread, args=(digest,), daemon=True)
        for digest in other_digests
    ]
    for thread in threads:
        thread.start()
    push(first_digest)
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}


class OciRepository(Writable):
    """`url` is oci://host[:port]/path. Charts are repositories path/NAME, versions are tags.

    A registry has no compare-and-swap, so publishers claim a version by a tag claim-VERSION-…
    first: of two with different content at once one wins or none. Listing tags must show what was
    just written.
    """

    def __init__(self, url: str, hosts: Mapping[str, Host]) -> None:
        self.url = url.rstrip("/")
        self._root = Reference.parse(self.url.removeprefix("oci://"), where=url)
        if self._root.tag or self._root.digest:
            raise ConfigurationError(
                "a chart repository has no tag or digest", where=url, advice="write oci://host/path"
            )
        self._registry = functools.cache(lambda name: connect(self._chart_repository(name), hosts))

    def _chart_repository(self, name: str) -> Reference:
        return self._root._replace(path=f"{self._root.path}/{name}")

    def _reference(self, name: str, version: str, digest: str) -> str:
        tagged = self._chart_repository(name)._replace(
            tag=versions_of.to_tag(version), digest=digest
        )
        return f"oci://{tagged}"

    def resolve(self, name: str, version: str) -> str | None:
        """See Repository: one HEAD."""
        descriptor = self._registry(name).head(
            self._chart_repository(name).path, versions_of.to_tag(version)
        )
        return self._reference(name, version, descriptor.digest) if descriptor else None

    def find(self, name: str, version: str) -> Published | None:
        """See Repository: reads the manifest and the layer with the chart."""
        manifest = self._registry(name).manifest(
            self._chart_repository(name).path, versions_of.to_tag(version)
        )
        if manifest is None:
            return None
        reference = self._reference(name, version, manifest.digest)
        tgz = self._layer(name, manifest, reference)
        return published_archive(
            tgz, name, version, reference, advice="remove the tag: pipeline-steps did not write it"
        )

    def find_digest(self, name: str, digest: str) -> Published | None:
        """The chart of a manifest, with or without a tag; None when absent.

        digest: of the manifest. Raises EvidenceError like `find`; the version is not checked.
        """
        manifest = self._registry(name).manifest(self._chart_repository(name).path, digest)
        if manifest is None:
            return None
        reference = f"oci://{self._chart_repository(name)._replace(digest=digest)}"
        return Published(
            reference, archives.open_archive(self._layer(name, manifest, reference), reference)
        )

    def _layer(self, name: str, manifest: Manifest, reference: str) -> bytes:
        layers = [blob for blob in manifest.blobs if blob.media_type == CONTENT]
        # helm takes the last of several: what one reader checks another would not install.
        if len(layers) != 1:
            raise EvidenceError(
                "the artifact is no helm chart: it has no chart layer, or several",
                where=reference,
                advice="push the chart again with helm push, or correct the reference",
            )
        data = self._registry(name).blob(
            self._chart_repository(name).path, layers[0].digest, cap=archives.LARGEST
        )
        if data is None:
            problem = f"the registry has lost the layer {layers[0].digest}"
            advice = "restore it, or publish the chart again"
            raise archive_gone_error(layers[0].digest, problem, where=reference, advice=advice)
        return data

    def provenance(self, published: Published) -> bytes | None:
        """See Repository: the provenance layer of the manifest."""
        digest = published.reference.rpartition("@")[2]
        registry, path = self._registry(published.name), self._chart_repository(published.name).path
        manifest = registry.manifest(path, digest)
        layers = (
            [blob for blob in manifest.blobs if blob.media_type == PROVENANCE] if manifest else []
        )
        return registry.blob(path, layers[0].digest) if layers else None

    def publish_all(
        self, publications: Iterable[Publication]
    ) -> Iterator[Published | PipelineError]:
        """See Writable: several in parallel, but never two versions that helm cannot tell apart."""
        running: deque[tuple[tuple[str, str], Future[Published | PipelineError]]] = deque()
        # Results are yielded in order, so at most 2 x PUBLISHERS archives are in memory.
        with ThreadPoolExecutor(PUBLISHERS) as pool:
            for publication in publications:
                key = publication.archive.name, publication.archive.version.partition("+")[0]
                # Two versions that differ in build metadata only would not see each other while
                # both run: the second one waits and is refused.
                while len(running) > 2 * PUBLISHERS or any(
                    key == pending for pending, _ in running
                ):
                    yield running.popleft()[1].result()
                running.append((key, pool.submit(publish_one, self, publication)))
            while running:
                yield running.popleft()[1].result()

    def publish(
        self, archive: Archive, provenance: bytes | None = None, created: str = CREATED
    ) -> Published:
        """See Writable. Order: blobs; for a release the manifest by digest and the claim; then the
        tag.

        A snapshot's version contains a hash of its content, so it needs neither a claim nor a check
        for other versions.
        """
        registry, path = self._registry(archive.name), self._chart_repository(archive.name).path
        release = not versions_of.is_snapshot(archive.version)
        try:
            existing = self._existing(archive, release=release)
        except ArchiveGone:
            self._restore_lost_blobs(archive, provenance)
            existing = self._existing(archive, release=release)
        else:
            if existing:  # its layer was read, its configuration not
                self._restore_lost_blobs(archive, provenance)
        if existing:
            return existing
        push = build_push(archive, provenance)

        def refill(digest: str) -> None:
            registry.push_blob(path, push.blobs[digest], digest)

        # new: each blob contains the version or signs it, and this version is not there yet.
        _push_concurrently(
            lambda digest: registry.push_blob(path, push.blobs[digest], digest, new=True),
            push.blobs,
        )
        if release:
            registry.put_manifest(path, push.digest, push.manifest, OCI_MANIFEST, refill)
            self._claim(archive, push)
        existing = self._existing(archive, release=False)  # another publisher may have come first
        if existing:
            return existing
        registry.put_manifest(
            path, versions_of.to_tag(archive.version), push.manifest, OCI_MANIFEST, refill
        )
        return Published(self._reference(archive.name, archive.version, push.digest), archive)

    def _restore_lost_blobs(self, archive: Archive, provenance: bytes | None) -> None:
        """Push again what the registry has lost of this version, as far as it belongs to this
        archive.
        """
        registry, path = self._registry(archive.name), self._chart_repository(archive.name).path
        descriptor = registry.head(path, versions_of.to_tag(archive.version))
        lost = missing_digests(registry, path, descriptor.digest) if descriptor else []
        blobs = build_push(archive, provenance).blobs if lost else {}
        for digest in lost:
            if digest in blobs:
                registry.push_blob(path, blobs[digest], digest)
                log.warning(
                    "%s: the registry had lost %s; pushed it again", archive.file_name, digest
                )

    def _existing(self, archive: Archive, *, release: bool) -> Published | None:
        """See `check_version_free`. release: whether to compare with the chart's other versions."""
        versions = functools.partial(self.versions, archive.name) if release else tuple
        existing = check_version_free(
            archive, self.find(archive.name, archive.version), versions, self.url
        )
        if existing:
            log.info("%s: already there", existing.reference)
        return existing

    def _claim(self, archive: Archive, push: Push) -> None:
        """Claim the tag for this content. Raises Conflict when another content claims it, too."""
        path = self._chart_repository(archive.name)
        claim_tag(
            self._registry(archive.name), path.path, versions_of.to_tag(archive.version), archive.tar_digest,
            Manifest(push.manifest, OCI_MANIFEST, push.digest), subject=f"{archive.name} {archive.version}",
            where=f"oci://{path}",
        )  # fmt: skip

    def versions(self, name: str) -> list[str]:
        """See Repository."""
        tags = self._registry(name).tags(self._chart_repository(name).path)
        return versions_of.newest_first(
            version for tag in tags if (version := versions_of.from_tag(tag))
        )

    def charts(self) -> list[str]:
        """See Repository: repositories below this path, if the registry lists them. Many do not."""
        root = f"{self._root.path}/"
        below = (
            name.removeprefix(root)
            for name in self._registry("").catalog()
            if name.startswith(root)
        )
        # What lies deeper belongs to other repositories.
        return sorted(name for name in below if "/" not in name)
