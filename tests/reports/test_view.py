"""The view has words for every case and invents no number."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
from markupsafe import Markup

from audit.errors import EvidenceError
from audit.records import Colour, Contrast, Estimate, Findings, Lexical, OutcomeResult, Reading, Rung
from reports import numbers, queries, words
from reports.cards import PRINTED_CARDS
from reports.concepts import outcome_words
from reports.contrasts import PRINTED_FEATURES
from reports.instruments import instruments_of, place_words
from reports.numbers import CLOSE, OPEN
from reports.view import ReportView, Table

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
    table = view.fidelity.parts[0].table
    row = next(row for row in table.rows if row.cells[0].text == "Insider trading")
    assert [cell.text for cell in row.cells[5:9]] == ["not measured"] * 4
    columns = [column.label for column in view.controls.saes.columns]
    control = next(row for row in view.controls.saes.rows if row.cells[columns.index("Selected")].text == "0")
    assert [cell.text for cell in control.cells[-2:]] == ["not measured"] * 2
    assert "None" not in "\n".join(texts(view))


def test_long_tables_say_what_they_leave_out(view: ReportView) -> None:
    """A printed table is cut visibly, and HTML keeps every row."""
    table = view.domains[0].concepts[0].contrasts[0].blocks[0].features
    assert len(table.rows) == 22
    assert len(table.printed) == PRINTED_FEATURES
    assert "other 7" in table.cut
    assert view.domains[1].concepts[0].contrasts[1].blocks[0].features.cut == ""


def test_many_cards_are_cut_visibly(findings: Findings, view_of: Callable[[Findings], ReportView]) -> None:
    """More cards than fit on paper are counted, not dropped."""
    changed = view_of(replace(findings, cards=findings.cards[:1] * (PRINTED_CARDS + 5)))
    assert len(changed.cards.cards) == PRINTED_CARDS + 5
    assert len(changed.cards.printed) == PRINTED_CARDS
    assert "other 5" in changed.cards.cut


def test_strongest_comes_first(view: ReportView) -> None:
    """Features are ordered by rung, then by the size of their effect."""
    rows = view.domains[0].concepts[0].contrasts[0].blocks[0].features.rows
    rungs = [int(row.cells[1].sort) for row in rows]
    assert rungs == sorted(rungs, reverse=True)
    best = [abs(float(row.cells[2].sort)) for row in rows if row.cells[1].sort == "3"]
    assert best == sorted(best, reverse=True)


def test_an_empty_audit_is_not_a_pass(findings: Findings, view_of: Callable[[Findings], ReportView]) -> None:
    """Without concepts there are sentences that say so, and no chart of nothing."""
    empty = view_of(replace(findings, concepts=(), cards=(), suites=(), ladder={}, not_tested=()))
    assert empty.summary.charts == ()
    assert "not a pass" in " ".join(empty.summary.sentences)


def test_an_instrument_without_a_frozen_decoder_says_so(
    findings: Findings, view: ReportView, view_of: Callable[[Findings], ReportView]
) -> None:
    """The controls chapter names the instruments for which a control was not measured, and no others."""
    assert "was not measured" not in view.controls.saes.note
    concepts = tuple(
        replace(
            concept,
            contrasts=tuple(
                replace(result, controls=result.controls[:1]) if result.sae == findings.saes[1].record.name else result
                for result in concept.contrasts
            ),
        )
        for concept in findings.concepts
    )
    note = view_of(replace(findings, concepts=concepts)).controls.saes.note
    assert "For instrument 2 (layer 20) the control “frozen random decoder” was not measured" in note
    assert "the control “random directions” was not measured" not in note


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
    values = [value for name, value in vars(queries).items() if name.isupper()]
    named = {name.strip() for value in values for name in value.split(",")}
    assert len(named) > 20
    assert {path.stem for path in QUERIES.glob("*.sql")} >= named


def tables_of(value: object) -> Iterator[Table]:
    """Yield every table of a view."""
    if isinstance(value, Table):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from tables_of(getattr(value, field.name))
    elif isinstance(value, tuple):
        for child in value:
            yield from tables_of(child)


def test_every_table_of_figures_names_its_query(view: ReportView) -> None:
    """Only what is no result of this audit's evidence names none: what was run, what was left out, the certificate."""
    figures = [table for table in tables_of(view) if table.rows and any(c.numeric for c in table.columns)]
    without = {table.id for table in figures if not table.query}
    assert len(without) < len(figures) / 2
    beside = ("certificate", "suites", "causal-untested", "continuations", "framework", "precision")
    assert {name for name in without if not any(part in name for part in beside)} == set()


