"""Corrections for testing many hypotheses at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

FloatArray = NDArray[np.float64]


def benjamini_hochberg(p: FloatArray) -> FloatArray:
    """Return q-values: rejecting those up to q keeps the false discovery rate at q (Benjamini and Hochberg 1995)."""
    return np.asarray(false_discovery_control(p, method="bh"), dtype=np.float64) if len(p) else p


def benjamini_yekutieli(p: FloatArray) -> FloatArray:
    """Return q-values that hold under any dependence between the tests (Benjamini and Yekutieli 2001)."""
    return np.asarray(false_discovery_control(p, method="by"), dtype=np.float64) if len(p) else p


def holm(p: FloatArray) -> FloatArray:
    """Return adjusted p-values that control the family-wise error under any dependence (Holm 1979).

    Args:
        p: (m,) p-values in any order.

    Returns:
        (m,) adjusted values in the same order, at most 1.
    """
    order = np.argsort(p, kind="stable")
    steps = (len(p) - np.arange(len(p))) * p[order]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(p) else steps
    return adjusted
