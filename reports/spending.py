"""What the causal tests took: whether estimates may choose what is measured, the budget, and what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from audit.records import (
    CausalResult,
    ScreenCheck,
    Untested,
)
from reports.features import ELSEWHERE, Names
from reports.language import _
from reports.numbers import NOT_MEASURED, count, decimal, plural, share, visible
from reports.queries import SCREENS
from reports.view import Cell, Column, Passage, Row, Table, whole

PRINTED_UNTESTED = 8


def screens_passage(causal: CausalResult, names: Names) -> Passage:
    """Return whether first-order estimates may choose what is measured, an instrument a row."""
    heading = _("May an estimate choose what is measured?")
    if not causal.screens:
        return Passage("screens-passage", heading, missing=_("No screen was checked, and none was used."))
    table = whole(
        Table(
            id="screens",
            query=SCREENS,
            caption=_("The first-order screen against exact values on a random set"),
            columns=(
                Column(_("Instrument")),
                Column(_("Of")),
                Column(_("Compared"), numeric=True),
                Column(_("Spearman"), numeric=True),
                Column(_("Equal signs"), numeric=True, detail=_("exact at most twice the estimate")),
                Column(_("The screen is")),
                Column(_("Reason")),
            ),
            rows=tuple(_screen_row(check, names) for check in causal.screens),
            note=_("A refused screen chooses nothing. No number of a screen is printed as an effect."),
            layout="dense",
        )
    )
    return Passage("screens-passage", heading, tables=(table,))


def _screen_row(check: ScreenCheck, names: Names) -> Row:
    return Row(
        (
            Cell(names.instrument(check.sae).label),
            Cell(visible(check.subject)),
            Cell(count(check.compared)),
            Cell(decimal(check.spearman, 3)),
            Cell(
                share(check.agreement) if check.agreement is not None else _(NOT_MEASURED),
                detail=share(check.within) if check.within is not None else "",
            ),
            Cell(_("accepted") if check.accepted else _("refused"), mark="seen" if check.accepted else "unresolved"),
            Cell(visible(check.reason)),
        )
    )


def spending_passage(causal: CausalResult) -> Passage:
    """Return what the causal tests took, and what was left out of them."""
    spending = causal.spending
    words = _(
        "Limit: {limit}. Spent: {number} forward-equivalents (one is the work of all layers on one prompt of average"
        " length).",
        limit=visible(spending.limit),
        number=count(round(spending.forward_equivalents)),
    ) + ("" if causal.untested else " " + _("Nothing is listed as left out."))
    heading = _("What it took, and what was left out")
    if not causal.untested:
        return Passage("spending-passage", heading, paragraphs=(words,))
    rows = tuple(_untested_row(item) for item in causal.untested)
    printed = rows if len(rows) <= PRINTED_UNTESTED else _by_reason(causal.untested)
    table = Table(
        id="causal-untested",
        caption=_("Left out of the causal tests: untested, and no pass"),
        columns=(Column(_("What")), Column(_("How many"), numeric=True), Column(_("Why"))),
        rows=rows,
        printed=printed,
        cut=""
        if len(printed) == len(rows)
        else _(
            "Printed by reason; the {number} lines are in {elsewhere}.", number=count(len(rows)), elsewhere=_(ELSEWHERE)
        ),
        layout="effects",
    )
    return Passage("spending-passage", heading, paragraphs=(words,), tables=(table,))


def _untested_row(item: Untested, *, alike: int = 0) -> Row:
    more = (
        plural(
            alike,
            "and {count} more line with the same reason, counted together",
            "and {count} more lines with the same reason, counted together",
        )
        if alike
        else ""
    )
    return Row((Cell(visible(item.what), detail=more), Cell(count(item.count)), Cell(visible(item.reason))))


def _by_reason(untested: Sequence[Untested]) -> tuple[Row, ...]:
    """Return a row a reason, with the largest of what it left out and the sum over all."""
    rows = []
    for reason in dict.fromkeys(item.reason for item in untested):
        own = [item for item in untested if item.reason == reason]
        largest = max(own, key=lambda item: item.count)
        rows.append(_untested_row(replace(largest, count=sum(item.count for item in own)), alike=len(own) - 1))
    return tuple(rows)


def reasons_left_out(causal: CausalResult) -> str:
    """Return what was left out and why, in one sentence; nothing where nothing was."""
    reasons: Sequence[str] = [f"{visible(item.what)}: {visible(item.reason)}" for item in causal.untested]
    return _("Left out: {reasons}.", reasons="; ".join(reasons)) if reasons else ""
