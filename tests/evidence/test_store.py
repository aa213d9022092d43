"""The evidence store on small shards with known answers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from audit.arrays import NeuronScores
from audit.capture.shards import RowBlock, SequenceMoments, make_shard, write_shard
from audit.errors import EvidenceError, OutputError, UsageError
from audit.evidence import scores
from audit.evidence.store import ACTIVATIONS, DATABASE, Store, answer, create_store
from audit.records import Quantile
from probes.schema import Arm, Split

SAE = "s"
SITE = "resid_post.1"
# Two scenarios in two frames, each with its arms concept and control.
PROMPTS = {
    0: ("a", "concept", "f1"), 1: ("a", "concept", "f2"), 2: ("a", "control", "f1"), 3: ("a", "control", "f2"),
    4: ("b", "concept", "f1"), 5: ("b", "concept", "f2"), 6: ("b", "control", "f1"), 7: ("b", "control", "f2"),
}  # fmt: skip
# columns: prompt, position, latent, activation
ROWS = [
    (0, 1, 7, 1.0), (0, 2, 7, 4.0), (1, 1, 7, 2.0), (2, 1, 7, 1.0), (3, 1, 9, 5.0), (6, 2, 7, 3.0), (4, 1, 11, 0.5),
]  # fmt: skip
KEPT = 3


# Of two neurons the largest value in each prompt: the first fires as latent 7 does, the second is never above zero.
NEURONS = {
    0: (4.0, -0.5), 1: (2.0, -0.25), 2: (1.0, -0.5), 3: (0.0, -0.75),
    4: (0.0, -1.0), 5: (0.0, 0.0), 6: (3.0, -2.0), 7: (0.0, -1.0),
}  # fmt: skip


def moments(prompt: int) -> SequenceMoments:
    """Return moments with values that follow from the prompt's number."""
    mean = np.array([prompt, 1.0], dtype=np.float32)
    neurons = np.array(NEURONS[prompt], dtype=np.float32)
    return SequenceMoments(SITE, prompt, 6, 4, 1, KEPT, mean, mean * 2, 100.0, {SAE: 2.0}, {SAE: 2.7}, neurons)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a folder with shards and an evidence database over them."""
    (tmp_path / ACTIVATIONS).mkdir()
    for key, part in (("k1", range(4)), ("k2", range(4, 8))):
        rows = [row for row in ROWS if row[0] in part]
        prompt, position, latent, activation = (np.array(column) for column in zip(*rows, strict=True))
        block = RowBlock(
            SAE,
            prompt.astype(np.int32),
            position.astype(np.int32),
            latent.astype(np.int32),
            activation.astype(np.float32),
        )
        write_shard(tmp_path / ACTIVATIONS, key, make_shard([block], [moments(n) for n in part]))
    with create_store(tmp_path) as store:
        store.insert(
            "suite",
            [
                {
                    "suite": "u",
                    "title": "U",
                    "domain": "d",
                    "version": "1",
                    "digest": "x",
                    "subset": None,
                    "withheld": False,
                }
            ],
        )
        store.insert("concept", [{"concept": "c", "suite": "u", "domain": "d", "title": "C", "frames": 2}])
        store.insert(
            "scenario", [{"scenario": s, "concept": "c", "split": "discovery", "number": n} for n, s in enumerate("ab")]
        )
        store.insert(
            "prompt",
            [
                {"prompt": n, "concept": "c", "scenario": s, "split": "discovery", "arm": arm, "frame": f, "text": "t"}
                for n, (s, arm, f) in PROMPTS.items()
            ],
        )
        store.insert(
            "token",
            [
                {"prompt": prompt, "position": n, "piece": piece, "content": n > 0}
                for prompt in PROMPTS
                for n, piece in enumerate(["<", "x", " y", " z"])
            ],
        )
        store.ingest_shards()
    return tmp_path


def read(bundle: Path) -> scores.ScenarioScores:
    """Return the discovery scores of concept against control."""
    with Store(bundle) as store:
        return scores.read_scores(
            store, sae=SAE, concept="c", split=Split.DISCOVERY, arm=Arm.CONCEPT, baseline=Arm.CONTROL
        )


def test_scores_are_means_over_frames_of_differences_of_maxima(bundle: Path) -> None:
    """a: latent 7 is (4 - 1)/2 + (2 - 0)/2 = 2.5, latent 9 is -2.5. b: latent 7 is -1.5, latent 11 is 0.25."""
    found = read(bundle)
    assert found.latents.tolist() == [7, 9, 11]
    np.testing.assert_allclose(found.score, [[2.5, -2.5, 0.0], [-1.5, 0.0, 0.25]])
    np.testing.assert_allclose(found.firing, [[0.5, -0.5, 0.0], [-0.5, 0.0, 0.5]])
    assert found.fired.tolist() == [2, 1, 1]


def read_neuron_scores(bundle: Path, *, arm: Arm = Arm.CONCEPT, concept: str = "c") -> NeuronScores:
    """Return the discovery scores of the neurons, an arm against control."""
    with Store(bundle) as store:
        neurons = scores.read_neurons(store, site=SITE)
    assert neurons is not None
    assert (neurons.largest.shape, neurons.largest.dtype) == ((8, 2), np.float32)
    return scores.neuron_scores(neurons, concept=concept, split=Split.DISCOVERY, arm=arm, baseline=Arm.CONTROL)


def test_neurons_are_scored_as_latents_are(bundle: Path) -> None:
    """The first neuron scores what latent 7 does: 2.5 and -1.5. The second: (0 + 0.5)/2 and (1 + 1)/2."""
    found, latents = read_neuron_scores(bundle), read(bundle)
    np.testing.assert_array_equal(found.scenarios, latents.scenarios)
    np.testing.assert_allclose(found.score, [[2.5, 0.25], [-1.5, 1.0]])
    np.testing.assert_array_equal(found.score[:, 0], latents.score[:, 0])
    assert found.score.dtype == np.float64


def test_neurons_are_paired_on_the_scenarios_of_the_latents(bundle: Path) -> None:
    """A scenario without one of the arms is left out, an outcome question is no prompt of a scenario's arm."""
    question = "INSERT INTO prompt VALUES (8, 'c', 'a', 'discovery', 'concept', 'outcome', 't')"
    with duckdb.connect(str(bundle / DATABASE)) as connection:
        connection.execute("UPDATE prompt SET arm = 'cue' WHERE prompt IN (2, 3)")
        connection.execute(question)
    found, latents = read_neuron_scores(bundle), read(bundle)
    assert found.scenarios.tolist() == latents.scenarios.tolist() == [1]
    np.testing.assert_allclose(found.score, [[-1.5, 1.0]])
    assert read_neuron_scores(bundle, arm=Arm.CUE_FREE).score.shape == (0, 2)
    assert read_neuron_scores(bundle, concept="other").score.shape == (0, 2)


