"""The co-firing benchmark at sizes of seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from benchmarks.cofiring import Size, draw_units, main


def test_the_drawn_units_have_the_size_asked_for() -> None:
    """Latents ascend within a unit and are there once; all arms of a scenario are of one length."""
    units = draw_units(Size(600, 400, 80), seed=1)
    own = [units.latent[a:b] for a, b in zip(units.start[:-1], units.start[1:], strict=True)]
    assert (len(own), units.latents) == (600, 400)
    assert 65 < np.mean([len(latents) for latents in own]) < 90
    assert all((np.diff(latents) > 0).all() for latents in own)
    assert (units.tokens.reshape(-1, 3) == units.tokens[::3, None]).all()


def test_the_figures_are_written(tmp_path: Path) -> None:
    """The product counts what the join counts, and the full test flags pairs."""
    path = tmp_path / "figures.json"
    arguments = ["--units", "600", "--latents", "200", "--firings", "40"]
    arguments += ["--join-units", "300", "--join-latents", "100", "--join-firings", "20", "--json", str(path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    figures = json.loads(path.read_text())
    assert figures["product"]["instances"] == figures["join"]["instances"] > 10_000
    assert figures["product"]["check"] == figures["join"]["check"]
    assert figures["full"]["flagged"] >= 10
    assert figures["full"]["units"] == 600
