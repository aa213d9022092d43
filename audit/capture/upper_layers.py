"""Forward passes from a site on: neither the layers below it nor the positions before a change are run again.

What enters the first layer behind the site is kept from the clean pass (`resuming`). Attention is causal: the keys and
values of the positions before the first changed one are those of the clean prompt and are kept too, where the model
keeps its past as keys and values a layer. A model that allows neither is run whole, one that allows one of them runs
without the other.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache

from audit.capture.batches import NO_PREFIX, SharedPrefix, keeps_plain_cache
from audit.capture.halving import is_out_of_memory
from audit.capture.layer_parts import find_parts
from audit.capture.model import LoadedModel
from audit.capture.resuming import MISSING, TOLERANCE, can_resume, resumed_at
from audit.capture.sites import Change, Site, SiteKind, replaced_site


@dataclass(frozen=True, slots=True)
class CleanPass:
    """What an untouched pass over one prompt left behind.

    Args:
        logits: (vocabulary,) at the last position, in the model's dtype.
        activations: site -> (positions, width), from the first position that was run.
        past: keys and values of the whole prompt in the layers that run again; none where the model keeps no such past.
    """

    logits: Tensor
    activations: Mapping[Site, Tensor]
    past: SharedPrefix


class UpperLayers:
    """The layers of a model that run again when the activation at a site changes.

    Args:
        model: the model.
        site: where the activation will be changed.
        ids: (positions,) int64, a prompt to try on what can be left out.
        highest: the highest site that will be read or changed.

    Attributes:
        site: where changes are made: what reads the residual stream behind a layer is the layer after it.
        entry: the first layer that runs again, 0 where the model must be run whole.
        resumes: whether the layers below `entry` are skipped.
        keeps_past: whether positions before a change are skipped.
    """

    def __init__(self, model: LoadedModel, site: Site, ids: Tensor, *, highest: Site) -> None:
        self._model = model
        self._last_mlp: nn.Module | None = None
        self._last_only = "logits_to_keep" in inspect.signature(model.model.forward).parameters
        self.keeps_past = keeps_plain_cache(model)
        self.entry, self.resumes = 0, False
        following = Site(SiteKind.RESID_PRE, site.layer + 1)
        self.site = following if site.kind is SiteKind.RESID_POST else site
        entering = Site(SiteKind.RESID_PRE, self.site.layer)
        seen = self.clean(ids, NO_PREFIX, sites={site, self.site, entering}).activations
        if not torch.equal(seen[site], seen[self.site]):
            # Something of the model's own stands between two layers.
            self.site, entering = site, Site(SiteKind.RESID_PRE, site.layer)
            seen = self.clean(ids, NO_PREFIX, sites={entering}).activations
        run = partial(self._log_probabilities, ids)
        self.resumes = can_resume(model.layers, entering.layer, run, seen[entering][None])
        if self.resumes:
            self.entry = entering.layer
        self.entering = entering
        if highest.layer < len(model.layers) - 1:
            self._last_mlp = self._find_last_mlp(run)

    def clean(
        self, ids: Tensor, before: SharedPrefix, *, sites: Iterable[Site], entering: Tensor | None = None
    ) -> CleanPass:
        """Run one untouched prompt.

        Args:
            ids: (positions,) int64, the tokens behind what the prefix holds.
            before: what precedes them.
            sites: which activations to return.
            entering: (positions, width), what enters layer `entry`, or None to run all layers.
        """
        seen: dict[Site, Tensor] = {}

        def note(site: Site, activation: Tensor) -> Tensor:
            # Cloned: some models add to an activation in place further on.
            seen[site] = activation.clone()
            return activation

        cache = self._cache(before, 1) if self.keeps_past else None
        with torch.no_grad():
            logits = self._run(
                ids[None], before.length, cache, None if entering is None else entering[None],
                {site: partial(note, site) for site in sites},
            )  # fmt: skip
        past = NO_PREFIX if cache is None else self._past(cache, before.length + len(ids))
        return CleanPass(logits[0], {site: value[0] for site, value in seen.items()}, past)

    def changed(
        self,
        ids: Tensor,
        past: SharedPrefix,
        *,
        entering: Tensor | None,
        change: Change,
        rows: int,
        observe: Mapping[Site, Change] | None = None,
    ) -> Tensor:
        """Return (rows, vocabulary) logits at the last position, the activation at the site changed.

        Args:
            ids: (positions,) int64, the tokens behind the past.
            past: the clean keys and values of the positions before them; see `upto`.
            entering: (positions, width), what enters layer `entry` when nothing is changed; None where all layers run.
            change: takes and returns the activation at the site, (rows, positions, width).
            rows: how many changes are made side by side.
            observe: site -> what is called with the activation there; it returns the activation.
        """
        cache = self._cache(past, rows) if past.length else None
        below = None if entering is None else entering.expand(rows, *entering.shape)
        changes = {self.site: change, **(observe or {})}
        return self._run(ids.expand(rows, -1), past.length, cache, below, changes)

    def _run(
        self,
        ids: Tensor,
        before: int,
        cache: DynamicCache | None,
        entering: Tensor | None,
        changes: Mapping[Site, Change],
    ) -> Tensor:
        model = self._model
        mask = torch.ones(ids.shape[0], before + ids.shape[1], dtype=torch.int64, device=ids.device)
        keep = {"logits_to_keep": 1} if self._last_only else {}
        with contextlib.ExitStack() as hooks:
            if entering is not None:
                hooks.enter_context(resumed_at(model.layers, self.entry, entering))
            for site, change in changes.items():
                hooks.enter_context(replaced_site(model.layers, site, change))
            # Only where nothing else of the last layer is read.
            if self._last_mlp is not None and all(site.layer < len(model.layers) - 1 for site in changes):
                hooks.enter_context(_at_the_last_position(self._last_mlp))
            output = model.model(
                input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=cache is not None, **keep
            )
        logits: Tensor = output.logits[:, -1]
        return logits

    def _cache(self, past: SharedPrefix, rows: int) -> DynamicCache:
        cache = DynamicCache(config=self._model.model.config)
        for layer, (keys, values) in zip(cache.layers, past.cache, strict=False):
            # Views: the model joins them with its own keys and values, which copies them once.
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)
        return cache

    def _past(self, cache: DynamicCache, length: int) -> SharedPrefix:
        like = cache.layers[-1].keys
        # A skipped layer has no keys of its own, but the model asks the first one how long its past is.
        none = like.new_zeros(1, 1, length, 1)
        pairs = [(none, none) if n < self.entry else (own.keys, own.values) for n, own in enumerate(cache.layers)]
        return SharedPrefix(length, tuple(pairs))

    def _find_last_mlp(self, run: Callable[[], Tensor]) -> nn.Module | None:
        """Return the last layer's MLP where the answer needs it at the last position only: no attention follows it."""
        parts = find_parts(self._model.layers[-1])
        mlp = parts.mlp_first if parts.mlp_first is parts.mlp_last else None
        if mlp is None:
            return None
        whole = run()
        try:
            with _at_the_last_position(mlp):
                alone = run()
        except MISSING as error:
            if is_out_of_memory(error):
                raise
            return None
        return mlp if float((alone - whole).abs().max()) <= TOLERANCE else None

    def _log_probabilities(self, ids: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.log_softmax(self._run(ids[None], 0, None, None, {}).double(), dim=-1)


@contextlib.contextmanager
def _at_the_last_position(mlp: nn.Module) -> Iterator[None]:
    """Run a module that works position by position at the last one only; at the others it gives 0."""
    own = mlp.forward

    def forward(hidden: Tensor) -> Tensor:
        last = own(hidden[:, -1:])
        return functional.pad(last, (0, 0, hidden.shape[1] - 1, 0))

    kept = mlp.__dict__.get("forward")
    mlp.forward = forward
    try:
        yield
    finally:
        del mlp.__dict__["forward"]
        if kept is not None:
            mlp.forward = kept


def upto(past: SharedPrefix, length: int) -> SharedPrefix:
    """Return the first positions of a past; nothing where there is none."""
    if not past.length:
        return NO_PREFIX
    return SharedPrefix(length, tuple((keys[:, :, :length], values[:, :, :length]) for keys, values in past.cache))
