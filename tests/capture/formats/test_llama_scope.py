"""Llama Scope's two layouts, written here: against SAELens' loaders, and against the formula of the defining package.

Language-Model-SAEs is not on the package index under a name of its own. Its formulas are written out below, densely and
without its folds: the input is scaled to an average norm of sqrt(d), latents fire by their own rule, and the output is
scaled back. SAELens' loaders agree where the decoder's rows have norm 1, which is where they agree with the package.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from audit.capture.encoder import TopK
from audit.capture.sae_sources import load_sae
from tests.capture.formats.oracles import (
    LATENTS,
    TOKENS,
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

K = 7
AVERAGE_IN, AVERAGE_OUT = 3.0, 11.0
SITE = "blocks.15.hook_resid_post"


def weights(*, unit: bool = False) -> dict[str, Tensor]:
    """Return the tensors of the first layout."""
    rows = nn.functional.normalize(decoder(), dim=1) if unit else decoder()
    return {
        "encoder.weight": encoder(),
        "encoder.bias": noise(LATENTS, seed=3, scale=0.3),
        "decoder.weight": rows.T.contiguous(),
        "decoder.bias": noise(WIDTH, seed=4, scale=0.5),
    }


def first(folder: Path, tensors: dict[str, Tensor], **more: object) -> Path:
    """Write the layout of the release."""
    (folder / "checkpoints").mkdir(parents=True)
    save_file(tensors, folder / "checkpoints" / "final.safetensors")
    config = {
        "hook_point_in": SITE,
        "hook_point_out": SITE,
        "use_decoder_bias": True,
        "apply_decoder_bias_to_pre_encoder": False,
        "expansion_factor": 8,
        "d_model": WIDTH,
        "d_sae": LATENTS,
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.35,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": AVERAGE_IN, "out": AVERAGE_IN},
        "sparsity_include_decoder_norm": True,
        "use_glu_encoder": False,
        "top_k": K,
        **more,
    }
    (folder / "hyperparams.json").write_text(json.dumps(config))
    return folder


def later(folder: Path, tensors: dict[str, Tensor], **more: object) -> Path:
    """Write the layout of later SAEs of the same project."""
    folder.mkdir(parents=True)
    save_file(tensors, folder / "sae_weights.safetensors")
    config = {
        "sae_type": "sae",
        "hook_point_in": SITE,
        "hook_point_out": SITE,
        "use_decoder_bias": True,
        "expansion_factor": LATENTS / WIDTH,
        "d_model": WIDTH,
        "act_fn": "jumprelu",
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": True,
        "top_k": K,
        **more,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def by_saelens(loader: str, folder: Path, monkeypatch: pytest.MonkeyPatch, factor: float) -> Any:
    """Return SAELens' model of a folder, with the scale folded as it folds it for a release."""
    module = sae_lens_loaders()

    def local(repo_id: str, filename: str, subfolder: str = "", **_: object) -> str:
        assert repo_id == "fnlp/x"
        return str(folder.parent / subfolder / filename)

    monkeypatch.setattr(module, "hf_hub_download", local)
    config, state, _ = module.NAMED_PRETRAINED_SAE_LOADERS[loader](
        repo_id="fnlp/x",
        folder_name=folder.name,
        device="cpu",
        cfg_overrides={"dtype": "float32", "d_sae": LATENTS, "device": "cpu"},
    )
    sae = sae_lens().SAE.from_dict(module.handle_config_defaulting(config))
    sae.load_state_dict(state)
    sae.fold_activation_norm_scaling_factor(factor)
    return sae


