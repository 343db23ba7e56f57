"""The page of `audit --report html` in a real browser: Debian's chromium, driven by playwright."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from pipeline_steps.audits.production_report import FORMS, PassedTest, PublishedVersion
from tests.support.browser import DESK, PHONE, Opened, chromium
from tests.support.records import HOSTILE, digest

REPOSITORIES = "oci://registry.example.com/charts", "https://charts.example.com"


def versions() -> list[PublishedVersion]:
    """A chart with a recorded, a changed and an unrecorded version, the first in two repositories.

    And one whose name wants to be markup.
    """
    recorded: dict[str, Any] = {
        "proof": "recorded",
        "record": digest("promote"),
        "content": digest("content"),
        "revision": digest("r")[7:47],
        "released": "2026-11-20T10:07:03.400Z",
        "approvers": ("ada", "grace"),
        "tests": (
            PassedTest("ci/default-values.yaml", "k131", 1),
            PassedTest("ci/tls-values.yaml", "k134", 3),
        ),
        "images": {"web": f"registry.example.com/production/web:1.4.1@{digest('web')}"},
        "bases": {"docker.io/library/busybox:1": digest("base")},
    }
    one, other = REPOSITORIES
    return [
        PublishedVersion(
            "hello",
            "1.4.1",
            one,
            f"oci://r.example.com/charts/hello:1.4.1@{digest('x')}",
            **recorded,
        ),
        PublishedVersion("hello", "1.4.1", other, "", "no record"),
        PublishedVersion("hello", "1.4.0", one, "", "changed", record=digest("other")),
        PublishedVersion("hello", "1.3.0", one, "", "no record"),
        PublishedVersion(HOSTILE, "1.0.0", one, "", **recorded),
    ]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audit") / "production.html"
    path.write_text(FORMS["html"](versions(), "In production: oci://registry.example.com/charts"))
    return path


def test_page_shows_versions_approvers_tests_and_images_and_loads_nothing(
    browser: Browser, page: Path
) -> None:
    opened = Opened(browser, page, DESK)
    row = opened.page.locator("tbody tr").first.inner_text()
    for words in (
        "1.4.1",
        "recorded",
        "2026-11-20",
        "ada, grace",
        "ci/tls-values.yaml on k134, 3 attempts",
        "web",
    ):
        assert words in row
    assert opened.page.locator(".badge.bad").inner_text() == "changed"
    assert "3 without a record that holds" in opened.page.locator("header").first.inner_text()
    assert opened.complaints == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [page.as_uri()]
    assert opened.page.title() == "In production: oci://registry.example.com/charts"
    assert (
        opened.page.locator("img").count() == 0
        and opened.page.locator("h2", has_text=HOSTILE).count() == 1
    )


def test_the_audit_page_fits_a_phone(browser: Browser, page: Path) -> None:
    opened = Opened(browser, page, PHONE)
    wide = opened.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] == wide[1] == PHONE["width"]


def test_the_button_copies_the_whole_digest(browser: Browser, page: Path) -> None:
    opened = Opened(browser, page, DESK)
    opened.page.locator("tbody tr button").first.click()
    opened.page.wait_for_function("document.querySelector('tbody button').textContent === 'Copied'")
    assert opened.page.evaluate("navigator.clipboard.readText()") == digest("content")
