"""Hold features down while the model reads and writes: activation steering away from a set of features.

At every own word of the prompt, and at every position that the model writes, the activation x where the SAE's output
belongs becomes x - push, whether the features fire there or not:

    push = dose * sum over i in the set of max_i d_i

with d_i the feature's decoder row (norm 1) and max_i the largest activation seen in the audit. A fixed vector is
subtracted, as in activation addition (Turner et al. 2023, arXiv 2308.10248; Templeton et al. 2024 for SAE features); a
dose of 1 takes away as much as the audit ever saw. Template tokens are left alone. That such a push costs fluency, and
often more than prompting does, is the result of AxBench (Wu et al. 2025, arXiv 2501.17148): an effect is never reported
without its cost.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from audit.capture.batches import Batch, keeps_plain_cache, make_batches, share_prefix
from audit.capture.fitting import Fitted
from audit.capture.halving import Say, run_halved
from audit.capture.model import LoadedModel
from audit.capture.prompts import OutcomeTokens, TokenisedPrompt
from audit.capture.resuming import can_resume, resumed_at
from audit.capture.runner import Advance
from audit.capture.sae import InputNorm
from audit.capture.sites import Site, SiteKind, replaced_site
from audit.capture.writing import CachedTexts, WholeTexts
from audit.errors import EvidenceError

Question = tuple[TokenisedPrompt, OutcomeTokens]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says after one prompt.

    Args:
        outcome: logit of the target minus that of the foil at the last position, in nats.
        kl: KL(untouched || this) of the next-token distribution at the last position, in nats.
        loss: mean cross-entropy of the prompt's own words that follow one of its own words, in nats; 0 where it was not
            asked for, or the prompt has no such word.
    """

    outcome: float
    kl: float
    loss: float


@dataclass(frozen=True, slots=True)
class SteeredPrompt:
    """One prompt: the untouched model's answer and the one under each push, in the order given."""

    prompt: int
    untouched: Answer
    changed: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Continuations:
    """The tokens that the model wrote after one prompt, up to the one that ends a text."""

    prompt: int
    untouched: tuple[int, ...]
    changed: tuple[tuple[int, ...], ...]