@pytest.mark.parametrize("by_length", [True, False])
def test_the_release_as_saelens_reads_it(*, by_length: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With decoder rows of norm 1, SAELens' threshold and folded scale are the package's."""
    folder = first(tmp_path / "L15R-8x", weights(unit=True), sparsity_include_decoder_norm=by_length)
    factor = math.sqrt(WIDTH) / AVERAGE_IN
    theirs = by_saelens("llama_scope", folder, monkeypatch, factor)
    ours = load_sae(str(folder))
    with torch.no_grad():
        assert_same(ours, tokens(), theirs.encode(tokens()), theirs(tokens()), factor=factor)
    assert ours.record.site == "resid_post.15"
    assert ours.record.architecture == "jumprelu"
    assert not ours.awaits_scale


def formula(
    tensors: dict[str, Tensor], x: Tensor, *, average_out: float, by_length: bool, subtracts: bool, rule: str
) -> tuple[Tensor, Tensor]:
    """Return the package's activations, in units of the unscaled input, and output, by its definitions of October 2024.

    There the scale is divided out of the biases first; threshold and k then see pre-activations of the unscaled input,
    times the norms that the decoder has after it.
    """
    scale_in, scale_out = math.sqrt(WIDTH) / AVERAGE_IN, math.sqrt(WIDTH) / average_out
    rows = tensors["decoder.weight"].T * scale_in / scale_out
    bias = tensors["decoder.bias"] / scale_out
    pre = (x - bias if subtracts else x) @ tensors["encoder.weight"].T + tensors["encoder.bias"] / scale_in
    score = pre * rows.norm(dim=1) if by_length else pre
    if rule == "topk":
        keep = torch.zeros(TOKENS, LATENTS).scatter_(1, score.relu().topk(K, dim=1).indices, 1.0) > 0
        fires = keep & (pre > 0)
    else:
        fires = score > 0.35
    activations = torch.where(fires, pre, 0.0)
    return activations, activations @ rows + bias


@pytest.mark.parametrize("average_out", [AVERAGE_IN, AVERAGE_OUT])
@pytest.mark.parametrize("by_length", [True, False])
@pytest.mark.parametrize("subtracts", [True, False])
@pytest.mark.parametrize("rule", ["jumprelu", "topk", "topk with a threshold"])
def test_the_release_by_the_packages_formula(
    rule: str, average_out: float, *, by_length: bool, subtracts: bool, tmp_path: Path
) -> None:
    """Norms far from 1, biases before the encoder, transcoders with two scales, and TopK run with a threshold."""
    more: dict[str, object] = {"act_fn": rule.partition(" ")[0]}
    if rule == "topk":
        more["jump_relu_threshold"] = 0.0
    if average_out != AVERAGE_IN:
        more["hook_point_out"] = "blocks.15.hook_mlp_out"
        more["hook_point_in"] = "blocks.15.mlp.hook_in"
        more["dataset_average_activation_norm"] = {"in": AVERAGE_IN, "out": average_out}
    folder = first(
        tmp_path / "sae",
        weights(),
        sparsity_include_decoder_norm=by_length,
        apply_decoder_bias_to_pre_encoder=subtracts,
        **more,
    )
    ours = load_sae(str(folder))
    x = tokens()
    activations, output = formula(
        weights(), x, average_out=average_out, by_length=by_length, subtracts=subtracts, rule=rule
    )
    rows = ours.encode(x)
    mine = torch.zeros_like(activations)
    mine[rows.token, rows.latent] = rows.activation
    assert 0.01 < float((activations > 0).float().mean()) < 0.99
    assert torch.equal(mine > 0, activations > 0)
    lengths = (weights()["decoder.weight"] * average_out / AVERAGE_IN).norm(dim=0)
    torch.testing.assert_close(mine, activations * lengths, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.decode(rows, x), output, rtol=1e-5, atol=2e-5)
    assert (ours.record.target == ours.record.site) is (average_out == AVERAGE_IN)
    assert isinstance(ours.rule, TopK) is (rule == "topk")


def test_decoder_norms_decide_where_the_package_says_so(tmp_path: Path) -> None:
    """The random norms tell the two selections apart, so that the tests above can fail."""
    found = [
        load_sae(str(first(tmp_path / str(flag), weights(), sparsity_include_decoder_norm=flag)))
        .encode(tokens())
        .latent
        for flag in (True, False)
    ]
    assert len(found[0]) != len(found[1])


def later_weights(names: str, *, unit: bool = False) -> dict[str, Tensor]:
    """Return the tensors of the later layout, in its older or newer names."""
    old = weights(unit=unit)
    threshold = (noise(LATENTS, seed=5).abs() * 0.4 + 0.05).log()
    if names == "linear":
        return {**old, "log_jumprelu_threshold": threshold}
    return {
        "W_E": old["encoder.weight"].T.contiguous(),
        "b_E": old["encoder.bias"],
        "W_D": old["decoder.weight"].T.contiguous(),
        "b_D": old["decoder.bias"],
        "activation_function.log_jumprelu_threshold": threshold,
        f"dataset_average_activation_norm.{SITE}": torch.tensor(AVERAGE_IN),
    }


def test_the_later_layout_as_saelens_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files may not say the average norm: then the scale is awaited."""
    folder = later(tmp_path / "L15R", later_weights("linear", unit=True))
    theirs = by_saelens("llama_scope_r1_distill", folder, monkeypatch, 2.5)
    ours = load_sae(str(folder))
    assert ours.awaits_scale
    with torch.no_grad():
        assert_same(ours.scaled(2.5), tokens(), theirs.encode(tokens()), theirs(tokens()), factor=2.5)


@pytest.mark.parametrize("by_length", [True, False])
@pytest.mark.parametrize("rule", ["jumprelu", "topk", "relu"])
@pytest.mark.parametrize("norm", ["dataset-wise", "token-wise", "inference"])
def test_the_later_layout_by_the_packages_formula(norm: str, rule: str, *, by_length: bool, tmp_path: Path) -> None:
    """The input is scaled, latents fire by pre-activation times decoder norm, the output is scaled back."""
    tensors = later_weights("new")
    kept = {name: tensor for name, tensor in tensors.items() if rule == "jumprelu" or "threshold" not in name}
    folder = later(tmp_path / "sae", kept, act_fn=rule, norm_activation=norm, sparsity_include_decoder_norm=by_length)
    x = tokens()
    scale: Any = {
        "dataset-wise": math.sqrt(WIDTH) / AVERAGE_IN,
        "token-wise": math.sqrt(WIDTH) / x.norm(dim=1, keepdim=True),
        "inference": 1.0,
    }[norm]
    pre = (x * scale) @ tensors["W_E"] + tensors["b_E"]
    score = pre * tensors["W_D"].norm(dim=1) if by_length else pre
    if rule == "topk":
        chosen = torch.zeros(TOKENS, LATENTS).scatter_(1, score.topk(K, dim=1).indices, 1.0) > 0
        fires = chosen & (pre > 0)
    elif rule == "relu":
        fires = pre > 0
    else:
        fires = score > tensors["activation_function.log_jumprelu_threshold"].exp()
    activations = torch.where(fires, pre, 0.0)
    output = (activations @ tensors["W_D"] + tensors["b_D"]) / scale
    ours = load_sae(str(folder))
    rows = ours.encode(x)
    mine = torch.zeros_like(activations)
    mine[rows.token, rows.latent] = rows.activation
    assert torch.equal(mine > 0, activations > 0)
    # In units of the unscaled input, but for a scale that differs from token to token.
    factor = scale if norm == "dataset-wise" else 1.0
    torch.testing.assert_close(mine, activations * tensors["W_D"].norm(dim=1) / factor, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.decode(rows, x), output, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", ["jumprelu", "topk"])
def test_a_later_transcoder_has_two_scales(rule: str, tmp_path: Path) -> None:
    """Its output is scaled back by the norm at its target; decoder norms are those of the scaled output."""
    tensors = later_weights("new")
    del tensors[f"dataset_average_activation_norm.{SITE}"]
    source, target = "blocks.15.mlp.hook_in", "blocks.15.hook_mlp_out"
    tensors[f"dataset_average_activation_norm.{source}"] = torch.tensor(AVERAGE_IN)
    tensors[f"dataset_average_activation_norm.{target}"] = torch.tensor(AVERAGE_OUT)
    kept = {name: tensor for name, tensor in tensors.items() if rule == "jumprelu" or "threshold" not in name}
    folder = later(tmp_path / "sae", kept, act_fn=rule, hook_point_in=source, hook_point_out=target)
    scale_in, scale_out = math.sqrt(WIDTH) / AVERAGE_IN, math.sqrt(WIDTH) / AVERAGE_OUT
    x = tokens()
    pre = (x * scale_in) @ tensors["W_E"] + tensors["b_E"]
    score = pre * tensors["W_D"].norm(dim=1)
    if rule == "topk":
        chosen = torch.zeros(TOKENS, LATENTS).scatter_(1, score.topk(K, dim=1).indices, 1.0) > 0
        fires = chosen & (pre > 0)
    else:
        fires = score > tensors["activation_function.log_jumprelu_threshold"].exp()
    activations = torch.where(fires, pre, 0.0)
    ours = load_sae(str(folder))
    rows = ours.encode(x)
    mine = torch.zeros_like(activations)
    mine[rows.token, rows.latent] = rows.activation
    assert torch.equal(mine > 0, activations > 0)
    # The length of what a latent adds to the output as it is.
    torch.testing.assert_close(mine, activations * tensors["W_D"].norm(dim=1) / scale_out, rtol=1e-5, atol=1e-5)
    output = (activations @ tensors["W_D"] + tensors["b_D"]) / scale_out
    torch.testing.assert_close(ours.decode(rows, x), output, rtol=1e-5, atol=2e-5)
    assert (ours.record.site, ours.record.target) == ("mlp_in.15", "mlp_out.15")
    assert ours.record.architecture.endswith(", transcoder")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"use_glu_encoder": True}, ["use_glu_encoder"]),
        ({"act_fn": "batchtopk"}, ["other tokens of a batch"]),
        ({"norm_activation": "batch-wise"}, ["other tokens of a batch"]),
        ({"dataset_average_activation_norm": None}, ["average norms"]),
        ({"dataset_average_activation_norm": {"in": 0.0, "out": 1.0}}, ["a norm above 0"]),
        ({"norm_activation": "token-wise", "hook_point_out": "blocks.15.hook_mlp_out"}, ["token-wise"]),
        ({"d_sae": LATENTS - 1}, ["another shape"]),
        ({"d_model": WIDTH + 1}, ["another shape"]),
        ({"hook_point_in": "blocks.2.hook_q"}, ["blocks.2.hook_q"]),
        ({"use_decoder_bias": False}, ["another architecture", "decoder.bias"]),
    ],
)
def test_configurations_that_cannot_be_read(more: dict[str, object], words: list[str], tmp_path: Path) -> None:
    """Each is refused with its reason."""
    refused(first(tmp_path / "sae", weights(), **more), *words)


def test_damaged_weights(tmp_path: Path) -> None:
    """Missing, truncated, not finite."""
    folder = first(tmp_path / "sae", {**weights(), "encoder.bias": torch.full((LATENTS,), float("nan"))})
    refused(folder, "NaN")
    spoil(folder / "checkpoints" / "final.safetensors", "cut")
    refused(folder, "final.safetensors")
    (folder / "checkpoints" / "final.safetensors").unlink()
    refused(folder, "checkpoints/final.safetensors", "neither")
