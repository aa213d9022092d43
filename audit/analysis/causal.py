"""What interventions on features did to answers: effects, interactions, downstream edges, and what may be claimed.

A claim needs two things: the exact sign-flip test over held-out scenarios, corrected by Holm over its family, and more
effect than meaningless interventions of equal size have (see `shams`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from audit.analysis.effects import Bootstrap
from audit.analysis.multiplicity import benjamini_hochberg, holm
from audit.analysis.shams import NEAR
from audit.analysis.signflip import exact_p
from audit.arrays import Confirmation
from audit.config import AnalysisConfig, CausalConfig
from audit.records import (
    CausalEffect,
    CausalPair,
    ConceptResult,
    DownstreamEdge,
    ErrorNode,
    Estimate,
    Finding,
    PairWord,
    Rung,
    ScreenCheck,
    ShamTest,
)

FloatArray = NDArray[np.float64]

# Fewer comparisons say nothing of a screen; fewer shams nothing of an edge (p = 0.05 needs 19).
_FEWEST_COMPARED = 10
# Four answers of two logits each, about 20 in float32 with steps of 2e-6: below this an effect is rounding.
RESOLUTION = 1e-5
FEWEST_FOR_EDGES = 19
# A pair that does nothing beyond rounding on so many held-out scenarios is not measured on the others.
PILOT_SCENARIOS = 8
# So large a share of exact values must be within what an estimate may hide.
_WITHIN = 0.9


@dataclass(frozen=True, slots=True)
class FeatureRuns:
    """Exact interventions on one confirmed feature, (n,) each over held-out scenarios, in nats.

    Args:
        finding: that the feature is confirmed.
        reference: the arm whose level it was lowered to.
        effect: outcome untouched minus changed.
        effect_zero: the same with the feature at zero.
        kl: of the next-token distribution, untouched from changed.
        changed: in how many scenarios there was anything to lower.
    """

    finding: Finding
    reference: str
    effect: Confirmation[FloatArray]
    effect_zero: Confirmation[FloatArray]
    kl: Confirmation[FloatArray]
    changed: int


@dataclass(frozen=True, slots=True)
class PairRuns:
    """Exact interventions on two features in both clauses of a mix, (n,) each over held-out scenarios, in nats.

    Args:
        question: the concept whose question was asked.
        first_effect: outcome untouched minus the one with the first feature lowered, y11 - y01; second_effect likewise.
        interaction: y11 - y10 - y01 + y00, of which y00 has both lowered (Harsanyi dividend).
        confirmed: whether both features are confirmed, each for its concept.
    """

    mix: str
    question: str
    sae: str
    first: int
    second: int
    first_effect: Confirmation[FloatArray]
    second_effect: Confirmation[FloatArray]
    interaction: Confirmation[FloatArray]
    confirmed: bool


@dataclass(frozen=True, slots=True)
class EdgeRuns:
    """The fall of a downstream feature's maximum, (n,) over held-out scenarios.

    Args:
        beside: mean fall on the scenarios on which shams ran; shams: the same under each sham that was run.
    """

    concept: str
    sae: str
    latent: int
    downstream_sae: str
    downstream_latent: int
    fall: Confirmation[FloatArray]
    beside: float
    shams: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SignFlip:
    """An exact sign-flip test and its correction for the family."""

    p: float
    p_holm: float


def sign_flips(family: Sequence[Confirmation[FloatArray]]) -> tuple[SignFlip, ...]:
    """Test each (n,) array of effects against a symmetric null, with Holm over the family."""
    p = np.array([exact_p(one.data) for one in family])
    return tuple(SignFlip(float(own), float(adjusted)) for own, adjusted in zip(p, holm(p), strict=True))


def decidable(changed: Sequence[int], *, alpha: float) -> NDArray[np.bool_]:
    """Return which features could pass the sign-flip test with Holm over those that could.

    Decided by the number of scenarios in which there was anything to lower, before any answer is looked at: with k of
    them p is at least 2^(1 - k), even with every sign alike.
    """
    least = 2.0 ** (1.0 - np.asarray(changed, dtype=np.float64))
    could = np.ones(len(least), dtype=np.bool_)
    while (beyond := could & (least * could.sum() > alpha)).any():
        could &= ~beyond
    return could


def causal_effect(
    runs: FeatureRuns, tested: SignFlip | None, shams: ShamTest | None, *, without: str, config: AnalysisConfig
) -> CausalEffect:
    """Place one intervention on the ladder.

    Args:
        runs: what was measured.
        tested: its sign-flip test; None where there was too little to lower for any (`decidable`).
        shams: its sham test, or None.
        without: why there is no sham test, where the sign-flip test passed.
        config: level and resamples.
    """
    finding = runs.finding
    scenarios = len(runs.effect.data)
    rung, reason = finding.rung, f"at the level of the {runs.reference} arm no change of the answer was found: "
    if tested is None:
        rung = Rung.UNRESOLVED
        reason = (
            f"no causal test: in {runs.changed} of {scenarios} scenarios only it stands above its level in the"
            f" {runs.reference} arm, so that there is too little to lower for any test to pass"
        )
    elif tested.p_holm > config.alpha:
        reason += _failed(tested, scenarios, config)
    else:
        stands = shams is not None and shams.p_value <= shams.level
        rung = Rung.CAUSAL if stands else finding.rung
        moves = f"lowering it to the level of the {runs.reference} arm changes the answer"
        reason = f"{moves}{_beside(shams, 'random directions of equal norm', without)}"
    effect, effect_zero, kl = _means((runs.effect, runs.effect_zero, runs.kl), config)
    return CausalEffect(
        id=f"{finding.id}/causal",
        concept=finding.concept,
        contrast=finding.contrast,
        sae=finding.sae,
        latent=finding.latent,
        reference=runs.reference,
        effect=effect,
        effect_zero=effect_zero,
        kl=kl,
        p_value=1.0 if tested is None else tested.p,
        p_holm=1.0 if tested is None else tested.p_holm,
        shams=shams,
        rung=rung,
        reason=reason,
        n_scenarios=scenarios,
        n_changed=runs.changed,
    )


def causal_pair(
    runs: PairRuns,
    tested: SignFlip,
    shams: ShamTest | None,
    *,
    without: str,
    stopped: bool = False,
    config: AnalysisConfig,
) -> CausalPair:
    """Place the interaction of two features on the ladder.

    Without the sign-flip test it is observed; with it associated; with a sham test too, and both features confirmed,
    causal, and only then it has a word.

    Args:
        runs: what was measured.
        tested: its sign-flip test.
        shams: its sham test, or None.
        without: why there is no sham test, where the sign-flip test passed.
        stopped: the interaction was within rounding on the first scenarios, and the others were not run.
        config: level and resamples.
    """
    first, second, interaction = _means((runs.first_effect, runs.second_effect, runs.interaction), config)
    rung, reason = Rung.OBSERVED, "no interaction found: " + _failed(tested, len(runs.interaction.data), config)
    if tested.p_holm <= config.alpha:
        rung = Rung.ASSOCIATED
        if shams is not None and runs.confirmed:
            rung = Rung.CAUSAL if shams.p_value <= shams.level else Rung.ASSOCIATED
        reason = "together they do another thing than the sum of each alone"
        reason += _beside(shams, "matched pairs of features", without)
        reason += "" if runs.confirmed else "; not both features are confirmed beyond the controls"
    if stopped:
        reason = (
            f"no interaction found: on {len(runs.interaction.data)} held-out scenarios it is within rounding"
            f" ({RESOLUTION:g} nats), so the others were not run"
        )
    word = PairWord.SYNERGY if interaction.value > 0 else PairWord.REDUNDANCY
    return CausalPair(
        id=f"{runs.mix}/{runs.question}/{runs.sae}/{runs.first}+{runs.second}",
        mix=runs.mix,
        question=runs.question,
        sae=runs.sae,
        first=runs.first,
        second=runs.second,
        first_effect=first,
        second_effect=second,
        interaction=interaction,
        p_value=tested.p,
        p_holm=tested.p_holm,
        shams=shams,
        word=word if rung is Rung.CAUSAL else None,
        rung=rung,
        reason=reason,
        n_scenarios=len(runs.interaction.data),
    )


def check_screen(
    sae: str, subject: str, estimates: FloatArray, exact: FloatArray, *, on: str, limits: CausalConfig
) -> ScreenCheck:
    """Compare first-order estimates with exact values on a random set.

    Args:
        sae: whose features.
        subject: "features" or "pairs".
        estimates: (k,) first-order estimates.
        exact: (k,) exact values, in nats. Where both are below `RESOLUTION` nothing can be compared.
        on: what the set is of, for the reason.
        limits: Spearman's coefficient and the share of equal signs that a screen must reach.
    """
    real = np.maximum(np.abs(estimates), np.abs(exact)) >= RESOLUTION
    compared = int(real.sum())
    if compared < _FEWEST_COMPARED:
        few = f"refused: only {compared} of {len(exact)} {on}, do more than rounding ({RESOLUTION:g} nats)"
        return ScreenCheck(sae, subject, compared, None, None, None, False, few)
    spearman = _spearman(estimates[real], exact[real])
    agreement = float((np.sign(estimates[real]) == np.sign(exact[real])).mean())
    within = float((np.abs(exact[real]) * NEAR <= np.abs(estimates[real])).mean())
    agrees = spearman is not None and spearman >= limits.screen_spearman and agreement >= limits.screen_agreement
    accepted = agrees and within >= _WITHIN
    verdict = "accepted" if accepted else "refused"
    needed = f"needed are Spearman {limits.screen_spearman:g} and {limits.screen_agreement:.0%} equal signs"
    needed += f" and {_WITHIN:.0%} of exact values at most {1 / NEAR:g} times their estimate"
    return ScreenCheck(
        sae, subject, compared, spearman, agreement, within, accepted, f"{verdict} on {compared} {on}; {needed}"
    )


def strongest_pairs(estimates: FloatArray, *, count: int) -> NDArray[np.int64]:
    """Return the places of the largest (k,) estimates by absolute value, largest first; of equal ones the earlier."""
    order: NDArray[np.int64] = np.argsort(-np.abs(estimates), kind="stable")
    return order[:count]


def downstream_edges(runs: Sequence[EdgeRuns], config: AnalysisConfig) -> tuple[DownstreamEdge, ...]:
    """Test every edge; the false discovery rate is over all of them (Benjamini and Hochberg 1995)."""
    p = np.array([exact_p(one.fall.data) for one in runs])
    edges = []
    for one, own, q in zip(runs, p, benjamini_hochberg(p), strict=True):
        (effect,) = _means((one.fall,), config)
        enough = len(one.shams) >= FEWEST_FOR_EDGES
        edges.append(
            DownstreamEdge(
                concept=one.concept,
                sae=one.sae,
                latent=one.latent,
                downstream_sae=one.downstream_sae,
                downstream_latent=one.downstream_latent,
                effect=effect,
                p_value=float(own),
                q_value=float(q),
                exceeds_shams=abs(one.beside) > max(map(abs, one.shams)) if enough else None,
            )
        )
    return tuple(edges)


def error_node(
    concept: str, sae: str, effect: Confirmation[FloatArray], features: Iterable[float], config: AnalysisConfig
) -> ErrorNode:
    """Return what the SAE's error does to the answer, beside the mean effects of the features tested there."""
    (estimate,) = _means((effect,), config)
    total = abs(estimate.value) + sum(map(abs, features))
    return ErrorNode(concept, sae, estimate, abs(estimate.value) / total if total > 0 else 0.0)


