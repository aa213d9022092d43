"""The built wheel carries everything that a run reads, and nothing that belongs to the repository alone."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

NEEDED = (
    "audit/py.typed",
    "audit/evidence/sql/schema.sql",
    "audit/evidence/sql/queries/scenario_scores.sql",
    "audit/capture/saes/smollm2-135m-instruct.resid_post.15/sae.safetensors",
    "audit/capture/saes/smollm2-135m-instruct.resid_post.15/card.json",
    "audit/capture/saes/smollm2-135m-instruct.resid_post.15/certificate.json",
    "audit/capture/saes/smollm2-135m-instruct.resid_post.20/sae.safetensors",
    "audit/capture/saes/smollm2-135m-instruct.resid_post.15.seed-1/sae.safetensors",
    "audit/capture/saes/smollm2-135m-instruct.resid_post.15.frozen-decoder/sae.safetensors",
    "probes/organisms/dosing_error.yaml",
    "probes/suites/defense/suite.yaml",
    "probes/suites/healthcare/dosing_error.yaml",
    "probes/suites/cross_domain/mix_patient_privacy_surveillance.yaml",
    "templates/report/pdf.html.j2",
    "templates/css/pdf.css",
    "templates/fonts/NotoSans-Regular.ttf",
    "templates/frameworks/eu_ai_act.yaml",
    "templates/languages/affidavit.pot",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built from the source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(Path.cwd())],
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("affidavit-*.whl")
    return path


def test_the_wheel_holds_what_a_run_reads(wheel: Path) -> None:
    """Suites, SQL, templates, fonts, weights."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert not [name for name in NEEDED if name not in names]
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "docs/"))]


def test_the_installed_wheel_answers(wheel: Path, tmp_path: Path) -> None:
    """From the wheel alone, outside the source tree, suites and weights are found."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            str(tmp_path / "site"),
            str(wheel),
        ],
        check=True,
        capture_output=True,
    )
    code = (
        "import audit.install, audit.capture.sae_sources as s, probes.loader as p;"
        "audit.install.check_installation(); print(s.load_sae('default').record.latents, *p.builtin_names())"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); {code}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.stdout.split() == ["4608", "cross_domain", "defense", "finance", "healthcare"], done.stderr
