"""The Mantel-Haenszel test of all pairs of features, observed and permuted, without a list of all pairs.

Joint counts are products of blocks of features, expectation and variance products of their margins per stratum; what
is kept of a pair is how extreme it is, and everything only of the most extreme.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import chdtri

from audit.analysis.firing_blocks import FiringBlocks, product
from audit.arrays import FloatArray

IntArray = NDArray[np.int64]

# |z| is compared in thousandths: equally extreme pairs are counted without sorting all of them.
STEPS = 1000
_NAIVE_P = 0.05
# Sums in another order differ by less: a threshold that is met exactly is met.
_ROUNDING = 1e-6
# The observed firings and seven permutations: 300 MB where there are 7.4 million firings.
_TOGETHER = 8


@dataclass(frozen=True, slots=True)
class TestedPairs:
    """Some tested pairs, the most extreme first, then by latents.

    Args:
        first, second: (k,) latents, first < second.
        step: (k,) |z| in thousandths, rounded down.
        observed, expected: (k,) joint counts.
    """

    first: IntArray
    second: IntArray
    step: IntArray
    observed: IntArray
    expected: FloatArray

    def strongest(self, most: int) -> TestedPairs:
        """Return the most extreme of them in order."""
        return self._pick(np.lexsort((self.second, self.first, -self.step))[:most])

    def at_least(self, step: int) -> TestedPairs:
        """Return those that are at least so extreme."""
        return self._pick(np.flatnonzero(self.step >= step))

    def _pick(self, places: IntArray) -> TestedPairs:
        return TestedPairs(*(getattr(self, item.name)[places] for item in fields(self)))


@dataclass(frozen=True, slots=True)
class PairScan:
    """How extreme all tested pairs are.

    Args:
        observed: (steps,) how many pairs have |z| of each step, in thousandths.
        permuted: (steps,) the same, summed over the permutations.
        naive: how many of them a chi-square over the same units without strata flags at p < 0.05.
        strongest: the most extreme observed pairs.
    """

    observed: IntArray
    permuted: IntArray
    naive: int
    strongest: TestedPairs


def scan_pairs(firings: FiringBlocks, *, min_expected: float, permutations: int, listed: int, seed: int) -> PairScan:
    """Test every pair of live features with an expected joint count of at least `min_expected`.

    The statistic is |observed - expected| / sd with the hypergeometric mean and variance summed over strata, without a
    continuity correction: the chi-square of Mantel and Haenszel (1959) with one degree of freedom is its square. Pairs
    without variance, where no stratum has both features fire in some units and not in others, are not tested.

    Args:
        firings: of the live features.
        min_expected: a lower expected count over all strata is not tested.
        permutations: how often scenarios are permuted within strata.
        listed: how many of the most extreme pairs to keep.
        seed: of the permutations.
    """
    # |z| is at most the root of the number of units, by the inequality of Cauchy and Schwarz.
    steps = int(STEPS * np.sqrt(firings.start[-1])) + 2
    observed, permuted, naive = np.zeros(steps, dtype=np.int64), np.zeros(steps, dtype=np.int64), 0
    kept = _no_pairs()
    seeds = np.random.SeedSequence(seed).spawn(permutations)
    for begin in range(0, permutations + 1, _TOGETHER):
        drawn = [firings.permuted(child) for child in seeds[max(0, begin - 1) : begin + _TOGETHER - 1]]
        for a in range(len(firings.blocks)):
            for b in range(a, len(firings.blocks)):
                pairs = _expect(firings, a, b, min_expected)
                if not len(pairs.expected):
                    continue
                for blocks in drawn:
                    permuted += np.bincount(_steps(pairs, _joint(pairs, blocks)), minlength=steps)
                if begin == 0:
                    joint = _joint(pairs, firings.blocks)
                    own = _steps(pairs, joint)
                    observed += np.bincount(own, minlength=steps)
                    naive += _naive_hits(pairs, firings, joint)
                    kept = _merge(kept, _named(pairs, firings, joint, own, listed)).strongest(listed)
    return PairScan(observed, permuted, naive, kept)


@dataclass(frozen=True, slots=True)
class _BlockPairs:
    """The testable pairs of two blocks.

    Args:
        blocks: numbers of the two blocks.
        rows, columns: (k,) places of the two features in their blocks.
        expected, deviation: (k,) of the joint count under independence given the stratum.
    """

    blocks: tuple[int, int]
    rows: IntArray
    columns: IntArray
    expected: FloatArray
    deviation: FloatArray


def _expect(firings: FiringBlocks, a: int, b: int, min_expected: float) -> _BlockPairs:
    n = firings.sizes.astype(np.float64)
    first, second = firings.margins(firings.blocks[a]), firings.margins(firings.blocks[b])
    expected = product(_with(first, first.data / n[first.indices]), second)
    # A pair and its mirror are one test, and a feature is no pair with itself.
    tested = np.triu(np.ones_like(expected, dtype=np.bool_), k=1) if a == b else np.ones_like(expected, dtype=np.bool_)
    tested &= expected >= min_expected - _ROUNDING
    if not tested.any():
        rows = columns = np.zeros(0, dtype=np.int64)
        return _BlockPairs((a, b), rows, columns, np.zeros(0), np.zeros(0))
    silent, other_silent = n[first.indices] - first.data, n[second.indices] - second.data
    variance = product(
        _with(first, first.data * silent / (n**2 * (n - 1))[first.indices]), _with(second, second.data * other_silent)
    )
    tested &= variance > 0
    rows, columns = np.nonzero(tested)
    return _BlockPairs((a, b), rows, columns, expected[tested], np.sqrt(variance[tested]))


def _with(margins: csr_matrix, values: FloatArray) -> csr_matrix:
    return csr_matrix((values, margins.indices, margins.indptr), shape=margins.shape)


def _joint(pairs: _BlockPairs, blocks: Sequence[csr_matrix]) -> FloatArray:
    first, second = pairs.blocks
    counts = product(blocks[first].astype(np.float32), blocks[second].astype(np.float32))
    return np.asarray(counts[pairs.rows, pairs.columns], dtype=np.float64)


def _steps(pairs: _BlockPairs, joint: FloatArray) -> IntArray:
    z = np.abs(joint - pairs.expected) / pairs.deviation
    return np.asarray(z * STEPS + _ROUNDING, dtype=np.int64)


def _naive_hits(pairs: _BlockPairs, firings: FiringBlocks, joint: FloatArray) -> int:
    places = _places(pairs, firings)
    n = float(firings.start[-1])
    first, second = (firings.counts[place].astype(np.float64) for place in places)
    chi_square = n * (n * joint - first * second) ** 2 / (first * (n - first) * second * (n - second))
    return int((chi_square > chdtri(1, _NAIVE_P)).sum())


def _places(pairs: _BlockPairs, firings: FiringBlocks) -> tuple[IntArray, IntArray]:
    starts = np.cumsum([0, *(block.shape[0] for block in firings.blocks)])
    return starts[pairs.blocks[0]] + pairs.rows, starts[pairs.blocks[1]] + pairs.columns


def _named(pairs: _BlockPairs, firings: FiringBlocks, joint: FloatArray, steps: IntArray, most: int) -> TestedPairs:
    """Return the pairs that are among the most extreme of their blocks, with all that tie with the last one."""
    least = np.partition(steps, -most)[-most] if 0 < most < len(steps) else 0
    chosen = np.flatnonzero(steps >= least) if most else np.zeros(0, dtype=np.int64)
    one, other = (firings.latents[place[chosen]] for place in _places(pairs, firings))
    return TestedPairs(
        first=np.minimum(one, other),
        second=np.maximum(one, other),
        step=steps[chosen],
        observed=joint[chosen].astype(np.int64),
        expected=pairs.expected[chosen],
    )


def _merge(one: TestedPairs, other: TestedPairs) -> TestedPairs:
    return TestedPairs(*(np.concatenate([getattr(one, f.name), getattr(other, f.name)]) for f in fields(one)))


def _no_pairs() -> TestedPairs:
    none = np.zeros(0, dtype=np.int64)
    return TestedPairs(none, none, none, none, np.zeros(0))
