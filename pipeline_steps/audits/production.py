"""The versions in a chart repository with their records: approvals, tests, images, base images.

No archive is read: the digest of a version is taken from the index, or from the registry's tag.
`production_report` formats the report.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence

from pipeline_steps.audits import inspection, records
from pipeline_steps.audits.findings import ARCHIVES_AT_ONCE, map_concurrently
from pipeline_steps.audits.production_report import FORMS, PassedTest, PublishedVersion
from pipeline_steps.audits.records import RecordedVersion
from pipeline_steps.building import image_records
from pipeline_steps.charts.version import sort_key
from pipeline_steps.config.language import Config
from pipeline_steps.evidence.store import hex_digits
from pipeline_steps.reporting.chains import values_text
from pipeline_steps.repositories import index_rows
from pipeline_steps.repositories.kinds import open_repository
from pipeline_steps.repositories.repository import Indexed, Repository
from pipeline_steps.state import union
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import EvidenceError, UsageError
from pipeline_steps.toolbox.wording import counted

FORMAT = 1
FOLDER = "audit"

log = logging.getLogger("pipeline_steps.audit")


def write_report(
    urls: Sequence[str],
    config: Config,
    state: State,
    charts: Collection[str],
    *,
    form: str,
    uses: str | None,
    jobs: int | None,
    plan: bool,
) -> tuple[Record, ...]:
    """Write the report about these repositories below the state's folder and attach it to a record.

    Args:
        charts: names, empty for all.
        form: one of FORMS.
        uses: a digest: report only versions with this image or base image.
        jobs: requests to make at once.
        plan: log what would be written; returns ().

    Raises:
        UsageError: `form` or `uses` is invalid.
        EvidenceError, MachineError, Temporary: a repository or evidence store cannot be read.
    """
    if form not in FORMS:
        raise UsageError(
            f"there is no report in the form {form!r}", advice=f"write one of {', '.join(FORMS)}"
        )
    if uses:
        hex_digits(uses)
    parameters = {"urls": list(urls), "charts": list(charts), "report": form, "uses": uses}
    key = make_key("audit", FORMAT, parameters=parameters, content=None, consumed={})
    path = state.folder / FOLDER / f"report-{key[7:19]}.{'txt' if form == 'table' else form}"
    if plan:
        log.info("%s would be written, with what is in %s", path, ", ".join(urls))
        return ()
    with record_attempt(
        state, step="audit", subject="audit", key=key, parameters=parameters
    ) as attempt:
        reported = _sorted(
            version
            for url in urls
            for version in published_versions(url, config, state, charts, jobs)
        )
        _require_all(charts, reported, urls)
        if uses:
            reported = _with_digest(uses, reported)
        title = f"What uses {uses}" if uses else f"In production: {', '.join(urls)}"
        files.folder(path.parent)
        # Names from outside may hold surrogates, which no encoding has.
        files.write(path, FORMS[form](reported, title).encode(errors="replace"))
        attempt.attach(path)
        attempt.parameters["versions"] = len(reported)
        return (attempt.passed({}),)


def report_text(record: Record, state: State) -> str:
    """The text of the report that is attached to a record, "" for other records."""
    reports = [name for name in record.evidence if name.startswith(f"{FOLDER}/")]
    return "".join((state.folder / name).read_text() for name in reports)


def _sorted(published: Iterable[PublishedVersion]) -> list[PublishedVersion]:
    """Sort by chart name, newest version first; equal versions keep the order of repositories."""
    # Two stable sorts: newest first by version, then by chart without losing that order.
    newest_first = sorted(published, key=lambda version: sort_key(version.version), reverse=True)
    return sorted(newest_first, key=lambda version: version.chart)


def _require_all(
    charts: Collection[str], published: Iterable[PublishedVersion], urls: Iterable[str]
) -> None:
    names = {version.chart for version in published}
    if missing := [name for name in charts if name not in names]:
        raise EvidenceError(
            f"no repository here has a version of {' or '.join(missing)}",
            where=", ".join(urls),
            advice="correct --chart",
        )


def _with_digest(digest: str, published: Sequence[PublishedVersion]) -> list[PublishedVersion]:
    """The versions with an image or base image of this digest."""
    unproven = [version for version in published if version.proof != "recorded"]
    # Said, as the answer would otherwise look complete: a version without a record may use the
    # image.
    if unproven:
        log.warning(
            "%d of %s no record that says what is in them",
            len(unproven),
            counted(len(published), "version has", "versions have"),
        )
    return [version for version in published if digest in _digests(version)]


def _digests(version: PublishedVersion) -> set[str]:
    return {
        value.rpartition("@")[2] for value in (*version.images.values(), *version.bases.values())
    }


def published_versions(
    url: str, config: Config, state: State, charts: Collection[str], jobs: int | None
) -> list[PublishedVersion]:
    """Every version of the charts (empty: all) in the repository, with its records."""
    repository = open_repository(url, config.hosts)
    listed = _list_versions(repository, charts, jobs or ARCHIVES_AT_ONCE)
    recorded = records.recorded_versions(
        state, config, url, [digest for _, _, digest in listed if digest]
    )
    state.load_evidence(entry.record.content for entries in recorded.values() for entry in entries)
    records_by_id = {record.id: record for record in state.records()}
    return [
        _with_records(
            PublishedVersion(
                name, version, url, f"{url.rstrip('/')}/{name} {version} {digest}", "no record"
            ),
            digest,
            recorded.get((name, version), []),
            records_by_id,
            state,
        )
        for name, version, digest in listed
    ]


def _list_versions(
    repository: Repository, charts: Collection[str], jobs: int
) -> list[tuple[str, str, str]]:
    """(chart, version, digest of the archive or manifest) of every version in the repository."""
    if isinstance(repository, Indexed):
        data = inspection.required_index(repository)
        rows = index_rows.read_rows(data, f"{repository.url}/index.yaml") if data else []
        selected = (row for row in rows if not row.fault and (not charts or row.chart in charts))
        return [(row.chart, row.version, row.digest) for row in selected]
    pairs = [
        (name, version)
        for name in inspection.chart_names(repository, charts)
        for version in repository.versions(name)
    ]
    references = map_concurrently(lambda pair: repository.resolve(*pair) or "", pairs, jobs)
    return [
        (*pair, reference.rpartition("@")[2])
        for pair, reference in zip(pairs, references, strict=True)
    ]


def _with_records(
    version: PublishedVersion,
    digest: str,
    recorded: Sequence[RecordedVersion],
    records_by_id: dict[str, Record],
    state: State,
) -> PublishedVersion:
    """`version` with the facts from its preferred record of this digest."""
    if not recorded:
        return version
    matching = [published.record for published in recorded if published.digest == digest]
    # The version is recorded with another digest: somebody replaced it after the release.
    if not matching:
        return version._replace(proof="changed", record=recorded[-1].record.id)
    record = state.preferred(matching)[0]
    used = _used_records(record.uses, records_by_id, state)
    snapshots = [snapshot for snapshot in used if snapshot.step == "snapshot"]
    # In the snapshot channel the version's own record is the snapshot.
    if not snapshots and record.step == "snapshot":
        snapshots = [record]
    built = _used_records(
        [identity for snapshot in snapshots for identity in snapshot.uses], records_by_id, state
    )
    approvals = [approval for approval in used if approval.step == "approval"]
    return version._replace(
        proof="recorded",
        record=record.id,
        content=record.content or "",
        revision=record.revision or "",
        released=record.finished or "",
        approvers=tuple(
            sorted({person for approval in approvals for person in _approvers(approval)})
        ),
        tests=tuple(
            _passed_test(test, records_by_id.values())
            for test in used
            if test.step == "integration_test"
        ),
        images={name: str(image) for name, image in image_records.images_of(record).items()},
        bases={
            name: base
            for build in built
            if build.step == "build_image"
            for name, base in build.inputs.items()
        },
    )


def _used_records(
    identities: Iterable[str], records_by_id: dict[str, Record], state: State
) -> list[Record]:
    """The records with these ids, without intents; those not loaded come from the stores."""
    used = list(dict.fromkeys(identities))
    # The store is asked once for all of them: each request takes longer than the rest.
    missing = [identity for identity in used if identity not in records_by_id]
    if missing and state.stores is not None:
        records_by_id.update(
            {record.id: record for _line, record in state.stores.fetch_by_id(missing)}
        )
    records = [records_by_id[identity] for identity in used if identity in records_by_id]
    return [record for record in records if record.result != "started"]


def _approvers(approval: Record) -> list[str]:
    approvers = approval.parameters.get("approvers")
    return [str(person) for person in approvers] if isinstance(approvers, list) else []


def _passed_test(record: Record, records: Iterable[Record]) -> PassedTest:
    attempts = union.count_attempts(other for other in records if other.key == record.key)
    return PassedTest(values_text(record), str(record.parameters.get("cluster") or ""), attempts)
