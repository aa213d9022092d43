"""Shams of single features: random directions of the same norm at every position, the same one on every scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from audit.analysis.causal import FEWEST_FOR_EDGES, check_screen
from audit.analysis.shams import Shams, sham_test
from audit.arrays import Confirmation
from audit.capture.interventions import Delta, Held
from audit.capture.sae import random_decoder
from audit.causes.benches import Bench, seed_of
from audit.causes.singles import Single
from audit.causes.work import Work
from audit.records import ScreenCheck

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ShammedSingle:
    """The sham test of one feature, and what its shams did to features of the later SAE.

    Args:
        beside: (downstream,) mean fall of each on the shams' scenarios under the feature itself.
        falls: (shams run, downstream) mean falls under shams.
    """

    shams: Shams
    beside: FloatArray
    falls: FloatArray


@dataclass(frozen=True, slots=True)
class ShamPlan:
    """How one feature is held against shams.

    Args:
        claim: its id, for the rows.
        count: how many shams there are.
        level: what p must not exceed.
        downstream: features of the later SAE that are read under shams.
        screened: whether first-order estimates may choose which shams are run.
    """

    claim: str
    count: int
    level: float
    downstream: tuple[int, ...]
    screened: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """One feature on the scenarios on which its shams run.

    Args:
        finding: its id.
        effect: (n,) of the feature itself; falls: (n, downstream) of features of the later SAE.
        held, deltas: the untouched questions, and what lowered the feature in each.
    """

    finding: str
    effect: Confirmation[FloatArray]
    held: tuple[Held, ...]
    deltas: tuple[Delta, ...]
    falls: FloatArray


class SingleShams:
    """Tests the features of one SAE against random directions.

    Args:
        bench: the SAE.
        work: numbers of shams and where the rows go.
    """

    def __init__(self, bench: Bench, work: Work) -> None:
        self._bench = bench
        self._config = work.config
        self._ledger = work.ledger
        self._concept = ""
        self._held: dict[int, Held] = {}
        self._gradients: dict[int, NDArray[np.float32]] = {}

    def check(self, singles: Sequence[Single]) -> ScreenCheck:
        """Compare first-order estimates of random shams of these features with exact means."""
        rng = np.random.default_rng(seed_of(self._config.analysis.seed, self._bench.name, "features"))
        wanted: dict[int, list[int]] = {}
        if singles:
            for place in rng.integers(len(singles), size=self._config.causal.screen_sample).tolist():
                wanted.setdefault(place, []).append(int(rng.integers(self._config.causal.shams)))
        estimates: list[float] = []
        exact: list[float] = []
        for place, numbers in sorted(wanted.items()):
            part = self._part(singles[place])
            chosen = list(dict.fromkeys(numbers))
            estimated = self._estimates(part, self._config.causal.shams)[chosen]
            measured, _ = self._run(part, chosen, (), self._config.causal.shams)
            for number, one, other in zip(chosen, estimated.tolist(), measured.tolist(), strict=True):
                self._ledger.screen.append(
                    {
                        "sae": self._bench.name,
                        "subject": "features",
                        "number": len(estimates),
                        "member": f"{singles[place].runs.finding.id}/sham {number}",
                        "estimate": one,
                        "exact": other,
                    }
                )
                estimates.append(one)
                exact.append(other)
        most = self._config.causal.sham_scenarios
        on = f"random directions of features' norms, means over at most {most} scenarios"
        return check_screen(
            self._bench.name, "features", np.array(estimates), np.array(exact), on=on, limits=self._config.causal
        )

    def test(self, single: Single, plan: ShamPlan) -> ShammedSingle:
        """Run the sham test of one feature."""
        part = self._part(single)
        means: dict[int, float] = {}
        falls = np.zeros((0, len(plan.downstream)))
        if plan.downstream:
            # Of features of the later SAE an estimate on the answer says nothing: the first ones, whatever they do.
            means, falls = self._measured(part, tuple(range(FEWEST_FOR_EDGES)), plan)

        def measure(numbers: tuple[int, ...]) -> FloatArray:
            missing = tuple(number for number in numbers if number not in means)
            if missing:
                means.update(self._measured(part, missing, plan)[0])
            return np.array([means[number] for number in numbers])

        shams = sham_test(
            part.effect,
            measure,
            count=plan.count,
            alpha=plan.level,
            estimates=self._estimates(part, plan.count) if plan.screened else None,
        )
        return ShammedSingle(shams, part.falls.mean(axis=0), falls)

    def _part(self, single: Single) -> _Part:
        held = self._hold(single)
        latent = single.runs.finding.latent
        places = list(single.places)
        return _Part(
            single.runs.finding.id,
            Confirmation(single.runs.effect.data[places]),
            held,
            tuple(one.lowering(latent, ceiling) for one, ceiling in zip(held, single.ceilings, strict=True)),
            single.falls[places],
        )

    def _hold(self, single: Single) -> tuple[Held, ...]:
        """Return the questions, held; those of one concept at a time are kept, as features of a concept share them."""
        if self._concept != single.runs.finding.concept:
            self._concept, self._held, self._gradients = single.runs.finding.concept, {}, {}
        missing = [one for one in single.asked if one[0].prompt.id not in self._held]
        self._held |= {held.prompt.prompt.id: held for held in self._bench.engine.hold(missing)}
        return tuple(self._held[prompt.prompt.id] for prompt, _ in single.asked)

    def _measured(self, part: _Part, numbers: tuple[int, ...], plan: ShamPlan) -> tuple[dict[int, float], FloatArray]:
        effects, falls = self._run(part, numbers, plan.downstream, plan.count)
        means = dict(zip(numbers, effects.tolist(), strict=True))
        self._note(plan.claim, part, means, falls, plan.downstream)
        return means, falls

    def _run(
        self, single: _Part, numbers: Sequence[int], downstream: Sequence[int], count: int
    ) -> tuple[FloatArray, FloatArray]:
        """Return the mean effect of each sham and, (shams, downstream), the mean fall of each later feature."""
        directions = self._directions(single, count)
        effects = np.zeros(len(numbers))
        falls = np.zeros((len(numbers), len(downstream)))
        jobs = [
            (held, [held.pushed(directions[n], like) for n in numbers])
            for held, like in zip(single.held, single.deltas, strict=True)
            if not like.empty
        ]
        columns = list(downstream)
        for (held, _), responses in zip(jobs, self._bench.engine.run_all(jobs), strict=True):
            effects += held.outcome - responses.outcome
            if responses.downstream is not None and held.downstream is not None:
                falls += held.downstream[columns].astype(np.float64) - responses.downstream[:, columns]
        return effects / len(single.held), falls / len(single.held)

    def _estimates(self, single: _Part, count: int) -> FloatArray:
        """Return (shams,) first-order mean effects: a change adds its product with the gradient to the answer."""
        total = np.zeros(self._width)
        for held, like in zip(single.held, single.deltas, strict=True):
            if like.empty:
                continue
            gradient = self._gradient(held)[like.positions.cpu().numpy()]
            norms = like.vectors.norm(dim=1).double().cpu().numpy()
            total += norms @ gradient
        directions = self._directions(single, count).double().numpy()
        estimates: FloatArray = -(directions @ total) / len(single.held)
        return estimates

    def _gradient(self, held: Held) -> NDArray[np.float32]:
        """Return (positions, d), the outcome's gradient in an untouched prompt."""
        found = self._gradients.get(held.prompt.id)
        if found is None:
            nothing = Delta.none(held.fired.source.shape[1])
            found = self._bench.engine.gradient(held, [nothing])[0].numpy()
            self._gradients[held.prompt.id] = found
        return found

    @property
    def _width(self) -> int:
        return self._bench.instrument.sae.w_dec.shape[1]

    def _directions(self, single: _Part, count: int) -> Tensor:
        seed = seed_of(self._config.analysis.seed, single.finding, "shams")
        return random_decoder(count, self._width, seed=seed)

    def _note(
        self, claim: str, part: _Part, means: Mapping[int, float], falls: FloatArray, downstream: Sequence[int]
    ) -> None:
        scenarios = [held.prompt.prompt.scenario for held in part.held]
        later = self._bench.later
        for (number, mean), fallen in zip(means.items(), falls.tolist(), strict=True):
            own: list[tuple[str | None, int | None, float]] = [(None, None, mean)]
            if later is not None:
                own += [(later.sae.record.name, latent, fall) for latent, fall in zip(downstream, fallen, strict=True)]
            self._ledger.sham.extend(
                {
                    "claim": claim,
                    "number": number,
                    "first": None,
                    "second": None,
                    "downstream_sae": sae,
                    "downstream_latent": latent,
                    "effect": effect,
                    "scenarios": scenarios,
                }
                for sae, latent, effect in own
            )
