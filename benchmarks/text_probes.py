"""Probes that tell two classes of texts apart: training texts decide everything, test texts only measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.feature_selection import SelectKBest, VarianceThreshold, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probes.leakage import bag

FloatArray = NDArray[np.float64]
Bools = NDArray[np.bool_]

LOGISTIC = "logistic, residual"
MEANS = "difference of means, residual"
WORDS = "bag of words"
SPARSE_K = (1, 5, 20)
CONTROL_K = 20
_FOLDS = 5
# Ascending: of settings that are equally good the most cautious one is taken.
_PENALTIES = tuple(10.0**power for power in range(-4, 3))


def sparse_name(k: int, *, control: bool = False) -> str:
    """Return how tables call the probe on k latents."""
    return f"random directions, k = {k}" if control else f"SAE, k = {k}"


POOLED = f"{sparse_name(CONTROL_K)}, max or last token"
METHODS = (LOGISTIC, MEANS, *(sparse_name(k) for k in SPARSE_K), POOLED, WORDS, sparse_name(CONTROL_K, control=True))


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """What is known of n texts, in one order.

    Args:
        mean: (n, d_model) float32, residual stream, mean over the kept tokens.
        last: (n, d_model) float32, at the last kept token.
        latents: (n, latents) float32, largest activation over the kept tokens.
        latents_last: (n, latents) float32, activation at the last kept token.
        control: (n, latents) float32, the same of untrained random directions.
        texts: (n,) str, what the model read.
    """

    mean: NDArray[np.float32]
    last: NDArray[np.float32]
    latents: NDArray[np.float32]
    latents_last: NDArray[np.float32]
    control: NDArray[np.float32]
    texts: tuple[str, ...]

    def part(self, rows: slice) -> TextFeatures:
        """Return some of the texts."""
        return TextFeatures(
            mean=self.mean[rows],
            last=self.last[rows],
            latents=self.latents[rows],
            latents_last=self.latents_last[rows],
            control=self.control[rows],
            texts=self.texts[rows],
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """One method on one data set: its AUROC on the test texts, and what cross-validation chose."""

    auroc: float
    choice: str


class Probe(Protocol):
    """Whatever learns from labelled rows and scores others."""

    def fit(self, X: Any, y: Bools) -> Any:  # noqa: ANN401 - scikit-learn's convention
        """Learn."""

    def decision_function(self, X: Any) -> FloatArray:  # noqa: ANN401 - scikit-learn's convention
        """Return (n,) scores, higher for the positive class."""


class DifferenceOfMeans:
    """Scores a row by its length along the difference of the classes' means."""

    def fit(self, X: NDArray[np.float32], y: Bools) -> DifferenceOfMeans:
        """Take the direction from (n, d) rows."""
        self._direction = X[y].mean(axis=0, dtype=np.float64) - X[~y].mean(axis=0, dtype=np.float64)
        return self

    def decision_function(self, X: NDArray[np.float32]) -> FloatArray:
        """Return (n,) scores."""
        scores: FloatArray = X.astype(np.float64) @ self._direction
        return scores


@dataclass(frozen=True, slots=True)
class _Candidate:
    choice: str
    train: NDArray[Any]
    test: NDArray[Any]
    make: Callable[[], Probe]


def measure(
    train: TextFeatures, y_train: Bools, test: TextFeatures, y_test: Bools, *, seed: int
) -> dict[str, Measured]:
    """Return every method's AUROC on the test texts, by its name in METHODS.

    Pooling of the residual stream and the penalty C are chosen by five-fold cross-validated AUROC on the training
    texts; latents are ranked within each fold, so no held-out text helps to choose them.

    Args:
        train: features of the training texts.
        y_train: (n_train,) bool.
        test: features of the test texts.
        y_test: (n_test,) bool.
        seed: of the folds, which are the same for all methods.
    """
    poolings = (("mean over tokens", train.mean, test.mean), ("last token", train.last, test.last))
    words = [np.array(part.texts, dtype=object) for part in (train, test)]
    candidates = {
        LOGISTIC: [c for name, one, other in poolings for c in _logistic(one, other, label=f"{name}, ", first=[])],
        MEANS: [_Candidate(name, one, other, DifferenceOfMeans) for name, one, other in poolings],
        POOLED: [
            *_sparse(train.latents, test.latents, k=CONTROL_K, label="max over tokens, "),
            *_sparse(train.latents_last, test.latents_last, k=CONTROL_K, label="last token, "),
        ],
        WORDS: _logistic(*words, label="", first=[lambda: CountVectorizer(analyzer=bag)], scale=False),
        sparse_name(CONTROL_K, control=True): _sparse(train.control, test.control, k=CONTROL_K),
    } | {sparse_name(k): _sparse(train.latents, test.latents, k=k) for k in SPARSE_K}
    return {name: _measure(candidates[name], y_train, y_test, seed=seed) for name in METHODS}


def _sparse(train: NDArray[np.float32], test: NDArray[np.float32], *, k: int, label: str = "") -> list[_Candidate]:
    # With two classes F is the square of the t statistic of the means' difference: the same ranking.
    first = [VarianceThreshold, lambda: SelectKBest(f_classif, k=k)]
    return _logistic(train, test, label=label, first=first)


def _logistic(
    train: NDArray[Any],
    test: NDArray[Any],
    *,
    label: str,
    first: Sequence[Callable[[], Any]],
    scale: bool = True,
) -> list[_Candidate]:
    """Return logistic regressions with an L2 penalty behind some steps, one for each C."""

    def maker(penalty: float) -> Callable[[], Probe]:
        def make() -> Probe:
            # Counts stay counts: scaled by their deviation, rare words would weigh most.
            scaler = [StandardScaler()] if scale else []
            model = LogisticRegression(C=penalty, max_iter=5000)
            probe: Probe = make_pipeline(*(step() for step in first), *scaler, model)
            return probe

        return make

    return [_Candidate(f"{label}C = {penalty:g}", train, test, maker(penalty)) for penalty in _PENALTIES]


def _measure(candidates: Sequence[_Candidate], y_train: Bools, y_test: Bools, *, seed: int) -> Measured:
    folds = list(StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(y_train, y_train))
    scores = []
    for candidate in candidates:
        by_fold = []
        for learn, held in folds:
            probe = candidate.make()
            probe.fit(candidate.train[learn], y_train[learn])
            by_fold.append(_auroc(y_train[held], probe.decision_function(candidate.train[held])))
        scores.append(np.mean(by_fold))
    chosen = candidates[int(np.argmax(scores))]
    probe = chosen.make()
    probe.fit(chosen.train, y_train)
    return Measured(_auroc(y_test, probe.decision_function(chosen.test)), chosen.choice)


def _auroc(labels: Bools, scores: FloatArray) -> float:
    return float(roc_auc_score(labels, scores))
