"""Whatever a configuration or a tensor is replaced with, every format loads it or says one clear error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from audit.capture.sae_sources import load_sae
from audit.errors import AffidavitError, SaeInvalid
from tests.capture.formats import test_dictionary_learning as dictionaries
from tests.capture.formats import test_gemma_scope as gemma
from tests.capture.formats import test_llama_scope as llama
from tests.capture.formats import test_saelens as lens
from tests.capture.formats import test_single_files as single
from tests.capture.formats import test_sparsify as sparse
from tests.capture.formats.oracles import tokens

ODD_VALUES: tuple[Any, ...] = (
    None,
    "x",
    "",
    -1,
    0,
    1,
    1.5,
    True,
    False,
    10**30,
    1e400,
    [],
    [1],
    {},
    {"k": "x"},
    {"in": -1},
)
ODD_TENSORS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "number": lambda _: torch.tensor(1.0),
    "empty": lambda _: torch.zeros(0),
    "row": lambda tensor: tensor.reshape(-1),
    "third dimension": lambda tensor: tensor.reshape(*tensor.shape, 1),
    "shorter": lambda tensor: tensor.reshape(-1)[: tensor.numel() // 2],
    "whole numbers": lambda tensor: tensor.to(torch.int32),
    "not a number": lambda tensor: tensor * float("nan"),
    "transposed": lambda tensor: tensor.T if tensor.ndim == 2 else tensor,
    "missing": lambda _: torch.zeros(0),
}


def _sparsify(root: Path) -> Path:
    sparse.made(transcode=True, skip_connection=True).save_to_disk(root / "layers.3.mlp")
    return root / "layers.3.mlp"


def _dictionary(kind: str) -> Callable[[Path], Path]:
    return lambda root: dictionaries.saved(root / "sae", dictionaries.made(kind), dictionaries.config(kind))


def _openai(root: Path) -> Path:
    path = root / "resid_post_mlp_v5_32k" / "autoencoders" / "3.pt"
    single.openai(path, "TopK")
    return path


def _saelens(**more: object) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        kind = {"gated": "GatedSAE", "topk": "TopKSAE", "jumprelu": "JumpReLUSAE"}[str(more["architecture"])]
        settings = {name: value for name, value in more.items() if name != "architecture"}
        lens.made(kind, **settings).save_model(root / "sae")
        return root / "sae"

    return write


WRITERS: dict[str, Callable[[Path], Path]] = {
    "SAELens before 6": lambda root: lens.written(root / "sae", lens.old_config(), lens.old_weights()),
    "SAELens gated": _saelens(architecture="gated", normalize_activations="layer_norm"),
    "SAELens topk": _saelens(architecture="topk", k=5, rescale_acts_by_decoder_norm=True),
    "SAELens jumprelu": _saelens(architecture="jumprelu", apply_b_dec_to_input=False),
    "sparsify": _sparsify,
    "Gemma Scope": lambda root: gemma.first(root, "gemma-scope-2b-pt-res", "layer_3/width_16k/average_l0_9"),
    "Gemma Scope 2": lambda root: gemma.second(
        root,
        "transcoder/layer_2_width_16k_l0_big_affine",
        skip=True,
        config={
            **gemma.GEMMA_3,
            "affine_connection": True,
            "hf_hook_point_in": "model.layers.2.pre_feedforward_layernorm.output",
            "hf_hook_point_out": "model.layers.2.post_feedforward_layernorm.output",
        },
    ),
    "Llama Scope": lambda root: llama.first(root / "sae", llama.weights()),
    "Llama Scope, later": lambda root: llama.later(root / "sae", llama.later_weights("new")),
    **{f"dictionary_learning {kind}": _dictionary(kind) for kind in dictionaries.WHERE},
    "Goodfire": lambda root: single.goodfire(root / "Llama-SAE-l3.pth"),
    "OpenAI": _openai,
}


def is_clear(error: SaeInvalid) -> bool:
    """Assert that an error says all that an error has to say."""
    assert all((error.item, error.expected, error.found, error.hint)), error
    assert "\n\n" not in str(error)
    return True


def loads(source: Path) -> bool:
    """Tell whether a source loads and encodes, or is refused with one clear error; anything else fails the test."""
    try:
        sae = load_sae(str(source))
    except SaeInvalid as error:
        return not is_clear(error)
    try:
        sae.decode(sae.encode(tokens(sae.record.width)), tokens(sae.record.width))
    except AffidavitError:
        assert sae.awaits_scale
    return True


@pytest.mark.parametrize("kind", WRITERS)
def test_odd_values_in_a_configuration(kind: str, tmp_path: Path) -> None:
    """Every key gets values of other types, out of range and missing."""
    source = WRITERS[kind](tmp_path)
    assert loads(source)
    folder = source if source.is_dir() else source.parent
    refusals = 0
    for path in sorted(folder.glob("*.json")):
        whole = json.loads(path.read_text())
        places = [(whole, key) for key in whole]
        places += [(part, key) for part in list(whole.values()) if isinstance(part, dict) for key in part]
        for part, key in places:
            kept = part[key]
            for value in ODD_VALUES:
                part[key] = value
                path.write_text(json.dumps(whole))
                refusals += not loads(source)
            part[key] = kept
        path.write_text(json.dumps(whole))
        assert refusals > 10
        for content in ("[]", "null", "3", '"x"', "{", "{}", "\ufffe"):
            path.write_text(content)
            loads(source)


@pytest.mark.parametrize("kind", WRITERS)
def test_odd_tensors(kind: str, tmp_path: Path) -> None:
    """Every tensor gets other shapes and types, and goes missing."""
    source = WRITERS[kind](tmp_path)
    path = weights_of(source)
    whole: dict[str, Any]
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            whole = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    elif path.suffix == ".safetensors":
        whole = {name: tensor.clone() for name, tensor in load_file(path).items()}
    else:
        whole = torch.load(path, weights_only=True)
    for name, tensor in list(whole.items()):
        if not isinstance(tensor, torch.Tensor):
            continue
        counter = name in single.COUNTERS or name in {"k", "group_sizes"} or name.startswith("dataset_average")
        # Stored, and not what this class fires by.
        counter |= kind.endswith("AutoEncoderTopK") and name == "threshold"
        for how, change in ODD_TENSORS.items():
            odd = {**whole, name: change(tensor).contiguous()}
            if how == "missing":
                del odd[name]
            _save(path, odd)
            same = (
                odd.get(name) is not None and odd[name].shape == tensor.shape and how in {"row", "transposed", "number"}
            )
            optional = how == "missing" and (name == "threshold" or counter)
            assert loads(source) is False or same or counter or optional, (name, how)


@pytest.mark.parametrize("kind", ["SAELens before 6", "Gemma Scope", "Llama Scope", "Goodfire", "OpenAI"])
def test_flipped_bytes_never_crash(kind: str, tmp_path: Path) -> None:
    """Whatever is damaged in a weights file, loading it succeeds or says one clear error."""
    source = WRITERS[kind](tmp_path)
    path = weights_of(source)
    whole = path.read_bytes()
    generator = torch.Generator().manual_seed(4)
    refusals = 0
    for _ in range(150):
        damaged = bytearray(whole)
        # In the headers, where the structure is.
        for place in torch.randint(0, 1200, (3,), generator=generator).tolist():
            damaged[place] = int(torch.randint(0, 256, (), generator=generator))
        path.write_bytes(damaged)
        refusals += not loads(source)
    assert refusals > 20


def weights_of(source: Path) -> Path:
    """Return the weights file of an SAE."""
    folder = source if source.is_dir() else source.parent
    return next(entry for entry in sorted(folder.rglob("*")) if entry.suffix in {".safetensors", ".npz", ".pt", ".pth"})


def _save(path: Path, tensors: dict[str, Any]) -> None:
    if path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in tensors.items()})
    elif path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
