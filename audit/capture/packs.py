"""Prompts packed into one sequence, in which what several of them begin with stands once.

Matched probes share most of their words: the template, the frame, the sentence up to the word that differs. Attention
is causal, so whatever stands before that word has the same activations in all of them. A pack is the tree of its
prompts' tokens laid out in one row: each token sees its own ancestors only and has its own position (tree attention,
as in Miao et al. 2024, arXiv 2305.09781). There is no padding either. The rows are those of the prompts run one by one
but for rounding; `can_pack` tries it on the model at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic

import torch
from torch import Tensor
from transformers import DynamicCache

from audit.capture.batches import (
    NO_PREFIX,
    S,
    S_co,
    SharedPrefix,
    TokenSequence,
    keeps_plain_cache,
    last_content,
    make_batches,
)
from audit.capture.model import LoadedModel
from audit.capture.sites import Site, read_site

_CHECKED_FIRST = 2
_CHECKED_LAST = 6
# Kernels round differently for one long row and for many short ones; a wrong mask or position is off by far more.
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
_ROUGH_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class Pack(Generic[S_co]):
    """Prompts as the tree of their tokens behind a shared prefix.

    Args:
        ids: (nodes,) int64, the distinct tokens.
        positions: (nodes,) int64, each token's position in its prompts, the prefix included.
        sees: (nodes, nodes) bool, row i marks the ancestors of i and i itself.
        read: (rows,) int64, the nodes that some prompt counts as its own words.
        owner: (pairs, 2) int64, every own word: the prompt's place in `prompts` and the position in it; ascending.
        source: (pairs,) int64, which of `read` it is.
    """

    prompts: tuple[S_co, ...]
    ids: Tensor
    positions: Tensor
    sees: Tensor
    read: Tensor
    owner: Tensor
    source: Tensor
    prefix: SharedPrefix

    def inputs(self, model: LoadedModel) -> dict[str, Any]:
        """Return the model's keyword arguments on its device: one row."""
        dtype = next(model.model.parameters()).dtype
        count, length = len(self.ids), self.prefix.length
        mask = torch.zeros((1, 1, count, length + count), dtype=dtype)
        mask[0, 0, :, length:].masked_fill_(~self.sees, torch.finfo(dtype).min)
        inputs: dict[str, Any] = {
            "input_ids": self.ids[None].to(model.device),
            "position_ids": self.positions[None].to(model.device),
            "attention_mask": mask.to(model.device),
            "use_cache": length > 0,
        }
        if length:
            cache = DynamicCache(config=model.model.config)
            for layer, (keys, values) in enumerate(self.prefix.cache):
                cache.update(keys, values, layer)
            inputs["past_key_values"] = cache
        return inputs

    def rows(self, activation: Tensor) -> Tensor:
        """Return (rows, d) of the distinct own words from an activation, (1, nodes, d)."""
        return activation[0][self.read.to(activation.device)]

    def halves(self) -> tuple[Pack[S_co], Pack[S_co]]:
        """Return two packs with half of the prompts each."""
        middle = len(self.prompts) // 2
        return _pack(self.prompts[:middle], self.prefix), _pack(self.prompts[middle:], self.prefix)


def make_packs(prompts: Sequence[S], *, pack_tokens: int, prefix: SharedPrefix = NO_PREFIX) -> list[Pack[S]]:
    """Group prompts that begin alike, so that a pack has about `pack_tokens` distinct tokens.

    The grouping depends on the prompts alone, never on timing or on their order: a resumed run meets the same packs.

    Args:
        prompts: what to run.
        pack_tokens: distinct tokens a pack; a longer prompt has a pack of its own.
        prefix: tokens in front that need not run again.
    """
    groups: list[list[S]] = []
    filled = 0
    before: tuple[int, ...] = ()
    for prompt in sorted(prompts, key=lambda p: (p.ids, p.id)):
        own = _tokens(prompt, prefix)
        fresh = len(own) - _shared(before, own)
        if not groups or filled + fresh > pack_tokens:
            groups.append([])
            filled, fresh = 0, len(own)
        groups[-1].append(prompt)
        filled += fresh
        before = own
    return [_pack(group, prefix) for group in groups]


