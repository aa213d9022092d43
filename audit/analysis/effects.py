"""Effect sizes over scenarios with BCa cluster bootstrap intervals (Efron 1987)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from audit.records import Estimate

FloatArray = NDArray[np.float64]
Statistic = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Resamples of n scenarios, drawn once and shared by all estimates on those scenarios.

    Args:
        picks: (resamples, n) scenario indices.
    """

    picks: NDArray[np.intp]

    @classmethod
    def draw(cls, scenarios: int, *, resamples: int, seed: int) -> Bootstrap:
        """Return resamples of whole scenarios: the sampling unit is never split."""
        rng = np.random.default_rng(seed)
        return cls(rng.integers(0, scenarios, size=(resamples, scenarios)))

    def estimate(self, values: FloatArray, statistic: Statistic) -> Estimate:
        """Return the statistic with its 95% BCa interval.

        Args:
            values: (n, ...) one entry a scenario.
            statistic: maps (..., n, rest) arrays with scenarios on axis -1 (or -2 for matrices) to values.
        """
        point = float(statistic(values[None])[0])
        draws = statistic(values[self.picks])
        jackknife = statistic(np.stack([np.delete(values, i, axis=0) for i in range(len(values))]))
        return _bca(point, draws, jackknife)


def cohens_dz(values: FloatArray) -> FloatArray:
    """Return mean / sd of paired differences along axis 1; 0 for zeros, and bounded where the sd vanishes."""
    mean = values.mean(axis=1)
    deviation = values.std(axis=1, ddof=1)
    # A resample of equal values has no spread; a floor relative to the mean keeps the interval finite.
    floor = np.abs(mean) * 1e-3
    scale = np.maximum(deviation, floor)
    effect: FloatArray = np.divide(mean, scale, out=np.zeros_like(mean), where=scale > 0)
    return effect


def paired_auroc(values: FloatArray) -> FloatArray:
    """Return P(s > 0) + P(s = 0) / 2 along axis 1: how often the concept arm exceeds its own control."""
    auroc: FloatArray = (values > 0).mean(axis=1) + (values == 0).mean(axis=1) / 2
    return auroc


def mean_difference(values: FloatArray) -> FloatArray:
    """Return the mean along axis 1."""
    mean: FloatArray = values.mean(axis=1)
    return mean


def auroc_difference(values: FloatArray) -> FloatArray:
    """Return paired AUROC of column 0 minus that of column 1, for (..., n, 2) arrays."""
    return paired_auroc(values[..., 0]) - paired_auroc(values[..., 1])


def _bca(point: float, draws: FloatArray, jackknife: FloatArray) -> Estimate:
    below = (draws < point).mean() + (draws == point).mean() / 2
    if not 0 < below < 1 or np.ptp(draws) == 0:
        return Estimate(point, None, None)
    bias = float(ndtri(below))
    spread = jackknife.mean() - jackknife
    denominator = 6 * float((spread**2).sum()) ** 1.5
    acceleration = float((spread**3).sum()) / denominator if denominator > 0 else 0.0
    quantiles = []
    for share in (0.025, 0.975):
        shifted = bias + float(ndtri(share))
        quantiles.append(float(ndtr(bias + shifted / (1 - acceleration * shifted))))
    low, high = np.quantile(draws, quantiles)
    return Estimate(point, float(low), float(high))
