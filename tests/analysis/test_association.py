"""Discovery, confirmation and controls on planted data with known answers."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from audit.analysis.association import ContrastData, CueScores, Selection, analyse_family, columns, lexical_verdict
from audit.analysis.ladder import Gate, contrast_result, gate, permutation_control
from audit.arrays import ResidualDifferences, ScenarioScores
from audit.config import AnalysisConfig
from audit.records import Colour, Contrast, Estimate, Fidelity, Lexical, PermutationControl, Reading, Rung

CONFIG = AnalysisConfig(flips=20_000, permutations=60, bootstrap=400)
FREE = Gate(Rung.CAUSAL, "")
WIDTH = 12


def scores(rng: np.random.Generator, n: int, m: int, *, planted: int = 0, effect: float = 1.5) -> ScenarioScores:
    """Return null differences for m latents, the first `planted` of which carry an effect in standard deviations."""
    score = rng.normal(size=(n, m)) * (rng.uniform(size=(n, m)) < 0.8)
    score[:, :planted] = rng.normal(effect, 1, size=(n, planted))
    return ScenarioScores(np.arange(n), np.arange(m) * 3, score, np.sign(score), (np.abs(score) > 0).sum(axis=0))


def residuals(rng: np.random.Generator, n: int, *, effect: float, last: bool) -> ResidualDifferences:
    """Return differences with an effect along one axis, in the mean over tokens or in the last token only."""
    mean, end = rng.normal(size=(n, WIDTH)), rng.normal(size=(n, WIDTH))
    (end if last else mean)[:, 0] += effect
    return ResidualDifferences(mean, end)


def data(
    seed: int, *, planted: int, probe: float = 2.0, last: bool = False, m: int = 120, confirmed: bool = True
) -> ContrastData:
    """Return one concept's data with planted features in discovery and, if `confirmed`, in confirmation too."""
    rng = np.random.default_rng(seed)
    return ContrastData(
        concept=f"concept-{seed}",
        discovery=scores(rng, 40, m, planted=planted),
        confirmation=scores(rng, 24, m, planted=planted if confirmed else 0),
        random_discovery=scores(rng, 40, m),
        random_confirmation=scores(rng, 24, m),
        probe_discovery=residuals(rng, 40, effect=probe, last=last),
        probe_confirmation=residuals(rng, 24, effect=probe, last=last),
        cues=None,
    )


