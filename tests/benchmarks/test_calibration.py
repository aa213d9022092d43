"""The calibration benchmark at counts so small that its answers are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from audit.analysis.effects import cohens_dz
from audit.records import Contrast
from benchmarks.auditor import Auditor
from benchmarks.calibration import NullKind, main, measure_power, measure_uniformity, null_share
from benchmarks.synthetic import Shape, draw_texts

SMALL = Shape(latents=600, planted=10, residual=64)


@pytest.mark.parametrize("kind", NullKind)
def test_null_audits_find_no_more_than_the_level_allows(kind: NullKind) -> None:
    """Whatever makes them null: few of them find anything."""
    share = null_share(Auditor(SMALL, 1), Contrast.DISTINCTION, kind, audits=20, concepts=2)
    assert share.audits == 20
    assert not share.exceeded
    assert share.with_confirmed <= share.with_passing <= share.with_selection


def test_audits_with_effects_on_discovery_alone_do_choose() -> None:
    """Where effects are real on discovery every audit has something to test."""
    share = null_share(Auditor(SMALL, 1), Contrast.TOPIC, NullKind.NOT_REPLICATED, audits=5, concepts=1)
    assert share.with_selection == 5


@pytest.mark.parametrize("contrast", Contrast)
def test_effects_of_three_standard_deviations_always_pass(contrast: Contrast) -> None:
    """Three standard deviations at 24 scenarios: t is near 15."""
    power = measure_power(Auditor(SMALL, 2), contrast, effect=3.0, audits=2, concepts=2)
    assert power.planted == 40
    assert power.chosen == pytest.approx(1.0)
    assert power.passing == pytest.approx(1.0)
    assert power.predicted is not None
    assert power.predicted < 3.0


def test_planted_effects_have_the_size_that_they_are_said_to_have() -> None:
    """On very many scenarios d_z of planted latents is the planted one, and that of the others 0."""
    shape = Shape(latents=300, discovery=4000, confirmation=6, planted=40)
    score = draw_texts(np.random.default_rng(3), shape, Contrast.TOPIC, effect=1.0).scores().discovery.data.score
    effects = cohens_dz(score)
    assert effects[:40].mean() == pytest.approx(1.0, abs=0.05)
    assert np.abs(effects[40:]).max() < 0.1


def test_p_values_of_continuous_differences_are_near_uniform() -> None:
    """The distance stays within what one in a thousand uniform samples exceeds."""
    for one in measure_uniformity(np.random.default_rng(4), tests=200):
        assert one.distance < 1.95 / np.sqrt(200)


def test_the_figures_are_written(tmp_path: Path) -> None:
    """Every family has its row, and an audit without false findings exits with 0."""
    path = tmp_path / "figures.json"
    arguments = ["--audits", "4", "--concepts", "1", "--power-concepts", "1", "--planted-concepts", "1"]
    arguments += ["--effects", "3", "--tests", "20", "--latents", "600", "--json", str(path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    figures = json.loads(path.read_text())
    assert [len(figures[name]) for name in ("null", "power", "uniformity")] == [6, 2, 4]
