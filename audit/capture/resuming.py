"""Run only the upper layers again: what enters a layer is kept from one pass and handed to the next.

A splice or an intervention changes nothing below its site, so the layers there need no second run. Skipping is tried on
the model at hand first: a model whose upper layers read more of the lower ones than the residual stream (shared keys,
a second stream) is run whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

# What a model raises whose upper layers miss something that the skipped ones would have left behind.
_MISSING = (RuntimeError, ValueError, KeyError, IndexError, TypeError, AttributeError)
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}
_ROUGH_TOLERANCE = 0.05


@contextlib.contextmanager
def resumed_at(layers: nn.ModuleList, layer: int, entering: Tensor) -> Iterator[None]:
    """Skip the layers below `layer` in every forward pass of the block.

    Args:
        layers: the model's decoder layers, which return a tensor each (`can_resume` tells).
        layer: the first one that runs.
        entering: (batch, position, width), what it reads, whatever the model is given.
    """
    skipped = [module for number, module in enumerate(layers) if number < layer]
    own = [module.__dict__.get("forward") for module in skipped]
    try:
        for module in skipped:
            module.forward = lambda *_, **__: entering
        yield
    finally:
        for module, forward in zip(skipped, own, strict=True):
            del module.__dict__["forward"]
            if forward is not None:
                module.forward = forward


def can_resume(layers: nn.ModuleList, layer: int, run: Callable[[], Tensor], entering: Tensor) -> bool:
    """Tell whether the upper layers alone say what the whole model says, by trying it.

    Args:
        layers: the model's decoder layers.
        layer: the first one that would run.
        run: a forward pass; what it returns is compared.
        entering: (batch, position, width), what entered the layer in such a pass.
    """
    if layer == 0:
        return False
    outputs: list[Any] = []
    hooks = [module.register_forward_hook(lambda *call: outputs.append(call[-1])) for module in layers]
    try:
        whole = run()
    finally:
        for hook in hooks:
            hook.remove()
    if not outputs or not all(isinstance(output, Tensor) for output in outputs):
        return False
    try:
        with resumed_at(layers, layer, entering):
            resumed = run()
    except _MISSING:
        return False
    limit = _TOLERANCE.get(entering.dtype, _ROUGH_TOLERANCE)
    scale = float(whole.abs().max())
    return resumed.shape == whole.shape and float((resumed - whole).abs().max()) <= limit * scale
