"""Repositories with an index.yaml: does the index say what the files are, and the files what the
records say?

`findings` reads everything and changes nothing; `repaired` makes the index that their fixes lead
to. What is published is never removed or replaced by a fix: the index follows the files, and only
where nothing has to be guessed. Versions that the configuration withdraws by chart and version
leave the index, because a repository may hold charts of others with the same version; their
archives stay.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from pipeline_steps.audits import faults
from pipeline_steps.audits.faults import Facts, Finding, Fix, Refused, Seen
from pipeline_steps.audits.records import Known, Recorded, tells
from pipeline_steps.charts import version as versions_of
from pipeline_steps.charts.metadata import CREATED
from pipeline_steps.repositories import index, index_rows
from pipeline_steps.repositories.index_rows import Row
from pipeline_steps.repositories.indexed import find_file
from pipeline_steps.repositories.repository import Indexed
from pipeline_steps.toolbox.errors import EvidenceError

#: Kinds that leave open what an entry means: nothing is done to other entries of such a chart.
_UNCLEAR = frozenset({"unreadable entry", "duplicate version"})


class Look(NamedTuple):
    """An entry and what its first URL leads to; seen None: nothing. signed: is there a .prov beside
    it?
    """

    row: Row
    seen: Seen | None
    signed: bool
    why: str = ""


class Orphan(NamedTuple):
    """An archive that no entry names."""

    file: str
    seen: Seen


class Stock(NamedTuple):
    """Everything there is of one chart. known: what is recorded; withdrawn: versions."""

    chart: str
    looks: Sequence[Look]
    orphans: Sequence[Orphan]
    known: Known
    withdrawn: Collection[str]

    def recorded(self, version: str) -> list[Recorded]:
        return self.known.get((self.chart, version), [])

    def is_withdrawn(self, version: str) -> bool:
        return versions_of.is_withdrawn(self.withdrawn, self.chart, version)


def digests(data: bytes | None, where: str) -> list[str]:
    """The digests of archives that an index names; none when it cannot be read."""
    try:
        return (
            [row.digest for row in index_rows.read_rows(data, where) if row.digest] if data else []
        )
    except EvidenceError:
        return []


def findings(
    repository: Indexed, before: bytes | None, known: Known, withdrawn: Collection[str], charts: Collection[str],
    jobs: int,
) -> list[Finding]:  # fmt: skip
    """What is wrong. before: the index; charts: names, none for all. Raises MachineError's kinds,
    Temporary.
    """
    where = f"{repository.url}/index.yaml"
    try:
        rows = index_rows.read_rows(before, where) if before is not None else []
    except EvidenceError as error:
        return [Finding("unreadable index", "", "", error.what, error.where)]
    files = repository.files()
    wanted = [row for row in rows if not charts or row.chart in charts]
    looks = list(faults.many(lambda row: _look(repository, row, files), wanted, jobs))
    loose = _loose(rows, files or {}, charts)
    if loose:  # what was published since the index was read has an entry by now
        loose = sorted(
            {*loose}.intersection(_loose(_again(repository, where), files or {}, charts))
        )
    orphans = list(faults.many(lambda name: _orphan(repository, name), loose, jobs))
    found = [
        finding for stock in _stocks(looks, orphans, known, withdrawn) for finding in _judged(stock)
    ]
    return [*found, *_strays(files or {}, charts)]


def _loose(rows: Sequence[Row], files: Mapping[str, int], charts: Collection[str]) -> list[str]:
    """The archives that no entry names."""
    named = {find_file(row.urls[0], files) for row in rows if row.urls}
    return [
        name for name in files if name.endswith(".tgz") and name not in named and _of(name, charts)
    ]


def _again(repository: Indexed, where: str) -> list[Row]:
    data = repository.index()
    return index_rows.read_rows(data, where) if data is not None else []


def repaired(before: bytes | None, found: Sequence[Finding], where: str) -> bytes:
    """The index after every fix. Raises EvidenceError where nothing can be put into it or taken out
    of it.
    """
    fixes = [finding.fix for finding in found if finding.fix]
    gone = {(row.chart, row.number): row for fix in fixes for row in fix.gone}
    new = {(str(fix.new["name"]), str(fix.new["version"])): fix.new for fix in fixes if fix.new}
    kept = before if before is None else index_rows.without_rows(before, gone.values(), where)
    return index.Index(kept, where).with_entries(new.values()) if new or kept is None else kept


def _look(repository: Indexed, row: Row, files: Mapping[str, int] | None) -> Look:
    if row.fault or not row.urls:
        return Look(row, None, False, "it has no URL")
    url = row.urls[0]
    if files is not None and find_file(url, files) is None:
        return Look(row, None, False, f"{url} is not in this repository")
    try:
        tgz = repository.read(url)
    except EvidenceError as error:  # a URL that leads out of the repository
        return Look(row, None, False, error.what)
    if tgz is None:
        return Look(row, None, False, f"there is no file {url}")
    signed = (
        f"{find_file(url, files)}.prov" in files
        if files is not None
        else repository.read(f"{url}.prov") is not None
    )
    return Look(row, faults.seen(tgz, url), signed)


def _orphan(repository: Indexed, name: str) -> Orphan:
    tgz = repository.read(name if "://" in name else quote(name, safe="/+"))
    return Orphan(
        name, faults.seen(tgz, name) if tgz is not None else Refused("", "it went away meanwhile")
    )


def _of(name: str, charts: Collection[str]) -> bool:
    last = name.rpartition("/")[2]
    return not charts or any(last.startswith(f"{chart}-") for chart in charts)


def _strays(files: Mapping[str, int], charts: Collection[str]) -> Iterator[Finding]:
    for name in files:
        if name.endswith(".prov") and name.removesuffix(".prov") not in files and _of(name, charts):
            yield Finding(
                "orphan file", "", name.rpartition("/")[2], "there is no such archive", name
            )


def _stocks(
    looks: Sequence[Look], orphans: Sequence[Orphan], known: Known, withdrawn: Collection[str]
) -> Iterator[Stock]:
    """By chart; an orphan that cannot be read belongs to none."""
    names = [look.row.chart for look in looks]
    names += [one.seen.name if isinstance(one.seen, Facts) else "" for one in orphans]
    for name in dict.fromkeys(names):
        own = [look for look in looks if look.row.chart == name]
        loose = [
            one for one in orphans if (one.seen.name if isinstance(one.seen, Facts) else "") == name
        ]
        yield Stock(name, own, loose, known, withdrawn)


def _judged(stock: Stock) -> list[Finding]:
    """Everything wrong with one chart."""
    found: list[Finding] = []
    by_version: dict[str, list[Look]] = {}
    for look in stock.looks:
        if look.row.fault:
            found.append(_finding("unreadable entry", look, look.row.fault))
        else:
            by_version.setdefault(look.row.version, []).append(look)
    for same in by_version.values():
        kept, doubled = _single(same)
        found += doubled
        if kept is not None:
            found += _entry(stock, kept)
    places = {version: same[0].row.where for version, same in by_version.items()}
    found += faults.versions_that_mislead(stock.chart, places)
    signed = {
        version: same[0].signed
        for version, same in by_version.items()
        if isinstance(same[0].seen, Facts)
    }
    found += faults.without_provenance(stock.chart, signed, places)
    found += _orphans(stock, by_version)
    unclear = any(finding.kind in _UNCLEAR and not finding.fix for finding in found)
    return [finding._replace(fix=None) for finding in found] if unclear else found


def _finding(kind: faults.Kind, look: Look, what: str, fix: Fix | None = None) -> Finding:
    return Finding(kind, look.row.chart, look.row.version, what, look.row.where, fix)


def _single(same: Sequence[Look]) -> tuple[Look | None, list[Finding]]:
    """The entry that counts of several of one version: the first that says what its file is, unless
    files differ.
    """
    if len(same) == 1:
        return same[0], []
    right = [
        look
        for look in same
        if isinstance(look.seen, Facts) and look.seen.digest == look.row.digest
    ]
    if len({look.row.digest for look in right}) != 1:
        what = f"it is in the index {len(same)} times, and the files do not tell which entry counts"
        return None, [_finding("duplicate version", same[0], what)]
    others = tuple(look.row for look in same if look is not right[0])
    listed = ", ".join(row.where.rpartition(":")[2] for row in others)
    fix = Fix(
        f"take out the entries at line {listed}; the one at {right[0].row.where} says what its file is",
        others,
    )
    return right[0], [
        _finding("duplicate version", right[0], f"it is in the index {len(same)} times", fix)
    ]


def _entry(stock: Stock, look: Look) -> Iterator[Finding]:
    """What is wrong with the only entry of a version."""
    row, found = look.row, list(_compared(stock, look))
    if look.seen is not None and f"{row.chart}-{row.version}" in stock.withdrawn:
        fix = Fix("take the entry out; its archive stays", (row,))
        yield _finding("withdrawn version", look, "it is withdrawn, and still in the index", fix)
        found = [finding._replace(fix=None) for finding in found]
    yield from found


def _compared(stock: Stock, look: Look) -> Iterator[Finding]:
    """Is it the archive that was published, and does the entry say what it says?"""
    row, there, recorded = look.row, look.seen, stock.recorded(look.row.version)
    if there is None:
        yield _finding("missing file", look, *_missing(stock, look))
        return
    told = tells(recorded, there.digest, there.tar if isinstance(there, Facts) else "")
    if recorded and not told:
        what = f"the archive has the digest {there.digest}, recorded is {recorded[-1].digest}"
        yield _finding("changed since recorded", look, f"{what} ({recorded[-1].record.id[7:19]})")
    wrong = bool(row.digest) and row.digest != there.digest
    what = f"the archive has the digest {there.digest}, the index says {row.digest}"
    if isinstance(there, Refused):
        yield _finding("archive refused", look, there.reason)
        if wrong:
            yield _finding("wrong digest", look, f"{what}; restore the archive")
    elif (there.name, there.version) != (row.chart, row.version):
        yield _finding(
            "other chart", look, f"the archive holds the chart {there.name} {there.version}"
        )
    elif wrong and not told:
        yield _finding("wrong digest", look, f"{what}; restore the archive")
    elif wrong:
        yield _finding(
            "wrong digest",
            look,
            what,
            _corrected(
                look, there, "put the digest of the archive, which a record names, into the index"
            ),
        )
    elif told or not recorded:
        yield from _fields(look, there)


def _fields(look: Look, there: Facts) -> Iterator[Finding]:
    """An entry that names the right archive: does it say what that says?"""
    if not look.row.digest:
        fix = _corrected(look, there, "put it there")
        yield _finding("no digest", look, "nobody can see whether its archive changes", fix)
    fields = faults.disagreements(look.row.fields, there)
    if fields:
        fix = _corrected(look, there, "write what its Chart.yaml says")
        yield _finding(
            "entry disagrees", look, f"its Chart.yaml has another {', '.join(fields)}", fix
        )


def _corrected(look: Look, there: Facts, words: str) -> Fix:
    return Fix(words, (look.row,), _rewritten(look.row, there, look.row.urls))


def _missing(stock: Stock, look: Look) -> tuple[str, Fix | None]:
    """An entry whose file is gone is taken out only where a record keeps what it was: then nothing
    is forgotten.
    """
    if stock.is_withdrawn(look.row.version):
        return f"{look.why}; the version is withdrawn", Fix("take the entry out", (look.row,))
    again = next(
        (one for one in stock.orphans if look.row.digest and one.seen.digest == look.row.digest),
        None,
    )
    if again is not None and isinstance(again.seen, Facts):
        new = _rewritten(look.row, again.seen, [_url(again.file)])
        return f"{look.why}; {again.file} is it", Fix(f"name {again.file}", (look.row,), new)
    if stock.recorded(look.row.version) and "://" not in "".join(look.row.urls[:1]):
        words = "take the entry out; promote or regenerate then publish the same tar again, which a record names"
        return look.why, Fix(words, (look.row,))
    advice = f"restore the archive {look.row.digest}" if look.row.digest else "restore the archive"
    return f"{look.why}; no record keeps what it was: {advice}, or take the entry out by hand", None


def _orphans(stock: Stock, entries: Mapping[str, Sequence[Look]]) -> Iterator[Finding]:
    """Archives without an entry; each gets one where it is what its name says and nothing else is
    that version.
    """
    taken: set[str] = set()
    for one in stock.orphans:
        if isinstance(one.seen, Refused):
            yield Finding(
                "archive refused", "", one.file.rpartition("/")[2], one.seen.reason, one.file
            )
            continue
        version = one.seen.version
        if stock.is_withdrawn(version):
            continue
        same = entries.get(version, ())
        if any(look.seen is None and look.row.digest == one.seen.digest for look in same):
            continue  # told, and mended, with the entry
        why = _no_entry(stock, one, one.seen, [*entries, *taken])
        fix = (
            None
            if why
            else Fix("give it an entry", (), _written(one.seen, [_url(one.file)], CREATED))
        )
        taken.add(version)
        yield Finding(
            "orphan file", stock.chart, version, why or "no entry names it", one.file, fix
        )


def _no_entry(stock: Stock, orphan: Orphan, facts: Facts, versions: Sequence[str]) -> str:
    """Why an archive gets no entry, "" when it gets one."""
    if facts.version in versions:
        return "an entry names another file of this version"
    twin = versions_of.other_build_metadata(facts.version, versions)
    if twin:
        return f"it differs from {twin} only behind the +, which helm cannot tell apart"
    if orphan.file.rpartition("/")[2] != f"{facts.name}-{facts.version}.tgz":
        return "its file name is not that of its chart and version"
    recorded = stock.recorded(facts.version)
    if recorded and not tells(recorded, facts.digest, facts.tar):
        return f"recorded is another archive, {recorded[-1].digest}"
    return ""


def _url(name: str) -> str:
    return name if "://" in name else quote(name, safe="/+")


def _rewritten(row: Row, facts: Facts, urls: Sequence[str]) -> dict[str, Any]:
    """The entry as its archive, which is at `urls`, has it; when it was made and what helm does not
    know stay.
    """
    mine = _written(facts, urls, str(row.fields.get("created") or CREATED))
    foreign = {
        key: value for key, value in row.fields.items() if key not in _OURS and value is not None
    }
    return {**mine, **foreign}


def _written(facts: Facts, urls: Sequence[str], created: str) -> dict[str, Any]:
    return {
        **index.new_entry_fields(facts.metadata.fields, facts.digest, urls[0], created),
        "urls": list(urls),
    }


#: Fields of an entry that follow from the archive, or are kept by name.
_OURS = frozenset(
    "name home sources version description keywords maintainers icon apiVersion condition tags appVersion deprecated "
    "annotations kubeVersion dependencies type digest urls created".split()
)
