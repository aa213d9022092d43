"""Meaningless interventions of equal size: what an effect must exceed beside passing its own test.

A deterministic model changes its answer whatever is changed in it. The question is whether this change does more than
others of the same size: p = (1 + exceeding) / (1 + count). Two things save work and cannot turn a refusal into a claim:
runs end as soon as p is certain to lie above the level (Besag and Clifford 1991), and where the first-order estimate
was accepted, a sham is run only if its estimate comes near the effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import floor

import numpy as np
from numpy.typing import NDArray

from audit.records import ShamTest

FloatArray = NDArray[np.float64]
Measure = Callable[[tuple[int, ...]], FloatArray]

# A sham whose estimate is below this share of the effect is not run.
NEAR = 0.5
_TIE = 1e-9


@dataclass(frozen=True, slots=True)
class Shams:
    """A sham test with the mean effect of each sham that was run, by its number."""

    test: ShamTest
    means: Mapping[int, float]


def sham_test(
    effect: float, measure: Measure, *, count: int, alpha: float, estimates: FloatArray | None = None
) -> Shams:
    """Compare an effect with those of shams of equal size, by absolute value; a tie exceeds.

    Args:
        effect: the mean over scenarios that is claimed.
        measure: runs the shams of the given numbers, 0 to count - 1, and returns the mean effect of each.
        count: how many shams there are.
        alpha: the level.
        estimates: (count,) first-order mean effects, where they may choose what is run: largest first, those from
            `NEAR` times the effect on; the others count as not exceeding. None: all are run, in order.

    Returns:
        The p-value is exact up to the level. Above it, it is a lower bound: runs ended when the level was exceeded.
    """
    order = np.arange(count)
    if estimates is not None:
        order = np.argsort(-np.abs(estimates), kind="stable")
        order = order[np.abs(estimates[order]) >= NEAR * abs(effect)]
    # (1 + exceeding) / (1 + count) > alpha from here on.
    enough = floor(alpha * (1 + count) + _TIE)
    means: dict[int, float] = {}
    exceeding = 0
    while exceeding < enough and len(means) < len(order):
        # Fewer cannot end it, so these run together and none of them in vain.
        numbers = tuple(int(n) for n in order[len(means) : len(means) + enough - exceeding])
        found = measure(numbers)
        means |= dict(zip(numbers, found.tolist(), strict=True))
        exceeding += int((np.abs(found) >= abs(effect) * (1 - _TIE)).sum())
    return Shams(ShamTest(count, len(means), exceeding, (1 + exceeding) / (1 + count)), means)


def matched_pairs(
    wanted: tuple[float, float, float],
    norms: tuple[FloatArray, FloatArray],
    cosines: FloatArray,
    *,
    count: int,
    sides: int,
) -> tuple[tuple[int, int], ...]:
    """Return the pairs of features that are nearest to a given one in the norms of both changes and in cosine.

    Args:
        wanted: norm of the first feature's change, of the second's, and the cosine of their decoder rows.
        norms: (m,) norm of each feature's change in the first and in the second role; 0 where it does not fire.
        cosines: (m, m) of decoder rows.
        count: how many pairs at most.
        sides: how many features stand on each side of the pairs, those nearest in norm: each one on the first side
            costs a gradient.

    Returns:
        Pairs of places in the arrays, nearest first, no feature with itself, each unordered pair once. Norms are
        within a factor of `NORM_FACTOR` of the wanted ones, cosines within `COSINE_TOLERANCE`.
    """
    away = [np.abs(_log_ratio(own, goal)) for own, goal in zip(norms, wanted[:2], strict=True)]
    near = [np.argsort(one, kind="stable")[:sides] for one in away]
    first, second = (side[one[side] <= np.log(NORM_FACTOR)] for side, one in zip(near, away, strict=True))
    apart = np.abs(cosines[np.ix_(first, second)] - wanted[2])
    distance = away[0][first][:, None] + away[1][second][None, :] + apart / COSINE_TOLERANCE
    found: dict[frozenset[int], tuple[int, int]] = {}
    for place in np.argsort(distance, axis=None, kind="stable"):
        row, column = np.unravel_index(place, distance.shape)
        pair = (int(first[row]), int(second[column]))
        if pair[0] != pair[1] and apart[row, column] <= COSINE_TOLERANCE and frozenset(pair) not in found:
            found[frozenset(pair)] = pair
        if len(found) == count:
            break
    return tuple(found.values())


NORM_FACTOR = 2.0
COSINE_TOLERANCE = 0.1


def _log_ratio(norms: FloatArray, goal: float) -> FloatArray:
    """Return log(norm / goal), infinite where either is 0."""
    ratio = np.divide(norms, goal, out=np.zeros_like(norms), where=goal > 0)
    logs: FloatArray = np.log(ratio, out=np.full_like(ratio, np.inf), where=ratio > 0)
    return logs
