"""Frozen records of arrays that cross from evidence to analysis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ScenarioScores:
    """Paired differences of one contrast, one row a scenario.

    Args:
        scenarios: (n,) numbers of the scenarios, ascending.
        latents: (m,) latents that fired in any of them, ascending.
        score: (n, m) mean over frames of max(arm) - max(baseline).
        firing: (n, m) mean over frames of fires(arm) - fires(baseline).
        fired: (m,) in how many scenarios the latent fired in either arm.
    """

    scenarios: NDArray[np.int64]
    latents: NDArray[np.int64]
    score: FloatArray
    firing: FloatArray
    fired: NDArray[np.int64]

    def columns(self, latents: NDArray[np.int64]) -> FloatArray:
        """Return (n, k) scores of the given latents; a latent that never fired there scores 0."""
        return self._pick(self.score, latents)

    def firing_columns(self, latents: NDArray[np.int64]) -> FloatArray:
        """Return (n, k) firing differences of the given latents."""
        return self._pick(self.firing, latents)

    def _pick(self, matrix: FloatArray, wanted: NDArray[np.int64]) -> FloatArray:
        picked = np.zeros((matrix.shape[0], len(wanted)))
        if len(self.latents) == 0 or len(wanted) == 0:
            return picked
        place = np.minimum(np.searchsorted(self.latents, wanted), len(self.latents) - 1)
        present = self.latents[place] == wanted
        picked[:, present] = matrix[:, place[present]]
        return picked


@dataclass(frozen=True, slots=True)
class ResidualDifferences:
    """Differences of the residual stream between two arms, (n, d_model) each, averaged over frames.

    Args:
        mean: of the mean over a prompt's kept positions.
        last: of the last kept position.
    """

    mean: FloatArray
    last: FloatArray


@dataclass(frozen=True, slots=True)
class NeuronMaxima:
    """The largest value of each MLP neuron in each captured prompt, the same statistic as a latent's.

    Args:
        concept, split, arm: (prompts,) text, what each prompt is.
        scenario: (prompts,) the number of its scenario.
        frames: (prompts,) how many frames its concept has.
        largest: (prompts, neurons) float32, over the kept positions.
    """

    concept: NDArray[np.str_]
    split: NDArray[np.str_]
    arm: NDArray[np.str_]
    scenario: NDArray[np.int64]
    frames: NDArray[np.int64]
    largest: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NeuronScores:
    """Paired differences of one contrast, one row a scenario: those of `ScenarioScores`, of neurons.

    Args:
        scenarios: (n,) numbers of the scenarios, ascending.
        score: (n, neurons) mean over frames of max(arm) - max(baseline).
    """

    scenarios: NDArray[np.int64]
    score: FloatArray


@dataclass(frozen=True, slots=True)
class OutcomePairs:
    """Logit differences on the two arms, (n,) each, in nats."""

    concept: FloatArray
    control: FloatArray


@dataclass(frozen=True, slots=True)
class FidelityMoments:
    """Sums that give an SAE's fidelity on one scope.

    Args:
        clusters: (c, 3) float64: predicted tokens, cross-entropy and spliced cross-entropy of each cluster of spliced
            prompts, in nats; clusters are scenarios or documents. Empty when nothing was spliced.
    """

    tokens: int
    total_variance: float
    error: float
    cosine: float
    l0_mean: float
    l0_p05: float
    l0_p95: float
    spliced_tokens: int
    ce: float
    ce_spliced: float
    ce_ablated: float
    kl: float
    kl_random: float
    clusters: FloatArray


@dataclass(frozen=True, slots=True)
class Densities:
    """On how many kept tokens each latent that fired did so, and its largest activation."""

    latents: NDArray[np.int64]
    tokens: NDArray[np.int64]
    maximum: FloatArray


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Token positions of all captured prompts by fate."""

    total: int
    template: int
    outliers: int
    kept: int


@dataclass(frozen=True, slots=True)
class Discovery(Generic[T]):
    """What was measured on the discovery split: it may choose and rank, and no record of a report is made from it."""

    data: T


