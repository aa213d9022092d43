"""Parquet shards: the seam between capture and evidence, written atomically and named by what they hold."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audit.digests import canonical_json, digest_bytes
from audit.errors import OutputError

ROWS_SUFFIX = ".rows.parquet"
PROMPTS_SUFFIX = ".prompts.parquet"


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Sparse activations of some prompts through one SAE: five aligned arrays.

    Args:
        sae: the SAE's name.
        prompt: int32, position: int32 within the prompt (template included), latent: int32, activation: float32.
    """

    sae: str
    prompt: NDArray[np.int32]
    position: NDArray[np.int32]
    latent: NDArray[np.int32]
    activation: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SequenceMoments:
    """What one forward pass says of one prompt at one site, kept positions only, besides the sparse rows.

    Args:
        mean: (d_model,) float32, mean residual over the kept positions.
        last: (d_model,) float32, residual at the last kept position, where the model has read the whole text.
        sum_squares: sum of squared residual norms.
        error, cosine: per SAE name: squared reconstruction error, and summed cosine of residual and reconstruction.
    """

    site: str
    prompt: int
    tokens: int
    content: int
    outliers: int
    kept: int
    mean: NDArray[np.float32]
    last: NDArray[np.float32]
    sum_squares: float
    error: dict[str, float]
    cosine: dict[str, float]


def shard_key(parts: list[str]) -> str:
    """Return the name of a shard: a digest of everything that decides its content."""
    return digest_bytes(canonical_json(list(parts)))[7:23]


def is_complete(folder: Path, key: str) -> bool:
    """Tell whether both files of a shard are there; a half-written file never carries its final name."""
    return (folder / f"{key}{ROWS_SUFFIX}").is_file() and (folder / f"{key}{PROMPTS_SUFFIX}").is_file()


def write_shard(folder: Path, key: str, rows: Sequence[RowBlock], moments: Sequence[SequenceMoments]) -> None:
    """Write one shard's two files, the prompts last.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    table = pa.table(
        {
            "sae": pa.array(
                np.repeat([block.sae for block in rows], [len(block.prompt) for block in rows]), pa.string()
            ),
            "prompt": np.concatenate([block.prompt for block in rows]),
            "position": np.concatenate([block.position for block in rows]),
            "latent": np.concatenate([block.latent for block in rows]),
            "activation": np.concatenate([block.activation for block in rows]),
        }
    )
    summary = pa.table(
        {
            "site": pa.array([m.site for m in moments], pa.string()),
            "prompt": pa.array([m.prompt for m in moments], pa.int32()),
            "tokens": pa.array([m.tokens for m in moments], pa.int32()),
            "content": pa.array([m.content for m in moments], pa.int32()),
            "outliers": pa.array([m.outliers for m in moments], pa.int32()),
            "kept": pa.array([m.kept for m in moments], pa.int32()),
            "mean": pa.array([m.mean.tolist() for m in moments], pa.list_(pa.float32())),
            "last": pa.array([m.last.tolist() for m in moments], pa.list_(pa.float32())),
            "sum_squares": pa.array([m.sum_squares for m in moments], pa.float64()),
            "sae": pa.array([sorted(m.error) for m in moments], pa.list_(pa.string())),
            "error": pa.array([[m.error[n] for n in sorted(m.error)] for m in moments], pa.list_(pa.float64())),
            "cosine": pa.array([[m.cosine[n] for n in sorted(m.cosine)] for m in moments], pa.list_(pa.float64())),
        }
    )
    encoding = {"prompt": "DELTA_BINARY_PACKED", "position": "DELTA_BINARY_PACKED", "latent": "DELTA_BINARY_PACKED",
                "activation": "BYTE_STREAM_SPLIT"}  # fmt: skip
    _write(folder / f"{key}{ROWS_SUFFIX}", table, use_dictionary=["sae"], column_encoding=encoding)
    _write(folder / f"{key}{PROMPTS_SUFFIX}", summary)


def _write(path: Path, table: pa.Table, **options: object) -> None:
    # Written beside its final name, synced and renamed: after a kill the file is whole or absent.
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("wb") as stream:
            pq.write_table(table, stream, compression="zstd", **options)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise OutputError(
            item=str(path.name),
            expected="room to write a shard",
            found=str(error.strerror),
            hint="Free space and run again.",
        ) from error
