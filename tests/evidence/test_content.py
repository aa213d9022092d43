"""A database's digests without its texts, and the new database in which texts are withheld."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from audit.errors import EvidenceError
from audit.evidence.content import read_content, text_columns, write_withheld
from audit.evidence.store import DATABASE, create_store
from audit.records import WITHHELD_PIECE, PromptText
from tests.redaction_making import findings, prompts, write_evidence


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with shards and a database."""
    folder = tmp_path_factory.mktemp("evidence") / "e"
    write_evidence(folder, findings())
    return folder


@pytest.fixture
def other(tmp_path: Path) -> Callable[..., Path]:
    """Return a maker of databases with one table `t`, filled by statements."""

    def make(*statements: str) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        with duckdb.connect(str(folder / DATABASE)) as connection:
            for statement in statements:
                connection.execute(statement)
        return folder

    return make


def test_the_prompts_are_those_that_were_written(evidence: Path) -> None:
    """Text and content pieces, ascending; template tokens are not among them."""
    expected = tuple(PromptText(number, part, text, tuple(pieces)) for number, part, text, pieces in prompts())
    assert read_content(evidence).prompts == expected


def test_texts_are_in_no_tables_digest(evidence: Path, tmp_path: Path) -> None:
    """A database with other texts in the same places has the same digests; everything else of the rows is in them."""
    before = read_content(evidence)
    (number, _, text, pieces), label = prompts()[5], next(key for key, label in before.labels.items() if label)
    write_withheld(evidence, tmp_path, prompts={number: "gone"}, labels={label: "nothing"})
    after = read_content(tmp_path)
    assert after.tables == before.tables
    assert len(after.tables) > 20
    assert after.prompts[5].text == "gone"
    assert after.prompts[5].pieces == (WITHHELD_PIECE,) * len(pieces)
    assert after.prompts[:5] + after.prompts[6:] == before.prompts[:5] + before.prompts[6:]
    assert after.labels == {**before.labels, label: "nothing"}
    data = (tmp_path / DATABASE).read_bytes()
    assert not any(word.encode() in data for word in text.split())
    assert not (tmp_path / f"{DATABASE}.wal").exists()


def test_a_digest_does_not_depend_on_how_rows_came(other: Callable[..., Path]) -> None:
    """In one statement or in many, more than a batch of them, in a file of another history."""
    made = "CREATE TABLE t (a INTEGER, b VARCHAR, c FLOAT[])"
    rows = "SELECT i::INTEGER, 'v' || (i % 700), [i, i / 3]::FLOAT[] FROM range({}, {}) r(i)"
    filled = [f"INSERT INTO t {rows.format(0, 150_000)}", f"INSERT INTO t {rows.format(150_000, 300_000)}"]
    twice = other(made, *filled, "INSERT INTO t VALUES (-1, 'x', [])", "CHECKPOINT", "DELETE FROM t WHERE a = -1")
    once = other(made, f"INSERT INTO t {rows.format(0, 300_000)}")
    assert digests(once) == digests(twice)


def digests(folder: Path) -> dict[str, str]:
    """Return the digests of tables alone: these databases are no evidence."""
    with duckdb.connect(str(folder / DATABASE)) as connection:
        for table, columns in {
            "prompt": "prompt INTEGER, concept VARCHAR, text VARCHAR",
            "token": "prompt INTEGER, position INTEGER, piece VARCHAR, content BOOLEAN",
            "node": "sae VARCHAR, latent INTEGER, kind VARCHAR, label VARCHAR",
        }.items():
            connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
    return dict(read_content(folder).tables)


