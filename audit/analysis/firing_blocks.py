"""Which features fire in which unit, by strata, in blocks of features whose joint counts fit in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from audit.arrays import FiringUnits

IntArray = NDArray[np.int64]

MIN_FIRING_UNITS = 8
# Two blocks of 1,024 features over 9,400 units are 77 MB as float32, their joint counts 4 MB.
_BLOCK_FEATURES = 1024
_DECILES = np.arange(1, 10) / 10
# Of the product of two blocks' densities: below it counting the firings that meet takes less time than BLAS.
_SPARSE_BELOW = 0.005


@dataclass(frozen=True, slots=True)
class FiringBlocks:
    """The live features of one SAE over the units of comparable scenarios.

    Scenarios are comparable that have the same cells and the same decile of length, which is the mean number of tokens
    of their units: they form a group, and their units in one cell a stratum. A scenario without another one in its
    group says nothing about features given cell and length, and is left out. Units are ordered by group, cell and
    scenario, so that the strata of a group have the same scenarios in the same order.

    Args:
        latents: (m,) the live features, those that fire in most units first: rare ones then share blocks, many of
            which are too sparse for a dense product or for a test.
        counts: (m,) in how many units each fires.
        start: (strata + 1,) where the units of each stratum begin.
        group: (strata,) ascending, the group of each.
        blocks: (features of the block, units) bool each, in the order of `latents`.
    """

    latents: IntArray
    counts: IntArray
    start: IntArray
    group: IntArray
    blocks: tuple[csr_matrix, ...]

    @property
    def sizes(self) -> IntArray:
        """Return (strata,) how many units each stratum has."""
        return np.diff(self.start)

    @property
    def stratum(self) -> IntArray:
        """Return (units,) the stratum of each unit."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    def margins(self, block: csr_matrix) -> csr_matrix:
        """Return (features, strata) float64: in how many units of each stratum the features of a block fire."""
        units = len(self.stratum)
        member = csr_matrix((np.ones(units), (np.arange(units), self.stratum)), shape=(units, len(self.sizes)))
        return block.astype(np.float64) @ member

    def permuted(self, seed: np.random.SeedSequence) -> tuple[csr_matrix, ...]:
        """Return the blocks with the scenarios of each group permuted, for each feature on its own.

        A scenario moves with its units in all cells: a feature that follows a scenario's words fires in several of its
        arms, and units permuted one by one would make chance look rarer than it is. Margins stay as they are.
        """
        return tuple(
            self._permute(block, np.random.default_rng(child))
            for block, child in zip(self.blocks, seed.spawn(len(self.blocks)), strict=True)
        )

    def _permute(self, block: csr_matrix, rng: np.random.Generator) -> csr_matrix:
        fired = np.ascontiguousarray(block.toarray().T)
        _, first, cells = np.unique(self.group, return_index=True, return_counts=True)
        for stratum, own in zip(first, cells, strict=True):
            begin, end = self.start[stratum], self.start[stratum + own]
            size = self.sizes[stratum]
            order = rng.random((1, size, block.shape[0]), dtype=np.float32).argsort(axis=1)
            slab = fired[begin:end].reshape(own, size, -1)
            fired[begin:end] = np.take_along_axis(slab, order, axis=1).reshape(end - begin, -1)
        return csr_matrix(np.ascontiguousarray(fired.T))


def firing_blocks(units: FiringUnits, *, block_features: int = _BLOCK_FEATURES) -> FiringBlocks:
    """Return the live features: those that fire in at least `MIN_FIRING_UNITS` units of comparable scenarios."""
    used, start, group = _comparable(units)
    place = np.full(len(units.tokens), -1)
    place[used] = np.arange(len(used))
    unit = place[np.repeat(np.arange(len(units.tokens)), np.diff(units.start))]
    kept = unit >= 0
    where = units.latent[kept], unit[kept]
    fired = csr_matrix((np.ones(len(where[0]), dtype=np.bool_), where), shape=(units.latents, len(used)))
    counts = np.diff(fired.indptr).astype(np.int64)
    latents = np.flatnonzero(counts >= MIN_FIRING_UNITS)
    latents = latents[np.argsort(-counts[latents], kind="stable")]
    return FiringBlocks(
        latents=latents,
        counts=counts[latents],
        start=start,
        group=group,
        blocks=tuple(fired[latents[n : n + block_features]] for n in range(0, len(latents), block_features)),
    )


def product(first: csr_matrix, second: csr_matrix) -> NDArray[Any]:
    """Return the (a, b) products of the rows of two blocks, dense, in their dtype.

    Joint firings of 0 and 1 as float32 are counted exactly up to 16.7 million units.
    """
    if first.nnz / np.prod(first.shape) * (second.nnz / np.prod(second.shape)) < _SPARSE_BELOW:
        return np.asarray((first @ second.T).toarray())
    return np.asarray(first.toarray() @ second.toarray().T)


def _comparable(units: FiringUnits) -> tuple[IntArray, IntArray, IntArray]:
    """Return the units of comparable scenarios in order, where their strata begin, and the group of each stratum."""
    if not len(units.tokens):
        return np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64)
    _, scenario, sizes = np.unique(units.scenario, return_inverse=True, return_counts=True)
    names, cell = np.unique(units.cell, return_inverse=True)
    length = np.bincount(scenario, weights=units.tokens) / sizes
    decile = np.searchsorted(np.quantile(length[scenario], _DECILES), length)
    group = _groups(scenario, cell, decile)
    shared = np.bincount(group) > 1
    by_unit = group[scenario]
    order = np.lexsort((scenario, cell, by_unit))
    used = order[shared[by_unit[order]]]
    own = by_unit[used] * len(names) + cell[used]
    strata, start = np.unique(own, return_index=True)
    return used, np.append(start, len(used)), strata // len(names)


def _groups(scenario: IntArray, cell: IntArray, decile: IntArray) -> IntArray:
    """Return (scenarios,) a number for each set of cells and decile, in the order in which they first appear."""
    order = np.lexsort((cell, scenario))
    own = np.split(cell[order], np.flatnonzero(np.diff(scenario[order])) + 1)
    numbers: dict[tuple[bytes, int], int] = {}
    return np.array(
        [numbers.setdefault((cells.tobytes(), int(d)), len(numbers)) for cells, d in zip(own, decile, strict=True)],
        dtype=np.int64,
    )
