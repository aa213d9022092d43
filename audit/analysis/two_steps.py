"""Chosen on discovery, tested on confirmation: the two steps that every feature takes, trained or control.

The splits meet in one place only: `Selection`, which carries names and directions of features but no effect. Nothing
that was measured on discovery can reach a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.analysis.multiplicity import benjamini_hochberg, benjamini_yekutieli, holm
from audit.analysis.signflip import FlipResult, exact_p, flip_test, max_t_p, random_signs
from audit.arrays import Confirmation, Discovery, ScenarioScores
from audit.config import AnalysisConfig

FloatArray = NDArray[np.float64]
Latents = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Selection:
    """What discovery hands to confirmation: features in the order of their rank, with a direction each.

    Args:
        tested: how many features passed the blind filter.
        p_limit: the p that one more feature would need to be chosen: it follows from the number of tests and of
            chosen features, and is no feature's own.
        latents: (k,) the chosen features.
        signs: (k,) +1 or -1, the direction of the difference on discovery.
        by: (k,) whether Benjamini-Yekutieli chooses them too.
        ranked: every tested feature in the order of its rank, chosen or not.
        first_sign: the direction of the feature that ranks first; 1 when nothing was tested.
    """

    tested: int
    p_limit: float
    latents: Latents
    signs: FloatArray
    by: NDArray[np.bool_]
    ranked: Latents
    first_sign: float


@dataclass(frozen=True, slots=True)
class Selected:
    """What discovery chose for each concept, and what it would have chosen had arms been exchanged.

    Args:
        concepts: one a concept.
        relabelled: [permutation][concept] the features chosen under exchanged arms.
    """

    concepts: tuple[Selection, ...]
    relabelled: tuple[tuple[Latents, ...], ...]

    @property
    def total(self) -> int:
        """Return how many tests confirmation makes."""
        return sum(len(one.latents) for one in self.concepts)


@dataclass(frozen=True, slots=True)
class Tested:
    """Tests on confirmation of what discovery chose for one concept, in its order.

    Args:
        p, p_holm, p_max_t: (k,) each.
        same_sign: (k,) whether the difference has the direction of discovery.
        nonzero: (k,) in how many scenarios the feature differs between the arms.
    """

    p: FloatArray
    p_holm: FloatArray
    p_max_t: FloatArray
    same_sign: NDArray[np.bool_]
    nonzero: NDArray[np.int64]

    def passed(self, alpha: float) -> NDArray[np.bool_]:
        """Return which features pass the test in the direction of discovery."""
        return np.asarray((self.p_holm <= alpha) & self.same_sign, dtype=np.bool_)


def select(
    scores: Sequence[Discovery[ScenarioScores]],
    config: AnalysisConfig,
    seed: np.random.SeedSequence,
    *,
    permutations: int = 0,
) -> Selected:
    """Choose features on discovery by Benjamini-Hochberg over every live feature of every concept.

    Args:
        scores: one a concept.
        config: q and the blind filter.
        seed: of the exchanges of arms.
        permutations: how often the arms of whole scenarios are exchanged at random and the choice is made again.
    """
    parts = [item.data for item in scores]
    # Blind to labels: how often a feature fires in either arm says nothing about which arm.
    lives = [np.flatnonzero(part.fired >= config.min_firing_scenarios) for part in parts]
    found = []
    for part, live, child in zip(parts, lives, seed.spawn(len(parts)), strict=True):
        exchanged = random_signs(np.random.default_rng(child), permutations, len(part.scenarios))
        found.append(_Found(part.latents[live], flip_test(part.score[:, live], relabellings=exchanged)))
    p = np.concatenate([one.result.p for one in found])
    chosen = benjamini_hochberg(p) <= config.fdr_q
    under_any = benjamini_yekutieli(p) <= config.fdr_q
    limit = config.fdr_q * (int(chosen.sum()) + 1) / max(1, len(p))
    concepts = tuple(
        _rank(one, mask, by, limit)
        for one, mask, by in zip(found, _split(chosen, found), _split(under_any, found), strict=True)
    )
    relabelled = []
    for row in range(permutations):
        again = benjamini_hochberg(np.concatenate([one.result.p_permuted[row] for one in found])) <= config.fdr_q
        relabelled.append(tuple(one.latents[mask] for one, mask in zip(found, _split(again, found), strict=True)))
    return Selected(concepts, tuple(relabelled))


def confirm(
    scores: Sequence[Confirmation[ScenarioScores]],
    selections: Sequence[Selection],
    config: AnalysisConfig,
    seed: np.random.SeedSequence,
) -> tuple[Tested, ...]:
    """Test on confirmation what discovery chose, with Holm over all concepts and max-T within each.

    Args:
        scores: one a concept.
        selections: what discovery chose of each.
        config: flips of the max-T.
        seed: of those flips.
    """
    values = [item.data.columns(selection.latents) for item, selection in zip(scores, selections, strict=True)]
    p = [np.array([exact_p(column) for column in part.T]) for part in values]
    adjusted = np.split(holm(np.concatenate(p)), np.cumsum([len(part) for part in p])[:-1])
    return tuple(
        Tested(
            p=own,
            p_holm=own_holm,
            p_max_t=max_t_p(part, flips=config.flips, rng=np.random.default_rng(child)),
            same_sign=np.asarray(np.sign(part.sum(axis=0)) == selection.signs),
            nonzero=(np.abs(part) > 0).sum(axis=0),
        )
        for own, own_holm, part, selection, child in zip(
            p, adjusted, values, selections, seed.spawn(len(scores)), strict=True
        )
    )


def relabelled_hits(
    scores: Sequence[Confirmation[ScenarioScores]],
    relabelled: Sequence[Sequence[Latents]],
    config: AnalysisConfig,
    seed: np.random.SeedSequence,
) -> NDArray[np.bool_]:
    """Return (permutations, concepts): whether confirmation, its arms exchanged too, let any feature through."""
    rng = np.random.default_rng(seed)
    hits = np.zeros((len(relabelled), len(scores)), dtype=np.bool_)
    for row, chosen in enumerate(relabelled):
        owner, p = [], []
        for number, (item, latents) in enumerate(zip(scores, chosen, strict=True)):
            signs = rng.choice((-1.0, 1.0), size=len(item.data.scenarios))
            p += [exact_p(signs * column) for column in item.data.columns(latents).T]
            owner += [number] * len(latents)
        passed = holm(np.array(p)) <= config.alpha
        hits[row, np.array(owner, dtype=np.int64)[passed]] = True
    return hits


@dataclass(frozen=True, slots=True)
class _Found:
    latents: Latents
    result: FlipResult


def _split(mask: NDArray[np.bool_], found: Sequence[_Found]) -> list[NDArray[np.bool_]]:
    return np.split(mask, np.cumsum([len(one.latents) for one in found])[:-1])


def _rank(found: _Found, chosen: NDArray[np.bool_], by: NDArray[np.bool_], limit: float) -> Selection:
    # By |t|, not by p: the counts behind p are of rounded differences, and many features share the smallest.
    order = np.lexsort((found.latents, -np.abs(found.result.t)))
    picked = order[chosen[order]]
    signs = np.sign(found.result.t)
    return Selection(
        tested=len(found.latents),
        p_limit=limit,
        latents=found.latents[picked],
        signs=signs[picked],
        by=by[picked],
        ranked=found.latents[order],
        first_sign=float(signs[order[0]]) if len(order) else 1.0,
    )