def test_a_site_without_neurons_has_none(bundle: Path) -> None:
    """Nothing was read at another site, nor where the shards hold empty lists."""
    with Store(bundle) as store:
        assert scores.read_neurons(store, site="resid_post.0") is None
        for path in map(Path, store.prompt_shards):
            table = pa.parquet.read_table(path)
            place = table.column_names.index("neurons")
            silent = pa.array([[]] * len(table), pa.list_(pa.float32()))
            pa.parquet.write_table(table.set_column(place, "neurons", silent), path)
        assert scores.read_neurons(store, site=SITE) is None


def test_residual_differences_are_averaged_over_frames(bundle: Path) -> None:
    """Prompts 0 and 1 against 2 and 3 differ by -2 in the first coordinate, and last is twice the mean."""
    with Store(bundle) as store:
        found = scores.read_residuals(
            store, site=SITE, concept="c", split=Split.DISCOVERY, arm=Arm.CONCEPT, baseline=Arm.CONTROL
        )
    np.testing.assert_allclose(found.mean, [[-2.0, 0.0], [-2.0, 0.0]])
    np.testing.assert_allclose(found.last, [[-4.0, 0.0], [-4.0, 0.0]])


def test_a_split_without_scenarios_is_empty(bundle: Path) -> None:
    """No confirmation scenario: no row, no crash."""
    with Store(bundle) as store:
        found = scores.read_scores(
            store, sae=SAE, concept="c", split=Split.CONFIRMATION, arm=Arm.CONCEPT, baseline=Arm.CONTROL
        )
    assert found.score.shape == (0, 0)


def test_fidelity_is_about_the_mean(bundle: Path) -> None:
    """The total variance subtracts the mean: 800 minus 24 tokens times the squared norm of the centre."""
    with Store(bundle) as store:
        found = scores.read_fidelity(store, sae=SAE)
    assert found.tokens == 8 * KEPT
    assert found.total_variance == pytest.approx(800 - 24 * (3.5**2 + 1))
    assert found.error == pytest.approx(16.0)
    assert found.cosine == pytest.approx(8 * 2.7 / 24)
    # Seven rows on seven token positions; the other kept tokens are silent and count as 0.
    assert found.l0_mean == pytest.approx(7 / 24)


