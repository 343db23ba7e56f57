"""A report on production as text: a table for terminals, CSV for spreadsheets, JSON for programs."""

from __future__ import annotations

import csv as comma_separated
import io
import json as javascript
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline_steps.reporting.chains import short
from pipeline_steps.toolbox.redact import redact

if TYPE_CHECKING:
    from pipeline_steps.audits.production import Line

_HEAD = ("chart", "version", "proof", "content", "revision", "approvers", "tests", "images")
#: A cell that begins so is a formula to spreadsheets.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def table(lines: Sequence[Line]) -> str:
    """One line a version, digests short, in columns."""
    if not lines:
        return "none\n"
    cells = [_HEAD, *(tuple(map(_plain, _cells(line, whole=False))) for line in lines)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEAD))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
    return "\n".join(padded) + "\n"


def csv(lines: Sequence[Line]) -> str:
    """One row a version, whole digests; of several approvers, tests and images each on a line in its cell."""
    stream = io.StringIO()
    writer = comma_separated.writer(stream, lineterminator="\n")
    writer.writerow((*_HEAD, "released", "reference"))
    for line in lines:
        writer.writerow([_cell(each) for each in (*_cells(line, whole=True), line.released, line.reference)])
    return stream.getvalue()


def json(lines: Sequence[Line]) -> str:
    """A list of objects with the fields of Line."""
    found = [{**line._asdict(), "tests": [test._asdict() for test in line.tests]} for line in lines]
    return redact(javascript.dumps(found, indent=2, ensure_ascii=False)) + "\n"


def _cells(line: Line, *, whole: bool) -> tuple[str, ...]:
    joint = "\n" if whole else ", "
    digest = str if whole else short
    tests = (
        f"{test.values} on {test.cluster or 'no cluster'}, {test.attempts} attempt{'s' * (test.attempts != 1)}"
        for test in line.tests
    )
    images = (f"{name} {digest(reference)}" for name, reference in sorted(line.images.items()))
    return (
        line.chart, line.version, line.proof, digest(line.content), line.revision if whole else line.revision[:12],
        joint.join(line.approvers), joint.join(tests) if whole else "; ".join(tests), joint.join(images),
    )  # fmt: skip


def _plain(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in redact(text))


def _cell(text: str) -> str:
    text = redact(text)
    return f"'{text}" if text.startswith(_FORMULA) else text
