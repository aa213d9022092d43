"""The words of a difference: its verdicts, its rows, and numbers in the unit of their row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audit.records import DifferenceResult, DifferenceRow, InstrumentPair, MixMeasure, RowKind, Verdict
from reports.instruments import place_words
from reports.interaction_words import MEASURE_WORDS
from reports.language import N_, _
from reports.numbers import NOT_MEASURED, decimal, signed, visible
from reports.view import Cell
from reports.words import word

RECORD = "diff.json"
ELSEWHERE = N_("the HTML report and in diff.json, which is attached to this file")
# Longer texts are whole in the record: one without a break would take pages, and minutes to set.
TITLE_MOST = 90
REASON_MOST = 400
# Two decimals are shown: what is smaller would read as nothing.
_LEAST_SHOWN = 0.01
_MARKS = {
    Verdict.CHANGED: "changed",
    Verdict.EQUIVALENT: "equivalent",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.NOT_COMPARABLE: "incomparable",
}
_VERDICTS = {
    Verdict.CHANGED: N_("changed"),
    Verdict.EQUIVALENT: N_("equivalent"),
    Verdict.INCONCLUSIVE: N_("cannot be told"),
    Verdict.NOT_COMPARABLE: N_("not comparable"),
}
# What a reader looks for first.
ORDER = (Verdict.CHANGED, Verdict.INCONCLUSIVE, Verdict.EQUIVALENT, Verdict.NOT_COMPARABLE)
_MEASURES = {measure.value: MEASURE_WORDS[measure] for measure in MixMeasure}


def verdict_cell(verdict: Verdict) -> Cell:
    """Return a verdict with its mark; sorted by what a reader looks for first."""
    return Cell(_(_VERDICTS[verdict]), mark=_MARKS[verdict], sort=str(ORDER.index(verdict)))


def verdict_words(verdict: Verdict) -> str:
    """Return a verdict in plain words."""
    return _(_VERDICTS[verdict])


def verdict_mark(verdict: Verdict) -> str:
    """Return the style of a verdict's mark."""
    return _MARKS[verdict]


def shortened(text: str, most: int = TITLE_MOST) -> str:
    """Return prose with nothing hidden in it, and the end of a very long one left to the record."""
    shown = visible(text)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


@dataclass(frozen=True, slots=True)
class DifferenceNames:
    """How one report speaks of concepts, instruments and rows.

    Args:
        titles: of concepts and mixes, by id.
        numbers: of the base's SAEs, from 1.
        places: the fragment of each part's passage.
    """

    titles: Mapping[str, str]
    numbers: Mapping[str, int]
    places: Mapping[str, str]

    def title(self, part: str) -> str:
        """Return a part's title, or its id where it is none of this comparison's."""
        return self.titles.get(part, shortened(part))

    def instrument(self, sae: str | None) -> str:
        """Return `instrument 2`, or nothing where there is no other."""
        if sae is None or len(self.numbers) < 2:
            return ""
        return _("instrument {number}", number=self.numbers[sae]) if sae in self.numbers else shortened(sae)

    def row(self, row: DifferenceRow) -> str:
        """Return what a row compares, without its part."""
        latent = latent_words(row)
        contrast = "" if row.contrast is None else word(row.contrast)
        if row.kind is RowKind.FEATURE:
            return _("feature {latent}, {contrast}", latent=latent, contrast=contrast)
        if row.kind is RowKind.INTERACTION:
            return _("feature {latent}, {measure}", latent=latent, measure=_measure(row.measure))
        if row.kind is RowKind.FEATURE_AUROC:
            return _("AUROC of the first feature ({latent}), {contrast}", latent=latent, contrast=contrast)
        return word(row.kind) + (f", {contrast}" if contrast else "")


def names_of_difference(result: DifferenceResult) -> DifferenceNames:
    """Return how the report speaks of what was compared."""
    parts = (*result.concepts, *result.mixes)
    return DifferenceNames(
        titles={part.id: shortened(part.title) for part in parts},
        numbers={pair.base: number for number, pair in enumerate(result.instruments, start=1)},
        places={part.id: f"rows-{number}" for number, part in enumerate(parts, start=1)},
    )


def instrument_heading(pair: InstrumentPair, names: DifferenceNames) -> str:
    """Return the heading of an instrument, with the place that it reads."""
    place = place_words(pair.site)
    if len(names.numbers) < 2:
        return _("Instrument ({place})", place=place)
    return _("Instrument {number} ({place})", number=names.numbers[pair.base], place=place)


def latent_words(row: DifferenceRow) -> str:
    """Return the number of a row's feature, or both where the models' SAEs number it differently."""
    if row.base_latent == row.new_latent:
        return str(row.base_latent)
    return _("{base} in the base, {new} in the new", base=row.base_latent, new=row.new_latent)


def places_of(row: DifferenceRow) -> int:
    """Return with how many places the numbers of a row are printed: three digits of its smallest limit, or so."""
    reference = next((abs(value) for value in (row.margin, row.scale, row.base_mean) if value), 1.0)
    return min(6, max(2, 1 - math.floor(math.log10(reference)))) if math.isfinite(reference) else 2


def span(low: float, high: float, places: int) -> str:
    """Return `[low, high]`, or `not measured` where an end is open."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return _(NOT_MEASURED)
    return f"[{signed(low, places)}, {signed(high, places)}]"


def in_sd(value: float | None) -> str:
    """Return a number of standard deviations, or `not measured`."""
    return decimal(value) if value is None else _("{number} SD", number=decimal(value))


def least_seen(value: float | None) -> str:
    """Return the smallest change that could have been seen, in standard deviations; equal numbers hide none."""
    if value is not None and value < _LEAST_SHOWN:
        return _("any") if value == 0 else _("under {number} SD", number=decimal(_LEAST_SHOWN))
    return in_sd(value)


def by_evidence(rows: Sequence[DifferenceRow]) -> list[DifferenceRow]:
    """Return rows in the order in which a reader looks at them: by verdict, then the surest and largest first."""
    return sorted(rows, key=lambda row: (ORDER.index(row.verdict), row.q_value, -abs(row.effect or 0.0), row.id))


def _measure(measure: str | None) -> str:
    if measure is None:
        return _(NOT_MEASURED)
    return _(_MEASURES[measure]) if measure in _MEASURES else visible(measure)