class Steerer:
    """Runs a model under pushes along an SAE's decoder rows.

    Below the site nothing changes: these layers run once a batch where the model at hand can be resumed above them.

    Args:
        model: the audited model.
        fitted: an SAE in its place; pushes act where its output belongs.
        batch_tokens: positions a batch, padding included; None: what the device runs well.
        say: called with one line when a batch did not fit into memory.
    """

    def __init__(
        self, model: LoadedModel, fitted: Fitted, *, batch_tokens: int | None = None, say: Say = lambda _: None
    ) -> None:
        self._model = model
        self._fitted = fitted
        self._batch_tokens = batch_tokens or model.batch_tokens
        self._say = say
        # An SAE that normalises its input needs the token's scale, so its own site must run too.
        reads = fitted.sites if fitted.sae.input_norm is not InputNorm.NONE else (fitted.target,)
        self._entry = Site(SiteKind.RESID_PRE, min(site.layer for site in reads))
        self._resumes: bool | None = None
        parameters = inspect.signature(model.model.forward).parameters
        self._keeps_some_logits = "logits_to_keep" in parameters
        self._caches = keeps_plain_cache(model) and "position_ids" in parameters

    @property
    def model(self) -> LoadedModel:
        """Return the model."""
        return self._model

    @property
    def fitted(self) -> Fitted:
        """Return the SAE in its place."""
        return self._fitted

    def push(self, latents: Sequence[int], maxima: Sequence[float], dose: float) -> Tensor:
        """Return (d_out,) float32: dose * sum of max_i d_i over the latents."""
        decoder = self._fitted.sae.w_dec
        sizes = torch.tensor(list(maxima), dtype=torch.float32, device=decoder.device)
        summed: Tensor = sizes @ decoder[list(latents)]
        return dose * summed

    def answer(
        self,
        questions: Sequence[Question],
        pushes: Sequence[Tensor],
        *,
        loss: bool,
        advance: Advance = lambda _: None,
    ) -> tuple[SteeredPrompt, ...]:
        """Return every prompt's answers, untouched and under each push, ordered by prompt id.

        Args:
            questions: prompts with the tokens of their outcome.
            pushes: (d_out,) float32 each.
            loss: whether the prompts' own words are judged too; the unembedding then runs at every position.
            advance: called with the number of prompts finished.

        Raises:
            EvidenceError: a prediction is NaN or infinite.
            TooLarge: one prompt alone does not fit into memory.
        """
        if not questions:
            return ()
        wanted = {prompt.id: tokens for prompt, tokens in questions}
        prompts = [prompt for prompt, _ in questions]
        prefix = share_prefix(self._model, prompts, upto=None)
        found: list[SteeredPrompt] = []

        def run(batch: Batch[TokenisedPrompt]) -> list[SteeredPrompt]:
            return self._answer_batch(batch, wanted, pushes, loss=loss)

        for batch in make_batches(prompts, batch_tokens=self._batch_tokens, prefix=prefix, to_the_end=True):
            found += [row for part in run_halved(batch, run, say=self._say) for row in part]
            advance(len(batch.prompts))
        return tuple(sorted(found, key=lambda row: row.prompt))

    def write(
        self, prompts: Sequence[TokenisedPrompt], pushes: Sequence[Tensor], *, new_tokens: int
    ) -> tuple[Continuations, ...]:
        """Return what the model writes after each prompt, greedily, untouched and under each push.

        Args:
            prompts: what it reads; the last position's answer is the first token that it writes.
            pushes: (d_out,) float32 each.
            new_tokens: the most that it writes; it stops at a token that ends a text.

        Returns:
            Ordered by prompt id. Where the model keeps plain keys and values these are reused from token to token;
            elsewhere the whole text is read again for each.
        """
        if not prompts:
            return ()
        prefix = share_prefix(self._model, prompts, upto=None)
        width = self._fitted.sae.w_dec.shape[1]
        rows = torch.stack([torch.zeros(width, device=self._model.device), *pushes])
        found: list[Continuations] = []

        def run(batch: Batch[TokenisedPrompt]) -> list[Continuations]:
            written = iter(self._write_batch(_repeated(batch, len(rows)), rows, new_tokens=new_tokens))
            texts = [[next(written) for _ in rows] for _ in batch.prompts]
            return [Continuations(p.id, own[0], tuple(own[1:])) for p, own in zip(batch.prompts, texts, strict=True)]

        batch_tokens = max(1, self._batch_tokens // len(rows))
        for batch in make_batches(prompts, batch_tokens=batch_tokens, prefix=prefix, to_the_end=True):
            found += [text for part in run_halved(batch, run, say=self._say) for text in part]
        return tuple(sorted(found, key=lambda text: text.prompt))

    @contextlib.contextmanager
    def pushed(self, push: Tensor, where: Tensor) -> Iterator[None]:
        """Subtract a push in every forward pass of the block.

        Args:
            push: (d_out,) for all rows, or (batch, d_out).
            where: (batch, position) bool, which positions are changed.
        """
        sae, site, target = self._fitted.sae, self._fitted.site, self._fitted.target
        scales: list[Tensor] = []
        rows = push if push.ndim == 2 else push[None]
        mask = where.to(push.device)

        def note(source: Tensor) -> Tensor:
            scales[:] = [sae.token_scale(source.flatten(0, -2)).view(*source.shape[:-1], 1)]
            return source

        def change(activation: Tensor) -> Tensor:
            if site == target:
                note(activation)
            step = rows[:, None, :] * scales[0]
            return torch.where(mask[..., None], (activation.float() - step).to(activation.dtype), activation)

        with contextlib.ExitStack() as hooks:
            if site != target:
                hooks.enter_context(replaced_site(self._model.layers, site, note))
            hooks.enter_context(replaced_site(self._model.layers, target, change))
            yield

    def _answer_batch(
        self,
        batch: Batch[TokenisedPrompt],
        wanted: dict[int, OutcomeTokens],
        pushes: Sequence[Tensor],
        *,
        loss: bool,
    ) -> list[SteeredPrompt]:
        entering: list[Tensor] = []

        def enter(activation: Tensor) -> Tensor:
            # Cloned: some models add to an activation in place further on.
            entering[:] = [activation.clone()]
            return activation

        with replaced_site(self._model.layers, self._entry, enter):
            clean = self._read(batch, loss=loss)
        if self._resumes is None:
            run = partial(self._log_probabilities, batch)
            self._resumes = can_resume(self._model.layers, self._entry.layer, run, entering[0])
        # Several pushes side by side: a batch of few prompts alone would leave the device idle.
        size = max(1, self._batch_tokens // batch.ids.numel())
        answers: list[list[Answer]] = [[_answer(clean, clean, n, n, wanted[p.id])] for n, p in enumerate(batch.prompts)]
        for start in range(0, len(pushes), size):
            some = torch.stack(list(pushes[start : start + size]))
            wide = _repeated(batch, len(some))
            with self._above(entering[0], len(some)), self.pushed(some.repeat(len(batch.prompts), 1), wide.content):
                reading = self._read(wide, loss=loss)
            for row, prompt in enumerate(wide.prompts):
                n = row // len(some)
                answers[n].append(_answer(reading, clean, row, n, wanted[prompt.id]))
        return [SteeredPrompt(p.id, own[0], tuple(own[1:])) for p, own in zip(batch.prompts, answers, strict=True)]

    def _read(self, batch: Batch[TokenisedPrompt], *, loss: bool) -> _Reading:
        """Return what the model predicts at the last positions, and how well it predicts the prompts' own words."""
        last = batch.mask.sum(1) - 1
        rows = torch.arange(len(last))
        with torch.inference_mode():
            inputs = batch.inputs(self._model)
            if loss or not self._keeps_some_logits:
                whole: Tensor = self._model.model(**inputs).logits
                ends = whole[rows, last]
                losses = _mean_losses(whole, batch) if loss else [0.0] * len(rows)
            else:
                # The model's own head: some scale or cap their logits after the unembedding.
                kept, place = torch.unique(last, return_inverse=True)
                logits: Tensor = self._model.model(**inputs, logits_to_keep=kept.to(self._model.device)).logits
                ends, losses = logits[rows, place], [0.0] * len(rows)
            reading = _Reading(ends.float().cpu(), losses)
        if not bool(torch.isfinite(reading.ends).all()):
            raise EvidenceError(
                item=f"the model's predictions with {self._fitted.sae.record.name} steered",
                expected="finite logits",
                found="NaN or infinity",
                hint='Run with dtype "fp32", or with smaller doses.',
            )
        return reading

    def _above(self, entering: Tensor, times: int) -> contextlib.AbstractContextManager[None]:
        if not self._resumes:
            return contextlib.nullcontext()
        return resumed_at(self._model.layers, self._entry.layer, entering.repeat_interleave(times, dim=0))

    def _log_probabilities(self, batch: Batch[TokenisedPrompt]) -> Tensor:
        return torch.log_softmax(self._read(batch, loss=False).ends, dim=-1)

    def _write_batch(self, batch: Batch[TokenisedPrompt], pushes: Tensor, *, new_tokens: int) -> list[tuple[int, ...]]:
        """Return each row's text; `pushes` is (variants, d_out), and a prompt's variants are adjacent rows."""
        rows = len(batch.prompts)
        steps = pushes.repeat(rows // len(pushes), 1)
        ends = self._ends()
        writer = CachedTexts(self._model, batch) if self._caches else WholeTexts(self._model, batch)
        texts: list[list[int]] = [[] for _ in range(rows)]
        finished = [False] * rows
        with torch.inference_mode():
            for _ in range(new_tokens):
                with self.pushed(steps, writer.changed):
                    following = writer.step().argmax(dim=-1)
                for row, token in enumerate(following.tolist()):
                    finished[row] = finished[row] or token in ends
                    if not finished[row]:
                        texts[row].append(token)
                if all(finished):
                    break
                writer.append(following)
        return [tuple(text) for text in texts]

    def _ends(self) -> set[int]:
        """Return the tokens that end a text."""
        generation = getattr(self._model.model, "generation_config", None)
        stated = (getattr(generation, "eos_token_id", None), self._model.tokenizer.eos_token_id)
        return {int(i) for own in stated if own is not None for i in (own if isinstance(own, list) else [own])}


@dataclass(frozen=True, slots=True)
class _Reading:
    """(batch, vocabulary) float32 logits at the last positions, and the mean loss of each prompt's own words."""

    ends: Tensor
    losses: Sequence[float]


def _repeated(batch: Batch[TokenisedPrompt], times: int) -> Batch[TokenisedPrompt]:
    """Return the batch with each prompt in so many adjacent rows."""
    ids, mask, content = (part.repeat_interleave(times, dim=0) for part in (batch.ids, batch.mask, batch.content))
    return Batch(tuple(p for p in batch.prompts for _ in range(times)), ids, mask, content, batch.prefix)


def _mean_losses(logits: Tensor, batch: Batch[TokenisedPrompt]) -> list[float]:
    """Return each prompt's mean cross-entropy where a position and the next are both its own words."""
    predicts = (batch.content[:, :-1] & batch.content[:, 1:]).to(logits.device)
    following = batch.ids[:, 1:].to(logits.device)[predicts]
    own = logits[:, :-1][predicts].float()
    losses = torch.nn.functional.cross_entropy(own, following, reduction="none").double()
    counts = predicts.sum(1).tolist()
    return [float(part.mean()) if len(part) else 0.0 for part in torch.split(losses, counts)]


def _answer(reading: _Reading, clean: _Reading, row: int, clean_row: int, tokens: OutcomeTokens) -> Answer:
    logits = reading.ends[row]
    before, after = (torch.log_softmax(ends.double(), dim=-1) for ends in (clean.ends[clean_row], logits))
    divergence = float((before.exp() * (before - after)).sum())
    # Rounding can put it a hair below the least that a divergence can be.
    return Answer(float(logits[tokens.target] - logits[tokens.foil]), max(0.0, divergence), reading.losses[row])
