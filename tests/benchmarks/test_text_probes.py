"""Probes on planted features: each finds what only it can see, and the test texts choose nothing."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.text_probes import LOGISTIC, MEANS, METHODS, POOLED, WORDS, TextFeatures, measure, sparse_name

LABELS = np.tile([True, False], 40)
CONTROL = sparse_name(20, control=True)


def noise(seed: int, *, texts: tuple[str, ...] = ("one text",) * 80) -> TextFeatures:
    """Return 80 texts whose features say nothing of their labels."""
    rng = np.random.default_rng(seed)
    mean, last = (rng.standard_normal((80, 12)).astype(np.float32) for _ in range(2))
    sparse = [np.maximum(rng.standard_normal((80, 60)), 0).astype(np.float32) for _ in range(3)]
    return TextFeatures(mean, last, *sparse, texts)


def planted(seed: int, where: str) -> TextFeatures:
    """Return noise in which one place separates the classes."""
    texts = tuple(f"a {'loss' if label else 'gain'} of {n}" for n, label in enumerate(LABELS))
    found = noise(seed, texts=texts) if where == "texts" else noise(seed)
    if where != "texts":
        getattr(found, where)[:, 7] = np.where(LABELS, 3.0, 1.0) + np.linspace(0, 0.1, 80)
    return found


@pytest.mark.parametrize(
    ("where", "seeing"),
    [
        ("mean", {LOGISTIC, MEANS}),
        ("last", {LOGISTIC, MEANS}),
        ("latents", {sparse_name(1), sparse_name(5), sparse_name(20), POOLED}),
        ("latents_last", {POOLED}),
        ("control", {CONTROL}),
        ("texts", {WORDS}),
    ],
)
def test_only_those_that_read_a_place_see_what_is_there(where: str, seeing: set[str]) -> None:
    """What separates perfectly is found perfectly; all others stay near chance."""
    found = measure(planted(0, where), LABELS, planted(1, where), LABELS, seed=0)
    assert set(found) == set(METHODS)
    assert {name for name in METHODS if found[name].auroc > 0.97} == seeing
    assert all(found[name].auroc < 0.75 for name in set(METHODS) - seeing)


def test_equal_texts_say_nothing() -> None:
    """A tie counts half."""
    assert measure(noise(0), LABELS, noise(1), LABELS, seed=0)[WORDS].auroc == 0.5


def test_the_test_texts_choose_nothing() -> None:
    """The training texts speak for the mean over tokens; that the last token would have won afterwards is no help."""
    found = measure(planted(0, "mean"), LABELS, planted(1, "last"), LABELS, seed=0)
    for name in (LOGISTIC, MEANS):
        assert found[name].choice.startswith("mean over tokens")
        assert found[name].auroc < 0.75


def test_one_latent_of_many_is_no_luck_on_new_texts() -> None:
    """The best of 60 latents of noise looks good where it was chosen; over many draws it is at chance elsewhere."""
    aurocs = [measure(noise(2 * n), LABELS, noise(2 * n + 1), LABELS, seed=n)[sparse_name(1)].auroc for n in range(5)]
    assert abs(float(np.mean(aurocs)) - 0.5) < 0.1
