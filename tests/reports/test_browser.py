"""The HTML report in headless Chromium: axe-core, the policy, the keyboard; both themes, a wide and a narrow window."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from reports.html import render_html
from reports.view import ReportView
from tests.reports.browsing import NARROW, WIDE, Visit, chromium, visiting

TABLE = "#features-dosing-error-topic"
STOPS = 60
# WCAG 2.2, 1.4.3: text of ordinary size.
LEAST_CONTRAST = 4.5
_BODIES = (
    "table => Array.from(table.tBodies).filter(body => !body.hidden).map(body => body.rows[0].cells[{0}].innerText)"
)
# The ink of each text in a chart, and the colour of the uppermost shape behind its middle.
_CHART_INKS = """() => {
  const paper = getComputedStyle(document.documentElement).backgroundColor;
  const pairs = [];
  document.querySelectorAll(".chart").forEach(chart => {
    chart.scrollIntoView({ block: "center" });
    chart.querySelectorAll("text").forEach(text => {
      const box = text.getBoundingClientRect();
      const under = document.elementsFromPoint(box.left + box.width / 2, box.top + box.height / 2).find(
        shape => shape.matches(".chart path, .chart rect") && getComputedStyle(shape).fill.startsWith("rgb"));
      pairs.push([getComputedStyle(text).fill, under ? getComputedStyle(under).fill : paper]);
    });
  });
  return pairs;
}"""
_FOCUSED = """() => {
  const now = document.activeElement;
  const order = Array.from(document.querySelectorAll("*"));
  const style = getComputedStyle(now);
  const box = now.getBoundingClientRect();
  return {
    place: order.indexOf(now),
    section: now.closest("section, header, aside, footer")?.id ?? "",
    outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    seen: box.bottom > 0 && box.top < window.innerHeight && box.right > 0 && box.left < window.innerWidth,
    what: now.outerHTML.slice(0, 120),
  };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a running Chromium."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def page_file(view: ReportView, findings_json: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report that holds every case, as a file."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_bytes(render_html(view, findings_json=findings_json))
    return path


@pytest.fixture
def visit(browser: Browser, page_file: Path) -> Iterator[Visit]:
    """Return the report, opened wide and light."""
    with visiting(browser, page_file) as opened:
        yield opened


@pytest.mark.parametrize(
    ("scheme", "width", "whole"),
    [("light", WIDE, False), ("dark", WIDE, True), ("light", NARROW, True), ("dark", NARROW, False)],
)
def test_axe_finds_nothing_serious(browser: Browser, page_file: Path, scheme: str, width: int, whole: bool) -> None:  # noqa: FBT001
    """Nor is there a word in the console, a request, or a page wider than its window."""
    with visiting(browser, page_file, scheme=scheme, width=width, whole=whole) as visit:
        visit.lay_out()
        assert visit.overflow() == 0
        assert visit.serious() == []
        assert visit.console == []
        assert visit.beyond_itself == []


def test_faults_would_be_found(visit: Visit) -> None:
    """The checks above can fail: a nameless button, faint text, a wide line, a script and a request are all noticed."""
    visit.lay_out()
    visit.page.evaluate(
        """() => {
          const main = document.querySelector("main");
          main.replaceChildren(document.createElement("button"));
          const faint = main.appendChild(document.createElement("p"));
          faint.textContent = "faint".repeat(400);
          faint.style.setProperty("color", "#aaaaaa");
          faint.style.setProperty("white-space", "nowrap");
          faint.style.setProperty("overflow-wrap", "normal");
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.body.appendChild(script);
          const picture = document.createElement("img");
          picture.alt = "";
          picture.src = "http://127.0.0.1:9/pixel.png";
          document.body.appendChild(picture);
        }"""
    )
    found = {line.partition(":")[0] for line in visit.serious()}
    assert {"critical button-name", "serious color-contrast"} <= found
    assert visit.overflow() > 0
    assert visit.page.evaluate("window.ran") is None
    said = " ".join(visit.console)
    assert "script-src" in said
    assert "pixel.png" in said


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_in_charts_stands_out(browser: Browser, page_file: Path, scheme: str) -> None:
    """From the page and from the cells of a matrix, which axe-core cannot tell of drawings."""
    with visiting(browser, page_file, scheme=scheme) as visit:
        visit.lay_out()
        pairs = {tuple(pair) for pair in visit.page.evaluate(_CHART_INKS)}
    assert len({below for _, below in pairs}) > 2
    assert [(ink, below) for ink, below in pairs if _contrast(ink, below) < LEAST_CONTRAST] == []


def test_the_keyboard_reaches_all_in_order_and_is_seen(visit: Visit) -> None:
    """The skip link comes first and leads past the contents; each stop follows the one before and has an outline."""
    page = visit.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate(_FOCUSED)["seen"]
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")
    page.evaluate("document.activeElement.blur()")
    page.reload()
    stops = []
    for _ in range(STOPS):
        page.keyboard.press("Tab")
        stops.append(page.evaluate(_FOCUSED))
    places = [stop["place"] for stop in stops]
    assert places == sorted(set(places))
    assert all(stop["outlined"] and stop["seen"] for stop in stops), [s for s in stops if not s["outlined"]]
    assert {"contents", "summary"} <= {stop["section"] or "contents" for stop in stops}


def test_only_boxes_that_scroll_are_stops_of_their_own(browser: Browser, page_file: Path) -> None:
    """A wide window leaves none of the tables that fit; a narrow one must let the keyboard scroll them."""
    stops = {}
    for width in (WIDE, NARROW):
        with visiting(browser, page_file, width=width) as visit:
            visit.lay_out()
            visit.page.wait_for_function("document.querySelectorAll('.table-wrap[tabindex=\"-1\"]').length > 0")
            stops[width] = visit.page.evaluate(
                """() => Array.from(document.querySelectorAll(".table-wrap, .chart-wrap")).map(
                  box => [box.tabIndex, box.scrollWidth > box.clientWidth])"""
            )
    for boxes in stops.values():
        assert all((stop == 0) == scrolls for stop, scrolls in boxes)
    assert sum(scrolls for _, scrolls in stops[WIDE]) < sum(scrolls for _, scrolls in stops[NARROW])


def test_a_table_is_sorted_by_the_keyboard_and_says_so(visit: Visit) -> None:
    """The column tells its order to a screen reader, and the status line tells the change."""
    header = visit.page.locator(f"{TABLE} thead th").first
    header.locator("button").focus()
    seen = []
    for word in ("descending", "ascending"):
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_function(
            "([table, word]) => document.querySelector(table + ' thead th').getAttribute('aria-sort') === word",
            arg=[TABLE, word],
        )
        assert word in visit.page.locator("[role=status]").inner_text()
        seen.append([int(cell) for cell in visit.page.locator(TABLE).evaluate(_BODIES.format(0))])
    assert len(seen[0]) > 1
    assert seen[0] == sorted(seen[0], reverse=True)
    assert seen[1] == sorted(seen[1])


def test_a_filter_hides_rows_and_counts_them_aloud(visit: Visit) -> None:
    """What is left holds the text that was asked for; the count stands in a live region."""
    box = visit.page.locator("#filter-text")
    output = visit.page.locator("#filter-count")
    assert output.get_attribute("aria-live") == "polite"
    box.focus()
    visit.page.keyboard.type("dosing_error/topic")
    visit.page.wait_for_function("document.querySelectorAll('table[data-sortable] tbody[hidden]').length > 0")
    left = visit.page.evaluate(
        """() => Array.from(document.querySelectorAll("table[data-sortable] tbody")).filter(body => !body.hidden)
          .map(body => body.textContent)"""
    )
    assert left
    assert all("dosing_error/topic" in text for text in left)
    assert output.inner_text().startswith(f"{len(left)} of ")
    box.fill("")
    visit.page.locator("#filter-rung").select_option("confirmed")
    visit.page.wait_for_function("document.querySelectorAll('tbody[data-group=observed]:not([hidden])').length === 0")
    assert visit.page.locator("tbody[data-group=confirmed]:not([hidden])").count() > 0


def test_activations_can_be_read_without_a_mouse(visit: Visit) -> None:
    """Every token that a pointer can ask stands in a list that the keyboard, a finger and a screen reader open."""
    visit.lay_out()
    contexts = visit.page.locator(".context:has(.token)")
    assert contexts.count() > 0
    for place in range(contexts.count()):
        context = contexts.nth(place)
        titles = context.locator(".token").evaluate_all("tokens => tokens.map(token => token.title)")
        lines = context.locator(".activations li").all_text_contents()
        assert all(line.endswith(title) for line, title in zip(lines, titles, strict=True))
    first = contexts.first
    assert not first.locator("li").first.is_visible()
    first.locator("summary").focus()
    visit.page.keyboard.press("Enter")
    assert first.locator("li").first.is_visible()


def test_marks_keep_their_shapes_in_the_systems_own_colours(visit: Visit) -> None:
    """A filled mark is filled where a system paints with colours of its own, and takes the colour of the text."""
    visit.lay_out()
    visit.page.emulate_media(forced_colors="active")
    fills = visit.page.evaluate(
        """() => ["confirmed", "observed"].map(rung => getComputedStyle(
          document.querySelector(`.mark-rung-${rung}`), "::before").backgroundColor)"""
    )
    text = visit.page.evaluate("getComputedStyle(document.querySelector('.mark-rung-confirmed')).color")
    assert fills == [text, "rgba(0, 0, 0, 0)"]


def test_paper_made_by_the_browser_holds_the_whole_page(visit: Visit) -> None:
    """Nothing scrolls or is left unlaid, paper is white in either theme, and what only a screen needs is gone."""
    visit.page.emulate_media(media="print", color_scheme="dark")
    assert visit.page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    styles = visit.page.evaluate(
        """() => Array.from(document.querySelectorAll(".table-wrap, .chart-wrap, .card, .concept")).map(box => {
          const style = getComputedStyle(box);
          return [style.overflowX, style.contentVisibility];
        })"""
    )
    assert {tuple(style) for style in styles} == {("visible", "visible")}
    assert not visit.page.locator(".side").is_visible()
    assert not visit.page.locator("#feature-filter").is_visible()


def _contrast(first: str, second: str) -> float:
    """Return the contrast of two `rgb(...)` colours by WCAG 2.2."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