@dataclass(frozen=True, slots=True)
class Confirmation(Generic[T]):
    """What was measured where nothing was chosen: the only thing that effects and tests of a report are made from."""

    data: T


@dataclass(frozen=True, slots=True)
class Halves(Generic[T]):
    """The same measurement on both splits."""

    discovery: Discovery[T]
    confirmation: Confirmation[T]


@dataclass(frozen=True, slots=True)
class TopicScores:
    """Paired differences between the concept arm and the neutral arm of one concept, for some latents.

    Args:
        concept: its id.
        discovery, confirmation: (n, m) one row a scenario, one column a latent: mean over frames of max(concept arm) -
            max(neutral arm); 0 where the latent is silent in both.
    """

    concept: str
    discovery: FloatArray
    confirmation: FloatArray


@dataclass(frozen=True, slots=True)
class TokenUse:
    """On which token pieces some latents fire, over the prompts whose texts are disclosed.

    Pieces are stripped and case-folded, so that "Dose" and " dose" are one; ascending.

    Args:
        pieces: (p,) every piece of the content tokens.
        mass: (m, p) float64, summed activation on discovery prompts.
        fired: (m, p) int64, on how many tokens the latent fires in confirmation prompts.
        tokens: (p,) int64, how many content tokens of confirmation prompts are this piece. Excluded outliers, on which
            no latent is read, are among them: the evidence counts them and does not say which they were.
    """

    pieces: tuple[str, ...]
    mass: FloatArray
    fired: NDArray[np.int64]
    tokens: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FiringUnits:
    """Which features of one SAE fire in which unit: one arm or cell of one scenario, all its prompts together.

    The units of a scenario in one cell are one: its prompts in other frames or orders are no further evidence.

    Args:
        cell: (units,) text, the condition: concept or mix, and arm or cell.
        scenario: (units,) a number for each scenario: its units in different cells are not independent.
        tokens: (units,) kept tokens of the unit's longest prompt.
        start: (units + 1,) where each unit's latents begin in `latent`.
        latent: (firings,) ascending within a unit, each once.
        latents: how many the SAE has.
    """

    cell: NDArray[np.str_]
    scenario: NDArray[np.int64]
    tokens: NDArray[np.int64]
    start: NDArray[np.int64]
    latent: NDArray[np.int64]
    latents: int


@dataclass(frozen=True, slots=True)
class MixScores:
    """What the features of one SAE do in the cells of one mix, one split.

    Axes: (cells, orders, n, m) in the order of `probes.schema.Cell` and `Order`, of scenarios and of latents. In the
    last two cells the placebo stands in B's place, and `second` is its span.

    Args:
        scenarios: (n,) numbers of the scenarios, ascending.
        latents: (m,) latents that fired in any of them, ascending.
        first: sum over the kept tokens of the clause that stands for A, second: for B (wherever they stand).
        largest: maximum over the kept tokens of the whole prompt.
    """

    scenarios: NDArray[np.int64]
    latents: NDArray[np.int64]
    first: FloatArray
    second: FloatArray
    largest: FloatArray


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Sparse activations of one SAE on some tokens.

    Args:
        tokens: how many tokens there are, those on which nothing fires included.
        token: (rows,) int64 place of the token; latent: (rows,) int64; activation: (rows,) float64.
    """

    tokens: int
    token: NDArray[np.int64]
    latent: NDArray[np.int64]
    activation: FloatArray


@dataclass(frozen=True, slots=True)
class LatentScores:
    """Paired differences of some latents of one concept on one split.

    Args:
        scenarios: (n,) numbers of the scenarios, ascending.
        latents: (m,) as they were asked for.
        score: (n, m) mean over frames of max(arm) - max(baseline); 0 where the latent is silent in both.
    """

    scenarios: NDArray[np.int64]
    latents: NDArray[np.int64]
    score: FloatArray


@dataclass(frozen=True, slots=True)
class AskedOutcomes:
    """Logit differences of one concept's question on the two arms, (n,) each, with the numbers of the scenarios."""

    scenarios: NDArray[np.int64]
    concept: FloatArray
    control: FloatArray
