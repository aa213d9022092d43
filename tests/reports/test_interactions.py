"""The chapters on interactions and interventions keep three layers apart and pass nothing off as a result."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from audit.errors import EvidenceError
from audit.graph import graph_of
from audit.records import EdgeKind, Findings, Layer, MixMeasure, MixWord, PairWord, Rung
from reports import interaction_words as words
from reports.features import cut_words, names_of
from reports.instruments import instruments_of
from reports.interactions import interaction_sentence
from reports.interventions import PRINTED_EDGES, SHOWN_EDGES, causal_sentence
from reports.mixes import MixAnswer, mix_answer
from reports.network import DRAWN_CONCEPTS, network_of
from reports.numbers import CLOSE, MINUS, OPEN
from reports.pairs import MATRIX_FEATURES, PRINTED_PAIRS_A_MIX
from reports.view import Chapter, Passage, ReportView, Row, Table

ViewOf = Callable[[Findings], ReportView]


def passage(chapter: Chapter, name: str) -> Passage:
    """Return one passage of a chapter."""
    return next(item for item in chapter.passages if item.id == name)


def table(chapter: Chapter, name: str) -> Table:
    """Return one table of a chapter."""
    return next(item for part in chapter.passages for item in part.tables if item.id == name)


def line(row: Row) -> list[str]:
    """Return what stands in a row, its no-break spaces plain."""
    return [cell.text.replace("\N{NO-BREAK SPACE}", " ") for cell in row.cells]


@pytest.mark.parametrize(
    ("enum", "known"),
    [
        (Layer, words.LAYER_NAMES),
        (Layer, words.LAYER_MEANINGS),
        (MixWord, words.MIX_WORDS),
        (PairWord, words.PAIR_WORDS),
        (MixMeasure, words.MEASURE_WORDS),
        (EdgeKind, words.EDGES),
    ],
)
def test_every_case_has_words(enum: type, known: dict[object, object]) -> None:
    """No stored word is printed bare for want of an explanation."""
    assert set(known) == set(enum)


def test_each_mix_says_what_is_found_what_is_not_and_what_has_no_answer(view: ReportView) -> None:
    """One row a mix: claims by layer, nulls with their number, and reasons; a mix without data is no pass."""
    found, null, unmeasured = (line(row) for row in table(view.interactions, "mixes").rows)
    assert found[1] == "synergy 11, suppression 1, facilitation 1, emergent 1 (layer 15)"
    assert found[2] == "synergy 1, redundancy 1 (layer 15)"
    assert found[3].splitlines() == [
        "At layer 15: 27 of 40 features (9 chosen by a scan over 1\u202f204)",
        "4 of 7 pairs changed together",
    ]
    assert found[4].splitlines() == [
        "At layer 15: 1 feature below confirmed",
        "At layer 20: unresolved: the instrument is rated red on these texts",
        "1 pair unresolved: the budget ended before its shams",
        "12 pairs: screened out, so untested",
    ]
    assert null[1:4] == [
        "none",
        "not tested",
        "At layer 15: 40 features tested, none found (9 chosen by a scan over 1\u202f204)",
    ]
    assert unmeasured[1:] == [
        "no answer",
        "not tested",
        "nothing was tested",
        "The whole mix: its cells have unequal length",
    ]


def test_the_placebo_is_printed_beside_what_was_found(view: ReportView) -> None:
    """How often exchanged places give a finding, out of how many runs, and what the placebo does by itself."""
    cell = table(view.interactions, "mixes").rows[0].cells[1]
    assert (
        cell.detail.replace("\N{NO-BREAK SPACE}", " ")
        == "exchanged: 1 of 200 runs; placebo itself: 2 features (layer 15)"
    )


def test_no_instrument_that_could_be_read_is_no_null(findings: Findings) -> None:
    """`None found` needs a scan that was resolved; with red instruments only there is no answer."""
    null = findings.mixes[1]
    assert mix_answer(null) is MixAnswer.NONE
    assert mix_answer(replace(null, scans=null.scans[1:])) is MixAnswer.UNRESOLVED
    assert mix_answer(findings.mixes[0]) is MixAnswer.FOUND


def test_a_feature_below_confirmed_is_not_found(findings: Findings) -> None:
    """A mix whose only finding was not confirmed counts among those where none was found."""
    mix = findings.mixes[0]
    scan = replace(mix.scans[0], findings=mix.scans[0].findings[-1:])
    assert scan.findings[0].rung is Rung.ASSOCIATED
    assert mix_answer(replace(mix, scans=(scan,))) is MixAnswer.NONE


def test_the_summary_counts_answers_nulls_and_gaps(findings: Findings, view: ReportView) -> None:
    """One sentence on mixes and one on interventions, with the numbers of each ending."""
    mixes, causal = interaction_sentence(findings), causal_sentence(findings)
    assert "Where 3 mixes of two concepts were read" in mixes
    assert "confirmed in 1, none was found in 1, and 1 could not be answered" in mixes
    assert "In 7 tests of" in mixes
    assert "was shown in 2, was not shown in 4, which is no proof of absence, and 1 have no answer" in mixes
    assert "In 6 tests" in causal
    assert "in 3 the answer changed" in causal
    assert "The largest such change is" in causal
    assert "not that it is large" in causal
    assert "in 2 this was not shown, and 1 could not be tested or decided" in causal
    assert "1\u202f180 more tests of features or pairs were left out" in causal
    assert {mixes, causal} <= set(view.summary.sentences)


def test_what_passed_without_shams_is_no_null(findings: Findings) -> None:
    """What passes over scenarios is no null where the budget cut its shams, or one of its features is unconfirmed."""
    assert findings.causal is not None
    cut = replace(findings.causal.effects[0], rung=Rung.CONFIRMED, shams=None)
    causal = replace(findings.causal, effects=(cut, *findings.causal.effects[1:]))
    assert "in 2 this was not shown, and 2 could not be tested or decided" in causal_sentence(
        replace(findings, causal=causal)
    )
    mix = findings.mixes[0]
    cut_pair = replace(mix.pairs[0], rung=Rung.ASSOCIATED, shams=None, word=None)
    unconfirmed = replace(mix.pairs[1], rung=Rung.ASSOCIATED, word=None)
    pairs = replace(findings, mixes=(replace(mix, pairs=(cut_pair, unconfirmed, *mix.pairs[2:])), *findings.mixes[1:]))
    assert "was shown in 0, was not shown in 4" in interaction_sentence(pairs)
    assert "and 3 have no answer" in interaction_sentence(pairs)
    # Shams that do as much are an answer.
    assert mix.pairs[1].shams is not None
    beaten = replace(unconfirmed, shams=replace(mix.pairs[1].shams, p_value=0.2))
    null = replace(findings, mixes=(replace(mix, pairs=(mix.pairs[0], beaten, *mix.pairs[2:])), *findings.mixes[1:]))
    assert "was not shown in 5, which is no proof of absence, and 1 have no answer" in interaction_sentence(null)


def test_nothing_measured_is_one_sentence_and_no_table(lone_view: ReportView) -> None:
    """Without mixes and interventions each chapter says so, and so does the summary; nothing is drawn."""
    for chapter in (lone_view.interactions, lone_view.causal):
        assert chapter.passages == ()
        assert "not a pass" in chapter.missing
    assert words.NO_MIXES in lone_view.summary.sentences
    assert words.NO_INTERVENTION in lone_view.summary.sentences


def test_parts_that_were_not_measured_say_so(findings: Findings, view_of: ViewOf) -> None:
    """Interventions without single effects, later SAEs, errors or suppressions leave reasons, not empty tables."""
    assert findings.causal is not None
    bare = replace(findings.causal, effects=(), edges=(), errors=(), suppressions=(), screens=())
    view = view_of(replace(findings, cofiring=(), causal=bare))
    missing = {part.id: part.missing for part in view.causal.passages if part.missing}
    assert set(missing) == {
        "singles-passage",
        "downstream-passage",
        "errors-passage",
        "suppression",
        "screens-passage",
    }
    assert "the screen was refused" in missing["singles-passage"]
    assert passage(view.interactions, "cofiring-passage").missing == words.NO_COFIRING
    assert not [item for part in view.causal.passages for item in part.tables if not item.rows]


def test_features_of_a_mix_print_the_measure_that_decides(view: ReportView) -> None:
    """HTML has every measure of every feature, paper the first features with the one their word rests on."""
    features = table(view.interactions, "mix-features")
    assert len(features.rows) == 14 * 4
    assert [(row.cells[0].text, row.cells[3].text) for row in features.printed] == [
        ("100", "both beyond each"),
        ("137", "both beyond each"),
    ]
    assert "other 54" in features.cut
    first = features.printed[0]
    assert (first.cells[4].text, first.cells[4].detail) == ("+2.10", "[1.80, 2.40]")
    assert first.cells[5].text == "+1.05"
    # The title stands once, above the first of its rows.
    assert [bool(row.head) for row in features.printed] == [True, False]


def test_shams_are_counts_or_said_to_be_absent(view: ReportView) -> None:
    """`0 of 199` says what p does not; where no sham was run the cell says so."""
    singles = table(view.causal, "singles")
    shams = {row.cells[0].text: row.cells[5].text for row in singles.rows if row.cells[0].text != "211"}
    assert shams == {"100": "0 of 199", "137": "at least 44 of 199", "174": "not run", "3071": "0 of 199"}
    answers = {row.cells[0].text: row.cells[6].text for row in singles.rows}
    assert (answers["100"], answers["137"], answers["174"]) == ("shown", "not shown", "no answer")
    # On paper too the reason stands beside what has no answer.
    notes = {row.cells[0].text: row.note for row in singles.printed}
    assert (notes["174"], notes["137"]) == ("the budget ended before its shams", "")


def test_pairs_print_claims_first(view: ReportView) -> None:
    """A redundancy carries a true minus; what is not claimed gives its reason."""
    pairs = table(view.interactions, "pairs")
    assert len(pairs.rows) == 7
    assert len(pairs.printed) == PRINTED_PAIRS_A_MIX
    assert [line(row)[0] for row in pairs.printed] == ["100 and 211", "137 and 248"]
    assert pairs.printed[1].cells[3].text == f"{MINUS}0.210"
    assert pairs.rows[-1].cells[6].detail == "the budget ended before its shams"


def test_cofiring_shows_chance_and_the_naive_count(view: ReportView) -> None:
    """The three counts stand in one row; an infinite odds ratio is a word; an instrument without pairs is named."""
    counts = table(view.interactions, "cofiring")
    assert [cell.text for cell in counts.rows[0].cells[3:]] == ["996\u202f166", "41", "0.4", "655\u202f210"]
    pairs = table(view.interactions, "cofiring-pairs")
    assert pairs.rows[3].cells[2].text == "infinite"
    assert "No pair is listed for instrument 2 (layer 20)" in pairs.note


def test_a_refused_screen_is_refused(view: ReportView) -> None:
    """Agreement is printed with the decision; what could not be compared is not measured."""
    rows = [line(row) for row in table(view.causal, "screens").rows]
    assert rows[0][3:6] == ["0.943", "96.7%", "accepted"]
    assert table(view.causal, "screens").rows[1].cells[4].detail == "60.0%"
    assert rows[1][3:6] == ["0.412", "71.7%", "refused"]
    assert rows[2][2:6] == ["0", "not measured", "not measured", "refused"]


def test_the_cost_of_a_dose_stands_beside_its_effect(view: ReportView) -> None:
    """Effect, band of random features, KL and loss on controls in one row."""
    row = table(view.causal, "doses").rows[1]
    assert row.cells[1].text == f"{MINUS}0.40"
    # The band is of 4 scenarios; beside it stands the answer on these 4, not the mean over all 24.
    assert (row.cells[2].text, row.cells[2].detail) == (f"{MINUS}0.36", f"{MINUS}0.05 to +0.06 (n 4)")
    assert (row.cells[4].text, row.cells[4].detail) == ("0.011 [0.008, 0.015]", "0.009")
    assert row.cells[6].text == "1 of 1"


def test_texts_of_the_model_hide_nothing(view: ReportView) -> None:
    """Bidirectional overrides in a continuation are written out, and its line breaks are spaces."""
    rows = table(view.causal, "continuations").rows
    assert rows[0].cells[3].text == f"The {OPEN}U+202E{CLOSE}nurse{OPEN}U+202C{CLOSE} left."
    assert rows[1].cells[2].text.startswith("first second ")
    title = table(view.interactions, "mixes").rows[2].cells[0].text
    assert f"{OPEN}U+202E{CLOSE}drawer" in title


def test_many_later_features_are_counted(findings: Findings, view_of: ViewOf) -> None:
    """The page holds a fixed number, and says how many are in findings.json only."""
    assert findings.causal is not None
    edges = tuple(replace(findings.causal.edges[0], downstream_latent=number) for number in range(SHOWN_EDGES + 25))
    view = view_of(replace(findings, causal=replace(findings.causal, edges=edges)))
    later = table(view.causal, "downstream")
    assert len(later.rows) == SHOWN_EDGES
    assert len(later.printed) == PRINTED_EDGES
    assert "25 more are in findings.json only" in later.note
    assert f"other {SHOWN_EDGES - PRINTED_EDGES}" in later.cut


def test_the_network_draws_claims_with_the_error(findings: Findings) -> None:
    """From concept over feature to answer; unclaimed downstream effects and co-firing are not drawn."""
    network = network_of(graph_of(findings))
    kinds = [edge.kind for edge in network.edges]
    assert kinds.count(EdgeKind.CAUSAL) == 3
    assert kinds.count(EdgeKind.ERROR) == 2
    assert kinds.count(EdgeKind.DOWNSTREAM) == 1
    assert EdgeKind.CO_FIRING not in kinds
    assert EdgeKind.ASSOCIATED not in kinds
    # Five later features and one redundancy of features that no answer rests on.
    assert network.left_out == 6


def test_a_network_without_claims_is_not_drawn(findings: Findings, view_of: ViewOf) -> None:
    """Errors alone are no network."""
    assert findings.causal is not None
    null = tuple(replace(effect, rung=Rung.ASSOCIATED) for effect in findings.causal.effects)
    view = view_of(replace(findings, causal=replace(findings.causal, effects=null)))
    assert "network-passage" not in [part.id for part in view.causal.passages]


def test_charts_tell_their_numbers_in_words(view: ReportView) -> None:
    """The text alternatives of the three drawings hold values, so that nothing is in the picture alone."""
    charts = {
        chart.id: chart
        for chapter in (view.interactions, view.causal)
        for part in chapter.passages
        for chart in part.charts
    }
    assert set(charts) == {"matrix-dosing-insider", "network", "doses-chart"}
    assert "100 and 211 0.340 (synergy)" in charts["matrix-dosing-insider"].description
    assert f"137 and 248 {MINUS}0.210 (redundancy)" in charts["matrix-dosing-insider"].description
    assert "feature 100 to Medication dosing error: causal +0.22" in charts["network"].description
    assert "error 52.1%" in charts["network"].description
    assert f"dose 2: answer {MINUS}0.80 nats" in charts["doses-chart"].description


def test_a_large_matrix_is_cut_visibly(findings: Findings, view_of: ViewOf) -> None:
    """More features than fit are counted in the caption; claims are drawn first."""
    mix = findings.mixes[0]
    pairs = (
        *(replace(mix.pairs[2], id=f"n{n}", first=1000 + n, second=2000 + n) for n in range(20)),
        *mix.pairs[:2],
    )
    view = view_of(replace(findings, mixes=(replace(mix, pairs=pairs),)))
    (chart,) = passage(view.interactions, "pairs-passage").charts
    assert f"Of 44 features {MATRIX_FEATURES} are drawn" in chart.caption
    assert {"100", "211", "137", "248"} <= set(re.findall(r">(\d+)</text>", str(chart.svg)))


def test_what_one_instrument_needs_no_place_for(findings: Findings, view_of: ViewOf) -> None:
    """With one SAE no cell names a layer."""
    assert findings.causal is not None
    sae = findings.saes[0].record.name
    lone = replace(
        findings,
        saes=findings.saes[:1],
        concepts=(),
        cards=(),
        cofiring=findings.cofiring[:1],
        mixes=tuple(replace(mix, scans=tuple(scan for scan in mix.scans if scan.sae == sae)) for mix in findings.mixes),
        causal=replace(findings.causal, edges=(), screens=findings.causal.screens[:1]),
    )
    found = line(table(view_of(lone).interactions, "mixes").rows[0])
    assert found[2] == "synergy 1, redundancy 1"
    assert found[3].startswith("27 of 40 features")


def test_an_unknown_instrument_is_refused(findings: Findings) -> None:
    """A result through an SAE that the findings do not describe is an error that names it."""
    names = names_of(findings, instruments_of(findings))
    with pytest.raises(EvidenceError) as caught:
        names.feature("elsewhere", 3)
    assert "elsewhere" in str(caught.value)


@pytest.mark.parametrize(
    ("printed", "total", "expected"),
    [(5, 5, ""), (5, 6, "the other one is in"), (5, 9, "the other 4 are in")],
)
def test_cuts_are_counted(printed: int, total: int, expected: str) -> None:
    """Nothing is said where nothing is left out."""
    text = cut_words(printed, total, "the first rows")
    assert expected in text
    assert bool(text) == bool(expected)


def test_few_answers_are_drawn(findings: Findings) -> None:
    """With many concepts the drawing keeps to the first answers, and the rest is counted."""
    assert findings.causal is not None
    concepts = tuple(replace(findings.concepts[0], id=f"c{n}", contrasts=()) for n in range(DRAWN_CONCEPTS + 2))
    effects = tuple(replace(findings.causal.effects[0], id=f"e{c.id}", concept=c.id) for c in concepts)
    causal = replace(findings.causal, effects=effects, edges=(), errors=())
    network = network_of(graph_of(replace(findings, concepts=concepts, causal=causal, mixes=())))
    assert len([edge for edge in network.edges if edge.kind is EdgeKind.CAUSAL]) == DRAWN_CONCEPTS
    assert network.left_out == 2
