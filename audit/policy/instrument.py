"""Rules about the instrument and the audit itself: fidelity, the check with shuffled labels, how much is unresolved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic.dataclasses import dataclass

from audit.policy.asks import STRICT, Contrasts, Names, Positive, Share, listed, of_concepts, through
from audit.policy.bounds import estimate_at_most, number_at_most
from audit.policy.subjects import (
    Subject,
    SubjectKind,
    chosen_saes,
    failed,
    not_audited,
    passed,
    targets,
    unresolved,
)
from audit.records import Colour, Contrast, Fidelity, Reading, RulePoint
from reports.queries import FIDELITY, SCORES

_COLOURS = (Colour.RED, Colour.AMBER, Colour.GREEN)


@dataclass(frozen=True, slots=True, config=STRICT, kw_only=True)
class FidelityAsk:
    """How well an SAE must reproduce the model: over all prompts, or on those of concepts (`concepts`, `["*"]` all)."""

    about: ClassVar[SubjectKind | None] = SubjectKind.BUNDLE
    query: ClassVar[str] = FIDELITY

    colour_at_least: Colour | None = None
    fvu_at_most: Share | None = None
    delta_ce_at_most: Positive | None = None
    concepts: Names = ()
    saes: Names = ("*",)

    def problems(self) -> Iterator[str]:
        """Yield what is missing."""
        if self.colour_at_least is None and self.fvu_at_most is None and self.delta_ce_at_most is None:
            yield "colour_at_least, fvu_at_most or delta_ce_at_most"

    def asks(self) -> str:
        """Return the rule in words."""
        parts = []
        if self.colour_at_least is not None:
            parts.append(f"is rated {self.colour_at_least.value} or better")
        if self.fvu_at_most is not None:
            parts.append(f"leaves at most {self.fvu_at_most:g} of the variance unexplained")
        if self.delta_ce_at_most is not None:
            parts.append(f"costs at most {self.delta_ce_at_most:g} nats per token, with its whole 95% interval")
        where = "over all prompts" if not self.concepts else f"on the prompts of {listed(self.concepts, '')}"
        return (
            f"The instrument, {through(self.saes)}, {where}: {'; '.join(parts)}. What was not measured is unresolved."
        )

    def look(self, subject: Subject) -> Iterator[RulePoint]:
        """Yield each threshold for each SAE, or each concept and SAE."""
        for place, row in self._rows(subject):
            if row is None:
                yield unresolved(place, "fidelity was not measured")
                continue
            if self.colour_at_least is not None:
                make = passed if _COLOURS.index(row.colour) >= _COLOURS.index(self.colour_at_least) else failed
                said = f"rated {row.colour.value}, at least {self.colour_at_least.value} asked"
                yield make(place, said, colour=row.colour.value)
            if self.fvu_at_most is not None:
                yield number_at_most(row.fvu, self.fvu_at_most, place=place, what="FVU")
            if self.delta_ce_at_most is not None:
                yield estimate_at_most(row.delta_ce, self.delta_ce_at_most, place=place, what="delta CE")

    def _rows(self, subject: Subject) -> Iterator[tuple[str, Fidelity | None]]:
        findings = subject.audit
        if not self.concepts:
            rows = {sae.record.name: sae.fidelity for sae in findings.saes}
            for name in chosen_saes(findings, self.saes):
                yield name, rows.get(name)
            return
        wanted = () if self.concepts == ("*",) else self.concepts
        for target in targets(findings, concepts=wanted, saes=self.saes):
            own = target.result.fidelity if target.result is not None else ()
            yield target.at(), next((row for row in own if row.sae == target.sae), None)


@dataclass(frozen=True, slots=True, config=STRICT, kw_only=True)
class ControlAsk:
    """The check with shuffled labels was made and passed; `rate_at_most` may be stricter than the audit's own limit."""

    about: ClassVar[SubjectKind | None] = SubjectKind.BUNDLE
    query: ClassVar[str] = SCORES

    rate_at_most: Share | None = None

    def problems(self) -> Iterator[str]:
        """Yield nothing: every value fits."""
        yield from ()

    def asks(self) -> str:
        """Return the rule in words."""
        own = f", with findings in at most {self.rate_at_most:g} of them" if self.rate_at_most is not None else ""
        return f"With shuffled labels the procedure finds next to nothing{own}. Labels never shuffled is unresolved."

    def look(self, subject: Subject) -> Iterator[RulePoint]:
        """Yield the check."""
        control, place = subject.audit.permutation_control, "shuffled labels"
        if not control.permutations:
            yield unresolved(place, "labels were never shuffled")
            return
        make = passed if control.holds else failed
        said = f"rate {control.rate:.3g} in {control.permutations} shuffles, the audit's limit {control.limit:.3g}"
        yield make(place, said, rate=control.rate, limit=control.limit, permutations=control.permutations)
        if self.rate_at_most is not None:
            yield number_at_most(control.rate, self.rate_at_most, place=place, what="rate")


@dataclass(frozen=True, slots=True, config=STRICT, kw_only=True)
class UnresolvedAsk:
    """How much may be unresolved of what was asked: the share of contrasts whose reading is `unresolved`."""

    about: ClassVar[SubjectKind | None] = SubjectKind.BUNDLE
    query: ClassVar[str] = SCORES

    share_at_most: Share
    concepts: Names = ()
    contrasts: Contrasts = (Contrast.TOPIC, Contrast.DISTINCTION)
    saes: Names = ()

    def problems(self) -> Iterator[str]:
        """Yield nothing: every value fits."""
        yield from ()

    def asks(self) -> str:
        """Return the rule in words."""
        questions = " and ".join(contrast.value for contrast in self.contrasts)
        return (
            f"Of the questions ({questions}) {of_concepts(self.concepts)}, {through(self.saes)}, at most"
            f" {self.share_at_most:.0%} are unresolved. A contrast that could not be tested counts as unresolved."
        )

    def look(self, subject: Subject) -> Iterator[RulePoint]:
        """Yield the share."""
        asked: list[str] = []
        still_open: list[str] = []
        for target in targets(subject.audit, concepts=self.concepts, saes=self.saes):
            if target.result is None:
                yield not_audited(target)
                continue
            for contrast in self.contrasts:
                found = [r for r in target.result.contrasts if r.contrast is contrast and r.sae == target.sae]
                asked.append(target.at(contrast))
                if not found or found[0].reading is Reading.UNRESOLVED:
                    still_open.append(target.at(contrast))
        if not asked:
            return
        share = len(still_open) / len(asked)
        make = passed if share <= self.share_at_most else failed
        named = f": {', '.join(still_open[:5])}" if still_open else ""
        said = f"{len(still_open)} of {len(asked)} unresolved ({share:.0%}), at most {self.share_at_most:.0%}{named}"
        yield make("the audit", said, unresolved=len(still_open), asked=len(asked), share=share)
