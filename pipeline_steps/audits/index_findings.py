"""What is wrong with the entries of one chart in an index.yaml, and with archives that no entry names;
what repairs it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from pipeline_steps.audits.findings import (
    ArchiveFacts,
    ArchiveReading,
    Finding,
    Fix,
    Kind,
    RefusedArchive,
    ambiguous_versions,
    differing_fields,
    missing_provenance,
)
from pipeline_steps.audits.records import RecordedVersion, RecordedVersions, matches_record
from pipeline_steps.charts import version as versions_of
from pipeline_steps.charts.metadata import CREATED
from pipeline_steps.repositories import index
from pipeline_steps.repositories.index_rows import Row

#: With a finding of these kinds it is not clear what the entries of a chart mean: none is repaired.
_UNCLEAR = frozenset({"unreadable entry", "duplicate version"})


class InspectedEntry(NamedTuple):
    """An index entry and the archive at its first URL.

    archive: None when there is none; `reason` says why. signed: a .prov file is beside the archive.
    """

    row: Row
    archive: ArchiveReading | None
    signed: bool
    reason: str = ""
    unreachable: bool = False


class Orphan(NamedTuple):
    """An archive that no entry names."""

    file: str
    archive: ArchiveReading


class Inventory(NamedTuple):
    """All entries, orphans and records of one chart. withdrawn: VERSION or NAME-VERSION."""

    chart: str
    entries: Sequence[InspectedEntry]
    orphans: Sequence[Orphan]
    recorded: RecordedVersions
    withdrawn: Collection[str]

    def records_of(self, version: str) -> list[RecordedVersion]:
        return self.recorded.get((self.chart, version), [])

    def is_withdrawn(self, version: str) -> bool:
        return versions_of.is_withdrawn(self.withdrawn, self.chart, version)


def orphan_chart(orphan: Orphan) -> str:
    """The chart in an archive that no entry names, "" where it cannot be read."""
    return orphan.archive.name if isinstance(orphan.archive, ArchiveFacts) else ""


def chart_findings(inventory: Inventory) -> list[Finding]:
    """All findings of one chart."""
    problems: list[Finding] = []
    by_version: dict[str, list[InspectedEntry]] = {}
    for entry in inventory.entries:
        if entry.row.fault:
            problems.append(_finding("unreadable entry", entry, entry.row.fault))
        else:
            by_version.setdefault(entry.row.version, []).append(entry)
    for entries in by_version.values():
        valid, duplicates = _decisive_entry(entries)
        problems += duplicates
        if valid is not None:
            problems += _entry_findings(inventory, valid)
    problems += _rejections(inventory)
    places = {version: entries[0].row.where for version, entries in by_version.items()}
    problems += ambiguous_versions(inventory.chart, places)
    signed = {
        version: entries[0].signed
        for version, entries in by_version.items()
        if isinstance(entries[0].archive, ArchiveFacts)
    }
    problems += missing_provenance(inventory.chart, signed, places)
    problems += _orphan_findings(inventory, by_version)
    # Repairing the rest of a chart could remove what the unclear entry should have named.
    unclear = any(finding.kind in _UNCLEAR and not finding.fix for finding in problems)
    return [finding._replace(fix=None) for finding in problems] if unclear else problems


def _rejections(inventory: Inventory) -> Iterator[Finding]:
    """Entries for which helm refuses the whole index; corrected where the archive says how."""
    for entry in inventory.entries:
        if not entry.row.rejection:
            continue
        archive, fix = entry.archive, None
        right = isinstance(archive, ArchiveFacts) and archive.digest == entry.row.digest
        if right and isinstance(archive, ArchiveFacts):
            derived_fields = (*_DERIVED_FIELDS, "removed")
            fields_of_entry = {
                key: value for key, value in entry.row.fields.items() if key in derived_fields
            }
            row = entry.row._replace(fields=fields_of_entry)
            new = _corrected_entry(row, archive, entry.row.urls)
            fix = Fix("write what its Chart.yaml says", (entry.row,), new)
        text = f"helm refuses the whole index for it: {entry.row.rejection}"
        yield _finding("index refused", entry, text, fix)


def _finding(kind: Kind, entry: InspectedEntry, text: str, fix: Fix | None = None) -> Finding:
    return Finding(kind, entry.row.chart, entry.row.version, text, entry.row.where, fix)


def _decisive_entry(
    entries: Sequence[InspectedEntry],
) -> tuple[InspectedEntry | None, list[Finding]]:
    """The valid entry of several entries of one version, and the finding about the others.

    It is the first whose digest is that of its archive; None when these archives differ.
    """
    if len(entries) == 1:
        return entries[0], []
    matching = [
        entry
        for entry in entries
        if isinstance(entry.archive, ArchiveFacts) and entry.archive.digest == entry.row.digest
    ]
    # Several entries may name equal archives: then it does not matter which of them stays.
    if len({entry.row.digest for entry in matching}) != 1:
        text = (
            f"it is in the index {len(entries)} times, and the files do not tell which entry counts"
        )
        return None, [_finding("duplicate version", entries[0], text)]
    superfluous = tuple(entry.row for entry in entries if entry is not matching[0])
    listed = ", ".join(row.where.rpartition(":")[2] for row in superfluous)
    fix = Fix(
        f"take out the entries at line {listed}; the one at {matching[0].row.where} says "
        "what its file is",
        superfluous,
    )
    return matching[0], [
        _finding("duplicate version", matching[0], f"it is in the index {len(entries)} times", fix)
    ]


def _entry_findings(inventory: Inventory, entry: InspectedEntry) -> Iterator[Finding]:
    """Findings of the only, or the valid, entry of a version."""
    row, problems = entry.row, list(_compare_with_archive(inventory, entry))
    # Only NAME-VERSION: a bare VERSION may be meant for another chart of this repository.
    if entry.archive is not None and f"{row.chart}-{row.version}" in inventory.withdrawn:
        fix = Fix("take the entry out; its archive stays", (row,))
        yield _finding("withdrawn version", entry, "it is withdrawn, and still in the index", fix)
        problems = [finding._replace(fix=None) for finding in problems]
    yield from problems


def _compare_with_archive(inventory: Inventory, entry: InspectedEntry) -> Iterator[Finding]:
    """Compare an entry's archive with the records, and the entry with its archive."""
    row, archive, recorded = entry.row, entry.archive, inventory.records_of(entry.row.version)
    if entry.unreachable:
        yield _finding("cannot be reached", entry, entry.reason)
        return
    if archive is None:
        yield _finding("missing file", entry, *_missing_file(inventory, entry))
        return
    matches = matches_record(
        recorded, archive.digest, archive.tar if isinstance(archive, ArchiveFacts) else ""
    )
    if recorded and not matches:
        text = f"the archive has the digest {archive.digest}, recorded is {recorded[-1].digest}"
        yield _finding("changed since recorded", entry, f"{text} ({recorded[-1].record.id[7:19]})")
    wrong = bool(row.digest) and row.digest != archive.digest
    text = f"the archive has the digest {archive.digest}, the index says {row.digest}"
    if isinstance(archive, RefusedArchive):
        yield _finding("archive refused", entry, archive.reason)
        if wrong:
            yield _finding("wrong digest", entry, f"{text}; restore the archive")
    elif (archive.name, archive.version) != (row.chart, row.version):
        yield _finding(
            "other chart", entry, f"the archive holds the chart {archive.name} {archive.version}"
        )
    elif wrong and not matches:
        yield _finding("wrong digest", entry, f"{text}; restore the archive")
    elif wrong:
        yield _finding(
            "wrong digest",
            entry,
            text,
            _correcting_fix(
                entry,
                archive,
                "put the digest of the archive, which a record names, into the index",
            ),
        )
    elif matches or not recorded:
        yield from _compare_fields(entry, archive)


