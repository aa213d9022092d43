"""Which features fire together beyond their rates in each cell and length: an observation, never a cause.

The null distribution is not assumed: scenarios are permuted within strata for every feature on its own, which is
independence given cell and length, and the false discovery rate counts how many pairs are then as extreme.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from audit.analysis.firing_blocks import FiringBlocks, firing_blocks
from audit.analysis.pair_scan import STEPS, PairScan, TestedPairs, scan_pairs
from audit.arrays import FiringUnits, FloatArray
from audit.config import InteractionConfig
from audit.errors import ShapeMismatch
from audit.records import CoFiring, CoFiringPair, Community, Estimate

Cosine = Callable[[int, int], float]

_LEVEL = 0.975
_COMMUNITY_LATENTS = 10


def co_firing(
    units: FiringUnits,
    cosine: Cosine,
    *,
    sae: str,
    config: InteractionConfig,
    fdr_q: float,
    seed: int,
) -> CoFiring:
    """Test all pairs of live features of one SAE, two-sided, and describe the strongest.

    Args:
        units: which features fire where; a scenario that no other one can be compared with carries nothing.
        cosine: of the decoder rows of two latents (`decoder_cosine`).
        sae: its id.
        config: thresholds and counts.
        fdr_q: pairs are flagged up to this false discovery rate.
        seed: of the permutations and of the communities.
    """
    firings = firing_blocks(units)
    permutations, listed = config.cofiring_permutations, config.listed_pairs
    scan = scan_pairs(firings, min_expected=config.min_expected, permutations=permutations, listed=listed, seed=seed)
    q = _false_discovery_rates(scan, permutations)
    # The rates fall as pairs become more extreme: what is beyond the first one that is low enough is flagged.
    cut = int((q > fdr_q).sum())
    strong = scan.strongest.at_least(cut)
    groups = _groups(strong, seed)
    return CoFiring(
        sae=sae,
        units=len(units.tokens),
        strata=len(firings.sizes),
        live=len(firings.latents),
        pairs=int(scan.observed.sum()),
        flagged=int(scan.observed[cut:].sum()),
        flagged_permuted=float(scan.permuted[cut:].sum()) / permutations,
        flagged_naive=scan.naive,
        top=tuple(_describe(strong, firings, q, cosine, groups)),
        communities=tuple(
            Community(number, len(group), group[:_COMMUNITY_LATENTS]) for number, group in enumerate(groups, start=1)
        ),
    )


def decoder_cosine(decoder: NDArray[np.float32], *, sae: str, latents: int) -> Cosine:
    """Return what gives the cosine of the decoder rows of two latents.

    Args:
        decoder: (latents, d_model) float32, unit rows.
        sae: whose.
        latents: how many it has.

    Raises:
        ShapeMismatch: the decoder has not one row for each latent.
    """
    if len(decoder) != latents:
        raise ShapeMismatch(
            item=f"decoder of {sae}",
            expected=f"{latents:,} rows, one for each latent",
            found=f"{len(decoder):,} rows",
            hint="Give the decoder of the SAE whose firings these are.",
        )
    return lambda first, second: float(decoder[first].astype(np.float64) @ decoder[second].astype(np.float64))


def mantel_haenszel(counts: FloatArray, sizes: FloatArray, group: NDArray[np.int64]) -> Estimate | None:
    """Return the common odds ratio over strata with a 95% interval.

    Its variance is that of Robins, Breslow and Greenland (1986), which takes units as independent, or the one between
    groups of strata (Liang 1985), whichever is larger: the arms of a scenario are not independent, and between few
    groups a variance is too small.

    Args:
        counts: (3, strata) units in which both features fire, in which the first does, and in which the second does.
        sizes: (strata,) units.
        group: (strata,) strata of different groups are independent.

    Returns:
        None where the ratio is infinite; no interval where it is 0.
    """
    both = counts[0]
    only_first, only_second = counts[1:] - both
    neither = sizes - both - only_first - only_second
    agreeing, apart = both * neither / sizes, only_first * only_second / sizes
    r, s = float(agreeing.sum()), float(apart.sum())
    if s == 0:
        return None
    if r == 0:
        return Estimate(0.0, None, None)
    p, q = (both + neither) / sizes, (only_first + only_second) / sizes
    independent = (
        (p * agreeing).sum() / (2 * r**2)
        + (p * apart + q * agreeing).sum() / (2 * r * s)
        + (q * apart).sum() / (2 * s**2)
    )
    between = (np.bincount(group, weights=agreeing / r - apart / s) ** 2).sum()
    reach = float(np.exp(ndtri(_LEVEL) * np.sqrt(max(independent, between))))
    return Estimate(r / s, r / s / reach, r / s * reach)


def _false_discovery_rates(scan: PairScan, permutations: int) -> FloatArray:
    """Return for each step the q-value of the pairs there, 1 where there are none as extreme; never 0, never rising.

    One pair more than the permutations have is counted against each cut.
    """
    observed, permuted = (counts[::-1].cumsum()[::-1] for counts in (scan.observed, scan.permuted))
    rate = (permuted + 1) / (permutations * np.maximum(observed, 1))
    return np.minimum.accumulate(np.where(observed > 0, np.minimum(rate, 1.0), 1.0))


def _describe(
    pairs: TestedPairs,
    firings: FiringBlocks,
    q: FloatArray,
    cosine: Cosine,
    groups: tuple[tuple[int, ...], ...],
) -> Iterator[CoFiringPair]:
    member = {latent: number for number, group in enumerate(groups, start=1) for latent in group}
    fired = _firing_units(firings, np.unique(np.concatenate([pairs.first, pairs.second])))
    stratum, sizes = firings.stratum, firings.sizes.astype(np.float64)
    columns = (pairs.first, pairs.second, pairs.step, pairs.observed, pairs.expected)
    for first, second, step, observed, expected in zip(*(column.tolist() for column in columns), strict=True):
        shared = np.intersect1d(fired[first], fired[second], assume_unique=True)
        counts = [np.bincount(stratum[units], minlength=len(sizes)) for units in (shared, fired[first], fired[second])]
        yield CoFiringPair(
            first=first,
            second=second,
            observed=observed,
            expected=expected,
            odds_ratio=mantel_haenszel(np.array(counts, dtype=np.float64), sizes, firings.group),
            q_value=float(q[step]),
            cosine=cosine(first, second),
            community=member.get(first) if member.get(first) == member.get(second) else None,
        )


def _firing_units(firings: FiringBlocks, latents: NDArray[np.int64]) -> Mapping[int, NDArray[np.int32]]:
    """Return the units in which each of some live latents fires."""
    place = {int(latent): n for n, latent in enumerate(firings.latents)}
    width = firings.blocks[0].shape[0] if firings.blocks else 1
    return {
        latent: firings.blocks[place[latent] // width][place[latent] % width].indices for latent in latents.tolist()
    }


def _groups(pairs: TestedPairs, seed: int) -> tuple[tuple[int, ...], ...]:
    """Return the communities of pairs that fire together more often than expected, the largest first.

    Louvain (Blondel et al. 2008) with |z| as weights. The latents of a community are ordered by their weight in it.
    """
    graph = nx.Graph()
    together = pairs.observed > pairs.expected
    graph.add_weighted_edges_from(
        zip(
            pairs.first[together].tolist(),
            pairs.second[together].tolist(),
            (pairs.step[together] / STEPS).tolist(),
            strict=True,
        )
    )
    if not graph:
        return ()
    found = nx.community.louvain_communities(graph, weight="weight", seed=seed)
    ordered = []
    for members in found:
        weight = dict(graph.subgraph(members).degree(weight="weight"))
        ordered.append(tuple(sorted(members, key=lambda latent: (-weight[latent], latent))))
    return tuple(sorted(ordered, key=lambda group: (-len(group), min(group))))
