"""Forward passes from a site on: neither the layers below it nor the positions before a change are run again.

What enters the first layer behind the site is kept from the clean pass (`resuming`). Attention is causal: the keys and
values of the positions before the first changed one are those of the clean prompt and are kept too, where the model
keeps its past as keys and values a layer. A model that allows neither is run whole, one that allows one of them runs
without the other.

Several prompts run side by side: in front of a row stands its own past, behind it padding that nothing attends to.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

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

# With fewer tokens two rows of unequal past cannot be made of a prompt.
_FEWEST_TO_TRY = 4
# In nats. Rounding in fp32 came to 6e-5 in a model of 135M; wrong places move a small random model by twice this. Where
# it is exceeded for no reason, rows of one past still run together.
_MIXING_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Stretch:
    """The end of one prompt, which runs; what precedes it is kept from another pass.

    Args:
        ids: (n,) int64, the tokens that run.
        past: what precedes them.
        entering: (n, width), what enters layer `entry` when nothing is changed; None where all layers run.
    """

    ids: Tensor
    past: SharedPrefix
    entering: Tensor | None


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
        mixes: whether rows with pasts of unequal length run side by side.
    """

    def __init__(self, model: LoadedModel, site: Site, ids: Tensor, *, highest: Site) -> None:
        self._model = model
        self._last_mlp: nn.Module | None = None
        taken = inspect.signature(model.model.forward).parameters
        self._last_only = "logits_to_keep" in taken
        self.keeps_past = keeps_plain_cache(model)
        self.mixes = False
        self.entry, self.resumes = 0, False
        following = Site(SiteKind.RESID_PRE, site.layer + 1)
        self.site = following if site.kind is SiteKind.RESID_POST else site
        entering = Site(SiteKind.RESID_PRE, self.site.layer)
        whole = Stretch(ids, NO_PREFIX, None)
        (seen,) = self.clean([whole], sites={site, self.site, entering})
        if not torch.equal(seen.activations[site], seen.activations[self.site]):
            # Something of the model's own stands between two layers.
            self.site, entering = site, Site(SiteKind.RESID_PRE, site.layer)
            (seen,) = self.clean([whole], sites={entering})
        run = partial(self._log_probabilities, [whole])
        self.resumes = can_resume(model.layers, entering.layer, run, seen.activations[entering][None])
        if self.resumes:
            self.entry = entering.layer
        self.entering = entering
        if highest.layer < len(model.layers) - 1:
            self._last_mlp = self._find_last_mlp(run)
        if self.keeps_past and "position_ids" in taken and len(ids) >= _FEWEST_TO_TRY:
            self.mixes = self._can_mix(ids, seen)

    def clean(self, rows: Sequence[Stretch], *, sites: Iterable[Site]) -> tuple[CleanPass, ...]:
        """Run untouched prompts side by side, all with a past of the same length.

        Args:
            rows: one a prompt.
            sites: which activations to return.
        """
        seen: dict[Site, Tensor] = {}

        def note(site: Site, activation: Tensor) -> Tensor:
            # Cloned: some models add to an activation in place further on.
            seen[site] = activation.clone()
            return activation

        cache = self._cache([row.past for row in rows]) if self.keeps_past else None
        with torch.no_grad():
            logits = self._run(rows, cache, {site: partial(note, site) for site in sites})
        return tuple(
            CleanPass(
                logits[n],
                {site: value[n, : len(row.ids)].clone() for site, value in seen.items()},
                NO_PREFIX if cache is None else self._past(cache, n, row.past.length + len(row.ids)),
            )
            for n, row in enumerate(rows)
        )

    def changed(self, rows: Sequence[Stretch], *, change: Change, observe: Mapping[Site, Change]) -> Tensor:
        """Return (rows, vocabulary) logits at the last position of each row, the activation at the site changed.

        Args:
            rows: one a change. Their pasts have one length, unless `mixes`.
            change: takes and returns the activation at the site, (rows, positions, width); a row begins at 0, and what
                stands behind its end is padding.
            observe: site -> what is called with the activation there; it returns the activation.
        """
        cache = self._cache([row.past for row in rows]) if any(row.past.length for row in rows) else None
        return self._run(rows, cache, {self.site: change, **observe})

    def _run(self, rows: Sequence[Stretch], cache: DynamicCache | None, changes: Mapping[Site, Change]) -> Tensor:
        model = self._model
        lengths = torch.tensor([len(row.ids) for row in rows])
        starts = torch.tensor([row.past.length for row in rows])
        width, before = int(lengths.max()), int(starts.max())
        ids = torch.stack([functional.pad(row.ids, (0, width - len(row.ids))) for row in rows])
        columns = torch.arange(before + width)
        mask = (columns >= before - starts[:, None]) & (columns < before + lengths[:, None])
        last = lengths - 1
        more: dict[str, Tensor | int] = {}
        if bool((starts != before).any()):
            places = starts[:, None] + torch.arange(width)
            # Padding gets the place of the last token: there is none behind it in models that learn their places.
            more["position_ids"] = places.minimum((starts + last)[:, None]).to(model.device)
        kept, where = torch.unique(last, return_inverse=True)
        if self._last_only:
            more["logits_to_keep"] = 1 if len(kept) == 1 else kept.to(model.device)
        with contextlib.ExitStack() as hooks:
            if rows[0].entering is not None:
                hooks.enter_context(resumed_at(model.layers, self.entry, self._entering(rows, width)))
            for site, change in changes.items():
                hooks.enter_context(replaced_site(model.layers, site, change))
            # Only where nothing else of the last layer is read.
            if self._last_mlp is not None and all(site.layer < len(model.layers) - 1 for site in changes):
                hooks.enter_context(_at_the_last_position(self._last_mlp, last.to(model.device)))
            output = model.model(
                input_ids=ids,
                attention_mask=mask.to(device=model.device, dtype=torch.int64),
                past_key_values=cache,
                use_cache=cache is not None,
                **more,
            )
        found = where if self._last_only else last
        logits: Tensor = output.logits[torch.arange(len(rows)), found.to(model.device)]
        return logits

    def _cache(self, pasts: Sequence[SharedPrefix]) -> DynamicCache:
        cache = DynamicCache(config=self._model.model.config)
        before = max(past.length for past in pasts)
        runs = [(same[0], len(same)) for _, own in groupby(pasts, key=id) for same in [list(own)]]
        for number, layer in enumerate(cache.layers):
            pairs = [
                [functional.pad(one, (0, 0, before - past.length, 0)).expand(count, -1, -1, -1) for one in own]
                for past, count in runs
                for own in past.cache[number : number + 1]
            ]
            if pairs:
                # Views where all rows have one past: the model joins them with its own, which copies them once.
                keys, values = (parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*pairs, strict=True))
                layer.lazy_initialization(keys, values)
                layer.keys, layer.values = keys, values
        return cache

    def own_past(self, past: SharedPrefix) -> SharedPrefix:
        """Return a past without the layers that are skipped here; a pass for several sites may have run them."""
        if not past.length:
            return past
        # A skipped layer has no keys of its own, but the model asks the first one how long its past is.
        none = past.cache[-1][0].new_zeros(1, 1, past.length, 1)
        return SharedPrefix(
            past.length, tuple((none, none) if n < self.entry else pair for n, pair in enumerate(past.cache))
        )

    def _past(self, cache: DynamicCache, row: int, length: int) -> SharedPrefix:
        own = slice(row, row + 1)
        # Cloned: a part of a batch would keep all of it.
        pairs = [(one.keys[own, :, :length].clone(), one.values[own, :, :length].clone()) for one in cache.layers]
        return self.own_past(SharedPrefix(length, tuple(pairs)))

    def _entering(self, rows: Sequence[Stretch], width: int) -> Tensor:
        parts = [row.entering for row in rows if row.entering is not None]
        return torch.stack([functional.pad(part, (0, 0, 0, width - len(part))) for part in parts])

    def _can_mix(self, ids: Tensor, seen: CleanPass) -> bool:
        """Tell whether rows with unequal pasts and ends say what they say alone, by trying it."""
        entering = seen.activations[self.entering] if self.resumes else None

        def end(start: int, stop: int) -> Stretch:
            below = None if entering is None else entering[start:stop]
            return Stretch(ids[start:stop], upto(seen.past, start), below)

        count = len(ids)
        rows = [end(count // 2, count), end(count // 4, count - 1)]
        alone = torch.cat([self._log_probabilities([Stretch(row, NO_PREFIX, None)]) for row in (ids, ids[:-1])])
        try:
            with torch.no_grad():
                mixed = torch.log_softmax(self._run(rows, self._cache([row.past for row in rows]), {}).double(), dim=-1)
        except MISSING as error:
            if is_out_of_memory(error):
                raise
            return False
        return float((mixed - alone).abs().max()) <= _MIXING_TOLERANCE

    def _find_last_mlp(self, run: Callable[[], Tensor]) -> nn.Module | None:
        """Return the last layer's MLP where the answer needs it at the last position only: no attention follows it."""
        parts = find_parts(self._model.layers[-1])
        mlp = parts.mlp_first if parts.mlp_first is parts.mlp_last else None
        if mlp is None:
            return None
        whole = run()
        try:
            with _at_the_last_position(mlp, None):
                alone = run()
        except MISSING as error:
            if is_out_of_memory(error):
                raise
            return None
        return mlp if float((alone - whole).abs().max()) <= TOLERANCE else None

    def _log_probabilities(self, rows: Sequence[Stretch]) -> Tensor:
        with torch.no_grad():
            return torch.log_softmax(self._run(rows, None, {}).double(), dim=-1)


@contextlib.contextmanager
def _at_the_last_position(mlp: nn.Module, last: Tensor | None) -> Iterator[None]:
    """Run a module that works position by position at the last one of each row only; at the others it gives 0.

    Args:
        mlp: the module.
        last: (rows,) int64, the last position of each row; None: that of all of them.
    """
    own = mlp.forward

    def forward(hidden: Tensor) -> Tensor:
        rows = torch.arange(len(hidden), device=hidden.device)
        places = torch.full_like(rows, hidden.shape[1] - 1) if last is None else last
        found = own(hidden[rows, places][:, None])[:, 0]
        padded: Tensor = found.new_zeros(*hidden.shape[:2], found.shape[-1]).index_put((rows, places), found)
        return padded

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
