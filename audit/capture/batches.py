"""Prompts in length buckets; what they share in front is computed once.

Chat-formatted prompts begin with the same system turn. Attention is causal, so the keys and values of that prefix are
the same in every prompt, and whatever follows a prompt's last own word changes nothing before it: neither is run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from transformers import DynamicCache

from audit.capture.model import LoadedModel
from audit.capture.sites import Site, run_to_site

_WORTHWHILE_TOKENS = 4


class TokenSequence(Protocol):
    """Whatever can be run: a prompt of a suite, or a window of a text.

    `content` marks the positions that count; BOS, template and padding are not among them.
    """

    @property
    def id(self) -> int:
        """Return the number that orders sequences of equal length."""

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the token ids."""

    @property
    def content(self) -> tuple[bool, ...]:
        """Return which positions count."""

    @property
    def label(self) -> str:
        """Return how an error names it."""


S = TypeVar("S", bound=TokenSequence)
S_co = TypeVar("S_co", bound=TokenSequence, covariant=True)


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """The tokens that every prompt starts with, with their keys and values.

    Args:
        length: how many tokens.
        cache: one (keys, values) pair a layer, each (1, heads, length, head_dim); empty when the length is 0.
    """

    length: int
    cache: tuple[tuple[Tensor, Tensor], ...]


NO_PREFIX = SharedPrefix(0, ())


@dataclass(frozen=True, slots=True)
class Batch(Generic[S_co]):
    """Prompts of similar length without their shared prefix, padded on the right.

    Args:
        ids: (batch, position) int64.
        mask: (batch, position) int64, 0 on padding.
        content: (batch, position) bool, the prompts' own words.
        prefix: what precedes position 0.
    """

    prompts: tuple[S_co, ...]
    ids: Tensor
    mask: Tensor
    content: Tensor
    prefix: SharedPrefix

    @property
    def owner(self) -> Tensor:
        """Return (pairs, 2) int64, every own word: the prompt's place and the position in it; ascending."""
        return self.content.nonzero() + torch.tensor([0, self.prefix.length])

    @property
    def source(self) -> Tensor:
        """Return (pairs,) int64, which of `rows` each own word is: one each."""
        return torch.arange(int(self.content.sum()))

    def rows(self, activation: Tensor) -> Tensor:
        """Return (rows, d) of the own words from an activation, (batch, position, d)."""
        return activation[self.content.to(activation.device)]

    def halves(self) -> tuple[Batch[S_co], Batch[S_co]]:
        """Return two batches with half of the prompts each, without padding that only the other needed."""
        middle = len(self.prompts) // 2
        lengths = [int(length) for length in self.mask.sum(1)]
        return (
            _pad(list(self.prompts[:middle]), lengths[:middle], self.prefix),
            _pad(list(self.prompts[middle:]), lengths[middle:], self.prefix),
        )

    def inputs(self, model: LoadedModel) -> dict[str, Any]:
        """Return the model's keyword arguments on its device."""
        ids, mask = self.ids.to(model.device), self.mask.to(model.device)
        if not self.prefix.length:
            return {"input_ids": ids, "attention_mask": mask, "use_cache": False}
        rows = len(self.prompts)
        cache = DynamicCache(config=model.model.config)
        for layer, (keys, values) in enumerate(self.prefix.cache):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
        before = torch.ones(rows, self.prefix.length, dtype=mask.dtype, device=mask.device)
        whole = torch.cat([before, mask], dim=1)
        return {"input_ids": ids, "attention_mask": whole, "past_key_values": cache, "use_cache": True}


def share_prefix(model: LoadedModel, prompts: Sequence[TokenSequence], *, upto: Site | None) -> SharedPrefix:
    """Compute the keys and values of the tokens that all prompts start with.

    Args:
        model: the model. One that keeps its past in another form than keys and values a layer shares nothing.
        prompts: all prompts that will run; the prefix never contains a word of their own.
        upto: the highest site that will be read, or None when whole forward passes will run.
    """
    length = min(p.content.index(True) if True in p.content else 0 for p in prompts)
    first = prompts[0].ids
    while length and any(p.ids[:length] != first[:length] for p in prompts):
        length -= 1
    if length < _WORTHWHILE_TOKENS or not keeps_plain_cache(model):
        return NO_PREFIX
    cache = DynamicCache(config=model.model.config)
    ids = torch.tensor([first[:length]], device=model.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "past_key_values": cache, "use_cache": True}
    run_to_site(model.model, model.layers, upto, inputs)
    pairs = [(layer.keys, layer.values) for layer in cache.layers if layer.keys is not None and layer.keys.numel()]
    return SharedPrefix(length, tuple(pairs))


def make_batches(
    prompts: Sequence[S], *, batch_tokens: int, prefix: SharedPrefix = NO_PREFIX, to_the_end: bool = False
) -> list[Batch[S]]:
    """Group prompts by length so that padding is small and a batch has about `batch_tokens` positions.

    The grouping depends on the prompts alone, never on timing: a resumed run meets the same batches.

    Args:
        prompts: what to run.
        batch_tokens: positions a batch, padding included.
        prefix: tokens in front that need not run again.
        to_the_end: also run what follows the last own word, for the logits at the last position.
    """
    lengths = {p.id: (len(p.ids) if to_the_end else last_content(p)) - prefix.length for p in prompts}
    ordered = sorted(prompts, key=lambda p: (lengths[p.id], p.id))
    groups: list[list[S]] = []
    for prompt in ordered:
        # Ascending lengths: the newest prompt is the longest of its group.
        if groups and (len(groups[-1]) + 1) * lengths[prompt.id] <= batch_tokens:
            groups[-1].append(prompt)
        else:
            groups.append([prompt])
    return [_pad(group, [lengths[p.id] for p in group], prefix) for group in groups]


def last_content(prompt: TokenSequence) -> int:
    """Return how many tokens a prompt has up to the last word of its own; all where it has none."""
    if True not in prompt.content:
        return len(prompt.ids)
    return len(prompt.ids) - prompt.content[::-1].index(True)


def _pad(group: list[S], lengths: list[int], prefix: SharedPrefix) -> Batch[S]:
    shape = (len(group), max(lengths))
    ids, mask = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    content = torch.zeros(shape, dtype=torch.bool)
    for row, (prompt, length) in enumerate(zip(group, lengths, strict=True)):
        part = slice(prefix.length, prefix.length + length)
        ids[row, :length] = torch.tensor(prompt.ids[part])
        mask[row, :length] = 1
        content[row, :length] = torch.tensor(prompt.content[part])
    return Batch(tuple(group), ids, mask, content, prefix)


def keeps_plain_cache(model: LoadedModel) -> bool:
    """Tell whether every layer attends over the whole past; windows and recurrent states are left alone."""
    config = model.model.config.get_text_config()  # type: ignore[operator, union-attr]
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return kinds == {"full_attention"} and not getattr(config, "sliding_window", None)
