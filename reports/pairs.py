"""Pairs of features that were changed together in a mix: the table, and a matrix for the mixes with most claims."""

from __future__ import annotations

from collections.abc import Sequence

from audit.records import CausalPair, Estimate, MixResult
from reports.causal_figures import MatrixCell, matrix_chart
from reports.contrasts import estimate_cell
from reports.features import Names, cut_words, headed, rung_cell, sham_cell
from reports.instruments import slug
from reports.language import _
from reports.length import DETAILED_MIXES, SHOWN_ROWS
from reports.mixes import claimed, mix_title, pair_words
from reports.numbers import MINUS, count, plain, plural, probability, signed, visible
from reports.queries import PAIRS
from reports.view import Cell, Chart, Column, Row, Table
from reports.words import word

PRINTED_PAIRS_A_MIX = 2
# Of many mixes: how many pairs paper shows that nothing is claimed of.
PRINTED_SILENT = 5
MATRICES = 1
MATRIX_FEATURES = 12
# Fewer pairs are read from the table at a glance.
_PAIRS_FOR_A_MATRIX = 6
# What prints as 0.000.
_SMALLEST = 5e-4


def pair_table(mixes: Sequence[MixResult], names: Names) -> Table:
    """Return a row a pair, claims first; every value is exact."""
    ordered = [
        (mix, pair, place)
        for mix in mixes
        for place, pair in enumerate(
            sorted(mix.pairs, key=lambda pair: (-pair.rung.height, -abs(pair.interaction.value), pair.id))
        )
    ]
    chosen, what = _chosen([(pair, place) for _mix, pair, place in ordered], mixes=len(mixes))
    rows = [(mix_title(mix), _row(pair, names)) for mix, pair, _place in ordered]
    printed = [row for row, (_mix, pair, _place) in zip(rows, ordered, strict=True) if pair.id in chosen]
    return Table(
        id="pairs",
        query=PAIRS,
        caption=_("Pairs of features changed together: what they do to the answer beyond what each does (nats, exact)"),
        columns=(
            Column(_("Features")),
            Column(_("Question about")),
            Column(_("Alone"), numeric=True, detail=_("first; second")),
            Column(_("Interaction"), numeric=True, detail=_("95% interval")),
            Column(_("p Holm"), numeric=True),
            Column(_("Shams"), numeric=True, detail=_("that do as much; p / level")),
            Column(_("Claim")),
            Column("n", numeric=True),
        ),
        rows=headed(rows),
        printed=headed(printed),
        cut=cut_words(len(printed), len(rows), what),
        note=_(
            "Above 0 the pair is synergistic, below 0 redundant. A claim needs two confirmed features, the"
            " sign-flip test over scenarios, Holm corrected, and an interaction beyond the shams: pairs of"
            " features that fire in the same prompts, matched in norm and in decoder cosine. All sham tests of an"
            " instrument share one level."
        ),
        empty=_("No pair of features was changed together."),
        shown=SHOWN_ROWS,
        layout="effects",
    )


def _chosen(pairs: Sequence[tuple[CausalPair, int]], *, mixes: int) -> tuple[frozenset[str], str]:
    """Return the ids of the pairs that paper shows, and which these are, as a sentence begins with it.

    Args:
        pairs: each with its place in its own mix.
        mixes: how many there are; of many, paper shows what was claimed, and a few of those that were not.
    """
    if mixes <= DETAILED_MIXES:
        what = plural(
            PRINTED_PAIRS_A_MIX,
            "Of each mix the first {count} pair, claims first,",
            "Of each mix the first {count} pairs, claims first,",
        )
        return frozenset(pair.id for pair, place in pairs if place < PRINTED_PAIRS_A_MIX), what
    claims = [pair.id for pair, place in pairs if pair.word is not None and place == 0]
    silent = sorted((pair for pair, _ in pairs if pair.word is None), key=lambda pair: -abs(pair.interaction.value))
    what = plural(
        PRINTED_SILENT,
        "The first claim of each mix and the {count} largest interaction without a claim",
        "The first claim of each mix and the {count} largest interactions without a claim",
    )
    return frozenset((*claims, *(pair.id for pair in silent[:PRINTED_SILENT]))), what


