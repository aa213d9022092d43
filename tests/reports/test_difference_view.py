"""The pages of a difference print the record: every row, its own numbers, and what was not measured."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from audit.errors import UsageError
from audit.packing import PACKED_TYPE, unpack
from audit.records import DifferenceResult, RowKind, Verdict
from audit.signing.html_findings import findings_in_html
from reports import language
from reports.difference import build_difference_view, render_difference_html
from reports.difference_figures import DRAWN_UNCHANGED, LEAST_Q, NUMBERED
from reports.difference_rows import PRINTED_WHOLE
from reports.difference_view import DifferenceView
from reports.numbers import NOT_MEASURED, decimal, probability, signed
from reports.view import Row, Table
from tests.differences_making import CONCEPTS, FEATURES, Version, order
from tests.reports.catalogue import TEMPLATE, messages
from tests.reports.fixtures.differences import (
    CHANGED,
    LESS_FAITHFUL,
    NOISE,
    PERMUTED,
    data_of,
    difference,
    many,
    run_of,
)
from tests.reports.translated import PSEUDO, Words, left_in_english, pseudo_file, strings


def view_of(result: DifferenceResult) -> DifferenceView:
    """Return the view of a result."""
    return build_difference_view(result, run_of(result))


def page_of(result: DifferenceResult, *, code: str = "en") -> str:
    """Return the page of a result."""
    return render_difference_html(result, run_of(result, language=code), difference_json=data_of(result)).decode()


def said_by(page: str) -> str:
    """Return all that a page says, packed rows included, on one line."""
    words = Words(page)
    return " ".join([*words.found, *words.drawn])


def tables_of(view: DifferenceView) -> dict[str, Table]:
    """Return every table of the chapters, by its id."""
    passages = [one for chapter in (*view.chapters, *view.closing) for one in chapter.passages]
    return {table.id: table for passage in passages for table in passage.tables}


def printed_rows(view: DifferenceView) -> dict[str, Row]:
    """Return the printed row of each row of the record, by the record's name for it."""
    found = {}
    for name, table in tables_of(view).items():
        if name.startswith("rows-"):
            for row in table.rows:
                match = re.search(r"Row (\S+)\.$", row.note)
                assert match is not None
                found[match[1]] = row
    return found


def test_every_row_of_the_record_is_printed_under_its_name() -> None:
    """With the record's own means, difference, q, noise floor and verdict; none is added."""
    result = difference(CHANGED, noise=NOISE)
    rows = printed_rows(view_of(result))
    assert set(rows) == {row.id for row in result.rows}
    for row in result.rows:
        _what, n, base, new, moved, inside, q, floor, least, verdict = rows[row.id].cells
        assert (float(base.sort), float(new.sort)) == (row.base_mean, row.new_mean)
        assert float(moved.sort) == row.difference.value
        assert (n.text, n.detail) == (str(row.n_scenarios), str(row.n_moved))
        assert q.text == probability(row.q_value)
        places = len(base.text.partition(".")[2])
        assert base.text == decimal(row.base_mean, places)
        assert moved.text == signed(row.difference.value, places)
        assert inside.text == f"[{signed(row.low_90, places)}, {signed(row.high_90, places)}]"
        assert floor.text == decimal(row.noise_floor, places)
        assert least.text == ("any" if row.detectable == 0 else decimal(row.detectable, places))
        assert verdict.mark == row.verdict.value
        assert row.reason in rows[row.id].note


def test_page_one_is_the_answer() -> None:
    """Its sentence counts the record's verdicts; concepts stand by rank, each with its reason."""
    result = difference(CHANGED)
    answer = view_of(result).answer
    found = Counter(part.verdict for part in result.concepts)
    assert (found[Verdict.CHANGED], found[Verdict.EQUIVALENT]) == (2, 1)
    assert answer.sentences[0] == (
        "Of 3 concepts, 2 changed, 1 are shown to be equivalent, 0 cannot be told, 0 are not comparable."
    )
    by_rank = sorted(result.concepts, key=lambda part: part.rank)
    assert [row.cells[1].text for row in answer.concepts.rows] == [part.title for part in by_rank]
    assert [row.cells[3].text for row in answer.concepts.rows] == [
        *(f"{part.changed} of {part.rows} rows changed" for part in by_rank[:2]),
        "every row of scores and answers",
    ]
    page = page_of(result)
    assert all(f"Reason given: {part.reason}." in page for part in by_rank)
    for part, row in zip(by_rank, answer.concepts.rows, strict=True):
        ratio = "no other moved" if part.ratio is None else f"{part.ratio:.1f} times"
        assert row.cells[5].text.removeprefix("outlying: ") == (NOT_MEASURED if part.ratio_p is None else ratio)
        assert row.cells[5].detail.startswith(f"{part.respect}, p = ") == (part.ratio_p is not None)
        assert row.cells[5].text.startswith("outlying") == part.outlying
        assert row.cells[6].text == ("any" if part.detectable == 0 else f"{part.detectable:.2f} SD")
    assert by_rank[0].outlying
    assert answer.sentences[2] == f"Changed by far more than the others: {by_rank[0].title}."
    assert answer.concepts.printed == answer.concepts.rows
    assert by_rank[0].title in answer.sentences[1]
    assert "Acme model audit" in answer.seal
    assert "22 November 2026" in answer.seal
    assert any("no pass" in sentence for sentence in answer.unsaid)


