"""The page of a difference in headless Chromium: axe-core, its policy, both themes, a wide and a narrow window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from reports.difference import render_difference_html
from tests.reports.browsing import NARROW, WIDE, chromium, visiting
from tests.reports.fixtures.basics import HOSTILE
from tests.reports.fixtures.differences import CHANGED, NOISE, data_of, difference, many, run_of, with_texts
from tests.reports.fixtures.strange import KINDS, LONG_TOKEN, STYLE, TEMPLATE, UNBROKEN

HIDING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u200b\ufeff")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a running Chromium."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a page with changes and noise, one of many rows, and one with hostile text."""
    plain = difference(CHANGED, noise=NOISE)
    folder = tmp_path_factory.mktemp("difference")
    found = {}
    for name, result in (
        ("changed", plain),
        ("many", many(plain, 6)),
        ("hostile", with_texts(plain, (*KINDS, HOSTILE, "x" * 5000), token=LONG_TOKEN)),
    ):
        found[name] = folder / f"{name}.html"
        found[name].write_bytes(render_difference_html(result, run_of(result), difference_json=data_of(result)))
    return found


@pytest.mark.parametrize("name", ["changed", "many"])
@pytest.mark.parametrize(("scheme", "width"), [("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW)])
def test_axe_finds_nothing_serious(
    browser: Browser, pages: dict[str, Path], name: str, scheme: str, width: int
) -> None:
    """Nor is there a word in the console, a request, or a page wider than its window."""
    with visiting(browser, pages[name], scheme=scheme, width=width, whole=name == "many") as visit:
        visit.lay_out()
        assert visit.overflow() == 0
        assert visit.serious() == []
        assert visit.console == []
        assert visit.beyond_itself == []


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_hostile_text_is_inert_and_fits_the_window(browser: Browser, pages: dict[str, Path], width: int) -> None:
    """Nothing runs, loads, hides or restyles; titles of 5,000 letters and tokens of as many stay inside the page."""
    with visiting(browser, pages["hostile"], width=width, whole=True) as visit:
        visit.lay_out()
        page = visit.page
        assert visit.overflow() == 0
        assert visit.console == []
        assert visit.beyond_itself == []
        assert page.locator("img").count() == 0
        assert page.locator("style").count() == 1
        ids = Counter(page.evaluate("Array.from(document.querySelectorAll('[id]')).map(element => element.id)"))
        assert ids.most_common(1)[0][1] == 1
        said = page.evaluate("document.body.textContent")
        assert not HIDING & set(said)
        for text in (
            HOSTILE,
            TEMPLATE,
            STYLE,
            UNBROKEN,
            "(5\N{NARROW NO-BREAK SPACE}001 characters)",
        ):
            assert text in said


def test_rows_are_unpacked_and_sorted_by_the_keyboard(browser: Browser, pages: dict[str, Path]) -> None:
    """The table of a concept shows all of its rows when it is sorted, and tells its order."""
    with visiting(browser, pages["many"]) as visit:
        table = visit.page.locator("table[data-sortable][id^=rows-]:has(tbody)").last
        identity = table.get_attribute("id")
        total = int(table.get_attribute("data-total") or 0)
        header = table.locator("thead th").nth(4)
        header.locator("button").focus()
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_function(f"document.querySelector('#{identity} thead th[aria-sort]') !== null")
        assert table.locator("tbody").count() == total
        shifts = table.locator("tbody tr:first-child td:nth-child(5)").evaluate_all(
            "cells => cells.map(cell => Number(cell.dataset.sort))"
        )
        assert len(shifts) == total > 12
        assert shifts == sorted(shifts, reverse=True)


def test_every_link_leads_somewhere(browser: Browser, pages: dict[str, Path]) -> None:
    """The skip link, the contents and the concepts on page one."""
    with visiting(browser, pages["changed"]) as visit:
        lost = visit.page.evaluate(
            """() => Array.from(document.querySelectorAll("a[href^='#']")).map(link => link.getAttribute("href"))
              .filter(href => document.querySelector(href) === null)"""
        )
        assert lost == []
        assert visit.page.locator("#summary a[href^='#rows-']").count() == 4