def can_pack(
    model: LoadedModel, prompts: Sequence[TokenSequence], *, upto: Site, prefix: SharedPrefix, pack_tokens: int
) -> bool:
    """Tell whether the model gives packed prompts the activations that it gives them one by one.

    Of the packs that would run, the longest one and the one with most prompts are run, and their first and last prompts
    alone and whole: whatever depends on a token's place in the row, or looks past the mask, is off there. Models with
    sliding windows, recurrent states, position biases that come from the mask, or position numbers that cannot be set
    run in padded batches instead.

    Args:
        model: the model.
        prompts: all that will run.
        upto: the highest site that will be read.
        prefix: what the prompts share.
        pack_tokens: distinct tokens a pack.
    """
    if not keeps_plain_cache(model):
        return False
    packs = make_packs([p for p in prompts if True in p.content], pack_tokens=pack_tokens, prefix=prefix)
    if not packs:
        return False
    longest = max(packs, key=lambda pack: len(pack.ids))
    fullest = max(packs, key=lambda pack: len(pack.prompts))
    if prefix.length + len(longest.ids) > model.context_tokens:
        # Some models keep tables over the row, not over positions.
        return False
    return all(_agrees(model, pack, upto) for pack in (longest, fullest))


def _agrees(model: LoadedModel, pack: Pack[TokenSequence], site: Site) -> bool:
    try:
        rows = pack.rows(read_site(model.model, model.layers, site, pack.inputs(model))).float()
    except (RuntimeError, ValueError, TypeError, IndexError):
        # The model takes no mask of this shape, or no positions.
        return False
    packed = _by_prompt(pack, rows[pack.source])
    tolerance = _TOLERANCE.get(next(model.model.parameters()).dtype, _ROUGH_TOLERANCE)
    checked = {prompt.id: prompt for prompt in (*pack.prompts[:_CHECKED_FIRST], *pack.prompts[-_CHECKED_LAST:])}
    for batch in make_batches(list(checked.values()), batch_tokens=1):
        alone = batch.rows(read_site(model.model, model.layers, site, batch.inputs(model))).float()
        for prompt, expected in _by_prompt(batch, alone[batch.source]).items():
            if not bool(((packed[prompt] - expected).norm(dim=1) <= tolerance * expected.norm(dim=1)).all()):
                return False
    return True


def _by_prompt(batch: Any, rows: Tensor) -> dict[int, Tensor]:  # noqa: ANN401 - a pack or a batch
    return {prompt.id: rows[batch.owner[:, 0] == place] for place, prompt in enumerate(batch.prompts)}


def _pack(prompts: Sequence[S], prefix: SharedPrefix) -> Pack[S]:
    ids: list[int] = []
    positions: list[int] = []
    paths: list[list[int]] = []
    before: tuple[int, ...] = ()
    for prompt in prompts:
        own = _tokens(prompt, prefix)
        shared = _shared(before, own)
        path = paths[-1][:shared] if paths else []
        fresh = list(range(len(ids), len(ids) + len(own) - shared))
        ids += own[shared:]
        positions += range(prefix.length + shared, prefix.length + len(own))
        paths.append(path + fresh)
        before = own
    sees = torch.zeros((len(ids), len(ids)), dtype=torch.bool)
    done = 0
    for path in paths:
        places = torch.tensor(path)
        for depth, node in enumerate(path):
            if node >= done:
                sees[node, places[: depth + 1]] = True
        done = max(done, path[-1] + 1) if path else done
    pairs = [
        (row, prefix.length + depth, node)
        for row, (prompt, path) in enumerate(zip(prompts, paths, strict=True))
        for depth, node in enumerate(path)
        if prompt.content[prefix.length + depth]
    ]
    table = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 3)
    read, source = torch.unique(table[:, 2], return_inverse=True)
    return Pack(
        prompts=tuple(prompts),
        ids=torch.tensor(ids, dtype=torch.int64),
        positions=torch.tensor(positions, dtype=torch.int64),
        sees=sees,
        read=read,
        owner=table[:, :2],
        source=source,
        prefix=prefix,
    )


def _tokens(prompt: TokenSequence, prefix: SharedPrefix) -> tuple[int, ...]:
    """Return a prompt's tokens behind the prefix, up to the last word of its own."""
    return prompt.ids[prefix.length : last_content(prompt)]


def _shared(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count
