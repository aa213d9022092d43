"""The fastest exact float32 product of rows with a weight matrix on this machine."""

from __future__ import annotations

from typing import cast

import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

_PROBE = (8, 16, 32)
_TOLERANCE = 1e-5
_PACKED_SHARE = 0.25
_PACKED_FOR_ROWS = 256


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
    if _ONEDNN and _is_plain(rows, weight):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")  # noqa: SLF001
        return product
    return functional.linear(rows, weight, bias)


def use_fast_linears(model: nn.Module) -> None:
    """Let the plain linear layers of a frozen float32 model on a processor multiply with `linear`.

    Values stay the same but for rounding; names, parameters and hooks of the modules stay what they are. Where memory
    allows, each layer that runs keeps its weight a second time in the order in which oneDNN reads it, which is some
    percent faster and gives the same bits.
    """
    linears = [module for module in model.modules() if type(module) is nn.Linear]
    size = sum(module.weight.numel() * module.weight.element_size() for module in linears)
    pack = size < _PACKED_SHARE * psutil.virtual_memory().available
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = _FastLinear
            cast("_FastLinear", module).packed = _Packed() if pack and _ONEDNN else None
        elif type(module) is Conv1D:
            # The same numbers under the same shape, laid out as the product wants them.
            weight = cast("nn.Parameter", module.weight)
            weight.data = weight.data.T.contiguous().T
            module.__class__ = _FastConv1D


class _Packed:
    """A weight in oneDNN's own order, made when it is first needed and made again when the weight has changed."""

    def __init__(self) -> None:
        self._made: Tensor | None = None
        self._version = -1

    def of(self, weight: Tensor) -> Tensor:
        """Return the packed weight."""
        if self._made is None or self._version != weight._version:  # noqa: SLF001 - counts in-place changes
            self._made = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _PACKED_FOR_ROWS)  # noqa: SLF001
            self._version = weight._version  # noqa: SLF001
        return self._made


class _FastLinear(nn.Linear):
    packed: _Packed | None

    def forward(self, rows: Tensor) -> Tensor:
        # A single row takes another path in oneDNN, with other rounding.
        if self.packed is None or rows.shape[:-1].numel() == 1 or not _is_plain(rows, self.weight):
            return linear(rows, self.weight, self.bias)
        weight = self.packed.of(self.weight)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, self.bias, "none", [], "")  # noqa: SLF001
        return product


class _FastConv1D(Conv1D):  # type: ignore[misc]
    def forward(self, rows: Tensor) -> Tensor:
        return linear(rows, self.weight.T, self.bias)


def _is_plain(rows: Tensor, weight: Tensor) -> bool:
    """Tell whether oneDNN may multiply them: float32 on a processor, and nobody asks for a gradient."""
    return (
        rows.device.type == "cpu"
        and rows.dtype == weight.dtype == torch.float32
        and not (torch.is_grad_enabled() and rows.requires_grad)
    )


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
