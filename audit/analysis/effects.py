"""Effect sizes over scenarios with BCa cluster bootstrap intervals (Efron 1987), for many features at once.

A resample of scenarios is a row of counts, so every statistic of every feature on every resample is a matrix product
of the (resamples, n) counts with the (n, k) values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from audit.arrays import Confirmation
from audit.records import Estimate

FloatArray = NDArray[np.float64]
_Statistic = Callable[[FloatArray, FloatArray], FloatArray]

_LEVELS = (0.025, 0.975)
# Equal values summed in another order differ by rounding; that is no spread.
_ROUNDING = 1e-12
# Features that are bootstrapped together: 2,000 resamples of 512 are 8 MB an array.
_BLOCK_FEATURES = 512


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Resamples of n scenarios, drawn once and shared by all estimates on those scenarios.

    Args:
        counts: (resamples, n) float64, how often each scenario is in each resample; rows sum to n.
    """

    counts: FloatArray

    @classmethod
    def draw(cls, scenarios: int, *, resamples: int, seed: int) -> Bootstrap:
        """Return resamples of whole scenarios: the sampling unit is never split."""
        picks = np.random.default_rng(seed).integers(0, scenarios, size=(resamples, scenarios))
        counts = np.zeros((resamples, scenarios))
        np.add.at(counts, (np.arange(resamples)[:, None], picks), 1.0)
        return cls(counts)

    def means(self, values: Confirmation[FloatArray]) -> tuple[Estimate, ...]:
        """Return the mean of each column of (n, k) values."""
        return self._estimate(values.data, _means)

    def aurocs(self, values: Confirmation[FloatArray]) -> tuple[Estimate, ...]:
        """Return the paired AUROC of each column of (n, k) differences: P(s > 0) + P(s = 0) / 2."""
        return self._estimate(credit(values.data), _means)

    def auroc_differences(
        self, values: Confirmation[FloatArray], others: Confirmation[FloatArray]
    ) -> tuple[Estimate, ...]:
        """Return the paired AUROC of each column minus that of the same column of `others`, both (n, k)."""
        return self._estimate(credit(values.data) - credit(others.data), _means)

    def effects(self, values: Confirmation[FloatArray]) -> tuple[Estimate, ...]:
        """Return d_z of each column of (n, k) differences."""
        return self._estimate(values.data, _weighted_dz)

    def shares(self, values: Confirmation[FloatArray]) -> FloatArray:
        """Return (resamples, k) means of each column on every resample."""
        return _means(self.counts, values.data)

    def _estimate(self, values: FloatArray, statistic: _Statistic) -> tuple[Estimate, ...]:
        n, k = values.shape
        found: list[Estimate] = []
        for start in range(0, k, _BLOCK_FEATURES):
            block = values[:, start : start + _BLOCK_FEATURES]
            point = statistic(np.ones((1, n)), block)[0]
            found += _bca(point, statistic(self.counts, block), statistic(1 - np.eye(n), block))
        return tuple(found)


def credit(differences: FloatArray) -> FloatArray:
    """Return what each paired difference adds to the paired AUROC: 1 above 0, a half at 0, else 0."""
    earned: FloatArray = (differences > 0) + (differences == 0) / 2
    return earned


def paired_auroc(differences: FloatArray) -> FloatArray:
    """Return (k,) P(s > 0) + P(s = 0) / 2 of (n, k) paired differences: how often concept exceeds its own control."""
    auroc: FloatArray = credit(differences).mean(axis=0)
    return auroc


def cohens_dz(differences: FloatArray) -> FloatArray:
    """Return (k,) mean / sd of (n, k) paired differences; 0 for zeros, and bounded where the sd vanishes."""
    effect: FloatArray = _weighted_dz(np.ones((1, len(differences))), differences)[0]
    return effect


def _means(weights: FloatArray, values: FloatArray) -> FloatArray:
    """Return (r, k) weighted means of (n, k) values under (r, n) weights."""
    means: FloatArray = weights @ values / weights.sum(axis=1, keepdims=True)
    return means


def _weighted_dz(weights: FloatArray, values: FloatArray) -> FloatArray:
    total = weights.sum(axis=1, keepdims=True)
    mean = _means(weights, values)
    # About the overall mean: the difference of two large sums of squares would lose a small spread.
    centred = values - values.mean(axis=0)
    spread = np.maximum(_means(weights, centred**2) - _means(weights, centred) ** 2, 0.0)
    deviation = np.sqrt(spread * total / np.maximum(total - 1, 1))
    # A resample of equal values has no spread; a floor relative to the mean keeps the interval finite.
    scale = np.maximum(deviation, np.abs(mean) * 1e-3)
    effect: FloatArray = np.divide(mean, scale, out=np.zeros_like(mean), where=scale > 0)
    return effect


def _bca(point: FloatArray, draws: FloatArray, jackknife: FloatArray) -> list[Estimate]:
    """Return one estimate a column, from (k,) points, (r, k) resamples and (n, k) leave-one-out values."""
    noise = _ROUNDING * np.abs(draws).max(axis=0, initial=0.0)
    below = (draws < point - noise).mean(axis=0) + (np.abs(draws - point) <= noise).mean(axis=0) / 2
    spans = (below > 0) & (below < 1) & (np.ptp(draws, axis=0) > noise)
    bias = ndtri(np.where(spans, below, 0.5))
    spread = jackknife.mean(axis=0) - jackknife
    denominator = 6 * (spread**2).sum(axis=0) ** 1.5
    acceleration = np.divide(
        (spread**3).sum(axis=0), denominator, out=np.zeros_like(denominator), where=denominator > 0
    )
    ordered = np.sort(draws, axis=0)
    ends = []
    for level in _LEVELS:
        shifted = bias + ndtri(level)
        ends.append(_quantiles(ordered, ndtr(bias + shifted / (1 - acceleration * shifted))))
    return [
        Estimate(float(value), float(low), float(high)) if spanned else Estimate(float(value), None, None)
        for value, low, high, spanned in zip(point, *ends, spans, strict=True)
    ]


def _quantiles(ordered: FloatArray, levels: FloatArray) -> FloatArray:
    """Return the (k,) quantiles of the columns of a sorted (r, k) array, each at its own level, interpolated."""
    place = np.clip(levels, 0.0, 1.0) * (len(ordered) - 1)
    lower = np.floor(place).astype(np.int64)
    upper = np.minimum(lower + 1, len(ordered) - 1)
    columns = np.arange(ordered.shape[1])
    share = place - lower
    found: FloatArray = ordered[lower, columns] * (1 - share) + ordered[upper, columns] * share
    return found
