"""Synthetic evidence in the likeness of an audit's, with known answers: which latents carry an effect, and how large.

A latent's largest activation in a text is 0 below a threshold of its own and grows exponentially above it: sparse,
positive, with heavy tails. What lies behind it is normal: a part that both arms of a scenario share, and a part of each
arm; of both parts a share comes from a source that a group of latents has in common. Without planted effects the two
arms of a scenario are therefore exchangeable, for all latents together, which is the null hypothesis of the tests.

The constants were set beside a demonstration audit of SmolLM2-135M (SAE of layer 15): there 1,670 of 4,608 latents fire
in 8 of 40 discovery scenarios of a topic (1,221 of a distinction), the median correlation of a latent between arms is
0.3 (0.96), the standard deviation of the logarithm of a maximum 0.9, and 1% of the pairs of latents correlate beyond
0.5 (0.7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from audit.arrays import Confirmation, Discovery, Halves, ScenarioScores
from audit.records import Contrast

FloatArray = NDArray[np.float64]

SHARED_BY_ARMS = {Contrast.TOPIC: 0.5, Contrast.DISTINCTION: 0.97}
_GROUP = 48
_SHARED_BY_GROUP = 0.6
_DUPLICATED = 0.01
_MEDIAN_LOGIT, _SPREAD_LOGIT = -2.6, 2.0
_SCALE_SPREAD = 0.6
_PLANTED_SHARES = (0.1, 0.6)
_SPREAD_DRAWS = 20_000


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of one concept's part in a family.

    Args:
        latents: of the SAE, and of its control.
        discovery, confirmation: scenarios.
        planted: how many latents carry an effect: latents 0 ... planted - 1.
        residual: width of the residual stream.
    """

    latents: int = 4608
    discovery: int = 40
    confirmation: int = 24
    planted: int = 20
    residual: int = 576


@dataclass(frozen=True, slots=True)
class Texts:
    """The largest activations of one concept in the texts of one contrast.

    Args:
        arms: (2, n, m) the concept and what it is compared with, discovery scenarios first.
        shares: (m,) the chance of each latent to fire in a text.
    """

    shape: Shape
    arms: FloatArray
    shares: FloatArray

    def scores(self, flips: FloatArray | None = None) -> Halves[ScenarioScores]:
        """Return both splits; the arms of scenario g are exchanged where flips[g] is -1."""
        return _halves(self.arms, self.shape, flips)

    def residuals(self, decoder: FloatArray) -> FloatArray:
        """Return (2, n, residual) what the latents add to the residual stream along an (m, residual) decoder."""
        return np.asarray(self.arms @ decoder, dtype=np.float64)

    def control(
        self, decoder: FloatArray, directions: FloatArray, flips: FloatArray | None = None
    ) -> Halves[ScenarioScores]:
        """Return the scores of random directions that read the same residual stream and fire as often.

        Args:
            decoder: (m, residual).
            directions: (residual, m).
            flips: as of `scores`.
        """
        pre = self.residuals(decoder) @ directions
        ordered = np.sort(pre.reshape(-1, pre.shape[-1]), axis=0)
        # The threshold looks at both arms of all scenarios alike, as a control's k or bias does.
        place = np.minimum(((1 - self.shares) * len(ordered)).astype(np.int64), len(ordered) - 1)
        return _halves(np.maximum(pre - ordered[place, np.arange(len(place))], 0.0), self.shape, flips)


