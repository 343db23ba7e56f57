"""Verdicts that a review system did not take, because it did not answer: kept for the next run here,
which sends them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from pipeline_steps.reporting.delivery import Addressee, deliver
from pipeline_steps.reviews.review import Delivery, Finding, Review, ReviewSystem, Verdict, Word
from pipeline_steps.sources.source import Source
from pipeline_steps.toolbox import files, json_reader
from pipeline_steps.toolbox.errors import PipelineError, Temporary, Unreachable

#: Folder below the state folder, and how many verdicts it keeps.
UNSENT, MAX_UNSENT = "unsent", 20
#: A kept verdict is no longer than the longest text of a system, with findings.
_MAX_BYTES = 2**21
_VERDICTS = ("positive", "negative", "incomplete")

log = logging.getLogger("pipeline_steps.report")


class Unsent(msgspec.Struct, frozen=True):
    """A verdict that could not be delivered, as it is kept."""

    system: str
    review: str
    revision: str
    word: Word
    summary: str
    text: str
    url: str = ""
    findings: tuple[tuple[str, int, str], ...] = ()


def keep(folder: Path, system: ReviewSystem, identity: str, verdict: Verdict) -> Path | None:
    """Keep a verdict for the next run, in place of one on the same revision; the oldest of more
    than MAX_UNSENT are dropped. None: a word that the tests have begun is not worth it.

    folder: of the state file.
    """
    if verdict.word == "started" or not identity:
        return None
    place = files.created_folder(folder / UNSENT)
    findings = tuple((each.path, each.line, each.message) for each in verdict.findings)
    unsent = Unsent(system.name, identity, *verdict[:5], findings)
    path = _path(folder, identity, verdict.revision)
    files.write(path, msgspec.json.encode(unsent))
    unsent_files = sorted(place.glob("*.json"), key=lambda each: each.stat().st_mtime_ns)
    for each in unsent_files[:-MAX_UNSENT]:
        log.warning("report: a verdict that could not be sent is dropped: %s", each.name)
        files.remove(each)
    return path


def _path(folder: Path, identity: str, revision: str) -> Path:
    # Hashed, as the id of a review may be a path or an address.
    name = hashlib.sha256(f"{identity}\n{revision}".encode()).hexdigest()[:24]
    return folder / UNSENT / f"{name}.json"


def forget(folder: Path, identities: Iterable[str], revision: str) -> None:
    """Drop what is kept about a revision: there is a later verdict on it.

    identities: all names of its review; a verdict that was kept while nobody could be asked has the
    CI's, others the review system's.
    """
    for identity in identities:
        path = _path(folder, identity, revision)
        if path.exists():
            files.remove(path)


def send_kept(folder: Path, system: ReviewSystem, source: Source) -> Iterator[tuple[str, Delivery]]:
    """Deliver what runs before could not, if it is still current: review and what came of it.

    A revision on which this account has set another verdict since keeps that. Nothing is raised: what
    cannot be delivered now stays, what never can is dropped, and both are logged.
    """
    for path in sorted((folder / UNSENT).glob("*.json")):
        try:
            unsent = _read(path, source)
            # pipeline.yaml may name another system by now, where the id means something else.
            if unsent is None or unsent.system != system.name:
                continue
            review = system.review(unsent.review)
            delivery = _deliver_kept(system, review, unsent)
        except (Unreachable, Temporary) as error:
            log.warning("report: a kept verdict is still not sent: %s", error)
            return
        except PipelineError as error:
            log.warning("report: a kept verdict cannot be sent and is dropped: %s", error)
            files.remove(path)
            continue
        files.remove(path)
        yield unsent.review, delivery


def _deliver_kept(system: ReviewSystem, review: Review, unsent: Unsent) -> Delivery:
    findings = tuple(Finding(*each) for each in unsent.findings)
    verdict = Verdict(
        unsent.revision, unsent.word, unsent.summary, unsent.text, unsent.url, findings
    )
    addressee = Addressee(review, unsent.review, unsent.revision, unsent.revision)
    # `incomplete` is a verdict too: an older "positive" must not stand over it. The same word may be
    # half of this verdict: its server stopped before it had the comment.
    shown = system.verdict(review, unsent.revision) if review.head == unsent.revision else None
    if shown in _VERDICTS and shown != unsent.word:
        return Delivery("unchanged", review.url, "it got a verdict since")
    return deliver(system, addressee, verdict, queued=False)


def _read(path: Path, source: Source) -> Unsent | None:
    """A kept verdict; None for a file that is not one of ours, which is left alone."""
    root = source.root.resolve()
    # Also as it is written: a link on the way may be what the source tracks.
    places = [place for place in (path, path.resolve()) if place.is_relative_to(root)]
    if path.is_symlink() or any(
        source.is_tracked(place.relative_to(root).as_posix()) for place in places
    ):
        log.warning("report: %s is tracked by the source: it is no verdict of a run here", path)
        return None
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is too long")
        return json_reader.decode_as(Unsent, path.read_bytes())
    except (OSError, ValueError) as error:
        log.warning("report: cannot read the kept verdict %s: %s", path, error)
        return None
