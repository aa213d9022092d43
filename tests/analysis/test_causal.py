"""Claims about interventions on data with known answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from audit.analysis.causal import (
    EdgeRuns,
    FeatureRuns,
    PairRuns,
    SignFlip,
    causal_effect,
    causal_pair,
    check_screen,
    decidable,
    downstream_edges,
    error_node,
    sign_flips,
    strongest_pairs,
)
from audit.analysis.shams import LiveFeatures, matched_pairs, sham_numbers, sham_test
from audit.arrays import Confirmation
from audit.config import AnalysisConfig, CausalConfig
from audit.records import Contrast, Estimate, Finding, Lexical, PairWord, Rung, ShamTest

CONFIG = AnalysisConfig(bootstrap=400)
SCENARIOS, SHAMS = 24, 199
FloatArray = NDArray[np.float64]
ESTIMATE = Estimate(1.0, 0.5, 1.5)
FINDING = Finding(
    id="c/topic/s/7",
    concept="c",
    contrast=Contrast.TOPIC,
    sae="s",
    latent=7,
    rung=Rung.CONFIRMED,
    reason="confirmed",
    d_z=ESTIMATE,
    auroc=ESTIMATE,
    firing_difference=ESTIMATE,
    p_value=0.001,
    p_holm=0.01,
    p_max_t=0.01,
    selected_by=True,
    n_scenarios=24,
    n_nonzero=24,
    lexical=Lexical.NOT_TESTED,
    query="scenario_scores",
)


def feature(effect: FloatArray) -> FeatureRuns:
    """Return runs of a feature with this effect; at zero it does twice as much."""
    return FeatureRuns(
        FINDING, "neutral", Confirmation(effect), Confirmation(2 * effect), Confirmation(effect**2), len(effect)
    )


def pair(interaction: FloatArray) -> PairRuns:
    """Return runs of a pair of which each feature does 1 and 2."""
    ones = np.ones(len(interaction))
    return PairRuns(
        "m", "c", "s", 3, 5, Confirmation(ones), Confirmation(2 * ones), Confirmation(interaction), confirmed=True
    )


def shams_of(values: FloatArray) -> tuple[Callable[[tuple[int, ...]], FloatArray], list[int]]:
    """Return a measure of shams with these effects, and the list of those that it was asked for."""
    asked: list[int] = []

    def measure(numbers: tuple[int, ...]) -> FloatArray:
        asked.extend(numbers)
        return values[list(numbers)]

    return measure, asked


def test_a_planted_effect_beyond_every_sham_is_causal() -> None:
    """24 scenarios around 1 against shams around 0.01: both tests pass, and the numbers are the means."""
    rng = np.random.default_rng(0)
    effect = rng.normal(1.0, 0.3, SCENARIOS)
    (tested,) = sign_flips([Confirmation(effect)])
    measure, _ = shams_of(rng.normal(0, 0.01, SHAMS))
    shams = sham_test(Confirmation(effect), measure, count=SHAMS, alpha=0.05).test
    assert shams == ShamTest(SHAMS, SHAMS, 0, 1 / 200, 0.05, float(effect.mean()), len(effect))
    found = causal_effect(feature(effect), tested, shams, without="", config=CONFIG)
    assert found.rung is Rung.CAUSAL
    assert found.effect.value == pytest.approx(effect.mean())
    assert found.effect_zero.value == pytest.approx(2 * effect.mean())
    assert found.effect.low is not None
    assert 0 < found.effect.low < effect.mean() < (found.effect.high or 0)
    assert found.p_value == pytest.approx(2.0**-23)


def test_an_effect_no_larger_than_random_is_refused() -> None:
    """The sign-flip test passes, but half of the shams do as much: it stays confirmed, and the reason says why."""
    effect = np.full(SCENARIOS, 0.1) + np.linspace(-0.01, 0.01, SCENARIOS)
    (tested,) = sign_flips([Confirmation(effect)])
    assert tested.p_holm < 0.001
    measure, asked = shams_of(np.where(np.arange(SHAMS) % 2 == 0, -0.2, 0.05))
    shams = sham_test(Confirmation(effect), measure, count=SHAMS, alpha=0.05).test
    found = causal_effect(feature(effect), tested, shams, without="", config=CONFIG)
    assert (shams.exceeding, shams.p_value) == (10, 11 / 200)
    # Ten that exceed make p > 0.05 certain: the nineteenth sham is the tenth of them.
    assert len(asked) == 19
    assert found.rung is Rung.CONFIRMED
    assert "10 of 199" in found.reason


def test_null_effects_make_no_claim_beyond_the_level() -> None:
    """600 families of one null feature each, shams drawn like its effect: claims in at most 5% + 2 SE of them."""
    rng = np.random.default_rng(1)
    claims = 0
    for _ in range(600):
        effects = rng.normal(size=(SHAMS + 1, SCENARIOS))
        (tested,) = sign_flips([Confirmation(effects[0])])
        measure, _ = shams_of(effects[1:].mean(axis=1))
        shams = sham_test(Confirmation(effects[0]), measure, count=SHAMS, alpha=0.05).test
        claims += causal_effect(feature(effects[0]), tested, shams, without="", config=CONFIG).rung is Rung.CAUSAL
    assert claims <= 600 * 0.05 + 2 * np.sqrt(600 * 0.05 * 0.95)


def test_early_stopping_never_changes_the_verdict() -> None:
    """Over 300 draws the stopped test passes exactly where all shams together pass."""
    rng = np.random.default_rng(2)
    for _ in range(300):
        values, effect = rng.normal(size=SHAMS), float(rng.normal(0, 2))
        measure, _ = shams_of(values)
        stopped = sham_test(Confirmation(np.array([effect])), measure, count=SHAMS, alpha=0.05).test
        whole = (1 + int((np.abs(values) >= abs(effect)).sum())) / (1 + SHAMS)
        assert (stopped.p_value <= 0.05) is (whole <= 0.05)
        assert stopped.p_value == whole or stopped.p_value > 0.05


def test_estimates_choose_which_shams_run_largest_first() -> None:
    """Of exact estimates only those from half of the effect on are run; the p-value is that of all."""
    values = np.linspace(0.0, 1.0, SHAMS)
    measure, asked = shams_of(values)
    found = sham_test(Confirmation(np.array([0.975])), measure, count=SHAMS, alpha=0.05, estimates=-values)
    assert found.test.exceeding == int((values >= 0.975).sum())
    assert asked[:3] == [198, 197, 196]
    assert found.test.exact == len(asked) == int((values >= 0.4875).sum())
    assert found.means[198] == 1.0


def test_too_many_estimates_above_the_effect_refuse_without_a_run() -> None:
    """Ten estimates above the effect put p above 5%: nothing is claimed and nothing is run; nine decide nothing."""
    values = np.concatenate([np.full(10, 2.0), np.zeros(SHAMS - 10)])
    measure, asked = shams_of(np.zeros(SHAMS))
    refused = sham_test(Confirmation(np.array([1.0])), measure, count=SHAMS, alpha=0.05, estimates=values).test
    assert (refused.exact, refused.exceeding, refused.p_value, asked) == (0, 10, 11 / 200, [])
    values[0] = 0.0
    run = sham_test(Confirmation(np.array([1.0])), measure, count=SHAMS, alpha=0.05, estimates=values).test
    assert (run.exact, run.exceeding, run.p_value) == (9, 0, 1 / 200)


def test_a_tie_with_a_sham_exceeds() -> None:
    """A sham that does exactly as much is one that does as much."""
    measure, _ = shams_of(np.full(SHAMS, -0.3))
    assert sham_test(Confirmation(np.array([0.3])), measure, count=SHAMS, alpha=0.05).test.p_value > 0.05


def test_an_effect_of_nothing_is_no_claim() -> None:
    """A feature that is never above its ceiling changes nothing: p = 1, and no interval is made up."""
    (tested,) = sign_flips([Confirmation(np.zeros(SCENARIOS))])
    found = causal_effect(feature(np.zeros(SCENARIOS)), tested, None, without="", config=CONFIG)
    assert found.p_value == 1.0
    assert found.rung is Rung.CONFIRMED
    assert (found.effect.low, found.effect.high) == (None, None)


def test_too_little_to_lower_is_no_test() -> None:
    """With k scenarios that change p is at least 2^(1 - k): what could not pass is left out of the family, blindly."""
    assert decidable([24, 24, 5, 0], alpha=0.05).tolist() == [True, True, False, False]
    # Five of twenty-two can reach 2^-21 x 5; with six changed scenarios 2^-5 x 6 is too much, alone it is not.
    assert decidable([22] * 5 + [6], alpha=0.05).tolist() == [True] * 5 + [False]
    assert decidable([6], alpha=0.05).tolist() == [True]
    found = causal_effect(feature(np.zeros(SCENARIOS)), None, None, without="", config=CONFIG)
    assert found.rung is Rung.UNRESOLVED
    assert "too little to lower" in found.reason


def test_sham_tests_share_the_level() -> None:
    """One test has the whole level and 199 shams; of twenty each has a twentieth, with shams enough to reach it."""
    assert sham_numbers(1, shams=199, alpha=0.05) == (199, 0.05)
    count, level = sham_numbers(20, shams=199, alpha=0.05)
    assert (count, level) == (799, 0.0025)
    assert 2 / (1 + count) <= level < 3 / (1 + count)


def test_a_pair_of_unconfirmed_features_is_never_causal() -> None:
    """The sham test passed; one of the two features does not exceed the controls."""
    runs = replace(pair(np.linspace(0.5, 1.5, SCENARIOS)), confirmed=False)
    (tested,) = sign_flips([runs.interaction])
    found = causal_pair(runs, tested, ShamTest(199, 30, 0, 0.005, 0.05, 1.0, 8), without="", config=CONFIG)
    assert (found.rung, found.word) == (Rung.ASSOCIATED, None)


def test_without_shams_nothing_is_causal() -> None:
    """The budget ended: the reason is told, the rung stays."""
    found = causal_effect(
        feature(np.linspace(1, 2, SCENARIOS)), SignFlip(1e-6, 1e-4), None, without="the budget ended", config=CONFIG
    )
    assert found.rung is Rung.CONFIRMED
    assert found.reason.endswith("the budget ended")


def test_holm_is_over_the_family() -> None:
    """The same effect passes alone and fails among 5000 others: 2^-13 x 2 x 5001 > 0.05."""
    effect = Confirmation(np.concatenate([np.ones(14), np.zeros(10)]))
    null = Confirmation(np.zeros(SCENARIOS))
    assert sign_flips([effect])[0].p_holm == pytest.approx(2.0**-13)
    assert sign_flips([effect, *[null] * 5000])[0].p_holm == pytest.approx(5001 * 2.0**-13)


@pytest.mark.parametrize(
    ("sign", "shams", "rung", "word"),
    [
        (1, ShamTest(199, 30, 0, 0.005, 0.05, 1.0, 8), Rung.CAUSAL, PairWord.SYNERGY),
        (-1, ShamTest(199, 30, 0, 0.005, 0.05, 1.0, 8), Rung.CAUSAL, PairWord.REDUNDANCY),
        (1, ShamTest(199, 30, 10, 0.055, 0.05, 1.0, 8), Rung.ASSOCIATED, None),
        (1, None, Rung.ASSOCIATED, None),
    ],
)
def test_a_pair_has_a_word_only_when_it_is_causal(
    sign: int, shams: ShamTest | None, rung: Rung, word: PairWord | None
) -> None:
    """Above 0 synergy, below redundancy; neither a failed control nor a missing one gives it."""
    runs = pair(sign * np.linspace(0.5, 1.5, SCENARIOS))
    (tested,) = sign_flips([runs.interaction])
    found = causal_pair(runs, tested, shams, without="only 12 of 199 matched pairs", config=CONFIG)
    assert (found.rung, found.word) == (rung, word)
    assert (found.first_effect.value, found.second_effect.value) == (1.0, 2.0)
    assert found.interaction.value == pytest.approx(sign)


def test_additive_features_have_no_interaction() -> None:
    """I = 0 in every scenario is observed and no more, with or without shams."""
    runs = pair(np.zeros(SCENARIOS))
    found = causal_pair(runs, sign_flips([runs.interaction])[0], None, without="", config=CONFIG)
    assert (found.rung, found.word, found.p_value) == (Rung.OBSERVED, None, 1.0)


def test_a_screen_that_agrees_is_accepted_and_one_that_does_not_is_refused() -> None:
    """Equal order and signs: 1 and 1. Noise: refused. Wrong signs in equal order: refused by the signs."""
    rng = np.random.default_rng(3)
    exact, limits = rng.normal(size=60), CausalConfig()
    good = check_screen("s", "pairs", 3 * exact, exact, on="pairs", limits=limits)
    assert (good.compared, good.spearman, good.agreement, good.accepted) == (60, pytest.approx(1.0), 1.0, True)
    noise = check_screen("s", "pairs", rng.normal(size=60), exact, on="pairs", limits=limits)
    assert not noise.accepted
    assert noise.spearman is not None
    shifted = check_screen("s", "pairs", exact + 10, exact, on="pairs", limits=limits)
    assert shifted.spearman == pytest.approx(1.0)
    assert shifted.agreement == pytest.approx(float((exact > 0).mean()))
    assert not shifted.accepted


def test_a_screen_just_below_the_bound_is_refused() -> None:
    """Seven wrong signs of 60 are 88% agreement, six are 90%."""
    exact = np.where(np.arange(60) % 2 == 0, 1.0, -1.0) * (100 + np.arange(60))
    for wrong, accepted in ((6, True), (7, False)):
        estimates = exact.copy()
        estimates[:wrong] *= -1
        found = check_screen("s", "pairs", estimates, exact, on="pairs", limits=CausalConfig(screen_spearman=0.5))
        assert found.agreement == pytest.approx(1 - wrong / 60)
        assert found.accepted is accepted


def test_pairs_that_change_nothing_say_nothing_of_a_screen() -> None:
    """Zero against zero is no agreement, nor is rounding against rounding; fewer than ten others are too few."""
    exact = np.concatenate([np.arange(1.0, 10.0), np.zeros(50), np.full(50, 4e-6)])
    found = check_screen("s", "pairs", exact, exact, on="pairs", limits=CausalConfig())
    assert (found.compared, found.spearman, found.accepted) == (9, None, False)
    constant = check_screen("s", "pairs", np.arange(1.0, 21.0), np.ones(20), on="pairs", limits=CausalConfig())
    assert (constant.spearman, constant.accepted) == (None, False)


def test_the_strongest_pairs_come_first_whatever_their_sign() -> None:
    """Of equal ones the earlier."""
    assert strongest_pairs(np.array([0.1, -3.0, 2.0, 3.0, 0.0]), count=3).tolist() == [1, 3, 2]


def test_edges_are_tested_together_and_against_shams() -> None:
    """One real edge among 40 null ones is found; whether it exceeds the shams is told from 19 shams on."""
    rng = np.random.default_rng(4)
    balanced = Confirmation(np.tile([1.0, -1.0], SCENARIOS // 2))
    null = [EdgeRuns("c", "s", 1, "later", n, balanced, 0.0, ()) for n in range(40)]
    real = EdgeRuns("c", "s", 1, "later", 99, Confirmation(rng.normal(2, 0.5, SCENARIOS)), 2.0, (0.1, -0.2) * 10)
    few = replace(real, shams=(0.1,) * 18)
    loud = replace(real, shams=(-5.0, *[0.1] * 18))
    edges = downstream_edges([*null, real, few, loud], CONFIG)
    assert [edge.downstream_latent for edge in edges if edge.q_value <= 0.05] == [99, 99, 99]
    assert [edge.exceeds_shams for edge in edges[-3:]] == [True, None, False]
    assert downstream_edges([], CONFIG) == ()


def test_the_share_of_the_error_is_of_absolute_effects() -> None:
    """|-2| of 2 + 1 + 1."""
    found = error_node("c", "s", Confirmation(np.full(SCENARIOS, -2.0)), [1.0, -1.0], CONFIG)
    assert (found.effect.value, found.share) == (-2.0, 0.5)
    assert error_node("c", "s", Confirmation(np.zeros(SCENARIOS)), [], CONFIG).share == 0.0


def live(first: list[float], second: list[float], cosines: list[float]) -> LiveFeatures:
    """Return features that change as much in each of two scenarios; feature n has a cosine with feature 0."""
    directions = np.zeros((len(first), 1 + len(first)))
    for n, cosine in enumerate(cosines):
        directions[n, 0], directions[n, n] = cosine, np.sqrt(1 - cosine**2)
    directions[0] = np.eye(1 + len(first))[0]
    return LiveFeatures(np.tile(first, (2, 1)), np.tile(second, (2, 1)), directions)


def test_shams_of_a_pair_match_in_size_and_cosine() -> None:
    """Three times the norm, or silence, or another cosine: out. Neither of the two is in any sham."""
    found = matched_pairs(live([1, 9, 1.5, 3, 0, 1.0], [9, 1, 1.5, 1, 1, 0], [1, 0, 0, 0, 0, 0.9]), (0, 1), count=199)
    assert (2, 3) in found
    assert (2, 4) in found
    assert {first for first, _ in found} <= {2, 5}
    assert not {0, 1} & {one for pair in found for one in pair}
    assert all(one != other for one, other in found)


def test_no_match_is_no_sham() -> None:
    """A pair of a cosine that no others have: nothing is taken instead."""
    assert matched_pairs(live([1, 1, 1, 1], [1, 1, 1, 1], [1, 0.8, 0, 0]), (0, 1), count=199) == ()


def test_each_pair_of_features_stands_once() -> None:
    """Equal features in both roles: unordered pairs, at most as many as asked for."""
    many = live([1.0] * 12, [1.0] * 12, [1.0] + [0.0] * 11)
    found = matched_pairs(many, (0, 1), count=199)
    assert len({frozenset(pair) for pair in found}) == len(found)
    assert len(matched_pairs(many, (0, 1), count=5)) == 5
