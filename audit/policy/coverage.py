"""Rules about what was audited at all: concepts, mixes, suites, and clauses of frameworks with evidence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic.dataclasses import dataclass

from audit.frameworks.files import shipped_frameworks
from audit.frameworks.mapping import FrameworkMapping, map_frameworks
from audit.policy.asks import STRICT, Names
from audit.policy.subjects import Subject, SubjectKind, failed, passed, unresolved
from audit.records import Findings, RulePoint
from reports.queries import LADDER

_BETWEEN = "/"


@dataclass(frozen=True, slots=True, config=STRICT, kw_only=True)
class CoverageAsk:
    """What the audit must cover; a framework is `id` (any clause) or `id/clause`, and needs evidence, not a mention."""

    about: ClassVar[SubjectKind | None] = SubjectKind.BUNDLE
    query: ClassVar[str] = LADDER

    concepts: Names = ()
    mixes: Names = ()
    suites: Names = ()
    frameworks: Names = ()

    def problems(self) -> Iterator[str]:
        """Yield what is missing, and frameworks or clauses that do not ship."""
        if not (self.concepts or self.mixes or self.suites or self.frameworks):
            yield "concepts, mixes, suites or frameworks"
        for name in self.frameworks:
            if (problem := clause_problem(name)) is not None:
                yield problem

    def asks(self) -> str:
        """Return the rule in words."""
        parts = {"concepts": self.concepts, "mixes": self.mixes, "suites": self.suites, "frameworks": self.frameworks}
        named = "; ".join(f"{what} {', '.join(names)}" for what, names in parts.items() if names)
        return (
            f"The audit covers {named}. A missing one fails; a concept or mix of which nothing could be tested is"
            " unresolved. A framework is covered where findings or parts of the report may be cited under it, which"
            " says nothing of compliance."
        )

    def look(self, subject: Subject) -> Iterator[RulePoint]:
        """Yield each thing that must be covered."""
        findings = subject.audit
        concepts = {concept.id: bool(concept.contrasts) for concept in findings.concepts}
        mixes = {mix.id: bool(mix.scans) for mix in findings.mixes}
        yield from (_covered("concept", name, concepts) for name in self.concepts)
        yield from (_covered("mix", name, mixes) for name in self.mixes)
        ran = {suite.id: bool(suite.concepts or suite.mixes) for suite in findings.suites}
        yield from (_covered("suite", name, ran) for name in self.suites)
        if self.frameworks:
            yield from self._frameworks(findings)

    def _frameworks(self, findings: Findings) -> Iterator[RulePoint]:
        mapping = map_frameworks(findings, shipped_frameworks())
        for name in self.frameworks:
            clauses = supported_clauses(mapping, name)
            place = f"framework {name}"
            if clauses:
                yield passed(place, f"evidence for {', '.join(clauses)}", clauses=len(clauses))
            else:
                yield failed(place, "no evidence in this audit", clauses=0)


def _covered(what: str, name: str, tested: dict[str, bool]) -> RulePoint:
    place = f"{what} {name}"
    if name not in tested:
        return failed(place, "not in this audit")
    return passed(place, "audited") if tested[name] else unresolved(place, "in this audit, but nothing was tested")


def clause_problem(name: str) -> str | None:
    """Return why a framework, or `framework/clause`, is none that ships; None where it is one."""
    framework, _, clause = name.partition(_BETWEEN)
    known = {each.id: each for each in shipped_frameworks()}
    if framework not in known:
        return f"a framework among {', '.join(sorted(known))}, not {framework!r}"
    clauses = [each.id for each in known[framework].clauses]
    if clause and clause not in clauses:
        return f"a clause of {framework} among {', '.join(clauses)}, not {clause!r}"
    return None


def supported_clauses(mapping: FrameworkMapping, name: str) -> list[str]:
    """Return the clauses of a framework, or the one clause, under which something may be cited."""
    framework, _, clause = name.partition(_BETWEEN)
    return [
        support.clause.id
        for each in mapping.frameworks
        if each.framework.id == framework
        for support in each.clauses
        if support.supported and clause in {"", support.clause.id}
    ]
