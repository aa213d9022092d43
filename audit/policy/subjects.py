"""What a policy is put to: a verified bundle, a verified difference between two, or a bundle with its difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from audit.errors import UsageError
from audit.records import (
    ConceptResult,
    Contrast,
    DifferenceResult,
    Findings,
    PartDifference,
    RuleOutcome,
    RulePoint,
    RunInfo,
)
from audit.signing.attested import VerifyResult

if TYPE_CHECKING:
    from audit.evidence.store import QueryResult


class SubjectKind(StrEnum):
    """What rules are about."""

    BUNDLE = "bundle"
    DIFFERENCE = "difference"


@dataclass(frozen=True, slots=True)
class Difference:
    """What a difference between two bundles says, as rules see it: a verdict a concept and a mix."""

    name: str
    parts: tuple[PartDifference, ...]


def difference_of(result: DifferenceResult) -> Difference:
    """Return what rules see of the record of a difference."""
    return Difference(f"{result.base.model} to {result.new.model}", (*result.concepts, *result.mixes))


@dataclass(frozen=True, slots=True)
class Answers:
    """How a policy's SQL is answered: the tables that a statement names and that are empty, and its rows.

    Args:
        ask: runs one SELECT on the sealed evidence, within the limit of the policy.
        empty: the tables of the statement that have no row; from these nothing follows.
        withheld: whether texts are withheld, as in a redacted copy.
    """

    ask: Callable[[str], QueryResult]
    empty: Callable[[str], tuple[str, ...]]
    withheld: bool


@dataclass(frozen=True, slots=True)
class Subject:
    """A folder as rules see it. A bundle has findings, run and answers, and may have its own difference.

    Every folder that is judged was verified, but for the one that is about to be sealed: it has no `seal`.
    """

    seal: VerifyResult | None
    findings: Findings | None = None
    run: RunInfo | None = None
    answers: Answers | None = None
    difference: Difference | None = None

    @property
    def kind(self) -> SubjectKind:
        """Return what it is."""
        return SubjectKind.DIFFERENCE if self.findings is None and self.difference is not None else SubjectKind.BUNDLE

    @property
    def name(self) -> str:
        """Return the audited model's name, or the difference's own."""
        if self.findings is not None:
            return self.findings.model.name
        return self.difference.name if self.difference is not None else ""

    @property
    def audit(self) -> Findings:
        """Return the findings.

        Raises:
            UsageError: it is no bundle.
        """
        if self.findings is None:
            raise UsageError(
                item=self.name,
                expected="a bundle",
                found="a difference",
                hint="Give the bundle that the rule is about.",
            )
        return self.findings


@dataclass(frozen=True, slots=True)
class Target:
    """One concept through one SAE that a rule asks about; `result` is None where the audit has no such concept."""

    concept: str
    sae: str
    result: ConceptResult | None

    def at(self, contrast: Contrast | None = None) -> str:
        """Return the place as it is printed."""
        parts = (self.concept, contrast.value if contrast is not None else "", self.sae)
        return "/".join(part for part in parts if part)


def chosen_saes(findings: Findings, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the SAEs that a rule names; none is the first of the audit, `*` every one."""
    own = tuple(sae.record.name for sae in findings.saes)
    if wanted == ("*",):
        return own
    return wanted or own[:1]


def targets(findings: Findings, *, concepts: tuple[str, ...], saes: tuple[str, ...]) -> tuple[Target, ...]:
    """Return what a rule asks about; no concepts named is every one of the audit."""
    by_id = {concept.id: concept for concept in findings.concepts}
    names = concepts or tuple(by_id)
    return tuple(Target(name, sae, by_id.get(name)) for name in names for sae in chosen_saes(findings, saes))


def point(outcome: RuleOutcome, place: str, said: str, **figures: str | float | None) -> RulePoint:
    """Return one thing that a rule looked at."""
    return RulePoint(place, outcome, said, dict(figures))


def passed(place: str, said: str, **figures: str | float | None) -> RulePoint:
    """Return a place where the rule holds."""
    return point(RuleOutcome.PASS, place, said, **figures)


def failed(place: str, said: str, **figures: str | float | None) -> RulePoint:
    """Return a place where the rule is broken."""
    return point(RuleOutcome.FAIL, place, said, **figures)


def unresolved(place: str, said: str, **figures: str | float | None) -> RulePoint:
    """Return a place where nobody can tell."""
    return point(RuleOutcome.UNRESOLVED, place, said, **figures)


def not_audited(target: Target) -> RulePoint:
    """Return the point of a concept that the audit has not."""
    return unresolved(target.at(), "this audit has no such concept, so that nothing is known of it")


def cannot_rely(findings: Findings) -> RulePoint | None:
    """Return the point that stands for every measurement where the check with shuffled labels does not hold."""
    if findings.permutation_control.holds:
        return None
    return unresolved("the audit", "the check with shuffled labels did not hold: no finding can be relied on")
