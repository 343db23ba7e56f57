"""What a review shows of a verdict: one line, a text of bounded length, findings at their lines.

Whatever comes from outside (names, errors of programs, differences) stands in code spans and
fences: there the review systems follow no Markdown, HTML, mention, reference or address. Lists and
no tables, as Gerrit and Launchpad show text that is not rendered.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

from pipeline_steps.reporting.report_page import CHANGES, WORDS, Page, Section, sections
from pipeline_steps.reporting.verdict import ChartVerdict
from pipeline_steps.reviews.review import Finding
from pipeline_steps.testing.requirements import Requirement
from pipeline_steps.toolbox.redact import printable
from pipeline_steps.workspace.checkout import Checkout

#: Characters of a summary, as commit statuses take them.
SUMMARY = 140
#: Characters of one reason, one name, one finding.
_REASON, _NAME, _MESSAGE = 600, 200, 500
#: Characters of the differences of one chart, and of the words about what is left out.
_DIFF, _LEFT_OUT = 6_000, 400
#: Requirements of a chart that are shown, and characters of a reason, where there is room and not.
_SIZES = ((40, _REASON), (8, 150), (2, 80))
MAX_FINDINGS = 50
#: Charts that the command to reproduce names.
_NAMED_CHARTS = 5
#: A place in a file, at the beginning of a line or after a word; in parentheses where helm cannot
#: parse a template, or where that refuses with `required` or `fail`.
_PLACE = re.compile(
    r"(?:^|[\s(])(?P<path>[^\s(]\S*?):(?P<line>[1-9]\d{0,6})(?::\d+)?\)?(?::\s|:?$|\s)(?P<rest>.*)"
)

#: A place in a file with values, in helm's words. Of templates helm counts the lines of what it rendered.
_YAML_PLACE = re.compile(
    r"(?:^|\s)(?P<path>(?!\S*templates/)\S+\.yaml): .*\byaml: line (?P<line>[1-9]\d{0,6}): (?P<rest>.*)"
)


class About(NamedTuple):
    """What was tested, in the words of a review.

    revision: the review's, which gets the verdict. tested: what was checked out; another one where
    CI tests a merge. base: what was merged with it, "" when not known. target: the branch. queued:
    `revision` was made by a merge queue. commands: to look at it elsewhere. folded: differences may
    be folded with <details>.
    """

    revision: str
    tested: str
    base: str = ""
    target: str = ""
    queued: bool = False
    commands: tuple[str, ...] = ()
    folded: bool = False


def summary(page: Page) -> str:
    """One line of at most SUMMARY characters."""
    totals = f": {page.totals}" if page.totals else ""
    line = f"{_headline(page)}{totals}"
    return _cut(printable(line, lines=False), SUMMARY)


def _headline(page: Page) -> str:
    """The verdict without a name of anything."""
    if page.word == "started":
        return "started: tests have begun"
    if not page.verdicts and not page.gaps:
        return "passed: no chart affected"
    return WORDS[page.word]


def text(page: Page, tested: About, longest: int) -> str:
    """The verdict as Markdown of at most `longest` characters (4000 or more): the verdict first,
    then what was tested, then each chart, differences last. What has no room is named.
    """
    head, foot = "\n".join(_head(page, tested)), _foot(tested)
    # Room for the words about what is left out is kept from the beginning.
    room = longest - len(head) - len(foot) - _LEFT_OUT
    shown: list[str] = []
    left_out: list[str] = []
    for name, forms in _parts(page, tested):
        fitting = next((form for form in forms if len(form) + 2 <= room), None)
        if fitting is None:
            left_out.append(name)
            continue
        shown.append(fitting)
        room -= len(fitting) + 2
    blocks = [head, *shown, _left_out(left_out), foot]
    return "\n\n".join(block for block in blocks if block).strip()


def _parts(page: Page, tested: About) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What may be left out where there is no room: its name, and its forms, the longest first."""
    for gap in page.gaps:
        yield f"why: {gap}", (f"Not positive: {code(gap, _REASON)}",)
    charts = [*sections(page)]
    for section in charts:
        forms = tuple(_section(section, page.started, items, length) for items, length in _SIZES)
        yield f"chart {section.title}", forms
    for notice in page.notices:
        yield "a note", (f"Note: {code(notice, _REASON)}",)
    for section in charts:
        if section.diff:
            block = _differences(section.diff, folded=tested.folded)
            yield f"differences of {section.title}", (block,)


