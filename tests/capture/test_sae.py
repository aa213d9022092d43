"""The canonical SAE against a direct computation, and damaged folders refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from audit.capture.encoder import SparseRows
from audit.capture.formats.own import CARD_FILE, CARD_SCHEMA, WEIGHTS_FILE
from audit.capture.sae import Sae, random_directions
from audit.capture.sae_sources import load_sae
from audit.digests import digest_file
from audit.errors import SaeInvalid, ShapeMismatch

LATENTS, WIDTH, K = 96, 32, 5


def write_sae(
    folder: Path,
    *,
    site: str = "resid_post.2",
    name: str = "small",
    change: Callable[[dict[str, torch.Tensor]], None] | None = None,
) -> Path:
    """Write a small random SAE in the canonical form."""
    generator = torch.Generator().manual_seed(3)
    w_dec = torch.randn(LATENTS, WIDTH, generator=generator)
    w_dec /= w_dec.norm(dim=1, keepdim=True)
    tensors = {
        "w_enc": torch.randn(LATENTS, WIDTH, generator=generator),
        "b_enc": torch.randn(LATENTS, generator=generator) * 0.1,
        "w_dec": w_dec,
        "b_dec": torch.randn(WIDTH, generator=generator) * 0.1,
    }
    if change is not None:
        change(tensors)
    folder.mkdir(parents=True)
    save_file(tensors, folder / WEIGHTS_FILE)
    card = {
        "schema": CARD_SCHEMA,
        "name": name,
        "site": site,
        "architecture": "topk",
        "latents": LATENTS,
        "k": K,
        "d_model": WIDTH,
        "licence": "Apache-2.0",
        "weights_digest": digest_file(folder / WEIGHTS_FILE),
        "training": {"tokens": 1, "updates": 2, "data_digest": "none"},
    }
    (folder / CARD_FILE).write_text(json.dumps(card))
    return folder


@pytest.fixture
def sae(tmp_path: Path) -> Sae:
    """Return a small random SAE."""
    return load_sae(str(write_sae(tmp_path / "sae")))


def test_encode_is_topk_of_the_formula(sae: Sae) -> None:
    """Rows are relu(top_k((x - b_dec) W_enc^T + b_enc)), ordered by token and latent, over several blocks."""
    x = torch.randn(2500, WIDTH, generator=torch.Generator().manual_seed(1))
    rows = sae.encode(x)
    pre = (x - sae.b_dec) @ sae.w_enc.T + sae.b_enc
    values, latents = pre.topk(K, dim=1)
    dense = torch.zeros(2500, LATENTS).scatter_(1, latents, values.relu())
    mine = torch.zeros(2500, LATENTS)
    mine[rows.token, rows.latent] = rows.activation
    torch.testing.assert_close(mine, dense)
    assert len(rows.token) == int((dense > 0).sum())
    order = rows.token * LATENTS + rows.latent
    assert bool((order[1:] > order[:-1]).all())


def test_decode_is_the_weighted_sum(sae: Sae) -> None:
    """x_hat = a W_dec + b_dec, also for tokens on which nothing fires."""
    x = torch.randn(41, WIDTH, generator=torch.Generator().manual_seed(2))
    fired = sae.encode(x)
    early = fired.token < 40
    rows = SparseRows(fired.token[early], fired.latent[early], fired.activation[early])
    dense = torch.zeros(41, LATENTS)
    dense[rows.token, rows.latent] = rows.activation
    torch.testing.assert_close(sae.decode(rows, x), dense @ sae.w_dec + sae.b_dec)


def test_another_width_is_refused(sae: Sae) -> None:
    """An SAE of another model cannot be applied."""
    with pytest.raises(ShapeMismatch):
        sae.encode(torch.zeros(3, WIDTH + 1))


def test_random_directions_have_the_same_shape_and_come_from_the_seed(sae: Sae) -> None:
    """The control is regenerated, never stored, and its digest names its seed."""
    first, again, other = (
        random_directions(sae, k=K, seed=seed, centre=sae.b_dec, bias=sae.b_dec) for seed in (1, 1, 2)
    )
    assert first.w_dec.shape == sae.w_dec.shape
    assert first.record.k == sae.record.k == K
    torch.testing.assert_close(first.w_dec, again.w_dec)
    torch.testing.assert_close(first.w_dec.norm(dim=1), torch.ones(LATENTS))
    assert first.record.digest == again.record.digest != other.record.digest


def nan(tensors: dict[str, torch.Tensor]) -> None:
    """Put a NaN into the encoder."""
    tensors["w_enc"][0, 0] = float("nan")


def transposed(tensors: dict[str, torch.Tensor]) -> None:
    """Store the decoder the other way round."""
    tensors["w_dec"] = tensors["w_dec"].T.contiguous()


def unnormed(tensors: dict[str, torch.Tensor]) -> None:
    """Scale one decoder row."""
    tensors["w_dec"][4] *= 3


def extra(tensors: dict[str, torch.Tensor]) -> None:
    """Add a tensor whose meaning this form does not have."""
    tensors["threshold"] = torch.zeros(LATENTS)


@pytest.mark.parametrize("change", [nan, transposed, unnormed, extra])
def test_unfit_weights_are_refused(tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Weights that cannot mean what the card says are never used."""
    folder = write_sae(tmp_path / "sae", change=change)
    with pytest.raises(SaeInvalid):
        load_sae(str(folder))


def test_a_changed_weight_is_noticed(tmp_path: Path) -> None:
    """The card carries the weights' digest."""
    folder = write_sae(tmp_path / "sae")
    tensors = load_file(folder / WEIGHTS_FILE)
    tensors["b_enc"] += 1e-3
    save_file(tensors, folder / WEIGHTS_FILE)
    with pytest.raises(SaeInvalid, match="safetensors"):
        load_sae(str(folder))


@pytest.mark.parametrize("name", [CARD_FILE, WEIGHTS_FILE])
def test_a_missing_or_broken_file_is_named(tmp_path: Path, name: str) -> None:
    """Half an SAE is none."""
    folder = write_sae(tmp_path / "sae")
    (folder / name).write_bytes(b"{")
    with pytest.raises(SaeInvalid):
        load_sae(str(folder))
    (folder / name).unlink()
    with pytest.raises(SaeInvalid) as caught:
        load_sae(str(folder))
    # Without its card a folder is in no known format: the error says what such a folder would hold.
    assert name in caught.value.found + caught.value.expected + caught.value.hint