def with_causal_rungs(concepts: Sequence[ConceptResult], effects: Iterable[CausalEffect]) -> tuple[ConceptResult, ...]:
    """Return the concepts with every finding that was intervened on at the rung, and with the reason, of its effect."""
    by_place = {(e.concept, e.contrast, e.sae, e.latent): e for e in effects}

    def raised(finding: Finding) -> Finding:
        effect = by_place.get((finding.concept, finding.contrast, finding.sae, finding.latent))
        if effect is None:
            return finding
        # What could not be tested takes nothing from what was confirmed.
        rung = finding.rung if effect.rung is Rung.UNRESOLVED else effect.rung
        return replace(finding, rung=rung, reason=f"{finding.reason}; {effect.reason}")

    return tuple(
        replace(
            concept,
            contrasts=tuple(replace(c, findings=tuple(raised(f) for f in c.findings)) for c in concept.contrasts),
        )
        for concept in concepts
    )


def by_sae(names: Sequence[str]) -> Mapping[str, list[int]]:
    """Return the places of each name, names in the order in which they come."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    return places


def _means(values: Sequence[Confirmation[FloatArray]], config: AnalysisConfig) -> tuple[Estimate, ...]:
    columns = Confirmation(np.stack([one.data for one in values], axis=1))
    return Bootstrap.draw(len(columns.data), resamples=config.bootstrap, seed=config.seed).means(columns)


def _failed(tested: SignFlip, scenarios: int, config: AnalysisConfig) -> str:
    return f"Holm p {tested.p_holm:.3g} over {scenarios} held-out scenarios, above {config.alpha:g}"


def _beside(shams: ShamTest | None, kind: str, without: str) -> str:
    if shams is None:
        return f"; not claimed as causal: {without}"
    p = f"p {shams.p_value:.3g}, level {shams.level:.3g}"
    if shams.exceeding:
        # Beyond the level the runs ended early, or none was run.
        least = "at least " if shams.p_value > shams.level and shams.exact else ""
        how = "" if shams.exact else ", by their first-order estimates"
        return f"; {least}{shams.exceeding} of {shams.count} {kind} do as much{how} ({p})"
    return f", and none of {shams.count} {kind} does as much ({p})"


def _spearman(one: FloatArray, other: FloatArray) -> float | None:
    """Return the correlation of ranks, or None where one side is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])
