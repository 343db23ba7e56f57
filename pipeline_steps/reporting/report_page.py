"""The report on charts: what it says, from the records, and how it is written: Markdown for reviews
and logs, one self-contained HTML page, JUnit cases.

Chart names and errors of programs are untrusted text.
"""

from __future__ import annotations

import html
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from pipeline_steps.ci import code_quality
from pipeline_steps.config.language import Config
from pipeline_steps.reporting.delivery import Target
from pipeline_steps.reporting.differences import read_diffs
from pipeline_steps.reporting.rendering import render
from pipeline_steps.reporting.verdict import ChartVerdict, Word, chart_verdict, combined_verdict
from pipeline_steps.reviews.review import Finding
from pipeline_steps.state.origin import origin
from pipeline_steps.state.state import State
from pipeline_steps.testing import pulls, settings
from pipeline_steps.testing.requirements import Requirement
from pipeline_steps.toolbox import clock, files, junit
from pipeline_steps.toolbox.errors import PipelineError
from pipeline_steps.toolbox.junit import Case
from pipeline_steps.toolbox.junit import Outcome as JUnitOutcome
from pipeline_steps.toolbox.redact import printable
from pipeline_steps.workspace.checkout import Checkout

log = logging.getLogger("pipeline_steps.report")

#: Headlines of the verdicts.
WORDS: dict[Word, str] = {
    "positive": "passed: everything required has passed",
    "negative": "failed: something required has failed",
    "incomplete": "incomplete: something required is missing or could not be carried out",
}
#: Charts are shown in this order, and counted in it.
_ORDER: tuple[Word, ...] = ("negative", "incomplete", "positive")
GOOD = frozenset({"positive", "passed"})
#: Lines of a reason that a table cell of Markdown shows.
_REASON_LINES = 12
#: Characters of a diff that a page shows; reviews refuse long comments.
_DIFF = 12_000
CHANGES = "What it renders otherwise than what is published"


class Page(NamedTuple):
    """The content of a page.

    revision: of the checkout. build: URL of the CI build, "" outside CI.
    started: tests have begun, there is no verdict yet.
    diffs: chart name → differences between the renderings of its snapshot and the published chart.
    notices: warnings that do not depend on the verdict.
    gaps: why the verdict is not positive, though what is shown has passed.
    """

    verdicts: Sequence[ChartVerdict]
    revision: str
    build: str
    started: bool
    diffs: Mapping[str, str] = MappingProxyType({})
    notices: Sequence[str] = ()
    gaps: Sequence[str] = ()

    @property
    def word(self) -> Word | Literal["started"]:
        """The verdict on all of it."""
        if self.started:
            return "started"
        word = combined_verdict(self.verdicts)
        return "incomplete" if self.gaps and word == "positive" else word

    @property
    def headline(self) -> str:
        if not self.verdicts and not self.gaps:
            return "no chart affected"
        names = ", ".join(verdict.chart.name for verdict in self.verdicts)
        return f"testing {names}" if self.word == "started" else WORDS[self.word]

    @property
    def totals(self) -> str:
        """How many charts have which verdict, and how many required things which outcome."""
        if self.started or not self.verdicts:
            return ""
        words: Counter[str] = Counter(verdict.word for verdict in self.verdicts)
        outcomes: Counter[str] = Counter(
            item.outcome for verdict in self.verdicts for item in verdict.requirements
        )
        return (
            f"{_count(len(self.verdicts), 'chart')}: {_counts(words)}; "
            f"{_count(outcomes.total(), 'requirement')}: {_counts(outcomes)}"
        )

    @property
    def used_records(self) -> tuple[str, ...]:
        """Ids of the records that the page is made of."""
        return tuple(
            dict.fromkeys(
                record.id
                for verdict in self.verdicts
                for requirement in verdict.requirements
                for record in requirement.records
            )
        )


