"""Places in a model, and the hooks that read or replace the activation there.

A site is written `KIND.LAYER`: `resid_pre`, `attn_z`, `attn_out`, `resid_mid`, `mlp_normalized`, `mlp_in`, `mlp_act`,
`mlp_out` and `resid_post` (see `SiteKind`). The names that published SAEs carry are accepted too (see `site_names`). A
site's wiring is found by the names of modules; `site_check.check_site` tests it on a real forward pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from audit.capture.layer_parts import Place, Tap, find_place
from audit.capture.norms import take_apart
from audit.capture.site_names import SiteKind, read_name
from audit.errors import SiteNotFound

__all__ = ["Site", "SiteKind", "parse_site", "place_of", "read_site", "read_sites", "replaced_site", "run_to_site"]

_ORDER = {kind: number for number, kind in enumerate(SiteKind)}
_WHY_MISSING = {
    SiteKind.RESID_MID: "attention and MLP read the same residual stream, or the norm between them is not known",
    SiteKind.MLP_NORMALIZED: "the MLP has no norm of its own in front of it",
    SiteKind.MLP_ACT: "the MLP is a mixture of experts, or its last linear layer is not known",
}

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Site:
    """A hook site: one activation of one decoder layer, counted from 0."""

    kind: SiteKind
    layer: int

    def __str__(self) -> str:
        """Return the name that configs and records use."""
        return f"{self.kind.value}.{self.layer}"

    @property
    def depth(self) -> tuple[int, int]:
        """Return a key that orders sites as a forward pass of a sequential layer meets them."""
        return self.layer, _ORDER[self.kind]


class _Stop(Exception):  # noqa: N818 - a signal, not an error
    """Ends a forward pass once all sites have been read; the layers above cost nothing."""


def parse_site(name: str, *, layers: int) -> Site:
    """Parse a site name such as `resid_post.15`, or one that SAELens, TransformerLens or sparsify use for it.

    Args:
        name: the name.
        layers: how many decoder layers the model has.

    Raises:
        SiteNotFound: the name is not a site, or the model has no such layer.
    """
    published = read_name(name)
    if published is None or published.layer >= layers:
        raise SiteNotFound(
            item=f"site {name!r}",
            expected=f"{', '.join(SiteKind)}, a dot and a layer from 0 to {layers - 1}, or a published hook's name",
            found=repr(name),
            hint="The SAE may belong to another model.",
        )
    return Site(published.kind, published.layer)


def place_of(layers: nn.ModuleList, site: Site) -> Place:
    """Return the module at a site and what of it is the activation.

    Raises:
        SiteNotFound: the layer has no such activation.
    """
    place = find_place(layers[site.layer], site.kind)
    if place is None:
        raise SiteNotFound(
            item=f"site {str(site)!r}",
            expected=f"a layer with {site.kind.value}",
            found=f"{type(layers[site.layer]).__name__}: "
            f"{_WHY_MISSING.get(site.kind, 'none of its modules is known to compute it')}",
            hint="Use resid_pre or resid_post, which every decoder layer has.",
        )
    return place


def read_site(model: nn.Module, layers: nn.ModuleList, site: Site, inputs: dict[str, Any]) -> Tensor:
    """Run the model up to a site and return the activation there, (batch, position, width) in the model's dtype."""
    return read_sites(model, layers, (site,), inputs)[site]


def read_sites(
    model: nn.Module, layers: nn.ModuleList, sites: Iterable[Site], inputs: dict[str, Any]
) -> dict[Site, Tensor]:
    """Run the model until several sites have been met and return the activation at each.

    Args:
        model: the language model.
        layers: its decoder layers.
        sites: where to read.
        inputs: keyword arguments of the model: input_ids and attention_mask, each (batch, position) int64, and its
            past.

    Returns:
        (batch, position, width) in the model's dtype for each site. The width is the residual stream's, but for attn_z,
        which has that of all heads together, and mlp_act, which has as many as the MLP has neurons. Layers above the
        highest are not run.

    Raises:
        SiteNotFound: a layer has no such activation, or the forward pass went by without meeting it.
    """
    wanted = set(sites)
    caught: dict[Site, Tensor] = {}

    def catch(site: Site) -> Change:
        def hook(value: Tensor) -> Tensor:
            # A copy: Falcon adds the attention's output into the MLP's, in place.
            caught[site] = value if len(caught) + 1 == len(wanted) else value.clone()
            # Which branch of a parallel layer runs first is the model's affair: the pass ends when all are there.
            if len(caught) == len(wanted):
                raise _Stop
            return value

        return hook

    with contextlib.ExitStack() as hooks:
        for site in sorted(wanted, key=lambda site: site.depth):
            hooks.enter_context(_hooked(layers, site, catch(site)))
        hooks.enter_context(contextlib.suppress(_Stop))
        hooks.enter_context(torch.inference_mode())
        model(**inputs)
    if missed := wanted - set(caught):
        raise SiteNotFound(
            item=f"site {str(min(missed, key=lambda site: site.depth))!r}",
            expected="a module that each forward pass runs",
            found="the forward pass ended without it",
            hint="Use resid_pre or resid_post, which every decoder layer has.",
        )
    return caught


