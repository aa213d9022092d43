"""Dictionaries of dictionary_learning (Marks, Karvonen and Mueller): `ae.pt`, with `config.json` beside it.

Facts from dictionary-learning 0.1.0 (`dictionary.py`, `trainers/*.py`); the tests compare with it. Its linear layers
hold their decoder as (d_out, latents), its parameters as (latents, d_out). Whether the decoder's bias is subtracted
from the input depends on the class.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from audit.capture.encoder import Rule, Threshold, TopK
from audit.capture.formats.canonical import Parts, canonical, require_tensors
from audit.capture.formats.config_values import ConfigValues
from audit.capture.formats.places import Place, Sites, new_record, settle_sites
from audit.capture.formats.weight_files import (
    PICKLES,
    digest_files,
    read_json,
    read_torch,
    require_none_left,
    take,
    tensors_of,
)
from audit.capture.sae import Sae
from audit.errors import SaeInvalid

FORMAT = "dictionary_learning"
WEIGHTS_FILE = "ae.pt"
CONFIG_FILE = "config.json"
_LINEAR = frozenset({"encoder.weight", "decoder.weight"})
_BATCH_TOPK = frozenset({"BatchTopKSAE", "MatryoshkaBatchTopKSAE"})


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a class of dictionaries stores itself.

    Args:
        names: its tensors.
        architecture: the word for records.
        bias: the name of the decoder's bias.
        subtracts: whether that bias is subtracted from the input.
    """

    names: frozenset[str]
    architecture: str
    bias: str
    subtracts: bool


_TOPK_NAMES = frozenset({*_LINEAR, "encoder.bias", "b_dec", "k", "threshold"})
_JUMP_NAMES = frozenset({"W_enc", "b_enc", "W_dec", "b_dec", "threshold"})
_LAYOUTS = {
    "AutoEncoder": _Layout(frozenset({*_LINEAR, "encoder.bias", "bias"}), "standard", "bias", subtracts=True),
    "AutoEncoderNew": _Layout(
        frozenset({*_LINEAR, "encoder.bias", "decoder.bias"}), "standard", "decoder.bias", subtracts=False
    ),
    "GatedAutoEncoder": _Layout(
        frozenset({*_LINEAR, "decoder_bias", "r_mag", "gate_bias", "mag_bias"}), "gated", "decoder_bias", subtracts=True
    ),
    "JumpReluAutoEncoder": _Layout(_JUMP_NAMES, "jumprelu", "b_dec", subtracts=False),
    "AutoEncoderTopK": _Layout(_TOPK_NAMES, "topk", "b_dec", subtracts=True),
    "BatchTopKSAE": _Layout(_TOPK_NAMES, "batchtopk", "b_dec", subtracts=True),
    "MatryoshkaBatchTopKSAE": _Layout(
        frozenset({*_JUMP_NAMES, "k", "group_sizes"}), "matryoshka batchtopk", "b_dec", subtracts=True
    ),
}
# AutoEncoderTopK of older versions has no threshold.
_OPTIONAL = {"AutoEncoderTopK": frozenset({"threshold"})}
_NUMBERS = frozenset({"k", "group_sizes"})
_FOLDER = re.compile(r"resid_post_layer_(?P<layer>[0-9]{1,4})")
# Published single files of this layout: qresearch's for DeepSeek R1.
_FILE = re.compile(r"SAE-l(?P<layer>[0-9]{1,4})(?=\.pth?$)")


def recognises(path: Path) -> bool:
    """Tell whether a folder has `ae.pt`, or whether this is a pickle with the tensors of one of its classes."""
    if (path / WEIGHTS_FILE).is_file():
        return True
    return path.is_file() and path.suffix in PICKLES and bool(_classes(frozenset(tensors_of(read_torch(path)))))


def read(place: Place) -> Sae:
    """Read a dictionary.

    Raises:
        SaeInvalid: a file is damaged, the two contradict each other, the pickle wants to run code, or without a
            configuration its tensors fit more than one class.
    """
    path = place.path if place.path.is_file() else place.path / WEIGHTS_FILE
    config_path = path.parent / CONFIG_FILE
    files = (path, config_path) if config_path.is_file() else (path,)
    digest = digest_files(path.parent, files)
    item = f"SAE {place.source!r}"
    config = ConfigValues(f"{item}: {CONFIG_FILE}", read_json(config_path) if config_path.is_file() else {})
    trainer = config.section("trainer")
    tensors = tensors_of(read_torch(path))
    kind = _class(trainer, frozenset(tensors), item)
    layout = _LAYOUTS[kind]
    sites = settle_sites(place, _sites(place, trainer, config.section("buffer"), path))
    parts, notes = _parts(tensors, kind, trainer, item)
    require_none_left(tensors, item=item, architecture=kind)
    record = new_record(
        place,
        sites,
        form=FORMAT,
        architecture=layout.architecture,
        latents=trainer.whole("dict_size", parts.w_enc.shape[0]),
        width=trainer.whole("activation_dim", parts.w_enc.shape[-1]),
        target_width=trainer.whole("activation_dim", parts.w_dec.shape[-1]),
        k=parts.rule.k if isinstance(parts.rule, TopK) else None,
        digest=digest,
        notes=notes,
    )
    return canonical(parts, record)