def test_predicting_the_mean_explains_nothing(tmp_path: Path) -> None:
    """An SAE whose error is the distance to the mean has FVU 1."""
    (tmp_path / ACTIVATIONS).mkdir()
    x = np.array([[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]])
    block = RowBlock(SAE, *(np.array([0], dtype=np.int32) for _ in range(3)), np.array([1.0], dtype=np.float32))
    error = float(((x - x.mean(axis=0)) ** 2).sum())
    item = SequenceMoments(
        SITE,
        0,
        3,
        3,
        0,
        3,
        x.mean(axis=0).astype(np.float32),
        x[-1].astype(np.float32),
        float((x**2).sum()),
        {SAE: error},
        {SAE: 1.0},
    )
    write_shard(tmp_path / ACTIVATIONS, "k", make_shard([block], [item]))
    with create_store(tmp_path) as store:
        row = {
            "prompt": 0,
            "concept": "c",
            "scenario": "a",
            "split": "discovery",
            "arm": "concept",
            "frame": "f",
            "text": "t",
        }
        store.insert("prompt", [row])
        store.ingest_shards()
        found = scores.read_fidelity(store, sae=SAE)
    assert found.error / found.total_variance == pytest.approx(1.0)


def test_contexts_show_own_tokens_with_activations(bundle: Path) -> None:
    """The template token is left out; silent tokens read 0; one prompt a scenario, strongest first.

    Contexts come from the confirmation split.
    """
    with duckdb.connect(str(bundle / DATABASE)) as connection:
        connection.execute("UPDATE prompt SET split = 'confirmation'")
    with Store(bundle) as store:
        found = scores.read_contexts(store, sae=SAE, latents=[9, 7, 5], most=3)
        strongest = scores.read_contexts(store, sae=SAE, latents=[7], most=1)
    assert [context.prompt for context in found[7]] == ["0", "6"]
    assert [(t.text, t.activation) for t in found[7][0].tokens] == [("x", 1.0), (" y", 4.0), (" z", 0.0)]
    assert [(c.prompt, c.arm, c.tokens[0].activation) for c in found[9]] == [("3", "control", 5.0)]
    assert found[5] == ()
    assert [c.quantile for c in found[7]] == [Quantile.TOP, Quantile.TOP]
    # With one on top, the weaker of two scenarios stands for the last tenth.
    assert [(c.prompt, c.quantile) for c in strongest[7]] == [("0", Quantile.TOP), ("6", Quantile.LOW)]


def test_counts_of_excluded_tokens(bundle: Path) -> None:
    """48 tokens: 16 of the template, 8 outliers, 24 kept."""
    with Store(bundle) as store:
        counts = scores.read_exclusions(store, site=SITE)
    assert (counts.total, counts.template, counts.outliers, counts.kept) == (48, 16, 8, 24)


