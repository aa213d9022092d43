"""The linear baseline: difference of means on the residual stream, fitted on discovery, measured on confirmation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.analysis.effects import Bootstrap, cohens_dz, paired_auroc
from audit.analysis.multiplicity import holm
from audit.analysis.signflip import exact_p, t_statistic
from audit.arrays import ResidualDifferences
from audit.config import AnalysisConfig
from audit.records import ProbeResult

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """A fitted probe: which pooling it reads, and its (n,) scores on confirmation."""

    name: str
    score: FloatArray


def fit_probe(discovery: ResidualDifferences, confirmation: ResidualDifferences) -> LinearProbe:
    """Fit a difference of means on discovery, score confirmation.

    Which pooling to read, the mean over tokens or the last token, is decided on discovery alone, by the t statistic of
    the scores that each scenario gets from a probe fitted on all others.
    """
    candidates = (
        ("difference of means, mean over tokens", discovery.mean, confirmation.mean),
        ("difference of means, last token", discovery.last, confirmation.last),
    )
    names = [name for name, _, _ in candidates]
    held_out = [t_statistic(_leave_one_out(fitted)[:, None])[0] for _, fitted, _ in candidates]
    chosen = int(np.argmax(held_out))
    _, fitted, measured = candidates[chosen]
    return LinearProbe(names[chosen], measured @ fitted.mean(axis=0))


def _leave_one_out(differences: FloatArray) -> FloatArray:
    """Return (n,) scores: each difference along the mean of all others."""
    others = (differences.sum(axis=0) - differences) / max(1, len(differences) - 1)
    scores: FloatArray = (differences * others).sum(axis=1)
    return scores


def measure_probes(fitted: Sequence[LinearProbe], config: AnalysisConfig) -> list[ProbeResult]:
    """Return effects and p-values of the probes of one family, with Holm over them."""
    p = np.array([exact_p(probe.score) for probe in fitted])
    results = []
    for probe, p_value, p_holm in zip(fitted, p, holm(p), strict=True):
        bootstrap = Bootstrap.draw(len(probe.score), resamples=config.bootstrap, seed=config.seed)
        auroc = bootstrap.estimate(probe.score, paired_auroc)
        results.append(
            ProbeResult(
                name=probe.name,
                auroc=auroc,
                d_z=bootstrap.estimate(probe.score, cohens_dz),
                p_value=float(p_value),
                p_holm=float(p_holm),
                separates=bool(p_holm <= config.alpha and auroc.value >= config.separation_auroc),
                n_scenarios=len(probe.score),
            )
        )
    return results
