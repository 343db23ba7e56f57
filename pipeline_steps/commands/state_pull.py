"""`pipeline-steps state pull --revision R | --digest D`: the records behind a commit or an
artifact, from the stores.

    pipeline-steps state pull --revision common-1.0.0
    pipeline-steps state pull --digest sha256:1f0c…

Adds to the state file, line by line as they were written, every record about the contents at that
revision, or about what has this digest (an image, a chart, also a production one), and what those
records use; their evidence files too.
"""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Iterable

from pipeline_steps.config.config_file import load
from pipeline_steps.config.language import Config
from pipeline_steps.evidence import trust
from pipeline_steps.evidence.store import hex_digits
from pipeline_steps.evidence.stores import Stores
from pipeline_steps.state import file
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import EvidenceError, UsageError
from pipeline_steps.toolbox.wording import counted
from pipeline_steps.workspace.checkout import open_checkout

log = logging.getLogger(__name__)
#: Lines and records by id.
Records = dict[str, tuple[bytes, Record]]


def pull(state: State, words: list[str], arguments: Namespace) -> int:
    """Fetch records and append them; returns 0. Raises EvidenceError when no store has any."""
    if words or bool(arguments.revision) == bool(arguments.digest):
        raise UsageError(
            "state pull needs a revision or a digest", advice="give --revision R or --digest D"
        )
    config = load(arguments.config)
    stores = trust.open_all_read_stores(config)
    if arguments.revision:
        subject, digests = f"revision {arguments.revision}", contents(config, arguments.revision)
    else:
        # Only for its check: a tag or a short id would find nothing, and look like lost records.
        hex_digits(arguments.digest)
        subject, digests = arguments.digest, [arguments.digest]
    records, missing = fetch_records(stores, digests)
    if not records:
        advice = (
            "check that it was built with this store configured: builds of reviews may have another"
        )
        raise EvidenceError(
            f"the stores have no record about {subject}", where=stores.urls, advice=advice
        )
    file.ensure_folder(state.path)
    files_here, missing_files = fetch_evidence(
        state, stores, (record for _line, record in records.values())
    )
    # After the evidence files: a record in the state file must have its files beside it.
    added = append_missing(state, records)
    log.info(
        "%s: %s added, %d about %s; %s",
        state.path,
        counted(added, "record"),
        len(records),
        subject,
        counted(files_here, "file"),
    )
    if missing or missing_files:
        log.warning(
            "not in %s: %s used by these, %s of evidence",
            stores.urls,
            counted(missing, "record"),
            counted(missing_files, "file"),
        )
    return 0


def contents(config: Config, revision: str) -> list[str]:
    """The contents of all charts and images at a revision. Raises ConfigurationError, UsageError."""
    try:
        checkout = open_checkout(config, open_checkout(config).source.revision(revision))
    except UsageError as error:
        advice = (
            "fetch it first, or use --digest: a store finds records by content and digest, not "
            "by revision"
        )
        raise UsageError(error.what, where=error.where, advice=advice) from error
    checkout.chart_contents()  # the digests of all charts in one go
    return list(
        dict.fromkeys(
            content
            for chart in checkout.charts.values()
            for content in checkout.chart_and_image_contents(chart)
        )
    )


def fetch_records(stores: Stores, digests: Iterable[str]) -> tuple[Records, int]:
    """Fetch the records of these digests, of the contents these are about, and all that they use.

    Returns the records, and the number of used records that no store has.
    """
    digests_asked = list(digests)
    records: Records = {
        record.id: (line, record) for line, record in stores.fetch_records(digests_asked, ())
    }
    further_contents = {record.content for _line, record in records.values() if record.content} - {
        *digests_asked
    }
    records |= {
        record.id: (line, record)
        for line, record in stores.fetch_records(sorted(further_contents), records)
    }
    # Records use other records: follow `uses` until no new id is named.
    missing: set[str] = set()
    while (
        used := {used for _line, record in records.values() for used in record.uses}
        - records.keys()
        - missing
    ):
        fetched = {record.id: (line, record) for line, record in stores.fetch_by_id(sorted(used))}
        missing |= used - fetched.keys()
        records |= fetched
    return records, len(missing)


def append_missing(state: State, records: Records) -> int:
    """Append the records that the state does not have; returns their number."""
    known_ids = {record.id for record in state.records()}
    file.ensure_folder(state.path)
    new = [line for identity, (line, _record) in records.items() if identity not in known_ids]
    for line in new:
        file.append(state.path, line)
    return len(new)


def fetch_evidence(state: State, stores: Stores, records: Iterable[Record]) -> tuple[int, int]:
    """Write the records' evidence files beside the state file.

    Returns the number of files that are there now, and of those that no store has. A file with
    other content is not replaced. Raises EvidenceError for a name outside the folder.
    """
    present = missing = 0
    for name, digest in {item for record in records for item in record.evidence.items()}:
        path = state.folder / name
        # Names of evidence come from records that anybody with access to the store may have
        # written.
        if not path.resolve().is_relative_to(state.folder.resolve()) or path.is_symlink():
            raise EvidenceError(
                f"evidence {name!r} of a record lies outside the state's folder",
                where=str(state.folder),
                advice="nothing was written: ask who may write the store, and remove that record",
            )
        if path.exists():
            if path.is_file() and files.sha256(path.read_bytes()) == digest:
                present += 1
            else:
                log.warning(
                    "%s: is another file than the recorded one (%s); it stays", path, digest[:19]
                )
            continue
        data = stores.evidence_file(digest)
        if data is None:
            missing += 1
            continue
        files.folder(path.parent)
        files.write(path, data)
        present += 1
    return present, missing
