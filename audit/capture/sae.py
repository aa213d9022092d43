"""Sparse autoencoders and transcoders in one canonical frozen form: float32, decoder rows of norm 1."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from audit.capture import encoder
from audit.capture.encoder import Rule, SparseRows, Threshold, TopK
from audit.capture.kernels import linear
from audit.digests import digest_bytes
from audit.errors import SaeInvalid, ShapeMismatch
from audit.records import SaeRecord, untrained_name

# As sae-lens and OpenAI's autoencoders define it: added to the standard deviation, not to the variance.
_LAYER_NORM_EPS = 1e-5


class InputNorm(StrEnum):
    """What an SAE does with each token's input at run time, and undoes at its output."""

    NONE = "none"
    CONSTANT_NORM = "constant_norm"
    LAYER_NORM = "layer_norm"


@dataclass(frozen=True, slots=True)
class Sae:
    """A sparse autoencoder, or a transcoder, whose decoder rows have norm 1.

    With n the input norm, pre = (n(x) - centre) W_enc^T + b_enc and the rule's latents firing:
    a = gain * pre + offset where that is above 0, and x_hat = n^-1(a W_dec + b_dec) + x W_skip^T.

    The decoder's own norms are folded into the activations: a latent's activation is the length of what it adds to the
    output. What the SAE's own package calls its activation is a / `norms`.

    Args:
        w_enc: (latents, d_in) float32.
        b_enc: (latents,) float32.
        w_dec: (latents, d_out) float32, rows of norm 1 (a row of zeros stays zeros).
        b_dec: (d_out,) float32.
        rule: which latents fire, by their pre-activations.
        centre: (d_in,) float32 subtracted from the input, or None.
        gain: (latents,) float32, or None for 1.
        offset: (latents,) float32, or None for 0: the magnitudes of gated SAEs (Rajamanoharan et al. 2024, 2404.16014).
        input_norm: what is done to each token first.
        w_skip: (d_out, d_in) float32 of a skip transcoder (Paulo et al. 2025, 2501.18823), or None.
        norms: (latents,) float32, the decoder norms that were folded.
        input_scale: a constant factor on the input. The activations are in the input's own units all the same.
        awaits_scale: the factor has to be estimated with `scaled` first: the SAE was trained on inputs of average norm
            sqrt(d_in), and its files do not say by what they were multiplied.
    """

    w_enc: Tensor
    b_enc: Tensor
    w_dec: Tensor
    b_dec: Tensor
    rule: Rule
    record: SaeRecord
    centre: Tensor | None = None
    gain: Tensor | None = None
    offset: Tensor | None = None
    input_norm: InputNorm = InputNorm.NONE
    w_skip: Tensor | None = None
    norms: Tensor | None = None
    input_scale: float = 1.0
    awaits_scale: bool = False

    def to(self, device: torch.device) -> Sae:
        """Return the SAE with its weights on a device."""
        moved: dict[str, Any] = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        rule = Threshold(self.rule.values.to(device)) if isinstance(self.rule, Threshold) else self.rule
        return replace(self, rule=rule, **moved)

    def scaled(self, factor: float) -> Sae:
        """Return the SAE for inputs that its training multiplied by a factor.

        Activations and output are in the units of the model's own activations: both are divided by the factor.
        """
        gain = torch.ones_like(self.b_enc) if self.gain is None else self.gain
        return replace(
            self,
            input_scale=self.input_scale * factor,
            gain=gain / factor,
            offset=None if self.offset is None else self.offset / factor,
            b_dec=self.b_dec / factor,
            awaits_scale=False,
        )

    def encode(self, source: Tensor) -> SparseRows:
        """Return the latents that fire at each token.

        Args:
            source: (tokens, d_in), the activation at the SAE's site as the model computed it.

        Returns:
            Rows ordered by (token, latent). Nothing is dropped: the SAE's own rule is the only cut. Encoding runs in
            blocks of latents and tokens, never as an array of tokens x latents.

        Raises:
            ShapeMismatch: d_in differs from the SAE's input width.
            SaeInvalid: it awaits its scale.
        """
        _require_shape(source, self)
        if self.awaits_scale:
            raise SaeInvalid(
                item=self.record.name,
                expected="the factor that brings inputs to the average norm of its training",
                found="none estimated yet",
                hint="Call `scaled` with sqrt(d_in) over the mean norm at the site.",
            )
        rows, _, _ = _normalise(source.float(), self.input_norm)
        if self.input_scale != 1.0:
            rows = rows * self.input_scale
        if self.centre is not None:
            rows = rows - self.centre
        fired = encoder.encode(rows, self.w_enc, self.b_enc, self.rule)
        if self.gain is None and self.offset is None:
            return fired
        activation = fired.activation
        if self.gain is not None:
            activation = activation * self.gain[fired.latent]
        if self.offset is not None:
            activation = activation + self.offset[fired.latent]
        active = activation > 0
        return SparseRows(fired.token[active], fired.latent[active], activation[active])

    def decode(self, rows: SparseRows, source: Tensor) -> Tensor:
        """Return the reconstruction, (tokens, d_out) float32.

        Args:
            rows: what `encode` returned for `source`.
            source: (tokens, d_in), the same input again: its norm and the skip connection need it.
        """
        tokens = source.shape[0]
        offsets = torch.zeros(tokens + 1, dtype=torch.int64, device=rows.token.device)
        offsets[1:] = torch.bincount(rows.token, minlength=tokens).cumsum(0)
        summed = functional.embedding_bag(
            rows.latent,
            self.w_dec,
            offsets,
            mode="sum",
            per_sample_weights=rows.activation,
            include_last_offset=True,
        )
        output = summed + self.b_dec
        if self.input_norm is not InputNorm.NONE:
            _, scale, shift = _normalise(source.float(), self.input_norm)
            output = output * scale + shift
        if self.w_skip is not None:
            output = output + linear(source.float(), self.w_skip)
        return output

    def token_scale(self, source: Tensor) -> Tensor:
        """Return (tokens,) float32, by what each token's activations are multiplied in the output.

        Args:
            source: (tokens, d_in), the activation at the SAE's site.
        """
        _, scale, _ = _normalise(source.float(), self.input_norm)
        ones = torch.ones(source.shape[0], device=source.device)
        return scale[:, 0] if isinstance(scale, Tensor) else ones * scale


