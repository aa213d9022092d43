"""Names for places in a model: `resid_pre.LAYER` and `resid_post.LAYER`, and the hooks that read or replace them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from audit.errors import SiteNotFound


class SiteKind(StrEnum):
    """Which activation of a layer."""

    RESID_PRE = "resid_pre"
    RESID_POST = "resid_post"


@dataclass(frozen=True, slots=True)
class Site:
    """A hook site: the residual stream before or after one decoder layer, counted from 0."""

    kind: SiteKind
    layer: int

    def __str__(self) -> str:
        """Return the name that configs and records use."""
        return f"{self.kind.value}.{self.layer}"

    @property
    def depth(self) -> tuple[int, bool]:
        """Return a key that orders sites as a forward pass meets them."""
        return self.layer, self.kind is SiteKind.RESID_POST


class _Stop(Exception):  # noqa: N818 - a signal, not an error
    """Ends a forward pass once the site has been read; the layers above cost nothing."""


def parse_site(name: str, *, layers: int) -> Site:
    """Parse a site name such as `resid_post.15`.

    Args:
        name: the name.
        layers: how many decoder layers the model has.

    Raises:
        SiteNotFound: the name is not a site, or the model has no such layer.
    """
    kind, _, number = name.partition(".")
    known = {member.value for member in SiteKind}
    if kind not in known or not number.isdecimal() or int(number) >= layers:
        raise SiteNotFound(
            item=f"site {name!r}",
            expected=f"{' or '.join(sorted(known))}, a dot and a layer from 0 to {layers - 1}",
            found=name,
            hint="The SAE may belong to another model.",
        )
    return Site(SiteKind(kind), int(number))


def read_site(model: nn.Module, layers: nn.ModuleList, site: Site, inputs: dict[str, Any]) -> Tensor:
    """Run the model up to a site and return the activation there, (batch, position, d_model) in the model's dtype."""
    return read_sites(model, layers, (site,), inputs)[site]


def read_sites(
    model: nn.Module, layers: nn.ModuleList, sites: Iterable[Site], inputs: dict[str, Any]
) -> dict[Site, Tensor]:
    """Run the model up to the highest of several sites and return the activation at each.

    Args:
        model: the language model.
        layers: its decoder layers.
        sites: where to read.
        inputs: keyword arguments of the model: input_ids and attention_mask, each (batch, position) int64, and its
            past.

    Returns:
        (batch, position, d_model) in the model's dtype for each site. Layers above the highest are not run.
    """
    wanted = sorted(set(sites), key=lambda site: site.depth)
    caught: dict[Site, Tensor] = {}

    def catch(site: Site) -> Callable[[Tensor], Tensor]:
        def hook(value: Tensor) -> Tensor:
            caught[site] = value
            if site == wanted[-1]:
                raise _Stop
            return value

        return hook

    with contextlib.ExitStack() as hooks:
        for site in wanted:
            hooks.enter_context(_hooked(layers, site, catch(site)))
        hooks.enter_context(contextlib.suppress(_Stop))
        hooks.enter_context(torch.inference_mode())
        model(**inputs)
    return caught


def run_to_site(model: nn.Module, layers: nn.ModuleList, site: Site | None, inputs: dict[str, Any]) -> None:
    """Run the model for its side effects, such as filling a cache, up to a site or to the end."""
    if site is None:
        with torch.inference_mode():
            model(**inputs)
    else:
        read_site(model, layers, site, inputs)


@contextlib.contextmanager
def replaced_site(layers: nn.ModuleList, site: Site, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace the activation at a site by `change(activation)` for every forward pass in the block.

    Args:
        layers: the model's decoder layers.
        site: where to change.
        change: takes and returns (batch, position, d_model).
    """
    with _hooked(layers, site, change):
        yield


@contextlib.contextmanager
def _hooked(layers: nn.ModuleList, site: Site, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    layer = layers[site.layer]
    if site.kind is SiteKind.RESID_PRE:
        handle = layer.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))
    else:
        handle = layer.register_forward_hook(lambda _, __, output: _apply(output, change))
    try:
        yield
    finally:
        handle.remove()


def _apply(output: Any, change: Callable[[Tensor], Tensor]) -> Any:  # noqa: ANN401 - layers return tensors or tuples
    if isinstance(output, tuple):
        return (change(output[0]), *output[1:])
    return change(output)
