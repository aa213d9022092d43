"""Can the instrument be trusted? Sums to fidelity records with their colours."""

from __future__ import annotations

import numpy as np

from audit.arrays import Densities, FidelityMoments
from audit.config import FidelityConfig
from audit.records import Colour, Estimate, Fidelity

ALL = "all"
_DENSE = 0.1
_FEWEST_CLUSTERS = 8
_RESAMPLES = 2000
_SEED = 20260101


def global_fidelity(
    sae: str, moments: FidelityMoments, densities: Densities, *, latents: int, config: FidelityConfig, scope: str = ALL
) -> Fidelity:
    """Return an instrument's fidelity over all tokens of an audit or a text.

    Args:
        sae: its name.
        moments: sums over all prompts.
        densities: firing counts of every latent that fired.
        latents: how many latents the SAE has.
        config: the limits of the colours.
        scope: what the tokens are.
    """
    dead = 1 - len(densities.latents) / latents
    dense = float((densities.tokens > _DENSE * moments.tokens).sum()) / latents
    colour, reason = _colour(_fvu(moments), _delta_ce(moments), config)
    return _record(sae, scope, moments, colour=colour, reason=reason, dead_share=dead, dense_share=dense)


def part_fidelity(
    sae: str, scope: str, moments: FidelityMoments, overall: Fidelity, *, config: FidelityConfig
) -> Fidelity:
    """Return the fidelity on a part, such as one concept's prompts: never better than overall, worse if FVU is high."""
    fvu = _fvu(moments)
    colour, reason = _colour(fvu, _delta_ce(moments), config)
    if fvu > config.concept_fvu_ratio * overall.fvu:
        colour = Colour.RED if colour is not Colour.GREEN else Colour.AMBER
        reason = f"FVU {fvu:.3f} is more than {config.concept_fvu_ratio:g} times the overall {overall.fvu:.3f}"
    if list(Colour).index(overall.colour) > list(Colour).index(colour):
        colour, reason = overall.colour, f"limited by the instrument as a whole, which is {overall.colour.value}"
    return _record(sae, scope, moments, colour=colour, reason=reason, dead_share=None, dense_share=None)


def _record(
    sae: str,
    scope: str,
    moments: FidelityMoments,
    *,
    colour: Colour,
    reason: str,
    dead_share: float | None,
    dense_share: float | None,
) -> Fidelity:
    count = moments.spliced_tokens
    ratio = moments.kl / moments.kl_random if count and moments.kl_random > 0 else None
    if ratio is not None and ratio > 1:
        reason += f"; the error moves predictions {ratio:.1f} times as much as a random error of the same size"
    harm = moments.ce_ablated - moments.ce
    return Fidelity(
        sae=sae,
        scope=scope,
        tokens=moments.tokens,
        fvu=_fvu(moments),
        cosine=moments.cosine,
        l0_mean=moments.l0_mean,
        l0_p05=moments.l0_p05,
        l0_p95=moments.l0_p95,
        dead_share=dead_share,
        dense_share=dense_share,
        spliced_tokens=count,
        delta_ce=_delta_ce_estimate(moments),
        ce=moments.ce / count if count else None,
        ce_recovered=1 - (moments.ce_spliced - moments.ce) / harm if count and harm > 0 else None,
        kl=moments.kl / count if count else None,
        kl_ratio=ratio,
        colour=colour,
        reason=reason,
    )


def _fvu(moments: FidelityMoments) -> float:
    return moments.error / moments.total_variance


def _delta_ce(moments: FidelityMoments) -> float | None:
    count = moments.spliced_tokens
    return (moments.ce_spliced - moments.ce) / count if count else None


def _delta_ce_estimate(moments: FidelityMoments) -> Estimate | None:
    """Return the rise of cross-entropy with a percentile interval from resampled clusters (ratio of sums)."""
    value = _delta_ce(moments)
    if value is None:
        return None
    # Sorted: the interval must not depend on the order in which the clusters came.
    clusters = moments.clusters[np.lexsort(moments.clusters.T)]
    if len(clusters) < _FEWEST_CLUSTERS:
        return Estimate(value, None, None)
    drawn = np.random.default_rng(_SEED).integers(0, len(clusters), (_RESAMPLES, len(clusters)))
    tokens, ce, spliced = (clusters[:, column][drawn].sum(axis=1) for column in range(3))
    low, high = np.quantile((spliced - ce) / np.maximum(tokens, 1), (0.025, 0.975))
    return Estimate(value, float(low), float(high))


def _colour(fvu: float, delta_ce: float | None, config: FidelityConfig) -> tuple[Colour, str]:
    if delta_ce is None:
        colour = Colour.AMBER if fvu <= config.amber_fvu else Colour.RED
        return colour, f"FVU {fvu:.3f}; the effect on predictions was not measured, so green is out of reach"
    found = f"FVU {fvu:.3f} and a cross-entropy rise of {delta_ce:.3f} nats"
    if fvu <= config.green_fvu and delta_ce <= config.green_delta_ce:
        return Colour.GREEN, f"{found} are within {config.green_fvu:g} and {config.green_delta_ce:g}"
    if fvu <= config.amber_fvu and delta_ce <= config.amber_delta_ce:
        return Colour.AMBER, (
            f"{found} are within {config.amber_fvu:g} and {config.amber_delta_ce:g}, not within"
            f" {config.green_fvu:g} and {config.green_delta_ce:g}"
        )
    return Colour.RED, f"{found} are beyond {config.amber_fvu:g} or {config.amber_delta_ce:g}"
