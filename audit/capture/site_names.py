"""Names of places in a model: this project's own, and those that published SAEs carry.

SAELens and TransformerLens say `blocks.L.hook_resid_post`, the TransformerLens 3 bridge `blocks.L.hook_out`, sparsify
the path of a module (`layers.L.mlp`), Gemma Scope 2 a path and a side (`model.layers.L.self_attn.o_proj.input`),
dictionary_learning `resid_post_layer_L`. All of them become one `Site`.

Three names need care, and none is guessed:

- `blocks.L.hook_mlp_in` is, in TransformerLens, the residual stream *before* the MLP's norm: `resid_mid`. SAELens
  writes that name on Gemma Scope 2 transcoders too, which read behind the norm; their `hf_hook_name` tells the truth.
  Whoever reads a configuration with both must prefer the latter.
- `blocks.L.ln2.hook_normalized` is taken before the norm's gain and bias (TransformerLens `components/rms_norm.py`),
  and Gemma Scope's transcoders for Gemma 2 were trained there: the gain was folded into the MLP (arXiv:2408.05147,
  language model technical details). It is a site of its own, `mlp_normalized`, not `mlp_in`.
- `layers.L.mlp` and `blocks.L.mlp.hook_out` are the output of the MLP module. Where a norm follows it (Gemma 2 and 3,
  OLMo 2) that is not what the MLP adds to the residual stream; `PublishedName.side` remembers which was meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class SiteKind(StrEnum):
    """Which activation of a layer.

    RESID_PRE and RESID_POST: the residual stream before and after the layer.
    RESID_MID: the residual stream between attention and MLP; parallel layers have none.
    ATTN_Z: what the attention's output projection reads, all heads side by side.
    ATTN_OUT and MLP_OUT: what the branch adds to the residual stream, behind its own norm where there is one.
    MLP_NORMALIZED: the residual stream divided by its scale, before the gain and bias of the MLP's norm.
    MLP_IN: what the MLP reads, behind its norm's gain and bias.
    MLP_ACT: the MLP's neurons behind the non-linearity, what its last linear layer reads; experts have none in common.
    """

    RESID_PRE = "resid_pre"
    ATTN_Z = "attn_z"
    ATTN_OUT = "attn_out"
    RESID_MID = "resid_mid"
    MLP_NORMALIZED = "mlp_normalized"
    MLP_IN = "mlp_in"
    MLP_ACT = "mlp_act"
    MLP_OUT = "mlp_out"
    RESID_POST = "resid_post"


class Side(StrEnum):
    """Which end of a branch a name means, where the branch's module is followed by a norm."""

    ANY = "any"
    MODULE = "module"
    NORM = "norm"


@dataclass(frozen=True, slots=True)
class PublishedName:
    """What a name says.

    Args:
        kind: which activation.
        layer: of which layer, counted from 0.
        side: whether the module itself or the norm behind it is meant; ANY for names of the branch as a whole.
    """

    kind: SiteKind
    layer: int
    side: Side = Side.ANY


