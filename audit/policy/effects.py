"""Rules about what features do: to the model's answer when they are lowered, and together in mixes."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import ClassVar

from pydantic.dataclasses import dataclass

from audit.policy.asks import STRICT, Count, Names, Positive, listed, of_concepts, through
from audit.policy.bounds import count_at_most, magnitude_at_most
from audit.policy.subjects import (
    Subject,
    SubjectKind,
    Target,
    cannot_rely,
    chosen_saes,
    failed,
    not_audited,
    passed,
    targets,
    unresolved,
)
from audit.records import CausalEffect, Findings, MixResult, MixWord, PairWord, RuleOutcome, RulePoint, Rung
from reports.queries import EFFECTS, MIXES, PAIRS


@dataclass(frozen=True, slots=True, config=STRICT, kw_only=True)
class EffectsAsk:
    """What lowering confirmed features does to the model's answer: how many were tested, are causal, and how much."""

    about: ClassVar[SubjectKind | None] = SubjectKind.BUNDLE
    query: ClassVar[str] = EFFECTS

    tested_at_least: Count | None = None
    causal_at_least: Count | None = None
    causal_at_most: Count | None = None
    effect_at_most: Positive | None = None
    concepts: Names = ()
    saes: Names = ()

    def problems(self) -> Iterator[str]:
        """Yield what is missing."""
        wanted = (self.tested_at_least, self.causal_at_least, self.causal_at_most, self.effect_at_most)
        if all(each is None for each in wanted):
            yield "tested_at_least, causal_at_least, causal_at_most or effect_at_most"

    def asks(self) -> str:
        """Return the rule in words."""
        parts = []
        if self.tested_at_least is not None:
            parts.append(f"at least {self.tested_at_least} features were lowered with a result")
        if self.causal_at_least is not None:
            parts.append(f"at least {self.causal_at_least} features move the answer (rung causal)")
        if self.causal_at_most is not None:
            parts.append(f"at most {self.causal_at_most} features move the answer (rung causal)")
        if self.effect_at_most is not None:
            parts.append(f"no feature moves it by more than {self.effect_at_most:g} nats, with its whole 95% interval")
        return (
            f"Interventions on features {of_concepts(self.concepts)}, {through(self.saes)}: {'; '.join(parts)}."
            " No intervention, or one that could not be judged, leaves an upper limit unresolved."
        )

    def look(self, subject: Subject) -> Iterator[RulePoint]:
        """Yield each threshold for each concept and SAE."""
        findings = subject.audit
        broken = cannot_rely(findings)
        if broken is not None:
            yield broken
            return
        for target in targets(findings, concepts=self.concepts, saes=self.saes):
            if target.result is None:
                yield not_audited(target)
                continue
            yield from self._look(target, _effects(findings, target), exploratory=target.result.exploratory)

    def _look(self, target: Target, effects: list[CausalEffect], *, exploratory: bool) -> Iterator[RulePoint]:
        place = target.at()
        judged = [effect for effect in effects if effect.rung is not Rung.UNRESOLVED]
        causal = [effect for effect in effects if effect.rung is Rung.CAUSAL]
        if self.tested_at_least is not None:
            make = passed if len(judged) >= self.tested_at_least else failed
            said = f"{len(judged)} features lowered with a result, at least {self.tested_at_least} asked"
            yield make(place, said, tested=len(judged), lowered=len(effects))
        if self.causal_at_least is not None:
            make = passed if len(causal) >= self.causal_at_least else failed
            yield make(place, f"{len(causal)} causal, at least {self.causal_at_least} asked", causal=len(causal))
        if self.causal_at_most is not None:
            yield self._at_most(place, self.causal_at_most, effects, exploratory=exploratory)
        if self.effect_at_most is not None:
            yield from _bounded(place, self.effect_at_most, effects, exploratory=exploratory)

    def _at_most(self, place: str, bound: int, effects: list[CausalEffect], *, exploratory: bool) -> RulePoint:
        causal = sum(effect.rung is Rung.CAUSAL for effect in effects)
        not_judged = sum(effect.rung is Rung.UNRESOLVED for effect in effects)
        if causal <= bound and not effects:
            return unresolved(place, "no feature was lowered")
        if causal <= bound and exploratory:
            return unresolved(place, "the concept is exploratory")
        if causal <= bound and not_judged:
            said = f"{causal} causal, but {not_judged} of {len(effects)} could not be judged"
            return unresolved(place, said, causal=causal, unresolved=not_judged)
        return count_at_most(causal, bound, place=place, what="causal")


