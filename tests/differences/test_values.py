"""What two bundles say of one row: the scenarios that both have, in a unit that both share."""

from __future__ import annotations

import numpy as np
import pytest

from audit.differences.values import ScenarioValues, pair_values
from audit.records import RowKind


def side(values: np.ndarray, *, start: int = 0, scale: float = 1.0) -> ScenarioValues:
    """Return the values of scenarios numbered from `start`, which are also what their spread is of."""
    numbers = np.arange(start, start + len(values))
    return ScenarioValues(numbers, values * scale, values * scale, values * scale)


def test_only_shared_scenarios_are_paired() -> None:
    """Scenarios that one bundle lacks are left out, and the others keep their partners."""
    values = np.linspace(0, 1, 30)
    paired = pair_values(side(values), side(values[4:], start=4), kind=RowKind.FEATURE, standardised=False)
    assert paired is not None
    assert len(paired.base) == 26
    assert np.array_equal(paired.base, paired.new)


def test_too_few_scenarios_are_no_row() -> None:
    """Five shared scenarios are fewer than any test is made of."""
    values = np.linspace(0, 1, 30)
    assert pair_values(side(values), side(values, start=25), kind=RowKind.FEATURE, standardised=False) is None


def test_standardised_sides_share_no_scale() -> None:
    """Activations of two SAEs that differ by a factor only are the same in their own standard deviations."""
    values = np.linspace(0, 1, 30)
    paired = pair_values(side(values), side(values, scale=7.0), kind=RowKind.FEATURE, standardised=True)
    assert paired is not None
    assert paired.scale == 1.0
    assert paired.new == pytest.approx(paired.base)


def test_the_smaller_spread_sets_the_margin() -> None:
    """A model whose scores scatter twice as much is held to the margin of the other."""
    values = np.linspace(0, 1, 30)
    for pair in ((1.0, 2.0), (2.0, 1.0)):
        one, other = (side(values, scale=scale) for scale in pair)
        paired = pair_values(one, other, kind=RowKind.FEATURE, standardised=False)
        assert paired is not None
        assert paired.scale == pytest.approx(values.std(ddof=1))


def test_silence_on_both_is_no_row() -> None:
    """A feature that fires on neither model is not equivalent: there is nothing to compare."""
    assert pair_values(side(np.zeros(30)), side(np.zeros(30)), kind=RowKind.INTERACTION, standardised=False) is None
    assert pair_values(side(np.zeros(30)), side(np.ones(30)), kind=RowKind.INTERACTION, standardised=False) is not None
