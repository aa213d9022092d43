"""An evidence database with its texts apart from the rest, and a new one in which texts are withheld.

The digest of a table covers its name, its columns and types, and every row in the order in which it lies, so that it
does not depend on the file: another version of DuckDB writes other bytes and the same digest.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from audit.digests import Json, canonical_json
from audit.errors import EvidenceError, TooLarge
from audit.evidence.store import ACTIVATIONS, DATABASE
from audit.records import WITHHELD_PIECE, EvidenceContent, PromptText

# Nothing is spilt: a file with texts beside a copy would outlive a killed process.
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {"memory_limit": "512MB", "temp_directory": ""}
# Texts, which have leaves of their own; a node's label is a label of findings.json.
_BARE = {
    ("prompt", "text"): "''",
    ("token", "piece"): "CASE WHEN content THEN '' ELSE piece END",
    ("node", "label"): "CASE WHEN kind = 'feature' THEN '' ELSE label END",
}
_WITHHOLDING = {"prompt": "withhold_prompt", "token": "withhold_token", "node": "withhold_node"}
# A column of few different texts is hashed as their sorted list and one byte a row: SAE names over 59 million rows.
_MOST_CODES = 255
_SEALED = {"database": "sealed"}
_PROMPTS_AT_ONCE, _ROWS_AT_ONCE = 5_000, 500_000
# The columns of shards that hold words: which site, which SAE.
_NAMES = frozenset({"site", "sae"})


def read_content(folder: Path) -> EvidenceContent:
    """Return what the evidence database of a folder holds, its texts apart.

    Raises:
        EvidenceError: there is none, it is a link or damaged, or a column has a type that evidence does not have.
        TooLarge: it needs more memory than is allowed here.
    """
    path = _database(folder)
    try:
        with contextlib.closing(duckdb.connect(config=_SETTINGS)) as connection:
            _attach(connection, path, "sealed", read_only=True)
            # Whatever a forged database holds, it reaches no other file.
            connection.execute("SET enable_external_access = false")
            tables = {name: _table_digest(connection, name) for name in _tables(connection)}
            others = tuple(str(name) for (name,) in connection.execute(_sql("foreign_objects"), _SEALED).fetchall())
            connection.execute("USE sealed")
            prompts = _read_prompts(connection)
            nodes = connection.execute(_sql("node_labels")).fetchall()
    except duckdb.OutOfMemoryException as error:
        raise _too_large(path, error) from error
    except (duckdb.Error, pa.ArrowException) as error:
        raise _damaged(path, str(error).partition("\n")[0]) from error
    try:
        return EvidenceContent(
            tables=tables,
            prompts=tuple(PromptText(int(n), _text(part), _text(text), _pieces(own)) for n, part, text, own in prompts),
            labels={(_text(sae), int(latent)): _text(label) for sae, latent, label in nodes},
            others=others,
        )
    except TypeError as error:
        raise _damaged(path, f"a text that is none: {error}") from error


def text_columns(folder: Path) -> list[str]:
    """Return the columns of texts in the shards of a folder beside the names of sites and SAEs: `file, column`.

    Raises:
        EvidenceError: a shard cannot be read.
    """
    found: list[str] = []
    for path in sorted((folder / ACTIVATIONS).glob("*")):
        try:
            # As a stream: pyarrow takes no path whose bytes are not UTF-8.
            with path.open("rb") as stream:
                schema = pa.parquet.read_schema(stream)
        except (OSError, pa.ArrowException) as error:
            raise _damaged(path, str(error).partition("\n")[0]) from error
        found += [
            f"{path.name}, {item.name}" for item in schema if item.name not in _NAMES and not _is_number(item.type)
        ]
    return found


def write_withheld(
    source: Path, target: Path, *, prompts: Mapping[int, str], labels: Mapping[tuple[str, int], str]
) -> None:
    """Write a new database with the rows of another, in which some texts are replaced.

    A new file: in one from which texts were deleted, they may still lie in free blocks.

    Args:
        source: the folder of the database.
        target: the folder of the new one, which has none.
        prompts: number -> what stands for its text; a black square stands for each of its content tokens.
        labels: (SAE, latent) -> what stands for the label of the feature's node.

    Raises:
        EvidenceError: the database is damaged, or has other tables than this version writes.
        TooLarge: it needs more memory than is allowed here.
        OSError: the new file cannot be written.
    """
    path = _database(source)
    try:
        with contextlib.closing(duckdb.connect(config=_SETTINGS)) as connection:
            _attach(connection, path, "sealed", read_only=True)
            _attach(connection, target / DATABASE, "copy", read_only=False)
            connection.execute("USE copy")
            connection.execute(files("audit.evidence").joinpath("sql", "schema.sql").read_text(encoding="utf-8"))
            made = {name: _columns(connection, name, database="copy") for name in _tables(connection, database="copy")}
            held = {name: _columns(connection, name) for name in _tables(connection)}
            if made != held:
                odd = sorted(name for name in {*made, *held} if made.get(name) != held.get(name))
                raise _damaged(path, f"other tables or columns than this version writes: {', '.join(odd)}")
            stand_ins = pd.DataFrame({"prompt": list(prompts), "text": list(prompts.values())})
            labelled = pd.DataFrame(
                {"sae": [s for s, _ in labels], "latent": [n for _, n in labels], "label": list(labels.values())}
            )
            connection.register("stand_in", stand_ins.astype({"prompt": "int32", "text": "object"}))
            connection.register("node_label", labelled.astype({"sae": "object", "latent": "int32", "label": "object"}))
            for name in made:
                _copy_rows(connection, name)
            connection.execute("CHECKPOINT copy")
            connection.execute("USE memory")
            connection.execute("DETACH copy")
    except duckdb.OutOfMemoryException as error:
        raise _too_large(path, error) from error
    except duckdb.IOException as error:
        raise OSError(str(error).partition("\n")[0]) from error
    except (duckdb.Error, pa.ArrowException) as error:
        raise _damaged(path, str(error).partition("\n")[0]) from error


def _copy_rows(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Copy the rows of a table in their order, with the texts that are registered in the places of others."""
    target, source = f"copy.main.{_quoted(table)}", f"sealed.main.{_quoted(table)}"
    if table not in _WITHHOLDING:
        connection.execute(f"INSERT INTO {target} BY NAME FROM {source}")
        return
    query = _sql(_WITHHOLDING[table])
    given: dict[str, str | int] = {"piece": WITHHELD_PIECE} if "$piece" in query else {}
    last = connection.execute(f"SELECT max(rowid) FROM {source}").fetchall()[0][0]  # noqa: S608 - its own tables
    for first in range(0, -1 if last is None else last + 1, _ROWS_AT_ONCE):
        given |= {"first": first, "last": first + _ROWS_AT_ONCE - 1}
        connection.execute(f"INSERT INTO {target} BY NAME {query}", given)


