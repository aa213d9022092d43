"""Real keys, a real PDF and a real sealed bundle, made once a session."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from audit.digests import canonical_json
from audit.signing.keys import KeyKind, load_signer, new_sealing_key
from audit.signing.pdf import sign_pdf
from audit.signing.seal import seal_bundle
from tests.signing.bundle_making import FINDINGS, SIGNED_AT, Keyed, claims, make_keyed, write_bundle
from tests.signing.timestamp_authority import Authority, running_authority


@pytest.fixture(scope="session")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Keyed:
    """The ECDSA P-256 seal that signs the session's bundle."""
    return make_keyed(tmp_path_factory.mktemp("ecdsa") / "key", "Acme seal")


@pytest.fixture(scope="session")
def rsa_keyed(tmp_path_factory: pytest.TempPathFactory) -> Keyed:
    """An RSA-3072 seal."""
    return make_keyed(tmp_path_factory.mktemp("rsa") / "key", "Acme RSA seal", KeyKind.RSA_3072)


@pytest.fixture(scope="session")
def other_keyed(tmp_path_factory: pytest.TempPathFactory) -> Keyed:
    """Another seal with the same names, as an impostor would make it."""
    return make_keyed(tmp_path_factory.mktemp("other") / "key", "Acme seal")


@pytest.fixture(scope="session")
def findings_json() -> bytes:
    """The findings as the evidence room writes them."""
    return canonical_json(FINDINGS)


@pytest.fixture(scope="session")
def plain_pdf(findings_json: bytes) -> bytes:
    """An unsigned PDF/A-3 by WeasyPrint, with findings.json attached."""
    from weasyprint import HTML, Attachment

    attachment = Attachment(string=findings_json, name="findings.json", relationship="Data")
    page = "<html lang=en><head><title>Audit</title></head><body><h1>Audit</h1><p>One page.</p></body></html>"
    with warnings.catch_warnings():
        # WeasyPrint 70 leaves the colour profile that it reads for PDF/A to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        pdf: bytes = HTML(string=page).write_pdf(attachments=[attachment], pdf_variant="pdf/a-3a", pdf_tags=True)
    return pdf


@pytest.fixture(scope="session")
def sealed_pdf(plain_pdf: bytes, keyed: Keyed) -> bytes:
    """The PDF with its seal."""
    return sign_pdf(plain_pdf, keyed.signer, signed_at=SIGNED_AT, reason="Audit evidence", location="Berlin")


@pytest.fixture(scope="session")
def sealed_bundle(
    tmp_path_factory: pytest.TempPathFactory, plain_pdf: bytes, keyed: Keyed, findings_json: bytes
) -> Path:
    """A sealed bundle; tests change copies of it only."""
    folder = tmp_path_factory.mktemp("sealed") / "bundle"
    write_bundle(folder, plain_pdf, findings_json, keyed.signer)
    predicate = {**claims(folder), "audit": "demo"}
    seal_bundle(folder, keyed.signer, predicate=predicate, signed_at=SIGNED_AT, tool_version="0.1.0")
    return folder


@pytest.fixture
def bundle(sealed_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the sealed bundle that a test may attack."""
    copy = tmp_path / "bundle"
    shutil.copytree(sealed_bundle, copy)
    return copy


@pytest.fixture
def unsealed(tmp_path: Path, sealed_bundle: Path) -> Path:
    """A bundle that is ready to be sealed."""
    folder = tmp_path / "unsealed"
    shutil.copytree(sealed_bundle, folder, ignore=shutil.ignore_patterns("attestation.*", "certificate.pem"))
    return folder


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """A real timestamp authority; the path /broken answers with something else."""
    with running_authority(tmp_path_factory.mktemp("tsa")) as running:
        yield running


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> tuple[Keyed, datetime]:
    """A seal that is valid now: the authority has a real clock."""
    now = datetime.now(UTC).replace(microsecond=0)
    files = new_sealing_key(
        tmp_path_factory.mktemp("fresh") / "key",
        "Fresh seal",
        organisation=None,
        days=30,
        not_before=now - timedelta(days=7),
    )
    return Keyed(files, load_signer(files.key_path, files.certificate_path, at=now)), now
