"""SAEs that are one file of `torch.save`: Goodfire's against SAELens' loader, OpenAI's against the formula.

OpenAI's package is not on the package index. Its definition (`model.py`) is written out below: layer norm with the
deviation of n - 1, 1e-5 added to the deviation, the same bias before the encoder and behind the decoder.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from audit.capture.encoder import TopK
from audit.capture.sae_sources import load_sae
from tests.capture.formats.oracles import (
    LATENTS,
    WIDTH,
    assert_same,
    decoder,
    encoder,
    noise,
    refused,
    sae_lens,
    sae_lens_loaders,
    spoil,
    tokens,
)

K = 6
COUNTERS = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")


def goodfire(path: Path, **more: Tensor) -> Path:
    """Write a file in Goodfire's names."""
    tensors = {
        "encoder_linear.weight": encoder(),
        "encoder_linear.bias": noise(LATENTS, seed=3, scale=0.3),
        "decoder_linear.weight": decoder().T.contiguous(),
        "decoder_linear.bias": noise(WIDTH, seed=4, scale=0.5),
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, path)
    return path


@pytest.mark.parametrize(
    ("repo", "name"),
    [
        ("Goodfire/Llama-3.1-8B-Instruct-SAE-l19", "Llama-3.1-8B-Instruct-SAE-l19.pth"),
        ("Goodfire/Llama-3.3-70B-Instruct-SAE-l50", "Llama-3.3-70B-Instruct-SAE-l50.pt"),
    ],
)
def test_goodfire_as_saelens_reads_it(repo: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder is stored transposed, its bias is not subtracted, and the layer is in the file's name."""
    path = goodfire(tmp_path / "sae" / name)
    module = sae_lens_loaders()
    monkeypatch.setattr(module, "hf_hub_download", lambda **_: str(path))
    config, state, _ = module.NAMED_PRETRAINED_SAE_LOADERS["goodfire"](
        repo_id=repo, folder_name=name, cfg_overrides={"d_in": WIDTH, "d_sae": LATENTS}
    )
    theirs = sae_lens().SAE.from_dict(module.handle_config_defaulting(config))
    theirs.load_state_dict(state)
    with torch.no_grad():
        expected = theirs.encode(tokens()), theirs(tokens())
    for source in (path, path.parent):
        ours = load_sae(str(source))
        assert_same(ours, tokens(), *expected)
        assert ours.record.site == f"resid_post.{name.partition('SAE-l')[2].partition('.')[0]}"
        assert theirs.cfg.metadata.hook_name == f"blocks.{ours.record.site.partition('.')[2]}.hook_resid_post"
    assert ours.record.format == "Goodfire"


def test_goodfire_refused(tmp_path: Path) -> None:
    """Without a layer in its name, misshapen, and cut short."""
    refused(goodfire(tmp_path / "mine.pt"), "#resid_post.12")
    assert load_sae(f"{goodfire(tmp_path / 'mine.pt')}#resid_post.3").record.site == "resid_post.3"
    refused(f"{goodfire(tmp_path / 'odd.pt', **{'decoder_linear.bias': torch.ones(3)})}#resid_post.3", "shape")
    spoil(goodfire(tmp_path / "cut.pt"), "cut")
    refused(tmp_path / "cut.pt", "cut.pt")


def openai(path: Path, activation: str, **more: Any) -> dict[str, Any]:
    """Write a file in OpenAI's names, with the counters of its training, and return its content."""
    inner: OrderedDict[str, Any] = OrderedDict()
    if activation == "TopK":
        inner.update(k=K, postact_fn="ReLU")
    content: OrderedDict[str, Any] = OrderedDict(
        pre_bias=noise(WIDTH, seed=4, scale=0.4),
        latent_bias=noise(LATENTS, seed=3, scale=0.3),
        stats_last_nonzero=torch.zeros(LATENTS, dtype=torch.long),
        latents_activation_frequency=torch.ones(LATENTS),
        latents_mean_square=torch.zeros(LATENTS),
        activation=activation,
        activation_state_dict=inner,
    )
    content["encoder.weight"] = encoder()
    content["decoder.weight"] = decoder().T.contiguous()
    content.update(more)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return content


def formula(content: dict[str, Any], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return OpenAI's activations and reconstruction."""
    mean, deviation = torch.zeros(len(x), 1), torch.ones(len(x), 1)
    if content["activation"] == "TopK":
        mean = x.mean(dim=1, keepdim=True)
        deviation = (x - mean).std(dim=1, keepdim=True)
        x = (x - mean) / (deviation + 1e-5)
    pre = (x - content["pre_bias"]) @ content["encoder.weight"].T + content["latent_bias"]
    if content["activation"] == "TopK":
        best = pre.topk(K, dim=1)
        activations = torch.zeros_like(pre).scatter_(1, best.indices, best.values.relu())
    else:
        activations = pre.relu()
    return activations, (activations @ content["decoder.weight"].T + content["pre_bias"]) * deviation + mean


@pytest.mark.parametrize(
    ("activation", "path", "site"),
    [
        ("ReLU", "gpt2-small/resid_delta_mlp/autoencoders/6.pt", "mlp_out.6"),
        ("ReLU", "gpt2-small/resid_delta_mlp_v4/autoencoders/6.pt", "mlp_out.6"),
        ("TopK", "gpt2-small/resid_post_mlp_v5_32k/autoencoders/11.pt", "resid_post.11"),
        ("TopK", "gpt2-small/resid_post_attn_v5_128k/autoencoders/0.pt", "resid_mid.0"),
        ("TopK", "gpt2-small/resid_delta_attn_v5_32k/autoencoders/3.pt", "attn_out.3"),
    ],
)
def test_openai_by_its_formula(activation: str, path: str, site: str, tmp_path: Path) -> None:
    """TopK ones normalise each token and undo it; the site is in the path under which they are published."""
    content = openai(tmp_path / path, activation)
    ours = load_sae(str(tmp_path / path))
    assert_same(ours, tokens(), *formula(content, tokens()))
    assert ours.record.site == site
    assert isinstance(ours.rule, TopK) is (activation == "TopK")
    assert ours.record.name == path.removesuffix(".pt")


def test_openai_refused(tmp_path: Path) -> None:
    """Activations that can be negative, a site inside the MLP, and a site that nobody says."""
    openai(tmp_path / "a.pt", "Identity")
    refused(f"{tmp_path / 'a.pt'}#resid_post.1", "Identity", "negative")
    openai(tmp_path / "b.pt", "TopK", activation_state_dict={"k": K, "postact_fn": "Identity"})
    refused(f"{tmp_path / 'b.pt'}#resid_post.1", "TopK followed by Identity")
    openai(tmp_path / "mlp_post_act" / "autoencoders" / "2.pt", "ReLU")
    refused(tmp_path / "mlp_post_act" / "autoencoders" / "2.pt", "inside the MLP")
    openai(tmp_path / "c.pt", "ReLU")
    refused(tmp_path / "c.pt", "#resid_post.12")
    openai(tmp_path / "d.pt", "TopK", activation_state_dict={"k": "many", "postact_fn": "ReLU"})
    refused(f"{tmp_path / 'd.pt'}#resid_post.1", "k", "a whole number")


def test_openai_tied_weights(tmp_path: Path) -> None:
    """Where encoder and decoder are one, only the encoder is stored."""
    content = openai(tmp_path / "a.pt", "ReLU")
    content["decoder.linear.weight"] = content["encoder.weight"]
    del content["decoder.weight"]
    torch.save(content, tmp_path / "a.pt")
    content["decoder.weight"] = content["encoder.weight"].T
    assert_same(load_sae(f"{tmp_path / 'a.pt'}#resid_post.1"), tokens(), *formula(content, tokens()))
