"""Suppression beside its cost: a planted direction that drives the answer, where every number is known by hand."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from audit.arrays import Densities
from audit.capture.fitting import fit_sae
from audit.capture.model import load_model
from audit.capture.prompts import OutcomeTokens, Prompt, TokenisedPrompt, tokenise
from audit.capture.sae_sources import load_sae
from audit.capture.steering import Steerer
from audit.config import AuditConfig, CausalConfig, ModelConfig, PromptFormat
from audit.errors import UsageError
from audit.records import Suppression
from audit.steering import QuestionPair, SteeringPlan, SteeringSize, measure_suppression, question_pairs, sham_sets
from probes.schema import Arm, Split
from tests.planting import FILLERS, SHARED_AXIS, SHARING, WORDS, save_model, save_sae

TARGET, FOIL = WORDS.index("s0"), WORDS.index("w0")
SCENARIOS = 8
SIZE = SteeringSize(scenarios=6, sham_sets=10, sham_scenarios=3, texts=4, shown=3)


@pytest.fixture(scope="module")
def steerer(tmp_path_factory: pytest.TempPathFactory) -> Steerer:
    """Return the planted model whose head reads the shared axis for the target and nothing else."""
    root = tmp_path_factory.mktemp("planted")
    folder = save_model(root / "model")
    model = LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[TARGET, SHARED_AXIS] = 1
    model.save_pretrained(folder)
    loaded = load_model(ModelConfig(str(folder)))
    return Steerer(loaded, fit_sae(load_sae(str(save_sae(root / "sae"))), loaded))


@pytest.fixture(scope="module")
def pairs(steerer: Steerer) -> tuple[QuestionPair, ...]:
    """Return scenarios whose concept arm ends in a word of the shared direction, and discovery ones to be left out."""
    questions: list[tuple[TokenisedPrompt, OutcomeTokens]] = []
    for n in range(SCENARIOS + 2):
        for arm, last in ((Arm.CONCEPT, SHARING[n + 1]), (Arm.CONTROL, FILLERS[n])):
            split = Split.CONFIRMATION if n < SCENARIOS else Split.DISCOVERY
            text = f"{FILLERS[n + 20]} {FILLERS[n + 40]} {last}"
            prompt = Prompt(len(questions), "s", "d", "planted", f"p-{n}", split, arm, "outcome", text, asked="planted")
            questions.append((tokenise(steerer.model, prompt, PromptFormat.PLAIN), OutcomeTokens(TARGET, FOIL)))
    return question_pairs(questions, "planted")


def plan(latents: tuple[int, ...] = (SHARED_AXIS,), size: SteeringSize = SIZE) -> SteeringPlan:
    """Return a plan in an audit where the fillers and the shared direction fired, each with 10 at most."""
    live = np.array([*(WORDS.index(word) for word in FILLERS[60:]), SHARED_AXIS])
    densities = Densities(live, np.ones(len(live), dtype=np.int64), np.full(len(live), 10.0))
    return SteeringPlan(latents, densities, (0.5, 1.0, 2.0), 4, 7, 400, size)


@pytest.fixture(scope="module")
def found(steerer: Steerer, pairs: tuple[QuestionPair, ...]) -> Suppression:
    """Return the suppression of the direction that drives the answer."""
    return measure_suppression(steerer, pairs, plan(), withheld=False)


def test_the_planted_feature_loses_the_answer_as_worked_by_hand(found: Suppression) -> None:
    """The stream is 10 on two axes; its head reads the shared one over the root mean square of 128 values."""
    untouched = 10 / sqrt(200 / 128)
    left = [5 / sqrt(125 / 128), 0.0, -10 / sqrt(200 / 128)]
    assert found.latents == (SHARED_AXIS,)
    assert found.maxima == (10.0,)
    assert found.n_scenarios == 6
    for dose, value in zip(found.doses, left, strict=True):
        assert dose.outcome.value == pytest.approx(value - untouched, abs=1e-3)


def test_random_features_do_not(found: Suppression) -> None:
    """A push along another axis only makes the stream longer: 3 axes of 10 instead of 2 at a dose of 1."""
    full = found.doses[1]
    assert len(full.sham_outcomes) == 10
    assert full.sham_outcomes == pytest.approx([10 / sqrt(300 / 128) - 10 / sqrt(200 / 128)] * 10, abs=1e-3)
    assert full.outcome.value < 5 * min(full.sham_outcomes)


def test_random_sets_are_pushed_as_far(steerer: Steerer, pairs: tuple[QuestionPair, ...]) -> None:
    """Where the other features fired with 4 at most, their sets are still pushed by 10: the numbers are the same."""
    asked = plan()
    sizes = np.where(asked.live.latents == SHARED_AXIS, 10.0, 4.0)
    weaker = replace(asked, live=Densities(asked.live.latents, asked.live.tokens, sizes))
    full = measure_suppression(steerer, pairs, weaker, withheld=False).doses[1]
    assert full.sham_outcomes == pytest.approx([10 / sqrt(300 / 128) - 10 / sqrt(200 / 128)] * 10, abs=1e-3)


def test_a_set_is_held_against_shams_on_the_same_scenarios(
    steerer: Steerer, pairs: tuple[QuestionPair, ...], found: Suppression
) -> None:
    """Of two scenarios the second has no word of the direction and falls further; shams saw the first one only."""
    mixed = (pairs[0], replace(pairs[1], concept=pairs[1].control))
    one = replace(SIZE, scenarios=2, sham_scenarios=1)
    full = measure_suppression(steerer, mixed, plan(size=one), withheld=False).doses[0]
    present, absent = 5 / sqrt(125 / 128) - 10 / sqrt(200 / 128), -5 / sqrt(125 / 128)
    assert full.n_beside == 1
    assert full.outcome_beside == pytest.approx(present, abs=1e-3)
    assert full.outcome.value == pytest.approx((present + absent) / 2, abs=1e-3)
    assert (found.doses[1].n_beside, found.n_scenarios) == (3, 6)


def test_the_control_arm_pays(found: Suppression) -> None:
    """Where the direction is absent the push writes it with a minus: outcome down by hand, divergence above 0."""
    full = found.doses[1]
    assert full.control_outcome.value == pytest.approx(-10 / sqrt(200 / 128), abs=1e-3)
    assert full.control_kl.value > full.sham_control_kl
    # Filler after filler: the head says nothing of them, so random axes cost nothing.
    assert full.sham_control_kl == pytest.approx(0.0, abs=1e-6)
    assert full.sham_control_loss == pytest.approx(0.0, abs=1e-5)
    assert full.control_loss.value < 0


def test_texts_change_where_the_answer_does(found: Suppression) -> None:
    """Half a dose leaves the target the likeliest word; a whole one takes it away at every position."""
    assert [dose.texts_changed for dose in found.doses] == [0.0, 1.0, 1.0]
    shown = [text for text in found.continuations if text.dose == 1.0]
    assert len(shown) == 3
    assert all(text.untouched == "s0 s0 s0 s0" != text.changed for text in shown)
    assert shown[0].prompt.split()[-1] in SHARING


def test_withheld_suites_print_no_text(steerer: Steerer, pairs: tuple[QuestionPair, ...], found: Suppression) -> None:
    """Neither the prompts nor what the model wrote after them; the numbers are the same."""
    kept = measure_suppression(steerer, pairs, plan(), withheld=True)
    assert kept.continuations == ()
    assert kept.doses == found.doses


def test_pairs_are_of_confirmation_and_of_the_concept(pairs: tuple[QuestionPair, ...]) -> None:
    """Discovery scenarios may not enter an effect."""
    assert [pair.concept.prompt.scenario for pair in pairs] == [f"p-{n}" for n in range(SCENARIOS)]
    assert all(pair.control.prompt.arm is Arm.CONTROL for pair in pairs)
    assert question_pairs([(pairs[0].concept, pairs[0].tokens)], "another") == ()


def test_sham_sets_are_matched_live_and_seeded() -> None:
    """Partners come from the features of nearest size; none is held down, none twice in a set."""
    sizes = np.concatenate([np.linspace(1, 2, 40), np.linspace(50, 60, 40)])
    live = Densities(np.arange(80) * 3, np.ones(80, dtype=np.int64), sizes)
    asked = SteeringPlan((0, 120, 123), live, (1.0,), 4, 7, 400, SteeringSize(6, 9, 3, 4))
    sets = sham_sets(asked)
    assert sets == sham_sets(asked)
    assert len(sets) == 9
    for own in sets:
        assert len(set(own)) == 3
        assert not set(own) & {0, 120, 123}
        assert sum(latent < 120 for latent in own) == 1
    assert len(set(sets)) > 5


def test_what_cannot_be_suppressed_is_named() -> None:
    """A feature that never fired has no unit; a set larger than what else fired has no shams."""
    with pytest.raises(UsageError, match="feature 3") as silent:
        sham_sets(plan((3, SHARED_AXIS)))
    assert "never fired" in str(silent.value)
    live = Densities(np.arange(3), np.ones(3, dtype=np.int64), np.ones(3))
    with pytest.raises(UsageError, match="at least 2 other features"):
        sham_sets(SteeringPlan((0, 1), live, (1.0,), 4, 7, 400, SIZE))


def test_an_audit_steers_as_its_configuration_says() -> None:
    """Doses, tokens, seed and resamples come from there; the size is the one that an audit can afford."""
    config = AuditConfig(causal=CausalConfig(doses=(0.25,), new_tokens=5))
    made = SteeringPlan.within_audit((9, 4), plan().live, config)
    assert (made.latents, made.doses, made.new_tokens) == ((4, 9), (0.25,), 5)
    assert (made.seed, made.resamples, made.size.sham_sets) == (config.analysis.seed, config.analysis.bootstrap, 10)


def test_a_concept_without_a_question_is_refused(steerer: Steerer) -> None:
    """There is no answer to steer."""
    with pytest.raises(UsageError, match="a question about both arms"):
        measure_suppression(steerer, (), plan(), withheld=False)
