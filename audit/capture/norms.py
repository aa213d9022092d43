"""What a norm does before its gain and bias, found by asking the norm itself.

Gemma multiplies by 1 + weight, others by the weight, some have neither weight nor bias: the gain is measured on two
vectors instead of read from a class name.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audit.errors import SiteNotFound


@dataclass(frozen=True, slots=True)
class NormAffine:
    """A LayerNorm or RMSNorm taken apart: output = normalised * gain + bias.

    Args:
        centred: whether the mean is subtracted first (LayerNorm).
        eps: added to the variance or mean square.
        gain: (d_model,) float32.
        bias: (d_model,) float32.
    """

    centred: bool
    eps: float
    gain: Tensor
    bias: Tensor

    def normalise(self, residual: Tensor) -> Tensor:
        """Return (..., d_model) float32: the residual over its root mean square, before gain and bias."""
        wide = residual.float()
        if self.centred:
            wide = wide - wide.mean(-1, keepdim=True)
        return wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)


def take_apart(norm: nn.Module, residual: Tensor) -> NormAffine:
    """Return a norm's parts.

    Args:
        norm: a LayerNorm or RMSNorm over the last dimension.
        residual: (..., d_model), the norm's input; its width, dtype and device are used, its values are not.

    Raises:
        SiteNotFound: the norm does not state its epsilon.
    """
    eps = getattr(norm, "eps", getattr(norm, "variance_epsilon", None))
    if not isinstance(eps, float):
        # OLMo's norm has neither parameters nor an attribute for its epsilon, which is LayerNorm's default.
        if any(True for _ in norm.parameters()):
            raise SiteNotFound(
                item=type(norm).__name__,
                expected="a norm that states its epsilon",
                found="neither `eps` nor `variance_epsilon`",
                hint="Use `mlp_in`, the norm's output, if the SAE was trained there.",
            )
        eps = 1e-5
    ones = torch.ones(residual.shape[-1], dtype=residual.dtype, device=residual.device)
    signs = ones.clone()
    signs[1::2] = -1
    # `forward`, not a call: the hooks on the norm must not see the probes. The gain may stand in a gradient.
    with torch.no_grad():
        plus, minus = (norm.forward(x[None])[0].float() for x in (signs, -signs))
        level, opposite = (norm.forward(x[None])[0].float() for x in (ones, -ones))
    gain = (plus - minus) / 2 * signs.float() * (1 + eps) ** 0.5
    # A centred norm sees nothing in a constant vector, whatever its sign; an RMSNorm returns plus and minus its gain.
    centred = bool((level - opposite).abs().max() < gain.abs().max())
    return NormAffine(centred=centred, eps=eps, gain=gain, bias=(plus + minus) / 2)
