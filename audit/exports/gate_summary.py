"""The gate's answer as a page of Markdown for a CI job; texts of policy and bundle stay text."""

from __future__ import annotations

from audit.exports.markdown import as_text
from audit.exports.source import hex_of
from audit.records import GateVerdict, RuleOutcome, RuleVerdict

# GitHub refuses a step's summary above 1 MiB, and other steps write to the same file.
LIMIT_BYTES = 512 << 10
_OUTCOMES = {
    RuleOutcome.PASS: "pass",
    RuleOutcome.FAIL: "**FAIL**",
    RuleOutcome.UNRESOLVED: "**UNRESOLVED**",
    RuleOutcome.NOT_APPLICABLE: "not applicable",
}


def gate_summary(verdict: GateVerdict) -> bytes:
    """Return the verdict as Markdown of at most `LIMIT_BYTES`; equal verdicts give equal bytes."""
    head = [
        f"# {as_text(verdict.conclusion, 300)}",
        "",
        f"- Policy {as_text(verdict.policy)}, {_digest(verdict.policy_digest)}",
        f"- Subject {as_text(verdict.subject)}, statement {_digest(verdict.subject_digest)}",
        f"- Seal: {as_text(verdict.seal)}",
        f"- Base: {as_text(verdict.baseline, 300)}",
        f"- Judged on {as_text(verdict.judged_on)}",
        "",
        "| rule | outcome | what was found | why |",
        "|---|---|---|---|",
    ]
    tail = ["", "Unresolved is never a pass. A policy that passes says what was asked, not that a model complies."]
    room = LIMIT_BYTES - sum(len(part.encode()) + 1 for part in (*head, *tail)) - 256
    rows: list[str] = []
    for row in map(_row, verdict.rules):
        room -= len(row.encode()) + 1
        if room < 0:
            tail = ["", f"{len(verdict.rules) - len(rows)} more rules: affidavit gate --json has each.", *tail]
            break
        rows.append(row)
    return ("\n".join([*head, *rows, *tail]) + "\n").encode()


def _row(rule: RuleVerdict) -> str:
    outcome = f"waived ({rule.outcome.value})" if rule.waived else _OUTCOMES[rule.outcome]
    told = f"{outcome}, {rule.severity.value}"
    return f"| {as_text(rule.id)} | {told} | {as_text(rule.words, 1500)} | {as_text(rule.why, 400)} |"


def _digest(digest: str) -> str:
    return f"`{digest}`" if hex_of(digest) is not None else as_text(digest)
