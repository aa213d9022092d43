"""Which features fire together: an observation, with what chance and a naive test would have flagged."""

from __future__ import annotations

import math
from collections.abc import Sequence

from audit.records import CoFiring, CoFiringPair, Estimate
from reports.features import Names, cut_words
from reports.language import _
from reports.length import SHOWN_ROWS
from reports.numbers import NO_INTERVAL, count, decimal, listed, plain, probability, visible
from reports.queries import COFIRING
from reports.view import Cell, Column, Row, Table, whole

PRINTED_PAIRS = 5
PRINTED_COMMUNITIES = 3


def cofiring_counts(results: Sequence[CoFiring]) -> Table:
    """Return a row an SAE: how many pairs were tested and flagged, and what would be flagged without care."""
    return whole(
        Table(
            id="cofiring",
            query=COFIRING,
            caption=_("Features that fire together, counted (observed; nothing was compared or changed)"),
            columns=(
                Column(_("SAE")),
                Column(_("Texts"), numeric=True, detail=_("strata")),
                Column(_("Live features"), numeric=True),
                Column(_("Pairs tested"), numeric=True),
                Column(_("Flagged"), numeric=True),
                Column(_("Flagged when permuted"), numeric=True, detail=_("by chance, mean")),
                Column(_("Flagged by a naive test"), numeric=True, detail=_("chi-square, no strata")),
            ),
            rows=tuple(
                Row(
                    (
                        Cell(visible(result.sae), code=True),
                        Cell(count(result.units), detail=count(result.strata)),
                        Cell(count(result.live)),
                        Cell(count(result.pairs)),
                        Cell(count(result.flagged)),
                        Cell(decimal(result.flagged_permuted, 1)),
                        Cell(count(result.flagged_naive)),
                    )
                )
                for result in results
            ),
            note=_(
                "A text is one arm or cell of one scenario. Texts are compared within strata of equal cell and"
                " similar length, because long texts make everything fire together; the naive test shows what"
                " comes of leaving that out. “Permuted”: the same count after scenarios were exchanged at random"
                " within strata."
            ),
            layout="dense",
        )
    )


def cofiring_communities(results: Sequence[CoFiring], names: Names) -> Table:
    """Return the largest groups of features that fire together."""
    rows, printed = [], []
    for result in results:
        for place, community in enumerate(result.communities):
            row = Row(
                (
                    Cell(", ".join(filter(None, (str(community.number), names.short_place(result.sae))))),
                    Cell(count(community.size)),
                    Cell(", ".join(str(latent) for latent in community.latents), code=True),
                )
            )
            rows.append(row)
            if place < PRINTED_COMMUNITIES:
                printed.append(row)
    return Table(
        id="communities",
        query=COFIRING,
        caption=_("Groups of features that fire together, largest first"),
        columns=(Column(_("Group")), Column(_("Features"), numeric=True), Column(_("The most connected"))),
        rows=tuple(rows),
        printed=tuple(printed),
        cut=cut_words(
            len(printed),
            len(rows),
            _("The {number} largest groups of each instrument", number=PRINTED_COMMUNITIES),
        ),
        note=_("Groups are made for display; nothing was tested about them."),
        empty=_("No groups: too few pairs of features fire together."),
        layout="effects",
    )


def cofiring_pairs(results: Sequence[CoFiring], names: Names) -> Table:
    """Return the pairs with the strongest evidence."""
    rows, printed = [], []
    for result in results:
        for place, pair in enumerate(result.top):
            row = _pair_row(result, pair, names)
            rows.append(row)
            if place < PRINTED_PAIRS:
                printed.append(row)
    silent = [names.instrument(result.sae).label for result in results if not result.top]
    none = " " + _("No pair is listed for {instruments}.", instruments=listed(silent)) if silent and rows else ""
    return Table(
        id="cofiring-pairs",
        query=COFIRING,
        caption=_("The pairs with the strongest evidence of firing together, or apart"),
        columns=(
            Column(_("Features")),
            Column(_("Together"), numeric=True, detail=_("expected")),
            Column(_("Odds ratio"), numeric=True, detail=_("95% interval")),
            Column("q", numeric=True),
            Column(_("Decoder cosine"), numeric=True),
            Column(_("Group")),
        ),
        rows=tuple(rows),
        printed=tuple(printed),
        cut=cut_words(
            len(printed),
            len(rows),
            _("The first {number} pairs of each instrument", number=PRINTED_PAIRS),
        ),
        note=(
            _(
                "Odds ratio after Mantel and Haenszel; above 1 they fire together more often than their rates explain,"
                " below 1 less often. A decoder cosine near 1: two halves of one feature."
            )
            + none
        ),
        empty=_("No pair of features was flagged: none fires together more, or less, often than its rates explain."),
        shown=SHOWN_ROWS,
        layout="effects",
    )


def _ratio(value: float) -> str:
    """Return a ratio with two digits that count: its interval is far wider than a third."""
    if value == 0:
        return "0"
    places = 1 - math.floor(math.log10(value))
    return decimal(value, places) if places > 0 else count(int(round(value, places)))


def _ratios(odds: Estimate) -> str:
    return _(NO_INTERVAL) if odds.low is None or odds.high is None else f"[{_ratio(odds.low)}, {_ratio(odds.high)}]"


def _pair_row(result: CoFiring, pair: CoFiringPair, names: Names) -> Row:
    odds = pair.odds_ratio
    return Row(
        (
            names.pair(result.sae, pair.first, pair.second),
            Cell(count(pair.observed), detail=decimal(pair.expected, 1)),
            (
                Cell(_("infinite"), detail=_("never apart"))
                if odds is None
                else Cell(_ratio(odds.value), detail=_ratios(odds), sort=plain(odds.value))
            ),
            Cell(probability(pair.q_value), sort=plain(pair.q_value)),
            Cell(decimal(pair.cosine)),
            Cell(_("none") if pair.community is None else str(pair.community)),
        )
    )
