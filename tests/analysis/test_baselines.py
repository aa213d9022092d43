"""Baselines, sets of features and power, on data whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from audit.analysis.baselines import fit_baselines, linear_probe, measure_baselines
from audit.analysis.effects import Bootstrap
from audit.analysis.feature_sets import fit_sets, measure_sets, split_or_absorbed
from audit.analysis.paired_logistic import FOLDS, PENALTIES, fit_paired
from audit.analysis.power import detectable_effect
from audit.arrays import Confirmation, Discovery, Halves, ResidualDifferences, ScenarioScores
from audit.config import AnalysisConfig
from audit.records import BaselineKind

CONFIG = AnalysisConfig(bootstrap=400)
FloatArray = NDArray[np.float64]


def noise(rng: np.random.Generator, width: int) -> Halves[FloatArray]:
    """Return null differences on 40 and 24 scenarios."""
    return Halves(Discovery(rng.normal(size=(40, width))), Confirmation(rng.normal(size=(24, width))))


def residuals(rng: np.random.Generator, *, shared: float = 0.0) -> Halves[ResidualDifferences]:
    """Return differences whose mean is along axis 0, with noise along axis 1 that both carry with weight `shared`."""

    def part(n: int) -> ResidualDifferences:
        mean = rng.normal(size=(n, 6))
        if shared:
            mean[:, 1] = shared * rng.normal(size=n)
            # The signal hides behind loud noise that a second axis carries too: a difference of means cannot undo it.
            mean[:, 0] = 1.0 + mean[:, 1] + 0.3 * rng.normal(size=n)
        return ResidualDifferences(mean, rng.normal(size=(n, 6)))

    return Halves(Discovery(part(40)), Confirmation(part(24)))


def test_logistic_undoes_noise_that_a_difference_of_means_cannot() -> None:
    """Where a second axis carries the noise of the first, the logistic subtracts it; it then speaks for the model."""
    fitted = fit_baselines(residuals(np.random.default_rng(1), shared=6.0), neurons=None, words=None)
    ((means, logistic),) = measure_baselines([fitted], [(None, None)], CONFIG)
    assert (means.kind, logistic.kind) == (BaselineKind.MEANS, BaselineKind.LOGISTIC)
    assert logistic.auroc.value > 0.9
    assert means.auroc.value < 0.8
    assert linear_probe(fitted) is BaselineKind.LOGISTIC
    assert logistic.separates


def test_the_best_neuron_is_chosen_on_discovery() -> None:
    """Neuron 7 carries the effect downwards on both splits; neuron 3 carries a larger one on confirmation only."""
    rng = np.random.default_rng(2)
    neurons = noise(rng, 50)
    neurons.discovery.data[:, 7] -= 2
    neurons.confirmation.data[:, 7] -= 2
    neurons.confirmation.data[:, 3] += 9
    fitted = fit_baselines(residuals(rng), neurons=neurons, words=None)
    (own,) = measure_baselines([fitted], [(None, None)], CONFIG)
    best = own[-1]
    assert best.detail == "neuron 7 of 50"
    assert best.auroc.value > 0.9
    assert best.separates


def test_equal_bags_of_words_tell_nothing() -> None:
    """Without a difference in words every pair is a tie: AUROC 0.5 exactly, p = 1."""
    rng = np.random.default_rng(3)
    words = Halves(Discovery(np.zeros((40, 9))), Confirmation(np.zeros((24, 9))))
    (own,) = measure_baselines([fit_baselines(residuals(rng), neurons=None, words=words)], [(None, None)], CONFIG)
    assert (own[-1].kind, own[-1].auroc.value, own[-1].p_value) == (BaselineKind.WORDS, 0.5, 1.0)
    assert not own[-1].separates


def test_a_baseline_is_compared_with_the_feature_pair_by_pair() -> None:
    """A feature that is right everywhere beats a baseline by exactly what that one misses."""
    rng = np.random.default_rng(4)
    fitted = fit_baselines(residuals(rng), neurons=None, words=None)
    (own,) = measure_baselines([fitted], [(Confirmation(np.ones(24)), None)], CONFIG)
    for baseline in own:
        assert baseline.feature_minus is not None
        assert baseline.feature_minus.value == pytest.approx(1 - baseline.auroc.value)
        assert baseline.set_minus is None


def test_holm_runs_over_both_linear_probes() -> None:
    """Either may speak for the model, so both are counted: the smallest p of two concepts is taken four times."""
    rng = np.random.default_rng(5)
    fitted = [fit_baselines(residuals(rng), neurons=None, words=None) for _ in range(2)]
    measured = [b for own in measure_baselines(fitted, [(None, None)] * 2, CONFIG) for b in own]
    smallest = min(measured, key=lambda baseline: baseline.p_value)
    assert smallest.p_holm == pytest.approx(min(1.0, 4 * smallest.p_value))


def test_the_logistic_is_a_conditional_likelihood() -> None:
    """Turning a pair around, both texts and label, changes nothing: there is no intercept to learn."""
    rows = np.random.default_rng(6).normal(0.3, 1, size=(40, 5))
    turned = fit_paired(Discovery(rows)).weights
    assert fit_paired(Discovery(-rows)).weights == pytest.approx(-turned, abs=1e-3)
    assert fit_paired(Discovery(np.zeros((40, 5)))).weights.tolist() == [0.0] * 5


@pytest.mark.parametrize(("pairs", "width"), [(40, 576), (40, 3), (24, 60)])
def test_the_logistic_is_the_one_of_a_library(pairs: int, width: int) -> None:
    """The same weights as scikit-learn finds on both orders of each pair, with the penalty that the folds choose."""
    rows = np.random.default_rng(7).normal(0.1, 1, size=(pairs, width))
    own = fit_paired(Discovery(rows))
    scaled = rows / np.linalg.norm(rows, axis=1).mean()
    both, labels = np.concatenate([scaled, -scaled]), np.repeat([1, 0], pairs)
    fold = np.arange(pairs) % FOLDS

    def fit(penalty: float, kept: NDArray[np.bool_]) -> FloatArray:
        model = LogisticRegression(C=penalty, fit_intercept=False, solver="newton-cholesky", tol=1e-12, max_iter=1000)
        weights: FloatArray = model.fit(both[np.tile(kept, 2)], labels[np.tile(kept, 2)]).coef_[0]
        return weights

    def likelihood(penalty: float) -> float:
        held_out = [scaled[fold == n] @ fit(penalty, fold != n) for n in range(FOLDS)]
        return float(-np.logaddexp(0, -np.concatenate(held_out)).sum())

    expected = fit(max(PENALTIES, key=likelihood), np.ones(pairs, bool))
    np.testing.assert_allclose(own.weights, expected, rtol=1e-6, atol=1e-8)


def sparse(score: FloatArray) -> ScenarioScores:
    """Return scores of latents 0, 1, 2..."""
    count = score.shape[1]
    return ScenarioScores(np.arange(len(score)), np.arange(count), score, np.sign(score), np.full(count, len(score)))


def test_a_concept_split_over_features_is_flagged() -> None:
    """Each of 20 features fires in a twentieth of the scenarios: alone it knows little, together they know all."""
    rng = np.random.default_rng(7)

    def part(n: int) -> ScenarioScores:
        score = np.zeros((n, 20))
        score[np.arange(n), rng.permutation(n) % 20] = rng.uniform(1, 2, size=n)
        return sparse(score)

    halves = Halves(Discovery(part(40)), Confirmation(part(24)))
    sets = measure_sets(fit_sets(halves, np.arange(20)), Bootstrap.draw(24, resamples=400, seed=1))
    assert [len(one.latents) for one in sets] == [1, 5, 20]
    assert sets[-1].auroc.value == 1.0
    assert sets[0].auroc.value < 0.6
    assert split_or_absorbed(sets)


def test_one_feature_that_knows_all_is_not_flagged() -> None:
    """Where the first feature separates, a set can add nothing."""
    rng = np.random.default_rng(8)

    def part(n: int) -> ScenarioScores:
        score = rng.normal(size=(n, 30))
        score[:, 0] = rng.uniform(1, 2, size=n)
        return sparse(score)

    halves = Halves(Discovery(part(40)), Confirmation(part(24)))
    sets = measure_sets(fit_sets(halves, np.arange(30)), Bootstrap.draw(24, resamples=400, seed=1))
    assert sets[0].auroc.value == 1.0
    assert not split_or_absorbed(sets)


def test_power_agrees_with_simulation() -> None:
    """At the stated effect, 80% of simulated features pass both t tests."""
    asked = {"n_discovery": 40, "n_confirmation": 24, "p_discovery": 1e-4, "p_confirmation": 0.005}
    effect = detectable_effect(**asked)
    assert effect is not None
    rng = np.random.default_rng(9)
    passed = np.ones(20_000, dtype=bool)
    for n, limit in ((40, 4.3261), (24, 3.1040)):  # two-sided t limits at 1e-4 and 0.005, from tables
        values = rng.normal(effect, 1, size=(20_000, n))
        passed &= values.mean(axis=1) / (values.std(axis=1, ddof=1) / np.sqrt(n)) > limit
    assert passed.mean() == pytest.approx(0.8, abs=0.02)


def test_power_knows_its_limits() -> None:
    """A bar raises the effect that is needed; six scenarios cannot reach p = 0.001 whatever the effect."""
    asked = {"n_discovery": 40, "n_confirmation": 24, "p_discovery": 1e-3, "p_confirmation": 0.01}
    free, barred = detectable_effect(**asked), detectable_effect(**asked, bar=1.5)
    assert free is not None
    assert barred is not None
    assert free < 1.5 < barred
    assert detectable_effect(n_discovery=40, n_confirmation=6, p_discovery=1e-3, p_confirmation=1e-3) is None
