"""From evidence to results: read the store, run the statistics, apply the ladder. Needs no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audit.analysis.association import FamilyEffects, analyse_family
from audit.analysis.contrast_data import ContrastData, CueScores, why_untestable
from audit.analysis.fidelity import global_fidelity, part_fidelity
from audit.analysis.ladder import contrast_result, gate, outcome_results, permutation_control, relabelled_findings
from audit.arrays import Confirmation, Discovery, FloatArray, Halves, NeuronMaxima, ResidualDifferences, ScenarioScores
from audit.config import AuditConfig
from audit.evidence import scores
from audit.evidence.store import Store
from audit.progress import Progress
from audit.records import (
    ConceptResult,
    Contrast,
    ControlKind,
    Exclusions,
    Fidelity,
    Finding,
    OutcomeResult,
    PermutationControl,
    Rule,
    Rung,
    SaeRecord,
    UntestedContrast,
)
from probes.leakage import word_differences
from probes.schema import Arm, Concept, Split, Suite


@dataclass(frozen=True, slots=True)
class Reader:
    """An SAE whose evidence is in the store, by name.

    Args:
        control: name of the untrained SAE that was captured beside it.
        outlier_limit: the limit that capture applied at its site, for the record.
        frozen: name of the control with a frozen random decoder that was captured beside it, or None.
    """

    sae: SaeRecord
    control: str
    outlier_limit: float
    frozen: str | None = None


BASELINE_ARM = {Contrast.TOPIC: Arm.NEUTRAL, Contrast.DISTINCTION: Arm.CONTROL}


@dataclass(frozen=True, slots=True)
class Assessment:
    """All results of an audit except the feature cards, which need the model's vocabulary.

    `fidelity` and `exclusions` are by the name of the SAE.
    """

    fidelity: dict[str, Fidelity]
    exclusions: dict[str, Exclusions]
    permutation_control: PermutationControl
    concepts: tuple[ConceptResult, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return every finding of every concept and contrast."""
        return tuple(f for concept in self.concepts for contrast in concept.contrasts for f in contrast.findings)


def assess(
    store: Store, suites: Sequence[Suite], config: AuditConfig, readers: Sequence[Reader], *, progress: Progress
) -> Assessment:
    """Run every statistic of the audit on the evidence in the store.

    Args:
        store: evidence with captured prompts, outcomes and splices.
        suites: the suites that were run.
        config: thresholds, seeds and counts.
        readers: the SAEs. Each has its own families of tests; the permutation control counts over all of them.
        progress: listener.

    Returns:
        Results that depend on the evidence and the configuration alone.
    """
    concepts = [concept for suite in suites for concept in suite.concepts]
    families: dict[str, list[FamilyEffects]] = {reader.sae.name: [] for reader in readers}
    untested: list[tuple[str, UntestedContrast]] = []
    with progress.stage("testing features", total=len(Contrast) * len(readers)) as advance:
        for reader in readers:
            neurons = scores.read_neurons(store, site=reader.sae.site)
            for contrast in Contrast:
                data = [_contrast_data(store, concept, contrast, reader, neurons) for concept in concepts]
                reasons = [why_untestable(item) for item in data]
                untested += [
                    (item.concept, UntestedContrast(contrast, reader.sae.name, reason))
                    for item, reason in zip(data, reasons, strict=True)
                    if reason is not None
                ]
                testable = [item for item, reason in zip(data, reasons, strict=True) if reason is None]
                families[reader.sae.name].append(analyse_family(contrast, testable, config.analysis))
                advance(1)
    every = [family for own in families.values() for family in own]
    control, relabelled = permutation_control(every), relabelled_findings(every)
    overall = {
        reader.sae.name: global_fidelity(
            reader.sae.name,
            scores.read_fidelity(store, sae=reader.sae.name),
            scores.read_densities(store, sae=reader.sae.name),
            latents=reader.sae.latents,
            config=config.fidelity,
        )
        for reader in readers
    }
    outcomes = _outcomes(store, concepts, config)
    results = tuple(
        _concept_result(
            store,
            concept,
            families,
            overall,
            control=control,
            relabelled=relabelled.get(concept.id, 0),
            untested=tuple(item for name, item in untested if name == concept.id),
            outcome=outcomes.get(concept.id),
            config=config,
        )
        for concept in concepts
    )
    exclusions = {reader.sae.name: _exclusions(store, reader) for reader in readers}
    return Assessment(overall, exclusions, control, results)


def _exclusions(store: Store, reader: Reader) -> Exclusions:
    counts = scores.read_exclusions(store, site=reader.sae.site)
    return Exclusions(counts.total, counts.template, counts.outliers, reader.outlier_limit, counts.kept)


def card_latents(assessment: Assessment, *, sae: str, per_concept: int) -> tuple[int, ...]:
    """Return the features of an SAE worth a card: confirmed before associated, distinction before topic, by rank."""
    chosen: dict[int, None] = {}
    for concept in assessment.concepts:
        ranked = sorted(
            (-finding.rung.height, contrast.contrast is not Contrast.DISTINCTION, rank, finding.latent)
            for contrast in concept.contrasts
            if contrast.sae == sae
            for rank, finding in enumerate(contrast.findings)
            if finding.rung.height >= Rung.ASSOCIATED.height
        )
        own = dict.fromkeys(latent for _, _, _, latent in ranked)
        chosen |= dict.fromkeys(list(own)[:per_concept])
    return tuple(chosen)


