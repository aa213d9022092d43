"""Records of every kind that an export must be honest about: full, hostile, empty, unresolved, without a control."""

from __future__ import annotations

from dataclasses import replace

from audit.exports.source import ExportSource
from audit.records import Findings, PermutationControl, Reading, Rung, Withheld
from tests.reports.fixtures.audits import make_findings, make_run
from tests.reports.fixtures.basics import digest
from tests.reports.fixtures.strange import KINDS, with_texts


def source_of(findings: Findings) -> ExportSource:
    """Return what the exports of these findings are made from."""
    return ExportSource(findings, make_run(findings), digest("evidence"))


def strange(first: int) -> ExportSource:
    """Return a record with hostile or unusual text in every place that a user supplies, ids and SAEs among them."""
    findings = with_texts(make_findings(), first=first, sae=f"{KINDS[first]} ")
    ids = {concept.id: f"{concept.id} {KINDS[first]}" for concept in findings.concepts}
    findings = replace(
        findings,
        concepts=tuple(replace(concept, id=ids[concept.id]) for concept in findings.concepts),
        suites=tuple(replace(suite, id=f"{suite.id} {KINDS[first]}") for suite in findings.suites),
        not_tested=KINDS,
    )
    run = with_texts(make_run(findings), first=first, sae="")
    run = replace(run, environment={kind: kind for kind in KINDS} | {"torch": "2.9.0", "numpy": f"1 {KINDS[first]}"})
    return ExportSource(findings, run, digest("evidence"))


def empty() -> Findings:
    """Return the record of an audit that put no question."""
    return replace(
        make_findings(),
        concepts=(),
        suites=(),
        cofiring=(),
        mixes=(),
        causal=None,
        cards=(),
        ladder=dict.fromkeys((rung.value for rung in Rung), 0),
        not_tested=(),
    )


def unresolved() -> Findings:
    """Return a record in which every question was put and none has an answer."""
    whole = make_findings()
    concepts = tuple(
        replace(
            concept,
            contrasts=tuple(
                replace(
                    result,
                    reading=Reading.UNRESOLVED,
                    confirmed=0,
                    findings=tuple(replace(f, rung=Rung.UNRESOLVED) for f in result.findings),
                )
                for result in concept.contrasts
            ),
            outcome=None,
        )
        for concept in whole.concepts
    )
    causal = whole.causal
    assert causal is not None
    effects = tuple(replace(effect, rung=Rung.UNRESOLVED) for effect in causal.effects)
    mixes = tuple(
        replace(
            mix,
            scans=tuple(replace(scan, findings=(), rung=Rung.UNRESOLVED) for scan in mix.scans),
            pairs=tuple(replace(pair, word=None, rung=Rung.UNRESOLVED) for pair in mix.pairs),
        )
        for mix in whole.mixes
    )
    return replace(whole, concepts=concepts, mixes=mixes, causal=replace(causal, effects=effects))


def with_control(findings: Findings, *, permutations: int, passed: bool) -> Findings:
    """Return findings whose check with shuffled labels was not made, or did not hold."""
    control = PermutationControl(permutations, 90, 0.1395, 80, 0.4, 0.0808, passed=passed)
    outcomes = tuple(replace(concept, outcome=None) for concept in findings.concepts)
    return replace(findings, permutation_control=control, concepts=outcomes)


def odd() -> Findings:
    """Return a record that no audit makes and a stranger may: effects on an unknown concept, rungs of other names."""
    whole = make_findings()
    causal = whole.causal
    assert causal is not None
    effects = tuple(replace(effect, concept="unknown") for effect in causal.effects if effect.concept == "dosing_error")
    return replace(whole, causal=replace(causal, effects=effects), ladder={"two words": 7, "confirmed": 2})


# Of these no export may count a single answer.
WITHOUT_EVIDENCE = {
    "empty": source_of(empty()),
    "unresolved": source_of(unresolved()),
    "failed control": source_of(with_control(make_findings(), permutations=200, passed=False)),
    "no control": source_of(with_control(make_findings(), permutations=0, passed=True)),
}
SOURCES = {
    "every case": source_of(make_findings()),
    **{f"strange {number}": strange(number) for number in range(len(KINDS))},
    "redacted": replace(
        source_of(make_findings()),
        evidence=None,
        withheld=Withheld(("dosing_error",), 4, 1, 1, 9, digest("statement")),
    ),
    "odd": source_of(odd()),
    **WITHOUT_EVIDENCE,
}
