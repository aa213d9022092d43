"""The trainer's sparse gradients against automatic differentiation of the dense formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from audit.training.topk import TopKRecipe, TopKTrainer
from tests.training.conftest import Planted, plant

LATENTS, K, BATCH, WIDTH = 40, 3, 96, 16
NAMES = ("w_enc", "b_enc", "w_dec", "b_dec")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Return 2,000 rows of width 16 from 24 directions."""
    return plant(tmp_path_factory.mktemp("rows"), directions=24, width=WIDTH, active=2, rows=2000)


def make_trainer(rows: Planted, **changes: object) -> TopKTrainer:
    """Return a trainer in float32 with weights that are no longer tied."""
    options: dict[str, object] = {"latents": LATENTS, "k": K, "updates": 10**6, "seed": 5, "batch": BATCH}
    options |= {"encoder_dtype": "fp32"} | changes
    trainer = rows.trainer(TopKRecipe(**options))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        trainer._weights["w_enc"] += torch.randn(LATENTS, WIDTH, generator=generator) * 0.1
        trainer._weights["b_enc"] += torch.randn(LATENTS, generator=generator) * 0.1
    return trainer


def scaled(rows: Planted) -> tuple[float, float]:
    """Return the scale that gives rows a mean norm of sqrt(d_model), and the scaled rows' variance."""
    centred = rows.rows - rows.rows.mean(0)
    scale = WIDTH**0.5 / float(centred.norm(dim=1).mean())
    return scale, float((centred * scale).pow(2).sum(1).mean())


def make_batch(rows: Planted, stretch: float) -> Tensor:
    """Return rows as the trainer scales them, with noise, stretched."""
    noise = torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(2)) * 0.3
    return (rows.rows[:BATCH] * scaled(rows)[0] + noise) * stretch


def dense_forward(weights: dict[str, Tensor], batch: Tensor) -> tuple[Tensor, Tensor]:
    """Return pre-activations and reconstruction of the plain formula, with all latents in a dense matrix."""
    pre = (batch - weights["b_dec"]) @ weights["w_enc"].T + weights["b_enc"]
    values, latents = pre.topk(K, dim=1)
    active = torch.zeros_like(pre).scatter(1, latents, values.relu())
    return pre, active @ weights["w_dec"] + weights["b_dec"]


def clipped(weights: dict[str, Tensor], *, frozen: bool = False) -> tuple[dict[str, Tensor], float]:
    """Return the gradients without the decoder's radial part, shrunk to a norm of 1 if longer, and that norm."""
    gradients = {name: weights[name].grad for name in NAMES}
    assert all(gradient is not None for gradient in gradients.values())
    found: dict[str, Tensor] = {name: g.clone() for name, g in gradients.items() if g is not None}
    decoder = weights["w_dec"].detach()
    unit = decoder / decoder.norm(dim=1, keepdim=True)
    found["w_dec"] -= (found["w_dec"] * unit).sum(1, keepdim=True) * unit
    if frozen:
        found["w_dec"].zero_()
    norm = float(torch.cat([g.flatten() for g in found.values()]).norm())
    return {name: g / max(norm, 1.0) for name, g in found.items()}, norm


def copied(trainer: TopKTrainer) -> dict[str, Tensor]:
    """Return leaves with the trainer's weights."""
    return {name: weight.detach().clone().requires_grad_() for name, weight in trainer._weights.items()}


def assert_gradients(trainer: TopKTrainer, expected: dict[str, Tensor]) -> None:
    """Assert that every weight's gradient is the expected one, relative to its largest entry."""
    for name in NAMES:
        found = trainer._weights[name].grad
        assert found is not None
        largest = float(expected[name].abs().max())
        torch.testing.assert_close(found, expected[name], rtol=1e-4, atol=1e-4 * max(largest, 1e-6), msg=name)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("stretch", [1.0, 8.0])
def test_gradients_are_those_of_the_dense_formula(rows: Planted, stretch: float, *, frozen: bool) -> None:
    """Loss is the squared error over batch and variance; gradients agree to 1e-4, below and above the clip."""
    trainer = make_trainer(rows, decoder_seed=3 if frozen else None)
    batch = make_batch(rows, stretch)
    weights = copied(trainer)
    _, output = dense_forward(weights, batch)
    loss = (output - batch).pow(2).sum() / (BATCH * scaled(rows)[1])
    loss.backward()  # type: ignore[no-untyped-call]
    expected, norm = clipped(weights, frozen=frozen)
    assert (norm > 1) is (stretch > 1)
    with torch.no_grad():
        assert trainer._fill_gradients(batch) == pytest.approx(float(loss.detach()), rel=1e-4)
    assert_gradients(trainer, expected)
    assert bool(expected["w_enc"].any())
    assert bool(expected["w_dec"].any()) is not frozen


def test_dead_latents_get_the_gradient_of_the_auxiliary_loss(rows: Planted) -> None:
    """Latents long silent learn the rest of the error, as a share of it times the weight; live ones and b_dec do not.

    Gao et al. 2024, appendix A.2, with 4 k dead latents a position; the error and the centre count as constants.
    """
    weight = 0.5
    trainer = make_trainer(rows, dead_after=10 * BATCH, auxiliary_weight=weight)
    trainer.step = 400
    trainer._last_fired[: LATENTS // 2] = trainer.step * BATCH
    with torch.no_grad():
        # Low, so that they are never among the first three, but not below zero, where nothing could revive them.
        trainer._weights["b_enc"][LATENTS * 3 // 4 :] -= 0.4
    batch = make_batch(rows, 1.0)
    weights = copied(trainer)
    pre, output = dense_forward(weights, batch)
    fired = torch.zeros(LATENTS, dtype=torch.bool)
    values, latents = pre.topk(K, dim=1)
    fired[latents[values > 0]] = True
    dead = [n for n in range(LATENTS // 2, LATENTS) if not fired[n]]
    assert len(dead) >= 2
    loss = (output - batch).pow(2).sum() / (BATCH * scaled(rows)[1])
    error = (batch - output).detach()
    dead_pre = (batch - weights["b_dec"].detach()) @ weights["w_enc"][dead].T + weights["b_enc"][dead]
    dead_values, places = dead_pre.topk(min(len(dead), 4 * K), dim=1)
    active = torch.zeros_like(dead_pre).scatter(1, places, dead_values.relu())
    auxiliary = (error - active @ weights["w_dec"][dead]).pow(2).sum() / error.pow(2).sum()
    (loss + weight * auxiliary).backward()  # type: ignore[no-untyped-call]
    expected, _ = clipped(weights)
    with torch.no_grad():
        trainer._fill_gradients(batch)
    assert_gradients(trainer, expected)
    assert bool(expected["w_enc"][dead].any())


def test_the_dense_product_in_bf16_is_near(rows: Planted) -> None:
    """Half precision of the encoder's product moves the loss of a batch by less than 2 percent, and does move it."""
    batch = make_batch(rows, 1.0)
    losses = []
    for dtype in ("fp32", "bf16"):
        with torch.no_grad():
            losses.append(make_trainer(rows, encoder_dtype=dtype)._fill_gradients(batch))
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_the_scale_is_that_of_the_rows(rows: Planted) -> None:
    """Centred rows have norm sqrt(d_model) on average after scaling."""
    assert make_trainer(rows).scale == pytest.approx(scaled(rows)[0], rel=1e-4)
