"""k-sparse probes: what the k features that rank first on discovery tell together (Gurnee et al. 2023, 2305.01610)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.analysis.effects import Bootstrap
from audit.analysis.paired_logistic import fit_paired
from audit.analysis.signflip import exact_p
from audit.arrays import Confirmation, Discovery, Halves, ScenarioScores
from audit.records import Estimate, FeatureSet

FloatArray = NDArray[np.float64]

SIZES = (1, 5, 20)
# By how much the largest set must exceed the first feature before a concept is called spread over several.
SPLIT_GAIN = 0.05


@dataclass(frozen=True, slots=True)
class FittedSet:
    """A probe on k features.

    Args:
        latents: (k,) in the order of their rank on discovery.
        score: (n,) on confirmation.
    """

    latents: NDArray[np.int64]
    score: Confirmation[FloatArray]


def fit_sets(scores: Halves[ScenarioScores], ranked: NDArray[np.int64]) -> tuple[FittedSet, ...]:
    """Fit an L2 logistic on the first 1, 5 and 20 features; sizes beyond the number of ranked ones are left out.

    Args:
        scores: paired differences of every latent.
        ranked: latents in the order of their rank on discovery.
    """
    return tuple(_fit(scores, ranked[:size]) for size in SIZES if size <= len(ranked))


def _fit(scores: Halves[ScenarioScores], latents: NDArray[np.int64]) -> FittedSet:
    rows = scores.discovery.data.columns(latents)
    # On one scale: the penalty must not prefer features with large activations.
    scale = np.sqrt((rows**2).mean(axis=0))
    scale[scale == 0] = 1.0
    fitted = fit_paired(Discovery(rows / scale))
    return FittedSet(latents, fitted.score(Confirmation(scores.confirmation.data.columns(latents) / scale)))


def measure_sets(fitted: Sequence[FittedSet], bootstrap: Bootstrap) -> tuple[FeatureSet, ...]:
    """Return AUROC, p-value and gain over the first feature of each set."""
    results = []
    for one in fitted:
        score = Confirmation(one.score.data[:, None])
        alone = Confirmation(fitted[0].score.data[:, None])
        results.append(
            FeatureSet(
                latents=tuple(int(latent) for latent in one.latents),
                auroc=bootstrap.aurocs(score)[0],
                gain=bootstrap.auroc_differences(score, alone)[0],
                p_value=exact_p(one.score.data),
            )
        )
    return tuple(results)


def split_or_absorbed(sets: Sequence[FeatureSet]) -> bool:
    """Tell whether the largest set beats the first feature by more than 0.05 AUROC, its interval above 0.

    Then the concept is spread over several features: split into finer ones, or absorbed by them (Chanin et al. 2024,
    2409.14507).
    """
    if not sets or len(sets[-1].latents) == 1:
        return False
    gain: Estimate = sets[-1].gain
    return gain.value > SPLIT_GAIN and (gain.low is None or gain.low > 0)
