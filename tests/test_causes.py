"""A model whose use of its features is known by construction: the causal tests must say what was built, and no more.

Attention of the last layer copies the shared axis of some words, and that of the gates, to the last position; the MLP
there multiplies the two; the answer reads the result. So the direction is used, the gate is used only beside it, and a
word of its own that nothing reads is told apart from noise and yet not used.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from audit.assessment import Reader, assess
from audit.budget import Budget, parse_limit
from audit.capture.formats.own import CARD_FILE, CARD_SCHEMA, WEIGHTS_FILE
from audit.capture.prompts import list_mix_questions
from audit.causes import Causes, find_causes, record_causes
from audit.causes.benches import Ledger, set_up
from audit.causes.levels import LevelReader
from audit.causes.mixes import ask_mix, hold_cases, run_pairs
from audit.causes.pair_shams import PairShams
from audit.causes.pairs import first_order
from audit.causes.work import Work
from audit.config import AnalysisConfig, AuditConfig, CausalConfig, FidelityConfig, ModelConfig, SaeConfig
from audit.digests import digest_file
from audit.evidence.store import answer, create_store
from audit.filling import fill_store
from audit.gathering import Subject, gather, load_subject
from audit.inputs import read_inputs
from audit.progress import Silent
from audit.records import CausalEffect, ConceptResult, PairWord, Rung
from probes.schema import (
    OUTCOME_FRAME,
    Arm,
    Cell,
    Clause,
    Concept,
    Frame,
    Mix,
    MixScenario,
    Outcome,
    Placebo,
    Scenario,
    Split,
    Suite,
)

WIDTH = 128
FILLERS = [f"w{n}" for n in range(60)]
SHARING, GATES = [f"s{n}" for n in range(12)], [f"g{n}" for n in range(12)]
# Words that mixes alone have: live features of the size of the planted ones, which nothing reads.
FIRST_ONLY, SECOND_ONLY = [f"a{n}" for n in range(6)], [f"b{n}" for n in range(6)]
ALONE = "alpha"
WORDS = ["<pad>", "<end>", "yes", "no", "ask", ALONE, *SHARING, *GATES, *FIRST_ONLY, *SECOND_ONLY, *FILLERS]
OUT, GATE_OUT, GATE_AXIS, SHARED_AXIS = 124, 125, 126, 127
PER_TEXT = 8
SHAMS = 19
OUTCOME = Outcome("{text} ask", "yes", "no")


def save_model(folder: Path) -> Path:
    """Save the model; its first two layers write nothing, the last one reads as the module's first lines say."""
    raw = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<end>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<end>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=WIDTH, intermediate_size=4, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, bos_token_id=1, eos_token_id=1, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            for linear in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj,
                           mlp.gate_proj, mlp.up_proj, mlp.down_proj):  # fmt: skip
                linear.weight.zero_()
        embedding = model.model.embed_tokens.weight
        embedding.copy_(10 * torch.eye(len(WORDS), WIDTH))
        embedding[[WORDS.index(word) for word in SHARING], SHARED_AXIS] = 10
        embedding[[WORDS.index(word) for word in GATES], GATE_AXIS] = 10
        # Queries and keys of nothing: every position takes the mean of those up to it.
        attention.v_proj.weight[0, SHARED_AXIS] = attention.v_proj.weight[1, GATE_AXIS] = 1
        attention.o_proj.weight[OUT, 0] = attention.o_proj.weight[GATE_OUT, 1] = 5
        # Weak enough that what a random direction leaves on the gate does less than the direction itself.
        mlp.gate_proj.weight[0, GATE_OUT] = mlp.up_proj.weight[0, OUT] = 1
        mlp.down_proj.weight[OUT, 0] = 1
        model.lm_head.weight.zero_()
        model.lm_head.weight[WORDS.index("yes"), OUT], model.lm_head.weight[WORDS.index("no"), OUT] = 1, -1
    model.save_pretrained(folder)
    return folder


def save_sae(folder: Path, name: str, site: str, k: int) -> Path:
    """Save an SAE with one latent an axis."""
    folder.mkdir()
    axes = torch.eye(WIDTH)
    tensors = {"w_enc": axes.clone(), "b_enc": torch.zeros(WIDTH), "w_dec": axes.clone(), "b_dec": torch.zeros(WIDTH)}
    save_file(tensors, folder / WEIGHTS_FILE)
    card = {
        "schema": CARD_SCHEMA, "name": name, "site": site, "architecture": "topk", "latents": WIDTH, "k": k,
        "d_model": WIDTH, "licence": "Apache-2.0", "weights_digest": digest_file(folder / WEIGHTS_FILE),
        "training": {"tokens": 1, "updates": 2, "data_digest": "none"},
    }  # fmt: skip
    (folder / CARD_FILE).write_text(json.dumps(card))
    return folder


