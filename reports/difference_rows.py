"""Every row of a difference, concept by concept, with what decided its verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from audit.records import DifferenceResult, DifferenceRow, PartDifference, Verdict
from reports.difference_words import (
    ELSEWHERE,
    REASON_MOST,
    RECORD,
    TITLE_MOST,
    DifferenceNames,
    by_evidence,
    places_of,
    shortened,
    span,
    verdict_cell,
    verdict_words,
)
from reports.language import _
from reports.numbers import count, decimal, interval, plain, plural, probability, signed, visible
from reports.view import Cell, Chapter, Column, Passage, Row, Table
from reports.words import word

# Up to here paper holds every row; an audit of the shipped suites has thousands.
PRINTED_WHOLE = 80
# Else of each concept the changed rows up to the first number, and with them rows of other verdicts up to the second.
PRINTED_CHANGED = 10
PRINTED_LEAST = 3
SHOWN_ROWS = 12
WHOLE_ON_PAGE = 14


def rows_chapter(result: DifferenceResult, names: DifferenceNames) -> Chapter:
    """Return a passage for each concept and mix, in the order of page one."""
    brief = len(result.rows) > PRINTED_WHOLE
    parts = (*sorted(result.concepts, key=_rank), *sorted(result.mixes, key=_rank))
    lead = [
        _(
            "A row compares one number on the same scenarios of both models: n is how many scenarios, and how many of"
            " them moved. The difference is new minus base, with its 95% interval. Beside the 90% interval stands the"
            " margin: inside it the row is equivalent. q is the corrected chance of a difference this large where there"
            " is none. The noise floor is the largest difference between audits of the base's own model; the last"
            " number is the smallest change that the row would have found with 80% power."
        ),
        _(
            "Under each row stands its reason and its name. {record} holds the same row under that name; the last"
            " chapter has the command that looks it up.",
            record=RECORD,
        ),
    ]
    if brief:
        lead.append(
            _(
                "Of each concept paper holds the rows that decide most: those that changed, then the surest others."
                " All {number} rows are in {elsewhere}.",
                number=count(len(result.rows)),
                elsewhere=_(ELSEWHERE),
            )
        )
    return Chapter(
        id="rows",
        heading=_("Rows, concept by concept"),
        lead=tuple(lead),
        terms=(),
        passages=tuple(_passage(part, result, names, brief=brief) for part in parts),
        missing="" if parts else _("No concept was compared. An empty comparison is no pass."),
    )


def _rank(part: PartDifference) -> int:
    return part.rank


def _loss(part: PartDifference) -> str:
    """Return by how much the loss on the texts about a concept changed; nothing where it was not measured."""
    if part.loss_change is None:
        return ""
    return plural(
        part.loss_scenarios,
        "The model's own loss on the texts about it changed by {change} nats a token beyond that on neutral texts, over"
        " {count} scenario.",
        "The model's own loss on the texts about it changed by {change} nats a token beyond that on neutral texts, over"
        " {count} scenarios.",
        change=signed(part.loss_change, 3),
    )


def _passage(part: PartDifference, result: DifferenceResult, names: DifferenceNames, *, brief: bool) -> Passage:
    own = by_evidence([row for row in result.rows if row.part == part.id])
    place = names.places[part.id]
    said = _(
        "{verdict}. Reason given: {reason}.",
        verdict=_sentence(verdict_words(part.verdict)),
        reason=shortened(part.reason, REASON_MOST),
    )
    return Passage(
        id=place,
        heading=shortened(part.title, 2 * TITLE_MOST),
        missing=f"{said} {_loss(part)}".strip(),
        tables=(_table(own, names, table_id=f"{place}-table", brief=brief),) if own else (),
    )


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _table(rows: Sequence[DifferenceRow], names: DifferenceNames, *, table_id: str, brief: bool) -> Table:
    printed = list(rows)
    if brief:
        changed = [row for row in rows if row.verdict is Verdict.CHANGED][:PRINTED_CHANGED]
        others = [row for row in rows if row.verdict is not Verdict.CHANGED]
        printed = [*changed, *others[: max(0, PRINTED_LEAST - len(changed))]]
    shown = {row.id for row in printed}
    return Table(
        id=table_id,
        caption=plural(len(rows), "{count} row", "{count} rows"),
        columns=(
            Column(_("Row"), detail=_("unit")),
            Column(_("n"), numeric=True, detail=_("moved")),
            Column(_("Base"), numeric=True, detail=_("mean")),
            Column(_("New"), numeric=True, detail=_("mean")),
            Column(_("Difference"), numeric=True, detail=_("95% interval")),
            Column(_("90% interval"), numeric=True, detail=_("margin ±")),
            Column(_("q"), numeric=True, detail=_("effect")),
            Column(_("Noise floor"), numeric=True),
            Column(_("Detectable"), numeric=True),
            Column(_("Verdict")),
        ),
        rows=tuple(_row(row, names) for row in rows),
        printed=tuple(_row(row, names) for row in printed),
        cut=_cut([row for row in rows if row.id not in shown]),
        # A table that fits on a page begins on one.
        layout="rows short" if len(printed) <= WHOLE_ON_PAGE else "rows",
        sortable=True,
        shown=SHOWN_ROWS if len(rows) > SHOWN_ROWS else 0,
        record=RECORD,
    )


def _cut(left_out: Sequence[DifferenceRow]) -> str:
    if not left_out:
        return ""
    found = Counter(row.verdict for row in left_out)
    return plural(
        len(left_out),
        "{count} more row ({changed} changed, {inconclusive} cannot be told, {equivalent} equivalent) is in"
        " {elsewhere}.",
        "{count} more rows ({changed} changed, {inconclusive} cannot be told, {equivalent} equivalent) are in"
        " {elsewhere}.",
        changed=count(found[Verdict.CHANGED]),
        inconclusive=count(found[Verdict.INCONCLUSIVE]),
        equivalent=count(found[Verdict.EQUIVALENT]),
        elsewhere=_(ELSEWHERE),
    )


def _row(row: DifferenceRow, names: DifferenceNames) -> Row:
    places = places_of(row)
    difference = row.difference
    detail = [word(row.unit), names.instrument(row.sae)]
    if row.match_r is not None:
        detail.append(_("matched, r {r}", r=decimal(row.match_r)))
    return Row(
        (
            Cell(_sentence(names.row(row)), detail=", ".join(part for part in detail if part)),
            Cell(count(row.n_scenarios), detail=count(row.n_moved), sort=str(row.n_scenarios)),
            Cell(decimal(row.base_mean, places), sort=plain(row.base_mean)),
            Cell(decimal(row.new_mean, places), sort=plain(row.new_mean)),
            Cell(signed(difference.value, places), detail=interval(difference, places), sort=plain(difference.value)),
            Cell(span(row.low_90, row.high_90, places), detail=_margin(row, places), sort=plain(row.margin)),
            Cell(probability(row.q_value), detail=_effect(row), sort=plain(row.q_value)),
            Cell(decimal(row.noise_floor, places), sort=plain(row.noise_floor)),
            Cell(_("any") if row.detectable == 0 else decimal(row.detectable, places), sort=plain(row.detectable)),
            verdict_cell(row.verdict),
        ),
        note=_("Reason given: {reason}. Row {id}.", reason=shortened(row.reason, REASON_MOST), id=visible(row.id)),
    )


def _margin(row: DifferenceRow, places: int) -> str:
    return _("no margin: no spread") if row.margin is None else f"±{decimal(row.margin, places)}"


def _effect(row: DifferenceRow) -> str:
    return _("no SD") if row.effect is None else _("{number} SD", number=signed(row.effect))
