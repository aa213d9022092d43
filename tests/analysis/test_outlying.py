"""An alarm about one concept: rare where everything moved alike, certain where one moved alone."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from scipy.stats import binomtest

from audit.analysis.outlying import outlying

LEVEL = 0.05
COMPARISONS = 2_000


def alarm(squares: list[list[float | None]]) -> bool:
    """Return whether any concept of a comparison is called outlying."""
    return any(one is not None and one.p <= LEVEL for one in outlying(squares))


@pytest.mark.parametrize("concepts", [3, 6, 24])
@pytest.mark.parametrize("rows", [1, 2, 30])
def test_a_change_of_everything_is_no_alarm(concepts: int, rows: int) -> None:
    """One effect a concept, or the mean square over several: false alarms stay at the level; of two kinds too."""
    rng = np.random.default_rng([concepts, rows])
    alarms = 0
    for _ in range(COMPARISONS):
        answers = (0.4 * rng.standard_normal(concepts)) ** 2
        features = ((0.1 * rng.standard_normal((rows, concepts))) ** 2).mean(axis=0)
        alarms += alarm([features.tolist(), answers.tolist()])
    # At most the level, as far as that many comparisons can tell.
    assert binomtest(alarms, COMPARISONS, LEVEL, alternative="greater").pvalue > 0.001
    if rows == 1:
        assert alarms > 0.2 * LEVEL * COMPARISONS


def test_one_concept_that_moved_alone_is_found() -> None:
    """Ten times as far as 23 others, by one kind of rows."""
    rng = np.random.default_rng(7)
    effects = 0.1 * rng.standard_normal(24)
    effects[5] = 1.0
    still: list[float | None] = [0.01] * 24
    found = outlying([still, (effects**2).tolist()])
    assert [n for n, one in enumerate(found) if one is not None and one.p <= LEVEL] == [5]
    assert found[5] is not None
    assert found[5].ratio == pytest.approx(1.0 / np.sqrt(np.mean(np.delete(effects, 5) ** 2)))


def test_where_nothing_else_moved_the_ratio_has_no_end() -> None:
    """And where nothing moved at all it is 0, without an alarm."""
    (first, second, third) = outlying([[0.0, 0.2, 0.0]])
    assert first is not None
    assert second is not None
    assert third is not None
    assert (first.ratio, first.p, second.ratio, second.p) == (0.0, 1.0, inf, 0.0)
    assert not alarm([[0.0, 0.0, 0.0]])


def test_a_concept_without_rows_or_without_others_has_no_ratio() -> None:
    """It is compared by the kind of rows that it has."""
    assert outlying([[0.1]]) == (None,)
    assert outlying([[None, 0.1], [None, 0.1]]) == (None, None)
    found = outlying([[None, 0.1, 0.1], [0.1, 0.1, 0.1]])
    assert all(one is not None for one in found)
    assert outlying([]) == ()
