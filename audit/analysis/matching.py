"""Pair the latents of two SAEs by what they do on the same tokens.

Latents are partners when each is the other's best, the assignment with the largest summed correlation (Kuhn 1955) pairs
them too, and their correlation reaches a limit and exceeds what the latent has with any latent of the other when the
tokens of one SAE are shifted in a circle. Two trainings of one model share only part of their latents (Paulo and
Belrose 2025, arXiv 2501.16615): a latent without a partner is unmatched, which is not to say that it is new.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from audit.arrays import TokenRows
from audit.records import DiffMargins

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_BLOCK_LATENTS = 512


@dataclass(frozen=True, slots=True)
class MatchedLatents:
    """Which latents are partners.

    Args:
        base, new: (k,) latents, pair by pair, ascending by base; r: (k,) their correlations.
        live_base, live_new: latents that fire on enough tokens.
        null_r: the largest correlation under any shift.
    """

    base: IntArray
    new: IntArray
    r: FloatArray
    live_base: IntArray
    live_new: IntArray
    null_r: float


@dataclass(frozen=True, slots=True)
class _Columns:
    """Activations of live latents, (tokens, live) sparse, with what standardises them."""

    values: csr_matrix
    latents: IntArray
    mean: FloatArray
    deviation: FloatArray


def match_latents(base: TokenRows, new: TokenRows, margins: DiffMargins) -> MatchedLatents:
    """Return the partners among the latents of two SAEs.

    Args:
        base: activations of the one SAE.
        new: of the other, on the same tokens in the same order.
        margins: the limits.
    """
    one, other = (_columns(rows, least=margins.match_tokens) for rows in (base, new))
    if not len(one.latents) or not len(other.latents):
        none = np.zeros(0, dtype=np.int64)
        return MatchedLatents(none, none, np.zeros(0), one.latents, other.latents, 0.0)
    steps = [base.tokens * (n + 1) // (margins.match_shifts + 1) for n in range(margins.match_shifts)]
    null = np.zeros(len(one.latents))
    for step in steps:
        shifted = other.values[np.roll(np.arange(base.tokens), step)]
        for start, block in _correlations(one, other, shifted):
            null[start : start + len(block)] = np.maximum(null[start : start + len(block)], block.max(axis=1))
    found = _candidates(one, other, least=margins.match_r)
    beyond = found.only(found.r > null[found.rows])
    pairs = beyond.only(beyond.mutual & _assigned(beyond))
    return MatchedLatents(
        base=one.latents[pairs.rows],
        new=other.latents[pairs.columns],
        r=pairs.r,
        live_base=one.latents,
        live_new=other.latents,
        null_r=float(null.max()),
    )


def _columns(rows: TokenRows, *, least: int) -> _Columns:
    latents, place, count = np.unique(rows.latent, return_inverse=True, return_counts=True)
    live = count >= least
    number = np.cumsum(live) - 1
    kept = live[place]
    shape = (rows.tokens, int(live.sum()))
    values = coo_matrix((rows.activation[kept], (rows.token[kept], number[place[kept]])), shape=shape).tocsr()
    mean = np.asarray(values.sum(axis=0), dtype=np.float64).ravel() / rows.tokens
    squares = np.asarray(values.multiply(values).sum(axis=0), dtype=np.float64).ravel() / rows.tokens
    return _Columns(values, latents[live], mean, np.sqrt(np.maximum(squares - mean**2, 1e-24)))


def _correlations(one: _Columns, other: _Columns, values: csr_matrix) -> Iterator[tuple[int, FloatArray]]:
    """Yield the start and the (block, live) correlations of some latents of the one with all of the other."""
    tokens = values.shape[0]
    transposed = one.values.T.tocsr()
    for start in range(0, len(one.latents), _BLOCK_LATENTS):
        end = min(start + _BLOCK_LATENTS, len(one.latents))
        products = (transposed[start:end] @ values).toarray() / tokens
        products -= one.mean[start:end, None] * other.mean
        yield start, products / (one.deviation[start:end, None] * other.deviation)


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Pairs that correlate enough: places of latents, correlations, and whether each is the other's best."""

    rows: IntArray
    columns: IntArray
    r: FloatArray
    mutual: NDArray[np.bool_]

    def only(self, wanted: NDArray[np.bool_]) -> _Candidates:
        return _Candidates(self.rows[wanted], self.columns[wanted], self.r[wanted], self.mutual[wanted])


def _candidates(one: _Columns, other: _Columns, *, least: float) -> _Candidates:
    best_column = np.zeros(len(one.latents), dtype=np.int64)
    best_row = np.zeros(len(other.latents), dtype=np.int64)
    highest = np.full(len(other.latents), -np.inf)
    parts: list[tuple[IntArray, IntArray, FloatArray]] = []
    for start, block in _correlations(one, other, other.values):
        best_column[start : start + len(block)] = block.argmax(axis=1)
        top = block.max(axis=0)
        best_row = np.where(top > highest, start + block.argmax(axis=0), best_row)
        highest = np.maximum(highest, top)
        rows, columns = np.nonzero(block >= least)
        parts.append((rows + start, columns, block[rows, columns]))
    rows, columns = (np.concatenate([part[n] for part in parts]).astype(np.int64) for n in (0, 1))
    r = np.concatenate([part[2] for part in parts])
    return _Candidates(rows, columns, r, (best_column[rows] == columns) & (best_row[columns] == rows))


def _assigned(pairs: _Candidates) -> NDArray[np.bool_]:
    """Return which candidates the assignment with the largest summed correlation takes.

    Candidates that share no latent, directly or through others, do not compete: each such group is assigned alone.
    """
    taken = np.zeros(len(pairs.rows), dtype=np.bool_)
    if not len(taken):
        return taken
    rows, columns = int(pairs.rows.max()) + 1, int(pairs.columns.max()) + 1
    links = coo_matrix((pairs.r, (pairs.rows, pairs.columns + rows)), shape=(rows + columns, rows + columns))
    _, group = connected_components(links, directed=False)
    for members in _groups(group[pairs.rows]):
        own, row = np.unique(pairs.rows[members], return_inverse=True)
        others, column = np.unique(pairs.columns[members], return_inverse=True)
        weight = np.zeros((len(own), len(others)))
        weight[row, column] = pairs.r[members]
        chosen = np.zeros_like(weight, dtype=np.bool_)
        chosen[linear_sum_assignment(weight, maximize=True)] = True
        taken[members] = chosen[row, column]
    return taken


def _groups(labels: IntArray) -> list[IntArray]:
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
