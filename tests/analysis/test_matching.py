"""Latents are paired by what they do: a renumbered SAE is recognised, an unrelated one is not."""

from __future__ import annotations

import numpy as np

from audit.analysis.matching import match_latents
from audit.arrays import TokenRows
from audit.records import DiffMargins

TOKENS, LATENTS = 3000, 200


def rows(values: np.ndarray) -> TokenRows:
    """Return the sparse rows of a (tokens, latents) array."""
    token, latent = np.nonzero(values)
    return TokenRows(len(values), token, latent, values[token, latent])


def activations(seed: int) -> np.ndarray:
    """Return sparse activations of which one in twenty is not zero."""
    rng = np.random.default_rng(seed)
    shape = (TOKENS, LATENTS)
    return np.where(rng.random(shape) < 0.05, rng.exponential(1.0, shape), 0.0)


def test_renumbered_latents_are_matched() -> None:
    """At least 99% of the latents find their own number again, with other scales and some noise."""
    rng = np.random.default_rng(1)
    values, numbers = activations(2), rng.permutation(LATENTS)
    other = np.zeros_like(values)
    other[:, numbers] = values * rng.uniform(0.5, 2.0, LATENTS) * (1 + 0.1 * rng.standard_normal(values.shape))
    found = match_latents(rows(values), rows(other), DiffMargins())
    assert (numbers[found.base] == found.new).sum() >= 0.99 * LATENTS
    assert len(found.base) <= LATENTS


def test_an_unrelated_sae_has_no_partner() -> None:
    """Independent activations match nothing."""
    found = match_latents(rows(activations(3)), rows(activations(4)), DiffMargins())
    assert len(found.base) == 0
    assert len(found.live_base) == LATENTS


def test_a_latent_that_is_split_has_one_partner() -> None:
    """Where two latents of the new SAE resemble one of the base, the better is its partner, the other has none."""
    values = activations(5)
    rng = np.random.default_rng(6)
    twin = values[:, 0] * (rng.random(TOKENS) < 0.9)
    other = np.concatenate([values, twin[:, None]], axis=1)
    found = match_latents(rows(values), rows(other), DiffMargins())
    assert dict(zip(found.base.tolist(), found.new.tolist(), strict=True))[0] == 0
    assert LATENTS not in found.new


def test_two_latents_that_follow_the_text_alike_are_no_pair() -> None:
    """Latents that fire on most tokens correlate after any shift as well, and are held to that."""
    ramp = np.repeat(np.linspace(0.1, 2.0, 4), TOKENS // 4)
    slow = np.tile(ramp[:: TOKENS // 4], TOKENS // 4)[:TOKENS]
    values, other = activations(7), activations(8)
    values[:, 0], other[:, 0] = slow, slow
    found = match_latents(rows(values), rows(other), DiffMargins())
    assert 0 not in found.base


def test_rare_latents_are_left_out() -> None:
    """A latent that fires on fewer tokens than the limit is not live: two rare latents agree by chance."""
    values = activations(9)
    values[:, 1] = 0.0
    values[:3, 1] = 1.0
    found = match_latents(rows(values), rows(values), DiffMargins())
    assert 1 not in found.live_base
    assert len(found.base) == LATENTS - 1
