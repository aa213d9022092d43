"""The evidence ladder: from measured effects to what may be said. The default is `unresolved`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from audit.analysis.association import ContrastEffects, FamilyEffects, FeatureEffect
from audit.analysis.effects import Bootstrap
from audit.analysis.feature_sets import split_or_absorbed
from audit.analysis.multiplicity import holm
from audit.analysis.signflip import exact_p
from audit.arrays import Confirmation, OutcomePairs
from audit.config import AnalysisConfig
from audit.records import (
    Colour,
    Contrast,
    ContrastResult,
    ControlResult,
    Fidelity,
    Finding,
    OutcomeResult,
    PermutationControl,
    Reading,
    Rung,
)
from probes.schema import Outcome

_FALSE_POSITIVES = 0.05


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
    """Return the measured false positive rates of both steps on relabelled data.

    Relabelled runs need neither the same sign on both splits nor to exceed the controls, so the true rates
    are lower. Discovery may choose something in 5% of the runs of each contrast; both steps together in 5% of the
    runs. Each limit has two binomial standard errors on top.
    """
    chosen = np.any([family.permuted_selections for family in families], axis=0)
    hits = np.any([family.permuted_hits.any(axis=1) for family in families], axis=0)
    count = len(hits)
    selection_limit = chance_limit(1 - 0.95 ** len(families), count)
    limit = chance_limit(_FALSE_POSITIVES, count)
    rate = float(hits.mean())
    return PermutationControl(
        permutations=count,
        with_any_selection=int(chosen.sum()),
        selection_limit=selection_limit,
        with_any_finding=int(hits.sum()),
        rate=rate,
        limit=limit,
        passed=rate <= limit and float(chosen.mean()) <= selection_limit,
    )


def relabelled_findings(families: Sequence[FamilyEffects]) -> dict[str, int]:
    """Return for each concept in how many relabelled runs any family found something in it."""
    hits: dict[str, NDArray[np.bool_]] = {}
    for family in families:
        for effects, own in zip(family.concepts, family.permuted_hits.T, strict=True):
            hits[effects.concept] = hits.get(effects.concept, np.zeros_like(own)) | own
    return {concept: int(own.sum()) for concept, own in hits.items()}


def chance_limit(level: float, count: int) -> float:
    """Return the share that so many runs may reach by chance: the level and two binomial standard errors."""
    return level + 2 * sqrt(level * (1 - level) / count)


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
    standing = [f for f in findings if f.rung.height >= Rung.CONFIRMED.height]
    # A feature that is louder on the other arm shows no concept; it stays in the list and does not decide the reading.
    confirmed = sum(f.d_z.value > 0 for f in standing)
    reading, reason = _read(effects, confirmed, len(standing), limits, config)
    return ContrastResult(
        contrast=contrast,
        sae=sae,
        reading=reading,
        reason=reason,
        n_discovery=effects.n_discovery,
        n_confirmation=effects.n_confirmation,
        tested=effects.selection.tested,
        selected=len(effects.selection.latents),
        selected_by=int(effects.selection.by.sum()),
        passing=_passing(effects, config),
        confirmed=len(standing),
        probe_kind=effects.probe_kind,
        baselines=effects.baselines,
        controls=effects.controls,
        best_latent=int(effects.selection.ranked[0]) if len(effects.selection.ranked) else None,
        best_auroc=effects.best_auroc,
        feature_sets=effects.feature_sets,
        split_or_absorbed=split_or_absorbed(effects.feature_sets),
        power=effects.power,
        findings=findings,
    )


def outcome_results(
    pairs: Mapping[str, OutcomePairs], outcomes: Mapping[str, Outcome], config: AnalysisConfig
) -> dict[str, OutcomeResult]:
    """Compare the model's answers on the two arms of each concept, with Holm over the concepts.

    All scenarios are used: nothing was selected on them, so no split is needed.

    Args:
        pairs: concept -> logit differences on both arms.
        outcomes: concept -> the question.
        config: seeds and counts.
    """
    differences = {name: pair.concept - pair.control for name, pair in pairs.items()}
    p = {name: exact_p(d) for name, d in differences.items()}
    adjusted = dict(zip(p, holm(np.array(list(p.values()))), strict=True))
    results = {}
    for name, difference in differences.items():
        bootstrap = Bootstrap.draw(len(difference), resamples=config.bootstrap, seed=config.seed)
        column = Confirmation(difference[:, None])
        results[name] = OutcomeResult(
            question=outcomes[name].ask("").strip(),
            target=outcomes[name].target,
            foil=outcomes[name].foil,
            concept_mean=float(pairs[name].concept.mean()),
            control_mean=float(pairs[name].control.mean()),
            difference=bootstrap.means(column)[0],
            auroc=bootstrap.aurocs(column)[0],
            p_value=p[name],
            p_holm=float(adjusted[name]),
            n_scenarios=len(difference),
        )
    return results


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
        id=f"{effects.concept}/{contrast.value}/{sae}/{feature.latent}",
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
        selected_by=feature.selected_by,
        n_scenarios=effects.n_confirmation,
        n_nonzero=feature.n_nonzero,
        lexical=feature.lexical,
        query="scenario_scores",
    )


def _climb(feature: FeatureEffect, effects: ContrastEffects, config: AnalysisConfig) -> tuple[Rung, str]:
    if not feature.same_sign:
        return Rung.ASSOCIATED, "chosen on discovery; on confirmation the difference does not have the same direction"
    # Even with every sign alike, n non-zero scenarios cannot give a p under 2^(1 - n).
    if 2.0 ** (1 - feature.n_nonzero) * effects.family > config.alpha:
        return Rung.ASSOCIATED, (
            f"chosen on discovery; it differs in too few held-out scenarios ({feature.n_nonzero} of"
            f" {effects.n_confirmation}) to be confirmed after correction for {effects.family} tests"
        )
    if feature.p_holm > config.alpha:
        return Rung.ASSOCIATED, f"chosen on discovery; not confirmed at Holm {config.alpha:g} on held-out scenarios"
    strongest = _strongest(effects)
    if strongest is not None and strongest.best_d_z is not None and abs(feature.d_z.value) <= strongest.best_d_z:
        return Rung.ASSOCIATED, (
            f"passes the test on held-out scenarios, but its effect does not exceed the best of"
            f" {strongest.compared} latents of a control ({strongest.kind.value}: {strongest.best_d_z:.2f})"
        )
    beyond = f", beyond the best of every control ({_names(effects)})" if effects.controls else ""
    return Rung.CONFIRMED, f"chosen on discovery, confirmed on held-out scenarios{beyond}"


def _passing(effects: ContrastEffects, config: AnalysisConfig) -> int:
    return sum(f.same_sign and f.p_holm <= config.alpha for f in effects.features)


def _strongest(effects: ContrastEffects) -> ControlResult | None:
    measured = [control for control in effects.controls if control.best_d_z is not None]
    return max(measured, key=lambda control: control.best_d_z or 0.0, default=None)


def _names(effects: ContrastEffects) -> str:
    return ", ".join(control.kind.value for control in effects.controls)


def _read(
    effects: ContrastEffects, confirmed: int, standing: int, limits: Gate, config: AnalysisConfig
) -> tuple[Reading, str]:
    """Return the reading of the pair (probe, SAE) with its reason.

    Args:
        effects: what was measured.
        confirmed: features that are confirmed and louder on the concept.
        standing: features that are confirmed, whichever arm they are louder on.
        limits: what caps the claims.
        config: the level.
    """
    if limits.cap.height < Rung.CONFIRMED.height:
        return Reading.UNRESOLVED, limits.reason
    probe = next(baseline for baseline in effects.baselines if baseline.kind is effects.probe_kind)
    named = f"the linear probe ({probe.kind.value})"
    under = _passing(effects, config) - standing
    below = f"; {under} pass the test without exceeding the controls" if under else ""
    below += f"; {standing - confirmed} are confirmed as louder on the other arm" if standing > confirmed else ""
    if probe.separates:
        if confirmed:
            return Reading.DECOMPOSED, f"{named} separates the arms and {confirmed} features are confirmed"
        return Reading.NOT_DECOMPOSED, f"{named} separates the arms; no feature is confirmed{below}"
    if confirmed:
        return Reading.SUSPECT, f"{confirmed} features are confirmed although {named} does not separate the arms"
    if signs := _weak_signs(effects, standing, config):
        return Reading.UNRESOLVED, f"weak signs only: {'; '.join(signs)}"
    return Reading.NOT_REPRESENTED, "neither a linear probe nor any feature separates the arms"


def _weak_signs(effects: ContrastEffects, standing: int, config: AnalysisConfig) -> list[str]:
    """Return what passes a test of its own where nothing separates: absence cannot be claimed beside it."""
    signs = [
        f"the AUROC of {baseline.auroc.value:.2f} of {baseline.kind.value} passes its test"
        for baseline in effects.baselines
        if baseline.p_holm <= config.alpha and baseline.auroc.value > 0.5
    ]
    if standing:
        signs.append(f"{standing} features are confirmed as louder on the other arm")
    if (under := _passing(effects, config) - standing) > 0:
        signs.append(f"{under} features pass the test without exceeding the controls")
    signs += [
        f"{control.confirmed} latents of a control ({control.kind.value}) pass the test"
        for control in effects.controls
        if control.confirmed
    ]
    return signs
