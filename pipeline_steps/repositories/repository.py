"""The interface to chart repositories: one Protocol per capability.

A class names its capabilities as base classes. Code that needs one uses isinstance or
`kinds.open_writable`, and never asks for the kind of repository. Each kind has its own file in this
folder.

        Repository   read: all kinds
        Writable     publish: all kinds except plain web servers
        Indexed      index.yaml and files next to it: all kinds except registries
        Rewritable   an index.yaml that we write: a folder, a git branch, GitHub releases
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from pipeline_steps.charts import archive as archives
from pipeline_steps.charts import version as versions_of
from pipeline_steps.charts.archive import Archive
from pipeline_steps.charts.metadata import CREATED
from pipeline_steps.toolbox.errors import ConfigurationError, Conflict, EvidenceError, PipelineError


class Publication(NamedTuple):
    """A chart to publish.

    provenance: the .prov file for exactly these bytes. created: RFC 3339, for the index.
    """

    archive: Archive
    provenance: bytes | None = None
    created: str = CREATED


class Published(NamedTuple):
    """A chart version in a repository, with its archive, which was read completely and compared
    with every known digest. Digests are "sha256:" + 64 hex digits.

    reference: address with the digest that the repository uses, like
    oci://host/path/name:1.2.3@sha256:… (of the manifest) or file:///folder/name-1.2.3.tgz@sha256:…
    (of the archive).
    """

    reference: str
    archive: Archive

    @property
    def name(self) -> str:
        return self.archive.name

    @property
    def version(self) -> str:
        return self.archive.version

    @property
    def tar_digest(self) -> str:
        """Of the uncompressed tar: the same in every repository."""
        return self.archive.tar_digest

    @property
    def archive_digest(self) -> str:
        """Of the .tgz file."""
        return self.archive.digest

    @property
    def place(self) -> str:
        """The reference without digest."""
        return self.reference.rpartition("@")[0]


@runtime_checkable
class Repository(Protocol):
    """A chart repository to read.

    None means absent only when the repository says so. Other problems are raised: EvidenceError for
    contradictions, MachineError and its kinds, Temporary.
    """

    url: str

    def resolve(self, name: str, version: str) -> str | None:
        """The current reference of a version, with the cheapest request; None when absent.

        Like `Published.reference`. Its digest comes from the repository, without reading the
        archive.
        """

    def find(self, name: str, version: str) -> Published | None:
        """A version with its archive, checked; None when absent.

        Raises EvidenceError when the archive is missing, has another digest than the repository
        says, is refused (`charts.archive`), or contains another chart or version.
        """

    def provenance(self, published: Published) -> bytes | None:
        """The .prov file of a version, None when there is none."""

    def versions(self, name: str) -> list[str]:
        """All versions of a chart, newest first; empty when the chart does not exist."""

    def charts(self) -> list[str]:
        """The names of all charts, sorted. Raises MachineError when the repository cannot list
        them.
        """


@runtime_checkable
class Writable(Repository, Protocol):
    """A repository to publish charts into."""

    def publish(
        self, archive: Archive, provenance: bytes | None = None, created: str = CREATED
    ) -> Published:
        """Publish a chart: .prov, archive, then the name. For the same tar, the bytes published
        first stay.

        provenance, created: see Publication. Raises Conflict naming both digests when the version
        has another tar, or a version that differs only in build metadata exists; then nothing is
        written.
        """

    def publish_all(
        self, publications: Iterable[Publication]
    ) -> Iterator[Published | PipelineError]:
        """Publish many charts and yield an outcome for each, in their order: the result of
        `publish`, or the Conflict, ConfigurationError or EvidenceError that it raises.

        Names may be published in groups after their archives; an outcome is yielded when its name
        is published. Temporary and MachineError are raised.
        """


@runtime_checkable
class Indexed(Repository, Protocol):
    """A repository with index.yaml and files next to it, as `audit` and `regenerate` read it.

    Source: helm 3 and 4, pkg/repo/index.go.
    """

    def index(self) -> bytes | None:
        """The current index.yaml, None when there is none."""

    def files(self) -> Mapping[str, int] | None:
        """Name (relative to the index) and size in bytes of each file; None when they cannot be
        listed.
        """

    def read(self, name: str) -> bytes | None:
        """A file by its URL in the index, None when the repository says that it does not exist."""


@runtime_checkable
class Rewritable(Writable, Indexed, Protocol):
    """A repository whose index we write, for `audit --fix` and `regenerate --again`."""

    def rewrite(self, before: bytes | None, after: bytes) -> None:
        """Replace the index `before` by `after`.

        Raises Conflict when the index has changed meanwhile.
        """


class ArchiveGone(EvidenceError):
    """A repository has a version, but lost its archive. digest: of the archive, "" when unknown."""

    digest = ""


def archive_gone_error(digest: str, problem: str, *, where: str, advice: str) -> ArchiveGone:
    """The error for a version whose archive is lost."""
    error = ArchiveGone(problem, where=where, advice=advice)
    error.digest = digest
    return error


def published_archive(
    tgz: bytes, name: str, version: str, reference: str, *, where: str = "", advice: str
) -> Published:
    """Check an archive that was read for a version.

    where: names the archive in errors; default: the reference. Raises EvidenceError when it is
    refused, or contains another chart or version.
    """
    archive = archives.open_archive(tgz, where or reference)
    if (archive.name, archive.version) != (name, version):
        problem = (
            f"the archive holds the chart {archive.name} {archive.version}, not {name} {version}"
        )
        raise EvidenceError(problem, where=where or reference, advice=advice)
    return Published(reference, archive)


def check_version_free(
    archive: Archive,
    existing: Published | None,
    versions: Callable[[], Iterable[str]],
    where: str,
) -> Published | None:
    """None when the version is free; `existing` when it has the same tar, which then stays.

    Args:
        existing: what the repository has for this version.
        versions: returns all versions of the chart; called only without `existing`.
        where: the repository, for errors.

    Raises:
        Conflict: the version has another tar, or a version that helm cannot tell apart exists.
    """
    if existing is not None:
        # Compare the tar, not the .tgz: compression differs between versions of zlib.
        if existing.tar_digest != archive.tar_digest:
            raise content_conflict(archive, existing.tar_digest, existing.reference)
        return existing
    same_precedence = versions_of.other_build_metadata(archive.version, versions())
    if same_precedence:
        raise Conflict(
            f"chart {archive.name} {archive.version} differs from the published {same_precedence} "
            "only in build metadata, which helm cannot tell apart",
            where=where,
            advice="raise the version",
        )
    return None


def content_conflict(archive: Archive, published_digest: str, where: str) -> Conflict:
    """The error for a version that exists with another tar."""
    return Conflict(
        f"chart {archive.name} {archive.version} is already there with another content "
        f"(theirs {published_digest}, ours {archive.tar_digest})",
        where=where,
        advice="raise the version: a published one is never replaced",
    )


def publish_one(repository: Writable, publication: Publication) -> Published | PipelineError:
    """The outcome of one publication, for a `publish_all` that publishes one by one."""
    try:
        return repository.publish(*publication)
    except (Conflict, ConfigurationError, EvidenceError) as error:
        return error
