"""Studentised sign-flip tests over scenarios: exact where counting is possible, Monte Carlo with the +1 rule above.

Under the null the two arms of a scenario are exchangeable, so every assignment of signs to the paired differences is
equally likely (Fisher 1935; Winkler et al. 2014). Flipping signs leaves the sum of squares as it is, hence the
studentised statistic is a monotone function of |sum| for one feature: counting |sum| gives the studentised p-value.
Across features the statistic is the t value itself, whose maximum gives strong control of the family-wise error
(Westfall and Young 1993).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# 2^14 sums a half: exact counting costs about a millisecond a feature.
EXACT_MAX_NONZERO = 28
# Sums that are equal in exact arithmetic differ in the last bits; without this a feature that fires in one scenario
# would
# get the smallest p there is instead of 1.
_TIE_TOLERANCE = 1e-9
# A relabelled p-value matters only if a correction over a thousand tests could select it. Left out, as 1, are those
# whose |z| is so small that p is near 0.09 for differences of like size, and at least 2e-6 even for differences that
# double from scenario to scenario; and those with so many hits early that p cannot fall under 4e-4 in 250,000 flips.
_PROMISING_Z = 1.7
_HOPELESS_HITS = 100
# Small enough that a block of sums stays in the processor's cache.
_BLOCK_FLIPS = 512


@dataclass(frozen=True, slots=True)
class FlipResult:
    """P-values of m features.

    Args:
        p: (m,) two-sided p of each feature.
        p_max_t: (m,) p adjusted by the maximum over the m features.
        t: (m,) studentised statistic; 0 where every difference is 0.
        nonzero: (m,) scenarios with a difference other than 0.
        p_permuted: (r, m) p of the same features under r random relabellings; 1 where it is too large to matter.
    """

    p: FloatArray
    p_max_t: FloatArray
    t: FloatArray
    nonzero: NDArray[np.int64]
    p_permuted: FloatArray


def t_statistic(score: FloatArray) -> FloatArray:
    """Return mean / (sd / sqrt(n)) of each column of an (n, m) array; 0 for a column of zeros.

    A column of equal non-zero values has no spread: its t is a large finite number, so that orders stay defined.
    """
    n = score.shape[0]
    total, squares = score.sum(axis=0), (score**2).sum(axis=0)
    # s^2 = (sum of squares - n mean^2) / (n - 1); the floor keeps equal values finite.
    variance = np.maximum((squares - total**2 / n) / max(n - 1, 1), squares / n * 1e-12)
    scale = np.sqrt(n * variance)
    t: FloatArray = np.divide(total, scale, out=np.zeros_like(total), where=scale > 0)
    return t


def flip_test(score: FloatArray, *, flips: int, rng: np.random.Generator, permutations: int = 0) -> FlipResult:
    """Test each column of paired differences against a symmetric null.

    Args:
        score: (n, m) paired differences, one row a scenario.
        flips: Monte Carlo sign assignments for features with more than 28 non-zero scenarios, and for max-T.
        rng: source of the sign assignments.
        permutations: how many random relabellings to push through the same test, for the measured false positive rate.

    Returns:
        P-values. The row order of `score` changes them only by Monte Carlo error, and not at all where they are exact.
    """
    n, m = score.shape
    squares = (score**2).sum(axis=0)
    nonzero = (np.abs(score) > 0).sum(axis=0)
    # Divided by its own scale, |sum| is the t statistic up to one increasing function that all features share:
    # u = |sum| / sqrt(n sum s^2), t = u sqrt(n - 1) / sqrt(1 - u^2). So u serves for single tests and for the maximum.
    scaled = np.divide(score, np.sqrt(n * squares), out=np.zeros_like(score), where=squares > 0)
    observed = np.abs(scaled.sum(axis=0))
    limit = observed * (1 - _TIE_TOLERANCE)
    ordered = np.sort(limit)
    hits = np.zeros(m, dtype=np.int64)
    max_hits = np.zeros(m + 1, dtype=np.int64)
    relabelled = np.abs(_signs(rng, permutations, n) @ scaled)
    rows, cells = np.nonzero(relabelled * np.sqrt(n) >= _PROMISING_Z)
    pair_hits = np.zeros(len(rows), dtype=np.int64)
    for start in range(0, flips, _BLOCK_FLIPS):
        sums = _signs(rng, min(_BLOCK_FLIPS, flips - start), n) @ scaled
        np.abs(sums, out=sums)
        hits += np.count_nonzero(sums >= limit, axis=0)
        top = sums.max(axis=1, initial=0.0)
        max_hits += np.bincount(np.searchsorted(ordered, top, side="right"), minlength=m + 1)
        pair_hits += np.count_nonzero(sums[:, cells] >= relabelled[rows, cells] * (1 - _TIE_TOLERANCE), axis=0)
        open_pairs = pair_hits <= _HOPELESS_HITS
        rows, cells, pair_hits = rows[open_pairs], cells[open_pairs], pair_hits[open_pairs]
    p = (hits + 1) / (flips + 1)
    p_permuted = np.ones((permutations, m))
    p_permuted[rows, cells] = (pair_hits + 1) / (flips + 1)
    for column in np.flatnonzero(nonzero <= EXACT_MAX_NONZERO):
        values = np.abs(scaled[np.abs(score[:, column]) > 0, column])
        p[column] = exact_p(values, observed[column])
        for row in np.flatnonzero(p_permuted[:, column] < 1):
            p_permuted[row, column] = exact_p(values, relabelled[row, column])
    # max_hits[i] counts flips whose maximum reaches exactly the i smallest limits; a suffix sum gives "at least".
    reached = max_hits[::-1].cumsum()[::-1]
    p_max_t = (reached[np.searchsorted(ordered, limit, side="left") + 1] + 1) / (flips + 1)
    return FlipResult(np.asarray(p), np.asarray(p_max_t), t_statistic(score), nonzero, p_permuted)


def single_p(differences: FloatArray, *, flips: int, seed: int) -> float:
    """Return the two-sided sign-flip p-value of one (n,) array of paired differences."""
    return float(flip_test(differences[:, None], flips=flips, rng=np.random.default_rng(seed)).p[0])


def exact_p(magnitudes: FloatArray, observed: float) -> float:
    """Return the share of all 2^n sign assignments whose |sum| reaches the observed one.

    Counts by meeting in the middle: the sums of each half are listed and matched by binary search, which costs 2^(n/2)
    instead of 2^n. No magnitudes: 1.

    Args:
        magnitudes: (n,) absolute differences, zeros left out.
        observed: the observed |sum|.
    """
    if len(magnitudes) == 0:
        return 1.0
    half = len(magnitudes) // 2
    left, right = _all_sums(magnitudes[:half]), np.sort(_all_sums(magnitudes[half:]))
    limit = abs(observed) * (1 - _TIE_TOLERANCE)
    if limit == 0.0:
        return 1.0
    above = len(right) - np.searchsorted(right, limit - left, side="left")
    # The distribution is symmetric: sums at or below -limit are as many as those at or above limit.
    return float(min(1.0, 2 * above.sum() / (len(left) * len(right))))


def _all_sums(magnitudes: FloatArray) -> FloatArray:
    sums = np.zeros(1)
    for value in magnitudes:
        sums = np.concatenate([sums - value, sums + value])
    return sums


def _signs(rng: np.random.Generator, rows: int, n: int) -> FloatArray:
    signs: FloatArray = rng.integers(0, 2, size=(rows, n)).astype(np.float64) * 2 - 1
    return signs
