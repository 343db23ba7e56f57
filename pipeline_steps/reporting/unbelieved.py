"""What a build without accounts handed over, of a fork: told to the review, believed for nothing.

Its code could write anything into these files. They are read as hostile, and the verdict is
`incomplete` whatever they say.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline_steps.ci.detect import detect
from pipeline_steps.config.language import Config
from pipeline_steps.reporting.delivery import (
    Addressee,
    deliver,
    find_review,
    log_delivery,
    report_attempt,
)
from pipeline_steps.reviews.kinds import open_review_system
from pipeline_steps.reviews.review import Delivery, Review, ReviewSystem, Verdict
from pipeline_steps.sources.source import short_revision
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox import json_reader
from pipeline_steps.toolbox.errors import ConfigurationError, MachineError, UsageError
from pipeline_steps.workspace.checkout import Checkout

log = logging.getLogger("pipeline_steps.report")

#: Of the folder: files that are read, bytes of each, names that are shown.
_MAX_FILES, _MAX_BYTES, _MAX_NAMES = 16, 2**22, 20
_WORDS = ("positive", "negative", "incomplete")
#: The names that helm allows charts, and no longer ones.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Claim(NamedTuple):
    """What the newest record of `report` says: its verdict ("" for none), and of which charts."""

    word: str
    charts: tuple[str, ...]


def read_claim(folder: Path) -> Claim:
    """The claim of the state files in a folder; links are not followed, and what is too long, not
    JSON or no record of `report` is left out. Raises MachineError when there is no such folder.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise MachineError(
            "the folder with what the other build handed over does not exist",
            where=str(folder),
            advice="correct --unbelieved; the job before must hand over its state folder",
        )
    claims = [
        (str(record.get("finished", "")), claim)
        for path in sorted(folder.glob("state*.jsonl"))[:_MAX_FILES]
        for record in _records(path)
        if (claim := _claim(record)) is not None
    ]
    return max(claims, default=("", Claim("", ())))[1]


def _records(path: Path) -> Iterator[dict[str, Any]]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(_MAX_BYTES)
    for line in data.splitlines():
        try:
            record = json_reader.decode(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("step") == "report":
            yield record


def _claim(record: dict[str, Any]) -> Claim | None:
    outputs, parameters = record.get("outputs"), record.get("parameters")
    word = outputs.get("verdict") if isinstance(outputs, dict) else None
    charts = parameters.get("charts") if isinstance(parameters, dict) else None
    if word not in _WORDS:
        return None
    names = [name for name in charts if _NAME.fullmatch(name)] if isinstance(charts, dict) else []
    return Claim(str(word), tuple(sorted(names)[:_MAX_NAMES]))


def verdict(claim: Claim, revision: str, url: str) -> Verdict:
    """What the review is told of a claim; url: of the build that tells it."""
    said = f"says {claim.word}" if claim.word else "left no verdict"
    charts = f" for {', '.join(f'`{name}`' for name in claim.charts)}" if claim.charts else ""
    text = (
        f"**not believed: the build of a fork {said}**{charts}\n\n"
        f"Tested: `{revision}`, on a machine without accounts. The code under test could write "
        "anything into what its build handed over, so this counts for nothing.\n\n"
        "After reading the change, push its revision to a branch of this repository, and open a "
        "pull request from that: its build has accounts, and its verdict counts.\n"
    )
    return Verdict(revision, "incomplete", f"not believed: a fork's build {said}", text, url)


def _deliver(system: ReviewSystem, review: Review, claimed: Verdict) -> Delivery:
    """Deliver what a fork claims, unless its revision was tested here, too: the fork's build may end
    later.
    """
    word = system.verdict(review, claimed.revision)
    if word in ("positive", "negative"):
        return Delivery("unchanged", review.url, f"a build of this repository says {word}")
    addressee = Addressee(review, review.id, claimed.revision, claimed.revision)
    return deliver(system, addressee, claimed, queued=False)


def tell(
    config: Config, checkout: Checkout, state: State, folder: Path, *, plan: bool
) -> Record | tuple[Record, ...]:
    """Tell the review of the revision that the event names what the files in `folder` claim; the
    record of it, () when only planned.

    Raises UsageError outside of a workflow that another build started, ConfigurationError without a
    review system.
    """
    build = detect(os.environ)
    if not build.head or build.review:
        raise UsageError(
            "--unbelieved: the CI names no other build that this one could report on",
            advice="run it in a workflow of the event workflow_run",
        )
    claim = read_claim(folder)
    system = open_review_system(config, checkout.source.remote_url)
    if system is None:
        raise ConfigurationError(
            "no review system is configured",
            where=config.where("review"),
            advice="name it, as in review: {github: {}}",
        )
    review = find_review(system, build, build.head)
    if plan:
        log.info("report: would tell %s of %s", review.url if review else "no review", folder)
        return ()
    parameters = {"unbelieved": True, "revision": build.head}
    with report_attempt(checkout, state, parameters) as attempt:
        if review is None:
            log.info("report: no open review has the revision %s", short_revision(build.head))
            return attempt.passed({"verdict": "incomplete", "delivery": "files"})
        delivered = _deliver(system, review, verdict(claim, build.head, build.url or ""))
        log_delivery(review.id, delivered)
        return attempt.passed(
            {"verdict": "incomplete", "delivery": delivered.outcome, "review": delivered.url}
        )
