"""Encode exactly in blocks of latents: never a (tokens x latents) array, and only what fires is kept.

A million latents need no more memory beyond their weights than sixteen thousand do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.capture.kernels import linear

BLOCK_TOKENS = 256
BLOCK_LATENTS = 8192
_GROUP = 32

Magnitude = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class SparseRows:
    """The latents that fire: three aligned one-dimensional arrays ordered by (token, latent).

    Args:
        token: int64, latent: int64, activation: float32 above 0.
    """

    token: Tensor
    latent: Tensor
    activation: Tensor


@dataclass(frozen=True, slots=True)
class TopK:
    """Fires at the k largest pre-activations of a token, as far as they are above 0 (Gao et al. 2024, 2406.04093)."""

    k: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """Fires where the pre-activation is above 0 and above the latent's threshold.

    All zeros is the ReLU; others are the JumpReLU (Rajamanoharan et al. 2024, 2407.14435), or a BatchTopK with the
    threshold that its training estimated (Bussmann et al. 2024, 2412.06410).

    Args:
        values: (latents,) float32, in units of the pre-activation.
    """

    values: Tensor


Rule = TopK | Threshold


def encode(rows: Tensor, weight: Tensor, bias: Tensor, rule: Rule) -> SparseRows:
    """Return which latents fire at each token, with their pre-activations.

    Args:
        rows: (tokens, d_in) float32, centred and normalised as the SAE asks.
        weight: (latents, d_in) float32.
        bias: (latents,) float32.
        rule: which latents fire.

    Returns:
        Rows ordered by (token, latent) whose `activation` is rows @ weight.T + bias. Nothing but the rule cuts.
        Beyond inputs and result it needs two to three times 256 x 8,192 float32, whatever the number of latents.
    """
    parts = [
        _shifted(_encode_block(rows[start : start + BLOCK_TOKENS], weight, bias, rule), start)
        for start in range(0, rows.shape[0], BLOCK_TOKENS)
    ]
    if not parts:
        empty = torch.zeros(0, dtype=torch.int64, device=rows.device)
        return SparseRows(empty, empty, torch.zeros(0, device=rows.device))
    return _joined(parts)


def _encode_block(rows: Tensor, weight: Tensor, bias: Tensor, rule: Rule) -> SparseRows:
    if isinstance(rule, TopK):
        return _top_k(rows, weight, bias, rule.k)
    parts = []
    for start in range(0, weight.shape[0], BLOCK_LATENTS):
        stop = start + BLOCK_LATENTS
        pre = linear(rows, weight[start:stop], bias[start:stop])
        token, latent = (pre > rule.values[start:stop].clamp(min=0)).nonzero(as_tuple=True)
        parts.append(SparseRows(token, latent + start, pre[token, latent]))
    rows_found = _joined(parts)
    if len(parts) == 1:
        return rows_found
    # Each part is ordered and the latents of the parts ascend: a stable sort by token orders the whole.
    order = rows_found.token.argsort(stable=True)
    return SparseRows(rows_found.token[order], rows_found.latent[order], rows_found.activation[order])


def _top_k(rows: Tensor, weight: Tensor, bias: Tensor, k: int) -> SparseRows:
    """Return the k largest of each token by running candidates: a latent that cannot be among them is not sorted."""
    best = torch.zeros((rows.shape[0], 0), dtype=rows.dtype, device=rows.device)
    latents = torch.zeros((rows.shape[0], 0), dtype=torch.int64, device=rows.device)
    for start in range(0, weight.shape[0], BLOCK_LATENTS):
        pre = linear(rows, weight[start : start + BLOCK_LATENTS], bias[start : start + BLOCK_LATENTS])
        values, places = _candidates(pre, _bar(pre, best, k))
        best, latents = torch.cat([best, values], dim=1), torch.cat([latents, places + start], dim=1)
        if best.shape[1] > k:
            best, order = best.topk(k, dim=1, sorted=False)
            latents = latents.gather(1, order)
    # By latent: the order of equal rows must not depend on the kernel.
    latents, order = latents.sort(dim=1)
    best = best.gather(1, order)
    token, place = (best > 0).nonzero(as_tuple=True)
    return SparseRows(token, latents[token, place], best[token, place])


def _bar(pre: Tensor, best: Tensor, k: int) -> Tensor:
    """Return (tokens, 1) a value that the k-th largest of each token reaches, so that nothing below it matters.

    The k-th largest of the maxima of disjoint groups is such a value, and is found without sorting the latents.
    """
    bar = torch.zeros((pre.shape[0], 1), dtype=pre.dtype, device=pre.device)
    groups = pre.shape[1] // _GROUP
    if groups >= k:
        maxima = pre[:, : groups * _GROUP].reshape(-1, groups, _GROUP).amax(dim=2)
        bar = torch.maximum(bar, maxima.topk(k, dim=1).values[:, -1:])
    if best.shape[1] >= k:
        bar = torch.maximum(bar, best.amin(dim=1, keepdim=True))
    return bar


def _candidates(pre: Tensor, bar: Tensor) -> tuple[Tensor, Tensor]:
    """Return values and places of all that reach the bar, (tokens, most that a token has), filled with 0."""
    token, place = (pre >= bar).nonzero(as_tuple=True)
    counts = torch.bincount(token, minlength=pre.shape[0])
    first = counts.cumsum(0) - counts
    column = torch.arange(len(token), device=pre.device) - first[token]
    most = int(counts.max()) if len(counts) else 0
    values = torch.zeros((pre.shape[0], most), dtype=pre.dtype, device=pre.device)
    places = torch.zeros((pre.shape[0], most), dtype=torch.int64, device=pre.device)
    values[token, column] = pre[token, place]
    places[token, column] = place
    return values, places


def _shifted(rows: SparseRows, tokens: int) -> SparseRows:
    return SparseRows(rows.token + tokens, rows.latent, rows.activation) if tokens else rows


def _joined(parts: list[SparseRows]) -> SparseRows:
    if len(parts) == 1:
        return parts[0]
    return SparseRows(
        token=torch.cat([part.token for part in parts]),
        latent=torch.cat([part.latent for part in parts]),
        activation=torch.cat([part.activation for part in parts]),
    )
