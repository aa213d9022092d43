"""Test a site's wiring on a real forward pass before anything is measured there.

Bloom adds the residual inside its branches and Granite scales what they add: there the output of the MLP module is not
what the MLP adds to the residual stream, and an SAE read at `mlp_out` would be judged on another quantity without any
sign of it. The sums that define the sites are therefore computed once, on a few tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from audit.capture.layer_parts import Flow, find_parts
from audit.capture.norms import take_apart
from audit.capture.site_names import Side, SiteKind, read_name
from audit.capture.sites import Site, read_sites
from audit.errors import SiteNotFound

# transformers' model types whose every site is tested in this project, in all four wirings.
TESTED = frozenset(
    {"falcon", "gemma", "gemma2", "gemma3", "gemma3_text", "gpt2", "gpt_neox", "gptj", "llama", "mistral", "mixtral"}
    | {"olmo", "olmo2", "opt", "phi", "phi3", "qwen2", "qwen3", "stablelm"}
)
_TOKENS = 8
# Beyond what rounding explains, relative to what the branches add.
_TOLERANCE = 1e-3
# Where rounding alone may hide this share of what the branches add, the sum proves nothing.
_INCONCLUSIVE = 0.25


@dataclass(frozen=True, slots=True)
class _Sum:
    """A claim: `whole` is `base` plus the `added` branches."""

    whole: SiteKind
    base: SiteKind
    added: tuple[SiteKind, ...]

    def __str__(self) -> str:
        return f"{self.whole} = {' + '.join((self.base, *self.added))}"


_ATTENTION_ADDS = _Sum(SiteKind.RESID_MID, SiteKind.RESID_PRE, (SiteKind.ATTN_OUT,))
_MLP_ADDS = _Sum(SiteKind.RESID_POST, SiteKind.RESID_MID, (SiteKind.MLP_OUT,))
_BOTH_ADD = _Sum(SiteKind.RESID_POST, SiteKind.RESID_PRE, (SiteKind.ATTN_OUT, SiteKind.MLP_OUT))


def check_site(model: nn.Module, layers: nn.ModuleList, site: Site, *, name: str | None = None) -> int:
    """Run a few tokens and return the width of the activation at a site that is what its name says.

    The sums resid_mid = resid_pre + attn_out and resid_post = resid_mid + mlp_out are tested for the sites in them (one
    sum in parallel layers); for mlp_normalized, that the norm is gain times it plus bias; for mlp_act, that the last
    linear layer makes mlp_out of it. OPT with its norms behind the sums is taken as known. The other sites are what a
    module reads or gives, by definition, and are read once.

    Args:
        model: the language model.
        layers: its decoder layers.
        site: where an instrument reads or writes.
        name: the name under which the site was published, if it was another one. It is refused where it means the
            output of a module, and a norm stands between the module and the residual stream, or the other way round.

    Returns:
        The last dimension of the activation, to compare with the instrument's width.

    Raises:
        SiteNotFound: the layer has no such activation, or a sum does not hold.
    """
    _refuse_other_side(layers, site, name)
    sums = _sums(layers, site)
    needed = {site, *(Site(kind, site.layer) for claim in sums for kind in (claim.whole, claim.base, *claim.added))}
    if site.kind is SiteKind.MLP_NORMALIZED:
        needed.add(Site(SiteKind.MLP_IN, site.layer))
    if site.kind is SiteKind.MLP_ACT:
        needed.add(Site(SiteKind.MLP_OUT, site.layer))
    values = read_sites(model, layers, needed, _tokens(model))
    by_kind = {key.kind: value[0] for key, value in values.items()}
    for claim in sums:
        _require_sum(model, site, claim, by_kind)
    if site.kind is SiteKind.MLP_NORMALIZED:
        _require_affine(layers, site, by_kind)
    if site.kind is SiteKind.MLP_ACT:
        _require_projection(layers, site, by_kind)
    return int(values[site].shape[-1])


def _refuse_other_side(layers: nn.ModuleList, site: Site, name: str | None) -> None:
    published = read_name(name) if name is not None else None
    if published is None or published.side is Side.ANY:
        return
    parts = find_parts(layers[site.layer])
    norm = parts.mlp_post_norm if site.kind is SiteKind.MLP_OUT else parts.attention_norm
    if (norm is None) is (published.side is Side.MODULE):
        return
    found = f"no norm behind that module in {type(layers[site.layer]).__name__}"
    if norm is not None:
        found = f"a {type(norm).__name__} between that module and the residual stream"
    raise SiteNotFound(
        item=f"site {name!r}",
        expected=f"a name of {site}, what the branch adds to the residual stream",
        found=found,
        hint="SAEs of a module's own output are not supported where a norm follows it; check the name.",
    )


def _sums(layers: nn.ModuleList, site: Site) -> Sequence[_Sum]:
    flow = find_parts(layers[site.layer]).flow
    if flow is Flow.NORMALISED:
        return ()
    if flow is Flow.PARALLEL:
        return (_BOTH_ADD,) if site.kind in _BOTH_ADD.added else ()
    return tuple(
        claim for claim in (_ATTENTION_ADDS, _MLP_ADDS) if site.kind in claim.added or site.kind is SiteKind.RESID_MID
    )


def _tokens(model: nn.Module) -> dict[str, Any]:
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    ids = (torch.arange(_TOKENS, device=embedding.weight.device) + 100) % embedding.num_embeddings
    return {"input_ids": ids[None], "attention_mask": torch.ones_like(ids[None]), "use_cache": False}


def _require_sum(model: nn.Module, site: Site, claim: _Sum, values: dict[SiteKind, Tensor]) -> None:
    eps = torch.finfo(values[claim.whole].dtype).eps
    whole, base = values[claim.whole].float(), values[claim.base].float()
    added = sum((values[kind].float() for kind in claim.added), start=torch.zeros_like(base))
    branch = added.norm(dim=-1)
    rounding = eps * torch.maximum(whole.norm(dim=-1), base.norm(dim=-1))
    error = (whole - base - added).norm(dim=-1)
    # The median position: a first token with a huge norm has huge rounding, and says nothing about the others.
    off = float(((error - rounding) / branch).median())
    if not off <= _TOLERANCE:
        _refuse(site, claim, f"a difference of {off:.1%} of what is added")
    config: Any = model.config
    if float((rounding / branch).median()) > _INCONCLUSIVE and config.model_type not in TESTED:
        _refuse(site, claim, "rounding larger than what is added, in an architecture that was never tested")


def _require_affine(layers: nn.ModuleList, site: Site, values: dict[SiteKind, Tensor]) -> None:
    norm = find_parts(layers[site.layer]).mlp_norm
    found, expected = values[SiteKind.MLP_NORMALIZED], values[SiteKind.MLP_IN]
    affine = take_apart(norm, expected) if norm is not None else None
    rebuilt = found.float() * affine.gain + affine.bias if affine is not None else found.float()
    limit = 8 * torch.finfo(expected.dtype).eps + _TOLERANCE
    if not float((rebuilt - expected.float()).norm() / expected.float().norm()) <= limit:
        raise SiteNotFound(
            item=f"site {str(site)!r}",
            expected="a LayerNorm or RMSNorm whose output the MLP reads",
            found=f"{type(norm).__name__}, whose output is not the normalised stream times a gain plus a bias",
            hint="Use `mlp_in`, what the MLP reads, if the SAE was trained there.",
        )


def _require_projection(layers: nn.ModuleList, site: Site, values: dict[SiteKind, Tensor]) -> None:
    parts = find_parts(layers[site.layer])
    steps = [module for module in (parts.neurons, parts.mlp_post_norm) if module is not None]
    rebuilt, expected = values[SiteKind.MLP_ACT], values[SiteKind.MLP_OUT]
    with torch.inference_mode():
        for module in steps:
            rebuilt = module(rebuilt)
    limit = 8 * torch.finfo(expected.dtype).eps + _TOLERANCE
    fits = rebuilt.shape == expected.shape
    if not fits or not float((rebuilt - expected).float().norm() / expected.float().norm()) <= limit:
        raise SiteNotFound(
            item=f"site {str(site)!r}",
            expected="an MLP whose last linear layer makes its output of its neurons",
            found=f"{type(layers[site.layer]).__name__}, whose MLP gives something else or more",
            hint="Use `mlp_in` or `mlp_out`; the neurons of this model cannot be read.",
        )


def _refuse(site: Site, claim: _Sum, found: str) -> None:
    raise SiteNotFound(
        item=f"site {str(site)!r}",
        expected=f"{claim}, as in all supported architectures",
        found=found,
        hint="This model's branches add or scale the residual stream themselves; use resid_pre or resid_post.",
    )
