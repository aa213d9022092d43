"""Hostile and unusual text in every place that a user supplies is printed as text, and pushes no page out of shape."""

from __future__ import annotations

import html
import io
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from playwright.sync_api import Browser

from audit.config import TITLE_MOST
from audit.records import Findings, as_json
from reports.context import build_view
from reports.html import render_html
from reports.pdf import render_pdf
from reports.view import ReportView
from tests.reports.browsing import NARROW, WIDE, chromium, visiting
from tests.reports.fixtures.audits import make_findings, make_run
from tests.reports.fixtures.basics import HOSTILE
from tests.reports.fixtures.strange import (
    KINDS,
    LONG_TOKEN,
    STYLE,
    TEMPLATE,
    UNBROKEN,
    with_long_token,
    with_texts,
)

CREATED = datetime(2026, 11, 22, 8, 5, tzinfo=UTC)
POINTS_PER_MM = 72 / 25.4
SIDE_MARGIN_MM = 19
SAE_PREFIX = 60
SIZES = {"A4": (595.28, 841.89), "Letter": (612.0, 792.0)}
HEADINGS = {f"/H{level}" for level in range(1, 7)}
HIDING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u200b\ufeff")
_WORD = re.compile(r'<word xMin="([\d.-]+)" yMin="([\d.-]+)" xMax="([\d.-]+)" yMax="([\d.-]+)">(.*?)</word>')
_PAGE = re.compile(r'<page width="([\d.]+)" height="([\d.]+)">(.*?)</page>', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Printed:
    """A report on paper.

    Args:
        size: the paper that was asked for.
        raw: the file.
        boxes: `pdftotext -bbox` of it, which says where each word stands.
    """

    size: str
    raw: bytes
    boxes: str

    @property
    def words(self) -> Iterator[tuple[float, float, float, float, str]]:
        """Yield (left, top, right, bottom, text) of each word, in points."""
        for match in _WORD.finditer(self.boxes):
            left, top, right, bottom = (float(match[n]) for n in range(1, 5))
            yield left, top, right, bottom, match[5]


def strange_view(first: int, *, page_size: str = "A4") -> tuple[ReportView, Findings]:
    """Return the view of a small record with strange text in every place, and the record."""
    whole = make_findings()
    few = replace(whole, concepts=whole.concepts[:1], suites=whole.suites[:1], mixes=whole.mixes[:1])
    findings = with_long_token(with_texts(few, first=first, sae=f"{KINDS[first][:SAE_PREFIX]} "))
    run = with_texts(make_run(findings), first=first, sae="")
    title = KINDS[(first + 1) % len(KINDS)][:TITLE_MOST]
    config = {**run.config, "probes": {"suites": list(KINDS)}, "report": {"title": title, "page_size": page_size}}
    run = replace(run, config=config, environment={kind: kind for kind in KINDS})
    return build_view(findings, run), findings


def as_html(view: ReportView, findings: Findings) -> bytes:
    """Return the page."""
    return render_html(view, findings_json=json.dumps(as_json(findings)).encode())


@pytest.fixture(
    scope="module",
    params=[(0, "A4"), (1, "Letter")],
    ids=["A4", "Letter"],
)
def printed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Printed:
    """Return a strange report on paper."""
    first, size = request.param
    view, _ = strange_view(first, page_size=size)
    raw = render_pdf(view, attachments={}, created_at=CREATED)
    path = tmp_path_factory.mktemp("strange") / "report.pdf"
    path.write_bytes(raw)
    told = subprocess.run(["pdftotext", "-bbox", str(path), "-"], check=True, capture_output=True)
    return Printed(size, raw, told.stdout.decode())


def test_no_word_leaves_the_text_area(printed: Printed) -> None:
    """Every page has the size that was asked for, and no table, chart or line runs over its margins."""
    width, height = SIZES[printed.size]
    pages = _PAGE.findall(printed.boxes)
    assert {(round(float(w)), round(float(h))) for w, h, _ in pages} == {(round(width), round(height))}
    assert len(list(printed.words)) > 1000
    assert outside_text_area(printed) == []


def outside_text_area(printed: Printed) -> list[tuple[float, float, float, float, str]]:
    """Return the words that run over a side margin or off the page."""
    width, height = SIZES[printed.size]
    margin = SIDE_MARGIN_MM * POINTS_PER_MM
    return [
        word
        for word in printed.words
        if word[0] < margin - 1 or word[2] > width - margin + 1 or word[1] < 0 or word[3] > height
    ]


def test_no_heading_and_no_caption_ends_a_page(printed: Printed) -> None:
    """What a heading is about begins on the heading's page."""
    with pikepdf.open(io.BytesIO(printed.raw)) as pdf:
        pages = {page.objgen: number for number, page in enumerate(pdf.pages, start=1)}
        read = list(in_order(pdf.Root.StructTreeRoot, pages))
    headings = [place for place, (role, _) in enumerate(read) if role in HEADINGS | {"/Caption"}]
    assert len(headings) > 50
    alone = [read[place] for place in headings[:-1] if read[place + 1][1] != read[place][1]]
    assert alone == []


def test_hidden_characters_are_spelt_out_on_paper(printed: Printed) -> None:
    """Neither an override nor a control character reaches the text of the PDF."""
    text = "".join(word[4] for word in printed.words)
    assert not HIDING & set(text)
    assert not [char for char in text if ord(char) < 32 or ord(char) == 127]


def test_strange_text_is_printed_as_it_is(printed: Printed) -> None:
    """Markup, template syntax and style are text on paper; a writing without a font stands as its code points."""
    pressed = re.sub(r"\s", "", html.unescape("".join(word[4] for word in printed.words)))
    for kind in (HOSTILE, TEMPLATE, STYLE, UNBROKEN, LONG_TOKEN):
        assert re.sub(r"\s", "", kind) in pressed
    for char in ("\u202e", "\u062c", "\u85ac", "\N{PILL}"):
        assert char not in pressed
        assert f"U+{ord(char):04X}" in pressed


@pytest.mark.parametrize("config", [{}, {"report": {"page_size": "A5"}}, {"report": {"page_size": "A4; } * {"}}])
def test_a_paper_that_is_not_known_is_a4(config: dict[str, Any]) -> None:
    """An older run names none; what a manifest says never reaches the style."""
    findings = make_findings()
    assert build_view(findings, replace(make_run(findings), config=config)).page_size == "A4"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a running Chromium."""
    with chromium() as started:
        yield started


@pytest.mark.parametrize(("width", "first"), [(WIDE, 2), (NARROW, 0), (NARROW, 1)])
def test_strange_text_is_inert_and_fits_the_window(browser: Browser, tmp_path: Path, width: int, first: int) -> None:
    """Nothing runs, loads or restyles; the page is no wider than its window, and the longest token is whole."""
    view, findings = strange_view(first)
    path = tmp_path / "report.html"
    path.write_bytes(as_html(view, findings))
    with visiting(browser, path, width=width, whole=True) as visit:
        visit.lay_out()
        page = visit.page
        assert visit.overflow() == 0
        assert visit.console == []
        assert visit.beyond_itself == []
        assert page.locator("img").count() == 0
        assert page.locator("style").count() == 1
        assert page.locator("body").is_visible()
        ids = Counter(page.evaluate("Array.from(document.querySelectorAll('[id]')).map(element => element.id)"))
        assert ids.most_common(1)[0][1] == 1
        said = page.evaluate("document.body.textContent")
        assert not HIDING & set(said)
        for text in (HOSTILE, TEMPLATE, STYLE, UNBROKEN, LONG_TOKEN):
            assert text in said


def in_order(parent: Any, pages: dict[tuple[int, int], int]) -> Iterator[tuple[str, int]]:
    """Yield (role, page) of every structure element that holds marked content, in reading order."""
    for kid in _kids(parent):
        if isinstance(kid, pikepdf.Dictionary) and "/S" in kid:
            if any(not isinstance(child, pikepdf.Dictionary) for child in _kids(kid)) and "/Pg" in kid:
                yield _role(kid), pages[kid.Pg.objgen]
            yield from in_order(kid, pages)


def _role(element: Any) -> str:
    """Return the role of an element, or of the heading or caption that it stands in."""
    role = str(element.S)
    parent = element.get("/P")
    while role not in HEADINGS | {"/Caption"} and isinstance(parent, pikepdf.Dictionary) and "/S" in parent:
        if str(parent.S) in HEADINGS | {"/Caption"}:
            return str(parent.S)
        parent = parent.get("/P")
    return role


def _kids(element: Any) -> list[Any]:
    kids = element.get("/K")
    return [] if kids is None else list(kids) if isinstance(kids, pikepdf.Array) else [kids]
