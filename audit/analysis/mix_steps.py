"""The two steps of the factorial over a mix, chosen on discovery and tested on confirmation, and their placebo control.

A claim needs two tests, the measure's own and that of its excess over the placebo version, in one direction: its p is
the larger of the two, the intersection-union test (Berger 1982), whose level holds whichever of the two is true.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.analysis.mix_measures import MEASURES, MixContrasts, MixDifferences, flat
from audit.analysis.multiplicity import benjamini_hochberg, holm
from audit.analysis.signflip import exact_p, flip_test, max_t_p, random_signs
from audit.arrays import Confirmation, Discovery, FloatArray, Halves
from audit.config import AnalysisConfig
from audit.records import MixMeasure, MixWord

Mask = NDArray[np.bool_]

_ADDITIVE, _EMERGENT = MEASURES.index(MixMeasure.ADDITIVE), MEASURES.index(MixMeasure.EMERGENT)
_ALIGNED = (MEASURES.index(MixMeasure.ALIGNED_A), MEASURES.index(MixMeasure.ALIGNED_B))
# Sign assignments that tell roughly where a level of the maximum lies: one and a half times the level is five standard
# errors away. A relabelled run makes do with them, since a p with the +1 rule holds at any number.
_ROUGH_FLIPS = 2000
_ROUGHLY = 1.5
# Tests whose maximum bounds that of all from below.
_LEADERS = 500
# Small enough that a block of sums stays in the processor's cache.
_FLIPS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Chosen:
    """What discovery hands to confirmation.

    Args:
        signs: (measures, m) direction of each chosen test; 0 where it is not chosen.
        by_maximum: whether max-T chose because sign-flip p-values could not be small enough for Benjamini-Hochberg.
    """

    signs: FloatArray
    by_maximum: bool


@dataclass(frozen=True, slots=True)
class TestedMix:
    """Tests on confirmation of one family.

    Args:
        made: (measures, m) which tests were made.
        p, p_holm: (measures, m) of both tests together; 1 where none was made.
        claims: (measures, m) direction of what passes, 0 where nothing does.
    """

    made: Mask
    p: FloatArray
    p_holm: FloatArray
    claims: FloatArray


def choose(
    contrasts: Discovery[MixContrasts], config: AnalysisConfig, rng: np.random.Generator, *, flips: int | None = None
) -> Chosen:
    """Choose features x measures on discovery: Benjamini-Hochberg, or max-T where n is too small for it.

    With n scenarios no sign-flip p is below 2 / 2^n; where that exceeds q / tests, the maximum of |t| over all tests
    of all features, own and excess, decides at the level q instead.

    Args:
        contrasts: of m features.
        config: the level.
        rng: source of the sign assignments of the maximum.
        flips: how many, where it is not the configured number.
    """
    data = contrasts.data
    tests, n = data.own[:, 0].size, data.own.shape[1]
    direction = _direction(data).ravel()
    # Both tests of a claim, one above the other; the larger p decides.
    shape = (1 if data.excess is None else 2, tests)
    by_maximum = needs_maximum(n, tests, config)
    if by_maximum:
        adjusted = _max_t(data.columns, config, rng, flips=flips or config.flips)
        below = adjusted.reshape(shape).max(axis=0) <= config.fdr_q
    else:
        p = flip_test(data.columns).p.reshape(shape).max(axis=0)
        below = benjamini_hochberg(np.where(direction != 0, p, 1.0)) <= config.fdr_q
    return Chosen(np.where(below, direction, 0.0).reshape(len(MEASURES), -1), by_maximum)


def needs_maximum(n: int, tests: int, config: AnalysisConfig) -> bool:
    """Return whether the smallest p of n scenarios exceeds what Benjamini-Hochberg asks of a single discovery."""
    return 2.0 ** (1 - n) > config.fdr_q / max(1, tests)


def confirm(
    contrasts: Confirmation[MixContrasts],
    signs: FloatArray | None,
    config: AnalysisConfig,
    *,
    family: int | None = None,
) -> TestedMix:
    """Test on confirmation, with Holm over the family.

    Args:
        contrasts: of m features.
        signs: (measures, m) direction that each test must have, 0 where none is made; None tests all, two-sided.
        config: the level.
        family: how many tests Holm corrects for, where more were made than are given; those have p = 1.
    """
    data = contrasts.data
    shape = (len(MEASURES), data.own.shape[2])
    direction = _direction(data)
    made = np.ones(shape, dtype=np.bool_) if signs is None else signs != 0
    agrees = made & (direction != 0) & (made if signs is None else signs == direction)
    p, adjusted = np.ones(shape), np.ones(shape)
    both = [part for part in (data.own, data.excess) if part is not None]
    for number, place in np.argwhere(agrees):
        p[number, place] = max(exact_p(part[number, :, place]) for part in both)
    tests = int(made.sum())
    padding = np.ones(max(0, (family or tests) - tests))
    adjusted[made] = holm(np.concatenate([p[made], padding]))[:tests]
    return TestedMix(made, p, adjusted, np.where(agrees & (adjusted <= config.alpha), direction, 0.0))


def words(claims: FloatArray, single_firing: FloatArray, *, limit: float) -> dict[MixWord, Mask]:
    """Return for each word the (m,) features for which it holds.

    Args:
        claims: (measures, m) direction of what passes.
        single_firing: (m,) share of scenarios above the threshold on one concept alone.
        limit: the largest share at which a feature is emergent.
    """
    aligned = claims[list(_ALIGNED)]
    return {
        MixWord.SYNERGY: claims[_ADDITIVE] > 0,
        MixWord.SUPPRESSION: (claims[_ADDITIVE] < 0) & (aligned < 0).any(axis=0),
        MixWord.FACILITATION: (aligned > 0).any(axis=0),
        MixWord.EMERGENT: (claims[_EMERGENT] > 0) & (single_firing <= limit),
    }


def any_word(tested: TestedMix, contrasts: Confirmation[MixContrasts], *, limit: float) -> Mask:
    """Return (m,) the features for which some word holds on confirmation."""
    held = words(tested.claims, contrasts.data.single_firing(), limit=limit)
    return np.asarray(np.any(list(held.values()), axis=0), dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Families:
    """Places of the features of the two families: those confirmed on other texts, and all others that are live."""

    confirmed: NDArray[np.int64]
    scan: NDArray[np.int64]


def placebo_alone(
    halves: Halves[MixDifferences],
    families: Families,
    config: AnalysisConfig,
    *,
    limit: float,
    rng: np.random.Generator,
) -> int:
    """Return for how many features some word would hold of the placebo, were it not for the second test."""
    discovery = Discovery(halves.discovery.data.pick(families.scan).placebo_contrasts())
    held_out = halves.confirmation.data
    scanned = Confirmation(held_out.pick(families.scan).placebo_contrasts())
    confirmed = Confirmation(held_out.pick(families.confirmed).placebo_contrasts())
    tested = confirm(scanned, choose(discovery, config, rng).signs, config)
    return int(
        any_word(tested, scanned, limit=limit).sum()
        + any_word(confirm(confirmed, None, config), confirmed, limit=limit).sum()
    )


def relabelled_hits(
    halves: Halves[MixDifferences],
    families: Families,
    config: AnalysisConfig,
    *,
    limit: float,
    rng: np.random.Generator,
) -> Mask:
    """Return (permutations,) whether the whole procedure finds anything with second concept and placebo exchanged.

    In each run they are exchanged in a random half of the scenarios of either split. Were the concept to do what any
    clause does, this would change nothing; whatever it does, an exchanged excess has no direction.
    """
    first, second = (
        random_signs(rng, config.permutations, part.data.second.shape[1])
        for part in (halves.discovery, halves.confirmation)
    )
    scan = Halves(
        Discovery(halves.discovery.data.pick(families.scan)),
        Confirmation(halves.confirmation.data.pick(families.scan)),
    )
    confirmed = Confirmation(halves.confirmation.data.pick(families.confirmed))
    hits = _relabelled_confirmed(confirmed, second, config, limit=limit)
    for run in _promising(scan.discovery, first, config, rng):
        exchanged = Discovery(scan.discovery.data.exchanged(first[run]).contrasts())
        signs = choose(exchanged, config, rng, flips=_ROUGH_FLIPS).signs
        places = np.flatnonzero((signs != 0).any(axis=0))
        if len(places):
            held_out = Confirmation(scan.confirmation.data.pick(places).exchanged(second[run]).contrasts())
            tested = confirm(held_out, signs[:, places], config)
            hits[run] |= any_word(tested, held_out, limit=limit).any()
    return hits


def _relabelled_confirmed(
    values: Confirmation[MixDifferences], signs: FloatArray, config: AnalysisConfig, *, limit: float
) -> Mask:
    """Return (runs,) whether the family of confirmed features finds anything when exchanged."""
    data = values.data
    tests, hits = data.second[:, 0].size, np.zeros(len(signs), dtype=np.bool_)
    if not tests:
        return hits
    shape = data.second[:, 0].shape
    # Exchanging flips the sign of the excess, whose p is a lower bound: only where it passes is there more to see.
    excess = flip_test(flat(data.second - data.placebo), relabellings=signs).p_permuted
    for run in np.flatnonzero(excess.min(axis=1) * tests <= config.alpha):
        promising = (excess[run] <= config.alpha).reshape(shape)
        places = np.flatnonzero(promising.any(axis=0))
        exchanged = Confirmation(data.pick(places).exchanged(signs[run]).contrasts())
        tested = confirm(exchanged, None, config, family=tests)
        hits[run] = any_word(tested, exchanged, limit=limit).any()
    return hits


def _promising(
    values: Discovery[MixDifferences], signs: FloatArray, config: AnalysisConfig, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the relabelled runs in which discovery may choose something: what the excess alone would choose.

    The excess is one of the two tests of every claim, so this leaves no run out.
    """
    excess = flat(values.data.second - values.data.placebo)
    n, tests = excess.shape
    if not tests:
        return np.zeros(0, dtype=np.int64)
    if not needs_maximum(n, tests, config):
        p = flip_test(excess, relabellings=signs).p_permuted
        return np.flatnonzero([(benjamini_hochberg(row) <= config.fdr_q).any() for row in p])
    unit = _unit(excess)
    top = _maxima(np.concatenate([signs, random_signs(rng, _ROUGH_FLIPS, n)]), unit)
    level = np.quantile(top[len(signs) :], 1 - _ROUGHLY * config.fdr_q)
    return np.flatnonzero(top[: len(signs)] >= level)


