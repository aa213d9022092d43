"""Reduced precision: what it changes is measured on the real model and printed, never assumed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from audit.config import AuditConfig, Dtype, ModelConfig, ProbeConfig, SaeConfig
from audit.gathering import Subject, fidelity_sample, load_subject
from audit.inputs import read_inputs
from audit.precision import compare_precision
from audit.progress import Silent
from audit.records import Contrast, Estimate, Finding, Lexical, PrecisionResult, Rung
from probes.loader import load_suites
from reports.provenance import precision_words

PROBES = ProbeConfig(suites=("healthcare",), subset="demo")
CONFIG = AuditConfig(model=ModelConfig(dtype=Dtype.BF16), probes=PROBES, sae=SaeConfig(("default",)))


def finding(subject: Subject, latent: int) -> Finding:
    """Return a finding about a latent on the topic of the first concept."""
    concept = subject.suites[0].concepts[0].id
    one = Estimate(1.0, 0.5, 1.5)
    return Finding(
        id=f"f-{latent}",
        concept=concept,
        contrast=Contrast.TOPIC,
        sae=subject.instruments[0].sae.record.name,
        latent=latent,
        rung=Rung.CONFIRMED,
        reason="",
        d_z=one,
        auroc=one,
        firing_difference=one,
        p_value=0.001,
        p_holm=0.01,
        p_max_t=0.01,
        selected_by=True,
        n_scenarios=24,
        n_nonzero=24,
        lexical=Lexical.NOT_TESTED,
        query="q",
    )


@pytest.fixture(scope="module")
def subject() -> Subject:
    """Return the default model in bf16 with the shipped SAEs and one suite."""
    return load_subject(read_inputs(load_suites(PROBES.suites, subset=PROBES.subset), CONFIG, Silent()), CONFIG)


def test_bf16_is_compared_with_fp32_on_the_same_prompts(subject: Subject) -> None:
    """Most firings agree but not all, activations move by about bf16's rounding, clear findings keep their sign."""
    assert subject.model.record.dtype == "bf16"
    found = [finding(subject, latent) for latent in range(0, 4608, 97)]
    results = compare_precision(subject, CONFIG, found, Silent())
    assert set(results) == {i.sae.record.name for i in subject.instruments}
    sample = fidelity_sample(subject, scenarios=CONFIG.fidelity.spliced_scenarios)
    for instrument in subject.instruments:
        result = results[instrument.sae.record.name]
        assert result.prompts == len(sample)
        assert result.firings == 32 * result.tokens
        assert 0.75 < result.shared_firings < 0.9999
        assert result.median_change is not None
        assert 0 < result.median_change < 0.05
    first = results[subject.instruments[0].sae.record.name]
    assert first.findings == len(found)
    assert 5 < first.compared < len(found)
    assert 0.8 * first.compared < first.same_sign <= first.compared
    assert first.largest_shift is not None
    # A latent that fires in one or two of the 8 scenarios may lose one of them to rounding: a shift beyond one SD.
    assert 0 < first.largest_shift < 3
    assert results[subject.instruments[1].sae.record.name].findings == 0


def test_fp32_needs_no_comparison(subject: Subject) -> None:
    """Nothing is run and nothing is claimed."""
    exact = replace(CONFIG, model=ModelConfig(dtype=Dtype.FP32))
    assert compare_precision(subject, exact, [], Silent()) == {}


def test_the_report_says_what_was_measured() -> None:
    """One sentence with every figure; what has no figure is left out."""
    whole = PrecisionResult(24, 700, 22400, 0.963, 0.004, 9, 8, 7, 0.03)
    words = precision_words(whole)
    for part in (
        "24 prompts",
        "96.3%",
        "0.4% (median)",
        "9 findings, 8 of them active there",
        "7 kept the sign",
        "0.03",
    ):
        assert part in words
    bare = precision_words(replace(whole, median_change=None, findings=0, compared=0, same_sign=0, largest_shift=None))
    assert "finding" not in bare
    assert "median" not in bare
    assert "not compared" in precision_words(None)
