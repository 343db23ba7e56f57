"""`state verify`: check `uses`, evidence files and outputs of records; ids are checked by loading.

It finds every accident and every edit that does not recompute ids; against a forger who does see
docs/explanation/trust.md#what-is-not-claimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.config.language import Config
from pipeline_steps.oci.completeness import find_stored
from pipeline_steps.oci.registry import connect
from pipeline_steps.repositories.kinds import find_named, open_repository_of
from pipeline_steps.repositories.repository import ArchiveGone
from pipeline_steps.sources.kinds import open_source
from pipeline_steps.sources.source import Tag
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.state.union import resolve, superseded
from pipeline_steps.toolbox.errors import (
    ConfigurationError,
    EvidenceError,
    MachineError,
    PipelineError,
)
from pipeline_steps.toolbox.files import sha256
from pipeline_steps.toolbox.wording import counted


class Finding(NamedTuple):
    """verdict: "holds", "changed" (both digests in `what`), "gone", "unresolved", "truncated",
    "contradictory", "cannot be reached" (with the error why), "not asked" (a repository that is not
    configured)."""

    verdict: str
    what: str
    error: PipelineError | None = None


def verify_records(
    state: State,
    hosts: Mapping[str, Host],
    charts: Sequence[str] = (),
    tags: Mapping[str, Tag] | None = None,
) -> Iterator[Finding]:
    """Check torn lines, contradictions, `uses`, and evidence files and outputs of current records.

    charts: URLs of the configured chart repositories. tags: of the source, None without one.
    Yields a finding for each check, also for those that hold.
    """
    for path, size in state.torn_files().items():
        yield Finding(
            "truncated",
            f"{path}: the last line, {counted(size, 'byte')} without an end; the next step drops it",
        )
    # Ids of used records may be in a store only: ask for all of these at once.
    records = state.records()
    known_ids = {record.id for record in records}
    used = {identity for record in records for identity in record.uses} - known_ids
    if used and state.stores is not None:
        known_ids |= {record.id for _line, record in state.stores.fetch_by_id(sorted(used))}
    yield from _contradictions(records)
    superseded_ids = superseded(records)
    for record in records:
        for identity in record.uses:
            verdict = "holds" if identity in known_ids else "unresolved"
            yield Finding(verdict, f"{_title(record)} uses {identity[:19]}")
        # What was replaced may be gone: sweeping it is no accident.
        if record.id in superseded_ids or not record.passed:
            continue
        for name, digest in record.evidence.items():
            yield _verify_evidence(state, name, digest, f"{_title(record)} evidence {name}")
        # It publishes nothing: what it read is an output of the step that did.
        if record.step == "verify":
            continue
        for name, value in record.outputs.items():
            title = f"{_title(record)} {name} {value}"
            if "@sha256:" in value:
                yield (_verify_chart if name.startswith("chart") else _verify_output)(
                    record, value, title, charts, hosts
                )
            elif record.step == "tag_release" and name == "tag" and tags is not None:
                yield _verify_tag(value, title, tags)


def source_tags(config: Config) -> Mapping[str, Tag] | None:
    """The tags in this checkout of the source; None without a source."""
    try:
        return open_source(config.root, config.hosts, config.release.svn_tags).tags()
    except ConfigurationError:
        return None


def _not_reached(title: str, error: PipelineError) -> Finding:
    return Finding("cannot be reached", f"{title}: {error}", error)


def _title(record: Record) -> str:
    return f"{record.step} of {record.subject} ({record.id[7:19]}):"


def _contradictions(records: Sequence[Record]) -> Iterator[Finding]:
    """Findings for keys whose current records have different results."""
    by_key: dict[str, list[Record]] = {}
    for record in records:
        by_key.setdefault(record.key, []).append(record)
    for key, of_key in by_key.items():
        verdict = resolve(of_key, key)
        if verdict.contradictory:
            results = ", ".join(
                f"{record.result} ({record.id[7:19]})" for record in verdict.current
            )
            yield Finding(
                "contradictory", f"{of_key[0].step} of {of_key[0].subject}: {results}; run it again"
            )


def _verify_tag(value: str, title: str, tags: Mapping[str, Tag]) -> Finding:
    """Check that a tag of the source exists and names the recorded revision."""
    name, _, revision = value.rpartition("@")
    if name not in tags:
        return Finding("gone", title)
    current_revision = tags[name].revision
    return (
        Finding("holds", title)
        if current_revision == revision
        else Finding("changed", f"{title}, now {current_revision}")
    )


def _verify_output(
    _record: Record, value: str, title: str, _charts: Sequence[str], hosts: Mapping[str, Host]
) -> Finding:
    """Check a file, or an image with its tag, manifests, configurations and layers."""
    reference, _, digest = value.rpartition("@")
    if reference.startswith("file://"):
        return _verify_file(Path(unquote(reference.removeprefix("file://"))), digest, title)
    try:
        image = Reference.parse(value.removeprefix("oci://"))
        stored = find_stored(connect(image, hosts), image)
    except PipelineError as error:
        return _not_reached(title, error)
    if stored.lost:
        lost = (
            "" if stored.lost == [digest] else f": the registry has lost {', '.join(stored.lost)}"
        )
        return Finding("gone", f"{title}{lost}")
    if image.tag and stored.tagged is None:
        return Finding("gone", f"{title}: the tag is gone, the digest is there")
    if image.tag and stored.tagged != digest:
        return Finding("changed", f"{title}, now {stored.tagged}")
    return Finding("holds", title)


def _verify_chart(
    record: Record, value: str, title: str, charts: Sequence[str], hosts: Mapping[str, Host]
) -> Finding:
    """Check that the repository has the recorded archive under its version.

    This also detects an index that was replaced by an older one.
    """
    try:
        repository = open_repository_of(
            value, [*charts, *record.parameters.get("charts", [])], hosts
        )
        # By digest first: an index says which archive it means, a registry has to show every layer.
        if value.startswith("oci://") or (repository is None and value.startswith("file://")):
            finding = _verify_output(record, value, title, charts, hosts)
            if finding.verdict != "holds" or repository is None:
                return finding
        if repository is None:
            return Finding("not asked", f"{title}: it is in no repository that is configured now")
        published = find_named(repository, record.subject, str(record.parameters.get("version")))
    except ArchiveGone as error:
        return Finding("gone", f"{title}: {error}")
    except EvidenceError as error:
        return Finding("changed", f"{title}: {error}")
    except PipelineError as error:
        return _not_reached(title, error)
    if published is None:
        return Finding("gone", f"{title}: the repository does not name it")
    return (
        Finding("holds", title)
        if published.reference == value
        else Finding("changed", f"{title}, now {published.reference}")
    )


def _verify_evidence(state: State, name: str, digest: str, title: str) -> Finding:
    """A file of evidence: beside the state file, else in a store, which hashes its bytes, too."""
    finding = _verify_file(state.folder / name, digest, title)
    if finding.verdict != "gone" or state.stores is None:
        return finding
    try:
        data = state.stores.evidence_file(digest)
    except EvidenceError as error:
        return Finding("changed", f"{title}: {error}")
    except PipelineError as error:
        return _not_reached(title, error)
    return finding if data is None else Finding("holds", title)


def _verify_file(path: Path, digest: str, title: str) -> Finding:
    try:
        actual = sha256(path.read_bytes())
    except FileNotFoundError:
        return Finding("gone", title)
    except OSError as error:
        advice = "give the file to this account, or run as the one that owns it"
        problem = f"the file cannot be read: {error.strerror}"
        return _not_reached(title, MachineError(problem, where=str(path), advice=advice))
    return (
        Finding("holds", title)
        if actual == digest
        else Finding("changed", f"{title}, now {actual}")
    )
