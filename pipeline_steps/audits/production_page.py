"""A report on production as one HTML page that loads nothing, in the look of `state html`."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline_steps.reporting.state_page import badge, document, labelled
from pipeline_steps.toolbox.redact import redact

if TYPE_CHECKING:
    from pipeline_steps.audits.production import Line

_BADGES = {"recorded": "passed", "changed": "failed", "no record": "incomplete"}


def page(lines: Sequence[Line], title: str) -> str:
    """The document: a section for each chart, a row for each of its versions."""
    bad = sum(line.proof != "recorded" for line in lines)
    told = badge("incomplete", f"{bad} without a record that holds") if bad else badge("passed", "all are recorded")
    charts: dict[str, list[Line]] = {}
    for line in lines:
        charts.setdefault(line.chart, []).append(line)
    body = [
        f'<header><h1>{_h(title)}</h1><p class="soft">{len(lines)} versions of {len(charts)} charts'
        f"{f' · {told}' if lines else ''}</p></header>"
    ]
    body += [_chart(name, found) for name, found in charts.items()]
    return document(title, "\n".join(body))


def _chart(name: str, found: Sequence[Line]) -> str:
    head = "<th>version</th><th>content and revision</th><th>approved by</th><th>tests</th><th>images</th>"
    rows = "".join(map(_row, found))
    return (
        f"<section><header><h2>{_h(name)}</h2></header>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _row(line: Line) -> str:
    said = (("content", line.content), ("revision", line.revision))
    identity = [labelled(label, text) for label, text in said if text]
    tests = [
        f"<p>{_h(test.values)} <span class='soft'>on {_h(test.cluster or 'no cluster')}, "
        f"{test.attempts} attempt{'s' * (test.attempts != 1)}</span></p>"
        for test in line.tests
    ]
    images = [labelled(name, reference) for name, reference in sorted(line.images.items())]
    none = '<span class="soft">none recorded</span>'
    cells = (
        f"<td><b>{_h(line.version)}</b><p>{badge(_BADGES[line.proof], line.proof)}</p>"
        f'<p class="soft">{_h(line.released[:10])}</p></td>',
        f'<td data-name="content and revision">{"".join(identity) or none}</td>',
        f'<td data-name="approved by">{_h(", ".join(line.approvers)) or none}</td>',
        f'<td data-name="tests">{"".join(tests) or none}</td>',
        f'<td data-name="images">{"".join(images) or none}</td>',
    )
    return f"<tr>{''.join(cells)}</tr>"


def _h(text: str) -> str:
    return html.escape(redact(text))