def test_where_no_concept_stands_out_that_is_said() -> None:
    """Where all moved, nothing shows that one was meant: on page one, and no row is marked."""
    result = difference(CHANGED)
    alike = tuple(replace(part, ratio=1.2, ratio_p=0.8, outlying=False) for part in result.concepts)
    answer = view_of(replace(result, concepts=alike)).answer
    assert answer.sentences[2].startswith("None changed by far more than the others")
    assert {row.cells[5].text for row in answer.concepts.rows} == {"1.2 times"}


def test_the_page_embeds_the_record_where_every_report_has_it() -> None:
    """The reader of findings in a page finds the bytes of diff.json, and equal arguments give equal pages."""
    result = difference(CHANGED)
    page = page_of(result)
    assert findings_in_html(page.encode(), item="report.html") == data_of(result)
    assert page == page_of(result)


def test_a_difference_without_a_change_says_so() -> None:
    """Nothing moved: nothing is numbered or shown side by side, and nothing is empty."""
    result = difference(Version())
    view = view_of(result)
    assert view.answer.sentences[0].startswith("Of 3 concepts, 0 changed, 3 are shown to be equivalent")
    assert "no feature that was compared moved" in view.contexts.missing
    table = tables_of(view)["drawn-rows"]
    assert table.rows == ()
    page = page_of(result)
    assert table.empty in page
    assert view.contexts.missing in page
    assert 'id="volcano"' in page


def test_noise_that_was_not_measured_is_said() -> None:
    """On page one, in every row and in the method; with a noise bundle none of this stands there."""
    without, held = view_of(difference(CHANGED)), view_of(difference(CHANGED, noise=NOISE))
    assert {row.cells[7].text for row in printed_rows(without).values()} == {NOT_MEASURED}
    assert any("was not measured here" in sentence for sentence in without.answer.unsaid)
    assert any("1 further audit of the base's own model" in sentence for sentence in held.answer.unsaid)
    assert not any("was not measured here" in sentence for sentence in held.answer.unsaid)
    floors = [row.cells[7].text for row in printed_rows(held).values()]
    assert any(re.search("[1-9]", text) for text in floors)
    assert "Noise bundle 1" in said_by(page_of(difference(CHANGED, noise=NOISE)))


def test_an_instrument_that_is_too_far_apart_is_named_with_the_reason() -> None:
    """No row of a feature is printed, no concept is equivalent, and both fidelities can be read."""
    result = difference(LESS_FAITHFUL)
    assert RowKind.FEATURE not in {row.kind for row in result.rows}
    page = page_of(result)
    said = said_by(page)
    assert "Not comparable: the FVU of the one is 1.50 times the other's" in said
    assert "No feature of this instrument was compared" in said
    fidelity = tables_of(view_of(result))["instrument-1-fidelity"]
    assert [cell.text for cell in fidelity.rows[0].cells[1:4]] == ["0.160", "0.240", "1.50"]
    concepts = view_of(result).answer.concepts.rows
    assert {row.cells[2].mark for row in concepts} == {"inconclusive"}
    assert all(row.cells[3].text.endswith("; features of 1 SAE not comparable") for row in concepts)


def test_matched_features_carry_both_numbers_and_unmatched_is_not_new() -> None:
    """Of another SAE each row names the latent of either side and how well they match."""
    result = difference(PERMUTED)
    rows = printed_rows(view_of(result))
    features = [row for row in result.rows if row.kind is RowKind.FEATURE]
    assert len(features) == FEATURES * len(CONCEPTS)
    for row in features:
        what = rows[row.id].cells[0]
        assert f"{row.base_latent} in the base, {order()[row.base_latent or 0]} in the new" in what.text
        assert f"r {decimal(row.match_r)}" in what.detail
    said = said_by(page_of(result))
    assert "Unmatched is not new" in said
    assert "features were matched" in said
    assert "each side is shaded by its own maximum" in said


def test_texts_stand_side_by_side() -> None:
    """The changed features, each prompt with the tokens of both models and the stronger shade where it fires more."""
    result = difference(CHANGED)
    view = view_of(result)
    assert [one.heading for one in view.contexts.features] == [f"Feature {one.base_latent}" for one in result.contexts]
    for shown, one in zip(result.contexts, view.contexts.features, strict=True):
        for context, prompt in zip(shown.contexts, one.prompts, strict=True):
            assert [token.text for token in prompt.base.tokens] == [token.text for token in context.tokens]
            assert [token.text for token in prompt.new.tokens] == [token.text for token in context.tokens]
            pairs = zip(context.tokens, prompt.base.tokens, prompt.new.tokens, strict=True)
            assert all((t.base > t.new) <= (int(b.level) >= int(n.level)) for t, b, n in pairs)
            assert len(prompt.lines) == sum(t.base > 0 or t.new > 0 for t in context.tokens)


