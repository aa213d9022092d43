"""Change the residual stream through an SAE's features and see what the model answers: exact, many at a time.

x' = x - sum over t of max(0, a(t) - ceiling) d(t) lowers a feature and leaves everything else of the activation as it
was, the SAE's own error included (Marks et al. 2024, arXiv 2403.19647, keep the error as a node of its own). Nothing is
estimated here but by `gradient`, which is for choosing what to measure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.capture.batches import NO_PREFIX, SharedPrefix, share_prefix
from audit.capture.change_groups import ChangeGroup, partition
from audit.capture.halving import Say, run_halved
from audit.capture.held_prompts import Delta, Fired, Held, combined, fire, not_finite
from audit.capture.model import LoadedModel
from audit.capture.prompts import OutcomeTokens, TokenisedPrompt
from audit.capture.runner import Station
from audit.capture.sites import Change, Site, SiteKind
from audit.capture.upper_layers import CleanPass, UpperLayers, upto
from audit.errors import ConfigError, SaeInvalid, ShapeMismatch

__all__ = ["Delta", "Held", "Interventions", "Responses", "combined", "hold_together"]

# Keys, values and answers of clean prompts that are kept for the next call; others are computed again.
_KEPT_BYTES = 1 << 28
# A backward pass takes about twice the work of its forward pass.
_GRADIENT_WORK = 3


@dataclass(frozen=True, slots=True)
class Responses:
    """What the model answers under each of n changes of one prompt.

    Args:
        outcome: (n,) float64, logit of the target minus logit of the foil at the last position, in nats.
        kl: (n,) float64, KL(untouched || changed) of the next-token distribution at the last position, in nats.
        downstream: (n, latents) float32, the largest activation of each feature of the later SAE over the positions
            that were kept untouched; None where there is no such SAE.
    """

    outcome: NDArray[np.float64]
    kl: NDArray[np.float64]
    downstream: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class _Clean:
    past: SharedPrefix
    log_probabilities: Tensor

    @property
    def size_bytes(self) -> int:
        tensors = [self.log_probabilities, *(tensor for pair in self.past.cache for tensor in pair)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Interventions:
    """Measures what changes at one site do to the answers of a model.

    Args:
        model: the audited model.
        station: the site with the one SAE that reads and writes there.
        downstream: a later site with one SAE whose features are read too, or None.
        batch_tokens: positions a batch; halved where memory does not allow it.
        say: called with one line when a batch did not fit into memory.

    Raises:
        ConfigError: the site has no later layers, or the second SAE stands before the first.
        SaeInvalid: the SAE is a transcoder, or the station has not exactly one.
    """

    def __init__(
        self,
        model: LoadedModel,
        station: Station,
        *,
        downstream: Station | None,
        batch_tokens: int,
        say: Say = lambda _: None,
    ) -> None:
        _require_place(model, station, downstream)
        self._model = model
        self._station = station
        self._downstream = downstream
        self._batch_tokens = batch_tokens
        self._say = say
        self._upper: UpperLayers | None = None
        self._prefix = NO_PREFIX
        self._prefix_ids: tuple[int, ...] = ()
        self._clean: OrderedDict[tuple[int, ...], _Clean] = OrderedDict()
        self._work = 0.0
        self._held_prompts = 0
        self._held_tokens = 0

    @property
    def spent(self) -> float:
        """Return the work so far in forward-equivalents.

        One is the work of all layers on one prompt of average length over the prompts held so far. Work is counted as
        layers times positions that had to run, padding and the trial passes of the first call left out, a gradient as
        three passes: it depends on what was asked for, not on the machine or on how it was batched.
        """
        if not self._held_prompts:
            return 0.0
        return self._work / (len(self._model.layers) * self._held_tokens / self._held_prompts)

    def hold(self, prompts: Sequence[tuple[TokenisedPrompt, OutcomeTokens]]) -> tuple[Held, ...]:
        """Run untouched prompts and keep what interventions on them need, in the order given.

        Raises:
            EvidenceError: NaN or infinity, or a prompt without a kept position.
        """
        (held,) = hold_together((self,), prompts)
        return held

    def run(self, held: Held, deltas: Sequence[Delta]) -> Responses:
        """Return the exact answers under each change, in the order given. A change of nothing costs nothing.

        Raises:
            EvidenceError: an answer is NaN or infinite.
            ShapeMismatch: a change lies outside the positions that run.
            TooLarge: one changed prompt alone does not fit into memory.
        """
        count = len(deltas)
        clean = held.downstream
        responses = Responses(
            outcome=np.full(count, held.outcome),
            kl=np.zeros(count),
            downstream=None if clean is None else np.repeat(clean[None], count, axis=0),
        )
        if all(delta.empty for delta in deltas):
            return responses
        past = self._clean_of(held)
        for group in self._groups(held, deltas):
            for part in run_halved(group, lambda part: (part, self._answer(part, past)), say=self._say):
                own, answer = part
                places = list(own.numbers)
                responses.outcome[places], responses.kl[places] = answer.outcome, answer.kl
                if responses.downstream is not None:
                    responses.downstream[places] = answer.downstream
        return responses

    def gradient(self, held: Held, deltas: Sequence[Delta]) -> Tensor:
        """Return d outcome / d activation at the site, at x + delta for each change.

        With f the outcome, g its gradient and deltas as they are *added* (a lowering points against its feature):

        - one feature: f(x + delta) - f(x) is about delta . g(x); what the feature does is minus that.
        - a pair: I = f(x) - f(x + delta_i) - f(x + delta_j) + f(x + delta_i + delta_j), the Harsanyi dividend with
          f(x) as y11, is about delta_j . [g(x + delta_i) - g(x)]: exact in delta_i, of first order in delta_j.

        Returns:
            (n, positions, d) float32: at kept positions; 0 elsewhere, where neither `lowering` nor `removing_error`
            adds anything.

        Raises:
            EvidenceError: the gradient is NaN or infinite.
        """
        width = held.fired.source.shape[1]
        gradients = torch.zeros(len(deltas), held.positions, width)
        past = self._clean_of(held)
        first = int(held.fired.kept[0])
        start = min([first, *(self._first(held, delta) for delta in deltas)])
        start = start if past.past.length else held.prefix.length
        size = max(1, self._batch_tokens // (held.positions - start))
        self._work += _GRADIENT_WORK * len(deltas) * self._layers_run * (held.positions - start)
        for begin in range(0, len(deltas), size):
            numbers = tuple(range(begin, min(begin + size, len(deltas))))
            group = ChangeGroup(held, numbers, tuple(deltas[n] for n in numbers), start)
            for own, part in run_halved(group, lambda part: (part, self._gradient(part, past)), say=self._say):
                kept = held.fired.kept.cpu()
                gradients[torch.tensor(own.numbers)[:, None], kept] = part[:, kept - start]
        return gradients

    def take(self, prompt: TokenisedPrompt, tokens: OutcomeTokens, prefix: SharedPrefix, seen: CleanPass) -> Held:
        """Keep of an untouched pass what interventions at this site need; `hold_together` makes the pass."""
        upper, later = self.upper_layers(prompt), self._downstream
        held = Held(
            prompt=prompt,
            tokens=tokens,
            outcome=float(self._outcome(seen.logits[None], tokens, prompt)[0]),
            fired=fire(self._station, seen.activations[upper.site], prompt, prefix.length),
            later=None if later is None else fire(later, seen.activations[later.site], prompt, prefix.length),
            entering=seen.activations[upper.entering] if upper.resumes else None,
            prefix=prefix,
        )
        self._held_prompts += 1
        self._held_tokens += held.positions
        self._keep(held, _Clean(seen.past, torch.log_softmax(seen.logits.double(), dim=-1)))
        return held

    def sites(self, prompt: TokenisedPrompt) -> set[Site]:
        """Return what an untouched pass has to read."""
        upper = self.upper_layers(prompt)
        later = set() if self._downstream is None else {self._downstream.site}
        return {upper.site, upper.entering} | later

    def clean(self, prompt: TokenisedPrompt, prefix: SharedPrefix, sites: set[Site]) -> CleanPass:
        """Run an untouched prompt behind a prefix and return what its sites read."""
        ids = torch.tensor(prompt.ids[prefix.length :], device=self._model.device)
        self._work += len(self._model.layers) * len(ids)
        return self.upper_layers(prompt).clean(ids, prefix, sites=sites)

    def upper_layers(self, prompt: TokenisedPrompt) -> UpperLayers:
        """Return the layers that run again; the first prompt is the one on which that is tried."""
        if self._upper is None:
            ids = torch.tensor(prompt.ids, device=self._model.device)
            later = self._downstream
            highest = self._station.site if later is None else later.site
            self._upper = UpperLayers(self._model, self._station.site, ids, highest=highest)
        return self._upper

    @property
    def _layers_run(self) -> int:
        entry = 0 if self._upper is None else self._upper.entry
        return len(self._model.layers) - entry

    def common_prefix(self, prompts: Sequence[TokenisedPrompt]) -> SharedPrefix:
        """Return what all prompts begin with, that of the prompts before where these begin alike."""
        length = self._prefix.length
        fits = all(p.ids[:length] == self._prefix_ids and not any(p.content[:length]) for p in prompts)
        if not length or not fits:
            self._prefix = share_prefix(self._model, prompts, upto=None)
            self._prefix_ids = prompts[0].ids[: self._prefix.length]
            self._work += len(self._model.layers) * self._prefix.length
        return self._prefix

    def _clean_of(self, held: Held) -> _Clean:
        found = self._clean.get(held.prompt.ids)
        if found is not None:
            self._clean.move_to_end(held.prompt.ids)
            return found
        upper = self.upper_layers(held.prompt)
        ids = torch.tensor(held.prompt.ids[held.prefix.length :], device=self._model.device)
        again = upper.clean(ids, held.prefix, sites=(), entering=held.entering)
        self._work += self._layers_run * len(ids)
        return self._keep(held, _Clean(again.past, torch.log_softmax(again.logits.double(), dim=-1)))

    def _keep(self, held: Held, clean: _Clean) -> _Clean:
        self._clean[held.prompt.ids] = clean
        while len(self._clean) > 1 and sum(one.size_bytes for one in self._clean.values()) > _KEPT_BYTES:
            self._clean.popitem(last=False)
        return clean

    def _first(self, held: Held, delta: Delta) -> int:
        """Return the first position that a change makes run again."""
        if delta.empty:
            return held.positions - 1
        first, last = int(delta.positions.min()), int(delta.positions.max())
        if first < held.prefix.length or last >= held.positions:
            raise ShapeMismatch(
                item=f"change of {held.prompt.label}",
                expected=f"positions from {held.prefix.length} to {held.positions - 1}",
                found=f"{first} to {last}",
                hint="What prompts share in front of their own words is not changed.",
            )
        return first if self.upper_layers(held.prompt).keeps_past else held.prefix.length

    def _groups(self, held: Held, deltas: Sequence[Delta]) -> list[ChangeGroup]:
        starts = {n: self._first(held, delta) for n, delta in enumerate(deltas) if not delta.empty}
        self._work += self._layers_run * sum(held.positions - start for start in starts.values())
        # Ascending lengths: the last of a group is its longest and decides how many positions the group runs.
        order = sorted(starts, key=lambda n: (-starts[n], n))
        parts = partition([held.positions - starts[n] for n in order], self._batch_tokens)
        return [
            ChangeGroup(held, tuple(own), tuple(deltas[n] for n in own), starts[own[-1]])
            for own in (order[begin:end] for begin, end in parts)
        ]

    def _logits(self, group: ChangeGroup, clean: _Clean, change: Change, observe: Mapping[Site, Change]) -> Tensor:
        held, start = group.held, group.start
        entering = None if held.entering is None else held.entering[start - held.prefix.length :]
        return self.upper_layers(held.prompt).changed(
            torch.tensor(held.prompt.ids[start:], device=self._model.device),
            upto(clean.past, start),
            entering=entering,
            change=change,
            rows=len(group.deltas),
            observe=observe,
        )

    def _answer(self, group: ChangeGroup, clean: _Clean) -> Responses:
        total = group.total(self._model.device)
        later: dict[Site, Tensor] = {}

        def note(activation: Tensor) -> Tensor:
            later[self._downstream.site] = activation.clone()  # type: ignore[union-attr]
            return activation

        with torch.no_grad():
            logits = self._logits(
                group,
                clean,
                lambda activation: (activation + total).to(activation.dtype),
                {} if self._downstream is None else {self._downstream.site: note},
            )
            changed = torch.log_softmax(logits.double(), dim=-1)
            outcome = self._outcome(logits, group.held.tokens, group.held.prompt)
            kl = (clean.log_probabilities.exp() * (clean.log_probabilities - changed)).sum(-1)
            maxima = None
            if self._downstream is not None and group.held.later is not None:
                maxima = _array(_maxima(group, group.held.later, later[self._downstream.site]))
        return Responses(_array(outcome), _array(kl), maxima)

    def _gradient(self, group: ChangeGroup, clean: _Clean) -> Tensor:
        total = group.total(self._model.device)
        with torch.enable_grad():
            shift = total.clone().requires_grad_()
            logits = self._logits(group, clean, lambda activation: (activation + shift).to(activation.dtype), {})
            outcome = self._outcome(logits, group.held.tokens, group.held.prompt)
            (gradient,) = torch.autograd.grad(outcome.sum(), shift)
        if not bool(torch.isfinite(gradient).all()):
            raise not_finite("gradient of the outcome", group.held.prompt)
        return gradient.cpu()

    def _outcome(self, logits: Tensor, tokens: OutcomeTokens, prompt: TokenisedPrompt) -> Tensor:
        if not bool(torch.isfinite(logits).all()):
            raise not_finite("the model's answer", prompt)
        return logits[:, tokens.target].double() - logits[:, tokens.foil].double()


def _maxima(group: ChangeGroup, later: Fired, activation: Tensor) -> Tensor:
    """Return (rows, latents) float32 from (rows, positions, d); what lies before the change stays as it was."""
    places = later.kept[later.kept >= group.start] - group.start
    rows, count, latents = len(group.deltas), len(places), later.sae.record.latents
    largest = later.maxima(before=group.start).expand(rows, latents).clone()
    if not count:
        return largest
    fired = later.sae.encode(activation[:, places].float().reshape(rows * count, -1))
    where = fired.token // count * latents + fired.latent
    largest.view(-1).scatter_reduce_(0, where, fired.activation, "amax")
    return largest


def hold_together(
    engines: Sequence[Interventions], prompts: Sequence[tuple[TokenisedPrompt, OutcomeTokens]]
) -> tuple[tuple[Held, ...], ...]:
    """Run untouched prompts once for several sites of one model; return for each engine what `hold` returns.

    Raises:
        EvidenceError: NaN or infinity, or a prompt without a kept position.
    """
    if not prompts or not engines:
        return ((),) * len(engines)
    prefix = engines[0].common_prefix([prompt for prompt, _ in prompts])
    found: list[list[Held]] = [[] for _ in engines]
    for prompt, tokens in prompts:
        # The lowest one keeps keys and values of all layers that any of them runs again.
        lowest = min(engines, key=lambda engine: engine.upper_layers(prompt).entry)
        seen = lowest.clean(prompt, prefix, set().union(*(engine.sites(prompt) for engine in engines)))
        for engine, own in zip(engines, found, strict=True):
            own.append(engine.take(prompt, tokens, prefix, seen))
    return tuple(tuple(own) for own in found)


def _require_place(model: LoadedModel, station: Station, downstream: Station | None) -> None:
    for one in (station, downstream):
        if one is not None and len(one.saes) != 1:
            raise SaeInvalid(
                item=f"station at {one.site}",
                expected="one SAE",
                found=f"{len(one.saes)}",
                hint="Interventions go through one SAE at a time.",
            )
    (sae,) = station.saes
    target = station.targets.get(sae.record.name, station.site)
    if target != station.site:
        raise SaeInvalid(
            item=sae.record.name,
            expected="an SAE that writes where it reads",
            found=f"a transcoder from {station.site} to {target}",
            hint="Choose an SAE of one site for interventions.",
        )
    depth, layers = _depth(station.site), len(model.layers)
    if depth[0] >= layers or (station.site.layer == layers - 1 and station.site.kind is not SiteKind.RESID_PRE):
        raise ConfigError(
            item=f"site {station.site}",
            expected="a site with layers behind it",
            found=f"the last of {layers} layers: a site without later layers",
            hint="Choose an SAE of an earlier layer for interventions.",
        )
    if downstream is not None and _depth(downstream.site) <= depth:
        raise ConfigError(
            item=f"second SAE at {downstream.site}",
            expected=f"a site behind {station.site}",
            found="a second SAE before the first",
            hint="Name the SAE of the earlier layer first.",
        )


def _depth(site: Site) -> tuple[int, int]:
    """Return the order of sites; the output of a layer is the input of the next."""
    return (Site(SiteKind.RESID_PRE, site.layer + 1) if site.kind is SiteKind.RESID_POST else site).depth


def _array(values: Tensor) -> NDArray[Any]:
    found: NDArray[Any] = values.cpu().numpy()
    return found
