"""The evidence store: one DuckDB file a bundle, filled from shards by SQL, read-only once sealed."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import duckdb

from audit.errors import EvidenceError, UsageError

if TYPE_CHECKING:
    import pandas as pd

DATABASE = "evidence.duckdb"
ACTIVATIONS = "activations"
ACTIVATION_VIEW = "activation"
_ROWS = "*.rows.parquet"
_PROMPTS = "*.prompts.parquet"
# Of the view over the sparse rows, with DuckDB's types.
ROW_COLUMNS = {"sae": "VARCHAR", "prompt": "INTEGER", "position": "INTEGER", "latent": "INTEGER", "activation": "FLOAT"}
_LOADS = (
    "load_residual",
    "load_reconstruction",
    "load_prompt_feature",
    "load_feature",
    "load_sparsity",
    "load_mix_feature",
)

# Grouping the rows of a full audit in memory took 7 GB; within the limit it spills to disk beside the file. What was
# filled is read in parts after that. At rest it keeps next to nothing.
_FILLING_MEMORY, _READING_MEMORY, _RESTING_MEMORY = "1GB", "512MB", "32MB"
_NAMED = 5
_TABLES = 'Tables: select table_name from duckdb_tables(). The sparse rows are in the view "activation".'
_MISSING_TABLE = re.compile(r"Table with name (\w+) does not exist")
_MISTAKES = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException, duckdb.PermissionException)
_LOCKS = (
    "SET temp_directory = ''",
    "SET python_enable_replacements = false",
    "SET enable_external_access = false",
)

Value = str | int | float | bool | None | list[str] | list[int]
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
        writable: False opens the file read-only, as a sealed bundle is never changed, and lets it reach no other file.
    """

    def __init__(self, folder: Path, *, writable: bool = False) -> None:
        path = folder / DATABASE
        if not writable and not path.is_file():
            raise EvidenceError(
                item=str(path), expected="an evidence database", found="no file", hint="Give the folder of a bundle."
            )
        if not writable and path.is_symlink():
            raise damaged(path, "a link that leads out of the bundle")
        try:
            self._connection = duckdb.connect(
                str(path), read_only=not writable, config={"memory_limit": _FILLING_MEMORY} if writable else {}
            )
        except duckdb.Error as error:
            raise damaged(path, first_line(error)) from error
        self._folder = folder
        if not writable:
            try:
                self._shut_out()
            except EvidenceError:
                self._connection.close()
                raise

    def _shut_out(self) -> None:
        """Keep a database that somebody else wrote to its tables and to the shards beside it.

        A view could read other files, and a macro named like a function would stand in for it in every query.
        """
        path = self._folder / DATABASE
        try:
            shards = str((self._folder / ACTIVATIONS).absolute()).replace("'", "''")
            self._connection.execute(f"SET allowed_directories = ['{shards}']")
            for setting in _LOCKS:
                self._connection.execute(setting)
            [(name,)] = self._connection.execute("SELECT current_database()").fetchall()
            foreign = self._connection.execute(_sql("queries/foreign_objects.sql"), {"database": name}).fetchall()
        except duckdb.Error as error:
            raise damaged(path, first_line(error)) from error
        if foreign:
            raise damaged(path, f"what evidence has not: {', '.join(str(found) for (found,) in foreign[:_NAMED])}")

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
            import pandas as pd  # noqa: PLC0415 - half a second, which those who only read need not wait

            self._connection.append(table, pd.DataFrame(list(rows)), by_name=True)

    def ingest_shards(self) -> None:
        """Fill the tables that derive from shards."""
        shards: dict[str, Value] = {"rows": self.row_shards, "prompts": self.prompt_shards}
        for name in _LOADS:
            text = _sql(f"queries/{name}.sql")
            self._connection.execute(text, {key: shards[key] for key in shards if f"${key}" in text})
        self.checkpoint()
        self._connection.execute(f"SET memory_limit = '{_READING_MEMORY}'")

    def query(self, name: str, parameters: Parameters | None = None) -> pd.DataFrame:
        """Run the query file `queries/<name>.sql` with bound parameters and return its rows.

        Raises:
            EvidenceError: the database lacks a table that the query reads; the message names it.
        """
        try:
            return self._connection.execute(_sql(f"queries/{name}.sql"), dict(parameters or {})).df()
        except duckdb.CatalogException as error:
            raise _lacking(self._folder / DATABASE, error) from error

    def rows(self, table: str) -> list[dict[str, object]]:
        """Return the rows of a table in the order in which they were inserted, as Python values.

        Raises:
            EvidenceError: there is no such table.
        """
        try:
            found = self._connection.table(f'"{table}"').order("rowid")
            return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
        except duckdb.Error as error:
            raise damaged(self._folder / DATABASE, f"table {table}: {first_line(error)}") from error

    def rest(self) -> None:
        """Drop what was read before: nothing is asked for a while, and others need the memory."""
        for limit in (_RESTING_MEMORY, _READING_MEMORY):
            self._connection.execute(f"SET memory_limit = '{limit}'")

    def checkpoint(self) -> None:
        """Write everything into the one file, so that no write-ahead log stays beside it."""
        self._connection.execute("CHECKPOINT")


