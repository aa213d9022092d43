"""Single features of all concepts: measured, tested in one family an SAE, then held against shams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from audit.analysis.causal import (
    EdgeRuns,
    SignFlip,
    by_sae,
    causal_effect,
    decidable,
    downstream_edges,
    error_node,
    sign_flips,
)
from audit.analysis.shams import sham_numbers
from audit.arrays import Confirmation
from audit.causes.single_shams import ShammedSingle, ShamPlan, SingleShams
from audit.causes.singles import ConceptSingles, Single, confirmed, measure_concept
from audit.causes.work import Work
from audit.config import AuditConfig
from audit.records import CausalEffect, ConceptResult, DownstreamEdge, ErrorNode, ScreenCheck, Untested


@dataclass(frozen=True, slots=True)
class SingleFindings:
    """What interventions on single features found, and what was not tested."""

    effects: tuple[CausalEffect, ...]
    screens: tuple[ScreenCheck, ...]
    edges: tuple[DownstreamEdge, ...]
    errors: tuple[ErrorNode, ...]
    untested: tuple[Untested, ...]


@dataclass(frozen=True, slots=True)
class _Claim:
    """A single feature with its part of its concept, its test, and its shams or why there are none."""

    part: ConceptSingles
    single: Single
    tested: SignFlip | None
    shams: ShammedSingle | None = None
    without: str = ""

    @property
    def id(self) -> str:
        return f"{self.single.runs.finding.id}/causal"

    def passes(self, alpha: float) -> bool:
        return self.tested is not None and self.tested.p_holm <= alpha


def inquire_singles(work: Work, concepts: Sequence[ConceptResult]) -> SingleFindings:
    """Measure every confirmed feature, concept by concept, then run the sham tests of those that pass."""
    parts, untested = _measure(work, concepts)
    singles = [(part, single) for part in parts for single in part.singles]
    claims: list[_Claim] = []
    screens: list[ScreenCheck] = []
    for places in by_sae([part.bench.name for part, _ in singles]).values():
        own = [singles[n] for n in places]
        family = [_Claim(part, single, test) for (part, single), test in zip(own, _tests(own, work), strict=True)]
        checked, shammed = _sham(family, work)
        claims += shammed
        screens += checked
    effects = tuple(
        causal_effect(
            claim.single.runs,
            claim.tested,
            None if claim.shams is None else claim.shams.shams.test,
            without=claim.without,
            config=work.config.analysis,
        )
        for claim in claims
    )
    return SingleFindings(
        effects=effects,
        screens=tuple(screens),
        edges=downstream_edges([edge for claim in _once(claims) for edge in _edges(claim)], work.config.analysis),
        errors=_errors(parts, effects, work.config),
        untested=untested,
    )


def _tests(own: Sequence[tuple[ConceptSingles, Single]], work: Work) -> list[SignFlip | None]:
    """Test, in one family, the features that any test could find; None for the others."""
    could = decidable([single.runs.changed for _, single in own], alpha=work.alpha).tolist()
    tests = iter(sign_flips([single.runs.effect for (_, single), mark in zip(own, could, strict=True) if mark]))
    return [next(tests) if mark else None for mark in could]


def _measure(work: Work, concepts: Sequence[ConceptResult]) -> tuple[list[ConceptSingles], tuple[Untested, ...]]:
    results = {result.id: result for result in concepts}
    known = [c for suite in work.subject.suites for c in suite.concepts if c.id in results]
    parts: list[ConceptSingles] = []
    untested = []
    with work.progress.stage("lowering features", total=len(known)) as advance:
        for concept in known:
            result = results[concept.id]
            count = sum(len(confirmed(result, bench.name)) for bench in work.benches)
            reason = "the concept asks no outcome question" if concept.outcome is None else work.budget.reason
            if count and (concept.outcome is None or not work.budget.may_begin()):
                untested.append(Untested(f"confirmed features of {concept.id}", count, reason))
            elif count:
                found = measure_concept(work, concept, result)
                parts += found
            advance(1)
    return parts, tuple(untested)


def _sham(family: Sequence[_Claim], work: Work) -> tuple[list[ScreenCheck], list[_Claim]]:
    passing = [claim for claim in family if claim.passes(work.alpha)]
    if not passing or not work.budget.may_begin():
        return [], [replace(claim, without=work.budget.reason) for claim in family]
    shams = SingleShams(passing[0].part.bench, work)
    check = shams.check([claim.single for claim in passing])
    count, level = sham_numbers(len(passing), shams=work.config.causal.shams, alpha=work.alpha)
    found = []
    with work.progress.stage("shams of features", total=len(passing)) as advance:
        for claim in family:
            if not claim.passes(work.alpha):
                found.append(claim)
                continue
            if work.budget.may_begin():
                own = ShamPlan(claim.id, count, level, claim.part.downstream, screened=check.accepted)
                tested = shams.test(claim.single, own)
                found.append(replace(claim, shams=tested))
            else:
                found.append(replace(claim, without=work.budget.reason))
            advance(1)
    return [check], found


def _once(claims: Sequence[_Claim]) -> list[_Claim]:
    """Return each feature of a concept once: of two contrasts the first with shams speaks for its edges."""
    found: dict[tuple[str, str, int], _Claim] = {}
    for claim in sorted(claims, key=lambda claim: claim.shams is None):
        finding = claim.single.runs.finding
        found.setdefault((finding.concept, finding.sae, finding.latent), claim)
    return list(found.values())


def _edges(claim: _Claim) -> list[EdgeRuns]:
    finding, later = claim.single.runs.finding, claim.part.bench.later
    if later is None:
        return []
    return [
        EdgeRuns(
            concept=finding.concept,
            sae=finding.sae,
            latent=finding.latent,
            downstream_sae=later.sae.record.name,
            downstream_latent=latent,
            fall=Confirmation(claim.single.falls[:, column]),
            beside=0.0 if claim.shams is None else float(claim.shams.beside[column]),
            shams=() if claim.shams is None else tuple(claim.shams.falls[:, column].tolist()),
        )
        for column, latent in enumerate(claim.part.downstream)
    ]


def _errors(
    parts: Sequence[ConceptSingles], effects: Sequence[CausalEffect], config: AuditConfig
) -> tuple[ErrorNode, ...]:
    means: dict[tuple[str, str], dict[int, float]] = {}
    for effect in effects:
        means.setdefault((effect.concept, effect.sae), {}).setdefault(effect.latent, effect.effect_zero.value)
    alone: Mapping[tuple[str, str], Mapping[int, float]] = means
    return tuple(
        error_node(
            part.concept, part.bench.name, part.error, alone[part.concept, part.bench.name].values(), config.analysis
        )
        for part in parts
    )
