"""`affidavit sql` and its neighbours, in process: what is printed, and with which exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
