"""Debian's chromium, driven by playwright: pages as people see them, at a desk and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for as long as the block runs."""
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


class Opened:
    """A page in a window, and everything that the browser complained of or asked for."""

    def __init__(
        self, browser: Browser, file: Path, size: dict[str, int], scheme: str = "light"
    ) -> None:
        context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())

    def colour(self, of: str) -> str:
        return str(
            self.page.evaluate(
                "name => getComputedStyle(document.querySelector(name)).backgroundColor", of
            )
        )
