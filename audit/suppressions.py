"""The control test within an audit: the causal features of each concept, held down together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audit.capture.steering import Steerer
from audit.config import AuditConfig
from audit.evidence.scores import read_densities
from audit.evidence.store import Store
from audit.gathering import Instrument, Subject
from audit.progress import Progress
from audit.records import ConceptResult, Rung, Suppression, Untested
from audit.steering import SteeringPlan, measure_suppression, question_pairs


@dataclass(frozen=True, slots=True)
class Suppressions:
    """What holding down the causal features of each concept does, and what could not be held down."""

    found: tuple[Suppression, ...]
    untested: tuple[Untested, ...]


def suppress_causes(
    store: Store, subject: Subject, concepts: Sequence[ConceptResult], config: AuditConfig, progress: Progress
) -> Suppressions:
    """Hold down, for each concept and SAE, all of its causal features at once; the rest of the audit is not changed.

    Args:
        store: evidence with the largest activation of every feature.
        subject: what was audited.
        concepts: with the rungs that the causal tests gave their findings.
        config: doses, seed and numbers.
        progress: listener.
    """
    withheld = {concept.id: suite.withheld for suite in subject.suites for concept in suite.concepts}
    wanted = [
        (concept, instrument, latents)
        for concept in concepts
        for instrument in subject.instruments
        if (latents := _causal(concept, instrument))
    ]
    found, untested = [], []
    with progress.stage("suppressing causal features", total=len(wanted)) as advance:
        for concept, instrument, latents in wanted:
            live = read_densities(store, sae=instrument.sae.record.name)
            if len(live.latents) < 2 * len(latents):
                reason = f"{len(live.latents)} features fired in the audit: too few others for random sets"
                untested.append(Untested(f"suppression of the causal features of {concept.id}", len(latents), reason))
            else:
                steerer = Steerer(subject.model, instrument.fitted, say=progress.say)
                pairs = question_pairs(subject.questions, concept.id)
                plan = SteeringPlan.within_audit(latents, live, config)
                found.append(measure_suppression(steerer, pairs, plan, withheld=withheld[concept.id]))
            advance(1)
    return Suppressions(tuple(found), tuple(untested))


def _causal(concept: ConceptResult, instrument: Instrument) -> tuple[int, ...]:
    found = {
        finding.latent
        for contrast in concept.contrasts
        if contrast.sae == instrument.sae.record.name
        for finding in contrast.findings
        if finding.rung is Rung.CAUSAL
    }
    return tuple(sorted(found))
