"""Changes of one prompt in groups that run side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.capture.held_prompts import Delta, Held
from audit.capture.prompts import TokenisedPrompt

# What a pass costs beyond its positions, as a share of a full batch: a rough figure from one profile at 256 positions.
_PASS_SHARE = 0.12


@dataclass(frozen=True, slots=True)
class ChangeGroup:
    """Changes of one prompt that run side by side, from the first position on that any of them changes.

    Args:
        numbers: which of the caller's changes they are.
        start: the first position that runs, counted from the prompt's first token.
    """

    held: Held
    numbers: tuple[int, ...]
    deltas: tuple[Delta, ...]
    start: int

    @property
    def prompts(self) -> tuple[TokenisedPrompt, ...]:
        """Return the prompt once for each change."""
        return (self.held.prompt,) * len(self.deltas)

    def halves(self) -> tuple[ChangeGroup, ChangeGroup]:
        """Return two groups with half of the changes each."""
        middle = len(self.deltas) // 2
        return (
            ChangeGroup(self.held, self.numbers[:middle], self.deltas[:middle], self.start),
            ChangeGroup(self.held, self.numbers[middle:], self.deltas[middle:], self.start),
        )

    def total(self, device: torch.device) -> Tensor:
        """Return (rows, positions, d) float32, what is added from the group's start on."""
        held = self.held
        shape = (len(self.deltas), held.positions - self.start, held.fired.source.shape[1])
        total = torch.zeros(shape, device=device)
        for row, delta in zip(total, self.deltas, strict=True):
            row.index_add_(0, delta.positions.to(device) - self.start, delta.vectors.to(device))
        return total


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
