"""Sparsify's sparse coders, written by sparsify, against its own encode and forward pass.

SAELens cannot be the oracle: it transposes their decoder and subtracts b_dec by another rule.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from audit.capture.sae_sources import load_sae
from tests.capture.formats.oracles import LATENTS, WIDTH, assert_same, fill, refused, sparsify, spoil, tokens

K = 6


def made(**settings: object) -> Any:
    """Return a random sparse coder."""
    module = sparsify()
    config = module.SparseCoderConfig(num_latents=LATENTS, k=K, **settings)
    return fill(module.SparseCoder(WIDTH, config))


def outputs(coder: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sparsify's activations, made dense, and its output."""
    with torch.no_grad():
        top, places, _ = coder.encode(x)
        # Its forward pass asks the GPU library about bf16; encode, decode and the skip connection are what it computes.
        output = coder.decode(top, places)
        if coder.W_skip is not None:
            output = output + x @ coder.W_skip.mT
        return torch.zeros(len(x), LATENTS).scatter_(1, places, top), output


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("transcode", [True, False])
def test_activations_and_output_are_sparsifys_own(*, transcode: bool, skip: bool, tmp_path: Path) -> None:
    """b_dec is subtracted unless it transcodes; the skip connection sees the input as it is."""
    theirs = made(transcode=transcode, skip_connection=skip)
    folder = tmp_path / "sae-pythia-70m-32x" / "layers.5.mlp"
    theirs.save_to_disk(folder)
    ours = load_sae(str(folder))
    assert_same(ours, tokens(), *outputs(theirs, tokens()))
    assert ours.record.k == K
    assert (ours.centre is None) is transcode
    assert ours.record.name == "sae-pythia-70m-32x/layers.5.mlp"
    # The module's own name is kept: where a norm follows the MLP, its output is not what is added to the stream.
    assert (ours.record.site, ours.record.target) == ("mlp_in.5" if transcode else "layers.5.mlp", "layers.5.mlp")


def test_the_forward_pass_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole forward pass of sparsify gives the output that the other tests put together from its parts."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    theirs = made(transcode=True, skip_connection=True)
    theirs.save_to_disk(tmp_path / "layers.5.mlp")
    ours = load_sae(str(tmp_path / "layers.5.mlp"))
    with torch.no_grad():
        expected = theirs(tokens(), tokens()).sae_out
    torch.testing.assert_close(ours.decode(ours.encode(tokens()), tokens()), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("folder", "transcode", "site", "target"),
    [
        ("layers.5", False, "resid_post.5", "resid_post.5"),
        ("h.11", False, "resid_post.11", "resid_post.11"),
        ("layers.5", True, "resid_pre.5", "resid_post.5"),
        ("layers.5.attention", False, "layers.5.attention", "layers.5.attention"),
    ],
)
def test_the_folders_name_is_the_site(folder: str, site: str, target: str, *, transcode: bool, tmp_path: Path) -> None:
    """Sparsify calls a folder by the module whose output it was trained on."""
    made(transcode=transcode).save_to_disk(tmp_path / folder)
    record = load_sae(str(tmp_path / folder)).record
    assert (record.site, record.target) == (site, target)


def test_other_names_need_a_stated_site(tmp_path: Path) -> None:
    """A renamed folder says nothing; an attention transcoder reads where no audit can."""
    made().save_to_disk(tmp_path / "mine")
    refused(tmp_path / "mine", "#resid_post.12")
    assert load_sae(f"{tmp_path / 'mine'}#resid_post.4").record.site == "resid_post.4"
    made(transcode=True).save_to_disk(tmp_path / "layers.5.attention")
    refused(tmp_path / "layers.5.attention", "whose input is no site")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"activation": "groupmax"}, ["groupmax"]),
        ({"signed": True}, ["negative"]),
        ({"num_latents": LATENTS + 1}, ["another shape"]),
        ({"num_latents": 0}, ["another shape"]),
        ({"skip_connection": True}, ["W_skip"]),
        ({"k": 0}, [": k"]),
        ({"d_in": None}, ["the key d_in"]),
    ],
)
def test_configurations_that_cannot_be_read(change: dict[str, object], words: list[str], tmp_path: Path) -> None:
    """Other activations are refused with the reason; a configuration must fit the weights."""
    made().save_to_disk(tmp_path / "layers.2")
    path = tmp_path / "layers.2" / "cfg.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refused(tmp_path / "layers.2", *words)


def test_damaged_weights(tmp_path: Path) -> None:
    """Truncated, not finite, and without a decoder."""
    made().save_to_disk(tmp_path / "layers.2")
    path = tmp_path / "layers.2" / "sae.safetensors"
    tensors = load_file(path)
    save_file({name: tensor for name, tensor in tensors.items() if name != "W_dec"}, path)
    refused(tmp_path / "layers.2", "a tensor W_dec")
    save_file({**tensors, "b_dec": tensors["b_dec"] * float("inf")}, path)
    refused(tmp_path / "layers.2", "b_dec", "NaN or infinity")
    spoil(path, "cut")
    refused(tmp_path / "layers.2", "sae.safetensors")
