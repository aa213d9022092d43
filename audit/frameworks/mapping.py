"""Which clauses an audit has evidence for: confirmed and causal findings and the parts of its report, nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audit.frameworks.clauses import Clause, EvidenceKind, EvidenceSelector, Framework, Part
from audit.records import Contrast, Findings, Rung


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that may be cited: its kind, its rung, the concepts that it is about, and its question if it has one.

    `domains` are those of the concepts: a mix may be of two.
    """

    kind: EvidenceKind
    rung: Rung
    concepts: tuple[str, ...]
    domains: frozenset[str]
    contrast: Contrast | None


@dataclass(frozen=True, slots=True)
class ClauseSupport:
    """What an audit holds for one clause. `parts` are empty where the clause asks for findings and there is none."""

    clause: Clause
    evidence: tuple[Evidence, ...]
    parts: tuple[Part, ...]

    @property
    def supported(self) -> bool:
        """Return whether anything of the audit may be cited under the clause."""
        return bool(self.evidence or self.parts)


@dataclass(frozen=True, slots=True)
class FrameworkSupport:
    """What an audit holds for the clauses of one framework."""

    framework: Framework
    clauses: tuple[ClauseSupport, ...]


@dataclass(frozen=True, slots=True)
class FrameworkMapping:
    """The frameworks that concern an audit, and those left out because no concept of their domains was audited."""

    frameworks: tuple[FrameworkSupport, ...]
    left_out: tuple[Framework, ...]
    evidence: tuple[Evidence, ...]


def map_frameworks(findings: Findings, frameworks: Iterable[Framework]) -> FrameworkMapping:
    """Return what may be cited under which clause. An audit without concepts supports nothing, not even by its seal."""
    audited = {concept.domain for concept in findings.concepts}
    evidence = tuple(citable(findings))
    parts = _parts(findings) if audited else frozenset()
    concerned, left_out = [], []
    for framework in frameworks:
        if framework.domains and not audited & set(framework.domains):
            left_out.append(framework)
            continue
        concerned.append(
            FrameworkSupport(
                framework, tuple(_support(clause, framework, evidence, parts) for clause in framework.clauses)
            )
        )
    return FrameworkMapping(tuple(concerned), tuple(left_out), evidence)


def citable(findings: Findings) -> Iterable[Evidence]:
    """Yield every finding on a rung on which its kind may be cited, in the order of the findings."""
    domains = {concept.id: concept.domain for concept in findings.concepts}
    for evidence in _all_evidence(findings, domains):
        if evidence.rung in evidence.kind.rungs:
            yield evidence


def _all_evidence(findings: Findings, domains: dict[str, str]) -> Iterable[Evidence]:
    for concept in findings.concepts:
        for result in concept.contrasts:
            for finding in result.findings:
                yield _one(EvidenceKind.FEATURES, finding.rung, (concept.id,), domains, finding.contrast)
    for effect in findings.causal.effects if findings.causal is not None else ():
        yield _one(EvidenceKind.INTERVENTIONS, effect.rung, (effect.concept,), domains, effect.contrast)
    for mix in findings.mixes:
        for scan in mix.scans:
            for mixed in scan.findings:
                yield _one(EvidenceKind.MIXES, mixed.rung, mix.concepts, domains, None)
        for pair in mix.pairs:
            yield _one(EvidenceKind.PAIRS, pair.rung, mix.concepts, domains, None)


def _one(
    kind: EvidenceKind, rung: Rung, concepts: tuple[str, ...], domains: dict[str, str], contrast: Contrast | None
) -> Evidence:
    # A mix may name a concept that was not audited itself: no framework of a domain cites it then.
    return Evidence(kind, rung, concepts, frozenset(domains.get(concept, "") for concept in concepts), contrast)


def _support(
    clause: Clause, framework: Framework, evidence: Sequence[Evidence], parts: frozenset[Part]
) -> ClauseSupport:
    cited = tuple(
        each
        for each in evidence
        if any(_selects(selector, each, selector.domains or framework.domains) for selector in clause.findings)
    )
    if clause.findings and not cited:
        return ClauseSupport(clause, (), ())
    return ClauseSupport(clause, cited, tuple(part for part in clause.parts if part in parts))


def _selects(selector: EvidenceSelector, evidence: Evidence, domains: Sequence[str]) -> bool:
    return (
        evidence.kind is selector.kind
        and evidence.rung in selector.rungs
        and (evidence.contrast is None or evidence.contrast in selector.contrasts)
        and (not domains or evidence.domains <= set(domains))
    )


def _parts(findings: Findings) -> frozenset[Part]:
    """Return the parts that hold something in this report."""
    results = [result for concept in findings.concepts for result in concept.contrasts]
    absent = set()
    if all(instrument.certificate is None for instrument in findings.saes):
        absent.add(Part.CERTIFICATES)
    if not findings.permutation_control.passed:
        absent.add(Part.SHUFFLED_LABELS)
    if not any(result.controls for result in results):
        absent.add(Part.CONTROL_INSTRUMENTS)
    if not results:
        absent |= {Part.BASELINES, Part.POWER}
    if not findings.not_tested:
        absent.add(Part.NOT_TESTED)
    return frozenset(Part) - absent