def split_of(number: int, discovery: int) -> Split:
    """Return the split of a scenario by its number."""
    return Split.DISCOVERY if number < discovery else Split.CONFIRMATION


def concept(name: str, words: list[str], outcome: Outcome | None) -> Concept:
    """Return a concept whose texts hold one of the words, in nine of ten scenarios; nothing else differs."""
    rng = np.random.default_rng(len(name))

    def text(held: list[str]) -> str:
        chosen = list(rng.choice(FILLERS, size=PER_TEXT, replace=False))
        if held and rng.uniform() < 0.9:
            chosen[int(rng.integers(PER_TEXT))] = str(rng.choice(held))
        return " ".join(chosen)

    scenarios = tuple(
        Scenario(
            f"{name}-{n}", split_of(n, 40), {Arm.CONCEPT: text(words), Arm.CONTROL: text([]), Arm.NEUTRAL: text([])}
        )
        for n in range(64)
    )
    return Concept(name, "tests", name, "A word.", (), "It is known.", "en", outcome, scenarios)


def mix(name: str, concepts: tuple[str, str], *, uneven: int = 0) -> Mix:
    """Return a mix of two concepts by the words they are made of; the first scenarios of confirmation may be uneven."""
    rng = np.random.default_rng(9)
    held = {"direction": SHARING, "gate": GATES, "word": [ALONE], "silent": SHARING}

    def scenario(n: int) -> MixScenario:
        filler = list(rng.choice(FILLERS, size=22, replace=False))
        longer = ["w0"] if 16 <= n < 16 + uneven else []
        clauses = {
            Clause.A: [str(rng.choice(held[concepts[0]])), *FIRST_ONLY],
            Clause.A_FILLER: filler[:7] + longer,
            Clause.B: [str(rng.choice(held[concepts[1]])), *SECOND_ONLY],
            Clause.B_FILLER: filler[7:14],
            Clause.PLACEBO: filler[14:21],
        }
        return MixScenario(f"{name}-{n}", split_of(n, 16), {one: " ".join(own) for one, own in clauses.items()})

    placebo = Placebo("Nothing", "Nothing.")
    return Mix(name, name, "en", concepts, placebo, "It is known.", tuple(scenario(n) for n in range(40)))


def the_suite() -> Suite:
    """Return three concepts that ask and one that does not, and mixes that can be asked about and some that cannot."""
    return Suite(
        id="known", title="Known", domain="tests", version="1", language="en",
        frames=(Frame("plain", "{text}"),), digest="none",
        concepts=(
            concept("direction", SHARING, OUTCOME), concept("gate", GATES, OUTCOME),
            concept("word", [ALONE], OUTCOME), concept("silent", SHARING, None),
        ),
        mixes=(
            mix("gated", ("direction", "gate")), mix("apart", ("direction", "word"), uneven=2),
            mix("uneven", ("direction", "gate"), uneven=10),
        ),
    )  # fmt: skip


def holding(name: str, words: list[str]) -> int:
    """Return in how many held-out texts of a concept one of the words stands."""
    (found,) = [one for one in the_suite().concepts if one.id == name]
    texts = [scenario.arms[Arm.CONCEPT] for scenario in found.in_split(Split.CONFIRMATION)]
    return sum(bool(set(text.split()) & set(words)) for text in texts)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Subject, tuple[ConceptResult, ...], AuditConfig]:
    """Return the model with its association findings."""
    root = tmp_path_factory.mktemp("known")
    # The last layer writes on two axes more.
    shapes = (("planted", "resid_post.1", 2), ("later", "resid_post.2", 4))
    sources = tuple(str(save_sae(root / name, name, site, k)) for name, site, k in shapes)
    config = AuditConfig(
        model=ModelConfig(source=str(save_model(root / "model"))),
        sae=SaeConfig(sources=sources, controls=()),
        # So that the 36 matched pairs that this small model has are enough for two tests at half of the level each.
        analysis=AnalysisConfig(permutations=20, bootstrap=200, alpha=0.06),
        fidelity=FidelityConfig(amber_delta_ce=100.0),
        causal=CausalConfig(shams=SHAMS),
    )
    suites = (the_suite(),)
    subject = load_subject(read_inputs(suites, config, Silent()), config)
    gathered = gather(subject, config, root, Silent())
    readers = [
        Reader(i.sae.record, i.control.sae.record.name, gathered.limits[i.sae.record.name]) for i in subject.instruments
    ]
    with create_store(root) as store:
        fill_store(store, subject, gathered)
        found = assess(store, suites, config, readers, progress=Silent())
    return subject, found.concepts, config


