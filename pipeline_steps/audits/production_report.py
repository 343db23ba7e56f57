"""Formats of the report on production: table, CSV, JSON and HTML page."""

from __future__ import annotations

import csv as comma_separated
import io
import json as javascript
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from pipeline_steps.reporting.rendering import render, short
from pipeline_steps.sources.source import short_revision
from pipeline_steps.toolbox.redact import printable, redact

_COLUMNS = (
    "chart",
    "version",
    "repository",
    "proof",
    "content",
    "revision",
    "approvers",
    "tests",
    "images",
)
#: Spreadsheets read a cell that begins with one of these as a formula
#: (https://owasp.org/www-community/attacks/CSV_Injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class PassedTest(NamedTuple):
    """A passed scenario. attempts: how often it was run with this content, images and cluster."""

    values: str
    cluster: str
    attempts: int


class PublishedVersion(NamedTuple):
    """A version in production.

    proof: "recorded", "changed" (records have another digest) or "no record".
    reference: repository, version and current digest.
    record: id of the record of promote or snapshot with this digest; when changed, of the newest
        with another digest.
    images: name → reference with digest. bases: base image → digest.
    """

    chart: str
    version: str
    repository: str
    reference: str
    proof: Literal["recorded", "changed", "no record"]
    record: str = ""
    content: str = ""
    revision: str = ""
    released: str = ""
    approvers: tuple[str, ...] = ()
    tests: tuple[PassedTest, ...] = ()
    images: Mapping[str, str] = {}
    bases: Mapping[str, str] = {}


def table(versions: Sequence[PublishedVersion], _title: str) -> str:
    """One line a version, digests short, in columns."""
    if not versions:
        return "none\n"
    rows = [_COLUMNS, *(_cells(version, whole=False) for version in versions)]
    # A terminal has no room for a column that says the same in every line.
    if not _several(versions):
        place = _COLUMNS.index("repository")
        rows = [(*row[:place], *row[place + 1 :]) for row in rows]
    plain = [[printable(cell, lines=False) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*plain, strict=True)]
    padded = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in plain
    )
    return "\n".join(padded) + "\n"


def csv(versions: Sequence[PublishedVersion], _title: str) -> str:
    """One row a version, whole digests; one line in its cell for each approver, test and image."""
    stream = io.StringIO()
    writer = comma_separated.writer(stream, lineterminator="\n")
    writer.writerow((*_COLUMNS, "released", "reference", "record"))
    for version in versions:
        cells = (*_cells(version, whole=True), version.released, version.reference, version.record)
        writer.writerow([_without_formula(cell) for cell in cells])
    return stream.getvalue()


def json(versions: Sequence[PublishedVersion], _title: str) -> str:
    """A list of objects with the fields of PublishedVersion."""
    objects = [
        {**version._asdict(), "tests": [test._asdict() for test in version.tests]}
        for version in versions
    ]
    return redact(javascript.dumps(objects, indent=2)) + "\n"


def html(versions: Sequence[PublishedVersion], title: str) -> str:
    """One page that loads nothing: a section for each chart, a row for each of its versions."""
    charts: dict[str, list[PublishedVersion]] = {}
    for version in versions:
        charts.setdefault(version.chart, []).append(version)
    return render(
        "production.html",
        title=title,
        number=len(versions),
        unproven=sum(version.proof != "recorded" for version in versions),
        several=_several(versions),
        charts=charts,
    )


#: The forms of `audit --report`. Each function takes the versions and the title.
FORMS: dict[str, Callable[[Sequence[PublishedVersion], str], str]] = {
    "table": table,
    "csv": csv,
    "json": json,
    "html": html,
}


def _several(versions: Sequence[PublishedVersion]) -> bool:
    return len({version.repository for version in versions}) > 1


def _cells(version: PublishedVersion, *, whole: bool) -> tuple[str, ...]:
    """A cell for each of _COLUMNS.

    whole: digests as they are, and a line for each of several approvers, tests and images.
    """
    separator = "\n" if whole else ", "
    digest = str if whole else short
    tests = (
        f"{test.values} on {test.cluster or 'no cluster'}, {test.attempts} "
        f"attempt{'s' * (test.attempts != 1)}"
        for test in version.tests
    )
    images = (f"{name} {digest(reference)}" for name, reference in sorted(version.images.items()))
    return (
        version.chart,
        version.version,
        version.repository,
        version.proof,
        digest(version.content),
        version.revision if whole else short_revision(version.revision),
        separator.join(version.approvers),
        separator.join(tests) if whole else "; ".join(tests),
        separator.join(images),
    )


def _without_formula(text: str) -> str:
    text = printable(text)
    # Spreadsheets show a cell with an apostrophe in front as text.
    return f"'{text}" if text.startswith(_FORMULA) else text
