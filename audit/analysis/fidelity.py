"""Can the instrument be trusted? Sums to fidelity records with their colours."""

from __future__ import annotations

from audit.arrays import Densities, FidelityMoments
from audit.config import FidelityConfig
from audit.records import Colour, Fidelity

_DENSE = 0.1


def global_fidelity(
    moments: FidelityMoments, densities: Densities, *, latents: int, config: FidelityConfig
) -> Fidelity:
    """Return the instrument's fidelity over all audited tokens.

    Args:
        moments: sums over all prompts.
        densities: firing counts of every latent that fired.
        latents: how many latents the SAE has.
        config: the limits of the colours.
    """
    dead = 1 - len(densities.latents) / latents
    dense = float((densities.tokens > _DENSE * moments.tokens).sum()) / latents
    return _record("all", moments, config, dead_share=dead, dense_share=dense, reference_fvu=None, worst=Colour.GREEN)


def concept_fidelity(concept: str, moments: FidelityMoments, overall: Fidelity, *, config: FidelityConfig) -> Fidelity:
    """Return the fidelity on one concept's prompts: never better than overall, worse if its FVU is far higher."""
    return _record(
        concept, moments, config, dead_share=None, dense_share=None, reference_fvu=overall.fvu, worst=overall.colour
    )


def _record(
    scope: str,
    moments: FidelityMoments,
    config: FidelityConfig,
    *,
    dead_share: float | None,
    dense_share: float | None,
    reference_fvu: float | None,
    worst: Colour,
) -> Fidelity:
    fvu = moments.error / moments.total_variance
    count = moments.spliced_tokens
    delta_ce = (moments.ce_spliced - moments.ce) / count if count else None
    colour, reason = _colour(fvu, delta_ce, config)
    if reference_fvu is not None and fvu > config.concept_fvu_ratio * reference_fvu:
        colour = Colour.RED if colour is not Colour.GREEN else Colour.AMBER
        reason = f"FVU {fvu:.3f} is more than {config.concept_fvu_ratio:g} times the overall {reference_fvu:.3f}"
    if list(Colour).index(worst) > list(Colour).index(colour):
        colour, reason = worst, f"limited by the instrument as a whole, which is {worst.value}"
    ratio = moments.kl / moments.kl_random if count and moments.kl_random > 0 else None
    if ratio is not None and ratio > 1:
        reason += f"; the error moves predictions {ratio:.1f} times as much as a random error of the same size"
    return Fidelity(
        scope=scope,
        tokens=moments.tokens,
        fvu=fvu,
        cosine=moments.cosine,
        l0_mean=moments.l0_mean,
        l0_p05=moments.l0_p05,
        l0_p95=moments.l0_p95,
        dead_share=dead_share,
        dense_share=dense_share,
        spliced_tokens=count,
        delta_ce=delta_ce,
        ce=moments.ce / count if count else None,
        kl=moments.kl / count if count else None,
        kl_ratio=ratio,
        colour=colour,
        reason=reason,
    )


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
