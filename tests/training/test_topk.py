"""The training loop: learns what was planted, revives the dead, exports what it measured."""

from __future__ import annotations

import json
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from audit.capture.formats.own import CARD_FILE, CARD_SCHEMA, WEIGHTS_FILE
from audit.capture.sae import Sae, random_decoder
from audit.capture.sae_sources import load_sae
from audit.digests import digest_file
from audit.errors import ExitCode, TooLarge, TrainingDiverged
from audit.training.harvest import Activations
from audit.training.topk import TopKRecipe, TopKTrainer, require_memory
from tests.training.conftest import BATCH, TOPK, Planted, finish, plant

Memory = namedtuple("Memory", "available")  # noqa: PYI024 - the shape of psutil.virtual_memory


def write_folder(trainer: TopKTrainer, folder: Path) -> Sae:
    """Write the exported weights with the least card that loads, and load them."""
    folder.mkdir()
    save_file(trainer.exported(), folder / WEIGHTS_FILE)
    recipe = trainer.recipe
    card = {
        "schema": CARD_SCHEMA,
        "name": "planted",
        "site": "resid_post.0",
        "architecture": "topk",
        "latents": recipe.latents,
        "k": recipe.k,
        "d_model": trainer.exported()["b_dec"].shape[0],
        "licence": "none",
        "weights_digest": digest_file(folder / WEIGHTS_FILE),
        "decoder_seed": recipe.decoder_seed,
        "training": {"tokens": 1, "updates": 1, "data_digest": "none"},
    }
    (folder / CARD_FILE).write_text(json.dumps(card))
    return load_sae(str(folder))


def unexplained(sae: Sae, rows: Tensor) -> float:
    """Return the fraction of variance of rows that encode and decode leave unexplained."""
    output = sae.decode(sae.encode(rows), rows)
    return float((output - rows).pow(2).sum() / (rows - rows.mean(0)).pow(2).sum())


def read_all(activations: Activations) -> Tensor:
    """Return all rows."""
    return activations.read(np.arange(len(activations)))


@pytest.fixture(scope="module")
def learnt(planted: Planted) -> TopKTrainer:
    """Return a trainer that has finished on the planted rows, watched at the start, after 100 steps and at the end."""
    trainer = planted.trainer(TOPK)
    trainer.watch(1.0)
    trainer.watch(finish(trainer, until=100))
    trainer.watch(finish(trainer))
    return trainer


def test_planted_directions_are_learnt(planted: Planted, learnt: TopKTrainer) -> None:
    """Held-out FVU falls from above 0.5 below 0.06, and all 32 directions are decoder rows within a cosine of 0.95."""
    start, early, end = learnt.curve
    for first, then, last in (
        (start.fvu_plain, early.fvu_plain, end.fvu_plain),
        (start.fvu_chat, early.fvu_chat, end.fvu_chat),
    ):
        assert first is not None
        assert then is not None
        assert last is not None
        assert first > 0.5 > then > last
        assert last < 0.06
    cosines = planted.directions @ learnt.exported()["w_dec"].float().T
    assert float(cosines.max(dim=1).values.min()) > 0.95
    assert (end.step, end.updates) == (400, 400 * BATCH)


def test_decoder_rows_keep_norm_1(planted: Planted) -> None:
    """After each step, and within bf16 rounding in the export."""
    trainer = planted.trainer(TOPK)
    for _ in range(5):
        trainer.advance()
        torch.testing.assert_close(trainer._weights["w_dec"].detach().norm(dim=1), torch.ones(64), atol=1e-6, rtol=0)
    assert float((trainer.exported()["w_dec"].float().norm(dim=1) - 1).abs().max()) < 0.01


def test_equal_recipes_give_equal_weights_and_other_seeds_others(planted: Planted) -> None:
    """The weights depend on recipe and activations alone."""
    first, again, other = (planted.trainer(replace(TOPK, seed=seed)) for seed in (0, 0, 1))
    for trainer in (first, again, other):
        finish(trainer, until=20)
    assert all(torch.equal(first.exported()[name], again.exported()[name]) for name in first.exported())
    assert not any(torch.equal(first.exported()[name], other.exported()[name]) for name in first.exported())


def count_silent(trainer: TopKTrainer, rows: Tensor) -> int:
    """Return how many latents fire on none of the rows."""
    w_enc, b_enc, b_dec = (trainer._weights[name].detach() for name in ("w_enc", "b_enc", "b_dec"))
    values, latents = ((rows * trainer.scale - b_dec) @ w_enc.T + b_enc).topk(trainer.recipe.k, dim=1)
    return trainer.recipe.latents - len(latents[values > 0].unique())


def test_dead_latents_are_revived(tmp_path: Path) -> None:
    """Where a high rate kills more than 25 of 256 latents, the auxiliary loss leaves fewer than 15 and a better FVU."""
    rows = plant(tmp_path, directions=256, width=64, active=4)
    recipe = replace(TOPK, latents=256, k=4, updates=300 * BATCH, learning_rate=3e-2, dead_after=5120)
    silent, dead, fvu = [], [], []
    for weight in (0.0, 1 / 32):
        trainer = rows.trainer(replace(recipe, auxiliary_weight=weight))
        point = trainer.watch(finish(trainer))
        silent.append(count_silent(trainer, rows.rows))
        dead.append(point.dead)
        assert point.fvu_plain is not None
        fvu.append(point.fvu_plain)
    assert silent[0] > 25
    assert silent[1] < 15
    assert dead[0] > 25
    assert dead[1] < 15
    assert fvu[1] < fvu[0]


