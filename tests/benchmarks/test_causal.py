"""The benchmark of interventions at the size of seconds."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from benchmarks.causal import main


def test_both_ways_agree_and_the_figures_are_written(tmp_path: Path) -> None:
    """One prompt, one pair: both ways give the same numbers, and less work was done than plainly."""
    path = tmp_path / "figures.json"
    result = CliRunner().invoke(main, ["--prompts", "1", "--features", "2", "--rounds", "1", "--json", str(path)])
    assert result.exit_code == 0, result.output
    figures = json.loads(path.read_text())
    assert (figures["prompts"], figures["interventions"], figures["rounds"]) == (1, 3, 1)
    assert figures["outcome_difference"] < 1e-3
    assert figures["kl_difference"] < 1e-4
    assert figures["downstream_difference"] < 1e-3
    assert figures["layers_and_positions"] > 1
    assert figures["ratio"] > 0
