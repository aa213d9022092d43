"""Pairs of features that were changed together in a mix: the table, and a matrix for the mixes with most claims."""

from __future__ import annotations

from collections.abc import Sequence

from audit.records import CausalPair, Estimate, MixResult
from reports.causal_figures import MatrixCell, matrix_chart
from reports.contrasts import estimate_cell
from reports.features import Names, cut_words, headed, rung_cell, sham_cell
from reports.instruments import slug
from reports.length import SHOWN_ROWS, of_each
from reports.mixes import claimed, mix_title, pair_words
from reports.numbers import MINUS, count, plain, plural, probability, signed, visible
from reports.queries import PAIRS
from reports.view import Cell, Chart, Column, Row, Table

PRINTED_PAIRS_A_MIX = 2
MATRICES = 1
MATRIX_FEATURES = 12
# Fewer pairs are read from the table at a glance.
_PAIRS_FOR_A_MATRIX = 6
# What prints as 0.000.
_SMALLEST = 5e-4


def pair_table(mixes: Sequence[MixResult], names: Names) -> Table:
    """Return a row a pair, claims first; every value is exact."""
    rows, printed = [], []
    each = of_each(len(mixes), usual=PRINTED_PAIRS_A_MIX)
    for mix in mixes:
        ordered = sorted(mix.pairs, key=lambda pair: (-pair.rung.height, -abs(pair.interaction.value), pair.id))
        for place, pair in enumerate(ordered):
            row = mix_title(mix), _row(pair, names)
            rows.append(row)
            if place < each:
                printed.append(row)
    return Table(
        id="pairs",
        query=PAIRS,
        caption="Pairs of features changed together: what they do to the answer beyond what each does (nats, exact)",
        columns=(
            Column("Features"),
            Column("Question about"),
            Column("Alone", numeric=True, detail="first; second"),
            Column("Interaction", numeric=True, detail="95% interval"),
            Column("p Holm", numeric=True),
            Column("Shams", numeric=True, detail="that do as much; p / level"),
            Column("Claim"),
            Column("n", numeric=True),
        ),
        rows=headed(rows),
        printed=headed(printed),
        cut=cut_words(len(printed), len(rows), f"of each mix the first {plural(each, 'pair')}, claims first,"),
        note=(
            "Above 0 the pair is synergistic, below 0 redundant. A claim needs two confirmed features, the sign-flip"
            " test over scenarios, Holm corrected, and an interaction beyond the shams: pairs of features that fire in"
            " the same prompts, matched in norm and in decoder cosine. All sham tests of an instrument share one level."
        ),
        empty="No pair of features was changed together.",
        shown=SHOWN_ROWS,
        layout="effects",
    )


def _interaction_cell(interaction: Estimate) -> Cell:
    """Return an interaction; one that rounds to nothing with its interval is a size, not a row of zeros."""
    ends = (interaction.value, interaction.low, interaction.high)
    if all(end is not None and abs(end) < _SMALLEST for end in ends):
        return Cell("below 0.001", detail="in size, interval too", sort=plain(interaction.value))
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
                "none" if pair.word is None else pair.word.value,
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
    title = f"Interactions of pairs of features in “{mix_title(mix)}”{at and f', {at}'} (nats)"
    words = pair_words(mix)
    limit = f" Of {count(len(latents))} features {count(len(drawn))} are drawn." if len(drawn) < len(latents) else ""
    return Chart(
        id=chart_id,
        svg=matrix_chart(
            tuple(str(latent) for latent in drawn),
            cells,
            chart_id=chart_id,
            title=f"{title}. {words}.",
            description="The table below has the numbers.",
        ),
        title=title,
        description=words,
        caption=(
            f"{title}. Blue with +: synergy; orange with {MINUS}: redundancy; framed: claimed; empty: not"
            f" measured. Where a pair was measured on two questions, the stronger claim is drawn.{limit}"
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