def named_query(name: str) -> str:
    """Return the SQL of a query that a report names.

    Raises:
        EvidenceError: there is no such query; the message names it and those that there are.
    """
    folder = files("audit.evidence").joinpath("sql", "queries")
    known = sorted(file.name.removesuffix(".sql") for file in folder.iterdir() if not file.name.startswith("load_"))
    if name not in known:
        raise EvidenceError(
            item=f"query {name}",
            expected=f"a query of this version: {', '.join(known)}",
            found="no such query",
            hint="Use the version of affidavit that made the report; its cover names it.",
        )
    return _sql(f"queries/{name}.sql")


def answer(folder: Path, sql: str, parameters: Parameters | None = None) -> QueryResult:
    """Run a user's SQL on a bundle's evidence, read-only and without access to anything outside the bundle.

    The tables of the database and the view `activation` (sae, prompt, position, latent, activation) over the shards
    are there; `parameters` are bound to its names.

    Raises:
        UsageError: not exactly one valid SELECT, or one that tries to write or to leave the bundle.
        EvidenceError: the folder holds no evidence, a file of it is damaged, or it lacks a table of the schema.
    """
    with open_copy(folder) as copy:
        return copy.ask(sql, parameters)


@dataclass(frozen=True, slots=True)
class EvidenceCopy:
    """A copy of sealed tables in memory that answers SELECTs of strangers; `open_copy` makes it."""

    folder: Path
    shards: tuple[Path, ...]
    connection: duckdb.DuckDBPyConnection

    def ask(self, sql: str, parameters: Parameters | None = None, *, limit_s: float | None = None) -> QueryResult:
        """Return the answer to one SELECT.

        Args:
            sql: the statement.
            parameters: bound to its names.
            limit_s: after how many seconds it is interrupted; None waits for its end.

        Raises:
            UsageError: not exactly one valid SELECT, one that tries to write or to leave the bundle, or that does not
                end within the limit.
            EvidenceError: a shard is damaged, or the database lacks a table of the schema.
        """
        statement = _only_select(self.connection, sql)
        watch = None if limit_s is None else threading.Timer(limit_s, self.connection.interrupt)
        # A SELECT may hide an INSERT in its WITH; even the copy stays what was sealed.
        self.connection.execute("BEGIN TRANSACTION READ ONLY")
        if watch is not None:
            watch.start()
        try:
            cursor = self.connection.execute(statement, dict(parameters or {}))
            columns = cursor.description or []
            zoned = [column[0] for column in columns if "TIMESTAMP WITH TIME ZONE" in str(column[1])]
            if zoned:
                raise _refused(f"column {zoned[0]} has a time zone", "Cast it to text: column::VARCHAR.")
            return QueryResult(tuple(column[0] for column in columns), tuple(cursor.fetchall()))
        except duckdb.InterruptException as error:
            raise _refused(f"no answer within {limit_s:g} s", "Ask for less, or end the recursion.") from error
        except _reading_errors(self.shards) as error:
            # The reader does not say in which file it stumbled.
            if self.shards and not isinstance(error, _MISTAKES):
                from audit.evidence.rows import check_rows  # noqa: PLC0415 - Arrow, as below

                for shard in self.shards:
                    check_rows(shard)
            if isinstance(error, duckdb.CatalogException) and _missing_table(error) in _schema_tables():
                raise _lacking(self.folder / DATABASE, error) from error
            raise _refused(first_line(error), _TABLES) from error
        finally:
            if watch is not None:
                watch.cancel()
                watch.join()
            self.connection.execute("ROLLBACK")


@contextlib.contextmanager
def open_copy(folder: Path, *, tables: Collection[str] | None = None) -> Iterator[EvidenceCopy]:
    """Yield a copy of a bundle's evidence for any number of statements.

    Args:
        folder: the bundle.
        tables: those that are copied, the view over the shards among them; None copies all.

    Raises:
        EvidenceError: the folder holds no evidence, or a file of it is damaged.
    """
    with Store(folder) as store:
        asked = tables is None or ACTIVATION_VIEW in tables
        shards = tuple(Path(shard) for shard in store.row_shards) if asked else ()
    rows = None
    if shards:
        from audit.evidence.rows import open_rows  # noqa: PLC0415 - Arrow: most questions need not wait for it

        rows = open_rows(shards)
    with contextlib.closing(duckdb.connect()) as connection:
        _load_copy(connection, folder / DATABASE, tables)
        if rows is not None:
            # Read by Arrow: a path that DuckDB itself may read is one that it may also write.
            connection.register(ACTIVATION_VIEW, rows)
        connection.execute("SET lock_configuration = true")
        yield EvidenceCopy(folder, shards, connection)


