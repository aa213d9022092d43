"""The evidence ladder: from measured effects to what may be said. The default is `unresolved`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from audit.analysis.association import ContrastEffects, FamilyEffects, FeatureEffect
from audit.analysis.effects import Bootstrap, mean_difference, paired_auroc
from audit.analysis.signflip import flip_test
from audit.arrays import OutcomePairs
from audit.config import AnalysisConfig
from audit.records import (
    Colour,
    Contrast,
    ContrastResult,
    Fidelity,
    Finding,
    OutcomeResult,
    PermutationControl,
    Reading,
    Rung,
)
from probes.schema import Outcome


@dataclass(frozen=True, slots=True)
class Gate:
    """What caps every claim of a concept before its own numbers are looked at.

    Args:
        cap: the highest rung that any finding may reach.
        reason: why; empty when nothing caps.
    """

    cap: Rung
    reason: str


def permutation_control(families: Sequence[FamilyEffects]) -> PermutationControl:
    """Return the measured false positive rate: the share of relabelled audits in which anything was confirmed.

    The limit is 5% plus two binomial standard errors, the family-wise level that the procedure promises.
    """
    hits = np.any([family.permuted_hits for family in families], axis=0)
    count = len(hits)
    # Each family is held at 5%; together they may reach what two independent families would.
    level = 1 - 0.95 ** len(families)
    limit = level + 2 * sqrt(level * (1 - level) / count)
    rate = float(hits.mean())
    return PermutationControl(count, int(hits.sum()), rate, limit, rate <= limit)


def gate(fidelity: Fidelity, control: PermutationControl, n_confirmation: int, config: AnalysisConfig) -> Gate:
    """Return what caps the claims of one concept."""
    if fidelity.colour is Colour.RED:
        return Gate(Rung.UNRESOLVED, f"the instrument is red here: {fidelity.reason}")
    if not control.passed:
        return Gate(Rung.UNRESOLVED, "the permutation control failed: the procedure finds too much in relabelled data")
    if n_confirmation < config.min_confirmation_scenarios:
        return Gate(
            Rung.OBSERVED,
            f"exploratory: {n_confirmation} confirmation scenarios,"
            f" at least {config.min_confirmation_scenarios} needed",
        )
    return Gate(Rung.CAUSAL, "")


def contrast_result(
    contrast: Contrast, effects: ContrastEffects, *, sae: str, limits: Gate, config: AnalysisConfig
) -> ContrastResult:
    """Place every chosen feature on the ladder and read the pair (probe, SAE)."""
    findings = tuple(
        _finding(contrast, effects, feature, sae=sae, limits=limits, config=config) for feature in effects.features
    )
    confirmed = sum(finding.rung.height >= Rung.CONFIRMED.height for finding in findings)
    reading, reason = _read(effects, confirmed, limits)
    return ContrastResult(
        contrast=contrast,
        reading=reading,
        reason=reason,
        n_discovery=effects.n_discovery,
        n_confirmation=effects.n_confirmation,
        tested=effects.selection.tested,
        selected=len(effects.selection.latents),
        confirmed=confirmed,
        probe=effects.probe,
        random_control=effects.random_control,
        best_latent=effects.selection.first,
        best_auroc=effects.best_auroc,
        sae_minus_probe_auroc=effects.sae_minus_probe_auroc,
        findings=findings,
    )


def outcome_result(pairs: OutcomePairs, outcome: Outcome, config: AnalysisConfig) -> OutcomeResult:
    """Compare the model's answers on the two arms over all scenarios; nothing was selected, so no split is needed."""
    difference = pairs.concept - pairs.control
    bootstrap = Bootstrap.draw(len(difference), resamples=config.bootstrap, seed=config.seed)
    test = flip_test(difference[:, None], flips=config.flips, rng=np.random.default_rng(config.seed))
    return OutcomeResult(
        question=outcome.template.replace("{text}", "").strip(),
        target=outcome.target,
        foil=outcome.foil,
        concept_mean=float(pairs.concept.mean()),
        control_mean=float(pairs.control.mean()),
        difference=bootstrap.estimate(difference, mean_difference),
        auroc=bootstrap.estimate(difference, paired_auroc),
        p_value=float(test.p[0]),
        n_scenarios=len(difference),
    )


def count_rungs(findings: Sequence[Finding]) -> dict[str, int]:
    """Return how many findings stand on each rung, every rung named."""
    counts = Counter(finding.rung for finding in findings)
    return {rung.value: counts[rung] for rung in Rung}


def _finding(
    contrast: Contrast,
    effects: ContrastEffects,
    feature: FeatureEffect,
    *,
    sae: str,
    limits: Gate,
    config: AnalysisConfig,
) -> Finding:
    rung, reason = _climb(feature, effects, config)
    if rung.height > limits.cap.height:
        rung, reason = limits.cap, limits.reason
    return Finding(
        id=f"{effects.concept}/{contrast.value}/{feature.latent}",
        concept=effects.concept,
        contrast=contrast,
        sae=sae,
        latent=feature.latent,
        rung=rung,
        reason=reason,
        d_z=feature.d_z,
        auroc=feature.auroc,
        firing_difference=feature.firing_difference,
        p_value=feature.p_value,
        p_holm=feature.p_holm,
        p_max_t=feature.p_max_t,
        n_scenarios=effects.n_confirmation,
        n_nonzero=feature.n_nonzero,
        lexical=feature.lexical,
        query="scenario_scores",
    )


def _climb(feature: FeatureEffect, effects: ContrastEffects, config: AnalysisConfig) -> tuple[Rung, str]:
    if not feature.same_sign:
        return Rung.ASSOCIATED, "chosen on discovery; on confirmation the difference does not have the same direction"
    if feature.p_holm > config.alpha:
        return Rung.ASSOCIATED, f"chosen on discovery; not confirmed at Holm {config.alpha:g} on held-out scenarios"
    reference = effects.random_control.best_d_z
    if reference is not None and abs(feature.d_z.value) <= reference:
        return Rung.ASSOCIATED, (
            f"confirmed by the test, but its effect does not exceed the best random direction's ({reference:.2f})"
        )
    return Rung.CONFIRMED, "chosen on discovery, confirmed on held-out scenarios, beyond every random direction"


def _read(effects: ContrastEffects, confirmed: int, limits: Gate) -> tuple[Reading, str]:
    if limits.cap.height < Rung.CONFIRMED.height:
        return Reading.UNRESOLVED, limits.reason
    probe = effects.probe.separates
    match probe, confirmed > 0:
        case True, True:
            return Reading.DECOMPOSED, f"the linear probe separates the arms and {confirmed} features are confirmed"
        case True, False:
            return Reading.NOT_DECOMPOSED, "the linear probe separates the arms; no feature is confirmed"
        case False, True:
            return (
                Reading.SUSPECT,
                f"{confirmed} features are confirmed although the linear probe does not separate the arms",
            )
        case _:
            return Reading.NOT_REPRESENTED, "neither the linear probe nor any feature separates the arms"
