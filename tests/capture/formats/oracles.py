"""The packages that define the formats, random weights, and the comparison of a loaded SAE with them.

A missing package is an error, not a skip: without it nothing here would be tested.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.capture.sae import Sae
from audit.capture.sae_sources import load_sae
from audit.errors import SaeInvalid

WIDTH, LATENTS, TOKENS = 24, 160, 300


def sae_lens() -> Any:
    """Return SAELens."""
    return _quietly("sae_lens")


def sae_lens_loaders() -> Any:
    """Return SAELens' readers of other projects' files."""
    sae_lens()
    return _quietly("sae_lens.loading.pretrained_sae_loaders")


def sparsify() -> Any:
    """Return the module of sparsify with its sparse coder."""
    return _quietly("sparsify.sparse_coder")


def dictionary_learning(name: str) -> Any:
    """Return a module of dictionary_learning.

    Its package imports nnsight, wandb and more for training. The dictionaries need none of them, so that its `__init__`
    is left out.
    """
    if "dictionary_learning" not in sys.modules:
        found = importlib.metadata.distribution("dictionary-learning").locate_file("dictionary_learning")
        package = ModuleType("dictionary_learning")
        package.__path__ = [str(found)]
        sys.modules["dictionary_learning"] = package
    return _quietly(f"dictionary_learning.{name}")


def _quietly(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def noise(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Return normal random numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def tokens(width: int = WIDTH) -> Tensor:
    """Return inputs whose mean is not 0 and whose norms differ."""
    scales = 0.5 + torch.rand((TOKENS, 1), generator=torch.Generator().manual_seed(8))
    return (noise(TOKENS, width, seed=9) + 0.3) * scales


def decoder(latents: int = LATENTS, width: int = WIDTH, *, seed: int = 2) -> Tensor:
    """Return (latents, width) rows with norms far from 1 and from each other."""
    norms = torch.rand((latents, 1), generator=torch.Generator().manual_seed(seed + 50)) * 4 + 0.2
    return nn.functional.normalize(noise(latents, width, seed=seed), dim=1) * norms


def encoder(latents: int = LATENTS, width: int = WIDTH) -> Tensor:
    """Return (latents, width) encoder rows."""
    return noise(latents, width, seed=1, scale=width**-0.5)


def fill(module: Any) -> Any:
    """Give a package's module random parameters: norms far from 1, biases and thresholds that are not 0."""
    with torch.no_grad():
        for number, (name, parameter) in enumerate(sorted(module.named_parameters())):
            values = noise(*parameter.shape, seed=20 + number, scale=0.3)
            if "threshold" in name:
                values = values.abs() + 0.05
            elif name in {"W_dec", "decoder.weight"}:
                values = decoder(max(parameter.shape), min(parameter.shape))
                values = values if parameter.shape == values.shape else values.T
            elif parameter.ndim == 2 and name != "W_skip":
                values = noise(*parameter.shape, seed=1, scale=min(parameter.shape) ** -0.5)
            parameter.copy_(values)
    return module.eval()


def assert_same(
    sae: Sae, x: Tensor, activations: Tensor, output: Tensor, *, factor: float = 1.0, tolerance: float = 1e-5
) -> None:
    """Assert that an SAE is what its package computes.

    Args:
        sae: as loaded here; its activations are the package's times the decoder norms.
        x: (tokens, d_in).
        activations: (tokens, latents) of the package.
        output: (tokens, d_out) of the package.
        factor: what the package's activations are divided by to be in the units of x.
        tolerance: relative and absolute.
    """
    rows = sae.encode(x)
    mine = torch.zeros_like(activations)
    mine[rows.token, rows.latent] = rows.activation
    assert sae.norms is not None
    share = float((activations > 0).float().mean())
    assert 0.01 < share < 0.99, f"{share:.1%} of the latents fire: such a comparison says little"
    assert torch.equal(mine > 0, activations > 0)
    torch.testing.assert_close(mine / sae.norms * factor, activations, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(sae.decode(rows, x), output, rtol=tolerance, atol=tolerance)
    lengths = sae.w_dec.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def refused(source: object, *words: str) -> SaeInvalid:
    """Assert that a source is refused with one clear error that has some words, and return it."""
    with pytest.raises(SaeInvalid) as caught:
        load_sae(str(source))
    text = str(caught.value)
    for word in words:
        assert word in text, text
    return caught.value


def spoil(path: Path, how: str) -> None:
    """Cut a file short, or overwrite its head."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if how == "cut" else b"\x00\x01spoilt" + content[9:])
