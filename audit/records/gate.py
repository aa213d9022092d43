"""What a policy's rules said of one subject: the answer of the gate, rule by rule."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from audit.digests import Json

GATE_SCHEMA = "affidavit/gate/1"


class Severity(StrEnum):
    """What a rule that does not pass does to the gate: stop it, or say so."""

    ERROR = "error"
    WARNING = "warning"


class RuleOutcome(StrEnum):
    """What became of a rule. `unresolved` is no pass; `not applicable` is of a rule about another kind of subject."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    UNRESOLVED = "unresolved"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class RulePoint:
    """One thing that a rule looked at: where, what came of it, in words and figures."""

    place: str
    outcome: RuleOutcome
    said: str
    figures: dict[str, Json]


@dataclass(frozen=True, slots=True)
class WaiverRecord:
    """Who lets a rule be broken, why, and the last day of it (ISO 8601)."""

    reason: str
    owner: str
    expires: str


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """One rule's outcome. `waiver` is None unless the policy waives the rule; `query` computes the figures again."""

    id: str
    kind: str
    severity: Severity
    why: str
    clause: str | None
    asks: str
    outcome: RuleOutcome
    said: str
    points: tuple[RulePoint, ...]
    query: str
    waiver: WaiverRecord | None

    @property
    def broken(self) -> bool:
        """Return whether the rule applied and did not pass."""
        return self.outcome in {RuleOutcome.FAIL, RuleOutcome.UNRESOLVED}

    @property
    def waived(self) -> bool:
        """Return whether the rule did not pass and the policy lets it be."""
        return self.broken and self.waiver is not None

    @property
    def stops(self) -> bool:
        """Return whether this rule alone fails the gate."""
        return self.broken and not self.waived and self.severity is Severity.ERROR

    @property
    def words(self) -> str:
        """Return the outcome, with its waiver where one is used."""
        if not self.waived or self.waiver is None:
            return self.said
        return f"{self.said} Waived until {self.waiver.expires} by {self.waiver.owner}: {self.waiver.reason}"


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """The gate's answer: every rule of one policy on one subject.

    Args:
        policy, policy_digest: title and digest of the policy file.
        subject: what was judged, a bundle or a difference, by its model's name.
        subject_digest: of the signed statement over it.
        seal: what its verification said, in a few words.
        judged_on: the day, on which waivers depend (ISO 8601).
        baseline: what was said of the base that a release is compared with.
        rules: in the order of the policy.
    """

    schema: str
    policy: str
    policy_digest: str
    subject: str
    subject_digest: str
    seal: str
    judged_on: str
    baseline: str
    rules: tuple[RuleVerdict, ...]

    @property
    def passed(self) -> bool:
        """Return whether no rule stops the gate and at least one applied."""
        applied = any(rule.outcome is not RuleOutcome.NOT_APPLICABLE for rule in self.rules)
        return applied and not any(rule.stops for rule in self.rules)

    @property
    def conclusion(self) -> str:
        """Return the answer in one line, with how many rules did what."""
        counts = {outcome: sum(rule.outcome is outcome for rule in self.rules) for outcome in RuleOutcome}
        parts = [f"{number} {outcome.value}" for outcome, number in counts.items() if number]
        waived = sum(rule.waived for rule in self.rules)
        parts += [f"{waived} waived"] if waived else []
        return f"gate {'passed' if self.passed else 'FAILED'}: {', '.join(parts)}"
