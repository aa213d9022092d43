"""Rules about features and contrasts: how high on the ladder, how large, and what the pair (probe, SAE) reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from audit.policy.asks import (
    STRICT,
    Contrasts,
    Names,
    Positive,
    of_concepts,
    through,
)
from audit.policy.bounds import magnitude_at_most
from audit.policy.subjects import (
    Subject,
    SubjectKind,
    Target,
    cannot_rely,
    failed,
    not_audited,
    passed,
    targets,
    unresolved,
)
from audit.records import Contrast, ContrastResult, Reading, RulePoint, Rung
from reports.queries import LADDER, SCORES

# Nothing is known of such a contrast: neither that a feature is there nor that none is.
_OPEN = frozenset({Reading.UNRESOLVED, Reading.SUSPECT})


@dataclass(frozen=True, slots=True, config=STRICT, kw_only=True)
class RungAsk:
    """How high the features of concepts stand on the evidence ladder, and how large their effects may be (|d_z|)."""

    about: ClassVar[SubjectKind | None] = SubjectKind.BUNDLE
    query: ClassVar[str] = f"finding, {LADDER}"

    contrasts: Contrasts
    at_least: Rung | None = None
    at_most: Rung | None = None
    effect_at_most: Positive | None = None
    concepts: Names = ()
    saes: Names = ()

    def problems(self) -> Iterator[str]:
        """Yield what is missing, or cannot be kept."""
        if self.at_least is None and self.at_most is None and self.effect_at_most is None:
            yield "at_least, at_most or effect_at_most"
        if self.at_least is Rung.UNRESOLVED:
            yield "at_least above 'unresolved', which every audit reaches"
        if self.at_least is not None and self.at_most is not None and self.at_least.height > self.at_most.height:
            yield "at_least not above at_most"
        if Rung.CAUSAL in {self.at_least, self.at_most}:
            yield "a rung up to 'confirmed' here; use effects for the rung 'causal'"

    def asks(self) -> str:
        """Return the rule in words."""
        parts = []
        if self.at_least is not None:
            parts.append(f"some feature reaches the rung {self.at_least.value}")
        if self.at_most is not None:
            parts.append(f"no feature stands above the rung {self.at_most.value}")
        if self.effect_at_most is not None:
            parts.append(f"every listed feature has |d_z| of at most {self.effect_at_most:g} with its whole interval")
        questions = " and ".join(contrast.value for contrast in self.contrasts)
        return (
            f"For the question {questions} {of_concepts(self.concepts)}, {through(self.saes)}: {'; '.join(parts)}."
            " A contrast that is unresolved, suspect, exploratory or was not tested is unresolved."
        )

    def look(self, subject: Subject) -> Iterator[RulePoint]:
        """Yield each threshold for each concept, contrast and SAE."""
        for place, result, problem in contrasts_of(subject, self.concepts, self.contrasts, self.saes):
            if result is None:
                yield problem
                continue
            highest = max((finding.rung for finding in result.findings), key=lambda rung: rung.height, default=None)
            height, name = (0, "no feature listed") if highest is None else (highest.height, highest.value)
            said = f"highest rung: {name}, of {result.tested} features tested"
            figures: dict[str, str | float | None] = {
                "rung": name,
                "tested": result.tested,
                "confirmed": result.confirmed,
            }
            if self.at_least is not None:
                make = passed if height >= self.at_least.height else failed
                yield make(place, f"{said}; at least {self.at_least.value} asked", **figures)
            if self.at_most is not None:
                if height > self.at_most.height:
                    yield failed(place, f"{said}; at most {self.at_most.value} asked", **figures)
                elif not result.tested:
                    yield unresolved(place, "no feature was tested", **figures)
                else:
                    yield passed(place, f"{said}; at most {self.at_most.value} asked", **figures)
            if self.effect_at_most is not None:
                yield from self._effects(place, result, self.effect_at_most)

    def _effects(self, place: str, result: ContrastResult, bound: float) -> Iterator[RulePoint]:
        if not result.tested:
            yield unresolved(place, "no feature was tested")
            return
        points = [
            magnitude_at_most(finding.d_z, bound, place=f"{place}/{finding.latent}", what="d_z")
            for finding in result.findings
        ]
        yield from (each for each in points if each.outcome.value != "pass")
        kept = sum(each.outcome.value == "pass" for each in points)
        if kept == len(points):
            yield passed(place, f"all {kept} listed features have |d_z| of at most {bound:g}", features=kept)


@dataclass(frozen=True, slots=True, config=STRICT, kw_only=True)
class ReadingAsk:
    """Which readings of a contrast are allowed: what the linear probe and the SAE say together."""

    about: ClassVar[SubjectKind | None] = SubjectKind.BUNDLE
    query: ClassVar[str] = SCORES

    contrasts: Contrasts
    allowed: Annotated[tuple[Reading, ...], Field(min_length=1)]
    concepts: Names = ()
    saes: Names = ()

    def problems(self) -> Iterator[str]:
        """Yield what may not be allowed."""
        if Reading.UNRESOLVED in self.allowed:
            yield "readings without 'unresolved', which is never a pass (limit its share with the kind unresolved)"

    def asks(self) -> str:
        """Return the rule in words."""
        words = " or ".join(f"“{reading.value}”" for reading in self.allowed)
        questions = " and ".join(contrast.value for contrast in self.contrasts)
        return (
            f"For the question {questions} {of_concepts(self.concepts)}, {through(self.saes)}, the reading is {words}."
            " An unresolved or exploratory contrast, or one that was not tested, is unresolved."
        )

    def look(self, subject: Subject) -> Iterator[RulePoint]:
        """Yield each reading."""
        allowed = Reading.SUSPECT in self.allowed
        for place, result, problem in contrasts_of(subject, self.concepts, self.contrasts, self.saes, doubtful=allowed):
            if result is None:
                yield problem
                continue
            make = passed if result.reading in self.allowed else failed
            yield make(place, f"reading: {result.reading.value}", reading=result.reading.value)


def contrasts_of(
    subject: Subject,
    concepts: tuple[str, ...],
    contrasts: tuple[Contrast, ...],
    saes: tuple[str, ...],
    *,
    doubtful: bool = False,
) -> Iterator[tuple[str, ContrastResult | None, RulePoint]]:
    """Yield each contrast with its place; where nothing can be said of it, None and the point that says why.

    Args:
        subject: a bundle.
        concepts: none is every one of the audit.
        contrasts: topic, distinction or both.
        saes: none is the first of the audit, `*` every one.
        doubtful: whether a suspect reading is for the rule to judge.
    """
    findings = subject.audit
    broken = cannot_rely(findings)
    for target in targets(findings, concepts=concepts, saes=saes):
        for contrast in contrasts:
            place = target.at(contrast)
            if broken is not None:
                yield place, None, RulePoint(place, broken.outcome, broken.said, broken.figures)
                continue
            if target.result is None:
                yield place, None, not_audited(target)
                continue
            result, why = _result(target, contrast, doubtful=doubtful)
            yield place, result, unresolved(place, why)


def _result(target: Target, contrast: Contrast, *, doubtful: bool) -> tuple[ContrastResult | None, str]:
    concept = target.result
    if concept is None:
        return None, "this audit has no such concept"
    found = next((r for r in concept.contrasts if r.contrast is contrast and r.sae == target.sae), None)
    if found is None:
        untested = next((u for u in concept.untested if u.contrast is contrast and u.sae == target.sae), None)
        return None, f"not tested: {untested.reason}" if untested is not None else "this question was not put"
    if concept.exploratory:
        return None, f"exploratory: {found.reading.value} rests on too few scenarios"
    if found.reading is Reading.UNRESOLVED or (found.reading in _OPEN and not doubtful):
        return None, f"reading: {found.reading.value} ({found.reason})"
    return found, ""
