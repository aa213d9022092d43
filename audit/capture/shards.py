"""Parquet shards: the seam between capture and evidence, written atomically and named by what they hold."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audit.digests import canonical_json, digest_bytes
from audit.errors import OutputError

ROWS_SUFFIX = ".rows.parquet"
PROMPTS_SUFFIX = ".prompts.parquet"
_ROW_COLUMNS = ("prompt", "position", "latent", "activation")


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
        neurons: (neurons,) float32, the largest value of each MLP neuron of the site's layer over the kept positions;
            empty where none were read.
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
    neurons: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, dtype=np.float32))


@dataclass(frozen=True, slots=True)
class Shard:
    """The bytes of a shard's two Parquet files."""

    rows: bytes
    prompts: bytes


def shard_key(parts: list[str]) -> str:
    """Return the name of a shard: a digest of everything that decides its content."""
    return digest_bytes(canonical_json(list(parts)))[7:23]


def is_complete(folder: Path, key: str) -> bool:
    """Tell whether both files of a shard are there; a half-written file never carries its final name."""
    return (folder / f"{key}{ROWS_SUFFIX}").is_file() and (folder / f"{key}{PROMPTS_SUFFIX}").is_file()


def joined_rows(blocks: Sequence[RowBlock]) -> RowBlock:
    """Return the rows of one SAE from several parts of a batch as one block."""
    columns = {name: np.concatenate([getattr(block, name) for block in blocks]) for name in _ROW_COLUMNS}
    return RowBlock(sae=blocks[0].sae, **columns)


def make_shard(rows: Sequence[RowBlock], moments: Sequence[SequenceMoments]) -> Shard:
    """Return the two Parquet files that hold what a batch gave."""
    names = pa.array([block.sae for block in rows], pa.string())
    owner = np.repeat(np.arange(len(rows)), [len(block.prompt) for block in rows])
    table = pa.table(
        {
            "sae": names.take(pa.array(owner)),
            **{name: np.concatenate([getattr(block, name) for block in rows]) for name in _ROW_COLUMNS},
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
            "mean": _lists([m.mean for m in moments]),
            "last": _lists([m.last for m in moments]),
            "sum_squares": pa.array([m.sum_squares for m in moments], pa.float64()),
            "sae": pa.array([sorted(m.error) for m in moments], pa.list_(pa.string())),
            "error": pa.array([[m.error[n] for n in sorted(m.error)] for m in moments], pa.list_(pa.float64())),
            "cosine": pa.array([[m.cosine[n] for n in sorted(m.cosine)] for m in moments], pa.list_(pa.float64())),
            "neurons": _lists([m.neurons for m in moments]),
        }
    )
    encoding = {"prompt": "DELTA_BINARY_PACKED", "position": "DELTA_BINARY_PACKED", "latent": "DELTA_BINARY_PACKED",
                "activation": "BYTE_STREAM_SPLIT"}  # fmt: skip
    return Shard(_parquet(table, use_dictionary=["sae"], column_encoding=encoding), _parquet(summary))


def write_shard(folder: Path, key: str, shard: Shard) -> None:
    """Write one shard's two files, the prompts last.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    _write(folder / f"{key}{ROWS_SUFFIX}", shard.rows)
    _write(folder / f"{key}{PROMPTS_SUFFIX}", shard.prompts)


def content_digest(folder: Path) -> str:
    """Return a digest of everything that the shards of a folder say, whoever wrote them and in whatever order.

    It covers values, not files: another version of the Parquet writer gives the same digest. A prompt lies in one shard
    only; the shards are taken in the order of their smallest prompt, their rows as they lie.
    """
    shards = []
    for path in folder.glob(f"*{PROMPTS_SUFFIX}"):
        smallest = min(pq.read_table(path, columns=["prompt"])["prompt"].to_pylist(), default=-1)
        shards.append((smallest, path.name.removesuffix(PROMPTS_SUFFIX)))
    total = hashlib.sha256()
    for _, key in sorted(shards):
        for suffix in (ROWS_SUFFIX, PROMPTS_SUFFIX):
            total.update(_table_digest(pq.read_table(folder / f"{key}{suffix}")))
    return f"sha256:{total.hexdigest()}"


def _table_digest(table: pa.Table) -> bytes:
    found = hashlib.sha256()
    for name in table.column_names:
        column = table[name].combine_chunks()
        found.update(canonical_json([name, str(column.type), len(column)]))
        if pa.types.is_list(column.type):
            lengths = pa.compute.list_value_length(column).to_pylist()
            column = column.flatten()
            found.update(canonical_json(lengths))
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            found.update(np.ascontiguousarray(column.to_numpy()).tobytes())
        else:
            runs = pa.compute.run_end_encode(column)
            found.update(canonical_json([runs.values.to_pylist(), runs.run_ends.to_pylist()]))
    return found.digest()


def _lists(vectors: Sequence[NDArray[np.float32]]) -> pa.ListArray:
    offsets = np.cumsum([0, *(len(vector) for vector in vectors)], dtype=np.int32)
    values = np.concatenate(vectors) if vectors else np.zeros(0, dtype=np.float32)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values, pa.float32()))


def _parquet(table: pa.Table, **options: object) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd", **options)
    return stream.getvalue()


def _write(path: Path, data: bytes) -> None:
    # Written beside its final name, synced and renamed: after a kill the file is whole or absent.
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("wb") as stream:
            stream.write(data)
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
