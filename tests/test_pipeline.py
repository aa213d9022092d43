"""The real default model from probes to a verified bundle. One audit is shared by all tests of this file."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pikepdf
import pytest

from audit.capture.jobs import capture, plan_jobs
from audit.capture.model import load_model
from audit.capture.sae_sources import SHIPPED, SHIPPED_CONTROLS
from audit.capture.shards import content_digest
from audit.config import AuditConfig, ExecutorKind, ModelConfig, ProbeConfig, SaeConfig, SealConfig, SealLevel
from audit.digests import canonical_json, digest_bytes, digest_file
from audit.errors import ConfigError, ModelUnavailable, OutputError, ShapeMismatch, SiteNotFound, SuiteError, UsageError
from audit.evidence import scores
from audit.evidence.store import ACTIVATIONS, Store, answer
from audit.gathering import _executor, _sweeps, load_subject
from audit.inputs import read_inputs
from audit.pipeline import run_audit
from audit.progress import Silent
from audit.records import BaselineKind, Colour, Contrast, LabelSource, Quantile, Reading, Rung
from audit.signing.checks import CheckName, CheckStatus
from audit.signing.verify import verify_bundle
from probes.loader import load_suites
from probes.schema import Arm, Split
from tests.capture.conftest import save_model
from tests.capture.test_sae import write_sae
from tests.conftest import MOMENT, SealedAudit, another


def test_the_bundle_verifies(audit: SealedAudit) -> None:
    """Every check passes with the pinned certificate; only the timestamp, which was not asked for, is not checked."""
    result = verify_bundle(audit.folder, trusted=audit.certificate)
    assert result.ok
    assert result.trusted
    open_checks = {check.name.value for check in result.checks if check.status is CheckStatus.NOT_CHECKED}
    assert open_checks == {"timestamp", "printed text", "exports agree", "recomputed figures"}


def test_a_changed_byte_anywhere_is_named(bundle_copy: Path) -> None:
    """One byte in the middle of each file in turn: verify fails and names that file."""
    names = sorted(p.relative_to(bundle_copy).as_posix() for p in bundle_copy.rglob("*") if p.is_file())
    # Shards are many and alike: the first and the last stand for them.
    shards = [name for name in names if name.startswith("activations/")]
    for name in [shards[0], shards[-1], *(n for n in names if n not in shards)]:
        path = bundle_copy / name
        original = path.read_bytes()
        damaged = bytearray(original)
        damaged[len(damaged) // 2] ^= 1
        path.write_bytes(damaged)
        result = verify_bundle(bundle_copy, trusted=None)
        assert not result.ok, name
        assert any(name in check.files or name in check.detail for check in result.checks), name
        path.write_bytes(original)
    assert verify_bundle(bundle_copy, trusted=None).ok


def test_poppler_finds_a_valid_signature_over_the_whole_document(audit: SealedAudit) -> None:
    """An outside verifier agrees."""
    done = subprocess.run(["pdfsig", str(audit.folder / "report.pdf")], capture_output=True, text=True, check=False)
    assert "Signature is Valid" in done.stdout
    assert "Total document signed" in done.stdout


def test_every_label_has_its_source_and_its_score_or_says_why_not(audit: SealedAudit) -> None:
    """Held-out scores follow from the sparse rows; the logit lens is shown at layer 20 of 30 only."""
    findings = audit.result.findings
    assert {card.sae for card in findings.cards} == set(SHIPPED)
    for card in findings.cards:
        labels = {label.source: label for label in card.labels}
        assert set(labels) == {LabelSource.TOKENS, LabelSource.CONCEPT, LabelSource.LOGIT_LENS}
        scored = [label.score for label in card.labels if label.score is not None]
        assert scored == sorted(scored, reverse=True)
        assert all((label.score is None) == (label.n is None) for label in card.labels)
        assert (labels[LabelSource.LOGIT_LENS].text is None) == (card.sae == SHIPPED[0])
        assert labels[LabelSource.LOGIT_LENS].note.startswith("not s")
        assert card.selectivity is None
        assert {found.concept for found in card.concepts} == {"insider_trading"}
        quantiles = [context.quantile for context in card.contexts]
        assert quantiles[:3] == [Quantile.TOP] * 3
        assert set(quantiles[3:]) <= {Quantile.MIDDLE, Quantile.LOW}
        if (label := labels[LabelSource.CONCEPT]).text is not None:
            assert label.score == pytest.approx(topic_auroc(audit.folder, card.sae, card.latent))
            assert label.n == 24


def topic_auroc(bundle: Path, sae: str, latent: int) -> float:
    """Return the paired AUROC of concept against neutral arms on confirmation, from the sparse rows (one frame)."""
    arms = answer(
        bundle,
        "SELECT prompt, scenario, arm FROM prompt"
        " WHERE split = 'confirmation' AND arm IN ('concept', 'neutral') AND frame <> 'outcome'",
    ).rows
    rows = answer(bundle, "SELECT sae, latent, prompt, max(activation) FROM activation GROUP BY ALL").rows
    peaks = {prompt: float(str(peak)) for *feature, prompt, peak in rows if feature == [sae, latent]}
    found = {(scenario, arm): peaks.get(prompt, 0.0) for prompt, scenario, arm in arms}
    pairs = [(found[s, "concept"], found[s, "neutral"]) for s in {scenario for scenario, _ in found}]
    return sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs)


def test_findings_are_what_the_reports_carry(audit: SealedAudit) -> None:
    """findings.json is canonical, the PDF attaches it, and the digest is the one that was signed."""
    data = (audit.folder / "findings.json").read_bytes()
    assert data == canonical_json(json.loads(data))
    assert digest_bytes(data) == audit.result.findings_digest
    with pikepdf.open(audit.folder / "report.pdf") as pdf:
        assert pdf.attachments["findings.json"].get_file().read_bytes() == data
    manifest = json.loads((audit.folder / "manifest.json").read_text())
    for name, digest in manifest["files"].items():
        assert digest_file(audit.folder / name) == digest


def test_the_audit_says_something(audit: SealedAudit) -> None:
    """An empty audit never looks like a pass: tokens, tests, probes and controls were really measured."""
    findings = audit.result.findings
    assert findings.format == "chat"
    assert [sae.record.name for sae in findings.saes] == list(SHIPPED)
    for sae in findings.saes:
        assert sae.exclusions.kept_tokens > 5000
        assert sae.exclusions.template_tokens > sae.exclusions.kept_tokens / 2
        assert 0.05 < sae.fidelity.fvu < 0.4
        assert sae.fidelity.colour is not Colour.RED
        assert sae.fidelity.l0_mean == pytest.approx(32, abs=0.5)
        assert sae.fidelity.delta_ce is not None
        assert sae.fidelity.ce_recovered is not None
        assert 0.8 < sae.fidelity.ce_recovered < 1
        assert sae.certificate is not None
        assert sae.certificate.sae_digest == sae.record.digest
    (concept,) = findings.concepts
    asked = [(contrast.sae, contrast.contrast) for contrast in concept.contrasts]
    assert asked == [(sae, contrast) for sae in SHIPPED for contrast in Contrast]
    topic = concept.contrasts[0]
    for contrast in concept.contrasts:
        assert contrast.tested > 100
        assert all(control.tested > 100 for control in contrast.controls)
        assert [baseline.kind for baseline in contrast.baselines] == list(BaselineKind)
        assert [len(one.latents) for one in contrast.feature_sets] == [1, 5, 20]
        assert contrast.power.passing is not None
        assert (contrast.n_discovery, contrast.n_confirmation) == (40, 24)
    assert topic.probe.separates
    assert topic.probe.auroc.value > 0.9
    assert topic.reading in {Reading.DECOMPOSED, Reading.NOT_DECOMPOSED}
    assert topic.selected > 0
    assert concept.outcome is not None
    assert concept.outcome.n_scenarios == 64
    assert findings.permutation_control.passed
    assert sum(findings.ladder.values()) == sum(contrast.selected for contrast in concept.contrasts)
    assert findings.causal is not None
    assert findings.ladder[Rung.CAUSAL.value] == sum(effect.rung is Rung.CAUSAL for effect in findings.causal.effects)


def test_the_frozen_control_is_captured_beside_its_instrument(audit: SealedAudit) -> None:
    """The main SAE has one, the other has none; it is a control in the evidence and is spliced in nowhere."""
    untrained = [f"{name}.random-directions" for name in SHIPPED]
    controls = [untrained[0], *SHIPPED_CONTROLS, untrained[1]]
    manifest = json.loads((audit.folder / "manifest.json").read_text())
    assert [record["name"] for record in manifest["controls"]] == controls
    assert manifest["run"]["config"]["sae"]["controls"] == ["default"]
    statement = "SELECT s.sae FROM sae AS s WHERE role = 'control' AND EXISTS (FROM feature AS f WHERE f.sae = s.sae)"
    assert sorted(answer(audit.folder, statement).rows) == sorted((name,) for name in controls)
    assert answer(audit.folder, "SELECT DISTINCT sae FROM splice ORDER BY sae").rows == tuple((n,) for n in SHIPPED)
    assert [sae.record.name for sae in audit.result.findings.saes] == list(SHIPPED)


def test_neurons_lie_beside_both_instruments(audit: SealedAudit) -> None:
    """1,536 of each layer, scored on the scenarios of the latents; no table of the database holds them."""
    where = {"concept": "insider_trading", "split": Split.CONFIRMATION, "arm": Arm.CONCEPT, "baseline": Arm.CONTROL}
    found = []
    with Store(audit.folder) as store:
        for sae in audit.result.findings.saes:
            neurons = scores.read_neurons(store, site=sae.record.site)
            assert neurons is not None
            found.append(scores.neuron_scores(neurons, **where))  # type: ignore[arg-type]
            latents = scores.read_scores(store, sae=sae.record.name, **where)  # type: ignore[arg-type]
            assert found[-1].scenarios.tolist() == latents.scenarios.tolist()
    assert [own.score.shape for own in found] == [(24, 1536)] * 2
    assert not np.array_equal(found[0].score, found[1].score)
    assert all(np.abs(own.score).max() > 0.1 for own in found)


def test_sql_answers_with_the_printed_numbers(audit: SealedAudit) -> None:
    """The evidence holds every finding with the numbers of findings.json."""
    rows = answer(audit.folder, "SELECT finding, d_z, p_holm FROM finding ORDER BY finding").rows
    told = sorted(
        (f.id, f.d_z.value, f.p_holm)
        for concept in audit.result.findings.concepts
        for contrast in concept.contrasts
        for f in contrast.findings
    )
    assert list(rows) == told
    assert len(rows) > 0


def test_a_printed_effect_follows_from_the_activations(audit: SealedAudit) -> None:
    """d_z of a finding, recomputed in plain SQL from the sparse rows, is the printed one."""
    finding = next(f for c in audit.result.findings.concepts for k in c.contrasts for f in k.findings)
    other = {Contrast.TOPIC: "neutral", Contrast.DISTINCTION: "control"}[finding.contrast]
    statement = f"""
        WITH top AS (
            SELECT prompt, max(activation)::DOUBLE AS a FROM activation
            WHERE sae = '{finding.sae}' AND latent = {finding.latent} GROUP BY prompt
        ),
        score AS (
            SELECT p.scenario, avg(coalesce(a, 0)) FILTER (p.arm = 'concept')
                - avg(coalesce(a, 0)) FILTER (p.arm = '{other}') AS s
            FROM prompt AS p LEFT JOIN top USING (prompt)
            WHERE p.split = 'confirmation' AND p.frame <> 'outcome' AND p.arm IN ('concept', '{other}')
            GROUP BY p.scenario
        )
        SELECT avg(s) / stddev_samp(s) FROM score
    """  # noqa: S608 - a test's own values
    ((value,),) = answer(audit.folder, statement).rows
    assert value == pytest.approx(finding.d_z.value, rel=1e-9)


def test_a_sealed_bundle_is_not_overwritten(audit: SealedAudit) -> None:
    """Running into it is refused before anything happens."""
    before = digest_file(audit.folder / "attestation.sigstore.json")
    with pytest.raises(OutputError):
        run_audit(audit.request, progress=Silent())
    assert digest_file(audit.folder / "attestation.sigstore.json") == before


def small_config(model: Path, sae: Path, **probes: object) -> AuditConfig:
    """Return a configuration for a small model and SAE."""
    return AuditConfig(
        model=ModelConfig(source=str(model)),
        sae=SaeConfig(sources=(str(sae),)),
        probes=ProbeConfig(**probes),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("site", "error"), [("resid_post.9", SiteNotFound), ("mlp.1", SiteNotFound), ("resid_post.15", SiteNotFound)]
)
def test_an_sae_for_another_depth_is_refused(
    audit: SealedAudit, tmp_path: Path, site: str, error: type[Exception]
) -> None:
    """Nothing is left behind."""
    model, sae = save_model(tmp_path / "m", "llama"), write_sae(tmp_path / "sae", site=site)
    with pytest.raises(error):
        run_audit(replace(audit.request, config=small_config(model, sae), out=tmp_path / "out"), progress=Silent())
    assert not [p for p in tmp_path.iterdir() if "out" in p.name]


def test_an_sae_of_another_width_is_refused(audit: SealedAudit, tmp_path: Path) -> None:
    """The small SAE has width 32, the default model 576."""
    config = replace(audit.request.config, sae=SaeConfig(sources=(str(write_sae(tmp_path / "sae")),)))
    with pytest.raises(ShapeMismatch):
        run_audit(replace(audit.request, config=config, out=tmp_path / "out"), progress=Silent())
    assert not (tmp_path / "out").exists()


def test_an_outcome_of_two_tokens_is_refused(audit: SealedAudit, tmp_path: Path) -> None:
    """The small tokenizer splits Yes: the concept and the continuation are named."""
    model, sae = save_model(tmp_path / "m", "llama"), write_sae(tmp_path / "sae")
    with pytest.raises(SuiteError) as caught:
        run_audit(replace(audit.request, config=small_config(model, sae), out=tmp_path / "out"), progress=Silent())
    assert "outcome" in caught.value.item


def test_a_model_that_does_not_exist_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is neither folder nor reachable id gives one environment error."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelUnavailable):
        load_model(ModelConfig(source="nobody/no-such-model"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelUnavailable):
        load_model(ModelConfig(source=str(tmp_path / "empty")))


def test_the_manifest_has_the_digest_of_the_activations(audit: SealedAudit) -> None:
    """It covers what the shards say, whoever wrote them."""
    manifest = json.loads((audit.folder / "manifest.json").read_text())
    assert manifest["activations_digest"] == content_digest(audit.folder / ACTIVATIONS)


def test_a_ray_worker_makes_the_same_instruments(audit: SealedAudit, tmp_path: Path) -> None:
    """From names and numbers alone a worker builds what the audit has: two jobs give the bundle's own shards."""
    capture_config = replace(audit.request.config.capture, executor=ExecutorKind.RAY, workers=1)
    config = replace(audit.request.config, capture=capture_config)
    subject = load_subject(read_inputs(load_suites(config.probes.suites), config, Silent()), config)
    sweep, *_ = _sweeps(subject, config)
    batch_tokens = config.capture.batch_tokens
    jobs = plan_jobs(subject.model, sweep.stations, sweep.prompts, batch_tokens=batch_tokens)
    capture((jobs[0], jobs[-1]), _executor(subject, sweep, config), folder=tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(made) == 4
    assert made == {name: (audit.folder / ACTIVATIONS / name).read_bytes() for name in made}


def test_the_bundle_tells_no_path_of_this_machine(audit: SealedAudit) -> None:
    """The suite was given as a folder: its name is in the manifest, its place is not."""
    manifest = (audit.folder / "manifest.json").read_text()
    assert json.loads(manifest)["run"]["config"]["probes"]["suites"] == ["finance"]
    place = audit.request.config.probes.suites[0].removesuffix("finance").encode()
    for path in audit.folder.rglob("*"):
        assert not path.is_file() or place not in path.read_bytes(), path.name


def test_a_timestamp_address_is_checked_before_work(audit: SealedAudit, tmp_path: Path) -> None:
    """A scheme that no authority speaks is refused at once."""
    config = replace(audit.request.config, seal=SealConfig(SealLevel.B_T, "ftp://tsa"))
    with pytest.raises(ConfigError):
        run_audit(replace(audit.request, config=config, out=tmp_path / "out"), progress=Silent())
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_not_the_planned_one_measures_nothing(audit: SealedAudit, tmp_path: Path) -> None:
    """One threshold less strict than promised: refused before the model runs, with both values."""
    config = replace(audit.request.config, analysis=replace(audit.request.config.analysis, fdr_q=0.1))
    request = replace(another(audit.request, tmp_path / "out"), config=config)
    with pytest.raises(UsageError, match=r"config\.analysis\.fdr_q: planned 0\.05, found 0\.1"):
        run_audit(request, progress=Silent())
    assert not (tmp_path / "out").exists()


def test_the_reports_say_that_the_audit_was_planned(audit: SealedAudit) -> None:
    """The verifier compares plan and audit, and the manifest names the plan's moment."""
    check = verify_bundle(audit.folder, trusted=audit.certificate)[CheckName.PLAN]
    assert check.status is CheckStatus.PASS
    assert (MOMENT - timedelta(hours=1)).isoformat() in check.detail