def _classes(names: frozenset[str]) -> list[str]:
    return [
        kind
        for kind, layout in _LAYOUTS.items()
        if layout.names - _OPTIONAL.get(kind, frozenset()) <= names <= layout.names
    ]


def _class(trainer: ConfigValues, names: frozenset[str], item: str) -> str:
    fitting = _classes(names)
    if "dict_class" in trainer:
        stated = trainer.text("dict_class")
        if stated not in fitting:
            raise SaeInvalid(
                item=f"{item}: dict_class",
                expected=" or ".join(fitting) or f"one of {', '.join(_LAYOUTS)}",
                found=f"{stated} with the tensors {', '.join(sorted(names)[:12])}",
                hint="The configuration promises another architecture than the weights have, or one that is not known.",
            )
        return stated
    if len(fitting) != 1:
        raise SaeInvalid(
            item=item,
            expected=f"{CONFIG_FILE} with trainer.dict_class, or tensors that only one class has",
            found=f"tensors of {' or '.join(fitting) or 'none of its classes'}",
            hint=f"Put the training's {CONFIG_FILE} beside the weights.",
        )
    return fitting[0]


def _parts(tensors: dict[str, Tensor], kind: str, trainer: ConfigValues, item: str) -> tuple[Parts, tuple[str, ...]]:
    layout = _LAYOUTS[kind]
    numbers = {name: tensors.pop(name) for name in _NUMBERS & set(tensors)}
    if "encoder.weight" in tensors:
        w_enc = take(tensors, "encoder.weight", item=item, dims=2)
        w_dec = take(tensors, "decoder.weight", item=item, dims=2, transposed=True)
        bias = "encoder.bias"
    else:
        w_enc = take(tensors, "W_enc", item=item, dims=2, transposed=True)
        w_dec = take(tensors, "W_dec", item=item, dims=2)
        bias = "b_enc"
    latents = (w_enc.shape[0],)
    gain = offset = None
    if kind == "GatedAutoEncoder":
        b_enc = take(tensors, "gate_bias", item=item)
        gain = take(tensors, "r_mag", item=item).exp_()
        magnitude = take(tensors, "mag_bias", item=item)
        require_tensors(
            item, {"gate_bias": (b_enc, latents), "r_mag": (gain, latents), "mag_bias": (magnitude, latents)}
        )
        offset = magnitude - gain * b_enc
    else:
        b_enc = take(tensors, bias, item=item)
    b_dec = take(tensors, layout.bias, item=item)
    rule, notes = _rule(tensors, kind, latents[0], _k(numbers.get("k"), trainer, item), item)
    if layout.subtracts:
        notes = (*notes, f"{layout.bias} is subtracted from the input")
    parts = Parts(
        w_enc=w_enc,
        b_enc=b_enc,
        w_dec=w_dec,
        b_dec=b_dec,
        rule=rule,
        centre=b_dec if layout.subtracts else None,
        gain=gain,
        offset=offset,
    )
    return parts, notes


def _rule(
    tensors: dict[str, Tensor], kind: str, latents: int, k: int | None, item: str
) -> tuple[Rule, tuple[str, ...]]:
    if kind == "AutoEncoderTopK":
        # It stores a threshold too, but fires by the k largest of each token unless told otherwise.
        tensors.pop("threshold", None)
        return TopK(k or 0), ()
    if kind not in _BATCH_TOPK:
        stored = "threshold" in tensors
        return Threshold(take(tensors, "threshold", item=item) if stored else torch.zeros(latents)), ()
    threshold = take(tensors, "threshold", item=item, dims=0)
    unset = "its threshold was never estimated: it fires wherever a pre-activation is above 0"
    return Threshold(threshold.repeat(latents)), (unset,) if float(threshold) < 0 else ()


def _k(stored: Tensor | None, trainer: ConfigValues, item: str) -> int | None:
    if stored is None:
        return trainer.whole("k") if "k" in trainer else None
    if stored.numel() != 1 or stored.is_floating_point() or stored.is_complex():
        raise SaeInvalid(item=f"{item}: k", expected="a whole number", found=str(stored)[:60], hint="Restore the file.")
    k = int(stored)
    if "k" in trainer and trainer.whole("k") != k:
        raise SaeInvalid(
            item=f"{item}: k",
            expected=f"{trainer.whole('k')}, as in {CONFIG_FILE}",
            found=str(k),
            hint="Weights and configuration are of different dictionaries.",
        )
    return k


def _sites(place: Place, trainer: ConfigValues, buffer: ConfigValues, path: Path) -> Sites | None:
    # "in" and "in_and_out" read a module's input, which the folder's name does not say.
    if buffer.text("io", "out") != "out":
        return None
    name = trainer.text("submodule_name") if "submodule_name" in trainer else ""
    found = _FOLDER.fullmatch(name) or _FILE.search(path.name)
    if found is None and not name:
        found = next((hit for part in reversed(place.folder.parts) if (hit := _FOLDER.fullmatch(part))), None)
    if found is None:
        return None
    if "layer" in trainer and trainer.whole("layer") != int(found["layer"]):
        raise SaeInvalid(
            item=trainer.item,
            expected=f"layer {int(found['layer'])}, as in {found[0]}",
            found=str(trainer.whole("layer")),
            hint="Mend the configuration.",
        )
    site = f"resid_post.{int(found['layer'])}"
    return Sites(site, site)
