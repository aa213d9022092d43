"""The benchmark against public data sets: one run of the real model on a file of the test, and what it may say."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from benchmarks.sae_probes import DATASETS, METHODS, Difference, _difference, _verdict, main
from benchmarks.text_probes import LOGISTIC, sparse_name

CITIES = (
    *("Lyon", "Oslo", "Bari", "Kiel", "Graz", "Bern", "York", "Bath", "Cork", "Riga", "Vigo", "Nice"),
    *("Gent", "Metz", "Lodz", "Brno", "Pula", "Split", "Turku", "Malmo", "Porto", "Siena", "Parma", "Trier"),
)


def write_data(folder: Path) -> Path:
    """Write the first data set of the list: 24 patients and 24 football matches, and a few texts that are too short."""
    texts = [(f"{n}: the patient's liver was inflamed and he was given antibiotics.", 1) for n in CITIES]
    texts += [(f"{n}: the striker scored a late goal and the crowd cheered.", 0) for n in CITIES]
    rows = pd.DataFrame([*texts, ("Yes", 0), ("No", 1)], columns=["prompt", "target"])
    rows.to_csv(folder / f"{DATASETS[0]}.csv", index=False)
    return folder


def test_the_real_model_tells_patients_from_matches(tmp_path: Path) -> None:
    """One data set is measured, one that is missing is skipped with its reason; a second run finds every shard."""
    arguments = ["--data", str(write_data(tmp_path)), "--datasets", "2", "--texts", "24", "--cache", str(tmp_path)]
    results, shards = [], []
    for name in ("one.json", "two.json"):
        done = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        results.append(json.loads((tmp_path / name).read_text()))
        assert "No verdict: 1 data sets are fewer than" in done.output
        shards.append({path: path.stat().st_mtime_ns for path in tmp_path.glob("shards/*/*")})
    first, second = results
    found = first["datasets"][DATASETS[0]]
    assert set(found["auroc"]) == set(METHODS)
    assert found["auroc"][LOGISTIC] == found["auroc"][sparse_name(20)] == 1.0
    assert found["left_out"] == {"short": 2, "duplicate": 0, "contradictory": 0}
    assert found["cut"] == 0
    # The first position is an attention sink.
    assert found["outliers"] == 48
    assert "no such file" in first["skipped"][DATASETS[1]]
    assert second["datasets"][DATASETS[0]]["auroc"] == found["auroc"]
    assert shards[0] == shards[1] != {}


@pytest.mark.parametrize(
    "arguments", [["--texts", "21"], ["--data", "nowhere"], ["--datasets", "0"], ["--out", "no/such/folder.json"]]
)
def test_wrong_arguments_are_refused(arguments: list[str]) -> None:
    """Before a model is loaded."""
    assert CliRunner().invoke(main, arguments).exit_code == 2


def test_another_wheel_is_refused(tmp_path: Path) -> None:
    """The results say which package they are of."""
    (tmp_path / "other.whl").write_bytes(b"something else")
    done = CliRunner().invoke(main, ["--data", str(tmp_path / "other.whl")])
    assert done.exit_code == 1
    assert "245700c8df310760" in done.output


def test_differences_are_paired() -> None:
    """Data sets differ far more than methods; a constant lead is seen all the same."""
    hard_to_easy = [0.5 + 0.02 * n for n in range(20)]
    found = _difference([value + 0.01 for value in hard_to_easy], hard_to_easy, seed=0)
    assert (found.wins, found.ties, found.losses) == (20, 0, 0)
    assert found.low == pytest.approx(0.01)
    assert found.high == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.01, 0.03, "are better than"), (-0.03, -0.01, "are worse than"), (-0.01, 0.02, "cannot be told apart from")],
)
def test_the_verdict_says_what_the_interval_allows(low: float, high: float, word: str) -> None:
    """No lead is claimed whose interval reaches zero."""
    rival = Difference((low + high) / 2, low, high, wins=11, ties=1, losses=8)
    control = Difference(0.5, 0.4, 0.6, wins=20, ties=0, losses=0)
    said = _verdict(rival, control)
    assert f"Probes on 20 SAE latents {word} logistic regression" in said
    assert "higher on 11 of 20 data sets" in said
    assert "are better than probes on 20 untrained" in said
