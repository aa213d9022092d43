"""The chapters on frameworks and on method: on paper and on the page, short, and true of the record."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO

import pikepdf
import pytest

from audit.frameworks.clauses import Basis, Part
from audit.frameworks.files import shipped_frameworks
from audit.records import Contrast, Findings, Rung
from reports.frameworks import BASES, HEADING, NO_EVIDENCE, NOTHING, PARTS, frameworks_view
from reports.html import render_html
from reports.instruments import instruments_of
from reports.method import method_view
from reports.pdf import render_pdf
from reports.view import Chapter, ReportView, Table
from tests.reports.fixtures.audits import make_run
from tests.reports.test_view import texts

ViewOf = Callable[[Findings], ReportView]


@pytest.fixture(scope="module")
def unconfirmed(findings: Findings) -> Findings:
    """The record with nothing above `associated`."""
    concepts = tuple(
        replace(
            concept,
            contrasts=tuple(
                replace(result, findings=tuple(replace(one, rung=Rung.ASSOCIATED) for one in result.findings))
                for result in concept.contrasts
            ),
        )
        for concept in findings.concepts
    )
    return replace(findings, concepts=concepts, mixes=(), causal=None)


def tables(chapter: Chapter) -> dict[str, Table]:
    """Return the tables of a chapter by id."""
    return {table.id: table for passage in chapter.passages for table in passage.tables}


def test_every_word_of_a_selector_has_a_name() -> None:
    """No part, basis or kind is printed bare."""
    assert set(PARTS) == set(Part)
    assert set(BASES) == set(Basis)
    assert len({text for text, _ in PARTS.values()}) == len(Part)


def test_each_framework_has_a_table_with_every_clause(view: ReportView) -> None:
    """Number, what it asks, what may be cited and what not stand in one row, on paper too."""
    found = tables(view.frameworks)
    for framework in shipped_frameworks():
        table = found[f"framework-{framework.id.replace('_', '-')}-table"]
        assert table.printed == table.rows
        assert [row.cells[0].text for row in table.rows] == [clause.number for clause in framework.clauses]
        assert [row.cells[3].text for row in table.rows] == [clause.does_not_cover for clause in framework.clauses]
        assert framework.edition in table.caption
        assert f"last checked on {framework.checked.day} " in table.note


def test_numbers_are_those_of_the_findings(view: ReportView, findings: Findings) -> None:
    """What may be cited is counted by domain and question."""
    counted = {
        (domain, contrast): sum(
            one.rung in (Rung.CONFIRMED, Rung.CAUSAL)
            for concept in findings.concepts
            for result in concept.contrasts
            for one in result.findings
            if concept.domain == domain and result.contrast is contrast
        )
        for domain in ("healthcare", "finance", "defense")
        for contrast in Contrast
    }
    rows = tables(view.frameworks)["citable"].rows
    assert {
        (row.cells[0].text.lower(), contrast): int(row.cells[place].text)
        for row in rows
        for place, contrast in enumerate(Contrast, start=1)
    } == counted
    everything = "\n".join(texts(view.frameworks))
    topic, distinction = (sum(n for (_, c), n in counted.items() if c is contrast) for contrast in Contrast)
    assert f"findings: {topic} on the topic, {distinction} on the distinction" in everything


def test_nothing_confirmed_reads_no_evidence(unconfirmed: Findings, view_of: ViewOf) -> None:
    """Each clause that asks for findings says so, and links to nothing."""
    chapter = view_of(unconfirmed).frameworks
    asking = sum(bool(clause.findings) for framework in shipped_frameworks() for clause in framework.clauses)
    cells = [row.cells[2] for name, table in tables(chapter).items() if name != "citable" for row in table.rows]
    silent = [cell for cell in cells if cell.text == NO_EVIDENCE]
    assert len(silent) == asking
    assert not any(cell.links for cell in silent)
    assert all(cell.links for cell in cells if cell.text != NO_EVIDENCE)
    assert {row.cells[4].text for row in tables(chapter)["citable"].rows} == {"none"}


def test_what_was_left_out_is_named(findings: Findings, view_of: ViewOf) -> None:
    """An audit of finance alone says that texts of other domains were left out."""
    finance = tuple(concept for concept in findings.concepts if concept.domain == "finance")
    chapter = view_of(replace(findings, concepts=finance, mixes=(), causal=None, cards=())).frameworks
    assert "DoD Directive 3000.09, autonomy in weapon systems (defense)" in " ".join(chapter.lead)
    assert "framework-hipaa-table" not in tables(chapter)
    assert "framework-us-model-risk-table" in tables(chapter)


def test_an_empty_audit_is_cited_nowhere(findings: Findings, view_of: ViewOf) -> None:
    """The chapter says so at its head."""
    chapter = view_of(replace(findings, concepts=(), mixes=(), causal=None, cards=(), suites=())).frameworks
    assert chapter.missing == NOTHING
    assert {row.cells[2].text for table in tables(chapter).values() for row in table.rows} == {NO_EVIDENCE}


@pytest.mark.parametrize("which", ["every case", "one instrument", "nothing confirmed", "empty"])
def test_links_lead_somewhere(
    which: str, findings: Findings, lone_findings: Findings, unconfirmed: Findings, view_of: ViewOf
) -> None:
    """In HTML each fragment of the two chapters is the id of something."""
    record = {
        "every case": findings,
        "one instrument": lone_findings,
        "nothing confirmed": unconfirmed,
        "empty": replace(findings, concepts=(), mixes=(), causal=None, cards=(), suites=()),
    }[which]
    page = render_html(view_of(record), findings_json=b"{}").decode()
    ids = set(re.findall(r'\sid="([^"]+)"', page))
    start = page.index('<section class="chapter" id="frameworks"')
    hrefs = re.findall(r'href="#([^"]+)"', page[start : page.index('<section class="chapter" id="reproducibility"')])
    assert set(hrefs) <= ids
    assert bool(hrefs) is (which != "empty")
    assert {"frameworks", "method"} <= ids
    assert 'href="#frameworks"' in page
    assert 'href="#method"' in page


def test_on_paper_the_chapters_are_short_and_their_links_work(view: ReportView, findings_json: bytes) -> None:
    """At most three pages of frameworks and two of method, and every link of the contents has a destination."""
    pdf = render_pdf(
        view,
        attachments={"findings.json": findings_json, "manifest.json": b"{}"},
        created_at=datetime(2026, 11, 23, tzinfo=UTC),
    )
    with pikepdf.open(BytesIO(pdf)) as document:
        pages = {page.objgen: number for number, page in enumerate(document.pages)}
        names = list(document.Root.Names.Dests.Names)
        places = {str(name): pages[place[0].objgen] for name, place in zip(names[::2], names[1::2], strict=True)}
        wanted = {
            str(note.A.D if "/A" in note else note.Dest)
            for page in document.pages
            for note in page.get("/Annots", [])
            if "/A" not in note or "/D" in note.A
        }
        with document.open_outline() as outline:
            titles = [item.title for item in outline.root]
    assert wanted <= set(places)
    assert places["method"] - places["frameworks"] <= 3
    assert places["reproducibility"] - places["method"] <= 2
    assert titles.index(HEADING) == titles.index("Limitations") + 1
    assert titles.index("Method") == titles.index(HEADING) + 1


def test_the_method_prints_the_limits_of_this_run(findings: Findings) -> None:
    """A run with other limits is described with these."""
    run = make_run(findings)
    usual = " ".join(texts(method_view(run)))
    config = run.config | {
        "analysis": {"fdr_q": 0.01, "alpha": 0.02, "permutations": 333, "separation_auroc": 0.8},
        "capture": {"outlier_norm_factor": 7.0},
        "fidelity": {"green_fvu": 0.11, "amber_delta_ce": 0.37, "concept_fvu_ratio": 1.8},
        "causal": {"shams": 499},
    }
    changed = " ".join(texts(method_view(replace(run, config=config))))
    for told in (
        "Benjamini-Hochberg (1995) at 0.01",
        "Holm's correction (1979) at 0.02",
        "333 times",
        "AUROC at least 0.8",
        "exceeds 7 times the median",
        "FVU up to 0.11",
        "up to 0.37 nats",
        "exceeds 1.8 times",
        "at least 499 of them",
    ):
        assert told in changed
        assert told not in usual
    assert "Benjamini-Hochberg (1995) at 0.05" in usual


def test_what_the_method_cites_is_among_its_sources(findings: Findings) -> None:
    """Every name with a year in the text has the same year in the list."""
    *passages, sources = method_view(make_run(findings)).passages
    text = " ".join(paragraph for passage in passages for paragraph in passage.paragraphs)
    cited = re.findall(
        r"([A-Z][a-z]+)(?: et al\.|'s correction|-[A-Z][a-z]+| dividend)?(?: and [A-Z][a-z]+)? \(?(\d{4})", text
    )
    assert len(cited) > 15
    for name, year in cited:
        assert re.search(rf"{name}\b[^.]*{year}|{name} et al\. {year}", sources.paragraphs[0]), (name, year)


def test_kinds_of_evidence_are_printed(view: ReportView) -> None:
    """Interventions and mixes that may be cited are counted beside the findings on single features."""
    text = " ".join(texts(view.frameworks))
    assert "causal effects: 3" in text
    assert "findings in mixes: 13" in text


def test_another_wording_has_another_digest(findings: Findings) -> None:
    """A reader can tell which paraphrases a report printed; the findings beneath them stay the same."""
    shipped = shipped_frameworks()
    reworded = (replace(shipped[0], scope="Other words.", digest="sha256:" + "0" * 64), *shipped[1:])
    instruments = instruments_of(findings)
    usual, changed = (frameworks_view(findings, files, instruments) for files in (shipped, reworded))
    (before,), (after,) = usual.passages[0].tables, changed.passages[0].tables
    assert before.rows == after.rows
    assert before.note[-64:] != after.note[-64:]
