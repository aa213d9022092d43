"""Folders of SAELens: `cfg.json` and `sae_weights.safetensors`, of versions 2 to 6.

Facts from sae-lens 6.54.12 (`saes/*.py`, `loading/pretrained_sae_loaders.py`); the tests compare with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from audit.capture.encoder import Rule, Threshold, TopK
from audit.capture.formats.canonical import Parts, canonical, require_tensors, select_by_length
from audit.capture.formats.config_values import ConfigValues
from audit.capture.formats.places import Place, Sites, canonical_site, new_record, settle_sites
from audit.capture.formats.weight_files import digest_files, read_json, read_safetensors, require_none_left, take
from audit.capture.sae import InputNorm, Sae
from audit.capture.site_names import SiteKind, read_name
from audit.errors import SaeInvalid

FORMAT = "SAELens"
CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"
_TRANSCODERS = {
    "transcoder": "standard",
    "skip_transcoder": "standard",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
_SKIP = frozenset({"skip_transcoder", "jumprelu_skip_transcoder"})
_KNOWN = frozenset({"standard", "gated", "jumprelu", "topk", "batchtopk", "matryoshka_batchtopk", *_TRANSCODERS})
_REFUSED = {
    "temporal": "its latents depend on the other tokens of the context",
    "matching_pursuit": "it chooses latents one after the other, each by what the ones before left over",
    "abstopk": "its activations can be negative",
}
_NORMS = {
    "none": InputNorm.NONE,
    "expected_average_only_in": InputNorm.NONE,
    "constant_norm_rescale": InputNorm.CONSTANT_NORM,
    "layer_norm": InputNorm.LAYER_NORM,
}
# What writes to the residual stream, and the stream itself: centred by TransformerLens where a model's weights were.
_CENTRED = frozenset({SiteKind.RESID_PRE, SiteKind.RESID_MID, SiteKind.RESID_POST, SiteKind.ATTN_OUT, SiteKind.MLP_OUT})

_CENTRED_NOTE = "trained on centred weights: each token's mean is taken off the input and given back in the output"


@dataclass(frozen=True, slots=True)
class _Settings:
    """What a configuration of any version says.

    `input_scale` is None where the SAE was trained on inputs of average norm sqrt(d_in) and the factor is not stored.
    """

    architecture: str
    latents: int
    width: int
    target_width: int
    k: int | None
    subtracts: bool
    by_length: bool
    input_norm: InputNorm
    input_scale: float | None
    scales_decoder: bool
    centres_model: bool

    @property
    def transcodes(self) -> bool:
        return self.architecture in _TRANSCODERS

    @property
    def rule(self) -> str:
        return _TRANSCODERS.get(self.architecture, self.architecture)


def recognises(path: Path) -> bool:
    """Tell whether a folder, or a weights file, has the names that SAELens gives them."""
    folder = path.parent if path.name == WEIGHTS_FILE else path
    return (folder / CONFIG_FILE).is_file() and (folder / WEIGHTS_FILE).is_file()


def read(place: Place) -> Sae:
    """Read an SAE or transcoder that SAELens saved.

    Raises:
        SaeInvalid: a file is damaged, the two contradict each other, or the architecture has no exact canonical form.
    """
    config_path, weights_path = place.folder / CONFIG_FILE, place.folder / WEIGHTS_FILE
    digest = digest_files(place.folder, (config_path, weights_path))
    return convert(place, read_json(config_path), read_safetensors(weights_path), digest=digest)


def convert(
    place: Place,
    config: Mapping[str, object],
    tensors: dict[str, Tensor],
    *,
    digest: str,
    notes: tuple[str, ...] = (),
) -> Sae:
    """Bring SAELens' tensors into the canonical form.

    Args:
        place: name, source and a stated site.
        config: the content of `cfg.json`.
        tensors: SAELens' state dictionary; emptied.
        digest: over what decided the SAE.
        notes: for the record.

    Raises:
        SaeInvalid: they contradict each other, or the architecture has no exact canonical form.
    """
    values = ConfigValues(f"SAE {place.source!r}: {CONFIG_FILE}", config)
    settings = _settings(values)
    item = f"SAE {place.source!r}"
    sites = settle_sites(place, _sites(values, settings, item))
    if settings.transcodes and sites.site == sites.target:
        raise SaeInvalid(
            item=item,
            expected="two sites for a transcoder",
            found=sites.site,
            hint="State both behind the path: `PATH#mlp_in.12->mlp_out.12`.",
        )
    parts, done = _parts(tensors, settings, item)
    if settings.centres_model:
        parts, done = _centred(parts, sites, item), (*done, _CENTRED_NOTE)
    require_none_left(tensors, item=item, architecture=settings.architecture)
    skip = ", skip" if settings.architecture in _SKIP else ""
    record = new_record(
        place,
        sites,
        form=FORMAT,
        architecture=f"{settings.rule}{skip}",
        latents=settings.latents,
        width=settings.width,
        target_width=settings.target_width,
        k=settings.k,
        digest=digest,
        training_tokens=values.whole("training_tokens") if "training_tokens" in values else None,
        notes=(*notes, *done),
    )
    return canonical(parts, record)


def _settings(values: ConfigValues) -> _Settings:
    architecture = values.text("architecture", "standard")
    if architecture in _REFUSED:
        raise _not_exact(values.item, architecture, _REFUSED[architecture])
    # Before version 6 the activation function stood beside the architecture.
    activation = values.text("activation_fn", values.text("activation_fn_str", "relu"))
    if activation == "topk" and architecture == "standard":
        architecture = "topk"
    if architecture not in _KNOWN or activation not in {"relu", "topk"}:
        raise SaeInvalid(
            item=values.item,
            expected=f"one of the architectures {', '.join(sorted(_KNOWN))} with relu or topk",
            found=f"{architecture} with {activation}",
            hint="This version cannot read it.",
        )
    if values.values.get("hook_head_index", values.section("metadata").values.get("hook_head_index")) is not None:
        raise _not_exact(values.item, architecture, "it reads a single attention head")
    transcodes = architecture in _TRANSCODERS
    width = values.whole("d_in")
    kwargs = values.section("metadata").section("model_from_pretrained_kwargs").values or (
        values.section("model_from_pretrained_kwargs").values
    )
    norm, scale = _normalisation(values, architecture)
    subtracts = values.flag("apply_b_dec_to_input", not transcodes)
    if transcodes and subtracts:
        raise _not_exact(values.item, architecture, "it subtracts b_dec, which has the width of its output")
    k = None
    if architecture == "topk":
        k = values.section("activation_fn_kwargs").whole("k") if "k" not in values else values.whole("k")
    return _Settings(
        architecture=architecture,
        latents=values.whole("d_sae"),
        width=width,
        target_width=values.whole("d_out", width) if transcodes else width,
        k=k,
        subtracts=subtracts,
        by_length=values.flag("rescale_acts_by_decoder_norm", False),
        input_norm=norm,
        input_scale=scale,
        scales_decoder=values.flag("finetuning_scaling_factor", False),
        centres_model=kwargs.get("center_writing_weights") is True,
    )


def _normalisation(values: ConfigValues, architecture: str) -> tuple[InputNorm, float | None]:
    chosen = values.values.get("normalize_activations")
    if isinstance(chosen, bool) or chosen is None:
        chosen = "expected_average_only_in" if chosen else "none"
    if not isinstance(chosen, str) or chosen not in _NORMS:
        raise _not_exact(values.item, architecture, f"normalize_activations is {chosen!r}, which its files do not hold")
    if architecture in _TRANSCODERS and chosen != "none":
        raise _not_exact(
            values.item, architecture, f"normalize_activations is {chosen!r}, which its output does not undo"
        )
    return _NORMS[chosen], None if chosen == "expected_average_only_in" else 1.0


def _sites(values: ConfigValues, settings: _Settings, item: str) -> Sites | None:
    metadata = values.section("metadata") if "metadata" in values else values
    # SAELens calls the MLP's input behind its norm `hook_mlp_in`, which in TransformerLens is the stream before that
    # norm; where both names are there, the one of the model's own module is right.
    site = _first(metadata, "hf_hook_name", "hook_name", "hook_point")
    target = _first(metadata, "hf_hook_name_out", "hook_name_out") if settings.transcodes else site
    if site is None or target is None:
        return None
    return Sites(canonical_site(site, item=item), canonical_site(target, item=item))


def _first(values: ConfigValues, *keys: str) -> str | None:
    return next((values.text(key) for key in keys if key in values), None)


def _parts(tensors: dict[str, Tensor], settings: _Settings, item: str) -> tuple[Parts, tuple[str, ...]]:
    w_enc = take(tensors, "W_enc", item=item, dims=2, transposed=True)
    w_dec = take(tensors, "W_dec", item=item, dims=2)
    b_dec = take(tensors, "b_dec", item=item)
    b_enc = take(tensors, "b_gate" if settings.rule == "gated" else "b_enc", item=item)
    one_each = (settings.latents,)
    shapes: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "W_enc transposed": (w_enc, (settings.latents, settings.width)),
        "W_dec": (w_dec, (settings.latents, settings.target_width)),
        "b_dec": (b_dec, (settings.target_width,)),
        "b_gate" if settings.rule == "gated" else "b_enc": (b_enc, one_each),
    }
    gain = offset = None
    if settings.rule == "gated":
        gain, offset = take(tensors, "r_mag", item=item).exp_(), take(tensors, "b_mag", item=item)
        shapes |= {"exp(r_mag)": (gain, one_each), "b_mag": (offset, one_each)}
    factor = _finetuned(tensors, settings, item)
    if factor is not None:
        shapes["scaling_factor"] = (factor, one_each)
    # Before anything is folded: a fold of tensors that do not fit together would be a crash, not an error.
    require_tensors(item, shapes)
    notes = []
    if gain is not None and offset is not None:
        offset -= gain * b_enc
    if settings.by_length:
        select_by_length(w_enc, b_enc, w_dec)
        notes.append("latents are chosen by activation times decoder norm: the norms are folded into the encoder")
    if factor is not None:
        w_dec *= factor[:, None]
        notes.append("the finetuned factor of each latent is folded into its decoder row")
    if settings.subtracts:
        notes.append("b_dec is subtracted from the input")
    parts = Parts(
        w_enc=w_enc,
        b_enc=b_enc,
        w_dec=w_dec,
        b_dec=b_dec,
        rule=_rule(tensors, settings, item),
        centre=b_dec if settings.subtracts else None,
        gain=gain,
        offset=offset,
        input_norm=settings.input_norm,
        input_scale=settings.input_scale,
        w_skip=take(tensors, "W_skip", item=item, dims=2) if settings.architecture in _SKIP else None,
    )
    return parts, tuple(notes)


def _rule(tensors: dict[str, Tensor], settings: _Settings, item: str) -> Rule:
    if settings.k is not None:
        return TopK(settings.k)
    if settings.rule == "jumprelu":
        if "log_threshold" in tensors:
            return Threshold(take(tensors, "log_threshold", item=item).exp_())
        return Threshold(take(tensors, "threshold", item=item))
    if settings.rule in {"batchtopk", "matryoshka_batchtopk"}:
        # A checkpoint of the training: the estimated threshold is one number.
        return Threshold(take(tensors, "topk_threshold", item=item, dims=0).repeat(settings.latents))
    return Threshold(torch.zeros(settings.latents))


def _finetuned(tensors: dict[str, Tensor], settings: _Settings, item: str) -> Tensor | None:
    name = next((name for name in ("scaling_factor", "finetuning_scaling_factor") if name in tensors), None)
    if name is None:
        return None
    factor = take(tensors, name, item=item)
    if not settings.scales_decoder:
        if bool((factor - 1).abs().max() <= 1e-5):
            return None
        raise SaeInvalid(
            item=f"{item}: {name}",
            expected="factors of 1, as finetuning_scaling_factor is false",
            found=f"factors from {float(factor.min()):.4g} to {float(factor.max()):.4g}",
            hint="SAELens refuses it too: weights and configuration contradict each other.",
        )
    return factor


def _centred(parts: Parts, sites: Sites, item: str) -> Parts:
    """Return the SAE for the model as it is, where it was trained on one whose weights TransformerLens had centred.

    Centring takes each token's mean off the residual stream of a model with LayerNorm. With P the projection that does
    so, (xP - c) w = (x - c) Pw + c (P - 1) w; the mean that the SAE never saw is given back by a skip connection.
    """
    kinds = [published.kind for published in (read_name(sites.site), read_name(sites.target)) if published is not None]
    # A layer norm takes the mean off and gives it back by itself.
    if _CENTRED.isdisjoint(kinds) or parts.input_norm is InputNorm.LAYER_NORM:
        return parts
    if sites.site != sites.target or parts.input_norm is not InputNorm.NONE:
        raise _not_exact(item, "transcoder or normalised SAE", "it was trained on a model whose weights were centred")
    means = parts.w_enc.mean(dim=1)
    parts.w_enc.sub_(means[:, None])
    b_enc = parts.b_enc if parts.centre is None else parts.b_enc - means * parts.centre.sum()
    width = parts.b_dec.shape[0]
    return replace(parts, b_enc=b_enc, w_skip=torch.full((width, width), 1 / width))


def _not_exact(item: str, architecture: str, reason: str) -> SaeInvalid:
    return SaeInvalid(
        item=item,
        expected="an SAE whose activations can be reproduced exactly, token by token",
        found=f"{architecture}: {reason}",
        hint="It cannot be audited with this version.",
    )