def test_exported_weights_reconstruct_as_well_as_the_curve_says(
    planted: Planted, learnt: TopKTrainer, tmp_path: Path
) -> None:
    """Unscaled rows through the written folder give the trainer's own held-out FVU, within bf16's rounding."""
    sae = write_folder(learnt, tmp_path / "sae")
    held, chat = read_all(planted.held), torch.from_numpy(planted.held.chat)
    for told, rows in ((learnt.curve[-1].fvu_plain, held[~chat]), (learnt.curve[-1].fvu_chat, held[chat])):
        assert told == pytest.approx(unexplained(sae, rows), rel=0.03)
    assert learnt.scale != pytest.approx(1, rel=0.1)


def test_exported_weights_are_bf16_of_the_canonical_shape(learnt: TopKTrainer) -> None:
    """Four tensors, each (latents, d_model), (latents,) or (d_model,)."""
    exported = learnt.exported()
    assert {name: tuple(t.shape) for name, t in exported.items()} == {
        "w_enc": (64, 24),
        "b_enc": (64,),
        "w_dec": (64, 24),
        "b_dec": (24,),
    }
    assert {t.dtype for t in exported.values()} == {torch.bfloat16}


def test_a_frozen_decoder_stays_and_comes_back_from_its_seed(planted: Planted, tmp_path: Path) -> None:
    """Training never moves it, the file leaves it out, loading makes it again; encoder and centre do learn."""
    trainer = planted.trainer(replace(TOPK, decoder_seed=7))
    start = trainer.exported()
    first = trainer.watch(1.0).fvu_plain
    last = trainer.watch(finish(trainer)).fvu_plain
    decoder = random_decoder(64, 24, seed=7)
    assert torch.equal(trainer._weights["w_dec"].detach(), decoder)
    sae = write_folder(trainer, tmp_path / "sae")
    assert set(load_file(tmp_path / "sae" / WEIGHTS_FILE)) == {"w_enc", "b_enc", "b_dec"}
    assert torch.equal(sae.w_dec, decoder)
    assert not any(torch.equal(tensor, start[name]) for name, tensor in trainer.exported().items())
    held = read_all(planted.held)[~torch.from_numpy(planted.held.chat)]
    assert last == pytest.approx(unexplained(sae, held), rel=0.03)
    assert first is not None
    assert last is not None
    assert last < first - 0.05


def needed_gb(recipe: TopKRecipe, width: int) -> float:
    """Return the GB that the refusal asks for."""
    with pytest.raises(TooLarge) as caught:
        require_memory(recipe, width)
    assert caught.value.exit_code is ExitCode.ENVIRONMENT
    assert caught.value.found == "0.0 GB free"
    return float(caught.value.expected.split(" GB")[0])


def test_too_little_memory_is_told_with_the_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figure covers weights, gradients and two moments in float32 and a batch's pre-activations, and grows."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(0))
    sizes = [needed_gb(TopKRecipe(latents=n, k=32, updates=1, seed=0), 1024) for n in (16_384, 65_536, 262_144)]
    for latents, size in zip((16_384, 65_536, 262_144), sizes, strict=True):
        assert size >= round((2 * latents * 1024 * 4 * 4 + 4096 * latents * 4) / 1e9, 1)
    assert sizes[1] / sizes[0] == pytest.approx(4, rel=0.2)
    assert sizes[2] / sizes[1] == pytest.approx(4, rel=0.2)
    smaller = needed_gb(TopKRecipe(latents=65_536, k=32, updates=1, seed=0, batch=512), 1024)
    assert smaller < sizes[1]
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(int((sizes[1] + 0.1) * 1e9)))
    require_memory(TopKRecipe(latents=65_536, k=32, updates=1, seed=0), 1024)


@pytest.mark.parametrize("encoder_dtype", ["bf16", "fp32"])
def test_a_diverging_loss_stops_the_training(planted: Planted, encoder_dtype: str) -> None:
    """An absurd rate ends in an error that names the step; the weights are those before it."""
    trainer = planted.trainer(replace(TOPK, learning_rate=1e30, encoder_dtype=encoder_dtype))
    taken: list[dict[str, Tensor]] = []

    def train() -> None:
        while trainer.step < 50:
            taken.append({name: weight.detach().clone() for name, weight in trainer._weights.items()})
            trainer.advance()

    with pytest.raises(TrainingDiverged) as caught:
        train()
    assert caught.value.item == f"step {trainer.step + 1} of {TOPK.steps}"
    assert caught.value.found in {"nan", "inf"}
    assert len(taken) > 1
    assert all(torch.equal(weight, taken[-1][name]) for name, weight in trainer._weights.items())
