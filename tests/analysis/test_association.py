"""Discovery, confirmation and controls on planted data with known answers."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TypeVar

import numpy as np
import pytest

from audit.analysis.association import analyse_family
from audit.analysis.contrast_data import ContrastData, CueScores, why_untestable
from audit.analysis.effects import Bootstrap
from audit.analysis.ladder import Gate, contrast_result, gate, permutation_control, relabelled_findings
from audit.analysis.lexical import lexical_verdict
from audit.analysis.two_steps import Selection
from audit.arrays import Confirmation, Discovery, Halves, ResidualDifferences, ScenarioScores
from audit.config import AnalysisConfig
from audit.records import (
    Baseline,
    BaselineKind,
    Colour,
    Contrast,
    ControlKind,
    Estimate,
    Fidelity,
    Lexical,
    PermutationControl,
    Reading,
    Rung,
)

CONFIG = AnalysisConfig(flips=20_000, permutations=60, bootstrap=400)
FREE = Gate(Rung.CAUSAL, "")
WIDTH = 12
TEN = Bootstrap.draw(10, resamples=400, seed=1)
T = TypeVar("T")


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


def both(discovery: T, confirmation: T) -> Halves[T]:
    """Return a measurement on both splits."""
    return Halves(Discovery(discovery), Confirmation(confirmation))


def data(
    seed: int, *, planted: int, probe: float = 2.0, last: bool = False, m: int = 120, confirmed: bool = True
) -> ContrastData:
    """Return one concept's data with planted features in discovery and, if `confirmed`, in confirmation too."""
    rng = np.random.default_rng(seed)
    return ContrastData(
        concept=f"concept-{seed}",
        scores=both(scores(rng, 40, m, planted=planted), scores(rng, 24, m, planted=planted if confirmed else 0)),
        controls={ControlKind.RANDOM_DIRECTIONS: both(scores(rng, 40, m), scores(rng, 24, m))},
        residuals=both(residuals(rng, 40, effect=probe, last=last), residuals(rng, 24, effect=probe, last=last)),
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
    effects = family.concepts[0]
    probe = next(baseline for baseline in effects.baselines if baseline.kind is effects.probe_kind)
    assert probe.separates
    assert ("last" in probe.detail) is last


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
        controls={
            **base.controls,
            ControlKind.FROZEN_DECODER: both(
                scores(rng, 40, 120, planted=5, effect=6.0), scores(rng, 24, 120, planted=5, effect=6.0)
            ),
        },
    )
    family = analyse_family(Contrast.TOPIC, [strong], CONFIG)
    result = contrast_result(Contrast.TOPIC, family.concepts[0], sae="s", limits=FREE, config=CONFIG)
    by_kind = {control.kind: control for control in result.controls}
    assert by_kind[ControlKind.FROZEN_DECODER].confirmed >= 4
    assert by_kind[ControlKind.RANDOM_DIRECTIONS].confirmed == 0
    assert result.confirmed == 0
    assert result.passing >= 4
    assert any("a control (frozen random decoder" in f.reason for f in result.findings)


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
    broken = replace(family, permuted_hits=np.ones((60, 1), dtype=bool))
    assert not permutation_control([broken]).passed
    choosing = replace(family, permuted_selections=np.arange(60) < 12)
    assert not permutation_control([choosing]).passed


def test_relabelled_findings_are_counted_by_concept() -> None:
    """A run counts once for a concept, whichever family found something in it."""
    family = analyse_family(Contrast.TOPIC, [data(seed, planted=0) for seed in (7, 8)], CONFIG)
    rows = np.arange(60)
    one = replace(family, permuted_hits=np.stack([rows < 3, rows < 0], axis=1))
    other = replace(family, permuted_hits=np.stack([rows < 5, rows == 7], axis=1))
    assert relabelled_findings([one, other]) == {"concept-7": 5, "concept-8": 1}


def test_without_a_chosen_direction_many_set_the_bar() -> None:
    """When discovery chooses no random direction, the bar is the best of at least twenty, not one at will."""
    family = analyse_family(Contrast.DISTINCTION, [data(11, planted=3)], CONFIG)
    (control,) = family.concepts[0].controls
    assert control.selected == 0
    assert control.compared == 20
    assert control.best_d_z is not None
    assert control.best_d_z > 0.2


def _passing(baseline: Baseline) -> Baseline:
    """Return a baseline that passes its test below the AUROC that counts as separating."""
    return replace(baseline, p_holm=0.01, auroc=Estimate(0.65, 0.55, 0.75), separates=False)


