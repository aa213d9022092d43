"""The contrasts between the cells of a mix: what is subtracted from what, for each scenario and feature.

Every measure has a version in which the placebo stands in the second concept's place. Nothing here is a maximum but the
threshold measure: the maximum of two independent clauses is below the sum of their maxima, so a contrast of maxima
finds an interaction where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.arrays import Discovery, FloatArray, MixScores
from audit.records import MixMeasure
from probes.schema import Cell, Order

MEASURES = tuple(MixMeasure)
_CELLS, _ORDERS = list(Cell), list(Order)
# Without both concepts: what any of these reaches does not need the two together. B's cell and the placebo's are both
# there, so that the threshold is the same whichever of the two is called B.
_NOT_BOTH = tuple(_CELLS.index(cell) for cell in (Cell.NEITHER, Cell.FIRST, Cell.SECOND, Cell.PLACEBO))


@dataclass(frozen=True, slots=True)
class MixContrasts:
    """What a claim rests on: a measure's own values and its excess over another version of it.

    Args:
        own: (measures, n, m) in the order of `MixMeasure`, one value a scenario and feature.
        excess: (measures, n, m) own minus the other version; None where nothing is compared.
        alone: (2, n, m) share of the orders in which the feature exceeds its threshold on one concept alone: the
            first, then the second or what stands in its place.
    """

    own: FloatArray
    excess: FloatArray | None
    alone: FloatArray

    @property
    def columns(self) -> FloatArray:
        """Return (n, k) the values of every test, own before excess, measure by measure."""
        tests = self.own if self.excess is None else np.concatenate([self.own, self.excess])
        return flat(tests)

    def single_firing(self) -> FloatArray:
        """Return (m,) the share of scenarios above the threshold on one concept alone, the larger of the two."""
        rates: FloatArray = self.alone.mean(axis=1).max(axis=0)
        return rates

    def pick(self, features: NDArray[np.int64]) -> MixContrasts:
        """Return the contrasts of some features, by place."""
        excess = None if self.excess is None else self.excess[..., features]
        return MixContrasts(self.own[..., features], excess, self.alone[..., features])


@dataclass(frozen=True, slots=True)
class MixDifferences:
    """Every measure of one mix on one split, for the second concept and for the placebo in its place.

    Args:
        second, placebo: (measures, n, m) in the order of `MixMeasure`.
        alone: (3, n, m) share of the orders above the threshold on the first concept, the second and the placebo alone.
    """

    second: FloatArray
    placebo: FloatArray
    alone: FloatArray

    def contrasts(self) -> MixContrasts:
        """Return what a claim about the two concepts rests on."""
        return MixContrasts(self.second, self.second - self.placebo, self.alone[:2])

    def placebo_contrasts(self) -> MixContrasts:
        """Return what is found when the placebo is taken for the second concept and compared with nothing."""
        return MixContrasts(self.placebo, None, self.alone[[0, 2]])

    def exchanged(self, signs: FloatArray) -> MixDifferences:
        """Return the measures with second concept and placebo exchanged in the scenarios whose sign is -1, (n,)."""
        swap = (signs < 0)[:, None]
        return MixDifferences(
            np.where(swap, self.placebo, self.second),
            np.where(swap, self.second, self.placebo),
            np.stack(
                [
                    self.alone[0],
                    np.where(swap, self.alone[2], self.alone[1]),
                    np.where(swap, self.alone[1], self.alone[2]),
                ]
            ),
        )

    def pick(self, features: NDArray[np.int64]) -> MixDifferences:
        """Return the measures of some features, by place."""
        return MixDifferences(self.second[..., features], self.placebo[..., features], self.alone[..., features])


def flat(values: FloatArray) -> FloatArray:
    """Return (n, measures x m) of (measures, n, m): a column a test, measure by measure."""
    columns: FloatArray = values.transpose(1, 0, 2).reshape(values.shape[1], -1)
    return columns


def live_latents(scores: Discovery[MixScores], *, least: int) -> NDArray[np.int64]:
    """Return the latents that fire in at least so many scenarios, in any cell and order: blind to what is compared."""
    fires = (scores.data.largest > 0).any(axis=(0, 1)).sum(axis=0)
    live: NDArray[np.int64] = scores.data.latents[fires >= least]
    return live


def thresholds(scores: Discovery[MixScores], latents: NDArray[np.int64], *, single_firing: float) -> FloatArray:
    """Return (k,) the level that each latent exceeds in at most the given share of each cell without both concepts.

    That is the largest of the cells' quantiles, over scenarios and orders. A quantile, since one prompt in which a
    feature fires by chance is no level; at the share that the word *emergent* allows, so that discovery and
    confirmation ask the same. It is 0 for a feature that is silent without both.
    """
    largest = _spread(scores.data, scores.data.largest, latents)[list(_NOT_BOTH)]
    cells = largest.reshape(len(_NOT_BOTH), -1, len(latents))
    level: FloatArray = np.quantile(cells, 1 - single_firing, axis=1).max(axis=0)
    return level


def measure(scores: MixScores, latents: NDArray[np.int64], limits: FloatArray) -> MixDifferences:
    """Return every measure of the given latents; one that never fired there measures 0.

    Aligned: the first concept's own tokens with the second one in front of them, in the order where it is, minus with
    filler in front. The second one's own tokens likewise, with the first in front; beside a placebo there are no tokens
    of the second concept, so its placebo version is of the placebo's own tokens, after the first concept minus after
    filler. Additive: sums over both clauses, which are the same sentences in the four cells, mean over the orders.
    Emergent: the race bound (Miller 1982). Whatever either concept does by itself, on the two together a feature can
    exceed a level no more often than on the one plus on the other; mean over the orders.

    Args:
        scores: what the features do in each cell.
        latents: (k,) which latents.
        limits: (k,) their thresholds.
    """
    first, second, largest = (_spread(scores, part, latents) for part in (scores.first, scores.second, scores.largest))
    a_front, b_front = _ORDERS.index(Order.A_FIRST), _ORDERS.index(Order.B_FIRST)
    above = (largest > limits).mean(axis=1)

    def version(*, both: Cell, single: Cell) -> FloatArray:
        neither, only, other, together = (_CELLS.index(c) for c in (Cell.NEITHER, Cell.FIRST, single, both))
        return np.stack(
            [
                first[together, b_front] - first[only, b_front],
                second[together, a_front] - second[other, a_front],
                # Each span minus itself beside the other clause: where nothing reacts this is zero, not rounding.
                (
                    (first[together] - first[only])
                    - (first[other] - first[neither])
                    + (second[together] - second[other])
                    - (second[only] - second[neither])
                ).mean(axis=0),
                above[together] - above[only] - above[other],
            ]
        )

    return MixDifferences(
        second=version(both=Cell.BOTH, single=Cell.SECOND),
        placebo=version(both=Cell.FIRST_PLACEBO, single=Cell.PLACEBO),
        alone=above[[_CELLS.index(cell) for cell in (Cell.FIRST, Cell.SECOND, Cell.PLACEBO)]],
    )


def _spread(scores: MixScores, values: FloatArray, wanted: NDArray[np.int64]) -> FloatArray:
    """Return (cells, orders, n, k) of the wanted latents; zeros for one that is not there."""
    found = np.zeros((*values.shape[:3], len(wanted)))
    present = np.isin(wanted, scores.latents)
    found[..., present] = values[..., np.searchsorted(scores.latents, wanted[present])]
    return found
