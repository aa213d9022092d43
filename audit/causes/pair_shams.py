"""Shams of pairs: other live features of the same prompts, matched in size of change and in decoder cosine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from audit.analysis.shams import LiveFeatures, Shams, matched_pairs, sham_test, spread
from audit.arrays import Confirmation
from audit.capture.interventions import Delta
from audit.causes.benches import Bench
from audit.causes.mixes import PairCase, run_pairs
from audit.causes.pairs import MeasuredPair
from audit.causes.work import Work

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Codes:
    """What fires in one case: by row, its place among the kept positions, its latent, and the two roles' changes."""

    token: IntArray
    latent: IntArray
    first: FloatArray
    second: FloatArray


class PairShams:
    """Tests the pairs of one question about one mix, through one SAE; what pairs share is computed once.

    Args:
        bench: the SAE.
        cases: the held-out scenarios with that question.
        work: numbers of shams and where the rows go.
    """

    def __init__(self, bench: Bench, cases: Sequence[PairCase], work: Work) -> None:
        self._bench = bench
        self._config = work.config
        self._places = spread(range(len(cases)), work.config.causal.sham_scenarios)
        self._cases = tuple(cases[n] for n in self._places)
        self._ledger = work.ledger
        self._codes = tuple(_codes(case) for case in self._cases)
        self._latents: IntArray = np.unique(np.concatenate([code.latent for code in self._codes]))
        rows = bench.instrument.sae.w_dec[self._latents.tolist()]
        self._directions = rows.double().cpu().numpy()
        self._live = self._live_features()
        self._rows: dict[int, FloatArray] = {}
        self._untouched: dict[int, FloatArray] = {}
        self._answers: dict[tuple[int, int], float] = {}

    def test(self, pair: MeasuredPair, claim: str, *, count: int, level: float, screened: bool) -> Shams | str:
        """Return the sham test of a pair, or why there is none.

        Args:
            pair: what was measured.
            claim: its id, for the rows.
            count: how many shams there are at most; as many as are configured, and as the level needs, there must be.
            level: what p must not exceed.
            screened: whether first-order estimates may choose what is run.
        """
        runs, least = pair.runs, max(self._config.causal.shams, ceil(1 / level) - 1)
        if not any(case.first(runs.first).positions.numel() and case.second(runs.second).positions.numel()
                   for case in self._cases):  # fmt: skip
            return f"nothing to lower in both on the {len(self._cases)} scenarios on which shams run"
        first, second = (int(np.searchsorted(self._latents, latent)) for latent in (runs.first, runs.second))
        matched = matched_pairs(self._live, (first, second), count=count)
        if len(matched) < least:
            return f"only {len(matched)} of {least} matched pairs of features fire in these prompts"
        latents = [(int(self._latents[one]), int(self._latents[other])) for one, other in matched]

        scenarios = [case.scenario for case in self._cases]

        def measure(numbers: tuple[int, ...]) -> FloatArray:
            means = self._exact([latents[n] for n in numbers])
            self._ledger.sham.extend(
                {
                    "claim": claim,
                    "number": number,
                    "first": latents[number][0],
                    "second": latents[number][1],
                    "downstream_sae": None,
                    "downstream_latent": None,
                    "effect": mean,
                    "scenarios": scenarios,
                }
                for number, mean in zip(numbers, means.tolist(), strict=True)
            )
            return means

        return sham_test(
            Confirmation(runs.interaction.data[list(self._places)]),
            measure,
            count=len(matched),
            alpha=level,
            estimates=np.array([self._row(one)[other] for one, other in matched]) if screened else None,
        )

    def _exact(self, pairs: Sequence[tuple[int, int]]) -> FloatArray:
        missing = [pair for pair in pairs if pair not in self._answers]
        totals = np.zeros(len(missing))
        for answers in run_pairs(self._bench, self._cases, missing):
            totals += [answer.interaction for answer in answers]
        self._answers |= dict(zip(missing, (totals / len(self._cases)).tolist(), strict=True))
        return np.array([self._answers[pair] for pair in pairs])

    def _row(self, place: int) -> FloatArray:
        """Return (live,) first-order interactions of one feature with each other one, means over scenarios."""
        if place not in self._rows:
            latent = int(self._latents[place])
            total = np.zeros(len(self._latents))
            for n in range(len(self._cases)):
                total += self._estimates(n, latent)
            self._rows[place] = total / len(self._cases)
        return self._rows[place]

    def _estimates(self, n: int, latent: int) -> FloatArray:
        """Return (live,) delta_l . [g(x + delta_k) - g(x)] of one case, for one k and every l."""
        case, codes = self._cases[n], self._codes[n]
        delta = case.first(latent)
        if delta.empty:
            return np.zeros(len(self._latents))
        wanted = [delta] if n in self._untouched else [delta, Delta.none(case.held.fired.source.shape[1])]
        changed, *untouched = self._bench.engine.gradient(case.held, wanted).double().numpy()
        if untouched:
            (self._untouched[n],) = untouched
        turn = (changed - self._untouched[n])[case.held.fired.kept.cpu().numpy()]
        place = np.searchsorted(self._latents, codes.latent)
        # What is added points against the feature.
        products = -codes.second * np.einsum("rd,rd->r", self._directions[place], turn[codes.token])
        return np.bincount(place, weights=products, minlength=len(self._latents)).astype(np.float64)

    def _live_features(self) -> LiveFeatures:
        shape = len(self._cases), len(self._latents)
        first, second = np.zeros(shape), np.zeros(shape)
        for row, codes in enumerate(self._codes):
            place = np.searchsorted(self._latents, codes.latent)
            first[row] = np.bincount(place, weights=codes.first**2, minlength=shape[1])
            second[row] = np.bincount(place, weights=codes.second**2, minlength=shape[1])
        return LiveFeatures(np.sqrt(first), np.sqrt(second), self._directions)


def _codes(case: PairCase) -> _Codes:
    fired = case.held.fired
    token, latent = (column.cpu().numpy().astype(np.int64) for column in (fired.rows.token, fired.rows.latent))
    activation = fired.rows.activation.double().cpu().numpy()
    scale = fired.sae.token_scale(fired.source).double().cpu().numpy()[token]

    told = case.held.told[token]

    def change(levels: Mapping[int, float]) -> FloatArray:
        ceiling = np.array([levels.get(one, 0.0) for one in latent.tolist()])
        return np.asarray(np.maximum(0.0, activation - ceiling) * scale * told, dtype=np.float64)

    return _Codes(token, latent, change(case.without_first), change(case.without_second))
