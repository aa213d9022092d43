"""Change the residual stream through an SAE's features and see what the model answers: exact, many at a time.

x' = x - sum over t of max(0, a(t) - ceiling) d(t) lowers a feature and leaves everything else of the activation as it
was, the SAE's own error included (Marks et al. 2024, arXiv 2403.19647, keep the error as a node of its own). Nothing is
estimated here but by `gradient`, which is for choosing what to measure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.capture.batches import NO_PREFIX, SharedPrefix, share_prefix
from audit.capture.change_groups import Changed, Group, Kept, Untouched, in_groups, total_change
from audit.capture.halving import Say, run_halved
from audit.capture.held_prompts import Delta, Held, combined, fire, not_finite
from audit.capture.intervention_places import require_place
from audit.capture.model import LoadedModel
from audit.capture.prompts import OutcomeTokens, TokenisedPrompt
from audit.capture.responses import Responses, enter, later_maxima, unchanged
from audit.capture.runner import Station
from audit.capture.sites import Change, Site
from audit.capture.upper_layers import CleanPass, Stretch, UpperLayers, upto
from audit.errors import ShapeMismatch

__all__ = ["Delta", "Held", "Interventions", "Job", "Responses", "combined", "hold_together"]

Job = tuple[Held, Sequence[Delta]]

# Keys, values and answers of clean prompts that are kept for the next call; others are computed again.
_KEPT_BYTES = 1 << 26
# A backward pass takes about twice the work of its forward pass.
_GRADIENT_WORK = 3


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
        require_place(model, station, downstream)
        self._model = model
        self._station = station
        self._downstream = downstream
        self._batch_tokens = batch_tokens
        self._say = say
        self._upper: UpperLayers | None = None
        self._prefix = NO_PREFIX
        self._prefix_ids: tuple[int, ...] = ()
        self._clean: OrderedDict[tuple[int, ...], Kept] = OrderedDict()
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
        """Return the exact answers under each change of one prompt; see `run_all`."""
        (found,) = self.run_all([(held, deltas)])
        return found

    def run_all(self, jobs: Sequence[Job]) -> tuple[Responses, ...]:
        """Return the exact answers under each change of each prompt, in the order given. A change of nothing is free.

        Raises:
            EvidenceError: an answer is NaN or infinite.
            ShapeMismatch: a change lies outside the positions that run.
            TooLarge: one changed prompt alone does not fit into memory.
        """
        found = tuple(unchanged(held, len(deltas)) for held, deltas in jobs)
        working = [n for n, (_, deltas) in enumerate(jobs) if not all(delta.empty for delta in deltas)]
        for part in self._parts(working):
            kept = self._kept([jobs[n][0] for n in part])
            rows = [row for n, own in zip(part, kept, strict=True) for row in self._rows(n, jobs[n], own)]
            self._work += self._layers_run * sum(row.length for row in rows)
            for group in self._groups(rows):
                for own, answer in run_halved(group, lambda part: (part, self._answer(part)), say=self._say):
                    enter(answer, own.rows, found)
        return found

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
        (kept,) = self._kept([held])
        start = min([int(held.fired.kept[0]), *(self._first(held, delta) for delta in deltas)])
        start = start if kept.past.length else held.prefix.length
        past, places = upto(kept.past, start), held.fired.kept.cpu()
        rows = [Changed(0, number, held, kept, delta, past, start) for number, delta in enumerate(deltas)]
        self._work += _GRADIENT_WORK * self._layers_run * sum(row.length for row in rows)
        for group in self._groups(rows):
            for own, part in run_halved(group, lambda part: (part, self._gradient(part)), say=self._say):
                numbers = torch.tensor([row.number for row in own.rows])
                gradients[numbers[:, None], places] = part[:, places - start]
        return gradients

    def take(self, row: Untouched, seen: CleanPass) -> Held:
        """Keep of an untouched pass what interventions at this site need; `hold_together` makes the pass."""
        prompt, start = row.prompt, row.prefix.length
        upper, later = self.upper_layers(prompt), self._downstream
        held = Held(
            prompt=prompt,
            tokens=row.tokens,
            outcome=float(self._outcomes(seen.logits[None], [row])[0]),
            fired=fire(self._station, seen.activations[upper.site], prompt, start),
            later=None if later is None else fire(later, seen.activations[later.site], prompt, start),
            entering=seen.activations[upper.entering] if upper.resumes else None,
            prefix=row.prefix,
        )
        self._held_prompts += 1
        self._held_tokens += held.positions
        self._keep(held, _kept_of(seen, upper))
        return held

    def sites(self, prompt: TokenisedPrompt) -> set[Site]:
        """Return what an untouched pass has to read."""
        upper = self.upper_layers(prompt)
        later = set() if self._downstream is None else {self._downstream.site}
        return {upper.site, upper.entering} | later

    def untouched(
        self, rows: Sequence[Untouched], sites: set[Site], entering: Mapping[int, Tensor | None] | None = None
    ) -> Iterator[tuple[Untouched, CleanPass]]:
        """Run prompts as they are and yield what their sites read, in the order in which they ran.

        Args:
            rows: all behind one prefix.
            sites: which activations to read.
            entering: number of a row -> what enters the upper layers, where these alone run; None: all layers run.
        """

        def run(group: Group[Untouched]) -> list[tuple[Untouched, CleanPass]]:
            stretches = [
                Stretch(
                    self._ids(row.prompt, row.prefix.length),
                    row.prefix,
                    None if entering is None else entering[row.number],
                )
                for row in group.rows
            ]
            upper = self.upper_layers(group.rows[0].prompt)
            return list(zip(group.rows, upper.clean(stretches, sites=sites), strict=True))

        layers = len(self._model.layers) if entering is None else self._layers_run
        self._work += layers * sum(row.length for row in rows)
        for group in in_groups(rows, self._batch_tokens):
            for part in run_halved(group, run, say=self._say):
                yield from part

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

    def _parts(self, working: Sequence[int]) -> Iterator[Sequence[int]]:
        """Divide prompts into parts of which everything that is kept fits into the memory meant for it."""
        largest = max((one.size_bytes for one in self._clean.values()), default=1)
        count = max(1, _KEPT_BYTES // largest)
        for begin in range(0, len(working), count):
            yield working[begin : begin + count]

    def _kept(self, every: Sequence[Held]) -> list[Kept]:
        """Return what is kept of prompts; what was forgotten is computed again from what entered the upper layers."""
        found: dict[tuple[int, ...], Kept] = {}
        missing: dict[tuple[int, ...], Held] = {}
        for held in every:
            one = self._clean.get(held.prompt.ids)
            if one is None:
                missing[held.prompt.ids] = held
            else:
                self._clean.move_to_end(held.prompt.ids)
                found[held.prompt.ids] = one
        rows = [Untouched(n, held.prompt, held.tokens, held.prefix) for n, held in enumerate(missing.values())]
        entering = {n: held.entering for n, held in enumerate(missing.values())}
        for own in _by_prefix(rows):
            for row, seen in self.untouched(own, set(), entering):
                found[row.prompt.ids] = self._keep(
                    missing[row.prompt.ids], _kept_of(seen, self.upper_layers(row.prompt))
                )
        return [found[held.prompt.ids] for held in every]

    def _keep(self, held: Held, clean: Kept) -> Kept:
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

    def _rows(self, job: int, asked: Job, kept: Kept) -> list[Changed]:
        held, deltas = asked
        starts = {n: self._first(held, delta) for n, delta in enumerate(deltas) if not delta.empty}
        pasts = {start: upto(kept.past, start) for start in starts.values()}
        return [Changed(job, n, held, kept, deltas[n], pasts[start], start) for n, start in starts.items()]

    def _groups(self, rows: Sequence[Changed]) -> list[Group[Changed]]:
        if not rows:
            return []
        if self.upper_layers(rows[0].prompt).mixes:
            return in_groups(rows, self._batch_tokens)
        alike: dict[int, list[Changed]] = {}
        for row in rows:
            alike.setdefault(row.past.length, []).append(row)
        return [group for own in alike.values() for group in in_groups(own, self._batch_tokens)]

    def _ids(self, prompt: TokenisedPrompt, start: int) -> Tensor:
        return torch.tensor(prompt.ids[start:], device=self._model.device)

    def _logits(self, rows: Sequence[Changed], change: Change, observe: Mapping[Site, Change]) -> Tensor:
        stretches = [
            Stretch(
                self._ids(row.prompt, row.start),
                row.past,
                None if row.held.entering is None else row.held.entering[row.start - row.held.prefix.length :],
            )
            for row in rows
        ]
        return self.upper_layers(rows[0].prompt).changed(stretches, change=change, observe=observe)

    def _answer(self, group: Group[Changed]) -> Responses:
        rows = group.rows
        total = total_change(rows, self._model.device)
        later: dict[Site, Tensor] = {}

        def note(activation: Tensor) -> Tensor:
            later[self._downstream.site] = activation.clone()  # type: ignore[union-attr]
            return activation

        with torch.no_grad():
            logits = self._logits(
                rows,
                lambda activation: (activation + total).to(activation.dtype),
                {} if self._downstream is None else {self._downstream.site: note},
            )
            changed = torch.log_softmax(logits.double(), dim=-1)
            untouched = torch.stack([row.kept.log_probabilities for row in rows])
            kl = (untouched.exp() * (untouched - changed)).sum(-1)
            maxima = None if self._downstream is None else _array(later_maxima(rows, later[self._downstream.site]))
        return Responses(_array(self._outcomes(logits, rows)), _array(kl), maxima)

    def _gradient(self, group: Group[Changed]) -> Tensor:
        total = total_change(group.rows, self._model.device)
        with torch.enable_grad():
            shift = total.clone().requires_grad_()
            logits = self._logits(group.rows, lambda activation: (activation + shift).to(activation.dtype), {})
            outcome = self._outcomes(logits, group.rows)
            (gradient,) = torch.autograd.grad(outcome.sum(), shift)
        for row, own in zip(group.rows, gradient, strict=True):
            if not bool(torch.isfinite(own[: row.length]).all()):
                raise not_finite("gradient of the outcome", row.prompt)
        return gradient.cpu()

    def _outcomes(self, logits: Tensor, rows: Sequence[Changed | Untouched]) -> Tensor:
        """Return (rows,) float64 logit of the target minus that of the foil."""
        finite = torch.isfinite(logits).all(dim=-1).tolist()
        if not all(finite):
            raise not_finite("the model's answer", rows[finite.index(False)].prompt)
        tokens = [row.held.tokens if isinstance(row, Changed) else row.tokens for row in rows]
        place = torch.arange(len(rows), device=logits.device)
        target, foil = (
            torch.tensor(own, device=logits.device) for own in zip(*((t.target, t.foil) for t in tokens), strict=True)
        )
        return logits[place, target].double() - logits[place, foil].double()


def _kept_of(seen: CleanPass, upper: UpperLayers) -> Kept:
    return Kept(upper.own_past(seen.past), torch.log_softmax(seen.logits.double(), dim=-1))


def _by_prefix(rows: Sequence[Untouched]) -> list[list[Untouched]]:
    found: dict[int, list[Untouched]] = {}
    for row in rows:
        found.setdefault(id(row.prefix), []).append(row)
    return list(found.values())


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
    rows = [Untouched(n, prompt, tokens, prefix) for n, (prompt, tokens) in enumerate(prompts)]
    first = prompts[0][0]
    # The lowest one keeps keys and values of all layers that any of them runs again.
    lowest = min(engines, key=lambda engine: engine.upper_layers(first).entry)
    sites = set().union(*(engine.sites(first) for engine in engines))
    found: list[dict[int, Held]] = [{} for _ in engines]
    for row, seen in lowest.untouched(rows, sites):
        for engine, own in zip(engines, found, strict=True):
            own[row.number] = engine.take(row, seen)
    return tuple(tuple(own[n] for n in range(len(rows))) for own in found)


def _array(values: Tensor) -> NDArray[Any]:
    found: NDArray[Any] = values.cpu().numpy()
    return found
