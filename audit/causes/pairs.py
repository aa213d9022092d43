"""Two features at a time, in texts that mix two concepts: screened on discovery, measured on held-out scenarios."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.analysis.causal import PairRuns, check_screen, strongest_pairs
from audit.arrays import Confirmation, Discovery
from audit.capture.interventions import Delta
from audit.causes.benches import Bench, Ledger, seed_of
from audit.causes.levels import Levels
from audit.causes.mixes import AskedScenario, Combination, MixQuestions, PairAnswers, PairCase, hold_cases, run_pairs
from audit.config import AuditConfig
from audit.records import ScreenCheck
from probes.schema import Mix, Split

FloatArray = NDArray[np.float64]

# Estimates are means over so many discovery scenarios: a gradient costs as much as three exact runs.
_SCREENED_SCENARIOS = 4


@dataclass(frozen=True, slots=True)
class Screened:
    """First-order interactions of the combinations of one mix through one SAE, means over discovery scenarios.

    Args:
        cases: concept -> its question about the scenarios that were screened.
        estimates: (combinations,) in nats.
    """

    mix: Mix
    combinations: tuple[Combination, ...]
    cases: Mapping[str, tuple[PairCase, ...]]
    estimates: Discovery[FloatArray]


@dataclass(frozen=True, slots=True)
class MeasuredPair:
    """Exact runs on one pair, with the cases that its shams run on."""

    runs: PairRuns
    cases: tuple[PairCase, ...]


def screened_part(questions: MixQuestions) -> tuple[AskedScenario, ...]:
    """Return the discovery scenarios on which pairs are screened, spread evenly over the mix."""
    found: list[AskedScenario] = []
    for asked in dict.fromkeys(one.asked for one in questions.scenarios):
        every = questions.of(Split.DISCOVERY, asked)
        count = min(_SCREENED_SCENARIOS, len(every))
        found += [every[n * len(every) // count] for n in range(count)]
    return tuple(found)


def screen_mix(
    bench: Bench, mix: Mix, asked: Sequence[AskedScenario], found: tuple[Combination, ...], *, levels: Levels
) -> Screened:
    """Estimate the interaction of every combination to first order in the given discovery scenarios."""
    cases = {}
    estimates = np.zeros(len(found))
    for question in dict.fromkeys(one.asked for one in found):
        cases[question] = hold_cases(bench, [one for one in asked if one.asked == question], levels)
        places = [n for n, one in enumerate(found) if one.asked == question]
        pairs = [(found[n].first, found[n].second) for n in places]
        for case in cases[question]:
            estimates[places] += first_order(bench, case, pairs) / len(cases[question])
    return Screened(mix, found, cases, Discovery(estimates))


def first_order(bench: Bench, case: PairCase, pairs: Sequence[tuple[int, int]]) -> FloatArray:
    """Return (pairs,) first-order interactions in one case: delta_j . [g(x + delta_i) - g(x)]."""
    first = {one: delta for one, _ in pairs if not (delta := case.first(one)).empty}
    second = {other: delta for _, other in pairs if not (delta := case.second(other)).empty}
    if not first or not second:
        return np.zeros(len(pairs))
    nothing = Delta.none(case.held.fired.source.shape[1])
    untouched, *changed = bench.engine.gradient(case.held, [nothing, *first.values()]).numpy()
    turns = {one: gradient - untouched for one, gradient in zip(first, changed, strict=True)}
    return np.array(
        [
            float((turns[one][second[other].positions.cpu().numpy()] * second[other].vectors.cpu().numpy()).sum())
            if one in turns and other in second
            else 0.0
            for one, other in pairs
        ]
    )


def check_pairs(bench: Bench, screened: Sequence[Screened], config: AuditConfig, ledger: Ledger) -> ScreenCheck:
    """Compare first-order interactions with exact ones on random combinations of all mixes that change something."""
    rng = np.random.default_rng(seed_of(config.analysis.seed, bench.name, "pairs"))
    # Where a feature is nowhere above its level both values are 0 by construction and say nothing of the estimate.
    every = [(one, place) for one in screened for place in np.flatnonzero(one.estimates.data).tolist()]
    chosen = sorted(rng.permutation(len(every))[: config.causal.screen_sample].tolist())
    estimates, exact = [], []
    for part, place in (every[n] for n in chosen):
        one = part.combinations[place]
        cases = part.cases[one.asked]
        values = [run_pairs(bench, case, [(one.first, one.second)])[0].interaction for case in cases]
        estimates.append(float(part.estimates.data[place]))
        exact.append(float(np.mean(values)) if values else 0.0)
        ledger.screen.append(
            {
                "sae": bench.name,
                "subject": "pairs",
                "number": len(exact) - 1,
                "member": f"{part.mix.id}/{one.asked}/{bench.name}/{one.first}+{one.second}",
                "estimate": estimates[-1],
                "exact": exact[-1],
            }
        )
    on = f"random pairs, means over at most {_SCREENED_SCENARIOS} discovery scenarios"
    return check_screen(bench.name, "pairs", np.array(estimates), np.array(exact), on=on, limits=config.causal)


def choose(screened: Screened, *, count: int, accepted: bool) -> tuple[Combination, ...]:
    """Return the combinations to measure: the largest estimates where the screen was accepted, else the first ranks.

    By rank too, those come first of which both features have something to lower on discovery scenarios.
    """
    if not accepted:
        idle = screened.estimates.data == 0
        return tuple(screened.combinations[n] for n in np.argsort(idle, kind="stable")[:count])
    return tuple(screened.combinations[n] for n in strongest_pairs(screened.estimates.data, count=count))


def measure_pairs(
    bench: Bench, mix: Mix, chosen: Sequence[Combination], cases: Mapping[str, tuple[PairCase, ...]], ledger: Ledger
) -> tuple[MeasuredPair, ...]:
    """Run the chosen combinations exactly on held-out scenarios, in the order in which they were chosen."""
    answers: dict[Combination, list[PairAnswers]] = {one: [] for one in chosen}
    for asked, own in cases.items():
        combos = [one for one in chosen if one.asked == asked]
        pairs = [(one.first, one.second) for one in combos]
        for case in own:
            found = run_pairs(bench, case, pairs)
            for one, answer in zip(combos, found, strict=True):
                answers[one].append(answer)
            ledger.intervention.extend(_rows(bench, mix, case, pairs, found))
    return tuple(MeasuredPair(_runs(bench, mix, one, answers[one]), cases[one.asked]) for one in chosen)


def _runs(bench: Bench, mix: Mix, one: Combination, answers: Sequence[PairAnswers]) -> PairRuns:
    def array(value: Callable[[PairAnswers], float]) -> Confirmation[FloatArray]:
        return Confirmation(np.array([value(answer) for answer in answers]))

    return PairRuns(
        mix=mix.id,
        question=one.asked,
        sae=bench.name,
        first=one.first,
        second=one.second,
        first_effect=array(lambda answer: answer.y11 - answer.y01),
        second_effect=array(lambda answer: answer.y11 - answer.y10),
        interaction=array(lambda answer: answer.interaction),
    )


def _rows(
    bench: Bench, mix: Mix, case: PairCase, pairs: Sequence[tuple[int, int]], answers: Sequence[PairAnswers]
) -> list[dict[str, object]]:
    rows: dict[tuple[object, ...], dict[str, object]] = {}

    def note(reference: str, first: int, second: int | None, *, changed: bool, outcome: float, kl: float) -> None:
        low = case.without_second if reference == "10" else case.without_first
        rows[reference, first, second] = {
            "part": mix.id,
            "scenario": case.scenario,
            "asked": case.asked,
            "sae": bench.name,
            "kind": "feature" if second is None else "pair",
            "reference": reference,
            "first": first,
            "second": second,
            "first_ceiling": low.get(first, 0.0),
            "second_ceiling": None if second is None else case.without_second.get(second, 0.0),
            "changed": changed,
            "untouched": case.held.outcome,
            "outcome": outcome,
            "kl": kl,
        }

    for (one, other), answer in zip(pairs, answers, strict=True):
        lowered, also = answer.changed
        note("01", one, None, changed=lowered, outcome=answer.y01, kl=answer.kl[0])
        note("10", other, None, changed=also, outcome=answer.y10, kl=answer.kl[1])
        note("01+10", one, other, changed=lowered or also, outcome=answer.y00, kl=answer.kl[2])
    return list(rows.values())
