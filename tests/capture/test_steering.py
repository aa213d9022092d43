"""Suppression of features while a model reads and writes, against plain recomputation without caches or batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from audit.capture.encoder import TopK
from audit.capture.fitting import Fitted, fit_sae
from audit.capture.model import LoadedModel, load_model
from audit.capture.prompts import OutcomeTokens, Prompt, TokenisedPrompt, tokenise
from audit.capture.sae import InputNorm, Sae, random_decoder
from audit.capture.sites import replaced_site
from audit.capture.steering import Steerer
from audit.config import Dtype, ModelConfig, PromptFormat
from audit.records import SaeRecord
from probes.schema import Arm, Split
from tests.capture.conftest import LAYERS, save_model

LATENTS = 12
TOKENS = OutcomeTokens(target=40, foil=50)
TEXTS = (
    "the nurse gave the patient a dose of medicine",
    "what should happen next in the ward, and who decides?",
    "a helpful nurse",
)


def make_sae(model: LoadedModel, site: str, target: str | None = None, norm: InputNorm = InputNorm.NONE) -> Fitted:
    """Return an SAE with random decoder rows of norm 1 at a site of a model."""
    width = model.record.width
    rows = random_decoder(LATENTS, width, seed=3)
    record = SaeRecord(
        name="random", site=site, target=target or site, architecture="topk", format="affidavit", source="test",
        latents=LATENTS, k=2, width=width, target_width=width, digest="sha256:0", training_tokens=None,
        training_updates=None, training_data_digest=None, licence="none", notes=(),
    )  # fmt: skip
    sae = Sae(
        w_enc=rows, b_enc=torch.zeros(LATENTS), w_dec=rows, b_dec=torch.zeros(width), rule=TopK(2), record=record,
        input_norm=norm,
    )  # fmt: skip
    return fit_sae(sae, model)


def make_prompts(model: LoadedModel, texts: Sequence[str] = TEXTS) -> list[TokenisedPrompt]:
    """Return texts as prompts in the model's chat template."""
    return [
        tokenise(
            model, Prompt(n, "s", "d", "c", f"c-{n}", Split.CONFIRMATION, Arm.CONCEPT, "f", text), PromptFormat.CHAT
        )
        for n, text in enumerate(texts)
    ]


def logits_by_hand(
    model: LoadedModel, fitted: Fitted, ids: Sequence[int], changed: Sequence[bool], push: Tensor | None
) -> Tensor:
    """Return (position, vocabulary) logits of one sequence alone, the push subtracted at the marked positions."""

    def change(activation: Tensor) -> Tensor:
        moved = activation.clone()
        for position, marked in enumerate(changed):
            if marked and push is not None:
                moved[0, position] -= push
        return moved

    with replaced_site(model.layers, fitted.target, change), torch.inference_mode():
        logits: Tensor = model.model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
    return logits


def text_by_hand(
    model: LoadedModel, fitted: Fitted, prompt: TokenisedPrompt, push: Tensor | None, *, new_tokens: int
) -> tuple[int, ...]:
    """Return what the model writes greedily when each token needs the whole text to be read again."""
    ids, changed = list(prompt.ids), list(prompt.content)
    for _ in range(new_tokens):
        token = int(logits_by_hand(model, fitted, ids, changed, push)[-1].argmax())
        if token == model.tokenizer.eos_token_id:
            break
        ids.append(token)
        changed.append(True)
    return tuple(ids[len(prompt.ids) :])


def test_a_push_is_the_sum_of_the_largest_activations_along_the_decoder_rows(small_model: LoadedModel) -> None:
    """Worked by hand: dose times max times row, added up."""
    fitted = make_sae(small_model, "resid_post.1")
    steerer = Steerer(small_model, fitted)
    rows = fitted.sae.w_dec
    expected = 2.0 * (3.0 * rows[4] + 5.0 * rows[7])
    assert torch.allclose(steerer.push((4, 7), (3.0, 5.0), 2.0), expected, atol=1e-6)