def _read_prompts(connection: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    """Return number, part, text and pieces of every prompt, some at a time: what is sorted fits into memory."""
    listed = connection.execute(_sql("prompt_numbers")).fetchall()
    numbers: list[int] = [number for (number,) in listed]
    rows: list[tuple[Any, ...]] = []
    for start in range(0, len(numbers), _PROMPTS_AT_ONCE):
        part = numbers[start : start + _PROMPTS_AT_ONCE]
        rows += connection.execute(_sql("prompt_texts"), {"first": part[0], "last": part[-1]}).fetchall()
    return rows


@dataclass(slots=True)
class _ColumnDigest:
    """The running digest of a column: values, and where they are missing; of a list, lengths and a child."""

    rows: int = 0
    missing: list[int] = field(default_factory=list)
    values: hashlib._Hash = field(default_factory=hashlib.sha256)
    lengths: hashlib._Hash = field(default_factory=hashlib.sha256)
    child: _ColumnDigest | None = None

    def update(self, array: pa.Array) -> None:
        """Take in the next rows, whatever their number: batches leave no trace in the digest."""
        if pa.types.is_dictionary(array.type):
            array = array.indices
        if array.null_count:
            self.missing += (np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)) + self.rows).tolist()
        self.rows += len(array)
        kind = array.type
        if pa.types.is_list(kind):
            self.lengths.update(_numbers(pc.fill_null(pc.list_value_length(array), 0), np.dtype("<i8")))
            self.child = self.child or _ColumnDigest()
            self.child.update(array.flatten())
        elif pa.types.is_string(kind):
            binary = pc.fill_null(array, "").cast(pa.large_binary())
            self.lengths.update(_numbers(pc.binary_length(binary), np.dtype("<i8")))
            self.values.update(b"".join(binary.to_pylist()))
        elif pa.types.is_boolean(kind):
            self.values.update(_numbers(pc.fill_null(array, False).cast(pa.uint8()), np.dtype("u1")))
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
            filled = pc.fill_null(array, 0) if array.null_count else array
            self.values.update(_numbers(filled, np.dtype(kind.to_pandas_dtype()).newbyteorder("<")))
        else:
            raise TypeError(f"type {kind}")

    def as_json(self) -> Json:
        """Return everything that was taken in, by digest."""
        child = None if self.child is None else self.child.as_json()
        return [self.rows, list(self.missing), self.values.hexdigest(), self.lengths.hexdigest(), child]


