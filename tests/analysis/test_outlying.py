"""An alarm about one concept: rare where everything moved alike, certain where one moved alone."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import t as student

from audit.analysis.outlying import Moved, Outlying, outlying
from audit.records import Respect

LEVEL = 0.05
COMPARISONS = 1_500


def by_squares(*squares: list[float | None]) -> list[Moved]:
    """Return effects in one or two respects."""
    return [
        Moved(respect, values) for respect, values in zip((Respect.FEATURES, Respect.ANSWERS), squares, strict=False)
    ]


def by_loss(values: list[float | None]) -> Moved:
    """Return changes of the loss, of which a common one is no news."""
    return Moved(Respect.LOSS, values, common=True)


def alarmed(found: tuple[tuple[Outlying, ...], ...]) -> list[int]:
    """Return which concepts are called outlying."""
    return [n for n, own in enumerate(found) if own and own[0].adjusted <= LEVEL]


def alarm(moved: list[Moved]) -> bool:
    """Return whether any concept of a comparison is called outlying."""
    return bool(alarmed(outlying(moved)))


@pytest.mark.parametrize("concepts", [3, 6, 24])
@pytest.mark.parametrize("rows", [1, 2, 30])
def test_a_change_of_everything_is_no_alarm(concepts: int, rows: int) -> None:
    """Effects, mean squares over several, and losses around a common shift: false alarms stay at the level."""
    rng = np.random.default_rng([concepts, rows])
    alarms = 0
    for _ in range(COMPARISONS):
        answers = (0.4 * rng.standard_normal(concepts)) ** 2
        features = ((0.1 * rng.standard_normal((rows, concepts))) ** 2).mean(axis=0)
        losses = by_loss((rng.normal(-0.2, 0.05, concepts)).tolist())
        alarms += alarm([*by_squares(features.tolist(), answers.tolist()), losses])
    # At most the level, as far as that many comparisons can tell.
    assert binomtest(alarms, COMPARISONS, LEVEL, alternative="greater").pvalue > 0.001
    if rows == 1:
        assert alarms > 0.2 * LEVEL * COMPARISONS


def test_one_concept_that_moved_alone_is_found() -> None:
    """Ten times as far as 23 others, in one respect, which is named."""
    rng = np.random.default_rng(7)
    effects = 0.1 * rng.standard_normal(24)
    effects[5] = 1.0
    still: list[float | None] = [0.01] * 24
    found = outlying(by_squares(still, (effects**2).tolist()))
    assert alarmed(found) == [5]
    most, other = found[5]
    assert most.fall == most.p
    assert (most.respect, other.respect) == (Respect.ANSWERS, Respect.FEATURES)
    assert most.ratio == pytest.approx(1.0 / np.sqrt(np.mean(np.delete(effects, 5) ** 2)))
    assert most.p < most.adjusted
    assert most.p < other.p


def test_a_loss_is_held_against_the_spread_of_the_others() -> None:
    """A shift of all is no news; the deleted residual of a common mean is a t statistic (here by scipy)."""
    losses = [-0.20, -0.22, -0.19, -0.21, -0.18, -0.45]
    found = outlying([by_loss(list(losses))])
    others = np.array(losses[:-1])
    t = (losses[-1] - others.mean()) / (others.std(ddof=1) * np.sqrt(1 + 1 / len(others)))
    (one,) = found[5]
    assert one.ratio == pytest.approx(abs(t))
    assert one.p == pytest.approx(2 * student.sf(abs(t), len(others) - 1))
    assert one.fall == pytest.approx(student.cdf(t, len(others) - 1))
    assert alarmed(found) == [5]
    (moved,) = outlying([by_loss([loss - 1.0 for loss in losses])])[5]
    assert moved.ratio == pytest.approx(one.ratio)


def test_where_nothing_else_moved_the_ratio_has_no_end() -> None:
    """And where nothing moved at all it is 0, without an alarm."""
    ((first,), (second,), (third,)) = outlying(by_squares([0.0, 0.2, 0.0]))
    assert (first.ratio, first.p, second.ratio, second.p, third.p) == (0.0, 1.0, inf, 0.0, 1.0)
    assert not alarm([*by_squares([0.0, 0.0, 0.0]), by_loss([0.0, 0.0, 0.0])])


def test_a_concept_without_rows_or_without_others_has_no_ratio() -> None:
    """It is compared in the respects in which it was measured; a spread takes two others."""
    assert outlying(by_squares([0.1])) == ((),)
    assert outlying(by_squares([None, 0.1], [None, 0.1])) == ((), ())
    assert outlying([by_loss([0.1, 0.2])]) == ((), ())
    found = outlying(by_squares([None, 0.1, 0.1], [0.1, 0.1, 0.1]))
    assert [len(own) for own in found] == [1, 2, 2]
    assert outlying([]) == ()
