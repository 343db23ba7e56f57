"""What steps may ask a chart repository, whatever it is; one file for each kind beside this one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pipeline_steps.charts.metadata import CREATED
from pipeline_steps.toolbox.errors import ConfigurationError, Conflict, EvidenceError, PipelineError

if TYPE_CHECKING:
    from pipeline_steps.charts.archive import Archive


class Publication(NamedTuple):
    """A chart on its way. provenance: the .prov file of exactly these bytes; created: RFC 3339, what an index says."""

    archive: Archive
    provenance: bytes | None = None
    created: str = CREATED


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

    def provenance(self, published: Published) -> bytes | None:
        """The .prov file of a published version; None when there is none."""

    def publish(self, archive: Archive, provenance: bytes | None = None, created: str = CREATED) -> Published:
        """Publish a chart: .prov, artifact, then the name. The same tar again: the bytes published first stay.

        provenance, created: see Publication. Raises Conflict naming both digests when the version has another tar,
        or when one that differs only in build metadata is there; nothing is written then.
        """

    def publish_all(self, publications: Iterable[Publication]) -> Iterator[Published | PipelineError]:
        """Publish many charts, an outcome for each in their order: what `publish` returns, or the error it raises.

        Names are given in groups, after their artifacts: an outcome is told when its name stands. What is temporary
        or this machine's trouble is raised.
        """

    def versions(self, name: str) -> list[str]:
        """All versions of a chart, newest first; none when the chart is not there."""

    def charts(self) -> list[str]:
        """The names of all charts, sorted. Raises MachineError where the repository cannot tell."""


class Classic(Repository, Protocol):
    """A repository with an index.yaml and files beside it, as `audit` reads and repairs it."""

    def index(self) -> bytes | None:
        """The index.yaml as it is stored now; None when there is none."""

    def files(self) -> Mapping[str, int] | None:
        """Name, relative to the index, and size in bytes of every file there is; None where that cannot be asked."""

    def read(self, name: str) -> bytes | None:
        """A file by the URL that the index gives it; None when it is confirmed to be absent."""

    def rewrite(self, before: bytes | None, after: bytes) -> None:
        """Put `after` in the place of the index `before`. Raises Conflict when the index is another one by now."""


def one_by_one(repository: Repository, publications: Iterable[Publication]) -> Iterator[Published | PipelineError]:
    """`publish_all` for repositories in which every name stands for itself."""
    for publication in publications:
        try:
            yield repository.publish(*publication)
        except (Conflict, ConfigurationError, EvidenceError) as error:
            yield error


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
