"""What the charts of a difference show: which rows are drawn, which are numbered, and the table that names them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from audit.records import DifferenceResult, DifferenceRow, RowKind, Verdict
from reports.difference_charts import Point, Slope, SlopePanel, slope_chart, volcano_chart
from reports.difference_words import RECORD, DifferenceNames, by_evidence, in_sd, verdict_cell
from reports.language import N_, _
from reports.numbers import count, decimal, plain, plural, probability, signed
from reports.view import Cell, Chapter, Chart, Column, Passage, Row, Table, whole

# More numbers than these would cover each other in the charts.
NUMBERED = 12
# A full audit has thousands of rows; of those that did not change the flatter ones are not drawn.
DRAWN_UNCHANGED = 300
# Effects beyond stand at the edge: one row with next to no spread must not squash all others.
WIDEST_EFFECT = 5.0
# A q of zero, or below this, stands at the top.
LEAST_Q = 1e-12
_SLOPE, _VOLCANO, _TABLE = "slope", "volcano", "drawn-rows"
_PANELS: tuple[tuple[str, frozenset[RowKind]], ...] = (
    (N_("Features: mean score, SD"), frozenset({RowKind.FEATURE, RowKind.INTERACTION})),
    (N_("Answers: mean, SD"), frozenset({RowKind.OUTCOME, RowKind.ANSWER})),
    (N_("AUROC"), frozenset({RowKind.PROBE_AUROC, RowKind.FEATURE_AUROC})),
)


def figures_chapter(result: DifferenceResult, names: DifferenceNames) -> Chapter:
    """Return both charts and the table of the rows that are numbered in them."""
    ordered = by_evidence(result.rows)
    changed = [row for row in ordered if row.verdict is Verdict.CHANGED]
    numbers = {row.id: str(number) for number, row in enumerate(changed[:NUMBERED], start=1)}
    charts = tuple(chart for chart in (_slope(result, numbers), _volcano(result, numbers)) if chart is not None)
    return Chapter(
        id="figures",
        heading=_("What moved, at a glance"),
        lead=() if charts else (_("Nothing could be drawn, because no row was compared."),),
        terms=(),
        passages=(
            Passage(
                id="figures-charts",
                heading=_("All rows in two charts"),
                charts=charts,
                tables=(_table(ordered, changed, numbers, names),),
            ),
        )
        if charts
        else (),
    )


def _slope(result: DifferenceResult, numbers: dict[str, str]) -> Chart | None:
    panels, left_out = [], 0
    for title, kinds in _PANELS:
        own = [(row, pair) for row in result.rows if row.kind in kinds and (pair := _means(row)) is not None]
        # The steepest first: what is not drawn moved less than what is.
        still = sorted(
            (one for one in own if one[0].verdict is not Verdict.CHANGED), key=lambda one: -abs(one[1][1] - one[1][0])
        )
        left_out += max(0, len(still) - DRAWN_UNCHANGED)
        moved = [one for one in own if one[0].verdict is Verdict.CHANGED]
        slopes = tuple(
            Slope(base, new, row.verdict, numbers.get(row.id, ""))
            for row, (base, new) in (*still[:DRAWN_UNCHANGED], *moved)
        )
        if slopes:
            panels.append(SlopePanel(_(title), slopes))
    if not panels:
        return None
    counts = _counted(result.rows)
    caption = _(
        "Slope plot. One line a row, from its mean in the base to its mean in the new model; a flat line is no shift."
        " Scores and answers are divided by the row's own standard deviation over scenarios."
    )
    if left_out:
        caption += " " + _(
            "{number} further rows that did not change are not drawn: each moved less than those that are.",
            number=count(left_out),
        )
    title = _("Slope plot of the mean of every row on both models: {counts}.", counts=counts)
    return Chart(
        id=_SLOPE,
        svg=slope_chart(tuple(panels), chart_id=_SLOPE, title=title, description=_elsewhere()),
        title=title,
        description=_elsewhere(),
        caption=f"{caption} {_elsewhere()}",
    )


def _volcano(result: DifferenceResult, numbers: dict[str, str]) -> Chart | None:
    margins = result.margins
    drawn = [(row, row.effect) for row in result.rows if row.effect is not None and math.isfinite(row.effect)]
    if not drawn:
        return None
    points = tuple(
        Point(
            effect=max(-WIDEST_EFFECT, min(WIDEST_EFFECT, effect)),
            sureness=max(0.0, -math.log10(max(row.q_value, LEAST_Q))),
            verdict=row.verdict,
            label=numbers.get(row.id, ""),
        )
        for row, effect in drawn
    )
    parts = [
        _(
            "Volcano plot. To the side how far a row moved, upwards how sure that it moved at all (q, after"
            " Benjamini-Hochberg over all {tests} rows). Between the upright dashed lines a mean difference is too"
            " small to matter; above the level one it may be called changed.",
            tests=count(result.tests),
        )
    ]
    if without := len(result.rows) - len(drawn):
        parts.append(
            plural(
                without,
                "{count} row has no standard deviation (those of an AUROC have none) and is not drawn.",
                "{count} rows have no standard deviation (those of an AUROC have none) and are not drawn.",
            )
        )
    if far := sum(abs(effect) > WIDEST_EFFECT for _row, effect in drawn):
        parts.append(
            plural(
                far,
                "{count} row beyond {most} stands at the edge.",
                "{count} rows beyond {most} stand at the edge.",
                most=in_sd(WIDEST_EFFECT),
            )
        )
    if sure := sum(row.q_value < LEAST_Q for row, _effect in drawn):
        parts.append(
            plural(
                sure,
                "{count} row with a q below {least} stands at the height of that.",
                "{count} rows with a q below {least} stand at the height of that.",
                least=probability(LEAST_Q),
            )
        )
    if len({(round(p.effect, 2), round(p.sureness, 2)) for p in points}) < len(points):
        parts.append(_("Rows that fall onto one place share a mark."))
    largest = max(drawn, key=lambda one: abs(one[1]))
    title = _(
        "Volcano plot of effect against q: {counts}; the largest mean difference is {effect}.",
        counts=_counted(result.rows),
        effect=_("{number} SD", number=signed(largest[1])),
    )
    return Chart(
        id=_VOLCANO,
        svg=volcano_chart(
            points,
            limit=-math.log10(margins.fdr_q),
            margin=margins.scenario_sd,
            chart_id=_VOLCANO,
            title=title,
            description=_elsewhere(),
        ),
        title=title,
        description=_elsewhere(),
        caption=" ".join([*parts, _elsewhere()]),
    )


def _means(row: DifferenceRow) -> tuple[float, float] | None:
    """Return both means on the scale of the panel; None where the row has no scale to share."""
    if row.kind in {RowKind.PROBE_AUROC, RowKind.FEATURE_AUROC}:
        return row.base_mean, row.new_mean
    return None if not row.scale else (row.base_mean / row.scale, row.new_mean / row.scale)


def _counted(rows: Sequence[DifferenceRow]) -> str:
    found = [sum(row.verdict is verdict for row in rows) for verdict in Verdict]
    numbers = dict(zip(("changed", "equivalent", "inconclusive"), map(count, found), strict=False))
    return _("{changed} rows changed, {equivalent} are equivalent, {inconclusive} cannot be told", **numbers)


def _elsewhere() -> str:
    return _("Every number is in the tables of rows and in {record}.", record=RECORD)


def _table(
    ordered: Sequence[DifferenceRow], changed: Sequence[DifferenceRow], numbers: dict[str, str], names: DifferenceNames
) -> Table:
    """Return the rows that are numbered; without a change those that moved most."""
    if changed:
        shown = list(changed[:NUMBERED])
        caption = _("The rows that changed, numbered as in the charts")
        more = len(changed) - len(shown)
        note = (
            plural(
                more,
                "{count} more changed row stands without a number in the charts, and in the tables of rows.",
                "{count} more changed rows stand without a number in the charts, and in the tables of rows.",
            )
            if more
            else ""
        )
    else:
        moved = [row for row in ordered if row.n_moved and row.effect is not None]
        shown = sorted(moved, key=lambda row: (-abs(row.effect or 0.0), row.id))[: NUMBERED // 2]
        caption = _("No row changed. These moved most")
        note = ""
    return whole(
        Table(
            id=_TABLE,
            caption=caption,
            columns=(
                Column(_("No.")),
                Column(_("Concept and row")),
                Column(_("Base, SD"), numeric=True),
                Column(_("New, SD"), numeric=True),
                Column(_("Effect, SD"), numeric=True),
                Column(_("q"), numeric=True),
                Column(_("Verdict")),
            ),
            rows=tuple(_row(row, numbers, names) for row in shown),
            note=note,
            empty=_("No row moved: both audits hold the same numbers."),
            layout="drawn",
            record=RECORD,
        )
    )


def _row(row: DifferenceRow, numbers: dict[str, str], names: DifferenceNames) -> Row:
    means = _means(row)
    base, new = (None, None) if means is None else means
    return Row(
        (
            Cell(numbers.get(row.id, "\N{EN DASH}")),
            Cell(
                names.title(row.part),
                detail=", ".join(part for part in (names.row(row), names.instrument(row.sae)) if part),
                href=names.places.get(row.part, ""),
            ),
            Cell(decimal(base), sort=plain(base)),
            Cell(decimal(new), sort=plain(new)),
            Cell(signed(row.effect), sort=plain(row.effect)),
            Cell(probability(row.q_value), sort=plain(row.q_value)),
            verdict_cell(row.verdict),
        ),
        note=_("Row {id}.", id=row.id),
    )
