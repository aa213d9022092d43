"""L2 logistic regression for matched pairs: the strongest linear probe that the design allows.

With one concept and one control text a scenario, the likelihood conditional on the pair is that of a logistic
regression on the difference of the two, without intercept (Breslow and Day 1980, vol. 1, chapter 7): whatever a
scenario's two texts share cancels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from audit.arrays import Confirmation, Discovery

FloatArray = NDArray[np.float64]

FOLDS = 5
# Inverse strength of the penalty, for rows of mean norm 1; chosen by cross-validation on discovery.
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
_MOST_ITERATIONS = 200


@dataclass(frozen=True, slots=True)
class PairedLogistic:
    """A fitted direction.

    Args:
        weights: (d,) float64; zeros where no pair differs.
        held_out: (n,) the scores of the discovery pairs, each from a fit without its fold, folds on one scale.
    """

    weights: FloatArray
    held_out: FloatArray

    def score(self, differences: Confirmation[FloatArray]) -> Confirmation[FloatArray]:
        """Return (n,) scores of (n, d) differences; above 0 the first text of the pair is taken for the concept."""
        return Confirmation(differences.data @ self.weights)


def fit_paired(differences: Discovery[FloatArray]) -> PairedLogistic:
    """Fit on (n, d) paired differences; the penalty is the one with the best likelihood over five folds of scenarios.

    Args:
        differences: concept minus baseline, one row a scenario, in the order of the suite: fold i has every fifth one.
    """
    rows = differences.data
    norm = float(np.linalg.norm(rows, axis=1).mean()) if len(rows) else 0.0
    if norm == 0:
        return PairedLogistic(np.zeros(rows.shape[1]), np.zeros(len(rows)))
    # The penalty does not change under rotation: n pairs lie in at most n dimensions, whatever d is.
    left, strength, axes = np.linalg.svd(rows / norm, full_matrices=False)
    reduced = left * strength
    fold = np.arange(len(rows)) % FOLDS
    margins = {penalty: _held_out(reduced, fold, penalty) for penalty in PENALTIES}
    chosen = max(PENALTIES, key=lambda penalty: -np.logaddexp(0, -margins[penalty].raw).sum())
    weights = _fit(reduced, chosen) @ axes
    return PairedLogistic(weights, margins[chosen].scaled)


@dataclass(frozen=True, slots=True)
class _Margins:
    raw: FloatArray
    scaled: FloatArray


def _held_out(rows: FloatArray, fold: NDArray[np.int64], penalty: float) -> _Margins:
    raw, scaled = np.zeros(len(rows)), np.zeros(len(rows))
    for number in np.unique(fold):
        weights = _fit(rows[fold != number], penalty)
        own = fold == number
        raw[own] = rows[own] @ weights
        scaled[own] = raw[own] / max(float(np.linalg.norm(weights)), 1e-12)
    return _Margins(raw, scaled)


def _fit(rows: FloatArray, penalty: float) -> FloatArray:
    # Each pair in both orders: the same likelihood, and the two classes that the library asks for.
    both = np.concatenate([rows, -rows])
    labels = np.repeat([1, 0], len(rows))
    # Newton on at most 40 dimensions: exact in some steps, where lbfgs takes a hundred at weak penalties.
    model = LogisticRegression(C=penalty, fit_intercept=False, solver="newton-cg", max_iter=_MOST_ITERATIONS)
    weights: FloatArray = model.fit(both, labels).coef_[0]
    return weights
