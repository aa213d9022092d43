"""The tests of a difference: sizes within Monte Carlo error, equivalence at its margin, no sign decides a verdict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.analysis.difference import PairedValues, compare_rows, shift_of, stricter_spread
from audit.analysis.power import detectable_shift
from audit.records import DiffMargins, Verdict

MARGINS = DiffMargins(bootstrap=200)
N = 24


def verdicts(rows: list[PairedValues], floor: float | None = None) -> list[Verdict]:
    """Return the verdict of each row of one family."""
    return [one.verdict for one in compare_rows(rows, MARGINS, floors=[floor] * len(rows))]


def shifted(rng: np.random.Generator, *, shift: float, spread: float, n: int = N) -> PairedValues:
    """Return scores of standard deviation 1 that move by normal amounts."""
    base = rng.normal(2.0, 1.0, n)
    return PairedValues(base, base + rng.normal(shift, spread, n), 1.0)


def test_equivalence_keeps_its_size_at_the_margin() -> None:
    """A true change of exactly the margin is called equivalent in 5% of 4,000 rows, within three standard errors."""
    rng = np.random.default_rng(1)
    rows = [shifted(rng, shift=MARGINS.scenario_sd, spread=0.4) for _ in range(4000)]
    share = np.mean([verdict is Verdict.EQUIVALENT for verdict in verdicts(rows)])
    assert abs(share - MARGINS.tost_alpha) < 3 * np.sqrt(0.05 * 0.95 / 4000)


def test_no_change_is_found_in_scores_that_only_scatter() -> None:
    """Of 300 families of 60 rows of pure scatter at most 5% have a false change, within two standard errors."""
    rng = np.random.default_rng(2)
    alarms = [Verdict.CHANGED in verdicts([shifted(rng, shift=0.0, spread=1.5) for _ in range(60)]) for _ in range(300)]
    assert np.mean(alarms) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)


def test_the_detectable_change_is_detected_four_times_in_five() -> None:
    """At the smallest detectable change of a single row, 2,000 tests find it in 80%, within three points."""
    rng = np.random.default_rng(3)
    least = detectable_shift(N, 0.05)
    assert least is not None
    found = [
        compare_rows([shifted(rng, shift=least, spread=1.0)], MARGINS, floors=[None])[0].p_value <= 0.05
        for _ in range(2000)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_too_few_scenarios_detect_nothing() -> None:
    """Five scenarios cannot reach a p of 0.01 whatever the effect."""
    assert detectable_shift(5, 0.01) is None


values = st.lists(st.floats(-5, 5).map(lambda x: round(x, 3)), min_size=N, max_size=N).map(np.array)


@given(base=values, new=values)
@settings(max_examples=60, deadline=None)
def test_exchanging_base_and_new_keeps_the_verdict(base: np.ndarray, new: np.ndarray) -> None:
    """The verdict, p, and the size of the effect do not depend on which of the two is called new."""
    scale, back = stricter_spread(base, new), stricter_spread(new, base)
    assert scale == back
    one = compare_rows([PairedValues(base, new, scale)], MARGINS, floors=[None])[0]
    other = compare_rows([PairedValues(new, base, scale)], MARGINS, floors=[None])[0]
    assert (one.verdict, one.p_value) == (other.verdict, other.p_value)
    assert one.difference.value == pytest.approx(-other.difference.value)
    assert one.low_90 == pytest.approx(-other.high_90)


@given(base=values)
@settings(max_examples=40, deadline=None)
def test_scores_that_are_the_same_never_change(base: np.ndarray) -> None:
    """A row compared with itself is equivalent, whether it has a margin or not."""
    scale = stricter_spread(base, base)
    (one,) = compare_rows([PairedValues(base, base, scale)], MARGINS, floors=[None])
    assert one.verdict is Verdict.EQUIVALENT
    assert one.p_value == 1


def test_few_scenarios_show_no_equivalence() -> None:
    """Twelve equal scores are inconclusive: a handful of scenarios does not speak for the others."""
    scores = np.linspace(0, 1, 12)
    assert verdicts([PairedValues(scores, scores, 0.5)]) == [Verdict.INCONCLUSIVE]


def test_without_a_margin_a_difference_is_not_equivalent() -> None:
    """A feature that is silent on one model has no spread to measure by: a small move there shows nothing."""
    base, new = np.zeros(N), np.where(np.arange(N) < 2, 0.01, 0.0)
    assert stricter_spread(base, new) is None
    assert verdicts([PairedValues(base, new, None)]) == [Verdict.INCONCLUSIVE]


def test_an_auroc_without_a_move_is_no_proof() -> None:
    """Of 24 orders none turned: up to one in nine may turn elsewhere, so only identical scores are equivalent."""
    credits_ = np.repeat([1.0, 0.0], [18, 6])
    moved = PairedValues(credits_, credits_, None, credits=True)
    same = PairedValues(credits_, credits_, None, credits=True, identical=True)
    assert verdicts([moved, same]) == [Verdict.INCONCLUSIVE, Verdict.EQUIVALENT]


def test_an_auroc_that_falls_is_changed() -> None:
    """Eighteen of 24 orders that turn are a change."""
    base, new = np.ones(N), np.repeat([1.0, 0.0], [6, 18])
    assert verdicts([PairedValues(base, new, None, credits=True)]) == [Verdict.CHANGED]


def test_the_floor_holds_a_change_back() -> None:
    """A sure difference below the noise floor is inconclusive; above it, it is changed."""
    row = shifted(np.random.default_rng(5), shift=1.0, spread=0.3)
    assert verdicts([row], floor=2.0) == [Verdict.INCONCLUSIVE]
    assert verdicts([row], floor=0.1) == [Verdict.CHANGED]


def test_the_excess_shift_leaves_out_what_sampling_explains() -> None:
    """Pure scatter has next to no excess; a shift of half a standard deviation has about that much."""
    rng = np.random.default_rng(6)
    still = shift_of([shifted(rng, shift=0.0, spread=1.0) for _ in range(400)])
    moved = shift_of([shifted(rng, shift=0.5, spread=1.0) for _ in range(400)])
    assert still is not None
    assert moved is not None
    assert still.excess < 0.1
    assert moved.excess == pytest.approx(0.5, abs=0.05)
    # With sampling: the variance of a mean of 24 differences on top.
    assert still.mean_square == pytest.approx(1 / N, rel=0.3)
    assert moved.mean_square > moved.excess**2
    assert shift_of([PairedValues(np.ones(N), np.ones(N), None)]) is None
