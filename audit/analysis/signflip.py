"""Studentised sign-flip tests over scenarios, exact at any number of them.

Under the null the two arms of a scenario are exchangeable, so every assignment of signs to the paired differences is
equally likely (Fisher 1935; Winkler et al. 2014). Flipping signs leaves the sum of squares as it is, hence the
studentised statistic is a monotone function of |sum| for one feature: counting |sum| gives the studentised p-value.

Differences are first rounded to a grid of equal steps, which is blind to signs; the distribution of the sum over all
2^n assignments is then counted by adding one scenario after the other (Pagano and Tritchler 1983). Sums are integers:
ties are ties, and a feature that fires in one scenario has p = 1. No p-value depends on a seed.

Across features the statistic is the t value itself, whose maximum over random sign assignments gives strong control of
the family-wise error (Westfall and Young 1993).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Steps of the grid, shared among the scenarios of a feature: at 24 scenarios one step is 0.3% of the largest
# difference, at 40 it is 0.5%. Finer grids cost time in proportion.
_GRID = 8192
_COARSEST = 64
# Counts of assignments are floats: at most 2^1000 of them.
_MOST_COUNTED = 1000
# Whatever the differences are, at least a tenth of the assignments have a |sum| beyond the root of the sum of squares
# (Oleszkiewicz 1996): |z| <= 1 means p >= 0.1, which no level up to 0.1 can choose, so it is not counted.
HIGHEST_LEVEL = 0.1
_TIE_TOLERANCE = 1e-9
# Small enough that a block of sums stays in the processor's cache.
_BLOCK_FLIPS = 512


@dataclass(frozen=True, slots=True)
class FlipResult:
    """Exact two-sided p-values of m features; 1 where they are 0.1 or more by |z| <= 1.

    Args:
        p: (m,) of each feature.
        t: (m,) studentised statistic; 0 where every difference is 0.
        p_permuted: (r, m) of the same features under r relabellings.
    """

    p: FloatArray
    t: FloatArray
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


def flip_test(score: FloatArray, *, relabellings: FloatArray | None = None) -> FlipResult:
    """Test each column of paired differences against a symmetric null.

    Args:
        score: (n, m) paired differences, one row a scenario.
        relabellings: (r, n) rows of +1 and -1 that swap the arms of whole scenarios, to be pushed through the same
            test for the measured false positive rate.
    """
    m = score.shape[1]
    steps = on_grid(score)
    sums = np.abs(steps.sum(axis=0))
    relabelled = np.zeros((0, m)) if relabellings is None else np.abs(relabellings @ steps)
    spread = np.sqrt((steps.astype(np.float64) ** 2).sum(axis=0))
    promising = sums > spread
    promising_permuted = relabelled > spread
    p, p_permuted = np.ones(m), np.ones((len(relabelled), m))
    for column in np.flatnonzero(promising | promising_permuted.any(axis=0)):
        tail = _two_sided(np.abs(steps[:, column]))
        if promising[column]:
            p[column] = tail[sums[column]]
        rows = np.flatnonzero(promising_permuted[:, column])
        p_permuted[rows, column] = tail[relabelled[rows, column].astype(np.int64)]
    return FlipResult(p, t_statistic(score), p_permuted)


def exact_p(differences: FloatArray) -> float:
    """Return the exact two-sided sign-flip p-value of one (n,) array of paired differences, however large it is."""
    steps = on_grid(differences[:, None])[:, 0]
    return float(_two_sided(np.abs(steps))[abs(int(steps.sum()))])


def max_t_p(score: FloatArray, *, flips: int, rng: np.random.Generator) -> FloatArray:
    """Return (m,) p-values adjusted by the maximum of |t| over the m columns, by Monte Carlo with the +1 rule.

    Args:
        score: (n, m) paired differences, one row a scenario.
        flips: random sign assignments; the smallest p is 1 / (flips + 1).
        rng: source of the sign assignments.
    """
    n, m = score.shape
    squares = (score**2).sum(axis=0)
    # Divided by its own scale, |sum| is the t statistic up to one increasing function that all features share:
    # u = |sum| / sqrt(n sum s^2), t = u sqrt(n - 1) / sqrt(1 - u^2). So u serves for the maximum.
    scaled = np.divide(score, np.sqrt(n * squares), out=np.zeros_like(score), where=squares > 0)
    limit = np.abs(scaled.sum(axis=0)) * (1 - _TIE_TOLERANCE)
    ordered = np.sort(limit)
    hits = np.zeros(m + 1, dtype=np.int64)
    for start in range(0, flips, _BLOCK_FLIPS):
        top = np.abs(random_signs(rng, min(_BLOCK_FLIPS, flips - start), n) @ scaled).max(axis=1, initial=0.0)
        hits += np.bincount(np.searchsorted(ordered, top, side="right"), minlength=m + 1)
    # hits[i] counts flips whose maximum reaches exactly the i smallest limits; a suffix sum gives "at least".
    reached = hits[::-1].cumsum()[::-1]
    p: FloatArray = (reached[np.searchsorted(ordered, limit, side="left") + 1] + 1) / (flips + 1)
    return p


def random_signs(rng: np.random.Generator, rows: int, n: int) -> FloatArray:
    """Return a (rows, n) array of +1 and -1 with equal chance."""
    signs: FloatArray = rng.integers(0, 2, size=(rows, n)).astype(np.float64) * 2 - 1
    return signs


def on_grid(score: FloatArray) -> IntArray:
    """Return (n, m) differences as whole steps, each column on a grid of its own.

    The largest difference of a column has as many steps as its share of the grid; rounding treats x and -x alike, so
    the test of rounded differences is as exact as that of the differences themselves.
    """
    magnitude = np.abs(score)
    largest = magnitude.max(axis=0, initial=0.0)
    resolution = np.maximum(_COARSEST, _GRID // np.maximum(1, (magnitude > 0).sum(axis=0)))
    share = np.divide(magnitude, largest, out=np.zeros_like(magnitude), where=largest > 0)
    return np.asarray(np.sign(score) * np.floor(share * resolution + 0.5), dtype=np.int64)


def _two_sided(magnitudes: IntArray) -> FloatArray:
    """Return tail[s] = share of the 2^n sign assignments with |sum| >= s, for s = 0 ... sum of the magnitudes."""
    ordered = np.sort(magnitudes[magnitudes > 0])
    total = int(ordered.sum())
    # counts[a]: subsets with sum a; the signed sum is 2 a - total. Small magnitudes first keep the arrays short.
    counts = np.zeros(total + 1)
    counts[0] = 1.0
    scaled, reach = 0, 0
    for number, step in enumerate(ordered.tolist()):
        if number - scaled >= _MOST_COUNTED:
            counts *= 2.0**-_MOST_COUNTED
            scaled += _MOST_COUNTED
        counts[step : reach + step + 1] += counts[: reach + 1].copy()
        reach += step
    above = counts[::-1].cumsum()[::-1] * 2.0 ** -(len(ordered) - scaled)
    # |sum| >= s is sum >= s or sum <= -s, equally many for s > 0; sum >= s is a >= (s + total) / 2, rounded up.
    s = np.arange(total + 1)
    tail: FloatArray = np.minimum(1.0, 2 * above[(s + total + 1) // 2])
    tail[0] = 1.0
    # Beyond a thousand scenarios all of one sign the share is smaller than any float.
    return np.maximum(tail, np.finfo(np.float64).smallest_normal)