def test_a_dose_of_nothing_changes_nothing(small_model: LoadedModel) -> None:
    """Outcome, loss and text are those of the untouched model to the last bit, and the divergence is 0."""
    steerer = Steerer(small_model, make_sae(small_model, "resid_post.1"))
    prompts = make_prompts(small_model)
    nothing = steerer.push((4, 7), (3.0, 5.0), 0.0)
    for row in steerer.answer([(p, TOKENS) for p in prompts], [nothing], loss=True):
        assert row.changed == (row.untouched,)
        assert row.untouched.kl == 0.0
    for text in steerer.write(prompts, [nothing], new_tokens=6):
        assert text.changed == (text.untouched,)


@pytest.mark.parametrize("site", ["resid_pre.0", "resid_post.1", "mlp_out.2", f"resid_post.{LAYERS - 1}"])
def test_answers_equal_one_sequence_at_a_time(small_model: LoadedModel, site: str) -> None:
    """Outcome, divergence and loss of a padded, resumed batch are those of the definition, prompt by prompt."""
    fitted = make_sae(small_model, site)
    steerer = Steerer(small_model, fitted)
    prompts = make_prompts(small_model)
    pushes = [steerer.push((4, 7), (3.0, 5.0), dose) for dose in (0.5, 2.0)]
    answers = steerer.answer([(p, TOKENS) for p in prompts], pushes, loss=True)
    for prompt, row in zip(prompts, answers, strict=True):
        clean = logits_by_hand(small_model, fitted, prompt.ids, prompt.content, None)
        for answer, push in zip((row.untouched, *row.changed), (None, *pushes), strict=True):
            logits = logits_by_hand(small_model, fitted, prompt.ids, prompt.content, push)
            assert answer.outcome == pytest.approx(float(logits[-1, 40] - logits[-1, 50]), abs=2e-4)
            p, q = clean[-1].softmax(-1), logits[-1].softmax(-1)
            assert answer.kl == pytest.approx(float((p * (p / q).log()).sum()), abs=2e-4)
            losses = [
                -float(logits[n].log_softmax(-1)[prompt.ids[n + 1]])
                for n in range(len(prompt.ids) - 1)
                if prompt.content[n] and prompt.content[n + 1]
            ]
            assert answer.loss == pytest.approx(sum(losses) / len(losses), abs=2e-4)
        assert row.changed[1].loss != pytest.approx(row.untouched.loss, abs=1e-3)
        # The last position is the template's: behind the last layer's site nothing there is left to change.
        assert (row.changed[1].kl == 0) == (fitted.target.layer == LAYERS - 1)


def test_without_loss_the_answers_are_the_same(small_model: LoadedModel) -> None:
    """The unembedding at the last positions alone gives the same outcome and divergence."""
    steerer = Steerer(small_model, make_sae(small_model, "resid_post.1"))
    questions = [(p, TOKENS) for p in make_prompts(small_model)]
    pushes = [steerer.push((4, 7), (3.0, 5.0), 1.0)]
    whole, ends = (steerer.answer(questions, pushes, loss=loss) for loss in (True, False))
    for one, other in zip(whole, ends, strict=True):
        assert other.changed[0].loss == 0.0
        assert other.changed[0].outcome == pytest.approx(one.changed[0].outcome, abs=1e-4)
        assert other.changed[0].kl == pytest.approx(one.changed[0].kl, abs=1e-4)


def test_what_the_model_writes_is_changed_too(any_model: LoadedModel) -> None:
    """Texts equal those of a full recomputation for each token, in which every written position is changed."""
    fitted = make_sae(any_model, "resid_post.1")
    steerer = Steerer(any_model, fitted)
    prompts = make_prompts(any_model)
    pushes = [steerer.push((4, 7), (3.0, 5.0), dose) for dose in (0.5, 2.0)]
    texts = steerer.write(prompts, pushes, new_tokens=8)
    for prompt, text in zip(prompts, texts, strict=True):
        for written, push in zip((text.untouched, *text.changed), (None, *pushes), strict=True):
            assert written == text_by_hand(any_model, fitted, prompt, push, new_tokens=8)