def _bounded(place: str, bound: float, effects: list[CausalEffect], *, exploratory: bool) -> Iterator[RulePoint]:
    if not effects or exploratory:
        yield unresolved(place, "the concept is exploratory" if exploratory else "no feature was lowered")
        return
    for effect in effects:
        where = f"{place}/{effect.latent}"
        if effect.rung is Rung.UNRESOLVED:
            yield unresolved(where, f"not judged: {effect.reason}")
        else:
            yield magnitude_at_most(effect.effect, bound, place=where, what="effect in nats")


def _effects(findings: Findings, target: Target) -> list[CausalEffect]:
    effects = findings.causal.effects if findings.causal is not None else ()
    return [effect for effect in effects if effect.concept == target.concept and effect.sae == target.sae]


class InteractionOf(StrEnum):
    """What interacts: single features react to two concepts together, or two features act on the answer together."""

    FEATURES = "features"
    PAIRS = "pairs"


_WORDS = {
    InteractionOf.FEATURES: frozenset(word.value for word in MixWord),
    InteractionOf.PAIRS: frozenset(word.value for word in PairWord),
}


@dataclass(frozen=True, slots=True, config=STRICT, kw_only=True)
class InteractionsAsk:
    """How many interactions may be confirmed in mixes of two concepts; `words` restricts which."""

    about: ClassVar[SubjectKind | None] = SubjectKind.BUNDLE

    confirmed_at_most: Count
    of: InteractionOf = InteractionOf.FEATURES
    words: Names = ()
    mixes: Names = ()
    saes: Names = ()

    @property
    def query(self) -> str:
        """Return the queries behind the figures."""
        return PAIRS if self.of is InteractionOf.PAIRS else MIXES

    def problems(self) -> Iterator[str]:
        """Yield words that no such interaction has."""
        known = _WORDS[self.of]
        if set(self.words) - known:
            yield f"words among {', '.join(sorted(known))} for of = '{self.of.value}'"

    def asks(self) -> str:
        """Return the rule in words."""
        which = " or ".join(self.words) if self.words else "interactions"
        what = "single features that react to both concepts together"
        if self.of is InteractionOf.PAIRS:
            what = "pairs of features that act on the answer together"
        return (
            f"In {listed(self.mixes, 'every mix of the audit')}, {through(self.saes)}: at most"
            f" {self.confirmed_at_most} confirmed {which} of {what}. A mix that was not measured, or whose findings"
            " cannot be confirmed, is unresolved; so is an audit without mixes."
        )

    def look(self, subject: Subject) -> Iterator[RulePoint]:
        """Yield each mix and SAE."""
        findings = subject.audit
        broken = cannot_rely(findings)
        if broken is not None:
            yield broken
            return
        by_id = {mix.id: mix for mix in findings.mixes}
        for name in self.mixes or tuple(by_id):
            for sae in chosen_saes(findings, self.saes):
                if name not in by_id:
                    yield unresolved(name, "this audit has no such mix, so that nothing is known of it")
                elif self.of is InteractionOf.PAIRS:
                    yield self._pairs(by_id[name], sae)
                else:
                    yield self._features(by_id[name], sae)

    def _features(self, mix: MixResult, sae: str) -> RulePoint:
        place = f"{mix.id}/{sae}"
        scan = next((scan for scan in mix.scans if scan.sae == sae), None)
        if scan is None:
            return unresolved(place, f"not measured: {'; '.join(mix.untested) or 'no scan through this SAE'}")
        standing = sum(
            finding.rung.height >= Rung.CONFIRMED.height
            and (not self.words or any(word.value in self.words for word in finding.words))
            for finding in scan.findings
        )
        found = count_at_most(standing, self.confirmed_at_most, place=place, what="confirmed")
        if found.outcome is RuleOutcome.PASS and scan.rung.height < Rung.CONFIRMED.height:
            return unresolved(place, f"findings may be at most {scan.rung.value}: {scan.reason}")
        if found.outcome is RuleOutcome.PASS and not scan.confirmed_tested + scan.scan_tested:
            return unresolved(place, "no feature was tested")
        return found

    def _pairs(self, mix: MixResult, sae: str) -> RulePoint:
        place = f"{mix.id}/{sae}"
        own = [pair for pair in mix.pairs if pair.sae == sae]
        standing = sum(
            pair.rung is Rung.CAUSAL and pair.word is not None and (not self.words or pair.word.value in self.words)
            for pair in own
        )
        found = count_at_most(standing, self.confirmed_at_most, place=place, what="causal")
        open_pairs = sum(pair.rung is Rung.UNRESOLVED for pair in own)
        if found.outcome is RuleOutcome.PASS and (not own or open_pairs):
            said = f"{open_pairs} of {len(own)} pairs could not be judged" if own else "no pair was tested"
            return unresolved(place, said)
        return found