def _interaction_cell(interaction: Estimate) -> Cell:
    """Return an interaction; one that rounds to nothing with its interval is a size, not a row of zeros."""
    ends = (interaction.value, interaction.low, interaction.high)
    if all(end is not None and abs(end) < _SMALLEST for end in ends):
        return Cell(_("below 0.001"), detail=_("in size, interval too"), sort=plain(interaction.value))
    return estimate_cell(interaction, with_sign=True, places=3)


def _row(pair: CausalPair, names: Names) -> Row:
    rung = rung_cell(pair.rung)
    return Row(
        (
            names.pair(pair.sae, pair.first, pair.second),
            Cell(names.title(pair.question)),
            Cell(signed(pair.first_effect.value, 3), detail=signed(pair.second_effect.value, 3)),
            _interaction_cell(pair.interaction),
            Cell(probability(pair.p_holm), sort=plain(pair.p_holm)),
            sham_cell(pair.shams),
            Cell(
                _("none") if pair.word is None else word(pair.word),
                detail=visible(pair.reason) if pair.word is None else rung.text,
                mark=rung.mark,
            ),
            Cell(count(pair.n_scenarios)),
        )
    )


def matrix_charts(mixes: Sequence[MixResult], names: Names) -> tuple[Chart, ...]:
    """Return a matrix of exact interactions for the mixes with most claims; mixes with few pairs need none."""
    many = [mix for mix in mixes if len(mix.pairs) >= _PAIRS_FOR_A_MATRIX and claimed(mix)]
    chosen = sorted(many, key=lambda mix: -len(claimed(mix)))[:MATRICES]
    return tuple(_matrix(mix, names) for mix in chosen)


def _matrix(mix: MixResult, names: Names) -> Chart:
    sae = claimed(mix)[0].sae
    own = sorted((pair for pair in mix.pairs if pair.sae == sae), key=lambda pair: -pair.rung.height)
    latents = sorted(dict.fromkeys(latent for pair in own for latent in (pair.first, pair.second)))
    drawn = _first_features(own) if len(latents) > MATRIX_FEATURES else latents
    cells = tuple(
        MatrixCell(drawn.index(pair.first), drawn.index(pair.second), pair.interaction.value, pair.word is not None)
        for pair in _one_question(own)
        if pair.first in drawn and pair.second in drawn
    )
    chart_id = f"matrix-{slug(mix.id)}"
    at = names.short_place(sae)
    title = (
        _("Interactions of pairs of features in “{mix}”, {place} (nats)", mix=mix_title(mix), place=at)
        if at
        else _("Interactions of pairs of features in “{mix}” (nats)", mix=mix_title(mix))
    )
    words = pair_words(mix)
    limit = (
        " " + _("Of {total} features {drawn} are drawn.", total=count(len(latents)), drawn=count(len(drawn)))
        if len(drawn) < len(latents)
        else ""
    )
    return Chart(
        id=chart_id,
        svg=matrix_chart(
            tuple(str(latent) for latent in drawn),
            cells,
            chart_id=chart_id,
            title=f"{title}. {words}.",
            description=_("The table below has the numbers."),
        ),
        title=title,
        description=words,
        caption=(
            _(
                "{title}. Blue with +: synergy; orange with {minus}: redundancy; framed: claimed; empty: not"
                " measured. Where a pair was measured on two questions, the stronger claim is drawn.",
                title=title,
                minus=MINUS,
            )
            + limit
        ),
    )


def _one_question(pairs: Sequence[CausalPair]) -> list[CausalPair]:
    """Return each pair once, with the stronger claim."""
    best: dict[tuple[int, int], CausalPair] = {}
    for pair in pairs:
        key = (min(pair.first, pair.second), max(pair.first, pair.second))
        if key not in best or _strength(pair) > _strength(best[key]):
            best[key] = pair
    return list(best.values())


def _strength(pair: CausalPair) -> tuple[bool, float]:
    return pair.word is not None, abs(pair.interaction.value)


def _first_features(pairs: Sequence[CausalPair]) -> list[int]:
    """Return as many features as are drawn, those of the claims first."""
    latents: list[int] = []
    for pair in pairs:
        new = [latent for latent in (pair.first, pair.second) if latent not in latents]
        if len(latents) + len(new) <= MATRIX_FEATURES:
            latents += new
    return sorted(latents)
