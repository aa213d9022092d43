"""What was found in each mix of two concepts, what was not, and what has no answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

from audit.graph import deciding_effect
from audit.records import CausalPair, MixEffect, MixFinding, MixMeasure, MixResult, MixScan, MixWord, PairWord, Rung
from reports.contrasts import estimate_cell
from reports.features import Names, cut_words, headed, rung_cell
from reports.interaction_words import MEASURE_WORDS
from reports.language import _
from reports.length import SHOWN_ROWS, of_each
from reports.numbers import count, decimal, listed, plain, plural, probability, share, visible
from reports.queries import MIXES
from reports.view import Cell, Column, Row, Table, whole
from reports.words import word

PRINTED_FEATURES_A_MIX = 2


class MixAnswer(StrEnum):
    """What the contrast says about a mix, over all instruments."""

    FOUND = "found"
    NONE = "none found"
    UNRESOLVED = "unresolved"


def mix_answer(mix: MixResult) -> MixAnswer:
    """Return whether any feature is confirmed; `none found` needs an instrument that could be read."""
    if any(confirmed(scan) for scan in mix.scans):
        return MixAnswer.FOUND
    if any(scan.rung is not Rung.UNRESOLVED for scan in mix.scans):
        return MixAnswer.NONE
    return MixAnswer.UNRESOLVED


def confirmed(scan: MixScan) -> tuple[MixFinding, ...]:
    """Return the features for which a word is confirmed."""
    return tuple(found for found in scan.findings if found.rung.height >= Rung.CONFIRMED.height)


def claimed(mix: MixResult) -> tuple[CausalPair, ...]:
    """Return the pairs for which a word is claimed."""
    return tuple(pair for pair in mix.pairs if pair.word is not None and pair.rung is Rung.CAUSAL)


def unresolved(mix: MixResult) -> tuple[CausalPair, ...]:
    """Return the pairs that have no answer: neither a claim nor a null."""
    return tuple(pair for pair in mix.pairs if _no_answer(pair))


def _no_answer(pair: CausalPair) -> str:
    """Return why a pair is neither claimed nor a null; nothing where it is one of the two."""
    if pair.rung is Rung.UNRESOLVED:
        return visible(pair.reason)
    if pair.rung is not Rung.ASSOCIATED:
        return ""
    if pair.shams is None:
        return _("passed over scenarios, no sham test was run")
    return _("passed, but not both features are confirmed") if pair.shams.p_value <= pair.shams.level else ""


def mix_title(mix: MixResult) -> str:
    """Return a mix's title as it is printed."""
    return visible(mix.title)


def honest_table(mixes: Sequence[MixResult], names: Names) -> Table:
    """Return a row a mix: what is confirmed in which layer, what was tested without a finding, what has no answer."""
    return whole(
        Table(
            id="mixes",
            query=MIXES,
            caption=_("Mix by mix: what was found, in which layer, what was not, and what has no answer"),
            columns=(
                Column(_("Mix")),
                Column(_("In the mix"), detail=_("contrast: features confirmed")),
                Column(_("Changed together"), detail=_("intervention: pairs claimed")),
                Column(_("Tested, none found")),
                Column(_("Unresolved or untested")),
            ),
            rows=tuple(_honest_row(mix, names) for mix in mixes),
            note=_(
                "Features: confirmed for one of the two concepts on other texts, and those that a scan over all"
                " live features chose on discovery; every number is from the confirmation scenarios. “Exchanged”:"
                " in how many runs the whole procedure finds anything when the second concept and the placebo, a"
                " harmless subject, change places in a random half of the scenarios; “placebo itself”: for how"
                " many features a word would hold of the placebo if it were enough to differ from filler. Which"
                " features fire together is not a question about a mix; it follows below."
            ),
            layout="mixes",
        )
    )


def _honest_row(mix: MixResult, names: Names) -> Row:
    return Row(
        (
            Cell(
                mix_title(mix),
                detail=f"{listed([names.title(concept) for concept in mix.concepts])}; n {count(mix.n_confirmation)}",
            ),
            _contrast_cell(mix, names),
            _pairs_cell(mix, names),
            Cell("\n".join(_null_lines(mix, names)) or _("nothing was tested")),
            Cell("\n".join(_open_lines(mix, names)) or _("nothing")),
        )
    )