def _compare_fields(entry: InspectedEntry, archive: ArchiveFacts) -> Iterator[Finding]:
    """Compare the fields of an entry with its archive, which is the right one."""
    if not entry.row.digest:
        fix = _correcting_fix(entry, archive, "put it there")
        yield _finding("no digest", entry, "nobody can see whether its archive changes", fix)
    fields = differing_fields(entry.row.fields, archive)
    if fields:
        fix = _correcting_fix(entry, archive, "write what its Chart.yaml says")
        yield _finding(
            "entry disagrees", entry, f"its Chart.yaml has another {', '.join(fields)}", fix
        )


def _correcting_fix(entry: InspectedEntry, archive: ArchiveFacts, description: str) -> Fix:
    return Fix(description, (entry.row,), _corrected_entry(entry.row, archive, entry.row.urls))


def _missing_file(inventory: Inventory, entry: InspectedEntry) -> tuple[str, Fix | None]:
    """Text and fix for an entry whose archive is missing.

    The entry is removed only when a record keeps the digests of the archive; otherwise the entry is
    the only trace of it.
    """
    if inventory.is_withdrawn(entry.row.version):
        return f"{entry.reason}; the version is withdrawn", Fix("take the entry out", (entry.row,))
    same_archive = next(
        (
            orphan
            for orphan in inventory.orphans
            if entry.row.digest and orphan.archive.digest == entry.row.digest
        ),
        None,
    )
    if same_archive is not None and isinstance(same_archive.archive, ArchiveFacts):
        new = _corrected_entry(entry.row, same_archive.archive, [_file_url(same_archive.file)])
        return f"{entry.reason}; {same_archive.file} is it", Fix(
            f"name {same_archive.file}", (entry.row,), new
        )
    if inventory.records_of(entry.row.version) and "://" not in "".join(entry.row.urls[:1]):
        description = (
            "take the entry out; promote or regenerate then publish the same tar again, which a "
            "record names"
        )
        return entry.reason, Fix(description, (entry.row,))
    advice = (
        f"restore the archive {entry.row.digest}" if entry.row.digest else "restore the archive"
    )
    return (
        f"{entry.reason}; no record keeps what it was: {advice}, or take the entry out by hand",
        None,
    )


