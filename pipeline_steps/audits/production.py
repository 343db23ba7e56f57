"""What is in production, who approved it, what tested it: the versions in a chart repository with their records.

No archive is read: a version is found by what the index, or the tag in a registry, says it is. How a report is
written stands in `production_forms` and `production_page`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from pipeline_steps.audits import faults, inspection, production_forms, records
from pipeline_steps.audits.production_page import page
from pipeline_steps.audits.records import Recorded
from pipeline_steps.charts import version as versions_of
from pipeline_steps.config.language import Config
from pipeline_steps.evidence.store import hexadecimal
from pipeline_steps.repositories import index_rows
from pipeline_steps.repositories.kinds import open_repository
from pipeline_steps.repositories.repository import Repository
from pipeline_steps.state import union
from pipeline_steps.state.attempt import attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import UsageError

FORMS = ("table", "csv", "json", "html")
FORMAT = 1
FOLDER = "audit"

log = logging.getLogger("pipeline_steps.audit")


class Passed(NamedTuple):
    """A passed scenario. attempts: how often it was tried with the same content, images and cluster."""

    values: str
    cluster: str
    attempts: int


class Line(NamedTuple):
    """A version in production. proof: recorded, changed (something else was recorded) or no record.

    reference: repository, version and digest as the repository says them now. images: name → reference with digest;
    bases: what those were built on, name → digest.
    """

    chart: str
    version: str
    reference: str
    proof: str
    content: str
    revision: str
    released: str
    approvers: tuple[str, ...]
    tests: tuple[Passed, ...]
    images: dict[str, str]
    bases: dict[str, str]


def reported(
    urls: Sequence[str], config: Config, state: State, charts: Collection[str], *, form: str, uses: str | None,
    jobs: int | None, plan: bool = False,
) -> tuple[Record, ...]:  # fmt: skip
    """Write the report about these repositories below the state's folder; the record names it as evidence.

    uses: a digest; only versions with this image or base image. Returns () when only planned. Raises UsageError,
    EvidenceError, MachineError's kinds, Temporary.
    """
    if form not in FORMS:
        raise UsageError(f"--report {form}", advice=f"one of {', '.join(FORMS)}")
    if uses:
        hexadecimal(uses)
    parameters = {"urls": list(urls), "charts": list(charts), "report": form, "uses": uses}
    key = make_key("audit", FORMAT, parameters=parameters, content=None, consumed={})
    path = state.folder / FOLDER / f"report-{key[7:19]}.{'txt' if form == 'table' else form}"
    if plan:
        log.info("%s would be written, with what is in %s", path, ", ".join(urls))
        return ()
    with attempt(state, step="audit", subject="audit", key=key, parameters=parameters) as trial:
        found = [line for url in urls for line in lines(url, config, state, charts, jobs)]
        wanted = [line for line in found if uses is None or uses in _digests(line)]
        unknown = [line for line in found if line.proof != "recorded"]
        if uses and unknown:
            log.warning("%d of %d versions have no record that says what is in them", len(unknown), len(found))
        files.folder(path.parent)
        files.write(path, written(wanted, form, about=_about(urls, uses)).encode())
        trial.attach(path)
        trial.parameters["versions"] = len(wanted)
        return (trial.passed({}),)


def shown(record: Record, state: State) -> str:
    """The report that a record names, for stdout; "" for other records."""
    reports = [name for name in record.evidence if name.startswith(f"{FOLDER}/")]
    return "".join((state.folder / name).read_text() for name in reports)


def _about(urls: Sequence[str], uses: str | None) -> str:
    return f"What uses {uses}" if uses else f"In production: {', '.join(urls)}"


def _digests(line: Line) -> set[str]:
    return {value.rpartition("@")[2] for value in (*line.images.values(), *line.bases.values())}


def written(found: Sequence[Line], form: str, *, about: str) -> str:
    """A report in one of FORMS."""
    if form == "html":
        return page(found, about)
    return {"table": production_forms.table, "csv": production_forms.csv, "json": production_forms.json}[form](found)


def lines(url: str, config: Config, state: State, charts: Collection[str], jobs: int | None) -> list[Line]:
    """Every version of these charts (none: all) in the repository, newest first, with what is recorded of it."""
    repository = open_repository(url, config.hosts)
    listed = _listed(repository, charts, jobs or faults.AT_ONCE)
    known = records.known(state, config, url, [digest for _, _, digest in listed if digest])
    state.about(one.record.content for recorded in known.values() for one in recorded)
    every = {record.id: record for record in state.records()}
    found = []
    for name, version, digest in listed:
        recorded = known.get((name, version), [])
        reference = f"{url.rstrip('/')}/{name} {version} {digest}"
        found.append(_line(name, version, reference, digest, recorded, every, state))
    return found


def _listed(repository: Repository, charts: Collection[str], jobs: int) -> list[tuple[str, str, str]]:
    """(chart, version, digest of archive or manifest as the repository says it), charts by name, newest first."""
    index = getattr(repository, "index", None)
    if index is not None:
        data = index()
        rows = index_rows.rows(data, f"{repository.url}/index.yaml") if data else []
        said = [(row.chart, row.version, row.digest) for row in rows if not row.fault]
        wanted = [one for one in said if not charts or one[0] in charts]
        by_version = sorted(wanted, key=lambda one: versions_of.order(one[1]), reverse=True)
        return sorted(by_version, key=lambda one: one[0])
    pairs = [(name, each) for name in inspection.named(repository, charts) for each in repository.versions(name)]
    standing = faults.many(lambda pair: repository.standing(*pair) or "", pairs, jobs)
    return [(*pair, reference.rpartition("@")[2]) for pair, reference in zip(pairs, standing, strict=True)]


def _line(
    name: str, version: str, reference: str, digest: str, recorded: Sequence[Recorded], every: dict[str, Record],
    state: State,
) -> Line:  # fmt: skip
    if not recorded:
        return Line(name, version, reference, "no record", "", "", "", (), (), {}, {})
    mine = next((one for one in reversed(recorded) if one.digest == digest), None)
    if mine is None:
        return Line(name, version, reference, "changed", "", "", "", (), (), {}, {})
    record = mine.record
    used = _used(record.uses, every, state)
    snapshots = [one for one in used if one.step == "snapshot"] or ([record] if record.step == "snapshot" else [])
    built = _used([identity for one in snapshots for identity in one.uses], every, state)
    images = {key.removeprefix("image:"): value for key, value in record.outputs.items() if key.startswith("image:")}
    return Line(
        name, version, reference, "recorded", record.content or "", record.revision or "", record.finished or "",
        tuple(sorted({who for one in used if one.step == "approval" for who in _approvers(one)})),
        tuple(_test(one, every.values()) for one in used if one.step == "integration_test"),
        images,
        {name: digest for one in built if one.step == "build_image" for name, digest in one.inputs.items()},
    )  # fmt: skip


def _used(identities: Iterable[str], every: dict[str, Record], state: State) -> list[Record]:
    """The records with these ids, those that are not at hand from the evidence stores; intents are left out."""
    wanted = list(dict.fromkeys(identities))
    away = [identity for identity in wanted if identity not in every]
    if away and state.stores is not None:
        every.update({record.id: record for _line, record in state.stores.by_id(away)})
    return [every[one] for one in wanted if one in every and every[one].result != "started"]


def _approvers(approval: Record) -> list[str]:
    said = approval.parameters.get("approvers")
    return [str(one) for one in said] if isinstance(said, list) else []


def _test(record: Record, every: Iterable[Record]) -> Passed:
    said = record.parameters
    values = str(said.get("values") or said.get("none") or "the chart's own")
    attempts = union.attempts(one for one in every if one.key == record.key)
    return Passed(values, str(said.get("cluster") or ""), attempts)
