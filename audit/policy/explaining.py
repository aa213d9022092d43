"""A policy in plain words: what each rule asks, and what a bundle says to it."""

from __future__ import annotations

from collections.abc import Iterator

from audit.policy.files import Policy, Rule
from audit.records import RuleOutcome, RuleVerdict, Severity


def explain(policy: Policy) -> Iterator[str]:
    """Yield the lines that say what a policy asks."""
    errors = sum(rule.severity is Severity.ERROR for rule in policy.rules)
    yield f"{policy.content.title} ({policy.file}, {policy.digest[:19]})"
    yield f"{len(policy.rules)} rules: {errors} stop a release, {len(policy.rules) - errors} only warn."
    base = policy.baseline
    yield f"A base to compare with is {base.value}." if base is not None else "No base to compare with is asked for."
    for rule in policy.rules:
        yield ""
        yield from explain_rule(policy, rule)


def explain_rule(policy: Policy, rule: Rule) -> Iterator[str]:
    """Yield the lines about one rule."""
    stops = "stops a release" if rule.severity is Severity.ERROR else "only warns"
    yield f"{rule.id}  ({rule.kind}; {stops} when it fails or is unresolved)"
    yield f"    why       {rule.why}"
    if rule.clause is not None:
        yield f"    clause    {rule.clause}: evidence that may be cited there, never a statement of compliance"
    yield f"    asks      {rule.ask.asks()}"
    yield f"    about     {'anything sealed' if rule.ask.about is None else f'a {rule.ask.about.value}'}"
    yield f"    evidence  {' '.join(rule.ask.query.split())}"
    waiver = policy.waiver_of(rule)
    if waiver is not None:
        yield f"    waiver    until {waiver.expires} by {waiver.owner}: {waiver.reason}"


def explain_verdict(rule: RuleVerdict, *, most: int = 8) -> Iterator[str]:
    """Yield what a bundle says to one rule, point by point; those that do not pass come first."""
    yield f"    here      {rule.outcome.value}. {rule.words}"
    order = list(RuleOutcome)
    points = sorted(rule.points, key=lambda each: (each.outcome is RuleOutcome.PASS, order.index(each.outcome)))
    for each in points[:most]:
        yield f"              {each.outcome.value:<10}  {each.place}: {each.said}"
    if len(points) > most:
        yield f"              and {len(points) - most} more"
