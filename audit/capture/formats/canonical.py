"""From the tensors of any format to the one canonical SAE: checked, decoder norms folded, nothing copied twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from audit.capture.encoder import Rule, Threshold, TopK
from audit.capture.sae import InputNorm, Sae
from audit.errors import SaeInvalid
from audit.records import SaeRecord

_UNIT = 1e-6
_BLOCK = 8192


@dataclass(frozen=True, slots=True)
class Parts:
    """The tensors of an SAE in the layout of `Sae`, before checking and folding.

    Args:
        w_enc: (latents, d_in), b_enc: (latents,), b_dec: (d_out,).
        w_dec: (latents, d_out) with the decoder's own norms.
        rule: which latents fire, in the units of the package's own pre-activations.
        centre: (d_in,) subtracted from the input, or None.
        gain: (latents,) and offset: (latents,) from a pre-activation to the package's own activation, or None.
        input_norm: what is done to each token at run time.
        input_scale: a constant factor on the input that the output is divided by; None where the SAE was trained on
            inputs of a constant average norm and the factor was not stored: it has to be estimated on text.
        w_skip: (d_out, d_in), or None.
    """

    w_enc: Tensor
    b_enc: Tensor
    w_dec: Tensor
    b_dec: Tensor
    rule: Rule
    centre: Tensor | None = None
    gain: Tensor | None = None
    offset: Tensor | None = None
    input_norm: InputNorm = InputNorm.NONE
    input_scale: float | None = 1.0
    w_skip: Tensor | None = None


def canonical(parts: Parts, record: SaeRecord) -> Sae:
    """Check an SAE's tensors and fold the decoder norms into its activations.

    Args:
        parts: the tensors in any float type. `w_dec` is changed in place when it is float32 already.
        record: what is known of it; `latents`, `width`, `target_width` and `k` are checked against the tensors.

    Raises:
        SaeInvalid: a shape is not what the others ask for, or a weight is NaN or infinite, before or after folding.
    """
    tensors = _checked(parts, record)
    w_dec = tensors["w_dec"]
    norms = torch.cat([w_dec[n : n + _BLOCK].norm(dim=1) for n in range(0, len(w_dec), _BLOCK)])
    # Finite weights can have a norm that float32 cannot hold.
    require_tensors(record.name, {"w_dec's norms": (norms, (record.latents,))})
    # A latent whose direction is zero adds nothing to the output: it keeps its own units.
    norms = torch.where(norms > 0, norms, 1.0)
    notes = record.notes
    gain, offset = tensors.get("gain"), tensors.get("offset")
    if bool(((norms - 1).abs() > _UNIT).any()):
        for start in range(0, len(w_dec), _BLOCK):
            w_dec[start : start + _BLOCK] /= norms[start : start + _BLOCK, None]
        gain = norms if gain is None else gain * norms
        offset = None if offset is None else offset * norms
        notes = (*notes, f"decoder norms from {norms.min():.4g} to {norms.max():.4g} folded into the activations")
    rule = Threshold(tensors["threshold"]) if isinstance(parts.rule, Threshold) else parts.rule
    sae = Sae(
        w_enc=tensors["w_enc"],
        b_enc=tensors["b_enc"],
        w_dec=w_dec,
        b_dec=tensors["b_dec"],
        rule=rule,
        record=replace(record, notes=notes),
        centre=tensors.get("centre"),
        gain=gain,
        offset=offset,
        input_norm=parts.input_norm,
        w_skip=tensors.get("w_skip"),
        norms=norms,
        awaits_scale=parts.input_scale is None,
    )
    if parts.input_scale not in {1.0, None}:
        sae = sae.scaled(float(parts.input_scale or 1.0))
    folded = {
        "gain, folded": (sae.gain, (record.latents,)),
        "offset, folded": (sae.offset, (record.latents,)),
        "b_dec, scaled": (sae.b_dec, (record.target_width,)),
    }
    require_tensors(record.name, {name: pair for name, pair in folded.items() if pair[0] is not None})
    return sae


def select_by_length(w_enc: Tensor, b_enc: Tensor, w_dec: Tensor) -> None:
    """Fold the decoder norms into the encoder, in place: latents are then chosen by the length of what they add.

    For SAEs that compare activations times decoder norm, and not activations, to choose which latents fire.

    Args:
        w_enc: (latents, d_in) float32.
        b_enc: (latents,) float32.
        w_dec: (latents, d_out) float32.
    """
    for start in range(0, len(w_dec), _BLOCK):
        block = slice(start, start + _BLOCK)
        norms = w_dec[block].norm(dim=1)
        w_enc[block] *= norms[:, None]
        b_enc[block] *= norms
        w_dec[block] /= torch.where(norms > 0, norms, 1.0)[:, None]


def _checked(parts: Parts, record: SaeRecord) -> dict[str, Tensor]:
    latents, width, target = record.latents, record.width, record.target_width
    tensors = {
        "w_enc": (parts.w_enc, (latents, width)),
        "b_enc": (parts.b_enc, (latents,)),
        "w_dec": (parts.w_dec, (latents, target)),
        "b_dec": (parts.b_dec, (target,)),
        "threshold": (parts.rule.values if isinstance(parts.rule, Threshold) else None, (latents,)),
        "centre": (parts.centre, (width,)),
        "gain": (parts.gain, (latents,)),
        "offset": (parts.offset, (latents,)),
        "w_skip": (parts.w_skip, (target, width)),
    }
    if isinstance(parts.rule, TopK) and not 0 < parts.rule.k <= latents:
        raise SaeInvalid(
            item=f"{record.name}: k",
            expected=f"1 to {latents}",
            found=str(parts.rule.k),
            hint="Mend the configuration.",
        )
    require_tensors(record.name, {name: pair for name, pair in tensors.items() if pair[0] is not None})
    return {
        name: tensor.detach().to(torch.float32).contiguous()
        for name, (tensor, _) in tensors.items()
        if tensor is not None
    }


def require_tensors(item: str, tensors: Mapping[str, tuple[Tensor | None, tuple[int, ...]]]) -> None:
    """Refuse tensors of another shape than they must have, or with NaN or infinity.

    Raises:
        SaeInvalid: naming the tensor.
    """
    for name, (tensor, shape) in tensors.items():
        if tensor is None or tuple(tensor.shape) != shape:
            raise SaeInvalid(
                item=f"{item}: {name}",
                expected=f"shape {shape}",
                found="none" if tensor is None else str(tuple(tensor.shape)),
                hint="The configuration promises another shape than the weights have.",
            )
        # The extremes say it without an array of the tensor's size; NaN goes through both.
        if tensor.numel() and not bool(torch.isfinite(torch.stack(tensor.aminmax())).all()):
            raise SaeInvalid(
                item=f"{item}: {name}",
                expected="finite weights",
                found="NaN or infinity",
                hint="The training diverged or the file is damaged.",
            )
