"""What several rooms share: a small random model with its tokenizer, and one real audit of the default model."""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
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
from audit.signing.keys import KEY_NAME, Signer, certificate_path, load_signer, new_sealing_key
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
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all processes of this test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def signer(shared: Path) -> Signer:
    """Return a real sealing key, made for this test run."""
    with alone(shared / "seal.lock"):
        folder, begin = shared / "seal", MOMENT - timedelta(days=1)
        if not folder.exists():
            new_sealing_key(folder, "Test seal", organisation="Tests", days=30, not_before=begin)
    return load_signer(folder / KEY_NAME, certificate_path(folder), at=MOMENT)


@pytest.fixture(scope="session")
def certificate(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the signer's certificate as a file outside any bundle."""
    path = certificate_path(tmp_path_factory.mktemp("pinned"))
    path.write_bytes(signer.certificate.pem)
    return path


@pytest.fixture(scope="session")
def short_suite(shared: Path) -> Path:
    """Return the shipped finance suite with its first frame only: real scenarios, a third of the prompts."""
    folder = shared / "suite" / "finance"
    with alone(shared / "suite.lock"):
        if not folder.exists():
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
def audit(short_config: AuditConfig, signer: Signer, certificate: Path, shared: Path) -> SealedAudit:
    """Return one sealed audit of the real default model, done as planned. Tests must not change it.

    The first process that asks makes it; the others wait for it.
    """
    out, made = shared / "audit" / "bundle", shared / "audit" / "made.pickle"
    with alone(shared / "audit.lock"):
        if not made.exists():
            plan = seal_plan(short_config, signer, at=MOMENT - timedelta(hours=1))
            request = _planned_request(short_config, out, signer, plan)
            made.write_bytes(pickle.dumps((run_audit(request, progress=Silent()), plan.data)))
    result, plan_bytes = pickle.loads(made.read_bytes())  # noqa: S301 - written above
    return SealedAudit(
        result, _planned_request(short_config, out, signer, read_plan(plan_bytes, item="plan")), certificate
    )


def _planned_request(config: AuditConfig, out: Path, signer: Signer, plan: Plan) -> AuditRequest:
    return AuditRequest(config, out, signer, MOMENT, "affidavit run --plan plan --out bundle", plan=plan)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock that one process of the test run has at a time."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
