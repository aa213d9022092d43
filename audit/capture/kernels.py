"""The fastest exact float32 product of rows with a weight matrix on this machine."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

_PROBE = (8, 16, 32)
_TOLERANCE = 1e-5


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return rows @ weight.T + bias, as `torch.nn.functional.linear` defines it.

    On processors oneDNN multiplies float32 rows: about 1.2 to 1.5 times as fast as the MKL of the PyTorch wheels on AMD
    processors, and as exact. Elsewhere, and where this build of PyTorch offers no such product, PyTorch's own is used.

    Args:
        rows: (..., d_in) float32 or another float type.
        weight: (d_out, d_in), contiguous.
        bias: (d_out,) or None.

    Returns:
        (..., d_out) in the type of the rows.
    """
    if _ONEDNN and rows.device.type == "cpu" and rows.dtype == weight.dtype == torch.float32 and not _needs_grad(rows):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")  # noqa: SLF001
        return product
    return functional.linear(rows, weight, bias)


def use_fast_linears(model: nn.Module) -> None:
    """Let the plain linear layers of a frozen float32 model on a processor multiply with `linear`.

    Values stay the same but for rounding; names, parameters and hooks of the modules stay what they are.
    """
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = _FastLinear
        elif type(module) is Conv1D:
            # The same numbers under the same shape, laid out as the product wants them.
            weight = cast("nn.Parameter", module.weight)
            weight.data = weight.data.T.contiguous().T
            module.__class__ = _FastConv1D


class _FastLinear(nn.Linear):
    def forward(self, rows: Tensor) -> Tensor:
        return linear(rows, self.weight, self.bias)


class _FastConv1D(Conv1D):  # type: ignore[misc]
    def forward(self, rows: Tensor) -> Tensor:
        return linear(rows, self.weight.T, self.bias)


def _needs_grad(rows: Tensor) -> bool:
    return torch.is_grad_enabled() and rows.requires_grad


def _has_onednn() -> bool:
    """Tell whether the product is there and gives the right answer: it is not a documented part of PyTorch."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    count, width, out = _PROBE
    generator = torch.Generator().manual_seed(0)
    rows, weight, bias = (torch.randn(shape, generator=generator) for shape in ((count, width), (out, width), (out,)))
    with torch.inference_mode():
        try:
            product = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")  # noqa: SLF001
            bare = torch.ops.mkldnn._linear_pointwise(rows, weight, None, "none", [], "")  # noqa: SLF001
        except (AttributeError, RuntimeError):
            return False
        expected = functional.linear(rows, weight, bias)
        return torch.allclose(product, expected, atol=_TOLERANCE) and torch.allclose(
            bare, expected - bias, atol=_TOLERANCE
        )


_ONEDNN = _has_onednn()
