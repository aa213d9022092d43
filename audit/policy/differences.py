"""Rules about what changed between two versions of a model: the verdicts of `affidavit diff`, one a concept or mix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from pydantic.dataclasses import dataclass

from audit.policy.asks import STRICT, Count, Names, Share, listed
from audit.policy.bounds import count_at_most
from audit.policy.subjects import Subject, SubjectKind, failed, passed, unresolved
from audit.records import PartDifference, RulePoint, Verdict

_NAMED = 5


@dataclass(frozen=True, slots=True, config=STRICT, kw_only=True)
class DifferenceAsk:
    """What may have changed on which concepts, what must be shown unchanged, and how much may stay open."""

    about: ClassVar[SubjectKind | None] = SubjectKind.DIFFERENCE
    query: ClassVar[str] = "diff.json: concepts and mixes"

    concepts: Names = ()
    changed_at_most: Count | None = None
    outlying_at_most: Count | None = None
    equivalent: Names = ()
    inconclusive_at_most: Share | None = None

    def problems(self) -> Iterator[str]:
        """Yield what is missing."""
        limits = (self.changed_at_most, self.outlying_at_most, self.inconclusive_at_most)
        if not self.equivalent and all(limit is None for limit in limits):
            yield "changed_at_most, outlying_at_most, equivalent or inconclusive_at_most"

    def asks(self) -> str:
        """Return the rule in words."""
        where = listed(self.concepts, "every concept and mix of the difference")
        parts = []
        if self.changed_at_most is not None:
            parts.append(f"at most {self.changed_at_most} of {where} changed")
        if self.outlying_at_most is not None:
            parts.append(f"at most {self.outlying_at_most} of {where} changed by far more than the others")
        if self.equivalent:
            parts.append(f"{', '.join(self.equivalent)} shown equivalent")
        if self.inconclusive_at_most is not None:
            parts.append(f"at most {self.inconclusive_at_most:.0%} of {where} inconclusive or not comparable")
        return (
            f"Against the base: {'; '.join(parts)}. Inconclusive is no proof of equivalence; a concept that was not"
            " compared is unresolved."
        )

    def look(self, subject: Subject) -> Iterator[RulePoint]:
        """Yield each limit, and each concept that must be equivalent."""
        parts = {part.id: part for part in (subject.difference.parts if subject.difference is not None else ())}
        for missing in sorted({*self.concepts, *self.equivalent} - set(parts)):
            yield unresolved(missing, "not compared")
        for part in parts.values():
            if part.id in self.equivalent:
                kinds = {Verdict.EQUIVALENT: passed, Verdict.CHANGED: failed}
                yield kinds.get(part.verdict, unresolved)(part.id, f"{part.verdict.value}: {part.reason}")
        own = [part for part in parts.values() if not self.concepts or part.id in self.concepts]
        if own:
            yield from self._limits(own)

    def _limits(self, own: Sequence[PartDifference]) -> Iterator[RulePoint]:
        """Yield each limit on how many of some concepts and mixes changed, stand out or stay open."""
        if self.changed_at_most is not None or self.outlying_at_most is not None:
            for part in own:
                if part.verdict is Verdict.NOT_COMPARABLE:
                    yield unresolved(part.id, f"not comparable: {part.reason}")
        if self.changed_at_most is not None:
            changed = [part.id for part in own if part.verdict is Verdict.CHANGED]
            yield _at_most(self.changed_at_most, changed, f"of {len(own)} changed")
        if self.outlying_at_most is not None:
            outlying = [part.id for part in own if part.outlying]
            yield _at_most(self.outlying_at_most, outlying, f"of {len(own)} changed by far more than the others")
        if self.inconclusive_at_most is not None:
            unclear = sum(part.verdict not in {Verdict.CHANGED, Verdict.EQUIVALENT} for part in own)
            make = passed if unclear / len(own) <= self.inconclusive_at_most else failed
            said = f"{unclear} of {len(own)} inconclusive or not comparable, at most {self.inconclusive_at_most:.0%}"
            yield make("difference", said, inconclusive=unclear, compared=len(own))


def _at_most(limit: int, found: Sequence[str], what: str) -> RulePoint:
    named = f" ({', '.join(found[:_NAMED])})" if found else ""
    return count_at_most(len(found), limit, place="difference", what=f"{what}{named}")