def _direction(data: MixContrasts) -> FloatArray:
    """Return (measures, m) the direction that both tests have; 0 where they differ, or where only up is of interest."""
    direction: FloatArray = np.sign(data.own.sum(axis=1))
    if data.excess is not None:
        direction = np.where(np.sign(data.excess.sum(axis=1)) == direction, direction, 0.0)
    direction[_EMERGENT] = np.maximum(direction[_EMERGENT], 0.0)
    return direction


def _max_t(columns: FloatArray, config: AnalysisConfig, rng: np.random.Generator, *, flips: int) -> FloatArray:
    """Return `max_t_p` of the columns that it may choose, and 1 for the others.

    A few flips of the tests that can reach furthest say what is too small to be chosen. A test that under no flip could
    reach what is left open changes no count, and is left out of the maximum.
    """
    p = np.ones(columns.shape[1])
    unit = _unit(columns)
    size, reach = np.abs(unit.sum(axis=0)), np.abs(unit).sum(axis=0)
    leaders = unit[:, np.argsort(-reach, kind="stable")[:_LEADERS]]
    rough = _maxima(random_signs(rng, _ROUGH_FLIPS, len(columns)), leaders)
    open_ = size >= np.quantile(rough, 1 - _ROUGHLY * config.fdr_q)
    if open_.any():
        kept = reach >= size[open_].min() * (1 - 1e-6)
        p[kept] = np.where(open_[kept], max_t_p(columns[:, kept], flips=flips, rng=rng), 1.0)
    return p


def _unit(columns: FloatArray) -> FloatArray:
    """Return (n, m) columns of length 1: their |sum| grows with |t|, and no flip changes the length."""
    size = np.sqrt((columns**2).sum(axis=0))
    unit: FloatArray = np.divide(columns, size, out=np.zeros_like(columns), where=size > 0)
    return unit


def _maxima(signs: FloatArray, unit: FloatArray) -> FloatArray:
    """Return (flips,) the largest |sum| of any column under each row of signs; 0 without columns."""
    parts = np.array_split(signs, len(signs) // _FLIPS_AT_ONCE + 1)
    maxima: FloatArray = np.concatenate([np.abs(part @ unit).max(axis=1, initial=0.0) for part in parts])
    return maxima