def test_delta_ce_carries_its_interval(view: ReportView) -> None:
    """The rise of cross-entropy is printed with its 95% interval, on the probes and in the certificate."""
    part = view.fidelity.parts[0].table
    column = [c.label for c in part.columns].index("Delta CE")
    cell = part.rows[0].cells[column]
    assert (cell.text, cell.detail) == ("+0.083", "[0.071, 0.097]")
    sheet = view.certificates[0].fidelity
    column = [c.label for c in sheet.columns].index("Delta CE")
    assert [c.text for c in sheet.rows[0].cells[column : column + 2]] == ["+0.083", "[0.071, 0.097]"]


def test_the_summary_speaks_of_the_main_instrument(view: ReportView) -> None:
    """A cell holds the main instrument's answer, and another's only where it is not the same."""
    dosing, insider, harm = view.summary.rows
    assert dosing.topic.text == "Told apart, and visible"
    assert "layer 20" not in dosing.topic.detail
    assert dosing.distinction.text == "Told apart, but not visible"
    assert "At layer 20: told apart, and visible; 1 feature confirmed" in dosing.distinction.detail
    assert harm.distinction.detail.endswith("At layer 20: not analysed")
    assert dosing.instrument.detail == ""
    assert insider.instrument.mark == "amber"
    assert insider.instrument.detail == "At layer 20: red: no feature-level claim"
    assert "2 instruments" in view.summary.sentences[0]
    assert "another answer for 2 of 2 concepts" in view.summary.sentences[1]


def test_main_answers_do_not_depend_on_the_order_of_results(
    findings: Findings, view: ReportView, view_of: Callable[[Findings], ReportView]
) -> None:
    """Which instrument is the main one is decided by `saes`, not by what comes first in a concept."""
    turned = replace(
        findings,
        concepts=tuple(
            replace(c, contrasts=tuple(reversed(c.contrasts)), fidelity=tuple(reversed(c.fidelity)))
            for c in findings.concepts
        ),
    )
    assert view_of(turned).summary.rows == view.summary.rows
    other = view_of(replace(findings, saes=tuple(reversed(findings.saes))))
    assert other.summary.rows[0].distinction.text == "Told apart, and visible"
    assert "At layer 15: told apart, but not visible" in other.summary.rows[0].distinction.detail


def test_each_contrast_has_a_block_an_instrument(view: ReportView, lone_view: ReportView) -> None:
    """Blocks are in the order of the instruments and labelled; with one instrument there is no label to read."""
    blocks = view.domains[0].concepts[0].contrasts[1].blocks
    assert [block.heading for block in blocks] == [
        "Distinction: instrument 1 (layer 15)",
        "Distinction: instrument 2 (layer 20)",
    ]
    assert [row.cells[0].text for row in blocks[1].features.rows] == ["4011"]
    assert [block.heading for block in lone_view.domains[0].concepts[0].contrasts[1].blocks] == [""]


def test_tables_over_all_contrasts_name_the_instrument(view: ReportView, lone_view: ReportView) -> None:
    """Two rows of one concept and contrast can be told apart; one instrument needs no column."""
    for table, own in ((view.summary.chart_table, 1), (view.controls.saes, 2)):
        assert [column.label for column in table.columns][:3] == ["Concept", "Contrast", "Instrument"]
        keys = [tuple(cell.text for cell in row.cells[:3]) for row in table.rows]
        assert len(set(keys)) == 11
        # Each control has a row of its own.
        assert len(keys) == 11 * own
    for table in (lone_view.summary.chart_table, lone_view.controls.saes):
        assert "Instrument" not in [column.label for column in table.columns]


def test_equal_numbers_of_two_instruments_are_two_features(view: ReportView) -> None:
    """Feature 100 of the second SAE does not link to the card of feature 100 of the first."""
    first, second = view.domains[0].concepts[0].contrasts[0].blocks
    links = {row.cells[0].text: row.cells[0].href for row in first.features.rows}
    assert links["100"] == "card-smollm2-135m-instruct-resid-post-15-100"
    assert second.features.rows[0].cells[0].text == "100"
    assert second.features.rows[0].cells[0].href == ""


def test_cards_say_whether_another_seed_finds_the_feature(view: ReportView) -> None:
    """At or above the limit it is found again, below it is not, and without a second training nothing is claimed."""
    found = [fact.text for card in view.cards.cards for fact in card.facts if fact.name.startswith("Found again")]
    assert [text.partition(":")[0] for text in found] == ["yes", "no", "not measured"]
    assert "0.83, at least 0.70" in found[0]
    assert "0.41, less than 0.70" in found[1]