def _contrast_cell(mix: MixResult, names: Names) -> Cell:
    if mix_answer(mix) is MixAnswer.UNRESOLVED:
        return Cell(_("no answer"), mark="unresolved")
    lines, placebo = [], []
    for scan in mix.scans:
        words = Counter(word for found in confirmed(scan) for word in found.words)
        at = names.short_place(scan.sae)
        if words:
            lines.append(_counts(words) + (at and f" ({at})"))
        if scan.rung is not Rung.UNRESOLVED:
            beside = _(
                "exchanged: {found} of {runs}; placebo itself: {features}",
                found=count(scan.placebo_findings),
                runs=plural(scan.relabellings, "{count} run", "{count} runs"),
                features=plural(scan.placebo_alone, "{count} feature", "{count} features"),
            )
            placebo.append(beside + (at and f" ({at})"))
    if not lines:
        return Cell(_("none"), detail="; ".join(placebo), mark="absent")
    return Cell("\n".join(lines), detail="; ".join(placebo), mark="seen")


def _pairs_cell(mix: MixResult, names: Names) -> Cell:
    if not mix.pairs:
        return Cell(_("not tested"), mark="unresolved")
    lines = []
    for sae in names.instruments:
        words = Counter(pair.word for pair in claimed(mix) if pair.sae == sae and pair.word is not None)
        at = names.short_place(sae)
        if words:
            lines.append(_counts(words) + (at and f" ({at})"))
    if lines:
        return Cell("\n".join(lines), mark="seen")
    if len(unresolved(mix)) == len(mix.pairs):
        return Cell(_("no answer"), mark="unresolved")
    return Cell(_("none"), mark="absent")


def _counts(words: Counter[MixWord] | Counter[PairWord]) -> str:
    """Return `synergy 3, suppression 1`, in the order of the words."""
    order: list[MixWord | PairWord] = [*MixWord, *PairWord]
    counted: list[tuple[MixWord | PairWord, int]] = [*words.items()]
    return ", ".join(
        f"{word(claim)} {count(number)}" for claim, number in sorted(counted, key=lambda item: order.index(item[0]))
    )


def _null_lines(mix: MixResult, names: Names) -> list[str]:
    lines = []
    for scan in mix.scans:
        if scan.rung is Rung.UNRESOLVED:
            continue
        tested = scan.confirmed_tested + scan.scan_selected
        found, at = len(confirmed(scan)), names.place(scan.sae)
        begin = f"{at}: " if at else ""
        chosen = " " + _(
            "({selected} chosen by a scan over {tested})",
            selected=count(scan.scan_selected),
            tested=count(scan.scan_tested),
        )
        words = (
            plural(tested, "{null} of {count} feature", "{null} of {count} features", null=count(tested - found))
            if found
            else plural(tested, "{count} feature tested, none found", "{count} features tested, none found")
        )
        lines.append(f"{begin}{words}{chosen}")
    null = len(mix.pairs) - len(claimed(mix)) - len(unresolved(mix))
    if null:
        lines.append(
            plural(
                len(mix.pairs),
                "{null} of {count} pair changed together",
                "{null} of {count} pairs changed together",
                null=count(null),
            )
        )
    return lines


def _open_lines(mix: MixResult, names: Names) -> list[str]:
    lines = []
    for scan in mix.scans:
        at = names.place(scan.sae)
        begin = f"{at}: " if at else ""
        if scan.rung is Rung.UNRESOLVED:
            lines.append(begin + _("unresolved: {reason}", reason=visible(scan.reason)))
        elif scan.rung.height < Rung.CONFIRMED.height:
            lines.append(f"{begin}{visible(scan.reason)}")
        weaker = len(scan.findings) - len(confirmed(scan))
        if weaker:
            lines.append(begin + plural(weaker, "{count} feature below confirmed", "{count} features below confirmed"))
    reasons = Counter(_no_answer(pair) for pair in unresolved(mix))
    lines += [
        plural(number, "{count} pair unresolved: {reason}", "{count} pairs unresolved: {reason}", reason=reason)
        for reason, number in reasons.items()
    ]
    return [*lines, *(_shortly(visible(text), mix, names) for text in mix.untested)]


