"""The encoder: exact whatever the blocks, sparse whatever the width."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audit.capture import encoder
from audit.capture.encoder import Rule, SparseRows, Threshold, TopK, encode
from audit.capture.kernels import linear, use_fast_linears


def dense(fired: SparseRows, tokens: int, latents: int) -> Tensor:
    """Return the rows as an array, and require their order."""
    place = fired.token * latents + fired.latent
    assert bool((place[1:] > place[:-1]).all())
    assert bool((fired.activation > 0).all())
    array = torch.zeros(tokens, latents)
    array[fired.token, fired.latent] = fired.activation
    return array


def by_definition(pre: Tensor, rule: Rule) -> Tensor:
    """Return what fires, computed with one sort of everything."""
    if isinstance(rule, Threshold):
        return torch.where((pre > rule.values) & (pre > 0), pre, 0.0)
    values, latents = pre.sort(dim=1, descending=True)
    kept = torch.zeros_like(pre).scatter_(1, latents[:, : rule.k], values[:, : rule.k])
    return kept.relu()


@pytest.mark.parametrize("latents", [40, 64, 1000, 4097])
@pytest.mark.parametrize("shift", [0.0, -3.0])
@pytest.mark.parametrize("kind", ["top_k", "relu", "jump"])
def test_blocks_do_not_change_what_fires(
    monkeypatch: pytest.MonkeyPatch, latents: int, shift: float, kind: str
) -> None:
    """One block or many, few groups or many: the same latents with the same values as one sort gives."""
    generator = torch.Generator().manual_seed(latents)
    rows = torch.randn(70, 24, generator=generator)
    weight = torch.randn(latents, 24, generator=generator)
    bias = torch.randn(latents, generator=generator) + shift
    rule: Rule = {
        "top_k": TopK(7),
        "relu": Threshold(torch.zeros(latents)),
        "jump": Threshold(torch.rand(latents, generator=generator) * 4 - 1),
    }[kind]
    expected = by_definition(linear(rows, weight, bias), rule)
    for block_tokens, block_latents in ((512, 8192), (16, 64), (7, 33)):
        monkeypatch.setattr(encoder, "BLOCK_TOKENS", block_tokens)
        monkeypatch.setattr(encoder, "BLOCK_LATENTS", block_latents)
        found = dense(encode(rows, weight, bias, rule), 70, latents)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(found > 0, expected > 0)


@given(seed=st.integers(0, 10_000), k=st.integers(1, 12), step=st.sampled_from([0.5, 1.0, 5.0]))
def test_ties_fire_k_latents_with_the_largest_values(seed: int, k: int, step: float) -> None:
    """With equal pre-activations any choice is right, as long as the values are the k largest."""
    generator = torch.Generator().manual_seed(seed)
    pre = (torch.randn(5, 96, generator=generator) / step).round() * step
    rows = torch.eye(5)
    found = dense(encode(rows, pre.T.contiguous(), torch.zeros(96), TopK(k)), 5, 96)
    largest = pre.sort(dim=1, descending=True).values[:, :k].relu()
    assert torch.equal(found.sort(dim=1, descending=True).values[:, :k], largest)
    assert torch.equal((found > 0).sum(1), (largest > 0).sum(1))


def test_nothing_fires_below_zero() -> None:
    """A token of which every pre-activation is negative has no row, under either rule; no token gives none."""
    weight, bias = torch.zeros(50, 4), torch.full((50,), -1.0)
    for rule in (TopK(3), Threshold(torch.full((50,), -2.0))):
        assert len(encode(torch.randn(6, 4), weight, bias, rule).token) == 0
        assert len(encode(torch.zeros(0, 4), weight, bias, rule).token) == 0


def test_the_fast_product_is_as_exact_as_pytorchs_own() -> None:
    """Against double precision neither is worse than the other by more than a little."""
    generator = torch.Generator().manual_seed(0)
    rows, weight = torch.randn(300, 700, generator=generator), torch.randn(900, 700, generator=generator)
    bias = torch.randn(900, generator=generator)
    exact = rows.double() @ weight.double().T + bias
    own = (torch.nn.functional.linear(rows, weight, bias) - exact).abs().max()
    with torch.inference_mode():
        fast = (linear(rows, weight, bias) - exact).abs().max()
    assert float(fast) < 4 * float(own) < 1e-3


def test_the_fast_product_lets_gradients_through() -> None:
    """Where a gradient is asked for, PyTorch's own product is used."""
    module = torch.nn.Sequential(torch.nn.Linear(8, 4)).requires_grad_(requires_grad=False)
    use_fast_linears(module)
    rows = torch.randn(3, 8, requires_grad=True)
    module(rows).sum().backward()
    torch.testing.assert_close(rows.grad, module[0].weight.sum(0).expand(3, 8))


def test_packed_weights_give_the_same_bits_and_follow_their_weight() -> None:
    """Whether memory allowed packing changes no row; a weight that changes is packed again."""
    generator = torch.Generator().manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(96, 64, bias=False)).requires_grad_(requires_grad=False)
    weight = model[0].weight
    use_fast_linears(model)
    with torch.inference_mode():
        for rows in (torch.randn(n, 96, generator=generator) for n in (1, 2, 17, 400)):
            assert torch.equal(model(rows), linear(rows, weight))
        assert torch.equal(model(rows[None]), linear(rows[None], weight))
    weight[3, 5] = 7.0
    with torch.inference_mode():
        assert torch.equal(model(rows), linear(rows, weight))
