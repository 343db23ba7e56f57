"""How a verdict looks: Markdown for reviews and logs, one self-contained HTML page, JUnit cases.

All texts come from outside (chart names, errors of programs) and are treated as hostile.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from pipeline_steps.reporting.verdict import ChartVerdict, Item, Word, together
from pipeline_steps.toolbox.junit import Case
from pipeline_steps.toolbox.junit import Outcome as JUnitOutcome
from pipeline_steps.toolbox.redact import redact

#: What people are told; the second is for a verdict that is still to come.
WORDS: dict[Word, str] = {
    "positive": "passed: everything required has passed",
    "negative": "failed: something required has failed",
    "incomplete": "incomplete: something required is missing or could not be carried out",
}
_SHOWN = 12
#: Characters of a diff that a page shows; reviews refuse long comments.
_DIFF = 12_000


class Page(NamedTuple):
    """What is to be shown. revision: of the checkout; build: its URL, "" outside CI; started: no verdict yet.

    diffs: chart name → what its snapshot renders otherwise than what is published.
    """

    verdicts: Sequence[ChartVerdict]
    revision: str
    build: str
    started: bool
    diffs: Mapping[str, str] = MappingProxyType({})

    @property
    def headline(self) -> str:
        if not self.verdicts:
            return "no chart affected"
        names = ", ".join(verdict.chart.name for verdict in self.verdicts)
        return f"testing {names}" if self.started else WORDS[together(self.verdicts)]


def markdown(page: Page) -> str:
    """The page as Markdown with tables (GitHub's, GitLab's and Gerrit's own kinds understand it)."""
    lines = [f"# {_md(page.headline)}", "", f"Revision {_code(page.revision)}" + _link(page.build), ""]
    for verdict in page.verdicts:
        lines += [f"## {_md(_title(verdict))}", ""]
        lines += [f"- {what} {_code(value)}" for what, value in _facts(verdict)]
        if page.started:
            lines.append("")
            continue
        lines += ["", "| required | result | attempts | reason |", "|---|---|---|---|"]
        for item in verdict.items:
            cells = (item.name, item.outcome, str(item.attempts), item.reason)
            lines.append(f"| {' | '.join(_md(cell) for cell in cells)} |")
        lines += ["", *_folded(page.diffs.get(verdict.chart.name, ""))]
    return "\n".join(lines)


def html_page(page: Page) -> str:
    """The page as one HTML document that loads nothing."""
    parts = [f"<h1>{_h(page.headline)}</h1><p>Revision <code>{_h(page.revision)}</code>"]
    if page.build.startswith(("https://", "http://")):
        parts.append(f' · <a href="{_h(page.build)}">build</a>')
    parts.append("</p>")
    for verdict in page.verdicts:
        parts.append(f'<h2 class="{verdict.word}">{_h(_title(verdict))}</h2><ul>')
        parts += [f"<li>{_h(what)} <code>{_h(value)}</code></li>" for what, value in _facts(verdict)]
        parts.append("</ul>")
        if not page.started:
            parts.append("<table><tr><th>required</th><th>result</th><th>attempts</th><th>reason</th></tr>")
            parts += [_row(item) for item in verdict.items]
            parts.append("</table>")
            diff = page.diffs.get(verdict.chart.name, "")
            parts.append(f"<details><summary>{_CHANGES}</summary><pre>{_h(_cut(diff))}</pre></details>" if diff else "")
    return _FRAME.format(title=_h(page.headline), body="\n".join(parts))


def cases(page: Page) -> Iterator[Case]:
    """Every required thing as a test; what is missing or was prevented is an error, not a failure."""
    kinds: dict[str, JUnitOutcome] = {"passed": "passed", "failed": "failure"}
    for verdict in page.verdicts:
        for item in verdict.items:
            name = f"{verdict.chart.name} {item.name}"
            yield Case(name, outcome=kinds.get(item.outcome, "error"), text=item.reason or item.outcome)


_CHANGES = "What it renders otherwise than what is published"


def _cut(diff: str) -> str:
    return diff if len(diff) <= _DIFF else f"{diff[:_DIFF]}\n… {len(diff) - _DIFF} characters more in the file"


def _folded(diff: str) -> list[str]:
    """A diff in Markdown, folded, in a fence longer than any in it."""
    if not diff:
        return []
    text = _cut(redact(diff))
    fence = "`" * (2 + max([1, *(len(run) for run in re.findall("`+", text))]))
    return [
        f"<details><summary>{_CHANGES}</summary>",
        "",
        f"{fence}diff",
        text.rstrip("\n"),
        fence,
        "",
        "</details>",
        "",
    ]


def _title(verdict: ChartVerdict) -> str:
    dirty = " with local modifications" if verdict.chart.modified else ""
    return f"{verdict.chart.name} {verdict.chart.version}{dirty}: {verdict.word}"


def _facts(verdict: ChartVerdict) -> Iterator[tuple[str, str]]:
    yield "content", verdict.chart.content
    for name, reference in sorted(verdict.images.items()):
        yield f"image {name}", reference
    if verdict.snapshot:
        yield "snapshot", verdict.snapshot


def _row(item: Item) -> str:
    reason = f"<pre>{_h(item.reason)}</pre>" if item.reason else ""
    attempts = f"<b>{item.attempts}</b>" if item.attempts > 1 else str(item.attempts)
    cells = f"<td>{_h(item.name)}</td><td>{_h(item.outcome)}</td><td>{attempts}</td><td>{reason}</td>"
    return f'<tr class="{item.outcome}">{cells}</tr>'


def _h(text: str) -> str:
    return html.escape(redact(text))


def _md(text: str) -> str:
    """Text in a table cell or heading, on one line, with nothing that Markdown or HTML would understand.

    >>> _md("a|b <x>\\n[c](http://d) e_f _g_")
    'a&#124;b &lt;x&gt; / &#91;c&#93;(http://d) e_f &#95;g&#95;'
    """
    lines = redact(text).strip().splitlines()
    shown = [*lines[:_SHOWN], *(["…"] if len(lines) > _SHOWN else [])]
    escaped = html.escape(" / ".join(line.strip() for line in shown), quote=False)
    return re.sub(r"[|`*\[\]#@\\]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", lambda sign: f"&#{ord(sign[0])};", escaped)


def _code(text: str) -> str:
    plain = re.sub(r"[`<>|\s]", " ", redact(text))
    return f"`{plain}`"


def _link(url: str) -> str:
    return f" · <{url}>" if re.fullmatch(r"https?://[^\s<>]+", url) else ""


_FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ border-bottom: 1px solid #ddd; padding: .4rem .6rem; text-align: left; vertical-align: top }}
pre {{ margin: 0; white-space: pre-wrap; font-size: 13px }} code {{ word-break: break-all }}
tr.passed td:nth-child(2), h2.positive {{ color: #17692b }} tr.failed td:nth-child(2), h2.negative {{ color: #a11 }}
</style></head><body>
{body}
</body></html>
"""
