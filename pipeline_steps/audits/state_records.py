"""`state verify`: does everything recorded still hold? Ids are checked by loading; here `uses` and outputs.

It finds every accident and every edit that does not recompute ids; against a forger who does see design.md §17.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.oci.registry import connect
from pipeline_steps.repositories.kinds import open_repository_of
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.state.union import superseded
from pipeline_steps.toolbox.errors import EvidenceError, PipelineError
from pipeline_steps.toolbox.files import sha256


class Finding(NamedTuple):
    """verdict: "holds", "changed" (both digests in `what`), "gone", "unresolved", "truncated", "cannot be reached"."""

    verdict: str
    what: str


def findings(state: State, hosts: Mapping[str, Host], charts: Sequence[str] = ()) -> Iterator[Finding]:
    """One finding for each torn line, `uses`, evidence file and output of the records that nothing supersedes.

    charts: URLs of the chart repositories configured now.
    """
    for path, size in state.torn().items():
        yield Finding("truncated", f"{path}: the last line, {size} bytes without an end; the next step drops it")
    records = state.records()
    known = {record.id for record in records}
    used = {identity for record in records for identity in record.uses} - known
    if used and state.stores is not None:
        known |= {record.id for _line, record in state.stores.by_id(sorted(used))}
    gone = superseded(records)
    for record in records:
        for identity in record.uses:
            verdict = "holds" if identity in known else "unresolved"
            yield Finding(verdict, f"{_name(record)} uses {identity[:19]}")
        if record.id in gone or not record.passed:
            continue
        for name, digest in record.evidence.items():
            yield _file(state.folder / name, digest, f"{_name(record)} evidence {name}")
        for name, value in record.outputs.items():
            what = f"{_name(record)} {name} {value}"
            if "@sha256:" in value and name.startswith("chart") and not value.startswith(("oci://", "file://")):
                yield _chart(record, value, what, charts, hosts)
            elif "@sha256:" in value:
                yield _output(value, what, hosts)


def _name(record: Record) -> str:
    return f"{record.step} of {record.subject} ({record.id[7:19]}):"


def _output(value: str, what: str, hosts: Mapping[str, Host]) -> Finding:
    reference, _, digest = value.rpartition("@")
    if reference.startswith("file://"):
        return _file(Path(unquote(reference.removeprefix("file://"))), digest, what)
    try:
        name = Reference.parse(reference.removeprefix("oci://"))
        registry = connect(str(name), hosts)
        found = registry.head(name.path, digest)
        if found is None:
            return Finding("gone", what)
        if name.tag is None:
            return Finding("holds", what)
        tagged = registry.head(name.path, name.tag)
    except PipelineError as error:
        return Finding("cannot be reached", f"{what}: {error}")
    if tagged is None:
        return Finding("gone", f"{what}: the tag is gone, the digest is there")
    return Finding("holds", what) if tagged.digest == digest else Finding("changed", f"{what}, now {tagged.digest}")


def _chart(record: Record, value: str, what: str, charts: Sequence[str], hosts: Mapping[str, Host]) -> Finding:
    """Does its repository have the recorded archive under that version? An older index in its place is noticed here."""
    try:
        repository = open_repository_of(value, [*charts, *record.parameters.get("charts", [])], hosts)
        if repository is None:
            return Finding("cannot be reached", f"{what}: it is in no repository that is configured now")
        found = repository.find(record.subject, str(record.parameters["version"]))
    except EvidenceError as error:
        return Finding("changed", f"{what}: {error}")
    except PipelineError as error:
        return Finding("cannot be reached", f"{what}: {error}")
    if found is None:
        return Finding("gone", what)
    return Finding("holds", what) if found.reference == value else Finding("changed", f"{what}, now {found.reference}")


def _file(path: Path, digest: str, what: str) -> Finding:
    try:
        found = sha256(path.read_bytes())
    except FileNotFoundError:
        return Finding("gone", what)
    except OSError as error:
        return Finding("cannot be reached", f"{what}: {error.strerror}")
    return Finding("holds", what) if found == digest else Finding("changed", f"{what}, now {found}")
