"""Run only the upper layers again: what enters a layer is kept from one pass and handed to the next.

A splice or an intervention changes nothing below its site, so the layers there need no second run. Skipping is tried on
the model at hand first: a model whose upper layers read more of the lower ones than the residual stream (shared keys,
a second stream) is run whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from torch import Tensor, nn

from audit.capture.halving import is_out_of_memory

# What a model raises whose upper layers miss something that the skipped ones would have left behind.
MISSING = (RuntimeError, ValueError, KeyError, IndexError, TypeError, AttributeError)
# The same layers on the same input: whatever differs by more than rounding was not only rounding, in any arithmetic.
TOLERANCE = 1e-3


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
            # A copy for each: some layers add to what they read in place.
            module.forward = lambda *_, **__: entering.clone()
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
        run: a forward pass; the log probabilities that it returns are compared, in nats.
        entering: (batch, position, width), what entered the layer in such a pass.
    """
    if layer == 0:
        return False
    plain: list[bool] = []
    hooks = [
        module.register_forward_hook(lambda *call: plain.append(isinstance(call[-1], Tensor))) for module in layers
    ]
    try:
        whole = run()
    finally:
        for hook in hooks:
            hook.remove()
    if not plain or not all(plain):
        return False
    try:
        with resumed_at(layers, layer, entering):
            resumed = run()
    except MISSING as error:
        if is_out_of_memory(error):
            raise
        return False
    return resumed.shape == whole.shape and float((resumed - whole).abs().max()) <= TOLERANCE