_NUMBER = r"(?P<layer>[0-9]{1,4})"
_OWN = re.compile(rf"(?P<kind>{'|'.join(SiteKind)})\.{_NUMBER}")
_DICTIONARY_LEARNING = re.compile(rf"resid_post_layer_{_NUMBER}")
# Vision and audio towers have layers too: only the known places of a text decoder are accepted.
_STACK = (
    r"(?:layers|h|blocks|model\.layers|(?:model\.)?decoder\.layers|transformer\.(?:h|blocks)|gpt_neox\.layers|"
    r"(?:model\.)?language_model\.(?:model\.)?layers)"
)
_PATH = re.compile(rf"{_STACK}\.{_NUMBER}(?:\.(?P<rest>[a-z0-9_.]+))?")
_LENS: dict[str, tuple[SiteKind, Side]] = {
    "hook_resid_pre": (SiteKind.RESID_PRE, Side.ANY),
    "hook_in": (SiteKind.RESID_PRE, Side.ANY),
    "hook_resid_mid": (SiteKind.RESID_MID, Side.ANY),
    "hook_mlp_in": (SiteKind.RESID_MID, Side.ANY),
    "hook_resid_post": (SiteKind.RESID_POST, Side.ANY),
    "hook_out": (SiteKind.RESID_POST, Side.ANY),
    "hook_mlp_out": (SiteKind.MLP_OUT, Side.ANY),
    "mlp.hook_in": (SiteKind.MLP_IN, Side.ANY),
    "mlp.hook_post": (SiteKind.MLP_ACT, Side.ANY),
    "mlp.out.hook_in": (SiteKind.MLP_ACT, Side.ANY),
    "mlp.hook_out": (SiteKind.MLP_OUT, Side.MODULE),
    "ln2.hook_normalized": (SiteKind.MLP_NORMALIZED, Side.ANY),
    "ln2_post.hook_out": (SiteKind.MLP_OUT, Side.NORM),
    "hook_attn_out": (SiteKind.ATTN_OUT, Side.ANY),
    "attn.hook_z": (SiteKind.ATTN_Z, Side.ANY),
    "attn.o.hook_in": (SiteKind.ATTN_Z, Side.ANY),
    "attn.hook_out": (SiteKind.ATTN_OUT, Side.MODULE),
    "ln1_post.hook_out": (SiteKind.ATTN_OUT, Side.NORM),
}
_MODULES: tuple[tuple[re.Pattern[str], SiteKind, Side], ...] = tuple(
    (re.compile(pattern), kind, side)
    for pattern, kind, side in (
        (r"input", SiteKind.RESID_PRE, Side.ANY),
        (r"output", SiteKind.RESID_POST, Side.ANY),
        (r"(?:mlp|feed_forward|block_sparse_moe)\.input", SiteKind.MLP_IN, Side.ANY),
        (r"(?:mlp|feed_forward|block_sparse_moe)(?:\.output)?", SiteKind.MLP_OUT, Side.MODULE),
        (
            r"(?:(?:mlp|feed_forward|ffn)\.(?:down_proj|c_proj|dense_4h_to_h|fc_out|fc2|w2)|fc2)\.input",
            SiteKind.MLP_ACT,
            Side.ANY,
        ),
        (r"pre_feedforward_layernorm\.input", SiteKind.RESID_MID, Side.ANY),
        (r"pre_feedforward_layernorm(?:\.output)?", SiteKind.MLP_IN, Side.ANY),
        (r"post_feedforward_layernorm(?:\.output)?", SiteKind.MLP_OUT, Side.NORM),
        (r"(?:self_attn|attn|attention|self_attention)(?:\.output)?", SiteKind.ATTN_OUT, Side.MODULE),
        (
            r"(?:self_attn|attn|attention|self_attention)\.(?:o_proj|out_proj|c_proj|dense)\.input",
            SiteKind.ATTN_Z,
            Side.ANY,
        ),
    )
)


def read_name(name: str) -> PublishedName | None:
    """Return what a name means, or None when it is no name of a site. Whether the layer exists is not looked at."""
    if own := _OWN.fullmatch(name):
        return PublishedName(SiteKind(own["kind"]), int(own["layer"]))
    if trained := _DICTIONARY_LEARNING.fullmatch(name):
        return PublishedName(SiteKind.RESID_POST, int(trained["layer"]))
    path = _PATH.fullmatch(name)
    found = _read_rest(path["rest"], lens=name.startswith("blocks.")) if path is not None else None
    return PublishedName(found[0], int(path["layer"]), found[1]) if path is not None and found is not None else None


def _read_rest(rest: str | None, *, lens: bool) -> tuple[SiteKind, Side] | None:
    if rest is None:
        return SiteKind.RESID_POST, Side.ANY
    if lens and rest in _LENS:
        return _LENS[rest]
    return next(((kind, side) for pattern, kind, side in _MODULES if pattern.fullmatch(rest)), None)
