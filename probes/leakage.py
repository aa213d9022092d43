"""How well the words alone tell the arms apart: a classifier that sees no order and no meaning.

A high accuracy means that concept and control differ in their vocabulary, so that a feature of a word would look like a
feature of the concept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from probes.texts import words

_FOLDS = 5

Reading = Callable[[str], list[str]]


def bag(text: str) -> list[str]:
    """Return the words of a text."""
    return list(words(text))


def word_accuracy(first: Sequence[str], second: Sequence[str], read: Reading = bag) -> float:
    """Return the cross-validated accuracy of logistic regression on counted tokens, first arm against second.

    Five folds by scenario: both arms of a scenario are held out together, so a pair can never teach its own label.
    L2 penalty at scikit-learn's default, C = 1. Chance is 0.5; arms with the same counts give exactly 0.5. At
    least five scenarios.

    Args:
        first: (n,) texts of one arm, one a scenario.
        second: (n,) texts of the other arm, in the same order.
        read: what is counted in a text.
    """
    texts = [*first, *second]
    if not any(read(text) for text in texts):
        return 0.5
    labels = np.repeat([1, 0], len(first))
    scenarios = np.tile(np.arange(len(first)), 2)
    model = make_pipeline(CountVectorizer(analyzer=read), LogisticRegression(max_iter=5000))
    folds = GroupKFold(_FOLDS)
    chance = cross_val_predict(model, texts, labels, groups=scenarios, cv=folds, method="predict_proba")[:, 1]
    # A text whose words say nothing is half right: a tie must not depend on which class comes first.
    right = np.where(np.isclose(chance, 0.5, atol=1e-6), 0.5, (chance > 0.5) == labels)
    return float(right.mean())


def neighbours(text: str) -> list[str]:
    """Return the words of a text and every pair of neighbouring words."""
    found = words(text)
    return [*found, *(f"{one} {other}" for one, other in pairwise(found))]


def halves(text: str) -> list[str]:
    """Return each word of a text with the half in which it stands: what comes first may tell the arms apart."""
    found = words(text)
    return [f"{word} {'early' if 2 * place < len(found) else 'late'}" for place, word in enumerate(found)]


def word_differences(
    discovery: Sequence[tuple[str, str]], confirmation: Sequence[tuple[str, str]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how much oftener each word stands in the first text of a pair than in the second, for both splits.

    Args:
        discovery: (n,) pairs of texts; their words are the vocabulary.
        confirmation: (m,) pairs of texts; words that discovery has not are dropped.

    Returns:
        (n, words) and (m, words) float64 differences of counts.
    """
    counter = CountVectorizer(analyzer=bag)
    counter.fit([text for pair in discovery for text in pair] or [""])

    def differences(pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        if not pairs:
            return np.zeros((0, len(counter.vocabulary_)))
        first, second = (counter.transform([pair[side] for pair in pairs]).toarray() for side in (0, 1))
        return np.asarray(first - second, dtype=np.float64)

    return differences(discovery), differences(confirmation)