def _left_out(names: Sequence[str]) -> str:
    """Words of less than _LEFT_OUT characters about parts that have no room."""
    if not names:
        return ""
    listed = code(", ".join(names), 120)
    parts = "1 part is" if len(names) == 1 else f"{len(names)} parts are"
    return (
        f"**{parts} left out here**, as this system takes no longer text: {listed}. "
        "All of it is in `.pipeline/report/` of the build."
    )


def _head(page: Page, tested: About) -> Iterator[str]:
    """A few lines, whatever is reported: less than 2500 characters."""
    yield f"**{_headline(page)}**"
    yield ""
    if page.started and page.verdicts:
        yield f"Charts: {code(', '.join(verdict.chart.name for verdict in page.verdicts), 800)}."
    yield from _revisions(tested)
    if len(page.build) <= 500 and re.fullmatch(r"https?://[^\s<>`]+", page.build):
        yield f"Build: <{printable(page.build)}>"
    if page.totals:
        yield f"\n{_cut(page.totals, 300)}"


def _revisions(tested: About) -> Iterator[str]:
    """The tested revision, the review's and the base, told apart."""
    revision = code(tested.revision, _NAME)
    # The verdict on a train's merge of GitLab goes to the review's head.
    if tested.queued and tested.tested == tested.revision:
        yield f"Tested: {revision}, made by the merge queue of {code(tested.target, _NAME)}."
    elif tested.tested == tested.revision:
        yield f"Tested: {revision}, the revision of this review."
    else:
        base = f"{code(tested.base, _NAME)} of " if tested.base else ""
        yield (
            f"Tested: {code(tested.tested, _NAME)}, in which CI merged {revision} of this review "
            f"with {base}{code(tested.target or 'the target', _NAME)}. The verdict is about that "
            "merge."
        )


def _section(section: Section, started: bool, most: int, longest: int) -> str:
    """A chart. most: requirements that are shown, those that have not passed first. longest:
    characters of a reason.
    """
    word = f": **{section.word}**" if section.word else ""
    lines = [f"### {code(section.title, _NAME)}{word}", ""]
    if not started:
        lines += [_requirement(item, longest) for item in section.items[:most]]
        if len(section.items) > most:
            lines.append(f"- … {len(section.items) - most} more")
    lines += [f"- {code(name, _NAME)}: {code(value, 400)}" for name, value in section.facts[:most]]
    if section.notice:
        lines += ["", f"Note: {code(section.notice, longest)}"]
    return "\n".join(lines)


def _requirement(item: Requirement, longest: int) -> str:
    attempts = f" after {item.attempts} attempts" if item.attempts > 1 else ""
    reason = f": {code(item.reason, longest)}" if item.reason else ""
    return f"- {code(item.name, _NAME)} **{item.outcome}**{attempts}{reason}"


def _differences(diff: str, *, folded: bool) -> str:
    """The differences in a fence that is longer than any in them."""
    block = _fenced(_cut(_harmless(printable(diff)).rstrip("\n"), _DIFF), "diff")
    if folded:
        return f"<details><summary>{CHANGES}</summary>\n\n{block}\n\n</details>"
    return f"{CHANGES}:\n\n{block}"


def _fenced(body: str, language: str) -> str:
    # A fence ends at a line of at least its length (CommonMark 0.31, section 4.5).
    fence = "`" * (2 + max([1, *(len(run) for run in re.findall("`+", body))]))
    return f"{fence}{language}\n{body}\n{fence}"


def _foot(tested: About) -> str:
    if not tested.commands:
        return ""
    return "Look at it on your machine:\n\n" + _fenced("\n".join(tested.commands), "sh")


