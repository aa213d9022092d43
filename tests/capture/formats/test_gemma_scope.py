"""Gemma Scope's files, written here, against what SAELens' loaders make of them.

The publisher has no package. SAELens' loaders are given the local files in place of downloads; the attention transcoder
sites and names that SAELens does not use are checked against the publisher's own paths.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from audit.capture.sae import Sae
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

OUT = 40


def weights(out: int = WIDTH) -> dict[str, torch.Tensor]:
    """Return the tensors of a JumpReLU in Gemma Scope's names and shapes."""
    return {
        "W_enc": encoder().T.contiguous(),
        "W_dec": decoder(width=out),
        "b_enc": noise(LATENTS, seed=3, scale=0.3),
        "b_dec": noise(out, seed=4, scale=0.5),
        "threshold": noise(LATENTS, seed=5).abs() * 0.4,
    }


def first(root: Path, release: str, path: str, *, out: int = WIDTH) -> Path:
    """Write an SAE of the first release."""
    folder = root / release / path
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **{name: tensor.numpy() for name, tensor in weights(out).items()})
    return folder


def second(root: Path, path: str, *, skip: bool = False, config: dict[str, object] | None = None) -> Path:
    """Write an SAE or transcoder of the second release."""
    folder = root / "gemma-scope-2-1b-pt" / path
    folder.mkdir(parents=True)
    tensors = {name.replace("W_", "w_"): tensor for name, tensor in weights().items()}
    if skip:
        tensors["affine_skip_connection"] = noise(WIDTH, WIDTH, seed=6, scale=0.2)
    save_file(tensors, folder / "params.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def by_saelens(loader: str, repo: str, folder: str, root: Path, monkeypatch: pytest.MonkeyPatch, **shape: int) -> Any:
    """Return what SAELens makes of the files below a root."""
    module = sae_lens_loaders()

    def local(repo_id: str, filename: str, subfolder: str | None = None, **_: object) -> str:
        return str(root / repo_id.rpartition("/")[2] / (subfolder or "") / filename)

    shapes = {name: list(tensor.shape) for name, tensor in weights().items()}
    monkeypatch.setattr(module, "hf_hub_download", local)
    monkeypatch.setattr(
        module, "get_safetensors_tensor_shapes", lambda *_: {k.replace("W_", "w_"): v for k, v in shapes.items()}
    )
    config, state, _ = module.NAMED_PRETRAINED_SAE_LOADERS[loader](
        repo_id=f"google/{repo}", folder_name=folder, device="cpu", cfg_overrides={"dtype": "float32", **shape}
    )
    sae = sae_lens().SAE.from_dict(module.handle_config_defaulting(config))
    sae.load_state_dict(state)
    # All heads side by side, as they are read here.
    sae.turn_off_forward_pass_hook_z_reshaping()
    return sae


def assert_as_saelens(ours: Sae, theirs: Any) -> None:
    """Compare with SAELens' model."""
    with torch.no_grad():
        assert_same(ours, tokens(), theirs.encode(tokens()), theirs(tokens()))


@pytest.mark.parametrize(
    ("release", "site"),
    [("res", "resid_post.12"), ("mlp", "mlp_out.12"), ("att", "attn_z.12")],
)
def test_the_first_release(release: str, site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its site is in the names of the repository and the folders."""
    repo, path = f"gemma-scope-2b-pt-{release}", "layer_12/width_16k/average_l0_71"
    ours = load_sae(str(first(tmp_path, repo, path)))
    theirs = by_saelens("gemma_2", repo, path, tmp_path, monkeypatch, d_in=WIDTH, d_sae=LATENTS)
    assert_as_saelens(ours, theirs)
    assert (ours.record.site, ours.record.target) == (site, site)
    assert ours.record.name == f"{repo}/{path}"
    assert ours.record.architecture == "jumprelu"
    assert ours.centre is None


def test_transcoders_of_the_first_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They read the normalised stream without the norm's gain, as SAELens' hook says too, and answer for the MLP."""
    repo, path = "gemma-scope-2b-pt-transcoders", "layer_3/width_16k/average_l0_76"
    ours = load_sae(str(first(tmp_path, repo, path)))
    theirs = by_saelens("gemma_2_transcoder", repo, path, tmp_path, monkeypatch, d_in=WIDTH, d_out=WIDTH, d_sae=LATENTS)
    assert_as_saelens(ours, theirs)
    assert theirs.cfg.metadata.hook_name == "blocks.3.ln2.hook_normalized"
    assert (ours.record.site, ours.record.target) == ("mlp_normalized.3", "mlp_out.3")
    assert ours.record.architecture == "jumprelu, transcoder"


def test_another_width_at_the_output(tmp_path: Path) -> None:
    """A transcoder may answer in another width, against the formula."""
    folder = first(tmp_path, "mine", "here", out=OUT)
    ours = load_sae(f"{folder}#mlp_in.3->mlp_out.3")
    own = weights(OUT)
    pre = tokens() @ own["W_enc"] + own["b_enc"]
    activations = pre.relu() * (pre > own["threshold"])
    assert_same(ours, tokens(), activations, activations @ own["W_dec"] + own["b_dec"])


def test_a_site_that_no_name_says(tmp_path: Path) -> None:
    """A moved folder needs its site; a moved file too; SAEs of the embedding have none."""
    folder = first(tmp_path, "mine", "here")
    refused(folder, "#resid_post.12", "mlp_in.12->mlp_out.12")
    for path in (folder, folder / "params.npz"):
        assert load_sae(f"{path}#blocks.7.hook_resid_post").record.site == "resid_post.7"
    refused(first(tmp_path, "gemma-scope-2b-pt-res", "embedding/width_4k/average_l0_6"), "embedding")


GEMMA_3 = {"architecture": "jump_relu", "model_name": "google/gemma-3-1b-pt", "width": LATENTS, "l0": 60}
KINDS = {
    "resid_post_all/layer_13_width_16k_l0_big": ("output", None, "resid_post.13"),
    "mlp_out/layer_13_width_16k_l0_big": ("post_feedforward_layernorm.output", None, "mlp_out.13"),
    "attn_out/layer_13_width_16k_l0_big": ("self_attn.o_proj.input", None, "attn_z.13"),
    "transcoder_all/layer_13_width_16k_l0_big": (
        "pre_feedforward_layernorm.output",
        "post_feedforward_layernorm.output",
        "mlp_in.13",
    ),
    "transcoder_all/layer_13_width_16k_l0_big_affine": (
        "pre_feedforward_layernorm.output",
        "post_feedforward_layernorm.output",
        "mlp_in.13",
    ),
}


@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("path", KINDS)
def test_gemma_scope_2(path: str, *, configured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its site is in `config.json`, or without one in the folder's name; the affine skip is stored transposed."""
    source, target, site = KINDS[path]
    config = {
        **GEMMA_3,
        "hf_hook_point_in": f"model.layers.13.{source}",
        "hf_hook_point_out": f"model.layers.13.{target or source}",
        "affine_connection": path.endswith("affine"),
        "type": "sae" if target is None else "transcoder",
    }
    folder = second(tmp_path, path, skip=path.endswith("affine"), config=config)
    theirs = by_saelens("gemma_3", "gemma-scope-2-1b-pt", path, tmp_path, monkeypatch)
    if not configured:
        (folder / "config.json").unlink()
    ours = load_sae(str(folder))
    assert_as_saelens(ours, theirs)
    assert (ours.record.site, ours.record.target) == (site, "mlp_out.13" if target else site)
    assert ("skip" in ours.record.architecture) is path.endswith("affine")
    assert ours.record.format == "Gemma Scope 2"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": "topk"}, ["jump_relu", "topk"]),
        ({"width": LATENTS + 1}, [str(LATENTS + 1), "another number of latents"]),
        ({"affine_connection": True}, ["affine_connection"]),
        ({"hf_hook_point_in": "model.layers.2.mlp.act_fn"}, ["model.layers.2.mlp.act_fn"]),
    ],
)
def test_a_configuration_that_contradicts_the_weights(
    change: dict[str, object], words: list[str], tmp_path: Path
) -> None:
    """Each contradiction is one error."""
    config = {**GEMMA_3, "hf_hook_point_in": "model.layers.2.output", **change}
    refused(second(tmp_path, "resid_post/layer_2_width_16k_l0_big", config=config), *words)


def test_cross_layer_transcoders_are_refused(tmp_path: Path) -> None:
    """Their decoder has a third dimension, one for each layer that they write to."""
    folder = second(tmp_path, "clt/layer_2_width_16k_l0_big")
    tensors = {name.replace("W_", "w_"): tensor for name, tensor in weights().items()}
    save_file({**tensors, "w_dec": noise(LATENTS, 3, WIDTH)}, folder / "params.safetensors")
    refused(f"{folder}#mlp_in.2->mlp_out.2", "cross-layer")


def test_damaged_arrays(tmp_path: Path) -> None:
    """Truncated, not finite, incomplete, and arrays of Python objects, which could hold code."""
    folder = first(tmp_path, "gemma-scope-2b-pt-res", "layer_12/width_16k/average_l0_71")
    arrays = {name: tensor.numpy() for name, tensor in weights().items()}
    np.savez(folder / "params.npz", **{**arrays, "threshold": np.array([print], dtype=object)})
    refused(folder, "npz file of numbers", "allow_pickle=False")
    np.savez(folder / "params.npz", **{**arrays, "b_enc": arrays["b_enc"] * np.nan})
    refused(folder, "b_enc", "NaN")
    np.savez(folder / "params.npz", **{**arrays, "W_enc": arrays["W_enc"].T})
    refused(folder, "shape")
    np.savez(folder / "params.npz", **{name: array for name, array in arrays.items() if name != "threshold"})
    refused(folder, "a tensor threshold")
    spoil(folder / "params.npz", "cut")
    refused(folder, "params.npz")


def test_an_array_cut_inside_its_archive(tmp_path: Path) -> None:
    """An archive that is whole around an array that is not."""
    folder = first(tmp_path, "gemma-scope-2b-pt-res", "layer_12/width_16k/average_l0_71")
    with zipfile.ZipFile(folder / "params.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    head = io.BytesIO(members["W_dec.npy"][: len(members["W_dec.npy"]) // 3]).getvalue()
    with zipfile.ZipFile(folder / "params.npz", "w") as archive:
        for name, content in {**members, "W_dec.npy": head}.items():
            archive.writestr(name, content)
    refused(folder, "params.npz")
