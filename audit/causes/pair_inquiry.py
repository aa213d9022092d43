"""Pairs of features in all mixes: screened, measured mix by mix, tested in one family an SAE, held against shams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from audit.analysis.causal import SignFlip, by_sae, causal_pair, sign_flips
from audit.analysis.shams import sham_numbers
from audit.analysis.signflip import exact_p
from audit.arrays import Confirmation, FloatArray
from audit.capture.prompts import TokenisedPrompt, list_mix_questions
from audit.causes.mixes import AskedScenario, Combination, MixQuestions, ask_mix, combinations, hold_cases
from audit.causes.pair_shams import PairShams
from audit.causes.pairs import MeasuredPair, PairRunner, Screened, check_pairs, choose, pilot, screened, screened_part
from audit.causes.work import Work
from audit.records import CausalPair, ConceptResult, MixResult, Rung, ScreenCheck, ShamTest, Untested
from probes.schema import Cell, Mix, Split


@dataclass(frozen=True, slots=True)
class PairFindings:
    """What interventions on pairs found; `pairs` and `untested` by mix."""

    pairs: Mapping[str, tuple[CausalPair, ...]]
    screens: tuple[ScreenCheck, ...]
    untested: Mapping[str, tuple[Untested, ...]]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What there is to do in one mix: the combinations of each SAE, by the place of its bench."""

    mix: Mix
    questions: MixQuestions
    combinations: Mapping[int, tuple[Combination, ...]]
    screened: dict[int, Screened] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Claim:
    bench: int
    pair: MeasuredPair
    tested: SignFlip
    shams: ShamTest | None = None
    without: str = ""

    @property
    def id(self) -> str:
        runs = self.pair.runs
        return f"{runs.mix}/{runs.question}/{runs.sae}/{runs.first}+{runs.second}"


def inquire_pairs(work: Work, concepts: Sequence[ConceptResult], mixes: Sequence[MixResult]) -> PairFindings:
    """Screen the pairs of every mix, measure the strongest of each, then run the sham tests of those that pass.

    A mix is left out of an SAE for which its factorial is unresolved: where the instrument is red, or finds too much in
    exchanged data, no feature-level claim is made.
    """
    inquiry = _Inquiry(work, mixes)
    plans = inquiry.plan({result.id: result for result in concepts})
    screens = inquiry.screen(plans)
    claims = inquiry.sham(inquiry.test(inquiry.measure(plans, screens)), screens)
    pairs: dict[str, list[CausalPair]] = {mix.id: [] for suite in work.subject.suites for mix in suite.mixes}
    for claim in claims:
        pairs[claim.pair.runs.mix].append(
            causal_pair(
                claim.pair.runs,
                claim.tested,
                claim.shams,
                without=claim.without,
                stopped=claim.pair.stopped,
                config=work.config.analysis,
            )
        )
    return PairFindings(
        {mix: tuple(own) for mix, own in pairs.items()},
        tuple(screens.values()),
        {mix: tuple(own) for mix, own in inquiry.untested.items()},
    )


