"""What needs no SAE, on the same split: linear probes, the best single neuron, and the words alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.analysis.effects import Bootstrap
from audit.analysis.multiplicity import holm
from audit.analysis.paired_logistic import FOLDS, fit_paired
from audit.analysis.signflip import exact_p, t_statistic
from audit.arrays import Confirmation, Discovery, Halves, ResidualDifferences
from audit.config import AnalysisConfig
from audit.records import Baseline, BaselineKind

FloatArray = NDArray[np.float64]

_LINEAR = (BaselineKind.MEANS, BaselineKind.LOGISTIC)


@dataclass(frozen=True, slots=True)
class FittedBaseline:
    """A baseline fitted on discovery.

    Args:
        detail: what it reads.
        score: (n,) on confirmation.
        held_out_t: t statistic of the scores of discovery scenarios, each by a fit without its fold: what a choice
            among baselines may look at.
    """

    kind: BaselineKind
    detail: str
    score: Confirmation[FloatArray]
    held_out_t: float


def fit_baselines(
    residuals: Halves[ResidualDifferences], *, neurons: Halves[FloatArray] | None, words: Halves[FloatArray] | None
) -> tuple[FittedBaseline, ...]:
    """Fit every baseline that there are data for.

    Whether the linear ones read the mean over tokens or the last token is decided on discovery, by held-out scores.

    Args:
        residuals: differences of the residual stream.
        neurons: (n, neurons) differences of each neuron's largest value, the same statistic as a feature's; None where
            the site has none.
        words: (n, words) differences of word counts; None where the texts are not at hand.
    """
    fitted = [
        max((fit(name, halves) for name, halves in _poolings(residuals)), key=lambda one: one.held_out_t)
        for fit in (_difference_of_means, _logistic)
    ]
    if neurons is not None:
        fitted.append(_best_neuron(neurons))
    if words is not None:
        fitted.append(_words(words))
    return tuple(fitted)


def fit_means(residuals: Halves[ResidualDifferences]) -> FittedBaseline:
    """Fit the difference of means alone, on the mean over tokens or the last token, whichever discovery prefers."""
    return max(
        (_difference_of_means(name, halves) for name, halves in _poolings(residuals)), key=lambda f: f.held_out_t
    )


def linear_probe(fitted: Sequence[FittedBaseline]) -> BaselineKind:
    """Return which linear probe speaks for the model: the better one on discovery, by held-out scores."""
    return max((one for one in fitted if one.kind in _LINEAR), key=lambda one: one.held_out_t).kind


def measure_baselines(
    fitted: Sequence[Sequence[FittedBaseline]],
    features: Sequence[tuple[Confirmation[FloatArray] | None, Confirmation[FloatArray] | None]],
    config: AnalysisConfig,
) -> list[tuple[Baseline, ...]]:
    """Return effects and p-values of the baselines of one family, beside the SAE's own.

    Holm runs over the concepts, and over both linear probes together: either may speak for the model.

    Args:
        fitted: the baselines of each concept.
        features: of each concept, the (n,) scores of the first feature and of the largest set of features.
        config: level, seed, resamples.
    """
    p = [[exact_p(one.score.data) for one in own] for own in fitted]
    adjusted = _holm_by_group(fitted, p)
    results = []
    for own, own_p, own_holm, (first, largest) in zip(fitted, p, adjusted, features, strict=True):
        bootstrap = Bootstrap.draw(len(own[0].score.data), resamples=config.bootstrap, seed=config.seed)
        measured = []
        for one, p_value, p_holm in zip(own, own_p, own_holm, strict=True):
            score = _column(one.score)
            auroc = bootstrap.aurocs(score)[0]
            measured.append(
                Baseline(
                    kind=one.kind,
                    detail=one.detail,
                    auroc=auroc,
                    d_z=bootstrap.effects(score)[0],
                    p_value=p_value,
                    p_holm=p_holm,
                    separates=p_holm <= config.alpha and auroc.value >= config.separation_auroc,
                    n_scenarios=len(one.score.data),
                    feature_minus=None if first is None else bootstrap.auroc_differences(_column(first), score)[0],
                    set_minus=None if largest is None else bootstrap.auroc_differences(_column(largest), score)[0],
                )
            )
        results.append(tuple(measured))
    return results


def _holm_by_group(fitted: Sequence[Sequence[FittedBaseline]], p: Sequence[Sequence[float]]) -> list[list[float]]:
    adjusted = [[1.0] * len(own) for own in fitted]
    groups = (_LINEAR, (BaselineKind.NEURON,), (BaselineKind.WORDS,))
    for group in groups:
        places = [(c, n) for c, own in enumerate(fitted) for n, one in enumerate(own) if one.kind in group]
        for (c, n), value in zip(places, holm(np.array([p[c][n] for c, n in places])), strict=True):
            adjusted[c][n] = float(value)
    return adjusted


def _poolings(residuals: Halves[ResidualDifferences]) -> tuple[tuple[str, Halves[FloatArray]], ...]:
    discovery, confirmation = residuals.discovery.data, residuals.confirmation.data
    return (
        ("mean over tokens", Halves(Discovery(discovery.mean), Confirmation(confirmation.mean))),
        ("last token", Halves(Discovery(discovery.last), Confirmation(confirmation.last))),
    )


def _difference_of_means(pooling: str, halves: Halves[FloatArray]) -> FittedBaseline:
    rows = halves.discovery.data
    fold = np.arange(len(rows)) % FOLDS
    held_out = np.zeros(len(rows))
    for number in np.unique(fold):
        direction = rows[fold != number].mean(axis=0)
        held_out[fold == number] = rows[fold == number] @ direction / max(float(np.linalg.norm(direction)), 1e-12)
    score = Confirmation(halves.confirmation.data @ rows.mean(axis=0))
    return FittedBaseline(BaselineKind.MEANS, pooling, score, _t(held_out))


def _logistic(pooling: str, halves: Halves[FloatArray]) -> FittedBaseline:
    fitted = fit_paired(halves.discovery)
    return FittedBaseline(BaselineKind.LOGISTIC, pooling, fitted.score(halves.confirmation), _t(fitted.held_out))


def _best_neuron(halves: Halves[FloatArray]) -> FittedBaseline:
    t = t_statistic(halves.discovery.data)
    best = int(np.argmax(np.abs(t)))
    score = Confirmation(np.sign(t[best]) * halves.confirmation.data[:, best])
    return FittedBaseline(BaselineKind.NEURON, f"neuron {best} of {len(t)}", score, float(abs(t[best])))


def _words(halves: Halves[FloatArray]) -> FittedBaseline:
    fitted = fit_paired(halves.discovery)
    count = halves.discovery.data.shape[1]
    return FittedBaseline(
        BaselineKind.WORDS, f"counts of {count} words", fitted.score(halves.confirmation), _t(fitted.held_out)
    )


def _t(scores: FloatArray) -> float:
    return float(t_statistic(scores[:, None])[0])


def _column(score: Confirmation[FloatArray]) -> Confirmation[FloatArray]:
    return Confirmation(score.data[:, None])
