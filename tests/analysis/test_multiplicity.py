"""Corrections against worked examples."""

from __future__ import annotations

import numpy as np
import pytest

from audit.analysis.multiplicity import benjamini_hochberg, holm


def test_benjamini_hochberg_on_a_worked_example() -> None:
    """Q of rank i is the smallest p_j m / j over j >= i."""
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert benjamini_hochberg(p) == pytest.approx([0.02, 0.04, 0.04, 0.02])


def test_holm_on_a_worked_example() -> None:
    """Steps m, m-1, ... made monotone."""
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_nothing_to_test_is_nothing() -> None:
    """Empty families pass through."""
    assert len(holm(np.zeros(0))) == 0
    assert len(benjamini_hochberg(np.zeros(0))) == 0


def test_false_discovery_rate_is_kept() -> None:
    """With 10% true effects the realised false discovery proportion stays at q on average."""
    rng = np.random.default_rng(2)
    proportions = []
    for _ in range(200):
        p = rng.uniform(size=500)
        p[:50] = rng.uniform(size=50) * 1e-4
        rejected = benjamini_hochberg(p) <= 0.05
        proportions.append(rejected[50:].sum() / max(1, rejected.sum()))
    assert np.mean(proportions) <= 0.05 + 3 * np.std(proportions) / np.sqrt(200)
