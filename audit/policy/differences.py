"""Rules about what changed between two versions of a model: the verdicts of `affidavit diff`, one a concept or mix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic.dataclasses import dataclass

from audit.policy.asks import STRICT, Count, Names, Share, listed
from audit.policy.bounds import count_at_most
from audit.policy.subjects import Subject, SubjectKind, failed, passed, unresolved
from audit.records import RulePoint, Verdict


@dataclass(frozen=True, slots=True, config=STRICT, kw_only=True)
class DifferenceAsk:
    """What may have changed on which concepts, what must be shown unchanged, and how much may stay open."""

    about: ClassVar[SubjectKind | None] = SubjectKind.DIFFERENCE
    query: ClassVar[str] = "diff.json: concepts and mixes"

    concepts: Names = ()
    changed_at_most: Count | None = None
    equivalent: Names = ()
    inconclusive_at_most: Share | None = None

    def problems(self) -> Iterator[str]:
        """Yield what is missing."""
        if self.changed_at_most is None and not self.equivalent and self.inconclusive_at_most is None:
            yield "changed_at_most, equivalent or inconclusive_at_most"

    def asks(self) -> str:
        """Return the rule in words."""
        where = listed(self.concepts, "every concept and mix of the difference")
        parts = []
        if self.changed_at_most is not None:
            parts.append(f"at most {self.changed_at_most} of {where} changed")
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
        if not own:
            return
        if self.changed_at_most is not None:
            for part in own:
                if part.verdict is Verdict.NOT_COMPARABLE:
                    yield unresolved(part.id, f"not comparable: {part.reason}")
            changed = [part.id for part in own if part.verdict is Verdict.CHANGED]
            what = f"of {len(own)} changed" + (f" ({', '.join(changed[:5])})" if changed else "")
            yield count_at_most(len(changed), self.changed_at_most, place="difference", what=what)
        if self.inconclusive_at_most is not None:
            unclear = sum(part.verdict not in {Verdict.CHANGED, Verdict.EQUIVALENT} for part in own)
            make = passed if unclear / len(own) <= self.inconclusive_at_most else failed
            said = f"{unclear} of {len(own)} inconclusive or not comparable, at most {self.inconclusive_at_most:.0%}"
            yield make("difference", said, inconclusive=unclear, compared=len(own))
