"""Findings of `audit` and the checks that repositories of every kind have in common.

Repositories with an index are checked in `indexed`, registries in `registry`; `records` reads what
is recorded about their versions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from pipeline_steps.charts import archive as archives
from pipeline_steps.charts import version as versions_of
from pipeline_steps.charts.metadata import helm_metadata
from pipeline_steps.charts.read import Metadata
from pipeline_steps.repositories.index_rows import Row
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError
from pipeline_steps.toolbox.files import sha256

Kind = Literal[
    "unreadable index", "unreadable entry", "missing file", "wrong digest", "no digest", "orphan file",
    "duplicate version", "differs only in +build", "non-SemVer version", "changed since recorded", "missing .prov",
    "index refused", "cannot be reached", "entry disagrees", "other chart", "archive refused", "stale claim",
    "withdrawn version",
]  # fmt: skip
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
#: Archives read at once; each may have 20 MiB (`archive.LARGEST`).
ARCHIVES_AT_ONCE = 4
#: One archive is decompressed at a time: each may take 100 MiB then.
_DECOMPRESSION = threading.Semaphore(1)


class Fix(NamedTuple):
    """The repair of a finding, always in the index only.

    description: for people. removed_rows: entries to remove. new: an entry to add.
    """

    description: str
    removed_rows: tuple[Row, ...] = ()
    new: Mapping[str, Any] | None = None


class Finding(NamedTuple):
    """One problem of a repository.

    chart, version: "" when it is about no single one. where: file and line, URL or reference.
    fix: None when it cannot be repaired without guessing.
    """

    kind: Kind
    chart: str
    version: str
    what: str
    where: str
    fix: Fix | None = None

    def __str__(self) -> str:
        subject = f"{self.chart} {self.version}".strip()
        return f"{self.kind}: {f'{subject}: ' if subject else ''}{self.what} ({self.where})"


class ArchiveFacts(NamedTuple):
    """A chart archive. digest: of the .tgz. tar: digest of its tar. metadata: of its Chart.yaml.
    notes: what is odd about it, though helm reads it.
    """

    digest: str
    tar: str
    metadata: Metadata
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def version(self) -> str:
        return self.metadata.version


class RefusedArchive(NamedTuple):
    """An archive that cannot be used, and the reason."""

    digest: str
    reason: str


ArchiveReading: TypeAlias = "ArchiveFacts | RefusedArchive"


def read_archive(tgz: bytes, where: str) -> ArchiveReading:
    """Read an archive. Only the facts are returned, so that its bytes need not stay in memory."""
    try:
        with _DECOMPRESSION:
            tar, chart_files = archives.unpack_with_digest(tgz, where)
        metadata = archives.metadata_of(chart_files, where, EvidenceError, strict=False)
    except EvidenceError as error:
        return RefusedArchive(sha256(tgz), error.what)
    try:
        archives.check_loadable(chart_files)
    except EvidenceError as error:
        return RefusedArchive(sha256(tgz), f"helm cannot load it: {error.problem}")
    notes = chart_files.notes
    try:
        # A second time, strictly: what only this reading refuses is odd, and no finding.
        archives.metadata_of(chart_files)
    except ConfigurationError as error:
        notes = (*notes, error.what)
    return ArchiveFacts(sha256(tgz), tar, metadata, notes)


def differing_fields(listed_fields: Mapping[str, Any], facts: ArchiveFacts) -> list[str]:
    """Names of the Chart.yaml fields that differ in an index entry or a manifest's configuration.

    An entry may lack the `dependencies` of a chart with apiVersion v1: helm 2 did not read
    requirements.yaml for it.
    """
    # Both sides in the form that helm writes: equal values then compare equal.
    archive_fields = helm_metadata(facts.metadata.fields)
    try:
        normalized = helm_metadata(listed_fields)
    except (TypeError, AttributeError, ValueError):  # not of the types that helm writes
        return ["a field of another shape"]
    v1 = facts.metadata.api_version == "v1"
    left_out = {"dependencies"} if v1 and "dependencies" not in normalized else set()
    return sorted(
        key
        for key in {*archive_fields, *normalized} - left_out
        if archive_fields.get(key) != normalized.get(key)
    )


def ambiguous_versions(chart: str, places: Mapping[str, str]) -> Iterator[Finding]:
    """Findings for versions that are not SemVer, or that differ only in build metadata.

    places: version → file and line, URL or reference.
    """
    by_parsed: dict[versions_of.Version, str] = {}
    for version, where in places.items():
        parsed = versions_of.parse(version)
        if parsed is None:
            advice = "helm may take it for another; publish it under a version of three numbers"
            yield Finding("non-SemVer version", chart, version, advice, where)
        elif parsed in by_parsed:
            text = f"helm cannot tell it from {by_parsed[parsed]}"
            yield Finding("differs only in +build", chart, version, text, where)
        else:
            by_parsed[parsed] = version


def missing_provenance(
    chart: str, signed: Mapping[str, bool], where: Mapping[str, str]
) -> Iterator[Finding]:
    """Findings for versions without a .prov file, if other versions of the chart have one.

    signed: version → whether it has a .prov file. where: version → file and line, or reference.
    """
    if any(signed.values()):
        for version, has_provenance in signed.items():
            if not has_provenance:
                yield Finding(
                    "missing .prov", chart, version, "others of this chart have one", where[version]
                )


def map_concurrently(
    ask: Callable[[Asked], Answer], questions: Sequence[Asked], jobs: int
) -> Iterator[Answer]:
    """Results of `ask` in the order of `questions`, `jobs` at once.

    At most 16 × jobs results are in memory: archives are large.
    """
    with ThreadPoolExecutor(jobs, thread_name_prefix="audit") as pool:
        for start in range(0, len(questions), 16 * jobs):
            yield from pool.map(ask, questions[start : start + 16 * jobs])


def count_by_kind(findings: Iterable[Finding]) -> dict[str, int]:
    """Number of findings of each kind."""
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.kind] = counts.get(finding.kind, 0) + 1
    return counts
