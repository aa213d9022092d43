"""L2 logistic regression for matched pairs: the strongest linear probe that the design allows.

With one concept and one control text a scenario, the likelihood conditional on the pair is that of a logistic
regression on the difference of the two, without intercept (Breslow and Day 1980, vol. 1, chapter 7): whatever a
scenario's two texts share cancels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from audit.arrays import Confirmation, Discovery

FloatArray = NDArray[np.float64]

FOLDS = 5
# Inverse strength of the penalty, for rows of mean norm 1; chosen by cross-validation on discovery.
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
_MOST_ITERATIONS = 100
_MOST_HALVINGS = 40
# The largest entry of the gradient at which a fit is done; rows have a mean norm of 1.
_CLOSE = 1e-9
# What sums of the loss may differ by.
_ROUNDING = 1e-13


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
    margins = _margins(reduced, fold)
    chosen = max(PENALTIES, key=lambda penalty: -np.logaddexp(0, -margins[penalty].raw).sum())
    weights = _fit(reduced, np.ones((1, len(rows))), np.array([chosen]))[0] @ axes
    return PairedLogistic(weights, margins[chosen].scaled)


@dataclass(frozen=True, slots=True)
class _Margins:
    raw: FloatArray
    scaled: FloatArray


def _margins(rows: FloatArray, fold: NDArray[np.int64]) -> dict[float, _Margins]:
    """Return, for each penalty, the scores of every row by the fit without its fold."""
    folds = np.unique(fold)
    penalties = np.repeat(PENALTIES, len(folds))
    kept = np.tile((fold[None, :] != folds[:, None]).astype(np.float64), (len(PENALTIES), 1))
    weights = _fit(rows, kept, penalties).reshape(len(PENALTIES), len(folds), -1)
    place = np.searchsorted(folds, fold)
    found = {}
    for penalty, own in zip(PENALTIES, weights, strict=True):
        raw = np.einsum("nd,nd->n", rows, own[place])
        found[penalty] = _Margins(raw, raw / np.maximum(np.linalg.norm(own, axis=1), 1e-12)[place])
    return found


def _fit(rows: FloatArray, kept: FloatArray, penalties: FloatArray) -> FloatArray:
    """Return the weights of several fits on the same rows, all by Newton's method at once.

    The loss is that of a logistic regression without intercept on each pair in both orders, as libraries have it:
    half the squared norm, and twice the inverse penalty times the log-loss of the rows. It is strictly convex; a step
    is halved until it lowers the loss.

    Args:
        rows: (n, d) float64.
        kept: (b, n) float64, 1 where a fit sees a row.
        penalties: (b,) float64, the inverse strength of each fit's penalty.

    Returns:
        (b, d) float64.
    """
    weights = np.zeros((len(kept), rows.shape[1]))
    each = 2 * penalties[:, None] * kept
    loss = _loss(rows, each, weights)
    for _ in range(_MOST_ITERATIONS):
        lost = expit(-(weights @ rows.T))
        gradient = weights - (each * lost) @ rows
        if np.abs(gradient).max() <= _CLOSE:
            break
        curvature = (each * lost * (1 - lost))[:, None, :] * rows.T @ rows + np.eye(rows.shape[1])
        step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        length = np.ones(len(weights))
        for _ in range(_MOST_HALVINGS):
            tried = weights - length[:, None] * step
            found = _loss(rows, each, tried)
            worse = found > loss * (1 + _ROUNDING)
            if not worse.any():
                break
            length[worse] /= 2
        better = ~worse & (loss - found > loss * _ROUNDING)
        weights, loss = np.where(worse[:, None], weights, tried), np.where(worse, loss, found)
        # Newton's step squares the error: one that hardly lowers the loss has ended in the minimum.
        if not better.any():
            break
    return weights


def _loss(rows: FloatArray, each: FloatArray, weights: FloatArray) -> FloatArray:
    total: FloatArray = (each * np.logaddexp(0, -(weights @ rows.T))).sum(axis=1) + 0.5 * (weights**2).sum(axis=1)
    return total
