"""Selectivity by hand: three concepts, few scenarios."""

from __future__ import annotations

import numpy as np

from audit.analysis.selectivity import NONE, loudest_concepts, runners_up, topic_aurocs

# Columns are features. Feature 0: always louder on concept 0; feature 1: on concept 1 and nearly on concept 2.
A = np.array([[2.0, 0.0], [1.0, 0.0], [3.0, 0.0], [1.0, -1.0]])
B = np.array([[1.0, 1.0], [-1.0, 4.0]])
C = np.array([[0.0, 9.0], [0.0, 9.0], [0.0, 9.0], [-1.0, 0.0]])


def test_aurocs_are_shares_of_scenarios_with_ties_by_half() -> None:
    """A: 4 of 4, and three ties and a loss: 1.5 of 4. C: three ties and a loss, and three wins and a tie: 3.5 of 4."""
    np.testing.assert_allclose(topic_aurocs([A, B, C]), [[1.0, 0.375], [0.5, 1.0], [0.375, 0.875]])


def test_selectivity_by_hand() -> None:
    """Feature 0: 1 - 0.5, runner-up B. Feature 1: 1 - 0.875, runner-up C."""
    own = loudest_concepts([A, B, C])
    aurocs = topic_aurocs([A, B, C])
    others = runners_up(aurocs, own)
    assert own.tolist() == [0, 1]
    assert others.tolist() == [1, 2]
    assert (aurocs[own, [0, 1]] - aurocs[others, [0, 1]]).tolist() == [0.5, 0.125]


def test_equal_aurocs_go_by_the_mean_difference() -> None:
    """Both concepts are told in every scenario; the feature is louder on the second."""
    assert loudest_concepts([np.array([[1.0], [1.0]]), np.array([[2.0], [1.0]])]).tolist() == [1]


def test_a_feature_that_is_louder_nowhere_has_no_concept() -> None:
    """Silent, or quieter on every concept: no concept, hence no runner-up."""
    quiet = np.array([[0.0, -1.0], [0.0, -2.0]])
    own = loudest_concepts([quiet, quiet])
    assert own.tolist() == [NONE, NONE]
    assert runners_up(topic_aurocs([quiet, quiet]), own).tolist() == [NONE, NONE]


def test_one_concept_has_no_runner_up() -> None:
    """There is nothing to be selective against."""
    assert runners_up(topic_aurocs([A]), loudest_concepts([A])).tolist() == [NONE, NONE]


def test_the_runner_up_may_be_better() -> None:
    """The own concept was chosen elsewhere: on held-out data another may be told better, and the difference is < 0."""
    aurocs = np.array([[0.6], [0.9]])
    others = runners_up(aurocs, np.array([0]))
    assert others.tolist() == [1]
    assert aurocs[0, 0] - aurocs[others[0], 0] < 0
