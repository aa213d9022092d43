"""The parts of a decoder layer: which modules hold its attention, its MLP and the norms around them.

Architectures name them differently and wire them in four ways: pre-norm (GPT-2, Llama), sandwich (a norm before and
after each branch: Gemma 2 and 3), norm behind each branch only (OLMo 2), and parallel branches (GPT-J, Phi). OPT may
normalise the residual stream itself. Whether the wiring found here is the real one is tested by `site_check`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from torch import nn

from audit.capture.site_names import SiteKind

_ATTENTION = ("self_attn", "attn", "attention", "self_attention")
_PROJECTION = ("o_proj", "out_proj", "c_proj", "dense")
_MLP = ("mlp", "feed_forward", "ffn", "block_sparse_moe")
# The last linear layer of an MLP. `w2` comes last: beside a `c_proj` it is one of two that read the input.
_MLP_LAST = ("down_proj", "c_proj", "dense_4h_to_h", "fc_out", "fc2", "w2")
_MLP_NORM = ("pre_feedforward_layernorm", "ln_2", "norm_2", "ffn_norm", "post_attention_layernorm")
_ATTENTION_POST_NORM = {
    "post_feedforward_layernorm": "post_attention_layernorm",
    "post_mlp_layernorm": "post_self_attn_layernorm",
}


class Flow(StrEnum):
    """How the branches of a layer meet the residual stream."""

    SEQUENTIAL = "sequential"
    PARALLEL = "parallel"
    NORMALISED = "normalised"


class Tap(StrEnum):
    """What of a module is the activation."""

    INPUT = "input"
    OUTPUT = "output"
    NORMALIZED = "normalized"


@dataclass(frozen=True, slots=True)
class Place:
    """A module and what of it is the activation.

    Args:
        module: the module to hook.
        tap: what of it is meant.
        flat: whether the layer may run it on (batch * position, width), as OPT does.
    """

    module: nn.Module
    tap: Tap
    flat: bool = False


@dataclass(frozen=True, slots=True)
class LayerParts:
    """The modules of one decoder layer; None where it has no such module.

    Args:
        attention: the self-attention.
        projection: its output projection, which reads all heads side by side.
        attention_norm: the norm behind the attention, before the residual stream.
        mlp_first: the module that reads the MLP's input.
        mlp_last: the module that gives the MLP's output; the same as `mlp_first` unless the layer has no MLP module.
        neurons: the MLP's last linear layer, which reads its neurons; None in a mixture of experts.
        mlp_norm: the norm in front of the MLP.
        mlp_post_norm: the norm behind the MLP, before the residual stream.
        flow: how the branches are joined.
    """

    attention: nn.Module | None
    projection: nn.Module | None
    attention_norm: nn.Module | None
    mlp_first: nn.Module | None
    mlp_last: nn.Module | None
    neurons: nn.Module | None
    mlp_norm: nn.Module | None
    mlp_post_norm: nn.Module | None
    flow: Flow


def find_parts(layer: nn.Module) -> LayerParts:
    """Return the parts of a decoder layer by the names that transformers' architectures use."""
    attention = _child(layer, _ATTENTION)
    mlp = _child(layer, _MLP)
    first, last = (mlp, mlp) if mlp is not None else (_child(layer, ("fc1",)), _child(layer, ("fc2",)))
    post_name = next((name for name in _ATTENTION_POST_NORM if _child(layer, (name,)) is not None), None)
    post_norm = _child(layer, (post_name,)) if post_name else None
    attention_norm = _child(layer, (_ATTENTION_POST_NORM[post_name],)) if post_name else None
    norm = _mlp_norm(layer, behind_attention=attention_norm)
    # OPT-350m adds, then normalises the sum: its residual stream is normalised twice a layer.
    if getattr(layer, "do_layer_norm_before", True) is False:
        norm, flow = None, Flow.NORMALISED
    elif getattr(layer, "use_parallel_residual", False) or (norm is None and post_norm is None):
        norm, flow = norm or _child(layer, ("ln_mlp",)), Flow.PARALLEL
    else:
        flow = Flow.SEQUENTIAL
    return LayerParts(
        attention=attention,
        projection=_projection(attention),
        attention_norm=attention_norm,
        mlp_first=first,
        mlp_last=last,
        neurons=_child(mlp, _MLP_LAST) if mlp is not None else last,
        mlp_norm=norm,
        mlp_post_norm=post_norm,
        flow=flow,
    )


def find_place(layer: nn.Module, kind: SiteKind) -> Place | None:
    """Return where an activation of a layer is found, or None when the layer has none of that kind."""
    parts = find_parts(layer)
    if kind is SiteKind.RESID_PRE:
        return Place(layer, Tap.INPUT)
    if kind is SiteKind.RESID_POST:
        return Place(layer, Tap.OUTPUT)
    module, tap = {
        SiteKind.ATTN_Z: (parts.projection, Tap.INPUT),
        SiteKind.ATTN_OUT: (parts.attention_norm or parts.attention, Tap.OUTPUT),
        SiteKind.RESID_MID: (
            None if parts.flow is Flow.PARALLEL else parts.mlp_norm or parts.mlp_first,
            Tap.INPUT,
        ),
        SiteKind.MLP_NORMALIZED: (parts.mlp_norm, Tap.NORMALIZED),
        SiteKind.MLP_IN: (parts.mlp_first, Tap.INPUT),
        SiteKind.MLP_ACT: (parts.neurons, Tap.INPUT),
        SiteKind.MLP_OUT: (parts.mlp_post_norm or parts.mlp_last, Tap.OUTPUT),
    }[kind]
    flat = parts.mlp_first is not parts.mlp_last and module is not parts.projection
    return Place(module, tap, flat) if module is not None else None


def holds_attention(layer: nn.Module) -> bool:
    """Tell whether a module has a self-attention of its own, as decoder layers have and experts have not."""
    return _child(layer, _ATTENTION) is not None


def _mlp_norm(layer: nn.Module, *, behind_attention: nn.Module | None) -> nn.Module | None:
    # OPT calls the MLP's norm `final_layer_norm`; other layers use that name for a norm at their end.
    names = ("final_layer_norm",) if hasattr(layer, "do_layer_norm_before") else _MLP_NORM
    norm = _child(layer, names)
    return None if norm is behind_attention else norm


def _projection(attention: nn.Module | None) -> nn.Module | None:
    if attention is None:
        return None
    found = [module for name, module in attention.named_modules() if name.rpartition(".")[2] in _PROJECTION]
    return found[0] if len(found) == 1 else None


def _child(layer: nn.Module, names: Sequence[str]) -> nn.Module | None:
    for name in names:
        module = getattr(layer, name, None)
        if isinstance(module, nn.Module):
            return module
    return None
