"""What several rooms share: a small random model with its tokenizer, and one real audit of the default model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from audit import __version__
from audit.config import AnalysisConfig, AuditConfig, CaptureConfig, CausalConfig, FidelityConfig, ProbeConfig
from audit.inputs import read_inputs
from audit.pipeline import AuditResult, run_audit
from audit.planning import planned
from audit.progress import Silent
from audit.request import AuditRequest
from audit.signing.dsse import sign_payload
from audit.signing.keys import Signer, certificate_path, load_signer, new_sealing_key
from audit.signing.plan import Plan, plan_statement, read_plan
from audit.signing.statement import SignerBlock
from probes.loader import load_suites

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SealedAudit:
    """A bundle of the real default model, with what made it."""

    result: AuditResult
    request: AuditRequest
    certificate: Path

    @property
    def folder(self) -> Path:
        """Return the bundle's folder."""
        return self.result.folder


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    """Return a real sealing key, made for this test run."""
    folder = tmp_path_factory.mktemp("keys") / "seal"
    made = new_sealing_key(folder, "Test seal", organisation="Tests", days=30, not_before=MOMENT - timedelta(days=1))
    return load_signer(made.key_path, made.certificate_path, at=MOMENT)


@pytest.fixture(scope="session")
def certificate(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the signer's certificate as a file outside any bundle."""
    path = certificate_path(tmp_path_factory.mktemp("pinned"))
    path.write_bytes(signer.certificate.pem)
    return path


@pytest.fixture(scope="session")
def short_suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the shipped finance suite with its first frame only: real scenarios, a third of the prompts."""
    folder = tmp_path_factory.mktemp("suite") / "finance"
    shutil.copytree(Path(str(files("probes.suites"))) / "finance", folder)
    suite = yaml.safe_load((folder / "suite.yaml").read_text())
    suite |= {"frames": suite["frames"][:1], "concepts": ["insider_trading"], "mixes": [], "subsets": {}}
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    return folder


@pytest.fixture(scope="session")
def short_config(short_suite: Path) -> AuditConfig:
    """Return a configuration that audits the real default model in about a minute."""
    return AuditConfig(
        probes=ProbeConfig(suites=(str(short_suite),)),
        capture=CaptureConfig(batch_tokens=1024),
        analysis=AnalysisConfig(flips=20_000, permutations=60, bootstrap=400),
        fidelity=FidelityConfig(spliced_scenarios=4),
        causal=CausalConfig(sham_scenarios=2, screen_sample=20, doses=(1.0,), new_tokens=6),
    )


@pytest.fixture(scope="session")
def audit(
    short_config: AuditConfig, signer: Signer, certificate: Path, tmp_path_factory: pytest.TempPathFactory
) -> SealedAudit:
    """Return one sealed audit of the real default model, done as planned. Tests must not change it."""
    out = tmp_path_factory.mktemp("audits") / "bundle"
    plan = seal_plan(short_config, signer, at=MOMENT - timedelta(hours=1))
    request = AuditRequest(short_config, out, signer, MOMENT, "affidavit run --plan plan --out bundle", plan=plan)
    return SealedAudit(run_audit(request, progress=Silent()), request, certificate)


@pytest.fixture
def bundle_copy(audit: SealedAudit, tmp_path: Path) -> Iterator[Path]:
    """Yield a copy of the sealed audit that a test may damage."""
    target = tmp_path / "bundle"
    shutil.copytree(audit.folder, target)
    yield target
    shutil.rmtree(target)


def seal_plan(config: AuditConfig, signer: Signer, *, at: datetime) -> Plan:
    """Return the sealed plan of an audit, as it is read from its file."""
    suites = load_suites(config.probes.suites, subset=config.probes.subset)
    content = planned(read_inputs(suites, config, Silent()), config)
    block = SignerBlock.of(signer.certificate)
    statement = plan_statement(content, signer=block, signed_at=at, version=__version__)
    return read_plan(sign_payload(statement.payload, signer), item="plan")


def another(request: AuditRequest, out: Path) -> AuditRequest:
    """Return the same audit with another output folder."""
    return replace(request, out=out)
