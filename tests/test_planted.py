"""A model and an SAE whose answer is known: the whole audit must find what was planted, and nothing else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from audit.config import AnalysisConfig, AuditConfig, FidelityConfig, ModelConfig, ProbeConfig, SaeConfig
from audit.pipeline import AuditResult, run_audit
from audit.progress import Silent
from audit.records import BaselineKind, Contrast, ContrastResult, Reading, Rung
from audit.request import AuditRequest
from audit.signing.keys import Signer
from tests.conftest import MOMENT
from tests.planting import ALONE, SHARED_AXIS, WORDS, save_model, save_sae, save_suite


@pytest.fixture(scope="module")
def asked(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> AuditRequest:
    """Return what a whole audit of the planted model asks for."""
    root = tmp_path_factory.mktemp("planted")
    config = AuditConfig(
        model=ModelConfig(source=str(save_model(root / "model"))),
        sae=SaeConfig(sources=(str(save_sae(root / "sae")),), controls=()),
        probes=ProbeConfig(suites=(str(save_suite(root / "suite")),)),
        analysis=AnalysisConfig(permutations=100, bootstrap=400),
        # An untrained head has no loss to speak of: the fidelity of the site is what is asked here.
        fidelity=FidelityConfig(amber_delta_ce=100.0),
    )
    return AuditRequest(config, root / "bundle", signer, MOMENT, "affidavit run --out bundle")


@pytest.fixture(scope="module")
def result(asked: AuditRequest) -> AuditResult:
    """Return its audit."""
    return run_audit(asked, progress=Silent())


def contrast(result: AuditResult, concept: str, wanted: Contrast) -> ContrastResult:
    """Return one contrast of one concept."""
    (found,) = (c for c in result.findings.concepts if c.id == concept)
    return next(c for c in found.contrasts if c.contrast is wanted)


def confirmed(found: ContrastResult) -> dict[int, bool]:
    """Return the latents that are confirmed, and whether they are louder on the concept."""
    return {f.latent: f.d_z.value > 0 for f in found.findings if f.rung is Rung.CONFIRMED}


def test_the_planted_direction_is_confirmed_and_nothing_else(result: AuditResult) -> None:
    """Its latent speaks for the concept in both contrasts, beyond what random directions reach."""
    for wanted in Contrast:
        found = contrast(result, "direction", wanted)
        assert confirmed(found) == {SHARED_AXIS: True}
        assert found.reading is Reading.DECOMPOSED
        assert found.controls[0].best_d_z is not None
        assert found.findings[0].d_z.value > 2 * found.controls[0].best_d_z


def test_a_concept_that_is_a_word_is_told_by_the_words(result: AuditResult) -> None:
    """Where the concept is one word a bag of words reads it as well as the feature; a direction of many it does not."""
    for wanted in Contrast:
        found = contrast(result, "word", wanted)
        assert confirmed(found) == {WORDS.index(ALONE): True}
        words = found.baseline(BaselineKind.WORDS)
        assert words.separates
        assert words.feature_minus is not None
        assert words.feature_minus.value == pytest.approx(0.0, abs=0.1)
        assert not contrast(result, "direction", wanted).baseline(BaselineKind.WORDS).separates


def test_where_nothing_was_planted_nothing_is_claimed(result: AuditResult) -> None:
    """Random words on all arms: no feature passes, no probe separates, and the reading is absence at this site."""
    for wanted in Contrast:
        found = contrast(result, "empty", wanted)
        assert confirmed(found) == {}
        assert not any(baseline.separates for baseline in found.baselines)
        assert found.reading is Reading.NOT_REPRESENTED


def test_the_reconstruction_is_exact(result: AuditResult) -> None:
    """One axis a latent: nothing is lost."""
    assert result.findings.saes[0].fidelity.fvu == pytest.approx(0.0, abs=1e-6)


def test_a_killed_run_resumes_with_the_same_findings(asked: AuditRequest, result: AuditResult, tmp_path: Path) -> None:
    """Half the shards are there and are used, the other half is captured again: equal inputs give an equal digest.

    A shard that belongs to other inputs and a half-written file are thrown away.
    """
    unfinished = tmp_path / ".again.unfinished" / "activations"
    unfinished.mkdir(parents=True)
    for path in sorted((result.folder / "activations").iterdir())[::2]:
        shutil.copy(path, unfinished)
    (unfinished / "0123456789abcdef.rows.parquet").write_bytes(b"of another run")
    (unfinished / ".0123.rows.parquet.unfinished").write_bytes(b"half")
    again = run_audit(replace(asked, out=tmp_path / "again"), progress=Silent())
    assert again.findings_digest == result.findings_digest
    assert [p.name for p in tmp_path.iterdir()] == ["again"]
    assert not (again.folder / "activations" / "0123456789abcdef.rows.parquet").exists()
