"""Sign-flip tests: exact against enumeration, ties, row order, uniformity under the null."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from audit.analysis.signflip import HIGHEST_LEVEL, exact_p, flip_test, max_t_p, on_grid, random_signs, t_statistic


def enumerated_p(values: np.ndarray) -> float:
    """Return the two-sided sign-flip p-value by listing every assignment."""
    observed = abs(values.sum()) * (1 - 1e-9)
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in product((-1, 1), repeat=len(values))
    ]
    return float(np.mean([total >= observed for total in sums]))


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=10))
@settings(max_examples=100, deadline=None)
def test_exact_p_equals_enumeration(values: list[float]) -> None:
    """Adding one scenario after the other counts what listing all assignments of the rounded differences counts."""
    differences = np.array(values)
    rounded = on_grid(differences[:, None])[:, 0].astype(float)
    assert exact_p(differences) == pytest.approx(enumerated_p(rounded))


@given(st.lists(st.floats(-100, 100, allow_subnormal=False), min_size=2, max_size=40))
def test_rounding_is_blind_to_signs_and_small(values: list[float]) -> None:
    """X and -x get the same steps, and no difference moves by more than half a step of a fine grid."""
    score = np.array(values)[:, None]
    steps = on_grid(score)
    np.testing.assert_array_equal(on_grid(-score), -steps)
    largest = np.abs(score).max()
    if largest > 0:
        step = largest / np.abs(steps).max()
        assert step <= largest / 200
        assert np.abs(steps * step - score).max() <= step * 0.5001


def test_one_nonzero_scenario_gives_p_one() -> None:
    """A feature that fires in one scenario only cannot be evidence: every flip reaches its |sum|."""
    score = np.zeros((40, 1))
    score[7, 0] = 0.1 + 0.2
    assert flip_test(score).p[0] == 1.0
    assert exact_p(score[:, 0]) == 1.0


def test_ties_count_as_reached() -> None:
    """Equal sums that differ in the last bits are ties, not victories."""
    assert exact_p(np.array([0.1, 0.2, -0.3])) == 1.0  # 0.1 + 0.2 - 0.3 is 5.6e-17 in floats, 0 in truth
    assert exact_p(np.array([0.1, 0.2, 0.3])) == pytest.approx(2 / 8)


def test_a_feature_that_never_fires_has_p_one() -> None:
    """No difference anywhere is no evidence."""
    assert (flip_test(np.zeros((12, 3))).p == 1.0).all()
    assert (max_t_p(np.zeros((12, 3)), flips=1000, rng=np.random.default_rng(0)) > 0.99).all()


def test_row_order_does_not_change_p() -> None:
    """Scenarios have no order."""
    rng = np.random.default_rng(3)
    score = rng.normal(0.5, 1, size=(24, 50))
    np.testing.assert_allclose(flip_test(score).p, flip_test(score[rng.permutation(24)]).p, rtol=1e-12)


def test_scale_does_not_change_p() -> None:
    """Activations have no natural unit."""
    rng = np.random.default_rng(4)
    score = rng.normal(0.5, 1, size=(24, 50))
    np.testing.assert_allclose(flip_test(score).p, flip_test(score * 1e-6).p, rtol=1e-12)


def test_a_large_suite_is_counted_too() -> None:
    """1,500 scenarios: the p-value of a clear effect agrees with the normal tail, and nothing overflows."""
    rng = np.random.default_rng(6)
    score = rng.normal(0.1, 1, size=1500)
    z = abs(score.sum()) / np.sqrt((score**2).sum())
    assert exact_p(score) == pytest.approx(2 * norm.sf(z), rel=0.1)
    assert 0 < exact_p(np.ones(900)) < 1e-200
    assert 0 < exact_p(np.ones(1500)) < 1e-300


def test_exact_agrees_with_monte_carlo() -> None:
    """At 40 scenarios the counted p lies within the error of 100,000 random flips of the unrounded differences."""
    rng = np.random.default_rng(5)
    score = rng.normal(0.35, 1, size=(40, 30))
    p = np.array([exact_p(column) for column in score.T])
    sums = np.abs(random_signs(rng, 100_000, 40) @ score)
    drawn = (sums >= np.abs(score.sum(axis=0)) * (1 - 1e-9)).mean(axis=0)
    # Rounding to half a percent of the largest difference moves p by a few percent of itself at most.
    assert (np.abs(p - drawn) <= 5 * np.sqrt(p * (1 - p) / 100_000) + 0.03 * p + 1e-5).all()


def test_p_is_uniform_under_the_null() -> None:
    """At each level the share of small p-values does not exceed the level."""
    rng = np.random.default_rng(11)
    score = rng.normal(size=(24, 4000)) * rng.uniform(0.1, 10, size=(24, 1))
    p = flip_test(score).p
    for level in (0.01, 0.05):
        share = (p <= level).mean()
        assert abs(share - level) <= 4 * np.sqrt(level * (1 - level) / 4000)
    every = np.array([exact_p(column) for column in score[:, :2000].T])
    assert abs((every <= 0.5).mean() - 0.5) <= 4 * np.sqrt(0.25 / 2000)
    # What is left out is too large to matter, and the rest is the same number.
    told = p[:2000] < 1
    np.testing.assert_array_equal(p[:2000][told], every[told])


@given(st.lists(st.floats(0, 100), min_size=1, max_size=14), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_what_is_not_counted_is_a_tenth_or_more(magnitudes: list[float], random: object) -> None:
    """Differences of any shape: one loud scenario among quiet ones, doubling ones, equal ones."""
    signs = [random.choice((-1, 1)) for _ in magnitudes]  # type: ignore[attr-defined]
    differences = np.array(magnitudes) * np.array(signs)
    if flip_test(differences[:, None]).p[0] == 1.0:
        assert exact_p(differences) >= HIGHEST_LEVEL


def test_one_loud_scenario_hides_nothing() -> None:
    """19 small differences of one sign beside a large one: z is 1.6 and p is two in a million."""
    differences = np.array([1.0] + [0.03] * 19)
    assert flip_test(differences[:, None]).p[0] == exact_p(differences) < 1e-5


def test_max_t_controls_the_family() -> None:
    """Over many null families the smallest adjusted p is below 5% in about 5% of them, not more."""
    rng = np.random.default_rng(13)
    smallest = [max_t_p(rng.normal(size=(20, 50)), flips=1000, rng=rng).min() for _ in range(300)]
    share = np.mean(np.array(smallest) <= 0.05)
    assert 0.005 <= share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_max_t_is_never_below_the_single_p() -> None:
    """Adjusting for many features cannot make evidence stronger."""
    rng = np.random.default_rng(17)
    score = rng.normal(0.4, 1, size=(20, 40))
    single = np.array([exact_p(column) for column in score.T])
    adjusted = max_t_p(score, flips=50_000, rng=rng)
    assert (adjusted >= single - 5 * np.sqrt(single / 50_000) - 0.03 * single - 1e-4).all()


def test_relabelled_p_matches_a_direct_test() -> None:
    """The relabelled p-values are those of the same test on relabelled data."""
    rng = np.random.default_rng(19)
    score = rng.normal(size=(16, 6))
    relabel = random_signs(rng, 50, 16)
    permuted = flip_test(score, relabellings=relabel).p_permuted
    direct = np.stack([flip_test(row[:, None] * score).p for row in relabel])
    np.testing.assert_array_equal(permuted, direct)
    assert ((permuted < 1).mean(axis=1) > 0).any()


def test_t_statistic_of_equal_values_is_finite() -> None:
    """No spread must not mean no order."""
    t = t_statistic(np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]))
    assert np.isfinite(t).all()
    assert t[0] > 100
    assert t[1] == 0