def test_sql_reads_tables_and_activations(bundle: Path) -> None:
    """A user's statement sees the tables and the sparse rows."""
    result = answer(bundle, "SELECT latent, count(*) AS n FROM activation GROUP BY latent ORDER BY latent")
    assert result.columns == ("latent", "n")
    assert result.rows == ((7, 5), (9, 1), (11, 1))
    assert answer(bundle, "SELECT count(*) FROM prompt").rows == ((8,),)


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder."""
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    "statement",
    [
        # Of another kind than SELECT.
        "DROP TABLE evidence.prompt",
        "INSERT INTO evidence.suite VALUES ('a','b','c','d','e')",
        "WITH x AS (SELECT 'a') INSERT INTO suite SELECT *, 'b', 'c', 'd', 'e' FROM x",
        "UPDATE evidence.suite SET title = 'x'",
        "DELETE FROM evidence.suite",
        "CREATE TABLE x AS SELECT 1",
        "CREATE VIEW x AS SELECT 1",
        "COPY (SELECT 1) TO '{shard}' {parquet}",
        "COPY (SELECT 1) TO '{database}' {csv}",
        "COPY (SELECT 1) TO '{folder}/new.csv'",
        "EXPORT DATABASE '{folder}/new'",
        "IMPORT DATABASE '{folder}'",
        "SET enable_external_access = true",
        "RESET allowed_paths",
        "PRAGMA enable_profiling",
        "CALL enable_logging(storage = 'file', storage_path = '{folder}')",
        "ATTACH '{folder}/other.db'",
        "DETACH evidence",
        "USE memory.main",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CHECKPOINT",
        "BEGIN",
        "VACUUM",
        "PREPARE x AS SELECT 1",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{shard}' {parquet}",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{database}' {csv}",
        # More than one, or none.
        "USE memory.main; DETACH evidence; ATTACH '{database}' AS e (READ_WRITE); UPDATE e.suite SET title = 'x'",
        "SELECT 1; COPY (SELECT 1) TO '{shard}' {parquet}",
        "SELECT 1; SELECT 2",
        "",
        " ",
        ";",
        "-- nothing",
        # A SELECT that would do more than read.
        "WITH x AS (COPY (SELECT 1) TO '{shard}' {parquet}) SELECT * FROM x",
        "WITH x AS (COPY (SELECT 1) TO '{database}' {csv}) SELECT * FROM x",
        "WITH x AS (COPY (SELECT 1) TO '{database}.wal' {csv}) SELECT * FROM x",
        "WITH x AS (COPY (SELECT 1) TO '{folder}/new.csv') SELECT * FROM x",
        "WITH x AS (INSERT INTO suite VALUES ('a','b','c','d','e') RETURNING *) SELECT * FROM x",
        "WITH x AS (DELETE FROM evidence.suite RETURNING *) SELECT * FROM x",
        "FROM query('COPY (SELECT 1) TO ''{shard}'' ')",
        "FROM query('DROP TABLE suite')",
        "FROM query_table('/etc/passwd')",
        "FROM enable_logging(storage = 'file', storage_path = '{folder}')",
        "FROM enable_profiling(save_location = '{folder}/profile.json')",
        "SELECT getenv('HOME')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT size FROM read_blob('{database}')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '{shard}'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM shards",
        # Not a query of this evidence.
        "SELECT nothing FROM nowhere",
        "not sql",
        "SELECT '\udcff'",
    ],
)
def test_sql_neither_writes_nor_leaves_the_bundle(bundle: Path, statement: str) -> None:
    """Whatever is not one read of this evidence is one usage error, and no file changes."""
    before = digests(bundle)
    shard = next(path for path in before if path.endswith(".rows.parquet"))
    names = {"{folder}": str(bundle), "{database}": str(bundle / DATABASE), "{shard}": shard}
    names |= {"{parquet}": "(FORMAT parquet, USE_TMP_FILE false)", "{csv}": "(FORMAT csv, USE_TMP_FILE false)"}
    for name, value in names.items():
        statement = statement.replace(name, value)
    with pytest.raises(UsageError):
        answer(bundle, statement)
    assert digests(bundle) == before


def test_sql_reads_qualified_names_and_changes_no_file(bundle: Path) -> None:
    """`evidence.suite` is the sealed table; reading leaves neither a log nor a temporary file."""
    before = digests(bundle)
    assert answer(bundle, "WITH s AS (FROM evidence.suite) SELECT title FROM s;").rows == (("U",),)
    assert digests(bundle) == before


def test_a_time_zone_is_a_clear_error(bundle: Path) -> None:
    """Such a column would need a package that is not required; as text it is fine."""
    with pytest.raises(UsageError) as caught:
        answer(bundle, "SELECT TIMESTAMPTZ '2026-01-01 00:00:00+00' AS t")
    assert "pytz" not in str(caught.value)
    assert "t has a time zone" in caught.value.found
    assert len(answer(bundle, "SELECT (TIMESTAMPTZ '2026-01-01 00:00:00+00')::VARCHAR").rows) == 1


def first_shard(bundle: Path) -> Path:
    """Return the first row shard."""
    return min((bundle / ACTIVATIONS).glob("*.rows.parquet"))


def test_a_shard_that_is_no_parquet_is_named(bundle: Path) -> None:
    """Even by a statement that reads no shard."""
    shard = first_shard(bundle)
    shard.write_bytes(b"no parquet")
    with pytest.raises(EvidenceError) as caught:
        answer(bundle, "SELECT 1")
    assert caught.value.item == str(shard)


def test_a_shard_with_damaged_rows_is_named(bundle: Path) -> None:
    """The footer is whole, the data is not."""
    shard = first_shard(bundle)
    raw = bytearray(shard.read_bytes())
    raw[4:200] = b"\xff" * 196
    shard.write_bytes(raw)
    with pytest.raises(EvidenceError) as caught:
        answer(bundle, "SELECT sum(latent), max(sae), sum(prompt) FROM activation")
    assert caught.value.item == str(shard)


def test_a_shard_with_foreign_columns_is_named(bundle: Path) -> None:
    """Its rows are not activations."""
    shard = first_shard(bundle)
    pa.parquet.write_table(pa.table({"a": [1]}), shard)
    with pytest.raises(EvidenceError) as caught:
        answer(bundle, "SELECT 1")
    assert caught.value.item == str(shard)


@pytest.mark.parametrize("name", [DATABASE, "shard"])
def test_a_link_is_no_evidence(bundle: Path, tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """What lies outside was never sealed."""
    path = first_shard(bundle) if name == "shard" else bundle / name
    outside = tmp_path_factory.mktemp("outside") / path.name
    path.rename(outside)
    path.symlink_to(outside)
    with pytest.raises(EvidenceError) as caught:
        answer(bundle, "SELECT 1")
    assert caught.value.item == str(path)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE VIEW spy AS SELECT * FROM read_text('/etc/hostname')", "view spy"),
        ("DROP TABLE finding; CREATE VIEW finding AS SELECT * FROM read_csv('/etc/passwd')", "view finding"),
        ("CREATE MACRO median(x) AS 42", "macro median"),
    ],
)
def test_views_and_macros_of_a_forged_database_are_refused(bundle: Path, statement: str, named: str) -> None:
    """A view could read what lies outside, a macro stands in for a function of the same name: neither is evidence."""
    with duckdb.connect(str(bundle / DATABASE)) as connection:
        connection.execute(statement)
    for read in (lambda: answer(bundle, "SELECT title FROM suite"), lambda: Store(bundle)):
        with pytest.raises(EvidenceError) as caught:
            read()
        assert named in caught.value.found


def test_a_sealed_database_reaches_its_shards_and_no_other_file(bundle: Path, tmp_path: Path) -> None:
    """Even our own queries could not read a file outside the bundle."""
    with Store(bundle) as store:
        assert store._connection.execute("SELECT count(*) FROM read_parquet($1)", [store.row_shards]).fetchall()
        (tmp_path / "outside.csv").write_text("a\n1\n", encoding="utf-8")
        with pytest.raises(duckdb.PermissionException):
            store._connection.execute("SELECT * FROM read_csv($1)", [str(tmp_path / "outside.csv")])


def test_null_stays_null(bundle: Path) -> None:
    """An interval that does not exist is NULL in the database, not NaN."""
    row = {
        "finding": "f", "concept": "c", "contrast": "topic", "sae": SAE, "latent": 1, "rung": "associated", "d_z": 1.0,
        "d_z_low": None, "d_z_high": 2.0, "auroc": 1.0, "p_value": 0.1, "p_holm": 0.1, "p_max_t": 0.1,
        "selected_by": False, "n_scenarios": 2, "lexical": "not tested",
    }  # fmt: skip
    with Store(bundle, writable=True) as store:
        store.insert("finding", [row])
    assert answer(bundle, "SELECT d_z_low IS NULL, d_z_high FROM finding").rows == ((True, 2.0),)


def test_a_folder_without_evidence_is_refused(tmp_path: Path) -> None:
    """Neither is a database made by asking."""
    with pytest.raises(EvidenceError):
        answer(tmp_path, "SELECT 1")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_database_is_refused(bundle: Path) -> None:
    """Bytes that are no database are invalid evidence."""
    (bundle / "evidence.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(EvidenceError):
        answer(bundle, "SELECT 1")


def test_an_unwritable_folder_gives_one_error(tmp_path: Path) -> None:
    """A shard that cannot be written leaves no half file."""
    block = RowBlock(SAE, *(np.zeros(1, dtype=np.int32) for _ in range(3)), np.ones(1, dtype=np.float32))
    with pytest.raises(OutputError):
        write_shard(tmp_path / "missing", "k", make_shard([block], [moments(0)]))
    assert list(tmp_path.iterdir()) == []


def test_a_query_without_its_table_names_it(tmp_path: Path) -> None:
    """What reads a bundle, `affidavit steer` for one, ends with exit code 3 and the table's name, not with a crash."""
    with create_store(tmp_path):
        pass
    with duckdb.connect(str(tmp_path / DATABASE)) as connection:
        connection.execute("DROP TABLE feature")
    with Store(tmp_path) as store, pytest.raises(EvidenceError, match="no table feature"):
        scores.read_densities(store, sae=SAE)
