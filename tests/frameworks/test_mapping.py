"""What may be cited: confirmed and causal findings of the right question and domain, and nothing in their absence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from audit.frameworks.clauses import EvidenceKind, Part
from audit.frameworks.files import shipped_frameworks
from audit.frameworks.mapping import ClauseSupport, FrameworkMapping, map_frameworks
from audit.records import CausalResult, Contrast, Finding, Findings, Rung
from tests.reports.fixtures.audits import make_findings

CITABLE = (Rung.CONFIRMED, Rung.CAUSAL)


@pytest.fixture(scope="module")
def findings() -> Findings:
    """A record that holds every rung, on both questions, with mixes and interventions."""
    return make_findings()


def with_rungs(findings: Findings, rung_of: Callable[[Finding], Rung]) -> Findings:
    """Return the record with other rungs of its findings, without mixes and interventions."""
    concepts = tuple(
        replace(
            concept,
            contrasts=tuple(
                replace(result, findings=tuple(replace(one, rung=rung_of(one)) for one in result.findings))
                for result in concept.contrasts
            ),
        )
        for concept in findings.concepts
    )
    return replace(findings, concepts=concepts, mixes=(), causal=None)


def mapped(findings: Findings) -> FrameworkMapping:
    """Return the mapping to the shipped frameworks."""
    return map_frameworks(findings, shipped_frameworks())


def clauses(mapping: FrameworkMapping) -> dict[str, ClauseSupport]:
    """Return the clauses by framework and id."""
    return {f"{one.framework.id}.{each.clause.id}": each for one in mapping.frameworks for each in one.clauses}


def test_without_confirmed_findings_there_is_no_evidence(findings: Findings) -> None:
    """Clauses that ask for findings cite nothing, not even the report's parts; the others speak of the report."""
    found = clauses(mapped(with_rungs(findings, lambda _: Rung.ASSOCIATED)))
    asking = [each for each in found.values() if each.clause.findings]
    others = [each for each in found.values() if not each.clause.findings]
    assert len(asking) > 10
    assert len(others) > 5
    assert not any(each.supported or each.parts for each in asking)
    assert all(each.supported for each in others)


def test_the_topic_is_not_the_distinction(findings: Findings) -> None:
    """Findings on the topic only leave clauses about the sensitive case without evidence."""
    changed = with_rungs(findings, lambda one: Rung.CONFIRMED if one.contrast is Contrast.TOPIC else Rung.ASSOCIATED)
    found = clauses(mapped(changed))
    assert found["eu_ai_act.annex_iv_2g"].supported
    assert {each.contrast for each in found["eu_ai_act.annex_iv_2g"].evidence} == {Contrast.TOPIC}
    assert not found["eu_ai_act.articles_13_15"].supported
    assert not found["nist_ai_rmf.measure_2_3"].supported


def test_every_confirmed_and_causal_finding_is_cited_once(findings: Findings) -> None:
    """The numbers are those of the findings."""
    expected = Counter(
        (concept.domain, result.contrast)
        for concept in findings.concepts
        for result in concept.contrasts
        for one in result.findings
        if one.rung in CITABLE
    )
    assert expected
    cited = [e for e in clauses(mapped(findings))["iso_42001.clause_9_1"].evidence if e.kind is EvidenceKind.FEATURES]
    assert Counter((next(iter(each.domains)), each.contrast) for each in cited) == expected


def test_interventions_count_where_they_are_causal(findings: Findings) -> None:
    """An effect that shams reach too, or that was not resolved, is not cited."""
    assert findings.causal is not None
    causal = [effect for effect in findings.causal.effects if effect.rung is Rung.CAUSAL]
    assert 0 < len(causal) < len(findings.causal.effects)

    def cited(record: Findings) -> int:
        evidence = clauses(mapped(record))["nist_ai_rmf.measure_2_9"].evidence
        return sum(each.kind is EvidenceKind.INTERVENTIONS for each in evidence)

    assert cited(findings) == len(causal)
    lower = tuple(replace(effect, rung=Rung.CONFIRMED) for effect in findings.causal.effects)
    assert cited(replace(findings, causal=replace(findings.causal, effects=lower))) == 0


def test_a_causal_effect_alone_is_evidence(findings: Findings) -> None:
    """Where no finding on single features stands, a clause that takes effects cites them, and no other clause does."""
    assert isinstance(findings.causal, CausalResult)
    changed = replace(with_rungs(findings, lambda _: Rung.UNRESOLVED), causal=findings.causal)
    found = clauses(mapped(changed))
    assert found["nist_ai_rmf.measure_2_3"].supported
    assert not found["nist_ai_rmf.measure_2_5"].supported


def test_a_framework_of_a_domain_cites_that_domain(findings: Findings) -> None:
    """Findings of other domains, and mixes across domains, are none of its evidence."""
    for name in ("us_model_risk.development", "dodd_3000_09.section_3", "fda_pccp.modification_protocol"):
        domain = {"u": "finance", "d": "defense", "f": "healthcare"}[name[0]]
        assert all(each.domains == {domain} for each in clauses(mapped(findings))[name].evidence)
    across = [e for e in clauses(mapped(findings))["eu_ai_act.annex_iv_3"].evidence if e.kind is EvidenceKind.MIXES]
    assert across
    assert all(len(each.domains) > 1 for each in across)


def test_frameworks_of_domains_that_were_not_audited_are_left_out(findings: Findings) -> None:
    """They are named, not dropped."""
    finance = tuple(concept for concept in findings.concepts if concept.domain == "finance")
    mapping = mapped(replace(findings, concepts=finance, mixes=(), causal=None))
    assert {one.framework.id for one in mapping.frameworks} == {
        "eu_ai_act",
        "iso_42001",
        "nist_ai_rmf",
        "us_model_risk",
    }
    assert {framework.id for framework in mapping.left_out} == {"cfr_part_11", "fda_pccp", "hipaa", "dodd_3000_09"}


def test_an_empty_audit_supports_nothing(findings: Findings) -> None:
    """Not even a sealed report of it is evidence of anything."""
    mapping = mapped(replace(findings, concepts=(), mixes=(), causal=None))
    assert not any(each.supported for each in clauses(mapping).values())


def test_parts_that_the_report_lacks_are_not_cited(findings: Findings) -> None:
    """A failed control, a missing certificate and an empty list of what was not tested are no support."""
    failed = replace(findings.permutation_control, passed=False)
    bare = tuple(replace(instrument, certificate=None) for instrument in findings.saes)
    lacking = replace(findings, permutation_control=failed, saes=bare, not_tested=())

    def parts(record: Findings) -> set[Part]:
        return {part for each in clauses(mapped(record)).values() for part in each.parts}

    assert parts(findings) - parts(lacking) == {Part.SHUFFLED_LABELS, Part.CERTIFICATES, Part.NOT_TESTED}
