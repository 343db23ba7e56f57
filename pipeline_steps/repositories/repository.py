"""What steps may ask a chart repository, whatever it is; one file for each kind beside this one."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from pipeline_steps.charts.archive import Archive
from pipeline_steps.core.errors import Conflict


class Published(NamedTuple):
    """A chart version in a repository. Digests are "sha256:" + 64 hex digits.

    reference: where it is with the digest that its repository knows it by, like oci://host/path/name:1.2.3@sha256:…
    (of the manifest) or file:///folder/name-1.2.3.tgz@sha256:… (of the archive). tar_digest: of the uncompressed
    tar, the same in every repository. archive_digest: of the .tgz file.
    """

    name: str
    version: str
    reference: str
    tar_digest: str
    archive_digest: str


class Guarantees(NamedTuple):
    """What holds when several publish at once. atomic: never two contents under one version; words: said to users."""

    atomic: bool
    words: str


class Repository(Protocol):
    """One chart repository. Absent is None only when the repository says so; anything else that is wrong raises."""

    url: str
    guarantees: Guarantees

    def standing(self, name: str, version: str) -> str | None:
        """The reference, with digest, that a version has now, asked as cheaply as possible; None when absent."""

    def find(self, name: str, version: str) -> Published | None:
        """A published version with all digests, its archive read and checked; None when absent."""

    def fetch(self, published: Published) -> bytes:
        """The .tgz file, compared with its digest. Raises EvidenceError when it is not there any more."""

    def publish(self, archive: Archive, provenance: bytes | None = None) -> Published:
        """Publish a chart: artifact first, then the name. The same tar again: the bytes published first stay.

        provenance: the .prov file of exactly these bytes. Raises Conflict naming both digests when the version has
        another tar, or when one that differs only in build metadata is there; nothing is written then.
        """

    def versions(self, name: str) -> list[str]:
        """All versions of a chart, newest first; none when the chart is not there."""


def conflict(archive: Archive, theirs: str, where: str) -> Conflict:
    """The error for a version that is there with another tar."""
    return Conflict(
        f"chart {archive.name} {archive.version} is already there with another content "
        f"(theirs {theirs}, ours {archive.tar_digest})",
        where=where,
        advice="raise the version: a published one is never replaced",
    )


def twin_conflict(archive: Archive, other: str, where: str) -> Conflict:
    """The error for a version that differs from a published one only behind the +."""
    return Conflict(
        f"chart {archive.name} {archive.version} differs from the published {other} only in build metadata, "
        "which helm cannot tell apart",
        where=where,
        advice="raise the version",
    )
