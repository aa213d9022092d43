"""The gate's answer as JUnit XML: a case is a rule, and a rule of severity error that does not pass is a failure."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from audit.exports.source import line
from audit.records import GateVerdict, RuleOutcome, RuleVerdict


def gate_junit(verdict: GateVerdict) -> bytes:
    """Return the verdict as JUnit XML; equal verdicts give equal bytes.

    A rule that is waived, does not apply, or only warns is a skipped case with its reason: it is never a passed one.
    """
    failures = sum(rule.stops for rule in verdict.rules)
    skipped = sum(_is_skipped(rule) for rule in verdict.rules)
    totals = {"tests": str(len(verdict.rules)), "failures": str(failures), "errors": "0"}
    root = Element("testsuites", {"name": f"affidavit gate: {line(verdict.subject)}", **totals})
    suite = SubElement(
        root,
        "testsuite",
        {
            "name": line(verdict.policy),
            **totals,
            "skipped": str(skipped),
            "timestamp": f"{verdict.judged_on}T00:00:00",
        },
    )
    properties = SubElement(suite, "properties")
    said = {
        "affidavit.policy.digest": verdict.policy_digest,
        "affidavit.statement.digest": verdict.subject_digest,
        "affidavit.seal": verdict.seal,
        "affidavit.baseline": verdict.baseline,
        "affidavit.gate": verdict.conclusion,
    }
    for name, value in said.items():
        SubElement(properties, "property", {"name": name, "value": line(value)})
    for rule in verdict.rules:
        _case(suite, rule)
    indent(root)
    written: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _is_skipped(rule: RuleVerdict) -> bool:
    return not rule.stops and rule.outcome is not RuleOutcome.PASS


def _case(suite: Element, rule: RuleVerdict) -> None:
    case = SubElement(suite, "testcase", {"classname": f"policy.{rule.kind}", "name": line(rule.id)})
    if rule.stops:
        told = {"type": rule.outcome.value, "message": line(f"{rule.outcome.value}: {rule.why}")}
        SubElement(case, "failure", told).text = line(f"{rule.words} Asked: {rule.asks}")
    elif _is_skipped(rule):
        kind = "waived" if rule.waived else f"{rule.severity.value}, {rule.outcome.value}"
        SubElement(case, "skipped", {"type": kind, "message": line(f"{kind}: {rule.words}")})
    else:
        SubElement(case, "system-out").text = line(rule.words)