def compile_page(
    charts: Iterable[str], checkout: Checkout, config: Config, state: State, target: Target
) -> Page:
    """The page about these charts, from the records. target: of the verdict."""
    review = target.review.id if target.review else ""
    verdicts = [
        chart_verdict(checkout, checkout.chart(name), config, state, target.branch, review)
        for name in charts
    ]
    return Page(
        verdicts,
        checkout.revision,
        (origin()["ci"] or {}).get("url", ""),
        started=False,
        diffs=read_diffs(verdicts, state),
        notices=_notices(config),
    )


def find_gaps(
    charts: Collection[str], changed: Iterable[str], checkout: Checkout
) -> tuple[str, ...]:
    """Why a verdict on `charts` is none on a review that changes the charts `changed`: what else it
    changes, and what is not stored in the source.
    """
    gaps = []
    others = [name for name in changed if name not in charts]
    if others:
        names = ", ".join(others)
        gaps.append(f"the review also changes {names}, which this report is not about")
    modified = dict.fromkeys(
        path for name in charts for path in settings.local_modifications(checkout, name)
    )
    if modified:
        gaps.append(f"the checkout has local modifications: {', '.join([*modified][:5])}")
    return tuple(gaps)


def _notices(config: Config) -> tuple[str, ...]:
    """Warnings about the configuration that do not depend on the verdict."""
    # Logins that cannot be read here say nothing about a chart; doctor says it.
    try:
        return tuple(filter(None, (pulls.push_login_warning(config),)))
    except PipelineError as error:
        log.debug("report: %s", error)
        return ()


class Section(NamedTuple):
    """A chart on a page. word: the verdict, "" without one. facts: (name, reference or digest).

    notice: what is no failure, "" for nothing.
    """

    title: str
    word: str
    facts: tuple[tuple[str, str], ...]
    items: tuple[Requirement, ...]
    diff: str
    notice: str


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _counts(numbers: Mapping[str, int]) -> str:
    """What has gone wrong comes first, and of the rest the most frequent."""
    order = sorted(numbers.items(), key=lambda pair: (pair[0] in GOOD, -pair[1], pair[0]))
    return ", ".join(f"{number} {word}" for word, number in order) or "none"


def sections(page: Page) -> Iterator[Section]:
    """The charts, those that nobody has to look at last."""
    for verdict in sorted(page.verdicts, key=lambda verdict: _ORDER.index(verdict.word)):
        chart = verdict.chart
        images = (
            (f"image {name}", reference) for name, reference in sorted(verdict.images.items())
        )
        snapshot = (("snapshot", verdict.snapshot),) if verdict.snapshot else ()
        yield Section(
            title=f"{chart.name} "
            f"{chart.version}{' with local modifications' if chart.modified else ''}",
            word="" if page.started else verdict.word,
            facts=(("content", chart.content), *images, *snapshot),
            items=()
            if page.started
            else tuple(sorted(verdict.requirements, key=lambda item: item.passed)),
            diff="" if page.started else _cut(printable(page.diffs.get(chart.name, ""))),
            notice=verdict.notice,
        )


def markdown(page: Page) -> str:
    """The page as Markdown with tables, as GitHub, GitLab and Gerrit render them."""
    lines = [
        f"# {_escape_markdown(page.headline)}",
        "",
        f"Revision {_code(page.revision)}" + _link(page.build),
        "",
        *([page.totals, ""] if page.totals else []),
        *(f"Not positive: {_escape_markdown(gap)}\n" for gap in page.gaps),
        *(f"Note: {_escape_markdown(notice)}\n" for notice in page.notices),
    ]
    for section in sections(page):
        lines += [
            f"## {_escape_markdown(': '.join(filter(None, (section.title, section.word))))}",
            "",
        ]
        lines += [f"- {name} {_code(value)}" for name, value in section.facts]
        if section.notice:
            lines += ["", f"Note: {_escape_markdown(section.notice)}"]
        if page.started:
            lines.append("")
            continue
        lines += ["", "| required | result | attempts | reason |", "|---|---|---|---|"]
        for item in section.items:
            cells = (item.name, item.outcome, str(item.attempts), item.reason)
            lines.append(f"| {' | '.join(_escape_markdown(cell) for cell in cells)} |")
        lines += ["", *_folded(section.diff)]
    return "\n".join(lines)


