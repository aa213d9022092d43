"""How the sealed bundle of this folder was made: `python -m tests.evidence_v1.making`, once.

It is never made again: every later version must verify the bytes that this version sealed.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from audit import __version__
from audit.config import (
    AnalysisConfig,
    AuditConfig,
    FidelityConfig,
    ModelConfig,
    ProbeConfig,
    SaeConfig,
    SealConfig,
    SealLevel,
)
from audit.pipeline import run_audit
from audit.progress import Silent
from audit.records import Predecessor
from audit.request import AuditRequest
from audit.signing.approvals import write_approval
from audit.signing.keys import load_signer, new_sealing_key
from audit.signing.verify import verify_bundle
from tests.conftest import seal_plan
from tests.planting import save_model, save_sae, save_suite
from tests.signing.timestamp_authority import running_authority

HERE = Path(__file__).parent
ARCHIVE, SEAL, TSA_ROOT, PERSON = "bundles.tar.xz", "seal.pem", "timestamp-root.pem", "person.pem"


def make(here: Path) -> None:
    """Write two linked bundles of a small planted model, an approval, and the certificates to pin."""
    with tempfile.TemporaryDirectory() as scratch, running_authority(_made(Path(scratch) / "tsa")) as authority:
        root = Path(scratch)
        now = datetime.now(UTC).replace(microsecond=0)
        start = now - timedelta(days=1)
        seal = new_sealing_key(root / "seal", "Evidence seal", organisation="Tests", days=30, not_before=start)
        person = new_sealing_key(root / "me", "A. Reviewer", organisation=None, days=30, not_before=start)
        signer = load_signer(seal.key_path, seal.certificate_path, at=now)
        config = AuditConfig(
            model=ModelConfig(source=str(save_model(root / "model"))),
            sae=SaeConfig(sources=(str(save_sae(root / "sae")),), controls=()),
            probes=ProbeConfig(suites=(str(save_suite(root / "suite")),)),
            analysis=AnalysisConfig(permutations=100, bootstrap=400),
            fidelity=FidelityConfig(amber_delta_ce=100.0),
            seal=SealConfig(level=SealLevel.B_T, tsa=authority.url),
        )
        plan = seal_plan(config, signer, at=now - timedelta(hours=1))
        request = AuditRequest(config, root / "first", signer, now, "affidavit run --out first", plan=plan)
        run_audit(request, progress=Silent())
        first = verify_bundle(root / "first", trusted=None).statement
        if first is None:
            raise SystemExit("the first bundle does not verify")
        before = Predecessor(first.sequence, first.digest)
        later = replace(request, out=root / "second", command="affidavit run --out second", plan=None, previous=before)
        run_audit(later, progress=Silent())
        key = load_signer(person.key_path, person.certificate_path, at=now)
        write_approval(
            root / "first.approvals",
            first,
            key,
            name="A. Reviewer",
            meaning="review",
            signed_at=now,
            tool_version=__version__,
        )
        with tarfile.open(root / ARCHIVE, "w:xz") as archive:
            for name in ("first", "first.approvals", "second"):
                archive.add(root / name, name, filter=_plain)
        for source, name in (
            (root / ARCHIVE, ARCHIVE),
            (seal.certificate_path, SEAL),
            (authority.root, TSA_ROOT),
            (person.certificate_path, PERSON),
        ):
            shutil.copyfile(source, here / name)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _plain(item: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return the entry without its owner and time."""
    return item.replace(uid=0, gid=0, uname="", gname="", mtime=0, deep=False)


if __name__ == "__main__":
    if (HERE / ARCHIVE).exists():
        sys.exit(f"{ARCHIVE} exists: it is kept as it is")
    make(HERE)
