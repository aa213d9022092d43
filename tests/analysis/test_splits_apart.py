"""The type checker keeps discovery out of the report: what was measured where features were chosen has another type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import numpy as np
from audit.analysis.effects import Bootstrap
from audit.arrays import Confirmation, Discovery, Halves

halves = Halves(Discovery(np.ones((40, 1))), Confirmation(np.ones((24, 1))))
estimate = Bootstrap.draw(24, resamples=200, seed=1).effects(halves.{half})
"""


@pytest.mark.parametrize(("half", "accepted"), [("confirmation", True), ("discovery", False)])
def test_an_effect_of_discovery_does_not_type_check(half: str, *, accepted: bool, tmp_path: Path) -> None:
    """Every printed effect is an `Estimate`, and only confirmation data make one."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(half=half))
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(program)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode == 0) is accepted, done.stdout
    assert ('incompatible type "Discovery[' in done.stdout) is not accepted
