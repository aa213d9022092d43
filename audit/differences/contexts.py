"""Where the features that changed fire most, on both models side by side, token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audit.evidence.activations import read_activations
from audit.evidence.scores import read_contexts
from audit.evidence.store import Store
from audit.records import (
    Context,
    DifferenceRow,
    FeatureContexts,
    InstrumentPair,
    PairedContext,
    PairedToken,
    Quantile,
    RowKind,
    TokenActivation,
    Verdict,
)

# A result must stay small enough to read and to attach; every row names its feature, and both bundles hold its texts.
MOST_CHANGED = 12
MOST_MOVED = 4
STRONGEST = 2


@dataclass(frozen=True, slots=True)
class _Pair:
    sae: str
    new_sae: str
    base: int
    new: int


def paired_contexts(
    stores: tuple[Store, Store], rows: Sequence[DifferenceRow], instruments: Sequence[InstrumentPair]
) -> tuple[FeatureContexts, ...]:
    """Return the strongest held-out prompts of the features that changed, with the activations on both models.

    At most 12 features, those with the surest change first; where none changed, at most 4 of those that moved most. Of
    each the two strongest prompts on either model, as in feature cards.

    Args:
        stores: the evidence of base and new.
        rows: the rows of the comparison.
        instruments: which SAE stands for which.
    """
    new_names = {pair.base: pair.new for pair in instruments}
    shown: dict[_Pair, list[str]] = {}
    chosen, most = _chosen(rows)
    for row in chosen:
        new_sae = new_names.get(row.sae or "")
        if row.sae is None or new_sae is None or row.base_latent is None or row.new_latent is None:
            continue
        pair = _Pair(row.sae, new_sae, row.base_latent, row.new_latent)
        if pair in shown or len(shown) < most:
            shown.setdefault(pair, []).append(row.id)
    found: dict[_Pair, tuple[PairedContext, ...]] = {}
    for sae, new_sae in dict.fromkeys((pair.sae, pair.new_sae) for pair in shown):
        found |= _read(stores, [pair for pair in shown if (pair.sae, pair.new_sae) == (sae, new_sae)])
    return tuple(
        FeatureContexts(pair.sae, pair.new_sae, pair.base, pair.new, tuple(ids), found[pair])
        for pair, ids in shown.items()
    )


def _chosen(rows: Sequence[DifferenceRow]) -> tuple[list[DifferenceRow], int]:
    features = [row for row in rows if row.kind is RowKind.FEATURE]
    if changed := [row for row in features if row.verdict is Verdict.CHANGED]:
        return sorted(changed, key=lambda row: (row.q_value, -abs(row.effect or 0.0), row.id)), MOST_CHANGED
    moved = [row for row in features if row.n_moved]
    return sorted(moved, key=lambda row: (-abs(row.effect or 0.0), row.id)), MOST_MOVED


def _read(stores: tuple[Store, Store], pairs: Sequence[_Pair]) -> dict[_Pair, tuple[PairedContext, ...]]:
    """Return the contexts of features of one pair of SAEs."""
    sides = ((pairs[0].sae, [pair.base for pair in pairs]), (pairs[0].new_sae, [pair.new for pair in pairs]))
    tops = [
        _tops(read_contexts(store, sae=sae, latents=sorted({*latents}), most=STRONGEST))
        for store, (sae, latents) in zip(stores, sides, strict=True)
    ]
    prompts = {
        pair: list(dict.fromkeys([*(tops[0].get(pair.base, {})), *(tops[1].get(pair.new, {}))])) for pair in pairs
    }
    base, new = (
        read_activations(
            store,
            sae=sae,
            wanted=sorted(
                {(latent, prompt) for pair, latent in zip(pairs, own, strict=True) for prompt in prompts[pair]}
            ),
        )
        for store, (sae, own) in zip(stores, sides, strict=True)
    )
    found = {}
    for pair, own in prompts.items():
        places = tops[0].get(pair.base, {}), tops[1].get(pair.new, {})
        found[pair] = tuple(_paired(prompt, places, (base[pair.base, prompt], new[pair.new, prompt])) for prompt in own)
    return found


def _tops(contexts: Mapping[int, Sequence[Context]]) -> dict[int, dict[int, tuple[int, Context]]]:
    """Return of each latent its strongest prompts in their order: number -> (place, context)."""
    return {
        latent: {
            int(context.prompt): (place, context)
            for place, context in enumerate((one for one in own if one.quantile is Quantile.TOP), start=1)
        }
        for latent, own in contexts.items()
    }


def _paired(
    prompt: int,
    tops: tuple[Mapping[int, tuple[int, Context]], Mapping[int, tuple[int, Context]]],
    tokens: tuple[Sequence[TokenActivation], Sequence[TokenActivation]],
) -> PairedContext:
    places = [own[prompt][0] if prompt in own else None for own in tops]
    context = next(own[prompt][1] for own in tops if prompt in own)
    return PairedContext(
        prompt=context.prompt,
        concept=context.concept,
        arm=context.arm,
        base_place=places[0],
        new_place=places[1],
        tokens=tuple(
            PairedToken(one.text, one.activation, other.activation) for one, other in zip(*tokens, strict=True)
        ),
    )
