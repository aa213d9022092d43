"""The association benchmark at sizes of seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from audit.analysis.contrast_data import why_untestable
from audit.records import Contrast, ControlKind
from benchmarks.association import NEURONS, draw_family, main


def test_the_drawn_data_have_the_shape_of_an_audit() -> None:
    """40 and 24 scenarios, every baseline and control there, and nothing that could not be tested."""
    (data,) = draw_family(np.random.default_rng(1), Contrast.TOPIC, latents=500, concepts=1, controls=list(ControlKind))
    assert why_untestable(data) is None
    assert set(data.controls) == set(ControlKind)
    assert data.neurons is not None
    assert data.neurons.discovery.data.shape == (40, NEURONS)
    assert data.residuals.confirmation.data.mean.shape == (24, 576)


def test_the_figures_are_written(tmp_path: Path) -> None:
    """Four families of the full audit, and each series relative to its first size."""
    path = tmp_path / "figures.json"
    arguments = ["--latents", "300", "--concepts", "1", "--growth-latents", "200,400", "--growth-concepts", "1,2"]
    arguments += ["--rounds", "1", "--permutations", "5", "--json", str(path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    figures = json.loads(path.read_text())
    assert [(one["sae"], one["controls"]) for one in figures["full"]] == [(1, 2), (1, 2), (2, 1), (2, 1)]
    assert [(one["series"], one["size"]) for one in figures["growth"]] == [
        ("latents", 200),
        ("latents", 400),
        ("concepts", 1),
        ("concepts", 2),
    ]
    assert [one["ratio"] for one in figures["growth"]][::2] == [1.0, 1.0]