def random_directions(like: Sae, *, k: int, seed: int, centre: Tensor, bias: Tensor) -> Sae:
    """Return an untrained SAE of equal shape and sparsity: random unit directions, tied encoder.

    The control for every claim of the trained one: whatever random directions show as well is not the SAE's merit
    (Heap et al. 2025, arXiv 2501.17727). Regenerated from the seed, never stored. It reads the model's own activations
    around a centre whatever the trained one does to its input: a control must not depend on a file's format.

    Args:
        like: the trained one.
        k: how many directions fire at a token: the trained one's k, or its mean count where it has no k.
        seed: of the directions.
        centre: (d_in,) float32, subtracted from the input.
        bias: (d_out,) float32, added to the output.
    """
    shape, device = tuple(like.w_enc.shape), like.w_enc.device
    directions = random_decoder(*shape, seed=seed).to(device)
    same_width = like.w_dec.shape == like.w_enc.shape
    record = replace(
        like.record,
        name=untrained_name(like.record.name),
        architecture="topk, untrained random unit directions",
        k=k,
        digest=digest_bytes(f"random-directions:{shape}:{k}:{seed}:{like.record.digest}".encode()),
        training_tokens=0,
        training_updates=0,
        training_data_digest="none",
        licence="none",
        notes=(),
    )
    return Sae(
        w_enc=directions,
        b_enc=torch.zeros_like(like.b_enc),
        w_dec=directions if same_width else random_decoder(*like.w_dec.shape, seed=seed + 1).to(device),
        b_dec=bias.to(device),
        rule=TopK(k),
        record=record,
        centre=centre.to(device),
    )


def random_decoder(latents: int, width: int, *, seed: int) -> Tensor:
    """Return (latents, width) float32 unit rows, uniform on the sphere; equal for equal seeds on every machine."""
    directions: Tensor = torch.randn((latents, width), generator=torch.Generator().manual_seed(seed))
    return functional.normalize(directions, dim=1)


def _normalise(rows: Tensor, norm: InputNorm) -> tuple[Tensor, Tensor | float, Tensor | float]:
    """Return the normalised rows with the scale and shift, each (tokens, 1), that undo it."""
    if norm is InputNorm.CONSTANT_NORM:
        scale = rows.norm(dim=-1, keepdim=True) / rows.shape[-1] ** 0.5
        return rows / scale, scale, 0.0
    if norm is InputNorm.LAYER_NORM:
        shift = rows.mean(dim=-1, keepdim=True)
        centred = rows - shift
        scale = centred.std(dim=-1, keepdim=True)
        return centred / (scale + _LAYER_NORM_EPS), scale, shift
    return rows, 1.0, 0.0


def _require_shape(source: Tensor, sae: Sae) -> None:
    if source.ndim != 2 or source.shape[1] != sae.w_enc.shape[1]:
        raise ShapeMismatch(
            item=f"input of {sae.record.name}",
            expected=f"(tokens, {sae.w_enc.shape[1]})",
            found=str(tuple(source.shape)),
            hint="The SAE belongs to a model of another width.",
        )
