"""Every page is made by templates that escape: whatever a value says, it is shown, and nothing
else.
"""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError, nodes

from pipeline_steps.audits.production_report import FORMS, PassedTest, PublishedVersion
from pipeline_steps.reporting import rendering, report_page, state_page
from pipeline_steps.reporting.verdict import ChartVerdict
from pipeline_steps.state.state import State
from pipeline_steps.testing.requirements import Requirement
from pipeline_steps.toolbox.redact import MASK, register
from pipeline_steps.workspace.chart import Chart
from tests.support.records import Story

TEMPLATES = Path(rendering.__file__).parent / "templates"
PAGES = ("state.html", "report.html", "production.html")
#: Parts of pages, which the others are made of.
PARTS = ("base.html", "parts.html", "look.css")


def state_html(text: str, folder: Path) -> str:
    """The page of a state in which everything says `text`."""
    story = Story(State(folder / ".pipeline/state.jsonl"))
    more: dict[str, Any] = {
        "inputs": {text: text},
        "actor": text,
        "run": text,
        "tools": {text: text},
        "ci": {"system": text},
    }
    built = story.add("build_image", text, text, outputs={"image": text}, **more)
    test = {"scenario": text, "values": text, "cluster": text}
    for step in ("check", "snapshot", "integration_test", "tag_release", "promote"):
        outputs = {"chart": text, "tag": text, "ran.x": text, text: text}
        for result in ("failed", "infrastructure"):
            story.add(
                step, text, text, result, reason=text, outputs=outputs, parameters=test, uses=[built.id, text],
                supersedes=[text], revision=text, finished=text, evidence={text: text}, **more,
            )  # fmt: skip
    return state_page.page(story.state.records(), text, files=True, checked_out={text: text})


def verdict_html(text: str, _folder: Path) -> str:
    """The page of a verdict in which everything says `text`."""
    chart = Chart(text, text, text, text, "application", None, (), (), text, text, (), (), (text,))
    failed = Requirement(text, "check", "failed", 2, text)
    verdict = ChartVerdict(
        chart, text, {text: text}, (failed, Requirement(text, "check", "missing"))
    )
    page = report_page.Page([verdict], text, f"https://{text}", False, {text: text})
    return report_page.html_page(page) + report_page.html_page(page._replace(started=True))


def production_html(text: str, _folder: Path) -> str:
    """The page of a production in which everything says `text`."""
    tests = (PassedTest(text, text, 2),)
    names = {text: text}
    version = PublishedVersion(
        text,
        text,
        text,
        text,
        "recorded",
        text,
        text,
        text,
        text,
        (text, text),
        tests,
        names,
        names,
    )
    return FORMS["html"]([version, version._replace(repository="other", proof="changed")], text)


MAKERS = {"state.html": state_html, "report.html": verdict_html, "production.html": production_html}
every_page = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
Maker = Callable[[str, Path], str]


def test_every_template_is_a_page_or_a_part_and_every_page_is_made_here() -> None:
    assert {path.name for path in TEMPLATES.iterdir()} == {*PAGES, *PARTS}
    assert set(PAGES) == set(MAKERS)


@pytest.mark.parametrize("name", (*PAGES, *PARTS))
def test_no_template_turns_escaping_off(name: str) -> None:
    pages = rendering.environment()
    assert pages.autoescape is True
    tree = pages.parse((TEMPLATES / name).read_text())
    assert not {each.name for each in tree.find_all(nodes.Filter)} & {
        "safe",
        "forceescape",
        "tojson",
        "xmlattr",
    }
    assert not list(tree.find_all((nodes.EvalContextModifier, nodes.MarkSafe)))


class Seen(HTMLParser):
    """The elements of a document and all its texts: content and values of attributes."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.texts: list[str] = []
        self.feed(document)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.texts += [value for _, value in attributes if value]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@every_page
def test_markup_in_any_value_is_text(make: Maker, tmp_path: Path) -> None:
    canary = "<script>alert(1)</script><b class='canary'>\"'>&amp;"
    document = make(canary, tmp_path / "canary")
    seen, plain = Seen(document), Seen(make("plain", tmp_path / "plain"))
    assert seen.elements == plain.elements, "the same page, with other texts"
    assert "<script>alert" not in document and "<b class" not in document
    assert sum(canary in text for text in seen.texts) >= 5


@every_page
def test_a_secret_in_any_value_is_masked(make: Maker, tmp_path: Path) -> None:
    secret = register("hunter2-on-a-page")
    document = make(secret, tmp_path)
    assert secret not in document and MASK in document


@every_page
def test_control_characters_in_any_value_are_replaced(make: Maker, tmp_path: Path) -> None:
    document = make("a\x00b\x1bc\u202ed\u2066e\x9b", tmp_path)
    assert not set("\x00\x1b\u202e\u2066\x9b") & set(document)
    assert "a�b�c�d�e�" in document


def test_template_without_a_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'title' is undefined"):
        rendering.render("base.html")