def draw_texts(rng: np.random.Generator, shape: Shape, contrast: Contrast, *, effect: float = 0.0) -> Texts:
    """Return one concept's texts.

    The concept adds a positive amount to a planted latent, which varies from scenario to scenario as much as the latent
    does without it (gamma distributed), so that d_z in the population is `effect`.

    Args:
        rng: source of everything.
        shape: sizes.
        contrast: decides how much the arms of a scenario share.
        effect: d_z of the planted latents; 0 plants none.
    """
    n, m = shape.discovery + shape.confirmation, shape.latents
    shared = SHARED_BY_ARMS[contrast]
    shares = 1 / (1 + np.exp(-rng.normal(_MEDIAN_LOGIT, _SPREAD_LOGIT, size=m)))
    shares[: shape.planted] = rng.uniform(*_PLANTED_SHARES, size=shape.planted)
    thresholds = -ndtri(shares)
    group = np.arange(m) % max(1, m // _GROUP)
    both = _normals(rng, (1, n), group)
    hidden = np.sqrt(shared) * both + np.sqrt(1 - shared) * _normals(rng, (2, n), group)
    arms = _activations(hidden, thresholds)
    copies = int(_DUPLICATED * m)
    if copies:
        # Never of planted latents: how many carry the effect stays known.
        arms[..., m - copies :] = arms[..., shape.planted : shape.planted + copies]
        shares[m - copies :] = shares[shape.planted : shape.planted + copies]
    if effect:
        spread = _spread(rng, thresholds[: shape.planted], shared)
        # Variance of the difference: spread^2 without the concept, as much again from what it adds.
        added = rng.gamma(2 * effect**2, 1 / (np.sqrt(2) * effect), size=(n, shape.planted))
        arms[0, :, : shape.planted] += spread * added
    return Texts(shape, arms * np.exp(rng.normal(0, _SCALE_SPREAD, size=m)), shares)


def random_directions(rng: np.random.Generator, shape: Shape) -> tuple[FloatArray, FloatArray]:
    """Return (m, residual) unit decoder rows and (residual, m) unit directions, all random."""
    decoder = rng.normal(size=(shape.latents, shape.residual))
    directions = rng.normal(size=(shape.residual, shape.latents))
    return (
        decoder / np.linalg.norm(decoder, axis=1, keepdims=True),
        directions / np.linalg.norm(directions, axis=0, keepdims=True),
    )


def random_flips(rng: np.random.Generator, shape: Shape) -> FloatArray:
    """Return (n,) signs that exchange the arms of whole scenarios at random."""
    return rng.choice((-1.0, 1.0), size=shape.discovery + shape.confirmation)


def _normals(rng: np.random.Generator, rows: Sequence[int], group: NDArray[np.int64]) -> FloatArray:
    """Return (*rows, m) standard normals of which latents of one group share a part."""
    source = rng.normal(size=(*rows, int(group.max()) + 1))
    own = rng.normal(size=(*rows, len(group)))
    mixed: FloatArray = np.sqrt(_SHARED_BY_GROUP) * source[..., group] + np.sqrt(1 - _SHARED_BY_GROUP) * own
    return mixed


def _activations(hidden: FloatArray, thresholds: FloatArray) -> FloatArray:
    above = hidden - thresholds
    return np.where(above > 0, np.exp(np.minimum(above, 4.0)), 0.0)


def _spread(rng: np.random.Generator, thresholds: FloatArray, shared: float) -> FloatArray:
    """Return (k,) standard deviations of the difference between two arms without an effect."""
    both, own = rng.normal(size=(1, _SPREAD_DRAWS, 1)), rng.normal(size=(2, _SPREAD_DRAWS, 1))
    arms = _activations(np.sqrt(shared) * both + np.sqrt(1 - shared) * own, thresholds)
    deviation: FloatArray = np.std(arms[0] - arms[1], axis=0)
    return deviation


def _halves(arms: FloatArray, shape: Shape, flips: FloatArray | None) -> Halves[ScenarioScores]:
    fires = arms > 0
    signs = np.ones(arms.shape[1]) if flips is None else flips
    score = signs[:, None] * (arms[0] - arms[1])
    firing = signs[:, None] * (fires[0].astype(np.float64) - fires[1])
    either: NDArray[np.bool_] = np.logical_or.reduce(fires, axis=0)

    def part(rows: slice) -> ScenarioScores:
        fired = either[rows].sum(axis=0)
        latents = np.flatnonzero(fired)
        numbers = np.arange(len(signs))[rows]
        return ScenarioScores(numbers, latents, score[rows, latents], firing[rows, latents], fired[latents])

    return Halves(Discovery(part(slice(0, shape.discovery))), Confirmation(part(slice(shape.discovery, arms.shape[1]))))
