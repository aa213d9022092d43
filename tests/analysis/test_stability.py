"""Matching of two SAEs on dictionaries whose matches are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from audit.analysis.stability import THRESHOLD, match_seeds
from audit.records import SeedStability

LATENTS, WIDTH = 60, 48
Matrix = NDArray[np.float32]


def directions(seed: int, latents: int = LATENTS) -> Matrix:
    """Return random unit rows; in 48 dimensions a cosine of 0.7 between two of them does not happen."""
    rows = np.random.default_rng(seed).normal(size=(latents, WIDTH)).astype(np.float32)
    unit: Matrix = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def match(
    decoder: Matrix, other: Matrix, *, encoders: tuple[Matrix, Matrix] | None = None, random: Matrix | None = None
) -> SeedStability:
    """Match two decoders; without encoders the decoders stand for them."""
    mine, theirs = encoders if encoders is not None else (decoder, other)
    chance = directions(99, len(other)) if random is None else random
    return match_seeds(mine, decoder, theirs, other, chance, other="twin", other_digest="sha256:0")


def test_permuted_latents_are_all_found_again() -> None:
    """The order of latents and the length of rows carry no meaning; the record names the other and the threshold."""
    decoder = directions(1)
    order = np.random.default_rng(7).permutation(LATENTS)
    found = match(decoder, 3 * decoder[order])
    assert (found.share_decoder, found.share_both, found.random_share) == (1, 1, 0)
    assert found.median_cosine == pytest.approx(1, abs=1e-5)
    assert found.cosines == (1.0,) * LATENTS
    assert (found.other, found.other_digest, found.threshold) == ("twin", "sha256:0", THRESHOLD)


def test_a_turned_sign_is_another_latent() -> None:
    """An SAE's latents fire on one side only, so the opposite direction is no match."""
    decoder = directions(1)
    other = decoder.copy()
    other[:20] *= -1
    assert match(decoder, other).share_decoder == pytest.approx(40 / LATENTS)


def test_cosines_stand_in_the_order_of_the_own_latents() -> None:
    """Each latent is turned by its own angle and hidden by a permutation; its cosine comes back at its own place."""
    # An orthonormal basis: the noise of a latent cannot look like another one.
    basis = np.linalg.qr(np.random.default_rng(4).normal(size=(WIDTH, WIDTH)))[0].astype(np.float32)
    decoder, noise = basis[: WIDTH // 2], basis[WIDTH // 2 :]
    wanted = np.linspace(0.5, 0.99, WIDTH // 2)
    turned = wanted[:, None] * decoder + np.sqrt(1 - wanted**2)[:, None] * noise
    order = np.random.default_rng(5).permutation(len(decoder))
    found = match(decoder, turned[order].astype(np.float32))
    np.testing.assert_allclose(found.cosines, wanted, atol=6e-4)
    assert found.share_decoder == pytest.approx((wanted >= THRESHOLD).mean())
    assert found.median_cosine == pytest.approx(np.median(wanted), abs=1e-4)


def test_independent_dictionaries_share_nothing() -> None:
    """The best match of an unrelated latent is below the threshold."""
    found = match(directions(1), directions(2))
    assert found.share_decoder == found.share_both == 0
    assert 0 < found.median_cosine < THRESHOLD


def test_half_of_the_latents_replaced_is_half_found() -> None:
    """Within one latent."""
    decoder = directions(1)
    other = np.concatenate([decoder[: LATENTS // 2], directions(2, LATENTS // 2)])
    order = np.random.default_rng(8).permutation(LATENTS)
    found = match(decoder, other[order])
    assert found.share_decoder == pytest.approx(0.5, abs=1 / LATENTS)
    assert found.share_both == found.share_decoder
    assert all(cosine == 1 for cosine in found.cosines[: LATENTS // 2])
    assert all(cosine < THRESHOLD for cosine in found.cosines[LATENTS // 2 :])


@pytest.mark.parametrize("count", [20, 100])
def test_the_other_may_have_another_number_of_latents(count: int) -> None:
    """The shares are of the own latents; one that is left without a partner has cosine 0."""
    decoder = directions(1)
    other = decoder[:count] if count < LATENTS else np.concatenate([directions(2, count - LATENTS), decoder])
    found = match(decoder, other)
    assert found.share_decoder == pytest.approx(min(count, LATENTS) / LATENTS)
    assert len(found.cosines) == LATENTS
    assert sum(cosine == 0 for cosine in found.cosines) == max(0, LATENTS - count)


def test_encoders_that_disagree_lower_the_share_of_both_only() -> None:
    """The match is made on the decoders; 15 of 60 encoders that read another direction are counted out."""
    decoder = directions(1)
    order = np.random.default_rng(6).permutation(LATENTS)
    encoder = directions(3)
    theirs = encoder.copy()
    theirs[:15] = directions(4, 15)
    found = match(decoder, decoder[order], encoders=(encoder, theirs[order]))
    assert found.share_decoder == 1
    assert found.share_both == pytest.approx(45 / LATENTS)


def test_agreeing_encoders_alone_find_nothing() -> None:
    """A latent that reads the same and writes elsewhere is not found again."""
    encoder = directions(3)
    assert match(directions(1), directions(2), encoders=(encoder, encoder)).share_both == 0


def test_the_chance_level_is_the_match_with_random_directions() -> None:
    """Replacing the other decoder by the random directions gives the random share."""
    decoder = directions(1)
    random = directions(9)
    random[:7] = decoder[10:17]
    found = match(decoder, directions(2), random=random)
    assert found.random_share == match(decoder, random).share_decoder == pytest.approx(7 / LATENTS)


def test_the_match_is_one_to_one() -> None:
    """Two own latents that want the same partner share one: the best sum of cosines wins, not each latent's best."""
    decoder = directions(1, 2)
    decoder[1] = decoder[0]
    other = directions(2, 2)
    other[0] = decoder[0]
    assert match(decoder, other).share_decoder == pytest.approx(0.5)
