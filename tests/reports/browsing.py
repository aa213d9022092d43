"""Opens a report in Chromium over DevTools, which the page's own policy does not govern, and asks axe-core about it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

WIDE, NARROW = 1280, 390
HEIGHT = 900
# Chromium lays out what is near the window only; axe-core and a measured width need all of it.
_LAY_OUT = """() => {
  const sheet = document.styleSheets[0];
  sheet.insertRule("* { content-visibility: visible !important }", sheet.cssRules.length);
}"""
_AXE_OPTIONS = {"resultTypes": ["violations"], "preload": False}


@dataclass(frozen=True, slots=True)
class Visit:
    """A page that stands open.

    Args:
        page: the page itself.
        console: what the page, its errors and its policy wrote to the console so far.
        requests: every address that the page asked for so far, its own file first.
    """

    page: Page
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def beyond_itself(self) -> list[str]:
        """Return the requests for anything but the file itself."""
        return self.requests[1:]

    def lay_out(self) -> None:
        """Lay out the whole page, not only what is near the window."""
        self.page.evaluate(_LAY_OUT)

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        width = self.page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")
        return max(0, int(width))

    def serious(self) -> list[str]:
        """Return the serious and critical violations that axe-core finds, each with its first element."""
        found: dict[str, Any] = Axe().run(self.page, options=_AXE_OPTIONS).response
        return [
            f"{one['impact']} {one['id']}: {one['nodes'][0]['html'][:200]}"
            for one in found["violations"]
            if one["impact"] in {"serious", "critical"}
        ]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium and close it.

    No longer than for one module of tests: while it runs, no other event loop can be started in this thread.
    """
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path is not None, "Chromium is part of the test environment: apt-get install -y chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visiting(
    browser: Browser, path: Path, *, scheme: str = "light", width: int = WIDE, whole: bool = False
) -> Iterator[Visit]:
    """Open a file in a window of its own.

    Args:
        browser: as `chromium` starts it.
        path: the page.
        scheme: `light` or `dark`.
        width: of the window, in CSS pixels.
        whole: ask for every row of every table.
    """
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": HEIGHT})
    try:
        visit = Visit(context.new_page())
        visit.page.on("console", lambda message: visit.console.append(message.text))
        visit.page.on("pageerror", lambda error: visit.console.append(str(error)))
        visit.page.on("request", lambda request: visit.requests.append(request.url))
        visit.page.goto(path.resolve().as_uri() + ("#all-rows" if whole else ""))
        if whole:
            visit.page.wait_for_function("document.querySelector('script[data-rows]') === null")
        yield visit
    finally:
        context.close()