def _orphan_findings(
    inventory: Inventory, entries: Mapping[str, Sequence[InspectedEntry]]
) -> Iterator[Finding]:
    """Findings for archives without an entry.

    The fix adds an entry if the file name is right and the version has no other archive.
    """
    claimed_versions: set[str] = set()
    for orphan in inventory.orphans:
        if isinstance(orphan.archive, RefusedArchive):
            yield Finding(
                "archive refused",
                "",
                orphan.file.rpartition("/")[2],
                orphan.archive.reason,
                orphan.file,
            )
            continue
        version = orphan.archive.version
        if inventory.is_withdrawn(version):
            continue
        same_version = entries.get(version, ())
        if any(
            entry.archive is None and entry.row.digest == orphan.archive.digest
            for entry in same_version
        ):
            continue  # reported and repaired with that entry
        reason = _reason_for_no_entry(
            inventory, orphan, orphan.archive, [*entries, *claimed_versions]
        )
        fix = (
            None
            if reason
            else Fix(
                "give it an entry",
                (),
                _new_entry(orphan.archive, [_file_url(orphan.file)], CREATED),
            )
        )
        # Of several archives of this version only the first gets an entry.
        claimed_versions.add(version)
        yield Finding(
            "orphan file", inventory.chart, version, reason or "no entry names it", orphan.file, fix
        )


def _reason_for_no_entry(
    inventory: Inventory, orphan: Orphan, facts: ArchiveFacts, versions: Sequence[str]
) -> str:
    """Why no entry can be added for an archive, "" when it can."""
    if facts.version in versions:
        return "an entry names another file of this version"
    twin = versions_of.other_build_metadata(facts.version, versions)
    if twin:
        return f"it differs from {twin} only behind the +, which helm cannot tell apart"
    if orphan.file.rpartition("/")[2] != f"{facts.name}-{facts.version}.tgz":
        return "its file name is not that of its chart and version"
    recorded = inventory.records_of(facts.version)
    if recorded and not matches_record(recorded, facts.digest, facts.tar):
        return f"recorded is another archive, {recorded[-1].digest}"
    return ""


def _file_url(name: str) -> str:
    return name if "://" in name else quote(name, safe="/+")


def _corrected_entry(row: Row, facts: ArchiveFacts, urls: Sequence[str]) -> dict[str, Any]:
    """The entry for the archive at `urls`, with `created` and unknown fields of the old entry."""
    from_archive = _new_entry(facts, urls, str(row.fields.get("created") or CREATED))
    # Other programs keep fields of their own in an entry, which a repair must not lose.
    foreign = {
        key: value
        for key, value in row.fields.items()
        if key not in _DERIVED_FIELDS and value is not None
    }
    return {**from_archive, **foreign}


def _new_entry(facts: ArchiveFacts, urls: Sequence[str], created: str) -> dict[str, Any]:
    return {
        **index.new_entry_fields(facts.metadata.fields, facts.digest, urls[0], created),
        "urls": list(urls),
    }


#: Fields of an entry that are made from the archive, or set by name.
_DERIVED_FIELDS = frozenset(
    "name home sources version description keywords maintainers icon apiVersion condition tags "
    "appVersion deprecated annotations kubeVersion dependencies type digest urls created".split()
)
