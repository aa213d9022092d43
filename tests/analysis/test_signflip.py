"""Sign-flip tests: exact against enumeration, ties, row order, uniformity under the null."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.analysis.signflip import exact_p, flip_test, t_statistic


def enumerated_p(values: np.ndarray) -> float:
    """Return the two-sided sign-flip p-value by listing every assignment."""
    observed = abs(values.sum()) * (1 - 1e-9)
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in product((-1, 1), repeat=len(values))
    ]
    return float(np.mean([total >= observed for total in sums]))


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=10), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_exact_p_equals_enumeration(magnitudes: list[float], random: object) -> None:
    """Meeting in the middle counts what listing all assignments counts."""
    signs = [random.choice((-1, 1)) for _ in magnitudes]  # type: ignore[attr-defined]
    values = np.array(magnitudes) * np.array(signs)
    assert exact_p(np.abs(values), float(values.sum())) == pytest.approx(enumerated_p(values))


def test_one_nonzero_scenario_gives_p_one() -> None:
    """A feature that fires in one scenario only cannot be evidence: every flip reaches its |sum|."""
    score = np.zeros((40, 1))
    score[7, 0] = 0.1 + 0.2
    assert flip_test(score, flips=1000, rng=np.random.default_rng(0)).p[0] == 1.0


def test_ties_count_as_reached() -> None:
    """Equal sums that differ in the last bits are ties, not victories."""
    values = np.array([0.1, 0.2, 0.3])  # 0.1 + 0.2 - 0.3 is 5.6e-17 in floats, 0 in truth
    assert exact_p(values, 0.0) == 1.0
    assert exact_p(values, 0.6) == pytest.approx(2 / 8)


def test_a_feature_that_never_fires_has_p_one() -> None:
    """No difference anywhere is no evidence."""
    result = flip_test(np.zeros((12, 3)), flips=1000, rng=np.random.default_rng(0))
    assert (result.p == 1.0).all()
    assert (result.p_max_t > 0.99).all()


def test_row_order_does_not_change_exact_p() -> None:
    """Scenarios have no order."""
    rng = np.random.default_rng(3)
    score = rng.normal(size=(24, 5))
    shuffled = score[rng.permutation(24)]
    first = flip_test(score, flips=1000, rng=np.random.default_rng(1)).p
    second = flip_test(shuffled, flips=1000, rng=np.random.default_rng(2)).p
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-12)


def test_monte_carlo_agrees_with_exact() -> None:
    """Above 28 non-zero scenarios the Monte Carlo p lies within its error of a larger run, and never at 0."""
    rng = np.random.default_rng(5)
    score = rng.normal(0.35, 1, size=(40, 30))
    small = flip_test(score, flips=20_000, rng=np.random.default_rng(1)).p
    large = flip_test(score, flips=200_000, rng=np.random.default_rng(2)).p
    error = np.sqrt(large * (1 - large) / 20_000)
    assert (np.abs(small - large) <= 5 * error + 1e-4).all()
    assert (small > 0).all()


def test_p_is_uniform_under_the_null() -> None:
    """At each level the share of small p-values does not exceed the level."""
    rng = np.random.default_rng(11)
    score = rng.normal(size=(24, 4000)) * rng.uniform(0.1, 10, size=(24, 1))
    p = flip_test(score, flips=1000, rng=rng).p
    for level in (0.01, 0.05, 0.2):
        share = (p <= level).mean()
        assert abs(share - level) <= 4 * np.sqrt(level * (1 - level) / 4000)


def test_max_t_controls_the_family() -> None:
    """Over many null families the smallest adjusted p is below 5% in about 5% of them, not more."""
    rng = np.random.default_rng(13)
    smallest = [flip_test(rng.normal(size=(20, 50)), flips=1000, rng=rng).p_max_t.min() for _ in range(300)]
    share = np.mean(np.array(smallest) <= 0.05)
    assert 0.005 <= share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_max_t_is_never_below_the_single_p() -> None:
    """Adjusting for many features cannot make evidence stronger."""
    rng = np.random.default_rng(17)
    score = rng.normal(0.4, 1, size=(20, 40))
    result = flip_test(score, flips=50_000, rng=rng)
    assert (result.p_max_t >= result.p - 5 * np.sqrt(result.p / 50_000) - 1e-4).all()


def test_relabelled_p_matches_a_direct_test() -> None:
    """The relabelled p-values are those of the same test on relabelled data."""
    rng = np.random.default_rng(19)
    score = rng.normal(size=(16, 6))
    result = flip_test(score, flips=1000, rng=np.random.default_rng(23), permutations=50)
    relabel = np.random.default_rng(23).integers(0, 2, size=(50, 16)) * 2.0 - 1.0
    seen = 0
    for row in range(50):
        direct = flip_test(relabel[row][:, None] * score, flips=1000, rng=np.random.default_rng(1)).p
        told = result.p_permuted[row] < 1
        np.testing.assert_allclose(result.p_permuted[row][told], direct[told])
        assert (direct[~told] > 0.01).all()  # of like size, so |z| under 1.7 means p near 0.09
        seen += told.sum()
    assert seen > 0


def test_t_statistic_of_equal_values_is_finite() -> None:
    """No spread must not mean no order."""
    t = t_statistic(np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]))
    assert np.isfinite(t).all()
    assert t[0] > 100
    assert t[1] == 0
