"""What may be asked of a chart repository: one Protocol for each thing that a kind can do.

A class names what it can do as its bases, and whoever needs one of these asks with isinstance, or
opens the URL with `kinds.open_writable`; nobody asks which kind it is. One file for each kind lies
beside this one.

    Repository   read: every kind
    Writable     publish into: every kind but plain web servers
    Indexed      index.yaml and the files beside it: every kind but registries
    Rewritable   an index.yaml that we write: a folder, a branch of git, GitHub's releases
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

    provenance: the .prov file of exactly these bytes; created: RFC 3339, what an index says.
    """

    archive: Archive
    provenance: bytes | None = None
    created: str = CREATED


class Published(NamedTuple):
    """A chart version in a repository, with its archive as it was read: whole, and compared with
    every digest that is known of it. Digests are "sha256:" + 64 hex digits.

    reference: where it is, with the digest that its repository knows it by, like
    oci://host/path/name:1.2.3@sha256:… (of the manifest) or
    file:///folder/name-1.2.3.tgz@sha256:… (of the archive).
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
        """The reference without its digest."""
        return self.reference.rpartition("@")[0]


class Guarantees(NamedTuple):
    """What holds when several publish at once.

    atomic: never two contents under one version; words: said to users.
    """

    atomic: bool
    words: str


@runtime_checkable
class Repository(Protocol):
    """A chart repository to read. What is absent is None only when the repository says so; anything
    else that goes wrong is raised: EvidenceError for what does not fit together, MachineError's
    kinds, Temporary.
    """

    url: str

    def resolve(self, name: str, version: str) -> str | None:
        """The reference that a version has now, asked as cheaply as possible; None when absent.

        Like `Published.reference`. Its digest is what the repository says; the archive need not
        have been read.
        """

    def find(self, name: str, version: str) -> Published | None:
        """A version with its archive, read once and checked; None when absent.

        Raises EvidenceError when the archive is missing, has another digest than the repository
        says, is refused (`charts.archive`), or holds another chart or version.
        """

    def provenance(self, published: Published) -> bytes | None:
        """The .prov file of a version; None when there is none."""

    def versions(self, name: str) -> list[str]:
        """All versions of a chart, newest first; none when the chart is not there."""

    def charts(self) -> list[str]:
        """The names of all charts, sorted. Raises MachineError where the repository cannot tell."""


@runtime_checkable
class Writable(Repository, Protocol):
    """A repository that charts are published into."""

    guarantees: Guarantees

    def publish(
        self, archive: Archive, provenance: bytes | None = None, created: str = CREATED
    ) -> Published:
        """Publish a chart: .prov, artifact, then the name. The same tar again: the bytes published
        first stay.

        provenance, created: see Publication. Raises Conflict naming both digests when the version
        has another tar, or when one that differs only in build metadata is there; nothing is
        written then.
        """

    def publish_all(
        self, publications: Iterable[Publication]
    ) -> Iterator[Published | PipelineError]:
        """Publish many charts, an outcome for each in their order: what `publish` returns, or the
        Conflict, ConfigurationError or EvidenceError that it raises.

        Names may be given in groups, after their artifacts: an outcome is told when its name is
        there. What is temporary or this machine's trouble is raised.
        """


@runtime_checkable
class Indexed(Repository, Protocol):
    """A repository with an index.yaml and files beside it, as `audit` and `regenerate` read it.

    Source: helm 3 and 4, pkg/repo/index.go.
    """

    def index(self) -> bytes | None:
        """The index.yaml as it is stored now; None when there is none."""

    def files(self) -> Mapping[str, int] | None:
        """Name, relative to the index, and size in bytes of every file there is.

        None where that cannot be asked.
        """

    def read(self, name: str) -> bytes | None:
        """A file by the URL that the index gives it; None when it is confirmed to be absent."""


@runtime_checkable
class Rewritable(Writable, Indexed, Protocol):
    """A repository whose index we write: what `audit --fix` and `regenerate --again` mend."""

    def rewrite(self, before: bytes | None, after: bytes) -> None:
        """Put `after` in the place of the index `before`.

        Raises Conflict when the index is another one by now.
        """


class ArchiveGone(EvidenceError):
    """A repository names a version and has lost its archive, whose digest is known ("" where not
    even that).
    """

    digest = ""


def archive_gone_error(digest: str, problem: str, *, where: str, advice: str) -> ArchiveGone:
    """The error for a version whose archive with this digest is lost."""
    error = ArchiveGone(problem, where=where, advice=advice)
    error.digest = digest
    return error


def published_archive(
    tgz: bytes, name: str, version: str, reference: str, *, where: str = "", advice: str = ""
) -> Published:
    """The archive that was read in answer to the question for a version.

    where: names the archive in errors, the reference when it is not given. Raises EvidenceError
    when it is refused, or holds another chart or version.
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
    """`existing` when it has the same tar, and so stays; None when the version is free.

    existing: what the repository has under this version; versions: all of the chart's, asked only
    when it has nothing. Raises Conflict when the version has another tar, or when a version that
    helm cannot tell from it is there.
    """
    if existing is not None:
        if existing.tar_digest != archive.tar_digest:
            raise content_conflict(archive, existing.tar_digest, existing.reference)
        return existing
    same_precedence = versions_of.other_build_metadata(archive.version, versions())
    if same_precedence:
        raise Conflict(
            f"chart {archive.name} {archive.version} differs from the published {same_precedence} "
            "only in "
            "build metadata, which helm cannot tell apart",
            where=where,
            advice="raise the version",
        )
    return None


def content_conflict(archive: Archive, published_digest: str, where: str) -> Conflict:
    """The error for a version that is there with another tar."""
    return Conflict(
        f"chart {archive.name} {archive.version} is already there with another content "
        f"(theirs {published_digest}, ours {archive.tar_digest})",
        where=where,
        advice="raise the version: a published one is never replaced",
    )


def publish_one(repository: Writable, publication: Publication) -> Published | PipelineError:
    """The outcome of one publication, as `publish_all` gives it, where each name stands for itself."""
    try:
        return repository.publish(*publication)
    except (Conflict, ConfigurationError, EvidenceError) as error:
        return error
