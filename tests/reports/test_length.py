"""A report on many concepts prints their answers and keeps every table in the HTML."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pikepdf
import pytest

from audit.packing import unpack
from audit.records import BaselineKind, Findings
from reports.cards import PRINTED_CARDS_OF_MANY, SHOWN_CARDS_OF_MANY
from reports.contrasts import SHOWN_FEATURES
from reports.html import render_html
from reports.length import DETAILED_BLOCKS, UNFOLDED_BLOCKS, is_folded, is_long, printed_lead
from reports.pdf import render_pdf
from reports.view import ReportView
from tests.test_browser import open_page

CONCEPTS = 24
ViewOf = Callable[[Findings], ReportView]


@pytest.fixture(scope="module")
def many(findings: Findings) -> Findings:
    """Return findings about as many concepts as the shipped suites have."""
    concepts = tuple(
        replace(
            concept,
            id=f"{concept.id}_{number}",
            title=f"{concept.title} {number}",
            contrasts=tuple(
                replace(c, findings=tuple(replace(f, concept=f"{concept.id}_{number}") for f in c.findings))
                for c in concept.contrasts
            ),
        )
        for number in range(CONCEPTS // len(findings.concepts))
        for concept in findings.concepts
    )
    return replace(findings, concepts=concepts, cards=findings.cards[:1] * 30)


@pytest.fixture(scope="module")
def long_view(many: Findings, view_of: ViewOf) -> ReportView:
    """Return what is printed of them."""
    return view_of(many)


def test_few_concepts_are_printed_in_full(findings: Findings, many: Findings, view: ReportView) -> None:
    """Concepts times questions times instruments decide, and what is left out is said."""
    assert not is_long(findings.concepts)
    assert is_folded(many.concepts)
    assert not is_folded(many.concepts[:6])
    assert view.printed_lead == printed_lead(findings.concepts) == ""
    assert sum(len(concept.contrasts) for concept in many.concepts) > DETAILED_BLOCKS
    assert "24 concepts has one table of answers" in printed_lead(many.concepts)


def test_a_digest_has_the_numbers_of_the_blocks(many: Findings, long_view: ReportView) -> None:
    """A row a question and instrument, and every feature that stands, none else."""
    for concept, shown in zip(many.concepts, (c for d in long_view.domains for c in d.concepts), strict=False):
        own = next(one for one in many.concepts if one.title == shown.title)
        assert len(shown.digest.rows) == len(own.contrasts)
        standing = [f for c in own.contrasts for f in c.findings if f.rung.value not in {"associated", "observed"}]
        assert sorted(row.cells[0].text for row in shown.standing.rows) == sorted(str(f.latent) for f in standing)
        assert concept.id


def test_a_baseline_that_was_not_measured_is_said(findings: Findings, view_of: ViewOf) -> None:
    """A site without neurons has no best neuron; the row stands all the same."""
    (concept, *_) = findings.concepts
    without = replace(
        concept,
        contrasts=tuple(
            replace(c, baselines=tuple(b for b in c.baselines if b.kind is not BaselineKind.NEURON))
            for c in concept.contrasts
        ),
    )
    shown = view_of(replace(findings, concepts=(without,))).domains[0].concepts[0]
    assert {row.cells[4].text for row in shown.digest.rows} == {"not measured"}
    assert {row.cells[5].text for row in shown.digest.rows} != {"not measured"}


def test_paper_says_what_it_leaves_to_the_page(long_view: ReportView) -> None:
    """Tables of hundreds of rows are named with their number; fewer cards are printed."""
    assert long_view.controls.saes.rows
    assert long_view.controls.saes.printed == ()
    assert str(len(long_view.controls.saes.rows)) in long_view.controls.saes.cut
    assert long_view.summary.chart_table.printed == ()
    assert len(long_view.cards.printed) == PRINTED_CARDS_OF_MANY
    assert all(not row.note for row in long_view.fidelity.parts[0].table.printed[1:])


def test_the_pdf_of_many_concepts_can_be_read(long_view: ReportView, findings_json: bytes) -> None:
    """In full they would take more than 200 pages."""
    pdf = render_pdf(
        long_view,
        attachments={"findings.json": findings_json, "manifest.json": b"{}"},
        created_at=datetime(2026, 11, 22, tzinfo=UTC),
    )
    with pikepdf.open(BytesIO(pdf)) as document:
        assert 15 < len(document.pages) <= 60


@pytest.fixture(scope="module")
def long_page(long_view: ReportView, findings_json: bytes) -> str:
    """Return its page."""
    return render_html(long_view, findings_json=findings_json).decode()


def parts_of(page: str) -> dict[str, tuple[list[str], str]]:
    """Return each packed part of a page: the places that its index names, and its markup."""
    found = re.findall(r'<script type="[^"]+" data-part="([^"]+)" data-ids="([^"]*)">([^<]*)</script>', page)
    return {name: (ids.split(), unpack(packed).decode()) for name, ids, packed in found}


def test_the_page_packs_what_it_does_not_show(long_view: ReportView, long_page: str) -> None:
    """Of a table the first rows stand in its part, the others are packed again, escaped like the first."""
    (place, table) = next(
        (f"measured-{concept.id}", block.features)
        for domain in long_view.domains
        for concept in domain.concepts
        for contrast in concept.contrasts
        for block in contrast.blocks
        if len(block.features.rows) > SHOWN_FEATURES
    )
    part = parts_of(long_page)[place][1]
    packed = re.search(rf'<script type="[^"]+" data-rows="{re.escape(table.id)}">([^<]*)</script>', part)
    assert packed is not None
    rest = unpack(packed[1]).decode()
    assert rest.count("<tbody") == len(table.rows) - SHOWN_FEATURES
    shown = part[part.index(f'<table id="{table.id}"') : part.index(f'data-more="{table.id}"')]
    assert shown.count("<tbody") == SHOWN_FEATURES
    assert f"{len(table.rows) - SHOWN_FEATURES} more rows are packed into this page" in part


def test_each_part_holds_what_the_page_leaves_out(long_view: ReportView, long_page: str) -> None:
    """Every chart, contrast, baseline table and card is in the page or in one part, and in none twice."""
    parts = parts_of(long_page)
    concepts = [concept for domain in long_view.domains for concept in domain.concepts]
    assert {f"measured-{concept.id}" for concept in concepts} | {"cards-rest"} == set(parts)
    for concept in concepts:
        ids, markup = parts[f"measured-{concept.id}"]
        assert f'id="{concept.digest.id}"' in long_page
        for chart in concept.charts:
            assert str(chart.svg) in markup
            assert chart.id in ids
            assert f'id="{chart.id}"' not in long_page
        for contrast in concept.contrasts:
            for place in (contrast.id, *(b.id for b in contrast.blocks), *(b.baselines.id for b in contrast.blocks)):
                assert markup.count(f'id="{place}"') == 1
                assert place in ids
                assert f'id="{place}"' not in long_page
    assert long_page.count('<article class="card"') == len(long_view.cards.first) == SHOWN_CARDS_OF_MANY
    assert parts["cards-rest"][1].count('<article class="card"') == len(long_view.cards.rest) > 0


def test_an_index_names_every_place_in_its_part_and_nothing_else(long_page: str) -> None:
    """A link into a packed part is found by its index; a name that led nowhere would open a part for nothing."""
    for ids, markup in parts_of(long_page).values():
        assert ids
        assert all(f'id="{place}"' in markup for place in ids)
        linked = set(re.findall(r'<(?:div|section|article|table|h\d)[^>]* id="([^"]+)"', markup))
        assert linked <= set(ids)


def test_every_link_of_a_long_page_leads_somewhere(long_page: str) -> None:
    """Into the page itself, or into a part whose index names the place."""
    parts = parts_of(long_page)
    markup = [long_page, *(part for _, part in parts.values())]
    markup += [unpack(rows).decode() for text in markup for rows in re.findall(r'data-rows="[^"]+">([^<]*)<', text)]
    reachable = {place for text in markup[: 1 + len(parts)] for place in re.findall(r' id="([^"]+)"', text)}
    links = {link for text in markup for link in re.findall(r'<a href="#([^"]*)"', text)}
    assert links
    assert links <= reachable


def test_hostile_text_in_a_part_is_inert(many: Findings, findings_json: bytes, view_of: ViewOf) -> None:
    """What is unpacked becomes markup of the page, so that a title in it has to be escaped like any other."""
    hostile = "</script><img src=x onerror=alert(1)><!--"
    changed = replace(many, concepts=(replace(many.concepts[0], title=hostile), *many.concepts[1:]))
    page = render_html(view_of(changed), findings_json=findings_json).decode()
    for _, markup in parts_of(page).values():
        assert "<img" not in markup
        assert "<!--" not in markup
        for rows in re.findall(r'data-rows="[^"]+">([^<]*)<', markup):
            assert "<img" not in unpack(rows).decode()
    assert any("&lt;img src=x" in markup for _, markup in parts_of(page).values())


def test_two_renders_of_a_long_page_are_the_same(long_view: ReportView, long_page: str, findings_json: bytes) -> None:
    """Packing has no clock in it."""
    assert render_html(long_view, findings_json=findings_json).decode() == long_page


def test_a_page_on_few_concepts_packs_no_part(many: Findings, findings_json: bytes, view_of: ViewOf) -> None:
    """Up to the limit a page shows all of them and every card, even where paper has the answers only."""
    few = tuple(many.concepts[:6])
    assert DETAILED_BLOCKS < sum(len(concept.contrasts) for concept in few) <= UNFOLDED_BLOCKS
    shown = view_of(replace(many, concepts=few))
    page = render_html(shown, findings_json=findings_json).decode()
    assert not parts_of(page)
    assert page.count('<article class="card"') == len(shown.cards.cards)
    assert all(f'id="{contrast.id}"' in page for d in shown.domains for c in d.concepts for contrast in c.contrasts)


def test_a_link_into_a_part_opens_it(long_view: ReportView, long_page: str, tmp_path: Path) -> None:
    """The browser unpacks the one part that a fragment leads into, and everything when it is asked to."""
    path = tmp_path / "report.html"
    path.write_text(long_page)
    concept = long_view.domains[0].concepts[0]
    contrast = concept.contrasts[0].id
    closed = open_page(path, tmp_path / "closed")
    assert f'id="{contrast}"' not in closed.dom
    assert closed.dom.count(">Show everything measured on this concept</button>") == len(parts_of(long_page)) - 1
    opened = open_page(path, tmp_path / "opened", fragment=f"#{contrast}")
    assert f'id="{contrast}"' in opened.dom
    assert opened.dom.count("<script type=") == closed.dom.count("<script type=") - 1 + nested(long_page, concept.id)
    whole = open_page(path, tmp_path / "whole", fragment="#all-rows")
    assert not re.search(r"<script[^>]* data-(part|rows)=", whole.dom)
    assert whole.dom.count('<article class="card"') == len(long_view.cards.cards)
    assert [*closed.console, *opened.console, *whole.console] == []


def nested(page: str, concept: str) -> int:
    """Return how many tables of a part have packed rows."""
    return parts_of(page)[f"measured-{concept}"][1].count("data-rows=")