def commands(page: Page, checkout_command: str, store: str | None) -> tuple[str, ...]:
    """The commands that repeat what was tested: those charts that have not passed, else all.

    checkout_command: gets the revision. store: URL of the evidence store, None without one.
    """
    names = [verdict.chart.name for verdict in page.verdicts if verdict.word != "positive"]
    names = (names or [verdict.chart.name for verdict in page.verdicts])[:_NAMED_CHARTS]
    if not names or page.started:
        return ()
    selected = shlex.join(word for name in names for word in ("--chart", name))
    steps = f"pipeline-steps run check build_image snapshot integration_test {selected}"
    failed = [
        verdict.chart.name
        for verdict in page.verdicts
        if any(
            item.step == "integration_test" and item.outcome == "failed"
            for item in verdict.requirements
        )
    ]
    again = []
    if store and failed:
        subject = shlex.quote(f"integration_test/{failed[0]}")
        again = [
            f"pipeline-steps reproduce {subject} --last-failed --cluster sandbox "
            f"--state {shlex.quote(store)}"
        ]
    lines = (checkout_command, "pipeline-steps sandbox up", steps, *again)
    # No character may be replaced by one that ends a quoted word: people paste these lines.
    return tuple(printable(line, lines=False) for line in lines if line)


def findings(checkout: Checkout, verdicts: Iterable[ChartVerdict]) -> tuple[Finding, ...]:
    """Places in files of the checkout that failed requirements and notices name, at most
    MAX_FINDINGS; path from the top of the source.

    A line that the file does not have is one of something rendered: it is left out.
    """
    entries = checkout.tree.entries()
    lengths: dict[str, int] = {}
    distinct: dict[Finding, None] = {}
    for path, line, message in _places(verdicts):
        if path not in entries or entries[path].kind not in ("file", "executable"):
            continue
        if path not in lengths:
            lengths[path] = checkout.tree.read([path])[path].count(b"\n") + 1
        if line <= lengths[path]:
            from_top = f"{checkout.folder}/{path}" if checkout.folder else path
            distinct[Finding(from_top, line, code(message or "see the verdict", _MESSAGE))] = None
    return tuple(distinct)[:MAX_FINDINGS]


def _places(verdicts: Iterable[ChartVerdict]) -> Iterator[tuple[str, int, str]]:
    for verdict in verdicts:
        failed = [item.reason for item in verdict.requirements if item.outcome == "failed"]
        for reason in (*failed, verdict.notice):
            lines = reason.splitlines()
            for number, line in enumerate(lines):
                if place := _PLACE.search(line) or _YAML_PLACE.search(line):
                    # helm writes the reason below the place, indented.
                    below = takewhile(lambda each: each[:1].isspace(), lines[number + 1 :])
                    message = "\n".join([place["rest"], *below])
                    yield place["path"], int(place["line"]), message.strip()


def code(value: str, longest: int) -> str:
    """Foreign text as one code span of Markdown, in which nothing else is understood.

    >>> code("a `b`\\n<!-- @all -->", 100)
    '``a `b` / <!-- @\\u200ball -->``'
    """
    lines = (line.strip() for line in _harmless(printable(value)).splitlines())
    shown = _cut(" / ".join(line for line in lines if line), longest).replace("\t", " ") or "-"
    delimiter = "`" * (1 + max([0, *(len(run) for run in re.findall("`+", shown))]))
    # CommonMark 0.31, section 6.1: one blank on both sides is not part of the code.
    pad = " " if shown[0] == "`" or shown[-1] == "`" else ""
    return f"{delimiter}{pad}{shown}{pad}{delimiter}"


def _harmless(value: str) -> str:
    """Text in which nobody is mentioned, also where a system looks at the bare text (Gerrit), and
    with the ends of lines that servers keep, so that it is equal when it is read back.
    """
    return re.sub(r"(?<![\w./:-])@(?=\w)", "@\u200b", value.replace("\r\n", "\n"))


def _cut(value: str, longest: int) -> str:
    """At most `longest` characters; says how many are left out."""
    if len(value) <= longest:
        return value
    words = f" … {len(value) - longest + 40} characters more"
    return value[: longest - len(words)] + words if longest > 80 else value[:longest]
