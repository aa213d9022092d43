"""Changes of prompts in groups that run side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from audit.capture.batches import SharedPrefix
from audit.capture.held_prompts import Delta, Held
from audit.capture.prompts import OutcomeTokens, TokenisedPrompt

# What a pass costs beyond its positions, as a share of a full batch: a rough figure from one profile at 256 positions.
_PASS_SHARE = 0.12


class Row(Protocol):
    """What runs of one prompt."""

    @property
    def prompt(self) -> TokenisedPrompt:
        """Return the prompt."""

    @property
    def length(self) -> int:
        """Return how many of its positions run."""


R = TypeVar("R", bound=Row)


@dataclass(frozen=True, slots=True)
class Untouched:
    """A prompt that runs as it is, behind a prefix."""

    number: int
    prompt: TokenisedPrompt
    tokens: OutcomeTokens
    prefix: SharedPrefix

    @property
    def length(self) -> int:
        """Return how many of its positions run."""
        return len(self.prompt.ids) - self.prefix.length


@dataclass(frozen=True, slots=True)
class Kept:
    """Of an untouched prompt, what a change of it is compared with and what need not run again.

    Args:
        past: keys and values of the whole prompt in the layers that run again; none where the model keeps none.
        log_probabilities: (vocabulary,) float64 at the last position.
    """

    past: SharedPrefix
    log_probabilities: Tensor

    @property
    def size_bytes(self) -> int:
        """Return the memory that it takes."""
        tensors = [self.log_probabilities, *(tensor for pair in self.past.cache for tensor in pair)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass(frozen=True, slots=True)
class Changed:
    """A prompt that runs with a change.

    Args:
        job: which of the caller's prompts it is; number: which of its changes.
        past: what precedes the start, one object for all rows of one prompt and start.
        start: the first position that runs, counted from the prompt's first token.
    """

    job: int
    number: int
    held: Held
    kept: Kept
    delta: Delta
    past: SharedPrefix
    start: int

    @property
    def prompt(self) -> TokenisedPrompt:
        """Return the prompt."""
        return self.held.prompt

    @property
    def length(self) -> int:
        """Return how many of its positions run."""
        return self.held.positions - self.start


@dataclass(frozen=True, slots=True)
class Group(Generic[R]):
    """Rows that run side by side."""

    rows: tuple[R, ...]

    @property
    def prompts(self) -> tuple[TokenisedPrompt, ...]:
        """Return the prompt of each row."""
        return tuple(row.prompt for row in self.rows)

    def halves(self) -> tuple[Group[R], Group[R]]:
        """Return two groups with half of the rows each."""
        middle = len(self.rows) // 2
        return Group(self.rows[:middle]), Group(self.rows[middle:])


def total_change(rows: Sequence[Changed], device: torch.device) -> Tensor:
    """Return (rows, positions, d) float32, what is added to each row from its start on; behind its end nothing."""
    width = rows[0].held.fired.source.shape[1]
    total = torch.zeros(len(rows), max(row.length for row in rows), width, device=device)
    for own, row in zip(total, rows, strict=True):
        own.index_add_(0, row.delta.positions.to(device) - row.start, row.delta.vectors.to(device))
    return total


def in_groups(rows: Sequence[R], batch_tokens: int) -> list[Group[R]]:
    """Return rows in groups that cost least together, each of neighbours in length; equal lengths keep their order."""
    ordered = sorted(rows, key=lambda row: row.length)
    parts = partition([row.length for row in ordered], batch_tokens)
    return [Group(tuple(ordered[begin:end])) for begin, end in parts]


def partition(lengths: Sequence[int], batch_tokens: int) -> list[tuple[int, int]]:
    """Return the groups of neighbours, as (begin, end), that run together at the least cost.

    A group costs its rows times its longest row, and what a pass costs whatever its size.

    Args:
        lengths: positions of each row, ascending.
        batch_tokens: positions a group at most; a longer row has a group of its own.
    """
    least, opened = [0.0], [0]
    for end in range(1, len(lengths) + 1):
        rows = max(1, batch_tokens // lengths[end - 1])
        costs = [
            (least[begin] + (end - begin) * lengths[end - 1] + batch_tokens * _PASS_SHARE, begin)
            for begin in range(max(0, end - rows), end)
        ]
        cost, begin = min(costs)
        least.append(cost)
        opened.append(begin)
    parts = []
    end = len(lengths)
    while end:
        parts.append((opened[end], end))
        end = opened[end]
    return parts[::-1]
