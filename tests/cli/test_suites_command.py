"""`affidavit suites` as somebody uses it who brings a suite of their own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from audit.cli.root import run


@pytest.fixture(autouse=True)
def hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the interpreter's hook as it was."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def make_table(folder: Path, count: int = 24) -> Path:
    """Return a table of scenarios that the lint finds weak, not wrong."""
    places = ["harbour", "market", "chapel", "school", "forest", "station"]
    rows = [
        {
            "bad": f"Clerk {n} of the {places[n % 6]} {n} hid loss {n} and told gain {n}.",
            "good": f"Clerk {n} of the {places[n % 6]} {n} told loss {n} and hid gain {n}.",
            "other": f"Cook {n} at the {places[n % 6]} {n} salted soup {n} and baked pie {n}.",
        }
        for n in range(count)
    ]
    path = folder / "prompts.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def importing(table: Path, out: Path, *more: str) -> list[str]:
    """Return the arguments of an import."""
    mapped = [part for pair in ("concept=bad", "control=good", "neutral=other") for part in ("--map", pair)]
    named = [
        "--concept",
        "hidden_loss",
        "--title",
        "Hidden losses",
        "--definition",
        "A loss is hidden.",
        "--rule",
        "Law",
    ]
    return ["suites", "import", str(table), "--out", str(out), *mapped, *named, *more]


def test_import_show_lint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table becomes a suite that can be shown and checked; weak is no error."""
    out = tmp_path / "own"
    assert run(importing(make_table(tmp_path), out, "--outcome", "{text} Is a loss hidden?")) == 0
    assert "withheld from bundles and reports" in capsys.readouterr().out
    assert run(["suites", "show", str(out), "hidden_loss", "--json"]) == 0
    (concept,) = json.loads(capsys.readouterr().out)["concepts"]
    assert len(concept["scenarios"]) == 24
    assert run(["suites", "lint", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {problem["rule"] for problem in report["problems"]} == {"cue-arms", "scenarios"}
    assert {problem["level"] for problem in report["problems"]} == {"warning"}
    assert report["concepts"][0]["word_accuracy"] == 0.5
    assert run(["suites", "card", str(out)]) == 0
    card = capsys.readouterr().out
    assert "| scenarios | 24 |" in card
    assert "| texts in bundles | withheld |" in card
    assert "Clerk" not in card
    assert "Cook" not in card


def test_an_error_of_the_lint_exits_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pipeline stops at an unbalanced suite: one neutral arm is too long."""
    table = make_table(tmp_path)
    table.write_text(table.read_text().replace("baked pie 7.", "baked pie 7 for the whole town on a sunny day."))
    assert run(importing(table, tmp_path / "own")) == 0
    capsys.readouterr()
    assert run(["suites", "lint", str(tmp_path / "own")]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("error: ")]
    assert ", arm neutral: token-balance: expected " in line


def test_lint_passes_on_what_ships(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0, a line a concept, the sum at the end."""
    assert run(["suites", "lint"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "24 concepts, 15 mixes: 0 errors, 0 warnings"
    assert any(line.startswith("insider_trading ") for line in lines)


def test_lint_takes_another_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The model that is audited decides what a token is; a missing one is an error of the environment."""
    assert run(importing(make_table(tmp_path), tmp_path / "own")) == 0
    assert run(["suites", "lint", str(tmp_path / "own"), "--tokenizer", str(tmp_path)]) == 4
    assert "a tokenizer" in capsys.readouterr().err


def test_new_lists_what_is_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The lint of a begun suite names file, line and field of each empty text, and exits with 2."""
    folder = tmp_path / "energy"
    assert run(["suites", "new", str(folder), "--concept", "grid_attack", "--title", "Grid attack"]) == 0
    assert run(["suites", "lint", str(folder)]) == 2
    error = capsys.readouterr().err
    assert f"{folder / 'grid_attack.yaml'}:" in error
    assert "scenarios[0].arms.concept" in error
    assert run(["suites", "new", str(folder), "--concept", "meter_fraud", "--title", "Meter fraud"]) == 0
    assert "add meter_fraud to `concepts`" in capsys.readouterr().out


@pytest.mark.parametrize("pair", ["concept", "arm=bad", "concept=other"])
def test_a_mapping_that_says_nothing_is_refused(tmp_path: Path, pair: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No column, an unknown field, a field twice."""
    assert run([*importing(make_table(tmp_path), tmp_path / "own"), "--map", pair]) == 2
    assert "FIELD=COLUMN" in capsys.readouterr().err
    assert not (tmp_path / "own").exists()


def test_a_mix_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Its concepts, its placebo and every clause."""
    assert run(["suites", "show", "finance", "mix_insider_trading_market_manipulation"]) == 0
    shown = capsys.readouterr().out
    assert "concepts: insider_trading and market_manipulation; placebo: " in shown
    assert "b_filler: " in shown
