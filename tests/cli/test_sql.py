"""`affidavit sql` and its neighbours, in process: what is printed, and with which exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from audit.cli.root import run
from audit.evidence.store import create_store


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a folder with an evidence database whose one suite has a hostile title."""
    with create_store(tmp_path) as store:
        store.insert(
            "suite",
            [
                {
                    "suite": "u",
                    "title": "a\x1b[2Jb\nc\u202e",
                    "domain": "d",
                    "version": "1",
                    "digest": "x",
                    "subset": None,
                    "withheld": False,
                }
            ],
        )
    return tmp_path


@pytest.mark.parametrize("statement", ["", ";", "SELECT 1; SELECT 2", "DROP TABLE suite", "SELECT now() AS t"])
def test_what_is_not_one_select_exits_2(
    bundle: Path, statement: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One error in four lines, no traceback."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    assert run(["sql", str(bundle), statement]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: SQL\n")
    assert "pytz" not in told.err


def test_damaged_evidence_exits_3(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is named."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    (bundle / "activations").mkdir()
    (bundle / "activations" / "k.rows.parquet").write_bytes(b"x")
    assert run(["sql", str(bundle), "SELECT 1"]) == 3
    assert "k.rows.parquet" in capsys.readouterr().err


def test_control_characters_are_escaped(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In cells, in column names and in messages: a title cannot print a line of its own."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    assert run(["sql", str(bundle), 'SELECT title AS "t\x1bt" FROM suite']) == 0
    assert capsys.readouterr().out.splitlines() == ["t\\x1bt", "a\\x1b[2Jb\\nc\\u202e"]
    assert run(["sql", str(bundle), "SELECT title::INTEGER FROM suite"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_json_has_no_nan(bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN and infinity are null, nested ones too; other values stay."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    text = "SELECT 'nan'::DOUBLE AS a, '-inf'::FLOAT AS b, [1.5::DOUBLE, 'inf'::DOUBLE] AS c, {'x': 'nan'::DOUBLE} AS d"
    assert run(["sql", str(bundle), text, "--json"]) == 0
    line = capsys.readouterr().out
    assert json.loads(line) == {"a": None, "b": None, "c": [1.5, None], "d": {"x": None}}
    assert "NaN" not in line


def test_json_refuses_two_columns_of_one_name(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second would hide the first; the table shows both."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    assert run(["sql", str(bundle), "SELECT 1 AS a, 2 AS a", "--json"]) == 2
    assert "'a'" in capsys.readouterr().err
    assert run(["sql", str(bundle), "SELECT 1 AS a, 2 AS a"]) == 0


SCORES = ((3.0, 1.0), (2.0, 0.0), (1.0, 1.0), (0.0, 0.0))


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """Return evidence of one concept: four scenarios, whose largest activations in two arms are `SCORES`."""
    arms = ("concept", "control")
    prompts = [
        {"concept": "c", "scenario": f"c/{n}", "split": "confirmation", "frame": "statement", "text": "t"}
        | {"prompt": 2 * n + place, "arm": arm}
        for n in range(len(SCORES))
        for place, arm in enumerate(arms)
    ]
    with create_store(tmp_path) as store:
        store.insert("concept", [{"concept": "c", "suite": "s", "domain": "d", "title": "C", "frames": 1}])
        store.insert(
            "scenario",
            [{"scenario": f"c/{n}", "concept": "c", "split": "confirmation", "number": n} for n in range(len(SCORES))],
        )
        store.insert("prompt", prompts)
        store.insert(
            "prompt_feature",
            [
                {"prompt": 2 * n + place, "sae": "s", "latent": 7, "max": value, "positions": 1}
                for n, pair in enumerate(SCORES)
                for place, value in enumerate(pair)
                if value
            ],
        )
        numbers = dict.fromkeys(("d_z", "d_z_low", "d_z_high", "auroc", "p_value", "p_holm", "p_max_t"), 0.5)
        words = {"finding": "c/distinction/s/7", "concept": "c", "contrast": "distinction", "sae": "s", "latent": 7}
        rest = {"rung": "confirmed", "selected_by": True, "n_scenarios": 4, "lexical": "undecided"}
        store.insert("finding", [words | numbers | rest])
    return tmp_path


def test_a_finding_is_computed_again_from_its_scores(
    measured: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Differences 2, 2, 0 and 0: mean 1, standard deviation 2/sqrt(3), half of the scenarios above 0 and half at 0."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    assert run(["sql", str(measured), "--finding", "c/distinction/s/7", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["d_z"] == pytest.approx(3**0.5 / 2)
    assert row["auroc"] == pytest.approx(0.75)
    assert row["firing_difference"] == pytest.approx(0.25)
    assert (row["n_scenarios"], row["n_nonzero"]) == (4, 2)
    assert row["recorded_d_z"] == 0.5
    assert run(["sql", str(measured), "--finding", "c/topic/s/7"]) == 2
    assert "c/topic/s/7" in capsys.readouterr().err


def test_a_query_of_the_report_runs_with_its_parameters(
    measured: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers and lists arrive typed; one that is left out is named."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    where = ["--set", "concept=c", "--set", "split=confirmation", "--set", "arm=concept", "--set", "baseline=control"]
    asked = ["sql", str(measured), "--query", "scenario_scores", "--json", *where]
    assert run([*asked, "--set", "sae=s"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["number"], line["score"]) for line in lines] == [(0, 2.0), (1, 2.0), (2, 0.0)]
    assert run(asked) == 2
    assert "sae" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["no_such_query", "load_residual", "../schema"])
def test_a_query_that_is_not_there_exits_3_with_its_name(
    measured: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report of another version may name it; what fills tables is no query of a report."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    assert run(["sql", str(measured), "--query", name]) == 3
    assert name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "table"),
    [
        (["SELECT count(*) FROM prompt_feature"], "prompt_feature"),
        (["--finding", "c/distinction/s/7"], "finding"),
        (["--query", "exclusions", "--set", "site=x"], "residual"),
    ],
)
def test_a_table_that_is_not_there_exits_3_with_its_name(
    measured: Path,
    arguments: list[str],
    table: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A database without a table of the schema is no evidence; a name that never was a table is the asker's mistake."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with duckdb.connect(str(measured / "evidence.duckdb")) as connection:
        connection.execute(f"DROP TABLE {table}")
    assert run(["sql", str(measured), *arguments]) == 3
    assert f"no table {table}\n" in capsys.readouterr().err
    assert run(["sql", str(measured), "SELECT 1 FROM nosuch"]) == 2


@pytest.mark.parametrize(
    "arguments", [[], ["SELECT 1", "--finding", "x"], ["--finding", "x", "--query", "y"], ["SELECT 1", "--set", "a=1"]]
)
def test_one_thing_is_asked_at_a_time(
    measured: Path, arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither nothing nor two things."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    assert run(["sql", str(measured), *arguments]) == 2
    assert "one of: a statement, --finding ID, --query NAME" in capsys.readouterr().err


def test_suites_are_listed_as_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole digests and counted scenarios."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    assert run(["suites", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"healthcare", "finance", "defense"} <= {suite["id"] for suite in listed}
    assert all(suite["digest"].startswith("sha256:") for suite in listed)
    assert all(concept["scenarios"] > 0 for suite in listed for concept in suite["concepts"])


def test_a_prompt_without_an_answer_promises_no_resumption(tmp_path: Path) -> None:
    """Only an interrupted command keeps finished parts."""
    done = subprocess.run(
        [sys.executable, "-m", "audit", "keys", "new", "--out", str(tmp_path), "--name", "T", "--ask-passphrase"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
        start_new_session=True,
    )
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "stopped"


def test_an_interrupt_promises_resumption(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ctrl-C in a running command."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr("audit.evidence.store.answer", interrupted)
    assert run(["sql", str(tmp_path), "SELECT 1"]) == 130
    assert "the same command resumes" in capsys.readouterr().err
