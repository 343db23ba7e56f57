"""Check repositories with an index.yaml: index against archives, archives against records. What is
wrong with one chart says `index_findings`.

`find_problems` reads everything and changes nothing; `apply_fixes` makes the repaired index. A fix
never removes or replaces an archive: it changes the index to match the archives, and only where
nothing has to be guessed. Versions withdrawn as NAME-VERSION are removed from the index (a bare
VERSION could mean charts of others in the same repository); their archives stay.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from urllib.parse import quote, urlsplit

from pipeline_steps.audits.findings import (
    ArchiveFacts,
    Finding,
    RefusedArchive,
    map_concurrently,
    read_archive,
)
from pipeline_steps.audits.index_findings import (
    InspectedEntry,
    Inventory,
    Orphan,
    chart_findings,
    orphan_chart,
)
from pipeline_steps.audits.records import RecordedVersions
from pipeline_steps.repositories import index, index_rows, index_types
from pipeline_steps.repositories.index_rows import Row
from pipeline_steps.repositories.indexed import find_file
from pipeline_steps.repositories.other_hosts import OtherHosts, is_absolute
from pipeline_steps.repositories.repository import Indexed
from pipeline_steps.toolbox.errors import EvidenceError, MachineError, Temporary


def index_digests(data: bytes | None, where: str) -> list[str]:
    """The digests of archives in an index; none when it cannot be read."""
    try:
        return (
            [row.digest for row in index_rows.read_rows(data, where) if row.digest] if data else []
        )
    except EvidenceError:
        return []


def find_problems(
    repository: Indexed,
    before: bytes | None,
    recorded: RecordedVersions,
    withdrawn: Collection[str],
    charts: Collection[str],
    jobs: int,
    notes: list[str] | None = None,
    other_hosts: OtherHosts | None = None,
) -> list[Finding]:
    """Check the index and every archive.

    Args:
        before: the index as it was read, None when there is none.
        recorded: what is recorded about the versions.
        withdrawn: VERSION or NAME-VERSION.
        charts: names, empty for all.
        jobs: archives to read at once.
        notes: gets a line for what is odd and not wrong.
        other_hosts: reads archives whose URLs name a host and no file of the repository; None: they
            are missing.

    Raises:
        MachineError, Temporary: the repository cannot be read.
    """
    where = f"{repository.url}/index.yaml"
    try:
        rows = index_rows.read_rows(before, where) if before is not None else []
    except EvidenceError as error:
        return [Finding("unreadable index", "", "", error.what, error.where)]
    files = repository.files()
    file_sizes = files or {}
    selected_rows = [row for row in rows if not charts or row.chart in charts]
    entries = list(
        map_concurrently(
            lambda row: _inspect_entry(repository, row, files, other_hosts), selected_rows, jobs
        )
    )
    unnamed = _still_unnamed(
        repository, _unnamed_archives(rows, file_sizes, charts), file_sizes, charts
    )
    orphans = list(map_concurrently(lambda name: _inspect_orphan(repository, name), unnamed, jobs))
    if notes is not None:
        notes.extend(note for entry in entries for note in _notes(entry))
    chart_names = {*(row.chart for row in rows), *(orphan_chart(orphan) for orphan in orphans)}
    missing = [name for name in charts if name not in chart_names]
    problems = [
        Finding("missing file", name, "", "the repository has no version of it", where)
        for name in missing
    ]
    if rejected := index_types.top_rejection(before or b""):
        text = f"helm refuses the whole index: {rejected[1]}"
        problems.append(Finding("index refused", "", "", text, f"{where}:{rejected[0]}"))
    problems += [
        finding
        for inventory in _inventories(entries, orphans, recorded, withdrawn)
        for finding in chart_findings(inventory)
    ]
    return [*problems, *_stray_provenance(file_sizes, charts)]


def _still_unnamed(
    repository: Indexed, unnamed: Sequence[str], files: Mapping[str, int], charts: Collection[str]
) -> list[str]:
    """Those of `unnamed` that the index does not name now: some may have been published since it
    was read.
    """
    if not unnamed:
        return []
    current = repository.index()
    where = f"{repository.url}/index.yaml"
    current_rows = index_rows.read_rows(current, where) if current is not None else []
    return sorted({*unnamed}.intersection(_unnamed_archives(current_rows, files, charts)))


def _unnamed_archives(
    rows: Sequence[Row], files: Mapping[str, int], charts: Collection[str]
) -> list[str]:
    """Files of archives that no index entry names."""
    named_files = {find_file(row.urls[0], files) for row in rows if row.urls}
    return [
        name
        for name in files
        if name.endswith(".tgz") and name not in named_files and _belongs_to(name, charts)
    ]


def apply_fixes(before: bytes | None, findings: Sequence[Finding], where: str) -> bytes:
    """The index with the fixes of all findings. Raises EvidenceError when it cannot be edited."""
    fixes = [finding.fix for finding in findings if finding.fix]
    removed = {(row.chart, row.number): row for fix in fixes for row in fix.removed_rows}
    added = {(str(fix.new["name"]), str(fix.new["version"])): fix.new for fix in fixes if fix.new}
    remaining = (
        before if before is None else index_rows.without_rows(before, removed.values(), where)
    )
    return (
        index.Index(remaining, where).with_entries(added.values())
        if added or remaining is None
        else remaining
    )


def _inspect_entry(
    repository: Indexed, row: Row, files: Mapping[str, int] | None, other_hosts: OtherHosts | None
) -> InspectedEntry:
    if row.fault or not row.urls:
        return InspectedEntry(row, None, False, "it has no URL")
    url = row.urls[0]
    elsewhere = files is not None and find_file(url, files) is None
    read: Callable[[str], bytes | None] = repository.read
    if elsewhere:
        if other_hosts is None or not is_absolute(url) or _is_release_here(url, files or ()):
            return InspectedEntry(row, None, False, f"{url} is not in this repository")
        read = other_hosts.read
    try:
        tgz = read(url)
        if tgz is None:
            return InspectedEntry(row, None, False, f"there is no file {url}")
        signed = (
            f"{find_file(url, files)}.prov" in files
            if files is not None and not elsewhere
            else read(f"{url}.prov") is not None
        )
    except EvidenceError as error:  # a URL that leads out of the repository
        if not elsewhere:
            return InspectedEntry(row, None, False, error.what)
        return InspectedEntry(row, None, False, str(error), unreachable=True)
    except (MachineError, Temporary) as error:
        host = urlsplit(url).netloc
        # The repository itself: nothing is known of it.
        if not elsewhere and (not host or host in repository.url):
            raise
        return InspectedEntry(row, None, False, str(error), unreachable=True)
    return InspectedEntry(row, read_archive(tgz, url), signed)


def _is_release_here(url: str, files: Iterable[str]) -> bool:
    """Whether a URL is of a release in the repository that `files` are of, where these are named by
    URL: it is one of them, or missing. No other host has to be asked.
    """
    place, releases, _ = url.partition("/releases/download/")
    return bool(releases) and any(name.startswith(f"{place}{releases}") for name in files)


def _notes(entry: InspectedEntry) -> Iterator[str]:
    """What nobody need mend, but should know: what helm reads though nothing made here has it."""
    row, archive = entry.row, entry.archive
    for note in archive.notes if isinstance(archive, ArchiveFacts) else ():
        yield f"{row.chart} {row.version}: {note} ({row.where})"


def _inspect_orphan(repository: Indexed, name: str) -> Orphan:
    tgz = repository.read(name if "://" in name else quote(name, safe="/+"))
    return Orphan(
        name,
        read_archive(tgz, name)
        if tgz is not None
        else RefusedArchive("", "it went away meanwhile"),
    )


def _belongs_to(name: str, charts: Collection[str]) -> bool:
    last = name.rpartition("/")[2]
    return not charts or any(last.startswith(f"{chart}-") for chart in charts)


def _stray_provenance(files: Mapping[str, int], charts: Collection[str]) -> Iterator[Finding]:
    for name in files:
        if (
            name.endswith(".prov")
            and name.removesuffix(".prov") not in files
            and _belongs_to(name, charts)
        ):
            yield Finding(
                "orphan file", "", name.rpartition("/")[2], "there is no such archive", name
            )


def _inventories(
    entries: Sequence[InspectedEntry],
    orphans: Sequence[Orphan],
    recorded: RecordedVersions,
    withdrawn: Collection[str],
) -> Iterator[Inventory]:
    """The inventory of each chart. Orphans that cannot be read have the chart name ""."""
    names = [entry.row.chart for entry in entries]
    names += [orphan_chart(orphan) for orphan in orphans]
    for name in dict.fromkeys(names):
        own_entries = [entry for entry in entries if entry.row.chart == name]
        own_orphans = [orphan for orphan in orphans if orphan_chart(orphan) == name]
        yield Inventory(name, own_entries, own_orphans, recorded, withdrawn)