def test_changing_the_prompt_alone_would_write_something_else(small_model: LoadedModel) -> None:
    """The test above can fail: with written positions left alone some text differs."""
    fitted = make_sae(small_model, "resid_post.1")
    steerer = Steerer(small_model, fitted)
    push = steerer.push((4, 7), (3.0, 5.0), 2.0)
    differs = []
    for prompt, text in zip(
        make_prompts(small_model), steerer.write(make_prompts(small_model), [push], new_tokens=8), strict=True
    ):
        ids, changed = list(prompt.ids), list(prompt.content)
        for _ in text.changed[0]:
            ids.append(int(logits_by_hand(small_model, fitted, ids, changed, push)[-1].argmax()))
            changed.append(False)
        differs.append(tuple(ids[len(prompt.ids) :]) != text.changed[0])
    assert any(differs)


def test_a_text_stops_where_the_model_ends_it(small_model: LoadedModel) -> None:
    """A token that ends a text is not part of it, and rows that go on are not disturbed."""
    steerer = Steerer(small_model, make_sae(small_model, "resid_post.1"))
    prompts = make_prompts(small_model)
    generation = small_model.model.generation_config
    before = generation.eos_token_id
    free = steerer.write(prompts, [], new_tokens=8)
    long = max(free, key=lambda text: len(text.untouched))
    assert len(long.untouched) > 2
    end = long.untouched[2]
    generation.eos_token_id = [end]
    try:
        ended = steerer.write(prompts, [], new_tokens=8)
    finally:
        generation.eos_token_id = before
    for one, other in zip(free, ended, strict=True):
        stop = one.untouched.index(end) if end in one.untouched else len(one.untouched)
        assert other.untouched == one.untouched[:stop]
    assert len(ended[free.index(long)].untouched) <= 2


def test_an_sae_that_normalises_pushes_in_the_scale_of_each_token(small_model: LoadedModel) -> None:
    """A transcoder of inputs of norm sqrt(d): its output at a token grows with the norm of the token's input."""
    fitted = make_sae(small_model, "mlp_in.2", "mlp_out.2", InputNorm.CONSTANT_NORM)
    steerer = Steerer(small_model, fitted)
    (prompt,) = make_prompts(small_model, TEXTS[:1])
    push = steerer.push((4,), (3.0,), 1.0)
    (row,) = steerer.answer([(prompt, TOKENS)], [push], loss=False)
    source: list[Tensor] = []

    def note(activation: Tensor) -> Tensor:
        source[:] = [activation.clone()]
        return activation

    def change(activation: Tensor) -> Tensor:
        moved = activation.clone()
        for position, own in enumerate(prompt.content):
            if own:
                moved[0, position] -= push * source[0][0, position].norm() / small_model.record.width**0.5
        return moved

    with (
        replaced_site(small_model.layers, fitted.site, note),
        replaced_site(small_model.layers, fitted.target, change),
        torch.inference_mode(),
    ):
        logits = small_model.model(input_ids=torch.tensor([prompt.ids]), use_cache=False).logits[0, -1]
    assert row.changed[0].outcome == pytest.approx(float(logits[40] - logits[50]), abs=2e-4)


def test_a_model_in_bf16_is_steered(tmp_path: Path) -> None:
    """Divergences stay at or above 0 in coarse arithmetic."""
    model = load_model(ModelConfig(str(save_model(tmp_path / "m", "llama")), Dtype.BF16))
    steerer = Steerer(model, make_sae(model, "resid_post.1"))
    prompts = make_prompts(model)
    pushes = [steerer.push((4, 7), (3.0, 5.0), dose) for dose in (1e-6, 2.0)]
    for row in steerer.answer([(p, TOKENS) for p in prompts], pushes, loss=True):
        assert all(answer.kl >= 0 for answer in row.changed)
        assert row.changed[1].kl > 1e-5
    assert len(steerer.write(prompts, pushes, new_tokens=3)) == len(prompts)
