"""A family of synthetic audits taken through discovery, confirmation and the bar of the random directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.analysis.association import MIN_COMPARED
from audit.analysis.effects import cohens_dz
from audit.analysis.two_steps import Selected, Tested, confirm, select
from audit.arrays import Halves, ScenarioScores
from audit.config import AnalysisConfig
from audit.records import Contrast
from benchmarks.synthetic import Shape, Texts, draw_texts, random_directions, random_flips

# The max-T is printed beside the tests and decides nothing.
CONFIG = AnalysisConfig(flips=1)


@dataclass(frozen=True, slots=True)
class Audited:
    """One family after both steps; masks are over the chosen features of each concept."""

    selected: Selected
    passing: tuple[NDArray[np.bool_], ...]
    confirmed: tuple[NDArray[np.bool_], ...]
    bar: float


class Auditor:
    """Takes families of synthetic texts through both steps, with one draw of random directions.

    Args:
        shape: of each concept's part.
        seed: of everything.
    """

    def __init__(self, shape: Shape, seed: int) -> None:
        self.shape = shape
        self.rng = np.random.default_rng(seed)
        self._seeds = np.random.SeedSequence(seed)
        self._decoder, self._directions = random_directions(self.rng, shape)

    def draw(self, contrast: Contrast, concepts: int, *, effect: float = 0.0) -> list[Texts]:
        """Return the texts of one family."""
        return [draw_texts(self.rng, self.shape, contrast, effect=effect) for _ in range(concepts)]

    def flips(self, concepts: int, *, discovery: bool) -> list[NDArray[np.float64]]:
        """Return random exchanges of arms, one array a concept: on both splits, or on confirmation only."""
        flips = [random_flips(self.rng, self.shape) for _ in range(concepts)]
        if not discovery:
            for own in flips:
                own[: self.shape.discovery] = 1.0
        return flips

    def audit(self, texts: Sequence[Texts], flips: Sequence[NDArray[np.float64]] | None, *, bar: bool) -> Audited:
        """Choose and test; the random directions are read if anything passed, or if their bar is asked for."""
        exchanged = flips if flips is not None else [None] * len(texts)
        parts = [text.scores(own) for text, own in zip(texts, exchanged, strict=True)]
        selected, tested = self._both_steps(parts)
        passing = tuple(one.passed(CONFIG.alpha) for one in tested)
        if not bar and not any(mask.any() for mask in passing):
            return Audited(selected, passing, passing, 0.0)
        controls = [
            text.control(self._decoder, self._directions, own) for text, own in zip(texts, exchanged, strict=True)
        ]
        bars = self._bars(controls, selected)
        confirmed = []
        for part, one, mask, limit in zip(parts, selected.concepts, passing, bars, strict=True):
            effects = np.abs(cohens_dz(part.confirmation.data.columns(one.latents)))
            confirmed.append(np.asarray(mask & (effects > limit), dtype=np.bool_))
        return Audited(selected, passing, tuple(confirmed), float(np.mean(bars)))

    def _both_steps(self, parts: Sequence[Halves[ScenarioScores]]) -> tuple[Selected, tuple[Tested, ...]]:
        first, second = self._seeds.spawn(2)
        selected = select([part.discovery for part in parts], CONFIG, first)
        return selected, confirm([part.confirmation for part in parts], selected.concepts, CONFIG, second)

    def _bars(self, controls: Sequence[Halves[ScenarioScores]], trained: Selected) -> list[float]:
        chosen, _ = self._both_steps(controls)
        bars = []
        for part, own, other in zip(controls, chosen.concepts, trained.concepts, strict=True):
            compared = own.ranked[: max(MIN_COMPARED, len(own.latents), len(other.latents))]
            bars.append(float(np.abs(cohens_dz(part.confirmation.data.columns(compared))).max(initial=0.0)))
        return bars