def run(known: tuple[Subject, tuple[ConceptResult, ...], AuditConfig], budget: str = "unlimited") -> Causes:
    """Return the causal tests under a budget."""
    subject, concepts, config = known
    config = replace(config, causal=replace(config.causal, budget=budget))
    return find_causes(subject, concepts, (), config, progress=Silent(), clock=lambda: 0.0)


@pytest.fixture(scope="module")
def causes(known: tuple[Subject, tuple[ConceptResult, ...], AuditConfig]) -> Causes:
    """Return the causal tests without a limit."""
    return run(known)


def effect_of(causes: Causes, name: str, latent: int) -> CausalEffect:
    """Return the topic effect of one feature on its concept."""
    return next(e for e in causes.result.effects if (e.concept, e.latent) == (name, latent) and e.contrast == "topic")


def test_a_question_is_told_from_the_text_that_it_is_about(
    known: tuple[Subject, tuple[ConceptResult, ...], AuditConfig],
) -> None:
    """The tokens of the scenario's own text are those of the text, whichever part of the content the question is."""
    subject, _, _ = known
    texts = {(s.id, arm): text for c in the_suite().concepts for s in c.scenarios for arm, text in s.arms.items()}
    for question, _ in subject.questions:
        own = [piece for piece, mark in zip(question.pieces, question.scenario_text, strict=True) if mark]
        assert own == texts[question.prompt.scenario, question.prompt.arm].split()
        assert sum(question.scenario_text) < sum(question.content)
    plain = subject.prompts[0]
    assert plain.scenario_text == plain.content


def test_the_feature_that_drives_the_answer_is_causal(causes: Causes) -> None:
    """Lowering the shared direction takes the answer away, more than any random direction of its size."""
    found = effect_of(causes, "direction", SHARED_AXIS)
    assert found.rung is Rung.CAUSAL
    assert found.effect.value > 0.1
    assert found.effect_zero == found.effect
    assert found.kl.value > 0
    assert found.shams is not None
    # Two features reach the sham test: each has half of the level, and shams for it.
    assert (found.shams.count, found.shams.exceeding, found.shams.level) == (66, 0, 0.03)
    assert found.n_changed == holding("direction", SHARING)
    assert (found.reference, found.n_scenarios) == ("neutral", 24)


def test_a_feature_that_is_not_used_stays_confirmed(causes: Causes) -> None:
    """The gate alone multiplies nothing: it tells its concept apart, and lowering it changes no answer at all."""
    found = effect_of(causes, "gate", GATE_AXIS)
    assert found.rung is Rung.CONFIRMED
    assert found.effect.value == pytest.approx(0.0, abs=1e-5)
    assert found.shams is None


def test_findings_carry_their_new_rung(causes: Causes) -> None:
    """The direction's finding is causal, the gate's is confirmed, and both say why."""
    findings = {
        (f.concept, f.latent): f
        for c in causes.concepts for contrast in c.contrasts if contrast.sae == "planted" for f in contrast.findings
    }  # fmt: skip
    direction, gate = findings["direction", SHARED_AXIS], findings["gate", GATE_AXIS]
    assert (direction.rung, gate.rung) == (Rung.CAUSAL, Rung.CONFIRMED)
    assert "changes the answer" in direction.reason
    assert "no change of the answer was found" in gate.reason


def test_a_gate_is_a_synergy_and_two_readers_apart_are_nothing(causes: Causes) -> None:
    """The product is built in: I > 0 beyond every matched pair. A word that nothing reads has I = 0."""
    gated = [pair for pair in causes.pairs["gated"] if {pair.first, pair.second} == {SHARED_AXIS, GATE_AXIS}]
    assert {pair.question for pair in gated} == {"direction", "gate"}
    for pair in gated:
        assert (pair.rung, pair.word) == (Rung.CAUSAL, PairWord.SYNERGY), pair.reason
        assert pair.interaction.value > 0.1
        assert pair.shams is not None
        assert pair.shams.exact == pair.shams.count >= 33
        assert pair.n_scenarios == 24
    (apart, *_) = [pair for pair in causes.pairs["apart"] if pair.first == SHARED_AXIS]
    assert (apart.rung, apart.word) == (Rung.OBSERVED, None)
    assert apart.interaction.value == pytest.approx(0.0, abs=1e-5)
    assert apart.n_scenarios == 8
    assert "within rounding" in apart.reason