def test_many_rows_are_packed_on_screen_and_cut_on_paper_aloud() -> None:
    """Every row is in the page; paper says of each concept how many rows it leaves out, by verdict."""
    result = many(difference(CHANGED), 12)
    assert len(result.rows) > PRINTED_WHOLE
    view = view_of(result)
    assert set(printed_rows(view)) == {row.id for row in result.rows}
    page = page_of(result)
    packed = re.findall(rf'<script type="{PACKED_TYPE}" data-rows="[^"]+">([^<]*)</script>', page)
    opened = page + " ".join(unpack(text).decode() for text in packed)
    assert all(row.id in opened for row in result.rows)
    assert "They are in diff.json too." in page
    for name, table in tables_of(view).items():
        if name.startswith("rows-"):
            left_out = len(table.rows) - len(table.printed)
            assert (f"{left_out} more" in table.cut) == (left_out > 0)
            changed = [row for row in table.rows if row.cells[-1].mark == "changed"]
            assert all(row in table.printed for row in changed)


def test_charts_number_the_surest_changes_and_say_what_they_leave_out() -> None:
    """Numbers are those of the table; unchanged rows beyond a limit are counted, and the flattest are those left."""
    result = many(difference(CHANGED), 12)
    figures = next(chapter for chapter in view_of(result).chapters if chapter.id == "figures").passages[0]
    slope, volcano = figures.charts
    numbered = [row.cells[0].text for row in figures.tables[0].rows]
    assert numbered == [str(number + 1) for number in range(NUMBERED)]
    for chart in (slope, volcano):
        assert f"{result.counts['changed']} rows changed" in chart.title
        drawn = re.findall(r"<text[^>]*>(\d+)</text>", str(chart.svg))
        assert set(numbered) - {"11", "12"} <= set(drawn)
    still = sum(
        row.verdict is not Verdict.CHANGED and row.kind in {RowKind.FEATURE, RowKind.INTERACTION} for row in result.rows
    )
    assert f"{still - DRAWN_UNCHANGED} further rows" in slope.caption
    without = sum(row.effect is None for row in result.rows)
    assert f"{without} rows have no standard deviation" in volcano.caption


def test_a_row_far_out_stands_at_the_edge_and_is_counted() -> None:
    """One row with next to no spread does not squash the chart."""
    result = difference(CHANGED)
    far = replace(next(row for row in result.rows if row.effect is not None), effect=400.0, q_value=0.0)
    view = view_of(replace(result, rows=(far, *(row for row in result.rows if row.id != far.id))))
    figures = next(chapter for chapter in view.chapters if chapter.id == "figures").passages[0]
    assert "1 row beyond 5.00 SD stands at the edge" in figures.charts[1].caption
    below = sum(row.q_value < LEAST_Q for row in result.rows if row.effect is not None and row.id != far.id) + 1
    assert f"{below} rows with a q below" in figures.charts[1].caption


def test_a_comparison_of_nothing_is_no_pass() -> None:
    """Without a concept or a row the page says so."""
    bare = replace(difference(CHANGED), concepts=(), mixes=(), rows=(), instruments=(), contexts=(), tests=0)
    page = page_of(bare)
    assert "An empty comparison is no pass." in page
    assert "Nothing could be drawn" in page


def test_an_unknown_language_is_refused_and_an_unknown_paper_is_a4() -> None:
    """What a record says of the paper never reaches the style."""
    result = difference(CHANGED)
    with pytest.raises(UsageError, match="language"):
        build_difference_view(result, run_of(result, language="xx"))
    assert build_difference_view(result, run_of(result, page_size="A4; } * {")).page_size == "A4"
    assert build_difference_view(result, run_of(result, page_size="Letter")).page_size == "Letter"


@pytest.fixture
def pseudo_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A language in which every message of the catalogue has other letters."""
    (tmp_path / TEMPLATE.name).write_text(str(messages()), encoding="utf-8")
    (tmp_path / f"{PSEUDO}.po").write_text(pseudo_file(), encoding="utf-8")
    monkeypatch.setattr(language, "_folder", lambda: tmp_path)
    language._read.cache_clear()
    yield PSEUDO
    language._read.cache_clear()


@pytest.mark.parametrize(
    "new", [CHANGED, PERMUTED, LESS_FAITHFUL, Version()], ids=["changed", "permuted", "less faithful", "same"]
)
def test_every_sentence_comes_from_the_catalogue(pseudo_language: str, new: Version) -> None:
    """In the pseudo-language nothing is left in our letters but what the record says."""
    result = difference(new, noise=NOISE if new is CHANGED else None)
    run = run_of(result, language=pseudo_language)
    words = Words(page_of(result, code=pseudo_language))
    known = sorted(
        {" ".join(text.split()) for text in (*strings(result), *strings(run), *run.environment)} | {"diff.json", "SD"},
        key=len,
        reverse=True,
    )
    assert len(words.found) > 150
    assert left_in_english(words.found, known) == []
    assert left_in_english(words.drawn, known) == []