def check_statement(sql: str, *, limit_s: float) -> frozenset[str]:
    """Return the tables that one SELECT names, after running it on evidence without rows.

    Raises:
        UsageError: as `EvidenceCopy.ask`; nothing outside memory was read or written.
    """
    with contextlib.closing(duckdb.connect()) as connection:
        connection.execute(_sql("schema.sql"))
        # A table, since the binder names no view that Python registered.
        columns = ", ".join(f"{name} {kind}" for name, kind in ROW_COLUMNS.items())
        connection.execute(f"CREATE TABLE {ACTIVATION_VIEW} ({columns})")
        for setting in (*_LOCKS, "SET lock_configuration = true"):
            connection.execute(setting)
        EvidenceCopy(Path(), (), connection).ask(sql, limit_s=limit_s)
        return frozenset(connection.get_table_names(sql))


def _only_select(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    """Return the one SELECT that the text consists of; nothing is run."""
    try:
        sql.encode()  # A command line may hold bytes that are no text; DuckDB has no error of its own for them.
        statements = connection.extract_statements(sql)
    except (duckdb.Error, UnicodeEncodeError) as error:
        raise _refused(first_line(error), _TABLES) from error
    if len(statements) != 1:
        raise _refused(f"{len(statements)} statements", _TABLES)
    # EXPLAIN is refused too: EXPLAIN ANALYZE runs what it explains, a COPY for one.
    if statements[0].type != duckdb.StatementType.SELECT:
        raise _refused(f"a statement of type {statements[0].type.name}", _TABLES)
    return statements[0]


def _load_copy(connection: duckdb.DuckDBPyConnection, database: Path, wanted: Collection[str] | None) -> None:
    """Copy wanted tables, or all, of a sealed database into the memory catalogue `evidence`; shut every file away.

    DuckDB lets a statement read and write the path of an attached file, READ_ONLY or not: a SELECT with a COPY in its
    WITH would overwrite the sealed database. So the file is no longer attached when the user's statement runs.
    """
    path = str(database).replace("'", "''")
    try:
        connection.execute("ATTACH ':memory:' AS evidence")
        connection.execute(f"ATTACH '{path}' AS sealed (READ_ONLY)")
        listed = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 'sealed' AND schema_name = 'main' ORDER BY 1"
        )
        # Tables only: a view or a macro of a forged database could reach for other files here.
        for (name,) in listed.fetchall():
            if wanted is not None and name not in wanted:
                continue
            table = '"' + str(name).replace('"', '""') + '"'
            connection.execute(f"CREATE TABLE evidence.main.{table} AS SELECT * FROM sealed.main.{table}")  # noqa: S608
        # First the detaching, then the locks: a path that is attached while they fall stays open for good.
        connection.execute("DETACH sealed")
        for setting in _LOCKS:
            connection.execute(setting)
        connection.execute("SET search_path = 'memory.main,evidence.main'")
    except duckdb.Error as error:
        raise damaged(database, first_line(error)) from error


def _reading_errors(shards: Sequence[Path]) -> tuple[type[Exception], ...]:
    if not shards:
        return (duckdb.Error, OSError)
    from pyarrow import ArrowException  # noqa: PLC0415 - already imported, as there are shards

    return (duckdb.Error, OSError, ArrowException)


def damaged(path: Path, found: str) -> EvidenceError:
    """Return the error of a file that is not as it was sealed."""
    return EvidenceError(
        item=str(path), expected="evidence as it was sealed", found=found, hint="Run `affidavit verify` on the bundle."
    )


def _missing_table(error: duckdb.CatalogException) -> str:
    """Return the table that a query did not find, or nothing where the error is of another kind."""
    found = _MISSING_TABLE.search(str(error))
    return found[1] if found else ""


def _schema_tables() -> frozenset[str]:
    return frozenset(re.findall(r"^CREATE TABLE (\w+)", _sql("schema.sql"), flags=re.MULTILINE))


def _lacking(path: Path, error: duckdb.CatalogException) -> EvidenceError:
    table = _missing_table(error)
    return damaged(path, f"no table {table}" if table else first_line(error))


def _refused(found: str, hint: str) -> UsageError:
    return UsageError(item="SQL", expected="one SELECT that reads the evidence", found=found, hint=hint)


def first_line(error: Exception) -> str:
    """Return what an error of DuckDB or Arrow says, without its call stack."""
    return next(iter(str(error).splitlines()), type(error).__name__)


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