def test_too_few_pairs_refuse_the_screen_and_nothing_is_claimed_of_it(causes: Causes) -> None:
    """Two pairs are no random set: refused, so all shams are run and the pairs stand by rank."""
    (screen,) = [one for one in causes.result.screens if one.subject == "pairs"]
    assert not screen.accepted
    (features,) = [one for one in causes.result.screens if one.subject == "features"]
    assert features.spearman is not None
    assert features.compared >= 10


def test_first_order_interactions_point_where_exact_ones_do(
    known: tuple[Subject, tuple[ConceptResult, ...], AuditConfig],
) -> None:
    """On the gate the estimate has the exact sign, and the size in the limit; pairs and shams have one estimate."""
    subject, _, config = known
    (bench,), _ = set_up(subject, config, lambda _: None)
    reader = LevelReader(subject, [bench.instrument], batch_tokens=256, say=lambda _: None)
    budget = Budget(parse_limit("unlimited", item="t"), meters=[], clock=lambda: 0.0)
    work = Work(subject, (bench,), config, reader, budget, Ledger(), Silent())
    gated, tokens = subject.suites[0].mixes[0], {q.prompt.concept: own for q, own in subject.questions}
    asked = ask_mix(subject, gated, list_mix_questions(subject.suites, first_id=10_000), tokens)
    chosen = asked.of(Split.CONFIRMATION, "direction")[:8]
    levels = reader.read([one.cells[cell] for one in chosen for cell in (Cell.FIRST, Cell.SECOND)])
    (cases,) = hold_cases([bench], chosen, levels)
    pair = (SHARED_AXIS, GATE_AXIS)
    estimates = [float(first_order(bench, case, [pair])[0]) for case in cases]
    exact = [answers[0].interaction for answers in run_pairs(bench, cases, [pair])]
    assert all(value > 0.1 for value in [*estimates, *exact])
    # First order in the second feature: nearly exact where that one is lowered by a hundredth.
    slight = [replace(case, without_second={GATE_AXIS: 9.9}) for case in cases]
    near = [float(first_order(bench, case, [pair])[0]) for case in slight]
    assert near == pytest.approx([answers[0].interaction for answers in run_pairs(bench, slight, [pair])], rel=0.05)
    shams = PairShams(bench, cases, work)
    places = [int(np.searchsorted(shams._latents, latent)) for latent in pair]
    assert shams._row(places[0])[places[1]] == pytest.approx(np.mean(estimates), rel=1e-5)
    assert shams._exact([pair])[0] == pytest.approx(np.mean(exact), rel=1e-9)
    assert shams._live.first[:, places[0]] == pytest.approx(np.full(8, 10.0), rel=1e-5)


def test_the_direction_goes_on_to_the_later_sae(causes: Causes) -> None:
    """The later SAE reads the same axis: lowering the feature lowers that one, by its whole activation of 10."""
    (edge,) = [e for e in causes.result.edges if (e.latent, e.downstream_latent) == (SHARED_AXIS, SHARED_AXIS)]
    assert (edge.concept, edge.downstream_sae) == ("direction", "later")
    assert edge.effect.value == pytest.approx(10 * holding("direction", SHARING) / 24, rel=1e-3)
    assert edge.q_value < 0.001
    assert edge.exceeds_shams is True


def test_the_error_of_an_exact_sae_does_nothing(causes: Causes) -> None:
    """One axis a latent leaves no error, so its share is nothing."""
    node = next(one for one in causes.result.errors if one.concept == "direction")
    assert node.effect.value == pytest.approx(0.0, abs=1e-4)
    assert node.share < 0.001


def test_what_cannot_be_tested_is_named(causes: Causes) -> None:
    """No later layers, no question, cells of unequal length: each with its count and its reason."""
    left = {item.what: (item.count, item.reason) for item in causes.result.untested}
    assert "without later layers" in left["all features of later"][1]
    assert left["confirmed features of silent"][1] == "the concept asks no outcome question"
    assert left["scenarios in apart"] == (2, "the cells differ in length in this model's tokens")
    assert left["scenarios in uneven"][0] == 10
    assert "at least 20 needed" in left["pairs of features with a question in uneven"][1]
    assert causes.pairs["uneven"] == ()
    assert any("differ in length" in line for line in causes.untested["apart"])


