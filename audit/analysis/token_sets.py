"""Tokens as a guess at what a feature is about: chosen on one half of the scenarios, judged on the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.arrays import FloatArray

MOST_TOKENS = 5
# A piece beyond this share of the activation explains little and makes the guess fire where the feature is silent.
COVERED_MASS = 0.8


def typical_tokens(mass: FloatArray) -> NDArray[np.int64]:
    """Return the numbers of the pieces that hold most of a feature's activation, heaviest first.

    As many as `COVERED_MASS` of the whole takes, at most `MOST_TOKENS`; none where there is no mass. Equal ones keep
    their order.

    Args:
        mass: (p,) summed activation on each piece, not negative.
    """
    total = mass.sum()
    if total <= 0:
        return np.zeros(0, dtype=np.int64)
    order = np.argsort(-mass, kind="stable")[:MOST_TOKENS]
    before = np.cumsum(mass[order]) - mass[order]
    chosen: NDArray[np.int64] = order[(before < COVERED_MASS * total) & (mass[order] > 0)]
    return chosen


def token_set_auroc(fired: NDArray[np.int64], tokens: NDArray[np.int64], chosen: NDArray[np.int64]) -> float | None:
    """Return the AUROC of "the token is in the set" as a predictor of "the feature fires", over tokens.

    For a predictor that says yes or no this is the mean of sensitivity and specificity. It is 0.5 by chance however
    rarely the feature fires, so that features can be compared; average precision would be their density by chance.

    Args:
        fired: (p,) on how many tokens of each piece the feature fires.
        tokens: (p,) how many tokens there are of each piece.
        chosen: numbers of the pieces in the set.

    Returns:
        None when the feature fires on all tokens or on none.
    """
    firing, silent = int(fired.sum()), int(tokens.sum() - fired.sum())
    if firing == 0 or silent == 0:
        return None
    hits = int(fired[chosen].sum())
    false_alarms = int(tokens[chosen].sum()) - hits
    return (hits / firing + 1 - false_alarms / silent) / 2
