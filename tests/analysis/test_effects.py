"""Effect sizes and their intervals against known answers."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bootstrap as scipy_bootstrap

from audit.analysis.effects import Bootstrap, cohens_dz, paired_auroc
from audit.arrays import Confirmation


def column(values: NDArray[np.float64]) -> Confirmation[NDArray[np.float64]]:
    """Return one feature's (n, 1) scores."""
    return Confirmation(values[:, None])


def test_paired_auroc_counts_ties_half() -> None:
    """Two wins, one tie, one loss: 2/4 + 1/8."""
    assert paired_auroc(np.array([[1.0], [2.0], [0.0], [-1.0]]))[0] == pytest.approx(0.625)


def test_dz_is_mean_over_sd() -> None:
    """The sample standard deviation, n - 1."""
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert cohens_dz(values[:, None])[0] == pytest.approx(2.5 / np.std(values, ddof=1))


def test_intervals_agree_with_scipy() -> None:
    """The BCa interval of a mean is scipy's within Monte Carlo error."""
    values = np.random.default_rng(1).exponential(size=24)
    (ours,) = Bootstrap.draw(24, resamples=20_000, seed=2).means(column(values))
    theirs = scipy_bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(3))
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.02)


def test_coverage_is_what_the_method_page_says() -> None:
    """Intervals of d_z at n = 24 cover the truth in about 92% of cases (docs/method.md), give or take."""
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(200):
        (estimate,) = Bootstrap.draw(24, resamples=400, seed=5).effects(column(rng.normal(0.8, 1, size=24)))
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= 0.8 <= estimate.high
    assert 0.86 <= hits / 200 <= 0.98


def test_no_spread_gives_no_interval() -> None:
    """An AUROC of 1 in every resample has no bootstrap interval; the record says so instead of inventing one."""
    (estimate,) = Bootstrap.draw(24, resamples=400, seed=1).aurocs(column(np.ones(24)))
    assert (estimate.value, estimate.low, estimate.high) == (1.0, None, None)


def test_differences_are_paired() -> None:
    """Two identical readers differ by 0 in every resample."""
    values = np.random.default_rng(6).normal(size=24)
    (estimate,) = Bootstrap.draw(24, resamples=400, seed=1).auroc_differences(column(values), column(values))
    assert estimate.value == 0.0
    assert estimate.low is None


def test_many_features_are_estimated_as_one_at_a_time() -> None:
    """The matrix form gives each feature what it gets alone, and what a plain bootstrap of its own draws gives."""
    rng = np.random.default_rng(7)
    values = rng.normal(0.5, 1, size=(24, 700)) * (rng.uniform(size=(24, 700)) < 0.7)
    bootstrap = Bootstrap.draw(24, resamples=400, seed=1)
    together = bootstrap.effects(Confirmation(values))
    for n in (0, 511, 512, 699):
        (alone,) = bootstrap.effects(column(values[:, n]))
        assert astuple(together[n]) == pytest.approx(astuple(alone))
    picks = np.repeat(np.arange(24), bootstrap.counts[17].astype(int))
    assert bootstrap.shares(Confirmation(values))[17, 5] == pytest.approx(values[picks, 5].mean())


def test_equal_values_have_no_interval_whatever_their_size() -> None:
    """Rounding of a sum is no spread."""
    (estimate,) = Bootstrap.draw(24, resamples=400, seed=1).means(column(np.full(24, 0.1)))
    assert (estimate.value, estimate.low, estimate.high) == (pytest.approx(0.1), None, None)
