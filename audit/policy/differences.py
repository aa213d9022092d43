"""Rules about what changed between two versions of a model: verdicts of `affidavit diff` a concept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic.dataclasses import dataclass

from audit.policy.asks import STRICT, Count, Names, Share, listed
from audit.policy.bounds import count_at_most
from audit.policy.subjects import Change, Subject, SubjectKind, failed, passed, unresolved
from audit.records import RulePoint


@dataclass(frozen=True, slots=True, config=STRICT, kw_only=True)
class DifferenceAsk:
    """What may have changed on which concepts, what must be shown unchanged, and how much may stay open."""

    about: ClassVar[SubjectKind | None] = SubjectKind.DIFFERENCE
    query: ClassVar[str] = "diff.json"

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
        where = listed(self.concepts, "every concept of the difference")
        parts = []
        if self.changed_at_most is not None:
            parts.append(f"at most {self.changed_at_most} comparisons of {where} changed")
        if self.equivalent:
            parts.append(f"{', '.join(self.equivalent)} shown equivalent in every comparison")
        if self.inconclusive_at_most is not None:
            parts.append(f"at most {self.inconclusive_at_most:.0%} of the comparisons of {where} inconclusive")
        return (
            f"Against the base: {'; '.join(parts)}. Inconclusive is no proof of equivalence; a concept that was not"
            " compared is unresolved."
        )

    def look(self, subject: Subject) -> Iterator[RulePoint]:
        """Yield each limit, and each concept that must be equivalent."""
        rows = subject.difference.rows if subject.difference is not None else ()
        compared = {row.concept for row in rows}
        for missing in sorted({*self.concepts, *self.equivalent} - compared):
            yield unresolved(missing, "not compared")
        own = [row for row in rows if not self.concepts or row.concept in self.concepts]
        for row in rows:
            if row.concept in self.equivalent:
                kinds = {Change.EQUIVALENT: passed, Change.CHANGED: failed, Change.INCONCLUSIVE: unresolved}
                yield kinds[row.change](f"{row.concept}/{row.place}", f"{row.change.value}: {row.reason}")
        if not own:
            return
        if self.changed_at_most is not None:
            changed = [row for row in own if row.change is Change.CHANGED]
            where = ", ".join(f"{row.concept}/{row.place}" for row in changed[:5])
            what = f"of {len(own)} comparisons changed" + (f" ({where})" if where else "")
            yield count_at_most(len(changed), self.changed_at_most, place="difference", what=what)
        if self.inconclusive_at_most is not None:
            unclear = sum(row.change is Change.INCONCLUSIVE for row in own)
            make = passed if unclear / len(own) <= self.inconclusive_at_most else failed
            said = f"{unclear} of {len(own)} comparisons inconclusive, at most {self.inconclusive_at_most:.0%}"
            yield make("difference", said, inconclusive=unclear, compared=len(own))
