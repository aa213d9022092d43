"""The sparse rows of a bundle, read by Arrow where a question names them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

from audit.evidence.store import ROW_COLUMNS, damaged, first_line

_TYPES = {"VARCHAR": pa.string(), "INTEGER": pa.int32(), "FLOAT": pa.float32()}
_SCHEMA = pa.schema([(name, _TYPES[kind]) for name, kind in ROW_COLUMNS.items()])


def open_rows(shards: Sequence[Path]) -> pyarrow.dataset.Dataset:
    """Return the rows of all shards, to be read when they are asked for.

    Raises:
        EvidenceError: a shard is a link, is no Parquet file, or has other columns.
    """
    for shard in shards:
        _check_schema(shard)
    return pyarrow.dataset.dataset(shards, schema=_SCHEMA, format="parquet")


def check_rows(shard: Path) -> None:
    """Read a shard to its end.

    Raises:
        EvidenceError: it is damaged.
    """
    try:
        for _ in pa.parquet.ParquetFile(shard).iter_batches():
            pass
    except (OSError, pa.ArrowException) as error:
        raise damaged(shard, first_line(error)) from error


def _check_schema(shard: Path) -> None:
    if shard.is_symlink() or shard.parent.is_symlink():
        raise damaged(shard, "a link that leads out of the bundle")
    try:
        found = pa.parquet.read_schema(shard)
    except (OSError, pa.ArrowException) as error:
        raise damaged(shard, first_line(error)) from error
    if not found.equals(_SCHEMA):
        raise damaged(shard, "columns " + ", ".join(f"{item.name} {item.type}" for item in found))