def html_page(page: Page) -> str:
    """The page as one HTML document that loads nothing and runs nothing."""
    return render(
        "report.html",
        title=page.headline,
        word="" if page.started or not (page.verdicts or page.gaps) else page.word,
        totals=page.totals,
        revision=page.revision,
        build=page.build if page.build.startswith(("https://", "http://")) else "",
        notices=(*(f"not positive: {gap}" for gap in page.gaps), *page.notices),
        sections=list(sections(page)),
        changes=CHANGES,
    )


def cases(page: Page) -> Iterator[Case]:
    """Every requirement as a JUnit case; missing or interrupted ones are errors, not failures."""
    outcomes: dict[str, JUnitOutcome] = {"passed": "passed", "failed": "failure"}
    for verdict in page.verdicts:
        for item in verdict.requirements:
            name = f"{verdict.chart.name} {item.name}"
            # An error, not a failure: CI shows that the chart was not found wanting, but not
            # found good either.
            outcome = outcomes.get(item.outcome, "error")
            text = "" if outcome == "passed" else item.reason or item.outcome
            yield Case(name, outcome=outcome, text=text)
        if verdict.notice:
            yield Case(f"{verdict.chart.name} version", text=verdict.notice)
    for gap in page.gaps:
        yield Case(gap, outcome="error", text=gap)


def write(page: Page, folder: Path, findings: Sequence[Finding]) -> None:
    """The files of a page; `folder` itself is never followed as a symbolic link."""
    files.created_folder(folder)
    files.write(folder / "report.md", markdown(page).encode(), mode=0o644)
    files.write(folder / "report.html", html_page(page).encode(), mode=0o644)
    quality = code_quality.report(findings)
    files.write(folder / code_quality.FILE_NAME, quality, mode=0o644)
    tested = () if page.started else cases(page)
    junit.write(
        folder / "report.xml",
        "report",
        tested,
        started=clock.now(),
        properties={"revision": page.revision},
    )


def _cut(diff: str) -> str:
    return (
        diff
        if len(diff) <= _DIFF
        else f"{diff[:_DIFF]}\n… {len(diff) - _DIFF} characters more in the file"
    )


def _folded(diff: str) -> list[str]:
    """A diff in Markdown, folded, in a fence longer than any in it."""
    if not diff:
        return []
    # A fence ends at a line of at least its length (CommonMark 0.31, section 4.5).
    fence = "`" * (2 + max([1, *(len(run) for run in re.findall("`+", diff))]))
    return [
        f"<details><summary>{CHANGES}</summary>",
        "",
        f"{fence}diff",
        diff.rstrip("\n"),
        fence,
        "",
        "</details>",
        "",
    ]


def _escape_markdown(text: str) -> str:
    """Text in a table cell or heading, on one line, with nothing that Markdown or HTML would
    understand.

    >>> _escape_markdown("a|b <x>\\n[c](http://d) e_f _g_")
    'a&#124;b &lt;x&gt; / &#91;c&#93;(http://d) e_f &#95;g&#95;'
    """
    lines = printable(text).strip().splitlines()
    shown = [*lines[:_REASON_LINES], *(["…"] if len(lines) > _REASON_LINES else [])]
    escaped = html.escape(" / ".join(line.strip() for line in shown), quote=False)
    return re.sub(
        r"[|`*\[\]#@\\]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])",
        lambda sign: f"&#{ord(sign[0])};",
        escaped,
    )


def _code(text: str) -> str:
    plain = re.sub(r"[`<>|\s]", " ", printable(text))
    return f"`{plain}`"


def _link(url: str) -> str:
    # A build's URL comes from the environment: javascript: and the like are no links.
    return f" · <{url}>" if re.fullmatch(r"https?://[^\s<>]+", url) else ""