ROWS = "INSERT INTO t VALUES (1, 'a', 1.5, true, [1, 2], ['x']), (2, 'b', NULL, false, [], NULL)"
MADE = "CREATE TABLE t (a INTEGER, b VARCHAR, c DOUBLE, d BOOLEAN, e INTEGER[], f VARCHAR[])"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE t SET a = 3 WHERE a = 2",
        "UPDATE t SET b = 'c' WHERE a = 2",
        "UPDATE t SET b = NULL WHERE a = 2",
        "UPDATE t SET b = '' WHERE a = 2",
        "UPDATE t SET c = 0 WHERE a = 2",
        "UPDATE t SET c = 1.5000000000000002 WHERE a = 1",
        "UPDATE t SET d = NULL WHERE a = 2",
        "UPDATE t SET e = [2, 1] WHERE a = 1",
        "UPDATE t SET e = NULL WHERE a = 2",
        "UPDATE t SET e = [NULL] WHERE a = 2",
        "UPDATE t SET f = ['x', ''] WHERE a = 1",
        "UPDATE t SET f = [] WHERE a = 2",
        "UPDATE t SET a = 3 - a",
        "DELETE FROM t WHERE a = 2",
        "INSERT INTO t SELECT * FROM t WHERE a = 2",
        "ALTER TABLE t RENAME COLUMN a TO z",
        "ALTER TABLE t ALTER COLUMN a TYPE BIGINT",
        "ALTER TABLE t ADD COLUMN g INTEGER",
    ],
)
def test_any_other_change_changes_the_digest(change: str, other: Callable[..., Path]) -> None:
    """A value, a null, an order, a row, a column, a type."""
    assert digests(other(MADE, ROWS))["t"] != digests(other(MADE, ROWS, change))["t"]


def test_values_do_not_run_into_each_other(other: Callable[..., Path]) -> None:
    """'ab' and 'c' are not 'a' and 'bc', with few different values as with many."""
    many = "INSERT INTO t SELECT 'n' || i FROM range(400) r(i)"
    for extra in ([], [many]):
        one = other("CREATE TABLE t (b VARCHAR)", "INSERT INTO t VALUES ('ab'), ('c')", *extra)
        two = other("CREATE TABLE t (b VARCHAR)", "INSERT INTO t VALUES ('a'), ('bc')", *extra)
        assert digests(one)["t"] != digests(two)["t"]


def test_values_of_any_kind_are_digested(other: Callable[..., Path]) -> None:
    """Quotes, zero bytes, NaN and an empty table."""
    made = "CREATE TABLE t (b VARCHAR, c DOUBLE)"
    hostile = other(made, "INSERT INTO t VALUES ('it''s', 'NaN'::DOUBLE), ('a' || chr(0) || 'b', 'Infinity'::DOUBLE)")
    assert digests(hostile)["t"] != digests(other(made))["t"]


def test_a_type_that_evidence_does_not_have_is_refused(other: Callable[..., Path]) -> None:
    """No silent cast: the error names the table."""
    with pytest.raises(EvidenceError, match=r"evidence\.duckdb") as caught:
        digests(other("CREATE TABLE t (a TIMESTAMP)", "INSERT INTO t VALUES ('2026-01-01')"))
    assert "table t" in caught.value.found


def test_no_database_is_an_error(tmp_path: Path) -> None:
    """Missing, damaged, or a link."""
    path = tmp_path / DATABASE
    for make in (lambda: None, lambda: path.write_bytes(bytes(9000)), lambda: path.symlink_to("x")):
        make()
        with pytest.raises(EvidenceError, match=r"evidence\.duckdb"):
            read_content(tmp_path)
        path.unlink(missing_ok=True)


def test_a_database_with_other_tables_is_not_redacted(evidence: Path, tmp_path: Path) -> None:
    """A table that this version does not know may hold texts."""
    with create_store(tmp_path):
        pass
    with duckdb.connect(str(tmp_path / DATABASE)) as connection:
        connection.execute("CREATE TABLE notes (note VARCHAR)")
    (tmp_path / "out").mkdir()
    with pytest.raises(EvidenceError) as caught:
        write_withheld(tmp_path, tmp_path / "out", prompts={}, labels={})
    assert "notes" in caught.value.found
    assert read_content(evidence).others == ()


def test_shards_hold_numbers_and_names_only(evidence: Path, tmp_path: Path) -> None:
    """A column of texts in a shard would be copied unseen: it is named."""
    assert text_columns(evidence) == []
    (tmp_path / "activations").mkdir()
    with duckdb.connect() as connection:
        target = str(tmp_path / "activations" / "x.rows.parquet")
        connection.execute(f"COPY (SELECT 1 AS prompt, 's' AS sae, 'secret' AS text) TO '{target}' (FORMAT parquet)")
    assert text_columns(tmp_path) == ["x.rows.parquet, text"]