def _shortly(text: str, mix: MixResult, names: Names) -> str:
    """Return a line without the names that its row and column heads say already."""
    text = text.replace(f" in {visible(mix.id)}", "")
    for sae in names.instruments:
        place = names.short_place(sae)
        if place:
            text = text.replace(f"through {visible(sae)}", f"at {place}").replace(f"of {visible(sae)}", f"at {place}")
    return text


def mix_features(mixes: Sequence[MixResult], names: Names) -> Table:
    """Return a row a feature and measure; on paper the first features of each mix with the measures of their words."""
    rows, printed = [], []
    each = of_each(len(mixes), usual=PRINTED_FEATURES_A_MIX)
    for mix in mixes:
        found = [item for scan in mix.scans for item in in_rung_order(scan.findings)]
        for place, item in enumerate(found):
            decisive = {effect.measure for word in item.words if (effect := deciding_effect(item, word)) is not None}
            for effect in item.effects:
                row = mix_title(mix), _feature_row(item, effect, names)
                rows.append(row)
                if place < each and effect.measure in decisive:
                    printed.append(row)
    return Table(
        id="mix-features",
        query=MIXES,
        caption=_(
            "Features that react to a mix, with every measure, against the placebo (confirmation scenarios only)"
        ),
        columns=(
            Column(_("Feature")),
            Column(_("Claim")),
            Column(_("Chosen")),
            Column(_("Measure")),
            Column(_("Effect"), numeric=True, detail=_("95% interval")),
            Column(_("Minus placebo's"), numeric=True, detail=_("95% interval")),
            Column(_("p Holm"), numeric=True, detail="p"),
            Column("n", numeric=True, detail=_("alone")),
        ),
        rows=headed(rows),
        printed=headed(printed),
        cut=cut_words(
            len(printed),
            len(rows),
            plural(
                each,
                "Of each mix the first {count} feature by rung, with the measure that decides,",
                "Of each mix the first {count} features by rung, with the measure that decides,",
            ),
        ),
        note=_(
            "A claim needs the effect and its difference from the placebo's to pass; p is the larger of the two."
            " Effects are sums of activations over the matched words, and shares of scenarios for “fires on both"
            " only”. “Alone” is the share of scenarios in which the feature fires on one concept alone."
        ),
        empty=_("No feature was found in any mix."),
        shown=SHOWN_ROWS,
        layout="effects",
    )


def in_rung_order(findings: Sequence[MixFinding]) -> list[MixFinding]:
    """Return findings by rung, highest first, and within one in the order of the record."""
    return sorted(findings, key=lambda found: -found.rung.height)


def _feature_row(found: MixFinding, effect: MixEffect, names: Names) -> Row:
    places = 3 if effect.measure is MixMeasure.EMERGENT else 2
    owners = (
        _("for {concepts}", concepts=listed([names.title(owner) for owner in found.owners]))
        if found.owners
        else _("by the scan")
    )
    rung = rung_cell(found.rung)
    return Row(
        (
            names.feature(found.sae, found.latent),
            Cell(rung.text, detail=listed([word(claim) for claim in found.words]), sort=rung.sort, mark=rung.mark),
            Cell(owners),
            Cell(_(MEASURE_WORDS[effect.measure])),
            estimate_cell(effect.effect, with_sign=True, places=places),
            estimate_cell(effect.against_placebo, with_sign=True, places=places),
            Cell(probability(effect.p_holm), detail=probability(effect.p_value), sort=plain(effect.p_holm)),
            Cell(count(found.n_scenarios), detail=share(found.single_firing)),
        )
    )


def pair_words(mix: MixResult) -> str:
    """Return the measured interactions of a mix in words, for a drawing's text alternative."""
    return "; ".join(
        _(
            "{first} and {second} {interaction}",
            first=pair.first,
            second=pair.second,
            interaction=decimal(pair.interaction.value, 3),
        )
        + (f" ({word(pair.word)})" if pair.word is not None else "")
        for pair in mix.pairs
    )
