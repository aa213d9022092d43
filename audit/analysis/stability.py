"""Do two trainings find the same latents? One-to-one matching of two SAEs of one site."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from audit.records import SeedStability

THRESHOLD = 0.7

FloatArray = NDArray[np.float32]


def match_seeds(
    encoder: FloatArray,
    decoder: FloatArray,
    other_encoder: FloatArray,
    other_decoder: FloatArray,
    random: FloatArray,
    *,
    other: str,
    other_digest: str,
) -> SeedStability:
    """Match the latents of an SAE with those of another training (Paulo and Belrose 2025, arXiv 2501.16615).

    Args:
        encoder: (latents, d_model) of the SAE.
        decoder: likewise.
        other_encoder: (other latents, d_model) of the other training.
        other_decoder: likewise.
        random: (latents of the other, d_model) random unit directions: the chance level.
        other: name of the other training.
        other_digest: its digest.
    """
    mine, theirs, cosine = _match(decoder, other_decoder)
    encoders = _rows_of_norm_1(encoder)[mine] * _rows_of_norm_1(other_encoder)[theirs]
    found = cosine >= THRESHOLD
    both = found & (encoders.sum(axis=1) >= THRESHOLD)
    matched = np.zeros(len(decoder))
    matched[mine] = cosine
    _, _, chance = _match(decoder, random)
    return SeedStability(
        other=other,
        other_digest=other_digest,
        threshold=THRESHOLD,
        share_decoder=float(found.sum() / len(decoder)),
        share_both=float(both.sum() / len(decoder)),
        random_share=float((chance >= THRESHOLD).sum() / len(decoder)),
        median_cosine=float(np.median(matched)),
        cosines=tuple(round(float(value), 3) for value in matched),
    )


def _match(mine: FloatArray, theirs: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
    """Return the one-to-one pairs of rows with the largest summed cosine, and their cosines."""
    cosines = _rows_of_norm_1(mine) @ _rows_of_norm_1(theirs).T
    rows, columns = linear_sum_assignment(cosines, maximize=True)
    return rows, columns, cosines[rows, columns]


def _rows_of_norm_1(rows: FloatArray) -> FloatArray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    normal: FloatArray = rows / np.maximum(norms, 1e-12)
    return normal
