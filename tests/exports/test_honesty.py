"""No export says more than the record: nothing is passed or failed, nothing open is answered, no text is let out."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest

from audit.errors import EvidenceError
from audit.exports.answers import Standing
from audit.exports.formats import make_exports
from audit.exports.questions import answers
from audit.exports.source import NO_POLICY, ExportSource
from audit.records import Contrast, Reading, Rung
from tests.exports.records import SOURCES, WITHOUT_EVIDENCE, source_of, unresolved
from tests.reports.fixtures.audits import make_findings

ANSWER = {"informational"}


def sarif_of(source: ExportSource) -> Any:
    """Return the one run of report.sarif."""
    (run,) = json.loads(make_exports(source)["exports/report.sarif"])["runs"]
    return run


def cases_of(source: ExportSource) -> list[Element]:
    """Return every case of junit.xml."""
    return list(fromstring(make_exports(source)["exports/junit.xml"]).iter("testcase"))  # noqa: S314 - made here


def oscal_of(source: ExportSource) -> Any:
    """Return the one result of the OSCAL file."""
    document = json.loads(make_exports(source)["exports/oscal-assessment-results.json"])
    (result,) = document["assessment-results"]["results"]
    return result


def bom_of(source: ExportSource) -> Any:
    """Return the bill of materials."""
    return json.loads(make_exports(source)["exports/ml-bom.cdx.json"])


@pytest.mark.parametrize("case", WITHOUT_EVIDENCE)
def test_a_record_without_evidence_has_no_answer_anywhere(case: str) -> None:
    """No question put, all unresolved, or a procedure that does not hold: 0 answers, in every format."""
    source = WITHOUT_EVIDENCE[case]
    assert all(answer.standing is not Standing.ANSWERED and not answer.claims for answer in answers(source.findings))
    kinds = {result["kind"] for result in sarif_of(source)["results"]}
    assert kinds <= {"open", "review", "notApplicable"}
    passed = [one for one in cases_of(source) if one.find("skipped") is None and one.find("error") is None]
    assert passed == []
    standings = [
        prop["value"]
        for observation in oscal_of(source).get("observations", [])
        for prop in observation["props"]
        if prop["name"] == "standing"
    ]
    assert "answered" not in standings
    assert bom_of(source)["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"] == []
    page = make_exports(source)["exports/summary.md"].decode()
    counted = re.findall(r"^\| (?:topic|distinction|intervention|mix|pairs) \| (\d+) \|", page, re.MULTILINE)
    assert set(counted) <= {"0"}
    assert "Told apart" not in page


@pytest.mark.parametrize("case", SOURCES)
def test_nothing_is_passed_failed_or_satisfied(case: str) -> None:
    """There is no policy, so there is no verdict; each file says so."""
    source = SOURCES[case]
    run = sarif_of(source)
    assert {result["kind"] for result in run["results"]} <= {"informational", "open", "review", "notApplicable"}
    assert {result["level"] for result in run["results"]} <= {"none"}
    assert all(one.find("failure") is None for one in cases_of(source))
    result = oscal_of(source)
    assert "findings" not in result
    assert "risks" not in result
    for name, content in make_exports(source).items():
        said = content.decode()
        assert NO_POLICY in said, name
        assert not re.search(r"satisfied|\b(?:is|are) compliant|certified as|100%", said), name


def test_each_reading_has_its_kind() -> None:
    """Only what stands is an answer: a null result, an unresolved and an exploratory one stay open."""
    findings = make_findings()
    control = {answer.id: answer for answer in answers(findings)}
    kinds = {result["ruleId"]: result["kind"] for result in sarif_of(source_of(findings))["results"]}
    expected = {
        Reading.DECOMPOSED: "informational",
        Reading.NOT_DECOMPOSED: "informational",
        Reading.NOT_REPRESENTED: "open",
        Reading.UNRESOLVED: "open",
        Reading.SUSPECT: "review",
    }
    seen = set()
    for concept in findings.concepts:
        for result in concept.contrasts:
            place = f"{result.contrast.value}/{concept.id}/{result.sae}"
            seen.add(result.reading)
            assert kinds[place] == ("open" if concept.exploratory else expected[result.reading])
            assert control[place].not_listed == sum(f.rung.height < Rung.CONFIRMED.height for f in result.findings)
    assert seen == set(Reading)


def test_an_exploratory_concept_is_never_answered() -> None:
    """However clear its numbers are."""
    findings = make_findings()
    shown = replace(findings, concepts=tuple(replace(concept, exploratory=True) for concept in findings.concepts))
    asked = [a for a in answers(shown) if a.kind.value in {contrast.value for contrast in Contrast}]
    assert asked
    assert all(answer.standing is not Standing.ANSWERED for answer in asked)


def test_a_question_that_was_not_put_is_no_answer() -> None:
    """SARIF says notApplicable, JUnit skips it, and it is counted on its own."""
    findings = make_findings()
    concept = replace(findings.concepts[0], contrasts=(), untested=())
    source = source_of(replace(findings, concepts=(concept,), mixes=(), causal=None))
    assert [result["kind"] for result in sarif_of(source)["results"]] == ["notApplicable"] * 4
    skips = [one.find("skipped") for one in cases_of(source)]
    assert [skip.get("type") for skip in skips if skip is not None] == ["not put"] * 4


def test_a_failed_control_is_an_error_of_the_audit() -> None:
    """One case and one notification of level error say that no finding can be relied on; a passed one is no case."""
    broken, sound = WITHOUT_EVIDENCE["failed control"], SOURCES["every case"]
    assert [one.get("name") for one in cases_of(broken) if one.find("error") is not None] == [
        "check with shuffled labels"
    ]
    assert all(one.get("name") != "check with shuffled labels" for one in cases_of(sound))
    levels = [
        [note["level"] for note in sarif_of(source)["invocations"][0]["toolExecutionNotifications"]]
        for source in (broken, sound)
    ]
    assert [level.count("error") for level in levels] == [1, 0]


def test_numbers_are_those_of_the_record() -> None:
    """Effect, interval, n and rung of each claim, in words and as figures."""
    findings = make_findings()
    claims = {
        result["properties"]["finding"]: result
        for result in sarif_of(source_of(findings))["results"]
        if "finding" in result["properties"]
    }
    standing = [
        finding
        for concept in findings.concepts
        for result in concept.contrasts
        for finding in result.findings
        if finding.rung.height >= Rung.CONFIRMED.height
    ]
    assert len(standing) == 8
    for finding in standing:
        result = claims[finding.id]
        figures = result["properties"]
        assert figures["dZ"] == {"value": finding.d_z.value, "low": finding.d_z.low, "high": finding.d_z.high}
        assert figures["nScenarios"] == finding.n_scenarios
        assert f"rung {finding.rung.value}: d_z {finding.d_z.value:.2f}" in result["message"]["text"]
        assert figures["query"] == finding.query
    metrics = bom_of(source_of(findings))["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]
    probe = findings.concepts[0].contrasts[0].probe.auroc
    first = metrics["performanceMetrics"][0]
    assert first["value"] == repr(probe.value)
    assert first["confidenceInterval"] == {"lowerBound": repr(probe.low), "upperBound": repr(probe.high)}


def test_no_prompt_label_or_continuation_is_let_out() -> None:
    """What a copy may withhold is in no export, so that none can give it away."""
    findings = make_findings()
    causal = findings.causal
    assert causal is not None
    hidden = "xqhiddenxq"
    cards = tuple(
        replace(
            card,
            labels=tuple(replace(label, text=hidden, note=hidden) for label in card.labels),
            contexts=tuple(
                replace(context, prompt=hidden, tokens=tuple(replace(token, text=hidden) for token in context.tokens))
                for context in card.contexts
            ),
        )
        for card in findings.cards
    )
    held = tuple(
        replace(
            suppression,
            continuations=tuple(
                replace(text, prompt=hidden, untouched=hidden, changed=hidden) for text in suppression.continuations
            ),
        )
        for suppression in causal.suppressions
    )
    assert cards
    assert held
    changed = replace(findings, cards=cards, causal=replace(causal, suppressions=held))
    for name, content in make_exports(source_of(changed)).items():
        assert hidden.encode() not in content, name


def test_files_are_named_with_their_digests() -> None:
    """OSCAL and SARIF link findings.json and evidence.duckdb by SHA-256; an unknown digest is left out."""
    source = SOURCES["every case"]
    assert source.evidence is not None
    wanted = {"findings.json": source.run.findings_digest[7:], "evidence.duckdb": source.evidence[7:]}
    document = json.loads(make_exports(source)["exports/oscal-assessment-results.json"])["assessment-results"]
    resources = {resource["title"]: resource for resource in document["back-matter"]["resources"]}
    for name, digest in wanted.items():
        (link,) = resources[name]["rlinks"]
        assert link["hashes"] == [{"algorithm": "SHA-256", "value": digest}]
    linked = {
        link["href"]
        for observation in document["results"][0]["observations"]
        for evidence in observation["relevant-evidence"]
        for link in evidence["links"]
    }
    assert linked == {f"#{resources[name]['uuid']}" for name in wanted}
    assert document["import-ap"]["href"] == f"#{resources['manifest.json']['uuid']}"
    files = {file["location"]["uri"]: file for file in sarif_of(source)["artifacts"]}
    assert {name: files[name]["hashes"]["sha-256"] for name in wanted} == wanted
    copy = sarif_of(SOURCES["redacted"])["artifacts"]
    assert ["hashes" in file for file in copy[:2]] == [True, False]


def test_a_record_whose_questions_cannot_be_told_apart_is_refused() -> None:
    """No SAE, or a concept twice: one error that says so, and no export."""
    whole = make_findings()
    for broken, said in (
        (replace(whole, saes=()), "at least one SAE"),
        (replace(whole, concepts=(*whole.concepts, whole.concepts[0])), "twice: distinction/"),
    ):
        with pytest.raises(EvidenceError) as caught:
            make_exports(source_of(broken))
        assert said in str(caught.value)


def test_unresolved_answers_keep_their_reasons() -> None:
    """A skipped case says why, in its own words."""
    cases = cases_of(source_of(unresolved()))
    texts = [skip.text for one in cases if (skip := one.find("skipped")) is not None]
    assert len(texts) == len(cases) > 0
    assert all(text is not None and "Reason: " in text for text in texts)
