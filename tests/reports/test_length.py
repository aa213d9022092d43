"""A report on many concepts prints their answers and keeps every table in the HTML."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO

import pikepdf
import pytest

from audit.packing import unpack
from audit.records import BaselineKind, Findings
from reports.cards import PRINTED_CARDS_OF_MANY
from reports.contrasts import SHOWN_FEATURES
from reports.html import render_html
from reports.length import DETAILED_BLOCKS, is_long, printed_lead
from reports.pdf import render_pdf
from reports.view import ReportView

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
        assert 15 < len(document.pages) <= 75


def test_the_page_packs_what_it_does_not_show(long_view: ReportView, findings_json: bytes) -> None:
    """The first rows stand in the page, the others are in it, escaped like the first."""
    page = render_html(long_view, findings_json=findings_json).decode()
    (table, rows) = next(
        (block.features, block.features.rows)
        for domain in long_view.domains
        for concept in domain.concepts
        for contrast in concept.contrasts
        for block in contrast.blocks
        if len(block.features.rows) > SHOWN_FEATURES
    )
    packed = re.search(rf'<script type="[^"]+" data-rows="{re.escape(table.id)}">([^<]*)</script>', page)
    assert packed is not None
    rest = unpack(packed[1]).decode()
    assert rest.count("<tbody") == len(rows) - SHOWN_FEATURES
    shown = page[page.index(f'<table id="{table.id}"') : page.index(f'data-more="{table.id}"')]
    assert shown.count("<tbody") == SHOWN_FEATURES
    assert f"{len(rows) - SHOWN_FEATURES} more rows are packed into this page" in page