def _table_digest(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    columns = _columns(connection, table)
    expressions: list[str] = []
    codes: dict[str, Json] = {}
    for name, kind in columns:
        expression = _BARE.get((table, name), _quoted(name))
        if kind == "VARCHAR":
            distinct = connection.execute(
                f"SELECT DISTINCT {expression} FROM sealed.main.{_quoted(table)}"  # noqa: S608 - its own tables
                f" WHERE ({expression}) IS NOT NULL LIMIT {_MOST_CODES + 1}"
            ).fetchall()
            values = sorted(str(value) for (value,) in distinct)
            # A zero byte cannot stand in a statement.
            if 0 < len(values) <= _MOST_CODES and not any("\0" in value for value in values):
                codes[name] = [*values]
                listed = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
                expression = f"({expression})::ENUM({listed})"
        expressions.append(f"{expression} AS {_quoted(name)}")
    parts = [_ColumnDigest() for _ in columns]
    # The database preserves the order of insertion, so that rows come as they lie.
    rows = connection.sql(f"SELECT {', '.join(expressions)} FROM sealed.main.{_quoted(table)}")  # noqa: S608
    for batch in pa.RecordBatchReader.from_stream(rows):
        for part, array in zip(parts, batch.columns, strict=True):
            try:
                part.update(array)
            except TypeError as error:
                raise duckdb.Error(f"table {table}: {error}") from error
    value: Json = [
        table,
        [[name, kind, codes.get(name), part.as_json()] for (name, kind), part in zip(columns, parts, strict=True)],
    ]
    return f"sha256:{hashlib.sha256(canonical_json(value)).hexdigest()}"


def _tables(connection: duckdb.DuckDBPyConnection, *, database: str = "sealed") -> list[str]:
    query = "SELECT table_name FROM duckdb_tables() WHERE database_name = ? AND schema_name = 'main' ORDER BY 1"
    return [str(name) for (name,) in connection.execute(query, [database]).fetchall()]


def _columns(connection: duckdb.DuckDBPyConnection, table: str, *, database: str = "sealed") -> list[tuple[str, str]]:
    query = (
        "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = ? AND schema_name = 'main'"
        " AND table_name = ? ORDER BY column_index"
    )
    return [(str(name), str(kind)) for name, kind in connection.execute(query, [database, table]).fetchall()]


def _attach(connection: duckdb.DuckDBPyConnection, path: Path, name: str, *, read_only: bool) -> None:
    text = str(path).replace("'", "''")
    connection.execute(f"ATTACH '{text}' AS {name}{' (READ_ONLY)' if read_only else ''}")


def _numbers(array: pa.Array, kind: np.dtype[np.generic]) -> bytes:
    values = array.to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values, dtype=kind).tobytes()


def _is_number(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return _is_number(kind.value_type)
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where a text belongs")
    return value


def _pieces(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{type(value).__name__} where pieces belong")
    return tuple(_text(piece) for piece in value)


def _database(folder: Path) -> Path:
    path = folder / DATABASE
    if path.is_symlink() or not path.is_file():
        raise _damaged(path, "a link" if path.is_symlink() else "no file")
    return path


def _damaged(path: Path, found: str) -> EvidenceError:
    return EvidenceError(
        item=path.name,
        expected="an evidence database as it was sealed",
        found=found[:300],
        hint="Run `affidavit verify` on the bundle, or get an intact copy of it.",
    )


def _too_large(path: Path, error: Exception) -> TooLarge:
    return TooLarge(
        item=path.name,
        expected=f"a database that can be read within {_SETTINGS['memory_limit']} of memory",
        found=str(error).partition("\n")[0][:300],
        hint="This is a limit of the tool. Audit fewer prompts in one bundle.",
    )


def _sql(name: str) -> str:
    return files("audit.evidence").joinpath("sql", "queries", f"{name}.sql").read_text(encoding="utf-8")
