"""Llama Scope and later SAEs of OpenMOSS's Language-Model-SAEs (He et al. 2024, 2410.20526).

Two layouts: `hyperparams.json` with `checkpoints/final.safetensors`, and `config.json` with `sae_weights.safetensors`.
Both were trained on inputs scaled to an average norm of sqrt(d_model). Facts from Language-Model-SAEs (`sae.py` of
October 2024 and of 2026) and sae-lens 6.54.12, whose loaders the tests compare with.

Two traps. The threshold in `hyperparams.json` is in units of the unscaled input: the package folds the scale into the
biases before it applies it. And where `sparsity_include_decoder_norm` is true, thresholds and k compare activation
times decoder norm; SAELens does not, so that its latents fire elsewhere unless the decoder's rows have norm 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from audit.capture.encoder import Rule, Threshold, TopK
from audit.capture.formats.canonical import Parts, canonical, require_tensors, select_by_length
from audit.capture.formats.config_values import ConfigValues
from audit.capture.formats.places import Place, Sites, canonical_site, new_record, settle_sites
from audit.capture.formats.weight_files import digest_files, read_json, read_safetensors, require_none_left, take
from audit.capture.sae import InputNorm, Sae
from audit.errors import SaeInvalid

FORMAT = "Llama Scope"
FIRST_CONFIG = "hyperparams.json"
FIRST_WEIGHTS = ("checkpoints/pruned.safetensors", "checkpoints/final.safetensors")
LATER_CONFIG = "config.json"
LATER_WEIGHTS = "sae_weights.safetensors"
_AVERAGE_NORM = "dataset_average_activation_norm"


@dataclass(frozen=True, slots=True)
class _Scale:
    """What inputs and outputs were multiplied by in training; None where the average norms were not stored."""

    norm: InputNorm
    source: float | None
    target: float | None


def recognises(path: Path) -> bool:
    """Tell whether a folder has the names of one of the layouts."""
    first = (path / FIRST_CONFIG).is_file()
    return first or ((path / LATER_CONFIG).is_file() and (path / LATER_WEIGHTS).is_file())


def read(place: Place) -> Sae:
    """Read an SAE or transcoder.

    Raises:
        SaeInvalid: a file is damaged, the two contradict each other, or the architecture has no exact canonical form.
    """
    item = f"SAE {place.source!r}"
    first = (place.folder / FIRST_CONFIG).is_file()
    config_path = place.folder / (FIRST_CONFIG if first else LATER_CONFIG)
    names = FIRST_WEIGHTS if first else (LATER_WEIGHTS,)
    weights_path = next((place.folder / name for name in names if (place.folder / name).is_file()), None)
    if weights_path is None:
        raise SaeInvalid(
            item=item, expected=" or ".join(names), found="neither", hint="Restore the weights of the folder."
        )
    digest = digest_files(place.folder, (config_path, weights_path))
    config = ConfigValues(f"{item}: {config_path.name}", read_json(config_path))
    _require_plain(config)
    width = config.whole("d_model")
    latents = config.whole("d_sae") if "d_sae" in config else int(width * config.number("expansion_factor"))
    site = config.text("hook_point_in")
    sites = settle_sites(
        place,
        Sites(canonical_site(site, item=item), canonical_site(config.text("hook_point_out", site), item=item)),
    )
    tensors = read_safetensors(weights_path)
    norms = {name: tensors.pop(name) for name in list(tensors) if name.startswith(f"{_AVERAGE_NORM}.")}
    scale = _scale(config, norms, width, first=first)
    parts, notes = _parts(tensors, config, scale, first=first, shape=(latents, width), item=item)
    require_none_left(tensors, item=item, architecture=config.text("act_fn", "relu"))
    record = new_record(
        place,
        sites,
        form=FORMAT,
        architecture="topk" if isinstance(parts.rule, TopK) else _threshold_word(config),
        latents=latents,
        width=width,
        target_width=width,
        k=parts.rule.k if isinstance(parts.rule, TopK) else None,
        digest=digest,
        notes=notes,
    )
    return canonical(parts, record)


def _require_plain(config: ConfigValues) -> None:
    reason = None
    if config.flag("use_glu_encoder", False):
        reason = "its encoder is multiplied by a gate between 0 and 1 (use_glu_encoder)"
    elif config.text("sae_type", "sae") != "sae":
        reason = f"sae_type {config.text('sae_type')}"
    elif config.text("act_fn", "relu") not in {"relu", "jumprelu", "topk"}:
        reason = f"act_fn {config.text('act_fn')}: which latents fire depends on the other tokens of a batch"
    elif config.text("norm_activation", "inference") == "batch-wise":
        reason = "norm_activation batch-wise: its input depends on the other tokens of a batch"
    if reason is not None:
        raise SaeInvalid(
            item=config.item,
            expected="an SAE whose activations can be reproduced exactly, token by token",
            found=reason,
            hint="It cannot be audited with this version.",
        )


def _scale(config: ConfigValues, stored: Mapping[str, Tensor], width: int, *, first: bool) -> _Scale:
    chosen = config.text("norm_activation")
    source = config.text("hook_point_in")
    same = config.text("hook_point_out", source) == source
    if chosen == "inference":
        return _Scale(InputNorm.NONE, 1.0, 1.0)
    if chosen == "token-wise" and same:
        return _Scale(InputNorm.CONSTANT_NORM, 1.0, 1.0)
    if chosen != "dataset-wise":
        raise SaeInvalid(
            item=f"{config.item}: norm_activation",
            expected="dataset-wise, inference, or token-wise where input and output are at one site",
            found=chosen,
            hint="It cannot be audited with this version.",
        )
    written = config.section(_AVERAGE_NORM)
    averages = [
        _average(written, stored, keys, config.item)
        for keys in (("in", source), ("out", config.text("hook_point_out", source)))
    ]
    if None in averages and (first or not same):
        raise SaeInvalid(
            item=f"{config.item}: {_AVERAGE_NORM}",
            expected="the average norms at its sites",
            found="not all of them",
            hint="What its threshold or its output was scaled by cannot be found out from its input.",
        )
    factors = [None if average is None else math.sqrt(width) / average for average in averages]
    return _Scale(InputNorm.NONE, factors[0], factors[1] if not same else factors[0])


def _average(written: ConfigValues, stored: Mapping[str, Tensor], keys: tuple[str, str], item: str) -> float | None:
    values = [written.number(key) for key in keys if key in written]
    values += [
        float(stored[name])
        for key in keys
        if (name := f"{_AVERAGE_NORM}.{key}") in stored and stored[name].numel() == 1
    ]
    if values and not 0 < values[0] < math.inf:
        raise SaeInvalid(
            item=f"{item}: {_AVERAGE_NORM}", expected="a norm above 0", found=str(values[0]), hint="Restore the file."
        )
    return values[0] if values else None


def _parts(
    tensors: dict[str, Tensor],
    config: ConfigValues,
    scale: _Scale,
    *,
    first: bool,
    shape: tuple[int, int],
    item: str,
) -> tuple[Parts, tuple[str, ...]]:
    latents, width = shape
    linear = "encoder.weight" in tensors
    w_enc = take(tensors, "encoder.weight" if linear else "W_E", item=item, dims=2, transposed=not linear)
    b_enc = take(tensors, "encoder.bias" if linear else "b_E", item=item)
    w_dec = take(tensors, "decoder.weight" if linear else "W_D", item=item, dims=2, transposed=linear)
    biased = config.flag("use_decoder_bias", True)
    b_dec = take(tensors, "decoder.bias" if linear else "b_D", item=item) if biased else torch.zeros(width)
    require_tensors(
        item,
        {"encoder": (w_enc, (latents, width)), "its bias": (b_enc, (latents,)), "decoder": (w_dec, (latents, width)),
         "decoder's bias": (b_dec, (width,))},
    )  # fmt: skip
    by_length = config.flag("sparsity_include_decoder_norm", True)
    subtracts = biased and config.flag("apply_decoder_bias_to_pre_encoder", first)
    rule = _rule(tensors, config, first=first, latents=latents, item=item)
    notes = []
    centre = None
    # `Sae.scaled` divides the output by the input's factor; for a transcoder this is the rest.
    ratio = 1.0 if scale.source is None or scale.target is None else scale.source / scale.target
    if subtracts:
        centre = b_dec * ratio if first else b_dec.clone()
        notes.append("the decoder's bias is subtracted from the input")
    b_dec *= ratio
    if first:
        # The package folds the scales before it looks at decoder norms and threshold; later versions scale the input.
        w_dec *= ratio
    if by_length:
        select_by_length(w_enc, b_enc, w_dec)
        notes.append("thresholds and k compare activation times decoder norm: the norms are folded into the encoder")
    if not first:
        w_dec *= ratio
    elif isinstance(rule, Threshold) and scale.source is not None:
        rule = Threshold(rule.values * scale.source)
    if scale.norm is InputNorm.NONE and scale.source != 1.0:
        known = scale.source is not None
        scaled = (
            f"the input's scale, {scale.source:.6g}, is folded" if known else "trained on inputs of norm sqrt(d_model)"
        )
        notes.append(scaled)
    parts = Parts(
        w_enc=w_enc,
        b_enc=b_enc,
        w_dec=w_dec,
        b_dec=b_dec,
        rule=rule,
        centre=centre,
        input_norm=scale.norm,
        input_scale=scale.source,
    )
    return parts, tuple(notes)


def _rule(tensors: dict[str, Tensor], config: ConfigValues, *, first: bool, latents: int, item: str) -> Rule:
    function = config.text("act_fn", "relu")
    threshold = config.number("jump_relu_threshold", 0.0)
    if first and (function == "jumprelu" or (function == "topk" and threshold > 0)):
        # A TopK with a threshold is run as a JumpReLU by the package: its latents then do not depend on each other.
        return Threshold(torch.full((latents,), threshold))
    if function == "jumprelu":
        name = next((name for name in tensors if name.endswith("log_jumprelu_threshold")), "log_jumprelu_threshold")
        return Threshold(take(tensors, name, item=item).exp_())
    return TopK(config.whole("top_k")) if function == "topk" else Threshold(torch.zeros(latents))


def _threshold_word(config: ConfigValues) -> str:
    return "standard" if config.text("act_fn", "relu") == "relu" else "jumprelu"
