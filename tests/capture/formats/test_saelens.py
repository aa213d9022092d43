"""SAELens' folders, written by SAELens, against SAELens' own activations and reconstructions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from audit.capture.encoder import TopK
from audit.capture.sae_sources import load_sae
from tests.capture.formats.oracles import (
    LATENTS,
    WIDTH,
    assert_same,
    decoder,
    encoder,
    fill,
    noise,
    refused,
    sae_lens,
    spoil,
    tokens,
)

SITE = "blocks.5.hook_resid_post"
OUT = 40


def metadata(**more: object) -> Any:
    """Return SAELens' metadata with a site."""
    return sae_lens().saes.sae.SAEMetadata(**{"hook_name": SITE, "model_name": "m", **more})


def made(kind: str, *, about: Any = None, **settings: object) -> Any:
    """Return a random SAE of one of SAELens' classes."""
    library = sae_lens()
    config = getattr(library, f"{kind}Config")(d_in=WIDTH, d_sae=LATENTS, metadata=about or metadata(), **settings)
    return fill(getattr(library, kind)(config))


def outputs(sae: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what SAELens computes: activations and reconstruction."""
    with torch.no_grad():
        return sae.encode(x), sae(x)


@pytest.mark.parametrize("subtracts", [True, False])
@pytest.mark.parametrize("normalise", ["none", "constant_norm_rescale", "layer_norm"])
@pytest.mark.parametrize("kind", ["StandardSAE", "GatedSAE", "JumpReLUSAE"])
def test_activations_and_output_are_saelens_own(kind: str, normalise: str, *, subtracts: bool, tmp_path: Path) -> None:
    """Every rule, with and without b_dec subtracted, under every normalisation that runs token by token."""
    theirs = made(kind, apply_b_dec_to_input=subtracts, normalize_activations=normalise)
    theirs.save_model(tmp_path / "mine")
    ours = load_sae(str(tmp_path / "mine"))
    assert_same(ours, tokens(), *outputs(theirs, tokens()))
    assert ours.record.site == ours.record.target == "resid_post.5"
    assert (ours.record.format, ours.record.name, ours.record.k) == ("SAELens", "mine", None)
    assert any("b_dec is subtracted" in note for note in ours.record.notes) is subtracts
    assert any("norms" in note and "folded" in note for note in ours.record.notes)


@pytest.mark.parametrize("by_length", [True, False])
def test_topk_chooses_as_saelens_does(*, by_length: bool, tmp_path: Path) -> None:
    """With `rescale_acts_by_decoder_norm` the k largest are those of activation times norm."""
    theirs = made("TopKSAE", k=7, rescale_acts_by_decoder_norm=by_length)
    theirs.save_model(tmp_path / "sae")
    ours = load_sae(str(tmp_path / "sae"))
    assert_same(ours, tokens(), *outputs(theirs, tokens()))
    assert ours.rule == TopK(7)
    assert ours.record.k == 7


def test_the_two_topk_selections_differ(tmp_path: Path) -> None:
    """The random weights tell the two selections apart, so that the test above can fail."""
    found = []
    for by_length in (True, False):
        made("TopKSAE", k=7, rescale_acts_by_decoder_norm=by_length).save_model(tmp_path / str(by_length))
        found.append(load_sae(str(tmp_path / str(by_length))).encode(tokens()).latent)
    assert not torch.equal(*found)


@pytest.mark.parametrize("kind", ["BatchTopKTrainingSAE", "MatryoshkaBatchTopKTrainingSAE"])
@pytest.mark.parametrize("by_length", [True, False])
def test_batch_topk_runs_with_its_threshold(kind: str, *, by_length: bool, tmp_path: Path) -> None:
    """Saved for inference they are JumpReLU; a training checkpoint has the same threshold as one number."""
    more = {"matryoshka_widths": [40, LATENTS]} if "Matryoshka" in kind else {}
    theirs = made(kind, k=9.0, rescale_acts_by_decoder_norm=by_length, **more)
    theirs.topk_threshold.fill_(0.6)
    theirs.save_model(tmp_path / "checkpoint")
    theirs.save_inference_model(tmp_path / "sae")
    oracle = sae_lens().SAE.load_from_disk(tmp_path / "sae")
    expected = outputs(oracle, tokens())
    assert_same(load_sae(str(tmp_path / "sae")), tokens(), *expected)
    checkpoint = load_sae(str(tmp_path / "checkpoint"))
    assert checkpoint.record.architecture == theirs.cfg.architecture()
    torch.testing.assert_close(
        checkpoint.decode(checkpoint.encode(tokens()), tokens()), expected[1], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["Transcoder", "SkipTranscoder", "JumpReLUTranscoder", "JumpReLUSkipTranscoder"])
def test_transcoders_answer_for_their_target(kind: str, tmp_path: Path) -> None:
    """They read at one width and answer at another; the skip connection sees the input as it is."""
    about = metadata(hook_name="blocks.5.mlp.hook_in", hook_name_out="blocks.5.hook_mlp_out")
    theirs = made(kind, about=about, d_out=OUT, apply_b_dec_to_input=False)
    theirs.save_model(tmp_path / "sae")
    ours = load_sae(str(tmp_path / "sae"))
    assert_same(ours, tokens(), *outputs(theirs, tokens()))
    assert (ours.record.site, ours.record.target) == ("mlp_in.5", "mlp_out.5")
    assert (ours.record.width, ours.record.target_width) == (WIDTH, OUT)
    assert ours.record.architecture.endswith(", transcoder")
    assert ("skip" in ours.record.architecture) is ("Skip" in kind) is (ours.w_skip is not None)


def test_the_models_own_hook_name_is_believed(tmp_path: Path) -> None:
    """`hook_mlp_in` alone is the stream before the MLP's norm; with the module's name beside it, what that says."""
    names = {"hook_name": "blocks.5.hook_mlp_in", "hook_name_out": "blocks.5.hook_mlp_out"}
    modules = {
        "hf_hook_name": "model.layers.5.pre_feedforward_layernorm.output",
        "hf_hook_name_out": "model.layers.5.post_feedforward_layernorm.output",
    }
    for folder, about, site in (("lens", names, "resid_mid.5"), ("module", names | modules, "mlp_in.5")):
        theirs = made("Transcoder", about=metadata(**about), d_out=WIDTH, apply_b_dec_to_input=False)
        theirs.save_model(tmp_path / folder)
        record = load_sae(str(tmp_path / folder)).record
        assert (record.site, record.target) == (site, "mlp_out.5")


def test_attention_heads_are_read_side_by_side(tmp_path: Path) -> None:
    """SAELens gets hook_z as (heads, d_head); the same numbers are one row here."""
    theirs = made("StandardSAE", about=metadata(hook_name="blocks.5.attn.hook_z"), reshape_activations="hook_z")
    theirs.save_model(tmp_path / "sae")
    x = tokens()
    activations, output = outputs(theirs, x.unflatten(1, (4, -1)))
    ours = load_sae(str(tmp_path / "sae"))
    assert_same(ours, x, activations, output.flatten(1))
    assert ours.record.site == "attn_z.5"


@pytest.mark.parametrize("kind", ["StandardSAE", "GatedSAE", "JumpReLUSAE", "TopKSAE"])
@pytest.mark.parametrize("subtracts", [True, False])
def test_an_unknown_scale_is_awaited(kind: str, *, subtracts: bool, tmp_path: Path) -> None:
    """`expected_average_only_in`: once the factor is known, the SAE is the one into which SAELens folds it."""
    theirs = made(kind, normalize_activations="expected_average_only_in", apply_b_dec_to_input=subtracts)
    theirs.save_model(tmp_path / "sae")
    waiting = load_sae(str(tmp_path / "sae"))
    assert waiting.awaits_scale
    theirs.fold_activation_norm_scaling_factor(2.5)
    assert_same(waiting.scaled(2.5), tokens(), *outputs(theirs, tokens()), factor=2.5)


def old_config(**more: object) -> dict[str, object]:
    """Return a configuration as SAELens wrote it before version 6."""
    return {
        "architecture": "standard",
        "d_in": WIDTH,
        "d_sae": LATENTS,
        "dtype": "float32",
        "device": "cpu",
        "hook_name": "blocks.3.hook_resid_pre",
        "hook_layer": 3,
        "hook_head_index": None,
        "activation_fn_str": "relu",
        "activation_fn_kwargs": {},
        "apply_b_dec_to_input": True,
        "finetuning_scaling_factor": False,
        "normalize_activations": "none",
        "prepend_bos": True,
        "training_tokens": 300_000,
        **more,
    }


def old_weights() -> dict[str, torch.Tensor]:
    """Return the tensors of a plain SAE."""
    return {
        "W_enc": encoder().T.contiguous(),
        "b_enc": noise(LATENTS, seed=3, scale=0.2),
        "W_dec": decoder(),
        "b_dec": noise(WIDTH, seed=4, scale=0.5),
    }


def written(folder: Path, config: dict[str, object], tensors: dict[str, torch.Tensor]) -> Path:
    """Write a folder of SAELens by hand."""
    folder.mkdir(parents=True)
    (folder / "cfg.json").write_text(json.dumps(config))
    save_file(tensors, folder / "sae_weights.safetensors")
    return folder


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 5}},
        {"apply_b_dec_to_input": False, "normalize_activations": "layer_norm"},
        {"normalize_activations": False},
    ],
)
def test_configurations_before_version_6(more: dict[str, object], tmp_path: Path) -> None:
    """The activation function beside the architecture, and flags where names are now."""
    folder = written(tmp_path / "sae", old_config(**more), old_weights())
    oracle = sae_lens().SAE.load_from_disk(folder)
    ours = load_sae(str(folder))
    assert_same(ours, tokens(), *outputs(oracle, tokens()))
    assert ours.record.site == "resid_pre.3"
    assert ours.record.training_tokens == 300_000


def test_a_finetuned_factor_is_folded(tmp_path: Path) -> None:
    """SAELens 6 no longer reads these: compared with the formula of version 3, x_hat = (a * s) W_dec + b_dec."""
    weights = old_weights()
    scaling = noise(LATENTS, seed=6).abs() + 0.5
    folder = written(
        tmp_path / "sae", old_config(finetuning_scaling_factor=True), {**weights, "scaling_factor": scaling}
    )
    x = tokens()
    activations = ((x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]).relu()
    output = (activations * scaling) @ weights["W_dec"] + weights["b_dec"]
    ours = load_sae(str(folder))
    assert ours.norms is not None
    # A latent's length is that of its scaled row; the package's activation is without the factor.
    torch.testing.assert_close(ours.norms, (weights["W_dec"] * scaling[:, None]).norm(dim=1))
    assert_same(ours, x, activations, output)
    plain = {**weights, "scaling_factor": torch.ones(LATENTS)}
    assert not load_sae(str(written(tmp_path / "ones", old_config(), plain))).awaits_scale
    refused(
        written(tmp_path / "odd", old_config(), {**weights, "scaling_factor": scaling}), "finetuning_scaling_factor"
    )


@pytest.mark.parametrize("kind", ["StandardSAE", "GatedSAE", "TopKSAE"])
@pytest.mark.parametrize("subtracts", [True, False])
def test_an_sae_of_a_centred_model_reads_the_model_as_it_is(kind: str, *, subtracts: bool, tmp_path: Path) -> None:
    """TransformerLens takes the mean off the stream of LayerNorm models; the audited model does not."""
    about = metadata(model_from_pretrained_kwargs={"center_writing_weights": True})
    with pytest.warns(UserWarning, match="model_from_pretrained_kwargs"):
        theirs = made(kind, about=about, apply_b_dec_to_input=subtracts)
    theirs.save_model(tmp_path / "sae")
    x = tokens()
    mean = x.mean(dim=1, keepdim=True)
    activations, output = outputs(theirs, x - mean)
    assert_same(load_sae(str(tmp_path / "sae")), x, activations, output + mean)


def test_the_source_is_never_written(tmp_path: Path) -> None:
    """Weights are mapped into memory; the folds happen on a copy."""
    made("JumpReLUSAE").save_model(tmp_path / "sae")
    before = (tmp_path / "sae" / "sae_weights.safetensors").read_bytes()
    ours = load_sae(str(tmp_path / "sae"))
    kept = ours.w_enc.clone(), ours.w_dec.clone()
    assert (tmp_path / "sae" / "sae_weights.safetensors").read_bytes() == before
    (tmp_path / "sae" / "sae_weights.safetensors").write_bytes(bytes(len(before)))
    assert torch.equal(ours.w_enc, kept[0])
    assert torch.equal(ours.w_dec, kept[1])


def test_half_precision_is_brought_to_float32(tmp_path: Path) -> None:
    """What is computed with is the stored numbers, in float32."""
    weights = {name: tensor.bfloat16() for name, tensor in old_weights().items()}
    ours = load_sae(str(written(tmp_path / "sae", old_config(), weights)))
    assert {ours.w_enc.dtype, ours.w_dec.dtype, ours.b_enc.dtype} == {torch.float32}
    assert torch.equal(ours.w_enc, weights["W_enc"].float().T)


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.pop(name)


def _with(name: str, value: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.update({name: value(tensors[name]).contiguous()})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without("b_enc"), ["a tensor b_enc"]),
        (_with("W_enc", lambda tensor: tensor.T), ["W_enc", "another shape"]),
        (_with("W_dec", lambda tensor: tensor[:, :-1]), ["W_dec", str((LATENTS, WIDTH - 1))]),
        (_with("W_dec", lambda tensor: tensor * float("nan")), ["W_dec", "NaN or infinity"]),
        (_with("b_enc", lambda tensor: tensor / 0), ["b_enc", "NaN or infinity"]),
        (_with("W_enc", lambda tensor: tensor.to(torch.int8)), ["W_enc", "int8"]),
        (_with("W_enc", lambda tensor: tensor[0]), ["W_enc", "2 dimensions"]),
        (lambda tensors: tensors.update(threshold=torch.ones(LATENTS)), ["another architecture", "threshold"]),
    ],
)
def test_weights_that_contradict_the_configuration(
    change: Callable[[dict[str, Any]], None], words: list[str], tmp_path: Path
) -> None:
    """Missing, added, misshapen and infinite tensors are each named."""
    weights = old_weights()
    change(weights)
    refused(written(tmp_path / "sae", old_config(), weights), *words)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"architecture": "jumprelu"}, ["a tensor threshold"]),
        ({"architecture": "gated"}, ["a tensor b_gate"]),
        ({"architecture": "topk"}, ["the key k"]),
        ({"architecture": "topk", "k": LATENTS + 1}, [": k", str(LATENTS + 1)]),
        (
            {"architecture": "transcoder", "apply_b_dec_to_input": False, "hook_name_out": "blocks.3.hook_resid_pre"},
            ["two sites"],
        ),
        ({"architecture": "transcoder", "apply_b_dec_to_input": False}, ["mlp_in.12->mlp_out.12"]),
        ({"architecture": "transcoder"}, ["subtracts b_dec"]),
        ({"architecture": "temporal"}, ["other tokens of the context"]),
        ({"architecture": "matching_pursuit"}, ["one after the other"]),
        ({"architecture": "abstopk"}, ["negative"]),
        ({"architecture": "brand_new"}, ["brand_new"]),
        ({"activation_fn_str": "tanh-relu"}, ["tanh-relu"]),
        ({"normalize_activations": "covariance_whitening"}, ["covariance_whitening"]),
        ({"hook_head_index": 3}, ["single attention head"]),
        ({"d_sae": LATENTS + 1}, ["another shape"]),
        ({"d_in": "wide"}, ["d_in", "a whole number"]),
        ({"hook_name": "blocks.3.attn.hook_pattern"}, ["blocks.3.attn.hook_pattern", "resid_post.12"]),
        ({"hook_name": None}, ["#resid_post.12"]),
    ],
)
def test_configurations_that_cannot_be_read(more: dict[str, object], words: list[str], tmp_path: Path) -> None:
    """Each is refused with its reason."""
    refused(written(tmp_path / "sae", old_config(**more), old_weights()), *words)


def test_a_stated_site_must_agree(tmp_path: Path) -> None:
    """`#SITE` fills in what is missing, and contradicts nothing."""
    folder = written(tmp_path / "sae", old_config(), old_weights())
    assert load_sae(f"{folder}#resid_pre.3").record.site == "resid_pre.3"
    assert load_sae(f"{folder}#blocks.3.hook_resid_pre").record.site == "resid_pre.3"
    refused(f"{folder}#resid_post.3", "resid_pre.3", "resid_post.3 behind the path")
    refused(f"{folder}#elsewhere", "elsewhere")
    silent = written(tmp_path / "silent", old_config(hook_name=None), old_weights())
    assert load_sae(f"{silent}#attn_out.2").record.site == "attn_out.2"


@pytest.mark.parametrize("how", ["cut", "overwritten"])
@pytest.mark.parametrize("name", ["cfg.json", "sae_weights.safetensors"])
def test_damaged_files(name: str, how: str, tmp_path: Path) -> None:
    """A damaged file is named."""
    folder = written(tmp_path / "sae", old_config(), old_weights())
    spoil(folder / name, how)
    refused(folder, name)


def test_the_digest_covers_names_and_contents(tmp_path: Path) -> None:
    """Another configuration or other weights are another SAE; the same bytes elsewhere are the same."""
    one = written(tmp_path / "one", old_config(), old_weights())
    same = written(tmp_path / "same", old_config(), old_weights())
    other = written(tmp_path / "other", old_config(apply_b_dec_to_input=False), old_weights())
    digests = [load_sae(str(folder)).record.digest for folder in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]
    assert load_file(one / "sae_weights.safetensors").keys() == old_weights().keys()
