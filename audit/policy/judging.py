"""The gate's answer: each rule of a policy put to one subject, and nothing unresolved taken for a pass."""

from __future__ import annotations

from datetime import date

from audit.errors import UsageError
from audit.policy.files import Baseline, Policy, Rule
from audit.policy.sealing import SealAsk
from audit.policy.subjects import Subject, SubjectKind
from audit.records import GATE_SCHEMA, GateVerdict, RuleOutcome, RulePoint, RuleVerdict, WaiverRecord

_NAMED = 3
BEFORE_THE_SEAL = "not asked before the seal: what changed against a base, `affidavit gate` says of the sealed bundle"


def judge(policy: Policy, subject: Subject, *, today: date, base: str | None = None) -> GateVerdict:
    """Return what a policy says of a subject.

    Args:
        policy: its waivers hold on `today`.
        subject: verified before, or about to be sealed.
        today: the day of the judgement.
        base: what the release is compared with, in words; None where there is no base.

    Raises:
        UsageError: no rule applies to the subject, a base is required and missing, or a rule's SQL may not run.
        ConfigError: a rule's SQL does not give what its bounds ask for.
        EvidenceError: the evidence is damaged.
    """
    baseline = _baseline(policy, base) if subject.seal is not None else BEFORE_THE_SEAL
    rules = tuple(_judged(policy, rule, subject, compared=base is not None) for rule in policy.rules)
    if all(rule.outcome is RuleOutcome.NOT_APPLICABLE for rule in rules):
        raise UsageError(
            item=f"policy {policy.file}",
            expected=f"at least one rule about a {subject.kind.value}",
            found=f"none of its {len(rules)} rules is",
            hint="A policy that asks nothing passes nothing. Add a rule, or give what its rules are about.",
        )
    statement = subject.seal.statement if subject.seal is not None else None
    return GateVerdict(
        schema=GATE_SCHEMA,
        policy=policy.content.title,
        policy_digest=policy.digest,
        subject=subject.name,
        subject_digest=statement.digest if statement is not None else "",
        seal=subject.seal.verdict if subject.seal is not None else "not sealed yet",
        judged_on=today.isoformat(),
        baseline=baseline,
        rules=rules,
    )


def _baseline(policy: Policy, base: str | None) -> str:
    if base is not None:
        return f"compared with {base}"
    if policy.baseline is Baseline.REQUIRED:
        raise UsageError(
            item=f"policy {policy.file}",
            expected="a base that the release is compared with",
            found="none",
            hint='Give --baseline BUNDLE. For a first release let the policy say baseline = "optional".',
        )
    if policy.baseline is Baseline.OPTIONAL:
        return "no base: a first release, which the policy allows; nothing is said of what changed"
    return "the policy asks for no base"


def _judged(policy: Policy, rule: Rule, subject: Subject, *, compared: bool) -> RuleVerdict:
    ask, waiver = rule.ask, policy.waiver_of(rule)
    points: tuple[RulePoint, ...] = ()
    lacks_difference = ask.about is SubjectKind.DIFFERENCE and subject.difference is None
    if lacks_difference and subject.kind is SubjectKind.BUNDLE and compared:
        # There is a base, so that something may have changed: a bundle alone does not tell, and silence is no pass.
        outcome, said = RuleOutcome.UNRESOLVED, "A bundle does not tell what changed against the base."
    elif subject.seal is None and isinstance(ask, SealAsk):
        outcome, said = RuleOutcome.NOT_APPLICABLE, "asks about the seal, which was put on after this was judged"
    elif lacks_difference or (ask.about is SubjectKind.BUNDLE and subject.kind is SubjectKind.DIFFERENCE):
        outcome = RuleOutcome.NOT_APPLICABLE
        said = f"asks about a {ask.about.value if ask.about is not None else ''}, and this is a {subject.kind.value}"
    else:
        points = tuple(ask.look(subject))
        outcome, said = _summary(points)
    return RuleVerdict(
        id=rule.id,
        kind=rule.kind,
        severity=rule.severity,
        why=rule.why,
        clause=rule.clause,
        asks=ask.asks(),
        outcome=outcome,
        said=said,
        points=points,
        query=ask.query,
        waiver=WaiverRecord(waiver.reason, waiver.owner, waiver.expires.isoformat()) if waiver is not None else None,
    )


def _summary(points: tuple[RulePoint, ...]) -> tuple[RuleOutcome, str]:
    """Return the worst outcome of any point, and in words what led to it."""
    if not points:
        return RuleOutcome.UNRESOLVED, "There was nothing to look at."
    worst = next(
        outcome
        for outcome in (RuleOutcome.FAIL, RuleOutcome.UNRESOLVED, RuleOutcome.PASS)
        if any(each.outcome is outcome for each in points)
    )
    own = [each for each in points if each.outcome is worst]
    named = "; ".join(f"{each.place}: {each.said}" for each in own[:_NAMED])
    more = f"; and {len(own) - _NAMED} more" if len(own) > _NAMED else ""
    how_many = "" if len(points) == 1 else f"{len(own)} of {len(points)} points {worst.value}. "
    return worst, f"{how_many}{named}{more}."
