"""`pipeline-steps state pull --revision R | --digest D`: the records behind a commit or an artifact, from the stores.

    pipeline-steps state pull --revision common-1.0.0
    pipeline-steps state pull --digest sha256:1f0c…

Adds to the state file, line by line as they were written, every record about the contents at that revision, or about
what has this digest (an image, a chart, also a production one), and what those records use; their evidence files too.
"""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

from pipeline_steps.config.config_file import load
from pipeline_steps.config.language import Config
from pipeline_steps.evidence import trust
from pipeline_steps.evidence.store import hexadecimal
from pipeline_steps.evidence.stores import Stores
from pipeline_steps.state import file
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import EvidenceError, UsageError
from pipeline_steps.workspace.checkout import opened

log = logging.getLogger(__name__)
#: Lines and records by id.
Found = dict[str, tuple[bytes, Record]]


def pull(state: State, words: list[str], arguments: Namespace) -> int:
    """Fetch and append; returns 0. Raises EvidenceError when no store knows anything about it."""
    if words or bool(arguments.revision) == bool(arguments.digest):
        raise UsageError("state pull --revision R or --digest D", advice="one of them")
    config = load(arguments.config)
    stores = trust.everywhere(config)
    if arguments.revision:
        what, digests = f"revision {arguments.revision}", contents(config, arguments.revision)
    else:
        hexadecimal(arguments.digest)
        what, digests = arguments.digest, [arguments.digest]
    found, missing = behind(stores, digests)
    if not found:
        advice = "was it built with this store configured? Builds of reviews may have one of their own"
        raise EvidenceError(f"no record about {what}", where=stores.urls, advice=advice)
    file.folder(state.path)
    kept, gone = attach(state, stores, (record for _line, record in found.values()))
    added = add(state, found)  # last: a record in the state file has its evidence beside it
    log.info("%s: %d records added, %d about %s; %d files", state.path, added, len(found), what, kept)
    if missing or gone:
        log.warning("not in %s: %d records that these use, %d files of evidence", stores.urls, missing, gone)
    return 0


def contents(config: Config, revision: str) -> list[str]:
    """The contents of every chart and image at a revision. Raises ConfigurationError, UsageError."""
    try:
        checkout = opened(config, opened(config).source.revision(revision))
    except UsageError as error:
        advice = "fetch it first, or use --digest: a store finds records by content and digest, not by revision"
        raise UsageError(error.what, where=error.where, advice=advice) from error
    checkout.contents()  # the digests of all charts in one go
    return list(dict.fromkeys(each for chart in checkout.charts.values() for each in checkout.contents_of(chart)))


def behind(stores: Stores, digests: Iterable[str]) -> tuple[Found, int]:
    """All records about these contents or outputs, about the contents of those, and all that they use.

    The number is how many of the used ones no store has.
    """
    asked = list(digests)
    found: Found = {record.id: (line, record) for line, record in stores.about(asked, ())}
    others = {record.content for _line, record in found.values() if record.content} - {*asked}
    found |= {record.id: (line, record) for line, record in stores.about(sorted(others), found)}
    missing: set[str] = set()
    while wanted := {used for _line, record in found.values() for used in record.uses} - found.keys() - missing:
        more = {record.id: (line, record) for line, record in stores.by_id(sorted(wanted))}
        missing |= wanted - more.keys()
        found |= more
    return found, len(missing)


def add(state: State, found: Found) -> int:
    """Append the lines that the state does not have; how many these were."""
    known = {record.id for record in state.records()}
    file.folder(state.path)
    new = [line for identity, (line, _record) in found.items() if identity not in known]
    for line in new:
        file.append(state.path, line)
    return len(new)


def attach(state: State, stores: Stores, records: Iterable[Record]) -> tuple[int, int]:
    """Put the records' evidence files beside the state file: how many are here now, how many no store has.

    A file that is here with other bytes stays. Raises EvidenceError for a name that leads out of the folder.
    """
    here = gone = 0
    for name, digest in {item for record in records for item in record.evidence.items()}:
        place = _inside(state.folder, name)
        if place.exists():
            here += _is(place, digest)
            continue
        data = stores.attached(digest)
        if data is None:
            gone += 1
            continue
        files.folder(place.parent)
        files.write(place, data)
        here += 1
    return here, gone


def _is(place: Path, digest: str) -> bool:
    same = place.is_file() and files.sha256(place.read_bytes()) == digest
    if not same:
        log.warning("%s: is another file than the recorded one (%s); it stays", place, digest[:19])
    return same


def _inside(folder: Path, name: str) -> Path:
    place = folder / name
    if not place.resolve().is_relative_to(folder.resolve()) or place.is_symlink():
        raise EvidenceError(f"evidence {name!r} does not lie in the state's folder", where=str(folder))
    return place
