"""The view has words for every case and invents no number."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
from markupsafe import Markup

from audit.records import Colour, Contrast, Estimate, Findings, Lexical, OutcomeResult, Reading, Rung
from reports import numbers, queries, words
from reports.cards import PRINTED_CARDS
from reports.concepts import PRINTED_FEATURES, outcome_words
from reports.view import ReportView

FORBIDDEN = re.compile(r"\b(compliant|satisfies|satisfied|safe|safely|certified|guarantees?)\b", re.IGNORECASE)
QUERIES = Path(__file__).parents[2] / "audit" / "evidence" / "sql" / "queries"


def texts(value: object) -> list[str]:
    """Return every string of a view."""
    if isinstance(value, Markup):
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, tuple):
        return [text for item in value for text in texts(item)]
    if is_dataclass(value):
        return [text for field in fields(value) for text in texts(getattr(value, field.name))]
    return []


@pytest.mark.parametrize(
    ("enum", "table"),
    [
        (Reading, words.READINGS),
        (Rung, words.RUNGS),
        (Colour, words.COLOURS),
        (Colour, words.COLOUR_SHORT),
        (Lexical, words.LEXICAL),
        (Contrast, words.CONTRAST_NAMES),
        (Contrast, words.CONTRAST_MEANINGS),
        (Contrast, words.CONTRAST_QUESTIONS),
    ],
)
def test_every_case_has_words(enum: type, table: dict[object, object]) -> None:
    """No stored word is printed bare for want of an explanation."""
    assert set(table) == set(enum)


def test_every_reading_colour_and_rung_is_on_the_page(view: ReportView) -> None:
    """The fixture holds every case, and each reaches the reader."""
    everything = "\n".join(texts(view))
    for case in (*Reading, *Colour, *Rung):
        assert case.value in everything
    for reading in words.READINGS.values():
        assert reading.short in everything


def test_no_word_promises_what_a_measurement_cannot(view: ReportView) -> None:
    """The report never says that a model is compliant or safe."""
    assert [text for text in texts(view) if FORBIDDEN.search(text)] == []


def test_templates_promise_nothing_either() -> None:
    """The same holds for the fixed text of the templates."""
    folder = Path(__file__).parents[2] / "templates" / "report"
    for path in folder.rglob("*.j2"):
        assert FORBIDDEN.search(path.read_text(encoding="utf-8")) is None, path


def test_what_was_not_measured_says_so(view: ReportView) -> None:
    """None is printed as `not measured`, and never as a number."""
    row = next(row for row in view.fidelity.table.rows if row.cells[0].text == "Insider trading")
    assert [cell.text for cell in row.cells[5:9]] == ["not measured"] * 4
    control = next(row for row in view.controls.random.rows if row.cells[3].text == "0")
    assert [cell.text for cell in control.cells[6:]] == ["not measured"] * 2
    assert "None" not in "\n".join(texts(view))


def test_long_tables_say_what_they_leave_out(view: ReportView) -> None:
    """A printed table is cut visibly, and HTML keeps every row."""
    table = view.domains[0].concepts[0].contrasts[0].features
    assert len(table.rows) == 22
    assert len(table.printed) == PRINTED_FEATURES
    assert "other 7" in table.cut
    assert view.domains[1].concepts[0].contrasts[1].features.cut == ""


def test_many_cards_are_cut_visibly(findings: Findings, view_of: Callable[[Findings], ReportView]) -> None:
    """More cards than fit on paper are counted, not dropped."""
    changed = view_of(replace(findings, cards=findings.cards[:1] * (PRINTED_CARDS + 5)))
    assert len(changed.cards.cards) == PRINTED_CARDS + 5
    assert len(changed.cards.printed) == PRINTED_CARDS
    assert "other 5" in changed.cards.cut


def test_strongest_comes_first(view: ReportView) -> None:
    """Features are ordered by rung, then by the size of their effect."""
    rows = view.domains[0].concepts[0].contrasts[0].features.rows
    rungs = [int(row.cells[1].sort) for row in rows]
    assert rungs == sorted(rungs, reverse=True)
    best = [abs(float(row.cells[2].sort)) for row in rows if row.cells[1].sort == "3"]
    assert best == sorted(best, reverse=True)


def test_an_empty_audit_is_not_a_pass(findings: Findings, view_of: Callable[[Findings], ReportView]) -> None:
    """Without concepts there are sentences that say so, and no chart of nothing."""
    empty = view_of(replace(findings, concepts=(), cards=(), suites=(), ladder={}, not_tested=()))
    assert empty.summary.chart is None
    assert "not a pass" in " ".join(empty.summary.sentences)


def test_a_failed_control_is_on_the_cover(findings: Findings, view_of: Callable[[Findings], ReportView]) -> None:
    """A failed permutation control takes every finding with it, on page one too."""
    control = replace(findings.permutation_control, passed=False, rate=0.4, with_any_finding=80)
    changed = view_of(replace(findings, permutation_control=control))
    assert any("FAILED" in line for line in changed.cover.gist)
    assert changed.controls.permutation_mark.text == "failed"


OUTCOME = OutcomeResult(
    question="?",
    target="Yes",
    foil="No",
    concept_mean=0.4,
    control_mean=-0.2,
    difference=Estimate(0.6, 0.1, 1.1),
    auroc=Estimate(0.7, 0.6, 0.8),
    p_value=0.01,
    p_holm=0.03,
    n_scenarios=24,
)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (None, "Not measured"),
        (OUTCOME, "Leans more towards “Yes” in the sensitive case than in its twin (on average “Yes” against “No”)."),
        (replace(OUTCOME, difference=Estimate(-0.6, -1.1, -0.1)), "the opposite of what is expected"),
        (replace(OUTCOME, difference=Estimate(0.6, -0.1, 1.1)), "No clear change"),
        (replace(OUTCOME, p_holm=0.2), "No clear change"),
        (replace(OUTCOME, control_mean=0.1), "on average “Yes” in both"),
        (replace(OUTCOME, difference=Estimate(0.6, None, None)), "Not measured"),
    ],
)
def test_outcome_in_words(outcome: OutcomeResult | None, expected: str) -> None:
    """Each way that an answer can move has its words."""
    assert expected in outcome_words(outcome)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.2124, "0.212"), (0.0043, "0.0043"), (1.0, "1.000"), (None, "not measured")],
)
def test_probabilities(value: float | None, expected: str) -> None:
    """A p-value keeps its leading digits."""
    assert numbers.probability(value) == expected


def test_a_small_probability_never_rounds_to_zero() -> None:
    """Below 0.001 the power of ten is printed."""
    assert re.sub(r"\s", " ", numbers.probability(4.1e-5)) == f"4.1 {numbers.TIMES} 10⁻⁵"


def test_signs_are_true_minus() -> None:
    """A minus is U+2212, and zero has no sign."""
    assert numbers.signed(-0.5) == f"{numbers.MINUS}0.50"
    assert numbers.signed(0.5) == "+0.50"
    assert numbers.signed(-0.001) == "0.00"


def test_shares_do_not_vanish() -> None:
    """A share that is not zero does not print as zero."""
    assert numbers.share(0.00002) == "< 0.1%"
    assert numbers.share(0.0) == "0.0%"


def test_hidden_characters_are_shown() -> None:
    """What could reorder or hide text is written as a code point."""
    assert "U+202E" in numbers.visible("a\u202eb")
    assert "\u200b" not in numbers.visible_token("x\u200b")
    assert numbers.visible_token("\n") == "\\n"


def test_named_queries_exist() -> None:
    """A query that the report names is a file of the evidence room."""
    named = {
        name.strip()
        for value in (queries.SCORES, queries.OUTCOMES, queries.FIDELITY, queries.EXCLUSIONS, queries.CARDS)
        for name in value.split(",")
    }
    assert {path.stem for path in QUERIES.glob("*.sql")} >= named