def _contrast_data(
    store: Store, concept: Concept, contrast: Contrast, reader: Reader, neurons: NeuronMaxima | None
) -> ContrastData:
    baseline = BASELINE_ARM[contrast]
    controls = {ControlKind.RANDOM_DIRECTIONS: reader.control}
    if reader.frozen is not None:
        controls[ControlKind.FROZEN_DECODER] = reader.frozen

    def of(split: Split, sae: str) -> ScenarioScores:
        return scores.read_scores(store, sae=sae, concept=concept.id, split=split, arm=Arm.CONCEPT, baseline=baseline)

    def residuals(split: Split) -> ResidualDifferences:
        return scores.read_residuals(
            store, site=reader.sae.site, concept=concept.id, split=split, arm=Arm.CONCEPT, baseline=baseline
        )

    def both(sae: str) -> Halves[ScenarioScores]:
        return Halves(Discovery(of(Split.DISCOVERY, sae)), Confirmation(of(Split.CONFIRMATION, sae)))

    trained = both(reader.sae.name)
    return ContrastData(
        concept=concept.id,
        scores=trained,
        controls={kind: both(sae) for kind, sae in controls.items()},
        residuals=Halves(Discovery(residuals(Split.DISCOVERY)), Confirmation(residuals(Split.CONFIRMATION))),
        neurons=None if neurons is None else _neurons(neurons, concept, baseline),
        words=_words(concept, baseline, trained),
        cues=_cue_scores(store, concept, sae=reader.sae.name),
    )


def _neurons(neurons: NeuronMaxima, concept: Concept, baseline: Arm) -> Halves[FloatArray]:
    discovery, confirmation = (
        scores.neuron_scores(neurons, concept=concept.id, split=split, arm=Arm.CONCEPT, baseline=baseline).score
        for split in (Split.DISCOVERY, Split.CONFIRMATION)
    )
    return Halves(Discovery(discovery), Confirmation(confirmation))


def _words(concept: Concept, baseline: Arm, scored: Halves[ScenarioScores]) -> Halves[FloatArray]:
    """Return differences of word counts in the scenarios that have scores; the vocabulary is that of discovery."""
    pairs = [
        [(scenario.arms[Arm.CONCEPT], scenario.arms[baseline]) for scenario in (concept.scenarios[n] for n in numbers)]
        for numbers in (scored.discovery.data.scenarios, scored.confirmation.data.scenarios)
    ]
    discovery, confirmation = word_differences(*pairs)
    return Halves(Discovery(discovery), Confirmation(confirmation))


def _cue_scores(store: Store, concept: Concept, *, sae: str) -> CueScores | None:
    held_out = concept.in_split(Split.CONFIRMATION)
    if not any(Arm.CUE in s.arms and Arm.CUE_FREE in s.arms for s in held_out):
        return None
    parts = {
        arm: scores.read_scores(
            store, sae=sae, concept=concept.id, split=Split.CONFIRMATION, arm=arm, baseline=Arm.NEUTRAL
        )
        for arm in (Arm.CONCEPT, Arm.CUE, Arm.CUE_FREE)
    }
    shared = set(parts[Arm.CUE].scenarios) & set(parts[Arm.CUE_FREE].scenarios)
    concept_part, cue, free = (_only(parts[arm], shared) for arm in (Arm.CONCEPT, Arm.CUE, Arm.CUE_FREE))
    return CueScores(concept_part, cue, free)


def _only(part: ScenarioScores, scenarios: set[int]) -> ScenarioScores:
    keep = [number in scenarios for number in part.scenarios]
    return ScenarioScores(part.scenarios[keep], part.latents, part.score[keep], part.firing[keep], part.fired)


def _concept_result(
    store: Store,
    concept: Concept,
    families: Mapping[str, Sequence[FamilyEffects]],
    overall: Mapping[str, Fidelity],
    *,
    control: PermutationControl,
    relabelled: int,
    untested: tuple[UntestedContrast, ...],
    outcome: OutcomeResult | None,
    config: AuditConfig,
) -> ConceptResult:
    n_confirmation = len(concept.in_split(Split.CONFIRMATION))
    fidelity = {
        sae: part_fidelity(
            sae,
            concept.id,
            scores.read_fidelity(store, sae=sae, concept=concept.id),
            overall[sae],
            config=config.fidelity,
        )
        for sae in families
    }
    contrasts = tuple(
        contrast_result(
            family.contrast,
            effects,
            sae=sae,
            limits=gate(fidelity[sae], control, n_confirmation, config.analysis),
            config=config.analysis,
        )
        for sae, own in families.items()
        for family in own
        for effects in family.concepts
        if effects.concept == concept.id
    )
    return ConceptResult(
        id=concept.id,
        domain=concept.domain,
        title=concept.title,
        definition=concept.definition,
        rules=tuple(Rule(rule.name, rule.clause) for rule in concept.rules),
        why=concept.why,
        exploratory=n_confirmation < config.analysis.min_confirmation_scenarios,
        fidelity=tuple(fidelity.values()),
        contrasts=contrasts,
        untested=untested,
        relabelled_with_finding=relabelled,
        outcome=outcome,
    )


def _outcomes(store: Store, concepts: Sequence[Concept], config: AuditConfig) -> dict[str, OutcomeResult]:
    asked = {concept.id: concept.outcome for concept in concepts if concept.outcome is not None}
    pairs = {concept: scores.read_outcomes(store, concept=concept) for concept in asked}
    return outcome_results(pairs, asked, config.analysis)
