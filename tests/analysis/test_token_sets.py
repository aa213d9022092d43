"""Token labels with known scores."""

from __future__ import annotations

import numpy as np
import pytest

from audit.analysis.token_sets import token_set_auroc, typical_tokens


def test_the_heaviest_pieces_that_hold_four_fifths() -> None:
    """60 and 15 of 100 hold less than 80, a third piece is needed, and the fourth adds nothing."""
    assert typical_tokens(np.array([15.0, 60.0, 5.0, 12.0, 8.0])).tolist() == [1, 0, 3]
    assert typical_tokens(np.array([0.0, 9.0, 1.0])).tolist() == [1]


def test_never_more_than_five_and_never_a_silent_one() -> None:
    """A feature that fires everywhere gets five; a feature that fires nowhere none."""
    assert typical_tokens(np.ones(50)).tolist() == [0, 1, 2, 3, 4]
    assert typical_tokens(np.zeros(3)).tolist() == []


def test_a_perfect_label_scores_one() -> None:
    """The feature fires on every token of the set and on no other."""
    assert token_set_auroc(np.array([7, 0, 3]), np.array([7, 90, 3]), np.array([0, 2])) == 1.0


def test_a_label_without_information_scores_a_half() -> None:
    """The feature fires on half of the tokens inside the set and outside of it; and so for an empty set."""
    fired, tokens = np.array([5, 40, 5]), np.array([10, 80, 10])
    assert token_set_auroc(fired, tokens, np.array([0, 2])) == pytest.approx(0.5)
    assert token_set_auroc(fired, tokens, np.zeros(0, dtype=np.int64)) == 0.5


def test_a_wrong_label_scores_zero_and_a_partial_one_by_hand() -> None:
    """Wrong: silent on all of the set, firing on all else. Partial: 6 of 10 firings hit, 3 of 30 silent ones miss."""
    assert token_set_auroc(np.array([0, 4]), np.array([6, 4]), np.array([0])) == 0.0
    assert token_set_auroc(np.array([6, 4]), np.array([9, 31]), np.array([0])) == pytest.approx((0.6 + 0.9) / 2)


def test_without_both_kinds_of_tokens_there_is_no_score() -> None:
    """Firing on all or on none: sensitivity or specificity does not exist."""
    assert token_set_auroc(np.array([0, 0]), np.array([3, 4]), np.array([0])) is None
    assert token_set_auroc(np.array([3, 4]), np.array([3, 4]), np.array([0])) is None
