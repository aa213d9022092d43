"""What one concept brings to a family of tests, and whether it can be tested at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.arrays import Halves, ResidualDifferences, ScenarioScores
from audit.records import ControlKind
from probes.schema import FEWEST_IN_SPLIT

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CueScores:
    """Confirmation scores against neutral of the scenarios that have cue arms; all three share rows."""

    concept: ScenarioScores
    cue: ScenarioScores
    cue_free: ScenarioScores


@dataclass(frozen=True, slots=True)
class ContrastData:
    """Everything that one concept brings to one family of tests.

    Args:
        scores: of the SAE's latents.
        controls: the same of each control SAE.
        residuals: differences of the residual stream at the SAE's site.
        neurons: (n, neurons) differences of each neuron's largest value; None where the site has none.
        words: (n, words) differences of word counts; None where the texts are not at hand.
        cues: scores of the cue arms; None where there are none.
    """

    concept: str
    scores: Halves[ScenarioScores]
    controls: Mapping[ControlKind, Halves[ScenarioScores]]
    residuals: Halves[ResidualDifferences]
    neurons: Halves[FloatArray] | None = None
    words: Halves[FloatArray] | None = None
    cues: CueScores | None = None


def why_untestable(data: ContrastData) -> str | None:
    """Return why no test can be made of a concept's data, or None when it can.

    What is told: an arm that no scenario of a split has, too few scenarios with both arms, numbers that are not finite,
    and activations that are the same in both arms of every scenario.
    """
    halves = (
        ("discovery", data.scores.discovery.data, data.residuals.discovery.data),
        ("confirmation", data.scores.confirmation.data, data.residuals.confirmation.data),
    )
    for split, scores, residuals in halves:
        n = min(len(scores.scenarios), len(residuals.mean))
        if n == 0:
            return f"an arm is missing: no {split} scenario has both"
        if n < FEWEST_IN_SPLIT:
            return f"too few scenarios: {n} for {split} have both arms, at least {FEWEST_IN_SPLIT} are needed"
        if len(scores.scenarios) != len(residuals.mean):
            return f"an arm is missing: features have {len(scores.scenarios)} {split} scenarios, residuals {n}"
        if not all(np.isfinite(part).all() for part in (scores.score, residuals.mean, residuals.last)):
            return f"activations of {split} scenarios are not finite numbers"
        if not any(part.any() for part in (scores.score, residuals.mean, residuals.last)):
            return f"constant activations: nothing differs between the arms of any {split} scenario"
    return next(_problems_beside(data), None)


def _problems_beside(data: ContrastData) -> Iterator[str]:
    if data.neurons is not None and not all(
        np.isfinite(part).all() for part in (data.neurons.discovery.data, data.neurons.confirmation.data)
    ):
        yield "activations of neurons are not finite numbers"
    for kind, halves in data.controls.items():
        for part in (halves.discovery.data, halves.confirmation.data):
            if not np.isfinite(part.score).all():
                yield f"activations of the control ({kind.value}) are not finite numbers"
