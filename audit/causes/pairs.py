"""Two features at a time, in texts that mix two concepts: screened on discovery, measured on held-out scenarios."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.analysis.causal import PILOT_SCENARIOS, RESOLUTION, PairRuns, check_screen, strongest_pairs
from audit.analysis.shams import spread
from audit.arrays import Confirmation, Discovery
from audit.capture.interventions import Delta
from audit.causes.benches import Bench, Ledger, seed_of
from audit.causes.mixes import AskedScenario, Combination, MixQuestions, PairAnswers, PairCase, run_pairs
from audit.config import AuditConfig
from audit.records import ScreenCheck
from probes.schema import Mix, Split

FloatArray = NDArray[np.float64]

# Estimates are means over so many discovery scenarios: a gradient costs as much as three exact runs.
_SCREENED_SCENARIOS = 2


@dataclass(frozen=True, slots=True)
class Screened:
    """The combinations of one mix through one SAE, with the discovery scenarios on which they are screened.

    Args:
        cases: concept -> its question about these scenarios.
        moves: (combinations,) whether both features have something to lower in one of them.
    """

    mix: Mix
    combinations: tuple[Combination, ...]
    cases: Mapping[str, tuple[PairCase, ...]]
    moves: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class MeasuredPair:
    """Exact runs on one pair, with the cases that its shams run on.

    Args:
        stopped: the interaction was within rounding on the first scenarios, so the others were not run.
    """

    runs: PairRuns
    cases: tuple[PairCase, ...]
    stopped: bool


def screened_part(questions: MixQuestions) -> tuple[AskedScenario, ...]:
    """Return the discovery scenarios on which pairs are screened, spread evenly over the mix."""
    found: list[AskedScenario] = []
    for asked in dict.fromkeys(one.asked for one in questions.scenarios):
        every = questions.of(Split.DISCOVERY, asked)
        count = min(_SCREENED_SCENARIOS, len(every))
        found += [every[n * len(every) // count] for n in range(count)]
    return tuple(found)


def screened(mix: Mix, found: tuple[Combination, ...], cases: Mapping[str, tuple[PairCase, ...]]) -> Screened:
    """Return combinations with their cases, and which of them change anything there."""
    lowered: dict[tuple[str, str, int], list[bool]] = {}
    for asked, own in cases.items():
        for latent in {one.first for one in found}:
            lowered[asked, "first", latent] = [not case.first(latent).empty for case in own]
        for latent in {one.second for one in found}:
            lowered[asked, "second", latent] = [not case.second(latent).empty for case in own]
    moves = [
        any(map(all, zip(lowered[c.asked, "first", c.first], lowered[c.asked, "second", c.second], strict=True)))
        for c in found
    ]
    return Screened(mix, found, cases, np.array(moves, dtype=np.bool_))


def estimate(bench: Bench, part: Screened, places: Sequence[int]) -> Discovery[FloatArray]:
    """Return the first-order interactions of some combinations, means over the screened scenarios, in nats."""
    estimates = np.zeros(len(places))
    for asked, own, pairs in _by_question(part, places):
        for case in part.cases[asked]:
            estimates[own] += first_order(bench, case, pairs) / len(part.cases[asked])
    return Discovery(estimates)


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


def check_pairs(bench: Bench, parts: Sequence[Screened], config: AuditConfig, ledger: Ledger) -> ScreenCheck:
    """Compare first-order interactions with exact ones on random combinations of all mixes that change something."""
    rng = np.random.default_rng(seed_of(config.analysis.seed, bench.name, "pairs"))
    # Where a feature is nowhere above its level both values are 0 by construction and say nothing of the estimate.
    every = [(number, place) for number, part in enumerate(parts) for place in np.flatnonzero(part.moves).tolist()]
    chosen = sorted(rng.permutation(len(every))[: config.causal.screen_sample].tolist())
    wanted: dict[int, list[int]] = {}
    for number, place in (every[n] for n in chosen):
        wanted.setdefault(number, []).append(place)
    estimates: list[float] = []
    exact: list[float] = []
    for number, places in wanted.items():
        part = parts[number]
        values = np.zeros(len(places))
        for asked, own, pairs in _by_question(part, places):
            for answers in run_pairs(bench, part.cases[asked], pairs):
                values[own] += [one.interaction for one in answers]
            values[own] /= len(part.cases[asked])
        for place, one, other in zip(places, estimate(bench, part, places).data, values, strict=True):
            ledger.screen.append(_screen_row(bench, part, place, len(exact), (float(one), float(other))))
            estimates.append(float(one))
            exact.append(float(other))
    on = f"random pairs, means over at most {_SCREENED_SCENARIOS} discovery scenarios"
    return check_screen(bench.name, "pairs", np.array(estimates), np.array(exact), on=on, limits=config.causal)


def choose(bench: Bench, part: Screened, *, count: int, accepted: bool) -> tuple[Combination, ...]:
    """Return the combinations to measure: the largest estimates where the screen was accepted, else the first ranks.

    By rank too, those come first of which both features have something to lower on discovery scenarios.
    """
    if not accepted:
        return tuple(part.combinations[n] for n in np.argsort(~part.moves, kind="stable")[:count])
    estimates = np.zeros(len(part.combinations))
    places = np.flatnonzero(part.moves)
    estimates[places] = estimate(bench, part, places.tolist()).data
    return tuple(part.combinations[n] for n in strongest_pairs(estimates, count=count))


def pilot(scenarios: Sequence[AskedScenario]) -> tuple[tuple[AskedScenario, ...], tuple[AskedScenario, ...]]:
    """Return the scenarios on which every pair is measured, spread evenly, and the others."""
    first = set(spread(range(len(scenarios)), PILOT_SCENARIOS))
    return (
        tuple(one for n, one in enumerate(scenarios) if n in first),
        tuple(one for n, one in enumerate(scenarios) if n not in first),
    )


class PairRunner:
    """Measures chosen combinations of one question about one mix, through one SAE, on more and more scenarios."""

    def __init__(self, bench: Bench, mix: Mix, chosen: Sequence[Combination], ledger: Ledger) -> None:
        self._bench = bench
        self._mix = mix
        self._ledger = ledger
        self._answers: dict[Combination, list[PairAnswers]] = {one: [] for one in chosen}
        self._cases: dict[Combination, list[PairCase]] = {one: [] for one in chosen}

    def run(self, combinations: Sequence[Combination], cases: Sequence[PairCase]) -> None:
        """Run some of the combinations exactly on more scenarios."""
        pairs = [(one.first, one.second) for one in combinations]
        if not pairs:
            return
        for case, found in zip(cases, run_pairs(self._bench, cases, pairs), strict=True):
            for one, answer in zip(combinations, found, strict=True):
                self._answers[one].append(answer)
                self._cases[one].append(case)
            self._ledger.intervention.extend(_rows(self._bench, self._mix, case, pairs, found))

    @property
    def going_on(self) -> tuple[Combination, ...]:
        """Return the combinations whose mean interaction so far is more than rounding."""
        return tuple(
            one
            for one, answers in self._answers.items()
            if answers and abs(np.mean([answer.interaction for answer in answers])) >= RESOLUTION
        )

    def measured(self, one: Combination, *, stopped: bool) -> MeasuredPair:
        """Return what was measured of a combination."""
        return MeasuredPair(_runs(self._bench, self._mix, one, self._answers[one]), tuple(self._cases[one]), stopped)


def _by_question(part: Screened, places: Sequence[int]) -> list[tuple[str, list[int], list[tuple[int, int]]]]:
    """Return for each question: its concept, where in `places` its combinations stand, and their features."""
    found = []
    for asked in dict.fromkeys(part.combinations[place].asked for place in places):
        own = [n for n, place in enumerate(places) if part.combinations[place].asked == asked]
        combos = [part.combinations[places[n]] for n in own]
        found.append((asked, own, [(one.first, one.second) for one in combos]))
    return found


def _screen_row(
    bench: Bench, part: Screened, place: int, number: int, values: tuple[float, float]
) -> dict[str, object]:
    one = part.combinations[place]
    return {
        "sae": bench.name,
        "subject": "pairs",
        "number": number,
        "member": f"{part.mix.id}/{one.asked}/{bench.name}/{one.first}+{one.second}",
        "estimate": values[0],
        "exact": values[1],
    }


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
        confirmed=one.confirmed,
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
