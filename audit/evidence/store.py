"""The evidence store: one DuckDB file a bundle, filled from shards by SQL, read-only once sealed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb
import pandas as pd

from audit.errors import EvidenceError, UsageError

DATABASE = "evidence.duckdb"
ACTIVATIONS = "activations"
_ROWS = "*.rows.parquet"
_PROMPTS = "*.prompts.parquet"
_ROW_COLUMNS = "sae, prompt, position, latent, activation"
_LOADS = ("load_residual", "load_reconstruction", "load_prompt_feature", "load_feature", "load_sparsity")

Value = str | int | float | bool | None | list[str]
Parameters = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The answer to a query: column names and rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


class Store:
    """An open evidence database with the shards beside it.

    Args:
        folder: the bundle's folder; the database is `evidence.duckdb` in it, the shards lie in `activations/`.
        writable: False opens the file read-only: a sealed bundle is never changed.
    """

    def __init__(self, folder: Path, *, writable: bool = False) -> None:
        path = folder / DATABASE
        if not writable and not path.is_file():
            raise EvidenceError(
                item=str(path), expected="an evidence database", found="no file", hint="Give the folder of a bundle."
            )
        try:
            self._connection = duckdb.connect(str(path), read_only=not writable)
        except duckdb.Error as error:
            raise EvidenceError(
                item=str(path), expected="a DuckDB file", found=str(error).splitlines()[0], hint="Verify the bundle."
            ) from error
        self._folder = folder

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def row_shards(self) -> list[str]:
        """Return the paths of all row shards, sorted by name."""
        return [str(path) for path in sorted((self._folder / ACTIVATIONS).glob(_ROWS))]

    @property
    def prompt_shards(self) -> list[str]:
        """Return the paths of all prompt shards, sorted by name."""
        return [str(path) for path in sorted((self._folder / ACTIVATIONS).glob(_PROMPTS))]

    def create_schema(self) -> None:
        """Create every table of `sql/schema.sql` in an empty database."""
        self._connection.execute(_sql("schema.sql"))

    def insert(self, table: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Append rows to a table; their keys are the table's columns, in any order."""
        if rows:
            self._connection.append(table, pd.DataFrame(list(rows)), by_name=True)

    def ingest_shards(self) -> None:
        """Fill the tables that derive from shards."""
        shards: dict[str, Value] = {"rows": self.row_shards, "prompts": self.prompt_shards}
        for name in _LOADS:
            text = _sql(f"queries/{name}.sql")
            self._connection.execute(text, {key: shards[key] for key in shards if f"${key}" in text})

    def query(self, name: str, parameters: Parameters | None = None) -> pd.DataFrame:
        """Run the query file `queries/<name>.sql` with bound parameters and return its rows."""
        return self._connection.execute(_sql(f"queries/{name}.sql"), dict(parameters or {})).df()

    def checkpoint(self) -> None:
        """Write everything into the one file, so that no write-ahead log stays beside it."""
        self._connection.execute("CHECKPOINT")


def answer(folder: Path, sql: str) -> QueryResult:
    """Run a user's SQL on a bundle's evidence, read-only and without access to anything outside the bundle.

    The tables of the database and the view `activation` (sae, prompt, position, latent, activation) over the shards
    are there.

    Raises:
        UsageError: the statement is not valid, or tries to write or to leave the bundle.
        EvidenceError: the folder holds no evidence.
    """
    with Store(folder) as store:
        shards = store.row_shards
    # An in-memory database in front: the view over the shards must not need a write to the sealed file.
    with contextlib.closing(duckdb.connect()) as connection:
        path = str(folder / DATABASE).replace("'", "''")
        connection.execute(f"ATTACH '{path}' AS evidence (READ_ONLY)")
        listed = ", ".join("'" + shard.replace("'", "''") + "'" for shard in shards)
        if shards:
            # The bundle's own paths, quoted: a view cannot take bound parameters.
            view = f"CREATE VIEW activation AS SELECT {_ROW_COLUMNS} FROM read_parquet([{listed}])"  # noqa: S608
            connection.execute(view)
            connection.execute(f"SET allowed_paths = [{listed}, '{path}']")
        connection.execute("SET search_path = 'memory.main,evidence.main'")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        try:
            cursor = connection.execute(sql)
            columns = tuple(column[0] for column in cursor.description or ())
            return QueryResult(columns, tuple(cursor.fetchall()))
        except duckdb.Error as error:
            raise UsageError(
                item="SQL",
                expected="one statement that reads the evidence",
                found=str(error).splitlines()[0],
                hint='Tables: select table_name from duckdb_tables(). The sparse rows are in the view "activation".',
            ) from error


@contextlib.contextmanager
def create_store(folder: Path) -> Iterator[Store]:
    """Create an empty evidence database in a folder that has none, and close it complete."""
    (folder / DATABASE).unlink(missing_ok=True)
    with Store(folder, writable=True) as store:
        store.create_schema()
        yield store
        store.checkpoint()


def _sql(name: str) -> str:
    return files("audit.evidence").joinpath("sql", name).read_text(encoding="utf-8")