def test_weak_signs_are_not_called_absent() -> None:
    """Random directions that pass the test, or a probe that passes only its test, bar the reading `absent`."""
    base = analyse_family(Contrast.TOPIC, [data(2, planted=0, probe=0.0)], CONFIG).concepts[0]
    signs = (
        replace(base, controls=(replace(base.controls[0], confirmed=2),)),
        replace(base, baselines=tuple(_passing(b) if b.kind is BaselineKind.LOGISTIC else b for b in base.baselines)),
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
        scores=both(
            replace(base.scores.discovery.data, score=-base.scores.discovery.data.score),
            replace(base.scores.confirmation.data, score=-base.scores.confirmation.data.score),
        ),
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
    found = wide.scores.discovery.data
    score = found.score.copy()
    score[:, 0] = rng.uniform(1, 2, size=40)
    strong = replace(wide, scores=both(replace(found, score=score), wide.scores.confirmation.data))
    effects = analyse_family(Contrast.TOPIC, [strong], replace(CONFIG, flips=1000, permutations=20)).concepts[0]
    assert 0 in effects.selection.latents


def test_a_selection_carries_no_effect() -> None:
    """Discovery hands over names, directions and a count; there is no field that an effect could travel in."""
    assert {f.name for f in fields(Selection)} == {
        "tested", "p_limit", "latents", "signs", "by", "ranked", "first_sign",
    }  # fmt: skip


def test_equal_inputs_give_equal_results() -> None:
    """Every random draw comes from the seed in the configuration."""
    first, second = (analyse_family(Contrast.TOPIC, [data(8, planted=3)], CONFIG).concepts[0] for _ in range(2))
    assert len(first.features) >= 2
    assert first.features == second.features
    assert (first.baselines, first.controls, first.power) == (second.baselines, second.controls, second.power)


def test_a_silent_latent_scores_zero() -> None:
    """A latent that never fired in a split has differences of 0 there, not another latent's."""
    part = scores(np.random.default_rng(0), 5, 4)
    picked = part.columns(np.array([3, 4, 9, 300]))
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
    assert lexical_verdict(cues, 0, 1.0, TEN) is verdict


def test_a_noisy_lexical_feature_is_undecided() -> None:
    """Failing a condition by chance is not a proof of the contrary."""
    rng = np.random.default_rng(5)
    noisy = replace(constant(0.7), score=rng.normal(0.7, 1.0, size=(10, 1)))
    cues = CueScores(constant(1.0), noisy, constant(0.0))
    assert lexical_verdict(cues, 0, 1.0, TEN) in {Lexical.UNDECIDED, Lexical.LEXICAL}


def test_no_cue_arms_is_not_tested() -> None:
    """Absence of cue arms is said, not guessed over."""
    assert lexical_verdict(None, 0, 1.0, None) is Lexical.NOT_TESTED
    cues = CueScores(constant(1.0), constant(1.0), constant(0.0))
    assert lexical_verdict(cues, 0, -1.0, TEN) is Lexical.NOT_TESTED


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


def broken(item: ContrastData, **parts: object) -> ContrastData:
    """Return data whose confirmation scores have other parts."""
    found = replace(item.scores.confirmation.data, **parts)
    return replace(item, scores=both(item.scores.discovery.data, found))


def test_data_that_admit_no_test_are_named() -> None:
    """A missing arm, too few scenarios, NaN and constant activations each have a reason of their own."""
    sound = data(1, planted=3)
    found = sound.scores.confirmation.data
    nothing = ResidualDifferences(np.zeros((24, WIDTH)), np.zeros((24, WIDTH)))
    nan = found.score.copy()
    nan[3, 2] = np.nan
    few = ScenarioScores(found.scenarios[:5], found.latents, found.score[:5], found.firing[:5], found.fired)
    none = ScenarioScores(found.scenarios[:0], found.latents, found.score[:0], found.firing[:0], found.fired)
    first = sound.scores.discovery.data
    shorter = ResidualDifferences(
        sound.residuals.confirmation.data.mean[:20], sound.residuals.confirmation.data.last[:20]
    )
    cases = {
        "not finite": broken(sound, score=nan),
        "too few scenarios: 5": replace(sound, scores=both(first, few)),
        "an arm is missing: no confirmation scenario": replace(sound, scores=both(first, none)),
        "residuals 20": replace(sound, residuals=both(sound.residuals.discovery.data, shorter)),
        "constant activations": replace(
            broken(sound, score=np.zeros_like(found.score)), residuals=both(sound.residuals.discovery.data, nothing)
        ),
    }
    assert why_untestable(sound) is None
    for words, item in cases.items():
        assert words in (why_untestable(item) or "")


def test_a_family_without_testable_concepts_is_empty() -> None:
    """Nothing to test is no pass and no crash."""
    family = analyse_family(Contrast.TOPIC, [], CONFIG)
    assert family.concepts == ()
    assert permutation_control([family]).with_any_finding == 0


def test_benjamini_yekutieli_is_stricter() -> None:
    """Whatever the dependence between features, it chooses a part of what Benjamini-Hochberg does."""
    rng = np.random.default_rng(21)
    item = data(21, planted=12)
    found = item.scores.discovery.data
    score = found.score.copy()
    score[:, :12] = rng.normal(np.linspace(0.45, 1.6, 12), 1, size=(40, 12))
    weak = replace(item, scores=both(replace(found, score=score), item.scores.confirmation.data))
    effects = analyse_family(Contrast.TOPIC, [weak], CONFIG).concepts[0]
    assert 0 < effects.selection.by.sum() < len(effects.selection.latents)
    # In the order of |t| those that the stricter rule keeps come first.
    assert effects.selection.by.tolist() == sorted(effects.selection.by.tolist(), reverse=True)