def test_planted_features_are_confirmed_and_nothing_else() -> None:
    """Power at the design effect is at least 0.8, and false confirmations stay within the family-wise level."""
    found = false = 0
    for seed in range(8):
        family = analyse_family(Contrast.DISTINCTION, [data(seed, planted=5)], replace(CONFIG, permutations=20))
        result = contrast_result(Contrast.DISTINCTION, family.concepts[0], sae="s", limits=FREE, config=CONFIG)
        confirmed = {f.latent // 3 for f in result.findings if f.rung is Rung.CONFIRMED}
        found += len(confirmed & set(range(5)))
        false += len(confirmed - set(range(5)))
        assert result.reading is Reading.DECOMPOSED
    assert found >= 0.8 * 40
    assert false <= 1


def test_an_effect_that_does_not_replicate_is_not_confirmed() -> None:
    """What discovery chooses and confirmation does not repeat stays `associated`."""
    family = analyse_family(Contrast.TOPIC, [data(1, planted=5, confirmed=False)], CONFIG)
    result = contrast_result(Contrast.TOPIC, family.concepts[0], sae="s", limits=FREE, config=CONFIG)
    assert result.selected >= 4
    assert result.confirmed == 0
    assert {f.rung for f in result.findings} == {Rung.ASSOCIATED}
    assert result.reading is Reading.NOT_DECOMPOSED


def test_without_effects_nothing_is_represented() -> None:
    """Null data give no selection worth a claim and the reading `not represented`."""
    family = analyse_family(Contrast.TOPIC, [data(2, planted=0, probe=0.0)], CONFIG)
    result = contrast_result(Contrast.TOPIC, family.concepts[0], sae="s", limits=FREE, config=CONFIG)
    assert result.confirmed == 0
    assert result.reading is Reading.NOT_REPRESENTED


@pytest.mark.parametrize("last", [False, True])
def test_the_probe_finds_where_the_difference_is(*, last: bool) -> None:
    """Discovery decides whether to read the mean or the last token; confirmation then separates."""
    family = analyse_family(Contrast.TOPIC, [data(10, planted=0, last=last)], CONFIG)
    probe = family.concepts[0].probe
    assert probe.separates
    assert ("last" in probe.name) is last


def test_features_without_a_probe_are_suspect() -> None:
    """An SAE that separates what no linear probe separates is not believed."""
    family = analyse_family(Contrast.TOPIC, [data(3, planted=5, probe=0.0)], CONFIG)
    result = contrast_result(Contrast.TOPIC, family.concepts[0], sae="s", limits=FREE, config=CONFIG)
    assert result.reading is Reading.SUSPECT


def test_random_directions_as_good_cap_the_claim() -> None:
    """A feature that passes the test but does not exceed the best random direction is not confirmed."""
    base = data(4, planted=5)
    rng = np.random.default_rng(99)
    strong = replace(
        base,
        random_discovery=scores(rng, 40, 120, planted=5, effect=6.0),
        random_confirmation=scores(rng, 24, 120, planted=5, effect=6.0),
    )
    family = analyse_family(Contrast.TOPIC, [strong], CONFIG)
    result = contrast_result(Contrast.TOPIC, family.concepts[0], sae="s", limits=FREE, config=CONFIG)
    assert result.random_control.confirmed >= 4
    assert result.confirmed == 0
    assert any("random direction" in f.reason for f in result.findings)


def test_permuted_labels_find_something_rarely() -> None:
    """The measured false positive rate stays within the promised level, though true effects exist."""
    families = [
        analyse_family(contrast, [data(seed, planted=5) for seed in (5, 6)], replace(CONFIG, permutations=200))
        for contrast in Contrast
    ]
    control = permutation_control(families)
    assert control.permutations == 200
    assert control.passed
    assert control.rate <= control.limit


def test_permutation_control_can_fail() -> None:
    """A procedure that always finds something is caught."""
    family = analyse_family(Contrast.TOPIC, [data(7, planted=0)], CONFIG)
    broken = replace(family, permuted_hits=np.ones(60, dtype=bool))
    assert not permutation_control([broken]).passed
    choosing = replace(family, permuted_selections=np.arange(60) < 12)
    assert not permutation_control([choosing]).passed


def test_without_a_chosen_direction_many_set_the_bar() -> None:
    """When discovery chooses no random direction, the bar is the best of at least twenty, not one at will."""
    family = analyse_family(Contrast.DISTINCTION, [data(11, planted=3)], CONFIG)
    control = family.concepts[0].random_control
    assert control.selected == 0
    assert control.compared == 20
    assert control.best_d_z is not None
    assert control.best_d_z > 0.2


def test_weak_signs_are_not_called_absent() -> None:
    """Random directions that pass the test, or a probe that passes only its test, bar the reading `absent`."""
    base = analyse_family(Contrast.TOPIC, [data(2, planted=0, probe=0.0)], CONFIG).concepts[0]
    signs = (
        replace(base, random_control=replace(base.random_control, confirmed=2)),
        replace(base, probe=replace(base.probe, p_holm=0.01, separates=False)),
    )
    for effects in signs:
        result = contrast_result(Contrast.TOPIC, effects, sae="s", limits=FREE, config=CONFIG)
        assert result.reading is Reading.UNRESOLVED
        assert "weak signs" in result.reason


def test_a_feature_of_the_other_arm_decides_no_reading() -> None:
    """A confirmed feature that is louder on the baseline does not make a concept `decomposed`."""
    base = data(12, planted=5)
    turned = replace(
        base,
        discovery=replace(base.discovery, score=-base.discovery.score),
        confirmation=replace(base.confirmation, score=-base.confirmation.score),
    )
    effects = analyse_family(Contrast.TOPIC, [turned], CONFIG).concepts[0]
    result = contrast_result(Contrast.TOPIC, effects, sae="s", limits=FREE, config=CONFIG)
    assert result.confirmed >= 4
    assert result.reading is Reading.NOT_DECOMPOSED


def test_too_few_nonzero_scenarios_are_named() -> None:
    """A feature that could not have been confirmed whatever its effect says so."""
    family = analyse_family(Contrast.TOPIC, [data(13, planted=5)], CONFIG).concepts[0]
    rare = replace(family.features[0], n_nonzero=4, p_holm=1.0)
    effects = replace(family, features=(rare,))
    (finding,) = contrast_result(Contrast.TOPIC, effects, sae="s", limits=FREE, config=CONFIG).findings
    assert "too few held-out scenarios (4 of 24)" in finding.reason


def test_flips_grow_with_the_number_of_tests() -> None:
    """A single perfect feature among many can be chosen even when few flips are configured."""
    rng = np.random.default_rng(0)
    wide = data(14, planted=1, m=900)
    score = wide.discovery.score.copy()
    score[:, 0] = rng.uniform(1, 2, size=40)
    strong = replace(wide, discovery=replace(wide.discovery, score=score))
    effects = analyse_family(Contrast.TOPIC, [strong], replace(CONFIG, flips=1000, permutations=20)).concepts[0]
    assert 0 in effects.selection.latents


def test_a_selection_carries_no_effect() -> None:
    """Discovery hands over names, directions and a count; there is no field that an effect could travel in."""
    assert {f.name for f in fields(Selection)} == {"tested", "latents", "signs", "ranked", "first", "first_sign"}


def test_equal_inputs_give_equal_results() -> None:
    """Every random draw comes from the seed in the configuration."""
    first, second = (analyse_family(Contrast.TOPIC, [data(8, planted=3)], CONFIG).concepts[0] for _ in range(2))
    assert len(first.features) >= 2
    assert first.features == second.features
    assert (first.probe, first.random_control) == (second.probe, second.random_control)


def test_a_silent_latent_scores_zero() -> None:
    """A latent that never fired in a split has differences of 0 there, not another latent's."""
    part = scores(np.random.default_rng(0), 5, 4)
    picked = columns(part, np.array([3, 4, 9, 300]))
    np.testing.assert_array_equal(picked[:, 0], part.score[:, 1])
    np.testing.assert_array_equal(picked[:, 2], part.score[:, 3])
    assert (picked[:, [1, 3]] == 0).all()


def constant(value: float) -> ScenarioScores:
    """Return scores in which latent 0 has the same value in ten scenarios."""
    score = np.full((10, 1), value)
    return ScenarioScores(np.arange(10), np.array([0]), score, score, np.array([10]))


@pytest.mark.parametrize(
    ("cue", "free", "verdict"),
    [
        (1.0, 0.0, Lexical.LEXICAL),
        (1.0, 0.9, Lexical.NOT_LEXICAL),
        (0.3, 0.0, Lexical.NOT_LEXICAL),
    ],
)
def test_lexical_verdicts(cue: float, free: float, verdict: Lexical) -> None:
    """A lexical feature needs the words and needs nothing else."""
    cues = CueScores(constant(1.0), constant(cue), constant(free))
    assert lexical_verdict(cues, 0, 1.0, resamples=400, seed=1) is verdict


def test_a_noisy_lexical_feature_is_undecided() -> None:
    """Failing a condition by chance is not a proof of the contrary."""
    rng = np.random.default_rng(5)
    noisy = replace(constant(0.7), score=rng.normal(0.7, 1.0, size=(10, 1)))
    cues = CueScores(constant(1.0), noisy, constant(0.0))
    assert lexical_verdict(cues, 0, 1.0, resamples=400, seed=1) in {Lexical.UNDECIDED, Lexical.LEXICAL}


def test_no_cue_arms_is_not_tested() -> None:
    """Absence of cue arms is said, not guessed over."""
    assert lexical_verdict(None, 0, 1.0, resamples=400, seed=1) is Lexical.NOT_TESTED
    cues = CueScores(constant(1.0), constant(1.0), constant(0.0))
    assert lexical_verdict(cues, 0, -1.0, resamples=400, seed=1) is Lexical.NOT_TESTED


def fidelity(colour: Colour) -> Fidelity:
    """Return a fidelity record of a colour."""
    rise = Estimate(0.05, 0.04, 0.06)
    return Fidelity("s", "c", 1, 0.1, 0.9, 32, 32, 32, 0, 0, 1, rise, 3.0, 0.98, 0.1, 0.2, colour, "because")


PASSED = PermutationControl(200, 9, 0.14, 4, 0.02, 0.08, passed=True)
FAILED = PermutationControl(200, 60, 0.14, 40, 0.2, 0.08, passed=False)


@pytest.mark.parametrize(
    ("colour", "control", "n", "cap"),
    [
        (Colour.GREEN, PASSED, 24, Rung.CAUSAL),
        (Colour.RED, PASSED, 24, Rung.UNRESOLVED),
        (Colour.GREEN, FAILED, 24, Rung.UNRESOLVED),
        (Colour.AMBER, PASSED, 19, Rung.OBSERVED),
    ],
)
def test_gates(colour: Colour, control: PermutationControl, n: int, cap: Rung) -> None:
    """A red instrument, a failed control or too few scenarios cap every claim."""
    assert gate(fidelity(colour), control, n, CONFIG).cap is cap


def test_a_capped_concept_reads_unresolved() -> None:
    """Under a cap no finding stands above it and the reading is `unresolved`."""
    family = analyse_family(Contrast.TOPIC, [data(9, planted=5)], CONFIG)
    limits = gate(fidelity(Colour.RED), PASSED, 24, CONFIG)
    result = contrast_result(Contrast.TOPIC, family.concepts[0], sae="s", limits=limits, config=CONFIG)
    assert result.selected > 0
    assert {f.rung for f in result.findings} == {Rung.UNRESOLVED}
    assert result.reading is Reading.UNRESOLVED