def run_to_site(model: nn.Module, layers: nn.ModuleList, site: Site | None, inputs: dict[str, Any]) -> None:
    """Run the model for its side effects, such as filling a cache, up to a site's layer or to the end.

    The whole layer is run unless the site is in front of it: its keys and values are needed whatever is read there.
    """
    if site is None:
        with torch.inference_mode():
            model(**inputs)
    else:
        end = site if site.kind is SiteKind.RESID_PRE else Site(SiteKind.RESID_POST, site.layer)
        read_site(model, layers, end, inputs)


@contextlib.contextmanager
def replaced_site(layers: nn.ModuleList, site: Site, change: Change) -> Iterator[None]:
    """Replace the activation at a site by `change(activation)` for every forward pass in the block.

    At resid_mid the stream itself is changed, not only what the MLP reads of it.

    Args:
        layers: the model's decoder layers.
        site: where to change.
        change: takes and returns (batch, position, width).

    Raises:
        SiteNotFound: the layer has no such activation.
    """
    with contextlib.ExitStack() as hooks:
        if site.kind is SiteKind.RESID_MID:
            stream = _Stream(change)
            hooks.enter_context(_hooked(layers, site, stream.change_input))
            hooks.enter_context(_hooked(layers, Site(SiteKind.MLP_OUT, site.layer), stream.add_difference))
        else:
            hooks.enter_context(_hooked(layers, site, change))
        yield


class _Stream:
    """A change of the residual stream between the branches.

    The layer keeps the unchanged stream for the sum at its end, out of a hook's reach: the MLP's output carries the
    difference there.
    """

    def __init__(self, change: Change) -> None:
        self._change = change
        self._difference: Tensor | None = None

    def change_input(self, residual: Tensor) -> Tensor:
        changed = self._change(residual)
        self._difference = changed - residual
        return changed

    def add_difference(self, mlp_out: Tensor) -> Tensor:
        return mlp_out if self._difference is None else mlp_out + self._difference


@contextlib.contextmanager
def _hooked(layers: nn.ModuleList, site: Site, change: Change) -> Iterator[None]:
    place = place_of(layers, site)
    with contextlib.ExitStack() as hooks:
        if place.flat:
            change = _unflattened(layers[site.layer], change, hooks)
        match place.tap:
            case Tap.INPUT:
                handle = place.module.register_forward_pre_hook(
                    lambda _, args, kwargs: _change_input(args, kwargs, change), with_kwargs=True
                )
            case Tap.OUTPUT:
                handle = place.module.register_forward_hook(lambda _, __, output: _change_output(output, change))
            case Tap.NORMALIZED:
                handle = place.module.register_forward_hook(
                    lambda norm, args, output: _change_normalised(norm, args[0], output, change)
                )
        hooks.callback(handle.remove)
        yield


def _unflattened(layer: nn.Module, change: Change, hooks: contextlib.ExitStack) -> Change:
    """Return a change that sees (batch, position, width) where the layer works on (batch * position, width)."""
    shape: list[int] = []

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        shape[:] = _input_of(args, kwargs).shape[:-1]

    hooks.callback(layer.register_forward_pre_hook(note, with_kwargs=True).remove)
    return lambda value: change(value.reshape(*shape, value.shape[-1])).reshape(value.shape)


def _input_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    value: Tensor = args[0] if args else kwargs["hidden_states"]
    return value


def _change_input(
    args: tuple[Any, ...], kwargs: dict[str, Any], change: Change
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    changed = change(_input_of(args, kwargs))
    return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": changed})


def _change_output(output: Any, change: Change) -> Any:  # noqa: ANN401 - modules return tensors or tuples
    if isinstance(output, tuple):
        return (change(output[0]), *output[1:])
    return change(output)


def _change_normalised(norm: nn.Module, residual: Tensor, output: Tensor, change: Change) -> Tensor:
    affine = take_apart(norm, residual)
    clean = affine.normalise(residual).to(output.dtype)
    changed = change(clean)
    # The difference, not a new sum: an untouched position keeps the norm's own result to the last bit.
    return output if changed is clean else output + ((changed - clean).float() * affine.gain).to(output.dtype)
