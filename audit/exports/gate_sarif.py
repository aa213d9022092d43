"""The gate's answer as SARIF 2.1.0: a rule is a rule of the policy, and its result says pass, fail, open or waived."""

from __future__ import annotations

from audit.digests import Json, canonical_json, digest_json
from audit.exports.sarif_terms import SCHEMA, message_text
from audit.exports.source import NAMESPACE, line, stable_uuid
from audit.records import GateVerdict, RuleOutcome, RuleVerdict, Severity, as_json
from audit.signing.bundle_files import FINDINGS

_KINDS = {
    RuleOutcome.PASS: "pass",
    RuleOutcome.FAIL: "fail",
    # A code scanning service shows failures only, and an unresolved rule must be seen.
    RuleOutcome.UNRESOLVED: "fail",
    RuleOutcome.NOT_APPLICABLE: "notApplicable",
}


def gate_sarif(verdict: GateVerdict) -> bytes:
    """Return the verdict as SARIF; canonical JSON, equal verdicts give equal bytes."""
    run: dict[str, Json] = {
        "tool": {
            "driver": {
                "name": "affidavit gate",
                "guid": stable_uuid("gate", NAMESPACE),
                "shortDescription": {"text": message_text(f"Policy: {line(verdict.policy)}")},
                "rules": [_rule(rule) for rule in verdict.rules],
            }
        },
        "automationDetails": {
            "id": f"affidavit-gate/{line(verdict.subject)}/",
            "description": {"text": message_text(line(verdict.conclusion))},
        },
        "invocations": [{"executionSuccessful": True}],
        "results": [_result(verdict, number, rule) for number, rule in enumerate(verdict.rules)],
        "columnKind": "unicodeCodePoints",
        "properties": {
            "passed": verdict.passed,
            "policyDigest": verdict.policy_digest,
            "statementDigest": verdict.subject_digest,
            "seal": verdict.seal,
            "judgedOn": verdict.judged_on,
            "baseline": line(verdict.baseline),
        },
    }
    return canonical_json({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def _rule(rule: RuleVerdict) -> Json:
    return {
        "id": rule.id,
        "shortDescription": {"text": message_text(line(rule.why))},
        "fullDescription": {"text": message_text(line(rule.asks))},
        "help": {"text": message_text(line(f"{rule.why} Asked: {rule.asks}"))},
        "defaultConfiguration": {"level": rule.severity.value},
        "properties": {"kind": rule.kind, "clause": rule.clause},
    }


def _result(verdict: GateVerdict, number: int, rule: RuleVerdict) -> Json:
    said = f"{rule.id}: {rule.outcome.value}. {rule.words}"
    level = "error" if rule.severity is Severity.ERROR else "warning"
    result: dict[str, Json] = {
        "ruleId": rule.id,
        "ruleIndex": number,
        "kind": _KINDS[rule.outcome],
        # Only a result of kind `fail` has a level (SARIF 2.1.0, 3.27.10).
        "level": level if rule.broken else "none",
        "message": {"text": message_text(line(said))},
        "partialFingerprints": {"affidavitRule/v1": digest_json([verdict.policy, rule.id])},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": FINDINGS},
                    "region": {"startLine": 1, "endLine": 1},
                },
                "logicalLocations": [{"name": rule.id, "fullyQualifiedName": rule.id, "kind": "policy rule"}],
            }
        ],
        "properties": {
            "outcome": rule.outcome.value,
            "query": line(rule.query),
            "points": as_json(rule.points),
        },
    }
    if rule.waived and rule.waiver is not None:
        told = f"Waived until {rule.waiver.expires} by {rule.waiver.owner}: {rule.waiver.reason}"
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": line(told)}]
    return result
