"""What the model answers under changes of prompts, and what a later SAE sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.capture.change_groups import Changed
from audit.capture.held_prompts import Held


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


def unchanged(held: Held, count: int) -> Responses:
    """Return so many answers to no change."""
    clean = held.downstream
    return Responses(
        outcome=np.full(count, held.outcome),
        kl=np.zeros(count),
        downstream=None if clean is None else np.repeat(clean[None], count, axis=0),
    )


def enter(answer: Responses, rows: Sequence[Changed], found: Sequence[Responses]) -> None:
    """Put the answers of a group where they belong."""
    for n, row in enumerate(rows):
        own = found[row.job]
        own.outcome[row.number], own.kl[row.number] = answer.outcome[n], answer.kl[n]
        if own.downstream is not None and answer.downstream is not None:
            own.downstream[row.number] = answer.downstream[n]


def later_maxima(rows: Sequence[Changed], activation: Tensor) -> Tensor:
    """Return (rows, latents) float32 from (rows, positions, d); what lies before a change stays as it was."""
    device = activation.device
    codes = [(row, row.held.later) for row in rows if row.held.later is not None]
    found = torch.stack([later.maxima(before=row.start) for row, later in codes]).to(device)
    places = [later.kept[later.kept >= row.start] - row.start for row, later in codes]
    place = torch.cat(places).to(device)
    row_of = torch.repeat_interleave(torch.tensor([len(own) for own in places])).to(device)
    if len(place):
        fired = codes[0][1].sae.encode(activation[row_of, place].float())
        where = row_of[fired.token] * found.shape[1] + fired.latent
        found.view(-1).scatter_reduce_(0, where, fired.activation, "amax")
    return found
