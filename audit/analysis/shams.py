"""Meaningless interventions of equal size: what an effect must exceed beside passing its own test.

A deterministic model changes its answer whatever is changed in it. The question is whether this change does more than
others of the same size: p = (1 + exceeding) / (1 + count). Two things save work and cannot turn a refusal into a claim:
runs end as soon as p is certain to lie above the level (Besag and Clifford 1991), and where the first-order estimate
was accepted, a sham is run only if its estimate comes near the effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from audit.arrays import Confirmation
from audit.records import ShamTest

FloatArray = NDArray[np.float64]
Measure = Callable[[tuple[int, ...]], FloatArray]

# A sham whose estimate is below this share of the effect is not run.
NEAR = 0.5
NORM_FACTOR = 2.0
COSINE_TOLERANCE = 0.1
FIRSTS, SECONDS = 8, 64
_TIE = 1e-9


@dataclass(frozen=True, slots=True)
class Shams:
    """A sham test with the mean effect of each sham that was run, by its number."""

    test: ShamTest
    means: Mapping[int, float]


def spread(places: Sequence[int], count: int) -> tuple[int, ...]:
    """Return at most so many of the places, spread evenly: a choice that no answer of the model decides."""
    count = min(count, len(places))
    return tuple(places[n * len(places) // count] for n in range(count))


def sham_test(
    effects: Confirmation[FloatArray],
    measure: Measure,
    *,
    count: int,
    alpha: float,
    estimates: FloatArray | None = None,
) -> Shams:
    """Compare an effect with those of shams of equal size, by absolute value; a tie exceeds.

    Args:
        effects: (n,) what is claimed, on the scenarios on which the shams run.
        measure: runs the shams of the given numbers, 0 to count - 1, and returns the mean effect of each.
        count: how many shams there are.
        alpha: the level that p must not exceed.
        estimates: (count,) first-order mean effects, where they may choose what is run: largest first, those from
            `NEAR` times the effect on; the others count as not exceeding. None: all are run, in order.

    Returns:
        The p-value is exact up to the level. Above it, it is a lower bound: runs ended when the level was exceeded.
    """
    effect, scenarios = float(effects.data.mean()), len(effects.data)
    # (1 + exceeding) / (1 + count) > alpha from here on.
    enough = floor(alpha * (1 + count) + _TIE)
    order = np.arange(count)
    if estimates is not None:
        above = int((np.abs(estimates) >= abs(effect)).sum())
        if above >= enough:
            return Shams(ShamTest(count, 0, above, (1 + above) / (1 + count), alpha, effect, scenarios), {})
        order = np.argsort(-np.abs(estimates), kind="stable")
        order = order[np.abs(estimates[order]) >= NEAR * abs(effect)]
    means: dict[int, float] = {}
    exceeding = 0
    while exceeding < enough and len(means) < len(order):
        # Fewer cannot end it, so these run together and none of them in vain.
        numbers = tuple(int(n) for n in order[len(means) : len(means) + enough - exceeding])
        found = measure(numbers)
        means |= dict(zip(numbers, found.tolist(), strict=True))
        exceeding += int((np.abs(found) >= abs(effect) * (1 - _TIE)).sum())
    test = ShamTest(count, len(means), exceeding, (1 + exceeding) / (1 + count), alpha, effect, scenarios)
    return Shams(test, means)


def sham_numbers(tests: int, *, shams: int, alpha: float) -> tuple[int, float]:
    """Return how many shams each of several tests needs, and the level of each: Bonferroni over the tests.

    So many that one sham may do as much at that level.

    Args:
        tests: how many sham tests there are.
        shams: the fewest of a test.
        alpha: of all together.
    """
    level = alpha / max(1, tests)
    return max(shams, ceil(2 / level) - 1), level


@dataclass(frozen=True, slots=True)
class LiveFeatures:
    """What m live features would change in n scenarios, in the first and in the second role of a pair.

    Args:
        first, second: (n, m) norm of the change, 0 where there is nothing to lower.
        directions: (m, d) decoder rows of norm 1.
    """

    first: FloatArray
    second: FloatArray
    directions: FloatArray


def matched_pairs(live: LiveFeatures, pair: tuple[int, int], *, count: int) -> tuple[tuple[int, int], ...]:
    """Return the pairs of other live features that are nearest to a given one in size of change and in cosine.

    Both features of a pair change something in at least half as many scenarios as those of the given one do together.
    Norms, means over scenarios, are within a factor of `NORM_FACTOR` of the given ones, cosines of decoder rows within
    `COSINE_TOLERANCE`. At most `FIRSTS` features stand in the first role, each of which costs gradients, and `SECONDS`
    in the second.

    Args:
        live: all live features.
        pair: places of the given two, which stand in no sham.
        count: how many pairs at most.

    Returns:
        Places of the features, nearest pair first, each unordered pair once.
    """
    one, other = pair
    near_first, near_second = (
        _nearest(norms.mean(axis=0), own, without=pair, count=most)
        for norms, own, most in ((live.first, one, FIRSTS), (live.second, other, SECONDS))
    )
    together = _together(live, np.array([one]), np.array([other]))[0, 0]
    wanted = float(live.directions[one] @ live.directions[other])
    apart = np.abs(live.directions[near_first.places] @ live.directions[near_second.places].T - wanted)
    fits = (apart <= COSINE_TOLERANCE) & (2 * _together(live, near_first.places, near_second.places) >= together)
    distance = near_first.away[:, None] + near_second.away[None, :] + apart / COSINE_TOLERANCE
    found: dict[frozenset[int], tuple[int, int]] = {}
    for flat in np.argsort(distance, axis=None, kind="stable"):
        row, column = np.unravel_index(flat, distance.shape)
        sham = (int(near_first.places[row]), int(near_second.places[column]))
        if fits[row, column] and sham[0] != sham[1]:
            found.setdefault(frozenset(sham), sham)
        if len(found) == count:
            break
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class _Near:
    places: NDArray[np.int64]
    away: FloatArray


def _nearest(norms: FloatArray, own: int, *, without: tuple[int, int], count: int) -> _Near:
    """Return the features whose norm is nearest to that of one of them, by ratio."""
    away = np.full(len(norms), np.inf)
    alive = norms > 0
    if norms[own] > 0:
        away[alive] = np.abs(np.log(norms[alive] / norms[own]))
    away[list(without)] = np.inf
    places = np.argsort(away, kind="stable")[:count]
    places = places[away[places] <= np.log(NORM_FACTOR)]
    return _Near(places, away[places])


def _together(live: LiveFeatures, first: NDArray[np.int64], second: NDArray[np.int64]) -> FloatArray:
    """Return in how many scenarios two features change something together."""
    counts: FloatArray = (live.first[:, first] > 0).T.astype(np.float64) @ (live.second[:, second] > 0)
    return counts