def test_the_same_audit_gives_the_same_result(known: tuple[Subject, tuple[ConceptResult, ...], AuditConfig]) -> None:
    """A budget in forward-equivalents stops at the same place twice: complete results for what it covers."""
    first, second = run(known, "60 forwards"), run(known, "60 forwards")
    assert first.result == second.result
    assert first.pairs == second.pairs
    assert {effect.concept for effect in first.result.effects} == {"direction"}
    assert all(effect.shams is None for effect in first.result.effects)
    left = {item.what: item.reason for item in first.result.untested}
    assert left["confirmed features of gate"] == "the budget of 60 forwards was spent"
    assert first.result.spending.limit == "60 forwards"
    assert first.result.spending.forward_equivalents >= 60


def test_no_budget_tests_nothing_and_says_so(known: tuple[Subject, tuple[ConceptResult, ...], AuditConfig]) -> None:
    """Not one forward pass; every feature and every mix is listed, and no rung moves."""
    none = run(known, "none")
    assert none.result.spending.forward_equivalents == 0
    assert (none.result.effects, none.pairs["gated"]) == ((), ())
    assert none.concepts == known[1]
    assert {item.reason for item in none.result.untested if "confirmed features" in item.what} >= {
        "causal.budget is “none”"
    }
    assert none.untested["gated"]


def test_every_printed_figure_follows_from_the_rows(causes: Causes, tmp_path: Path) -> None:
    """SQL over the raw rows gives effects, interactions, shams and edges again."""
    with create_store(tmp_path) as store:
        record_causes(store, causes.ledger)
        effects = store.query("causal_effects")
        pairs = store.query("causal_interactions")
        shams = store.query("causal_shams")
        edges = store.query("causal_edges")
    for effect in causes.result.effects:
        own = effects[
            (effects["part"] == effect.concept) & (effects["sae"] == effect.sae) & (effects["latent"] == effect.latent)
        ].set_index("reference")
        assert own.loc[effect.reference, "effect"] == pytest.approx(effect.effect.value, abs=1e-9)
        assert own.loc["zero", "effect"] == pytest.approx(effect.effect_zero.value, abs=1e-9)
        assert own.loc[effect.reference, "kl"] == pytest.approx(effect.kl.value, abs=1e-9)
        assert own.loc[effect.reference, "changed"] == effect.n_changed
    found = {(r.mix, r.question, r.sae, r.first, r.second): r for r in pairs.itertuples()}
    for pair in (one for own in causes.pairs.values() for one in own):
        row = found[pair.mix, pair.question, pair.sae, pair.first, pair.second]
        assert row.interaction == pytest.approx(pair.interaction.value, abs=1e-9)
        assert row.scenarios == pair.n_scenarios
        if pair.shams is not None:
            own = shams[shams["claim"] == pair.id]
            assert len(own) == pair.shams.exact
            exceeding = (own["effect"].abs() >= abs(pair.shams.effect) * (1 - 1e-9)).sum()
            assert {len(scenarios) for scenarios in own["scenarios"]} == {pair.shams.n_scenarios}
            assert exceeding == pair.shams.exceeding
    falls = {(r.concept, r.latent, r.downstream_latent): r.effect for r in edges.itertuples()}
    for edge in causes.result.edges:
        assert falls[edge.concept, edge.latent, edge.downstream_latent] == pytest.approx(edge.effect.value, abs=1e-6)
    assert answer(tmp_path, "SELECT count(*) FROM screen").rows[0][0]


def test_questions_about_mixes_name_who_asks() -> None:
    """Three cells a question, the first concept in front; a concept without an outcome asks nothing."""
    suite = replace(the_suite(), mixes=(mix("half", ("direction", "silent")),))
    prompts = list_mix_questions([suite], first_id=100)
    assert len(prompts) == 40 * 3
    assert {prompt.asked for prompt in prompts} == {"direction"}
    assert [prompt.arm for prompt in prompts[:3]] == [Cell.BOTH, Cell.FIRST, Cell.SECOND]
    assert {prompt.frame for prompt in prompts} == {OUTCOME_FRAME}
    assert [prompt.id for prompt in prompts] == list(range(100, 220))
    scenario = suite.mixes[0].scenarios[0]
    clauses = scenario.clauses
    assert prompts[0].text == f"{clauses[Clause.A]} {clauses[Clause.B]} ask"
    assert prompts[1].text == f"{clauses[Clause.A]} {clauses[Clause.B_FILLER]} ask"
    assert prompts[2].text == f"{clauses[Clause.A_FILLER]} {clauses[Clause.B]} ask"
