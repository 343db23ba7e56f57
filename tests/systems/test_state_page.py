"""The page of `state html` in a real browser: Debian's chromium, driven by playwright."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from pipeline_steps.state.state import State
from tests.support.browser import DESK, PHONE, Opened, chromium
from tests.support.records import HOSTILE, REASON, story


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hello") / ".pipeline"
    story(State(folder / "state.jsonl"))
    command = [
        sys.executable,
        "-m",
        "pipeline_steps",
        "state",
        "html",
        "--state",
        str(folder / "state.jsonl"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "state.html"


def test_it_loads_nothing_and_complains_of_nothing(browser: Browser, written: Path) -> None:
    opened = Opened(browser, written, DESK)
    opened.page.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
    assert opened.complaints == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [written.as_uri()]
    assert opened.page.title() == f"Chain of evidence of {written.parent.parent.name}"


@pytest.mark.parametrize("everything", [False, True], ids=["folded", "unfolded"])
def test_the_state_page_fits_a_phone(browser: Browser, written: Path, everything: bool) -> None:
    opened = Opened(browser, written, PHONE)
    if everything:
        opened.page.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
    wide = opened.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] == wide[1] == PHONE["width"]
    beyond = "all => all.filter(one => one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML)"
    assert opened.page.eval_on_selector_all("body *", beyond) == []


def test_the_chain_is_a_picture_from_content_to_production(browser: Browser, written: Path) -> None:
    opened = Opened(browser, written, DESK)
    chain = (
        opened.page.locator("section", has=opened.page.locator("h2", has_text="hello"))
        .locator(".chain")
        .first
    )
    titles = [title.strip() for title in chain.locator("h3").all_inner_texts()]
    assert titles == ["Content", "Image", "Snapshot", "Tests 2/2", "Tag", "Production"]
    tops = chain.locator(".stage").evaluate_all(
        "all => new Set(all.map(one => one.getBoundingClientRect().top)).size"
    )
    assert tops == 1, "side by side on a desk"
    assert chain.locator(".stage svg.arrow").count() == 5
    assert "3 attempts" in chain.inner_text(), "retry-until-green is visible"
    folded = opened.page.locator("details.older").first
    assert (
        folded.get_attribute("open") is None
        and "failed" in folded.locator("summary").first.inner_text()
    )


def test_the_button_copies_the_whole_digest(browser: Browser, written: Path) -> None:
    opened = Opened(browser, written, DESK)
    button = opened.page.locator(".chain button").first
    digest = button.get_attribute("data-copy")
    assert digest is not None and digest.startswith("sha256:") and len(digest) == 71
    button.click()
    opened.page.wait_for_function(
        "document.querySelector('.chain button').textContent === 'Copied'"
    )
    assert opened.page.evaluate("navigator.clipboard.readText()") == digest


def test_a_page_served_without_tls_copies_too(browser: Browser, written: Path) -> None:
    opened = Opened(browser, written, DESK)
    opened.page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    button = opened.page.locator(".chain button").first
    button.click()
    opened.page.wait_for_function(
        "document.querySelector('.chain button').textContent === 'Copied'"
    )


def test_the_page_follows_the_colour_scheme(browser: Browser, written: Path) -> None:
    for of in ("body", "section"):
        light, dark = (
            sum(numbers(Opened(browser, written, DESK, scheme).colour(of)))
            for scheme in ("light", "dark")
        )
        assert light > 600 and dark < 200, of


def numbers(colour: str) -> list[int]:
    return [int(part) for part in colour.partition("(")[2].rstrip(")").split(",")[:3]]


def test_hostile_texts_are_shown_as_text(browser: Browser, written: Path) -> None:
    opened = Opened(browser, written, DESK)
    assert opened.page.title() != "taken" and opened.page.locator("img").count() == 0
    assert opened.page.locator("script").count() == 1
    assert opened.page.locator("h2", has_text=HOSTILE).count() == 1
    assert opened.page.locator(".problem pre").first.inner_text() == REASON


def test_a_link_opens_the_record_it_leads_to(browser: Browser, written: Path) -> None:
    opened = Opened(browser, written, DESK)
    opened.page.locator("table a").first.click()
    target = opened.page.locator("details.record:target")
    assert target.count() == 1 and target.get_attribute("open") is not None