class _Inquiry:
    def __init__(self, work: Work, mixes: Sequence[MixResult]) -> None:
        self._work = work
        self._capped = {
            (mix.id, scan.sae): scan.reason for mix in mixes for scan in mix.scans if scan.rung is Rung.UNRESOLVED
        }
        self._benches = work.benches
        self._budget = work.budget
        self.untested: dict[str, list[Untested]] = {}

    def plan(self, results: Mapping[str, ConceptResult]) -> list[_Plan]:
        """Return what can be asked of each mix; what cannot is left out with its reason."""
        subject = self._work.subject
        tokens = {prompt.prompt.concept: own for prompt, own in subject.questions}
        prompts = list_mix_questions(subject.suites, first_id=self._work.first_id)
        plans = []
        for mix in (mix for suite in subject.suites for mix in suite.mixes):
            asked = [concept for concept in mix.concepts if concept in tokens]
            foreign = [concept for concept in mix.concepts if concept not in results]
            for bench in self._benches:
                if reason := self._capped.get((mix.id, bench.name)):
                    self._leave(mix, f"pairs of features of {bench.name}", 1, reason)
            found = {
                place: own
                for place, bench in enumerate(self._benches)
                if not foreign
                and (mix.id, bench.name) not in self._capped
                and (own := combinations(mix, results, bench.name, asked=asked, alpha=self._work.alpha))
            }
            if foreign:
                self._leave(mix, "pairs of features", 1, f"{', '.join(foreign)} is no concept of this audit")
            elif not asked:
                self._leave(mix, "pairs of features", 1, "neither concept asks an outcome question")
            elif not found:
                self._leave(mix, "pairs of features", 1, "one of the concepts has no feature that passes its test")
            elif not self._work.config.causal.pairs_per_mix:
                self._leave(mix, "pairs of features with a question", _count(found), "causal.pairs_per_mix is 0")
            elif not self._budget.may_begin():
                self._leave(mix, "pairs of features with a question", _count(found), self._budget.reason)
            else:
                plans += self._askable(_Plan(mix, ask_mix(subject, mix, prompts, tokens), found), asked)
        return plans

    def _askable(self, plan: _Plan, asked: Sequence[str]) -> list[_Plan]:
        count = len(plan.questions.of(Split.CONFIRMATION, asked[0]))
        needed = self._work.config.analysis.min_confirmation_scenarios
        if plan.questions.uneven:
            reason = "the cells differ in length in this model's tokens"
            self._leave(plan.mix, "scenarios", plan.questions.uneven, reason)
        if count >= needed:
            return [plan]
        reason = f"exploratory: {count} confirmation scenarios, at least {needed} needed"
        self._leave(plan.mix, "pairs of features with a question", _count(plan.combinations), reason)
        return []

    def screen(self, plans: Sequence[_Plan]) -> dict[int, ScreenCheck]:
        """Hold some discovery scenarios of every mix and check on random pairs whether estimates may choose."""
        with self._work.progress.stage("screening pairs", total=len(plans)) as advance:
            for plan in plans:
                if self._budget.may_begin():
                    self._screen(plan)
                advance(1)
            checks = {}
            for place, bench in enumerate(self._benches):
                own = [plan.screened[place] for plan in plans if place in plan.screened]
                if own and self._budget.may_begin():
                    checks[place] = check_pairs(bench, own, self._work.config, self._work.ledger)
        return checks

    def _screen(self, plan: _Plan) -> None:
        wanted = screened_part(plan.questions)
        levels = self._work.reader.read(_single_clauses(wanted))
        places = list(plan.combinations)
        benches = [self._benches[place] for place in places]
        questions = dict.fromkeys(one.asked for one in wanted)
        held = {q: hold_cases(benches, [one for one in wanted if one.asked == q], levels) for q in questions}
        for number, place in enumerate(places):
            own = {question: cases[number] for question, cases in held.items()}
            plan.screened[place] = screened(plan.mix, plan.combinations[place], own)

    def measure(self, plans: Sequence[_Plan], checks: Mapping[int, ScreenCheck]) -> list[tuple[int, MeasuredPair]]:
        """Measure the chosen combinations of one mix after the other."""
        found: list[tuple[int, MeasuredPair]] = []
        with self._work.progress.stage("measuring pairs", total=len(plans)) as advance:
            for plan in plans:
                if self._budget.may_begin() and all(place in checks for place in plan.combinations):
                    found += self._measure(plan, checks)
                else:
                    what = "pairs of features with a question"
                    self._leave(plan.mix, what, _count(plan.combinations), self._budget.reason)
                advance(1)
        return found

    def _measure(self, plan: _Plan, checks: Mapping[int, ScreenCheck]) -> list[tuple[int, MeasuredPair]]:
        chosen = self._choose(plan, checks)
        runners = {
            place: PairRunner(self._benches[place], plan.mix, own, self._work.ledger) for place, own in chosen.items()
        }
        going_on: dict[int, tuple[Combination, ...]] = {}
        for asked in sorted({one.asked for own in chosen.values() for one in own}):
            first, rest = pilot(plan.questions.of(Split.CONFIRMATION, asked))
            self._run(runners, {place: _asking(own, asked) for place, own in chosen.items()}, first)
            further = {place: _asking(runners[place].going_on, asked) for place in chosen}
            self._run(runners, further, rest)
            going_on = {place: (*going_on.get(place, ()), *own) for place, own in further.items()}
        return [
            (place, self._slim(runners[place].measured(one, stopped=one not in going_on[place])))
            for place, own in chosen.items()
            for one in own
        ]

    def _run(
        self,
        runners: Mapping[int, PairRunner],
        wanted: Mapping[int, tuple[Combination, ...]],
        questions: Sequence[AskedScenario],
    ) -> None:
        places = [place for place, own in wanted.items() if own]
        if not places:
            return
        levels = self._work.reader.read(_single_clauses(questions))
        held = hold_cases([self._benches[place] for place in places], questions, levels)
        for place, cases in zip(places, held, strict=True):
            runners[place].run(wanted[place], cases)

    def _choose(self, plan: _Plan, checks: Mapping[int, ScreenCheck]) -> dict[int, tuple[Combination, ...]]:
        chosen = {}
        for number, place in enumerate(plan.combinations):
            # The number is of the mix: its SAEs share it evenly.
            share, rest = divmod(self._work.config.causal.pairs_per_mix, len(plan.combinations))
            count, accepted = share + (number < rest), checks[place].accepted
            chosen[place] = choose(self._benches[place], plan.screened[place], count=count, accepted=accepted)
            left = len(plan.combinations[place]) - len(chosen[place])
            if left:
                how = "screened out: their first-order estimates are smaller"
                how = how if accepted else "beyond causal.pairs_per_mix; chosen by rank, as the screen was refused"
                self._leave(plan.mix, f"pairs with a question through {self._benches[place].name}", left, how)
        return chosen

    def _slim(self, pair: MeasuredPair) -> MeasuredPair:
        """Return the pair without its prompts where its test fails even uncorrected: it gets no shams."""
        fails = pair.stopped or exact_p(pair.runs.interaction.data) > self._work.alpha
        return replace(pair, cases=()) if fails else pair

    def test(self, measured: Sequence[tuple[int, MeasuredPair]]) -> list[_Claim]:
        """Test every pair, in one family an SAE; the order stays."""
        claims: dict[int, _Claim] = {}
        for places in by_sae([pair.runs.sae for _, pair in measured]).values():
            tests = sign_flips([_tested(measured[n][1]) for n in places])
            claims |= {n: _Claim(*measured[n], test) for n, test in zip(places, tests, strict=True)}
        return [claims[n] for n in range(len(measured))]

    def sham(self, claims: Sequence[_Claim], checks: Mapping[int, ScreenCheck]) -> list[_Claim]:
        """Run the sham tests of the pairs that pass, those of one question about one mix together."""
        passing = [n for n, claim in enumerate(claims) if claim.tested.p_holm <= self._work.alpha]
        groups: dict[tuple[str, str, int], list[int]] = {}
        for n in passing:
            runs = claims[n].pair.runs
            groups.setdefault((runs.mix, runs.question, claims[n].bench), []).append(n)
        found = list(claims)
        tests = Counter(claims[n].bench for n in passing)
        with self._work.progress.stage("shams of pairs", total=len(passing)) as advance:
            for (_, _, place), own in groups.items():
                shams = None
                for n in own:
                    if not self._budget.may_begin():
                        found[n] = replace(claims[n], without=self._budget.reason)
                        continue
                    shams = shams or PairShams(self._benches[place], claims[n].pair.cases, self._work)
                    count, level = sham_numbers(
                        tests[place], shams=self._work.config.causal.shams, alpha=self._work.alpha
                    )
                    tested = shams.test(
                        claims[n].pair, claims[n].id, count=count, level=level, screened=checks[place].accepted
                    )
                    found[n] = (
                        replace(claims[n], without=tested)
                        if isinstance(tested, str)
                        else replace(claims[n], shams=tested.test)
                    )
                    advance(1)
        return found

    def _leave(self, mix: Mix, what: str, count: int, reason: str) -> None:
        self.untested.setdefault(mix.id, []).append(Untested(f"{what} in {mix.id}", count, reason))


def _tested(pair: MeasuredPair) -> Confirmation[FloatArray]:
    """Return the interactions to test; a pair that was stopped counts in the family and is not tested: p = 1."""
    values = pair.runs.interaction
    return Confirmation(np.zeros_like(values.data)) if pair.stopped else values


def _asking(combinations: Sequence[Combination], asked: str) -> tuple[Combination, ...]:
    return tuple(one for one in combinations if one.asked == asked)


def _single_clauses(questions: Sequence[AskedScenario]) -> tuple[TokenisedPrompt, ...]:
    return tuple(one.cells[cell] for one in questions for cell in (Cell.FIRST, Cell.SECOND))


def _count(found: Mapping[int, Sequence[Combination]]) -> int:
    return sum(map(len, found.values()))
