"""How well a feature tells each concept from neutral text, and one concept from all others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audit.analysis.effects import paired_auroc
from audit.arrays import FloatArray

NONE = -1


def topic_aurocs(scores: Sequence[FloatArray]) -> FloatArray:
    """Return (c, m) paired AUROCs, a row a concept and a column a feature.

    Args:
        scores: c arrays of (n_c, m) paired differences, n_c at least 1.
    """
    return np.stack([paired_auroc(score) for score in scores])


def loudest_concepts(scores: Sequence[FloatArray]) -> NDArray[np.int64]:
    """Return (m,) the number of the concept with the highest paired AUROC of each feature, NONE where none exceeds 0.5.

    Equal AUROCs, of which discovery has many at 1, go by the mean difference, then to the first concept.

    Args:
        scores: c arrays of (n_c, m) paired differences, n_c at least 1.
    """
    aurocs = topic_aurocs(scores)
    means = np.stack([score.mean(axis=0) for score in scores])
    tied = np.where(aurocs == aurocs.max(axis=0), means, -np.inf)
    best: NDArray[np.int64] = np.where(aurocs.max(axis=0) > 0.5, tied.argmax(axis=0), NONE).astype(np.int64)
    return best


def runners_up(aurocs: FloatArray, own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (m,) the concept with the highest AUROC besides `own`; NONE with fewer than two concepts or no own one.

    Args:
        aurocs: (c, m).
        own: (m,) each feature's own concept, or NONE.
    """
    if len(aurocs) < 2:
        return np.full(len(own), NONE, dtype=np.int64)
    others = aurocs.copy()
    features = np.arange(len(own))
    others[own, features] = -np.inf
    runner_up: NDArray[np.int64] = np.where(own == NONE, NONE, others.argmax(axis=0)).astype(np.int64)
    return runner_up