def test_labels_are_printed_with_source_and_score(view: ReportView) -> None:
    """A score comes with what it is and on how much; what has none says so; a reason stands where there is no label."""
    first, second, third = view.cards.cards
    assert [(fact.name, fact.text) for fact in first.labels] == [
        ("Label by tokens", "“dose”, “mg” (held-out AUROC 0.93, 4\u202f812 tokens)"),
        (
            "Label by concept",
            "louder on “Dosing error” than on neutral text (held-out paired AUROC 0.75, 24 scenarios)",
        ),
        ("Logit lens", "none: not shown: too early a layer"),
    ]
    assert second.labels[1].name == "Label of Neuronpedia"
    assert f"not scored here: {OPEN}U+202E{CLOSE}" in second.labels[1].text
    assert third.labels[0].text == "promotes “ twice” (not scored)"


def test_cards_say_for_what_a_feature_was_found_and_how_selective_it_is(view: ReportView) -> None:
    """The effect with its interval, the best other concept by its title, and reasons where nothing was measured."""
    first, second, third = ({fact.name: fact.text for fact in card.facts} for card in view.cards.cards)
    assert "confirmed, d_z +1.24 [0.81, 1.90]" in first["Found for"]
    assert first["Selectivity"].startswith("+0.25: held-out paired AUROC 0.75 on Medication dosing error")
    assert first["Selectivity"].endswith("the best other concept is Insider trading, 0.50")
    assert second["Selectivity"] == "not measured: there is no other concept to compare with"
    assert third["Selectivity"] == "not measured: no concept is louder than neutral text"


def test_contexts_over_quantiles_reach_the_paper(view: ReportView) -> None:
    """Two of the strongest are printed, and what stands for the middle and the weak ones."""
    card = view.cards.cards[0]
    assert [context.strongest.partition(";")[0] for context in card.printed] == [
        "among the strongest",
        "among the strongest",
        "the middle of the scenarios in which it fires",
        "among the weakest tenth",
    ]
    assert len(card.contexts) == 5
    assert card.cut.startswith("1 more context ")


def test_each_instrument_gets_its_share_of_printed_cards(
    findings: Findings, view_of: Callable[[Findings], ReportView]
) -> None:
    """The main instrument's cards do not push the other's off the paper."""
    many = (*(findings.cards[:1] * 20), *(findings.cards[2:] * 20))
    cards = view_of(replace(findings, cards=many)).cards
    titles = [card.title for card in cards.printed]
    assert len(titles) == PRINTED_CARDS
    assert titles.count("Feature 4011, instrument 2 (layer 20)") == PRINTED_CARDS // 2
    assert "other 28" in cards.cut


def test_stability_is_said_with_its_limits(view: ReportView) -> None:
    """The share found again comes with its threshold, with chance, and with what it does not say."""
    main, other = view.certificates
    assert len(main.stability) == 2
    for expected in ("46.3%", "at least 0.70", "38.1%", "0.0%: that is what chance gives", "cosine is 0.66"):
        assert expected in main.stability[0]
    assert "not thereby wrong" in main.stability[1]
    assert other.stability[0].startswith("Not measured")


def test_long_curves_are_cut_visibly(view: ReportView, findings: Findings) -> None:
    """Paper shows four points, the first and the last among them; HTML shows all."""
    curve = view.certificates[0].curve
    certificate = findings.saes[0].certificate
    assert certificate is not None
    assert len(curve.rows) == len(certificate.curve)
    assert len(curve.printed) == 4
    assert (curve.printed[0], curve.printed[-1]) == (curve.rows[0], curve.rows[-1])
    assert f"4 of {len(curve.rows)}" in curve.cut


def test_a_foreign_certificate_is_flagged(findings: Findings, view_of: Callable[[Findings], ReportView]) -> None:
    """A certificate for other weights than those that were used carries a warning, a matching one none."""
    main = findings.saes[0]
    changed = replace(findings, saes=(replace(main, record=replace(main.record, digest="sha256:0")), findings.saes[1]))
    first, second = view_of(changed).certificates
    assert "another digest of the SAE" in first.warning
    assert second.warning == ""


def test_instruments_without_a_name_of_their_own_are_refused(findings: Findings) -> None:
    """No SAE, or two under one name: the results could not be told apart."""
    for saes in ((), findings.saes[:1] * 2):
        with pytest.raises(EvidenceError):
            instruments_of(replace(findings, saes=saes))


@pytest.mark.parametrize(
    ("site", "expected"),
    [("resid_post.15", "layer 15"), ("resid_pre.3", "input of layer 3"), ("mlp_out.2", "mlp_out.2")],
)
def test_sites_in_plain_words(site: str, expected: str) -> None:
    """A site that has no plain words is printed as it is."""
    assert place_words(site) == expected


def test_instruments_at_one_site_are_told_apart_by_number(
    findings: Findings, view_of: Callable[[Findings], ReportView]
) -> None:
    """“At layer 15” would name both."""
    other = findings.saes[1]
    changed = replace(
        findings, saes=(findings.saes[0], replace(other, record=replace(other.record, site="resid_post.15")))
    )
    assert "Instrument 2: told apart" in view_of(changed).summary.rows[0].distinction.detail
