"""Level B-LT in one revision, with authorities that answer by OCSP and by CRL; and the fall to level B-B."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path

import pikepdf
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

from audit.config import SealConfig, SealLevel, WithoutTimestamp
from audit.digests import Json, canonical_json
from audit.errors import EnvironmentProblem, KeyProblem
from audit.signing.checks import CheckName, CheckStatus
from audit.signing.lone_report import verify_report
from audit.signing.pdf import sign_pdf, verify_pdf
from audit.signing.seal import seal_bundle
from audit.signing.timestamps import attainable_level
from audit.signing.verify import VerifyResult, verify_bundle
from tests.signing.authorities import Issued, issue, issue_seal
from tests.signing.bundle_making import Keyed, attach_manifest, claims, write_bundle
from tests.signing.timestamp_authority import Authority, serve

NOW = datetime.now(UTC).replace(microsecond=0)
START = NOW - timedelta(days=30)


@dataclass(slots=True)
class Services:
    """The addresses of the OCSP service and the CRL, and whom they have revoked."""

    url: str = ""
    issuers: dict[bytes, Issued] = field(default_factory=dict)
    revoked: set[int] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def ocsp(self, request_der: bytes) -> bytes:
        """Return the signed answer to an OCSP request."""
        request = ocsp.load_der_ocsp_request(request_der)
        issuer = self.issuers[request.issuer_key_hash]
        revoked = request.serial_number in self.revoked
        builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
            issuer_name_hash=request.issuer_name_hash,
            issuer_key_hash=request.issuer_key_hash,
            serial_number=request.serial_number,
            algorithm=request.hash_algorithm,
            cert_status=ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD,
            this_update=NOW - timedelta(hours=1),
            next_update=NOW + timedelta(days=1),
            revocation_time=START + timedelta(days=1) if revoked else None,
            revocation_reason=x509.ReasonFlags.key_compromise if revoked else None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer.certificate)
        for extension in request.extensions:
            builder = builder.add_extension(extension.value, critical=False)
        return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def crl(self, issuer: Issued) -> bytes:
        """Return the issuer's list of revoked certificates."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject)
        builder = builder.last_update(NOW - timedelta(hours=1)).next_update(NOW + timedelta(days=1))
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(identifier, critical=False).add_extension(x509.CRLNumber(1), critical=False)
        for serial in sorted(self.revoked):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(START + timedelta(days=1))
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.fixture
def services() -> Iterator[Services]:
    """A responder that signs with the keys of the authorities that are registered with it."""
    state = Services()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.asked.append("ocsp")
            self.answer(state.ocsp(self.rfile.read(int(self.headers["Content-Length"]))), "ocsp-response")

        def do_GET(self) -> None:
            state.asked.append("crl")
            [issuer] = [it for it in state.issuers.values() if f"/{it.certificate.serial_number}.crl" == self.path]
            self.answer(state.crl(issuer), "pkix-crl")

        def answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", f"application/{kind}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    with serve(Handler) as url:
        state.url = url
        yield state


def issued_by(services: Services, way: str) -> tuple[Issued, Issued]:
    """Return a seal and its root; seal and intermediate name the OCSP service, or a CRL each."""

    def address(issuer: Issued) -> x509.ExtensionType:
        services.issuers[x509.SubjectKeyIdentifier.from_public_key(issuer.key.public_key()).digest] = issuer
        if way == "ocsp":
            uri = x509.UniformResourceIdentifier(services.url)
            return x509.AuthorityInformationAccess([x509.AccessDescription(AuthorityInformationAccessOID.OCSP, uri)])
        uri = x509.UniformResourceIdentifier(f"{services.url}/{issuer.certificate.serial_number}.crl")
        return x509.CRLDistributionPoints([x509.DistributionPoint([uri], None, None, None)])

    root = issue("Root", start=START)
    middle = issue("Issuing CA", root, start=START, extensions=[address(root)])
    return issue_seal(middle, start=START, extensions=[address(middle)]), root


@pytest.mark.parametrize("way", ["ocsp", "crl"])
def test_a_long_term_seal_carries_what_its_authorities_said(  # noqa: PLR0917 - fixtures
    way: str, services: Services, authority: Authority, plain_pdf: bytes, findings_json: bytes, tmp_path: Path
) -> None:
    """One revision over the entire file, /DSS with certificates and answers, no /VRI; trusted as not revoked."""
    seal, root = issued_by(services, way)
    sealed = sign_pdf(plain_pdf, seal.signer(), signed_at=NOW, reason="r", level=SealLevel.B_LT, tsa_url=authority.url)
    result = verify_pdf(sealed, seal.certificate, moment=NOW)
    assert result.problems == ()
    assert result.timestamp is not None
    assert set(services.asked) == {way}
    with pikepdf.open(BytesIO(sealed)) as document:
        store = document.Root.DSS
        assert len(store.Certs) >= 2
        assert len(store.get(f"/{way.upper()}s")) == 2
        assert "/VRI" not in store
    assert sealed.count(b"/Contents <") == 1
    assert sealed.count(b"startxref") == plain_pdf.count(b"startxref") + 1
    if shutil.which("pdfsig") is not None:
        (tmp_path / "x.pdf").write_bytes(sealed)
        said = subprocess.run(
            ["pdfsig", "-nocert", "x.pdf"], cwd=tmp_path, capture_output=True, text=True, check=False
        ).stdout
        assert "Signature is Valid" in said
        assert "Total document signed" in said
    (tmp_path / "root.pem").write_bytes(root.pem)
    folder = tmp_path / "b"
    write_bundle(folder, plain_pdf, findings_json, seal.signer(), at=NOW)
    report = attach_manifest(plain_pdf, folder)
    (folder / "report.pdf").write_bytes(
        sign_pdf(report, seal.signer(), signed_at=NOW, reason="r", level=SealLevel.B_LT, tsa_url=authority.url)
    )
    seal_bundle(folder, seal.signer(), predicate=claims(folder), signed_at=NOW, tool_version="0.1.0")
    found = verify_bundle(folder, trusted=tmp_path / "root.pem", trusted_tsa=authority.root)
    assert found.verdict == "valid", found[CheckName.SIGNER_TRUSTED].detail
    assert "not revoked by the answers in the PDF" in found[CheckName.SIGNER_TRUSTED].detail
    alone = verify_report(folder / "report.pdf", trusted=tmp_path / "root.pem", trusted_tsa=authority.root)
    assert alone.verdict == "report alone, valid"


def test_a_revoked_certificate_does_not_seal(services: Services, authority: Authority, plain_pdf: bytes) -> None:
    """By either authority; and a service that is gone is no consent."""
    seal, _ = issued_by(services, "ocsp")
    services.revoked.add(seal.certificate.serial_number)
    with pytest.raises(EnvironmentProblem, match="revoked"):
        sign_pdf(plain_pdf, seal.signer(), signed_at=NOW, reason="r", level=SealLevel.B_LT, tsa_url=authority.url)
    services.revoked.clear()
    services.issuers.clear()
    with pytest.raises(EnvironmentProblem, match="call it good"):
        sign_pdf(plain_pdf, seal.signer(), signed_at=NOW, reason="r", level=SealLevel.B_LT, tsa_url=authority.url)


def test_a_certificate_that_nobody_can_revoke_has_no_long_term_level(
    authority: Authority, plain_pdf: bytes, fresh: tuple[Keyed, datetime]
) -> None:
    """Self-signed, or issued without an address where its authority answers: a clear error, and no half B-LT."""
    pair, now = fresh
    with pytest.raises(KeyProblem, match="a certificate alone"):
        sign_pdf(plain_pdf, pair.signer, signed_at=now, reason="r", level=SealLevel.B_LT, tsa_url=authority.url)
    silent = issue_seal(issue("Root", start=START), start=START)
    with pytest.raises(KeyProblem, match="none that does"):
        sign_pdf(plain_pdf, silent.signer(), signed_at=NOW, reason="r", level=SealLevel.B_LT, tsa_url=authority.url)


@pytest.mark.parametrize("path", ["/broken", None])
def test_an_authority_that_is_down_decides_the_level_before_anything_is_written(
    path: str | None, authority: Authority
) -> None:
    """Refused by default; where the configuration allows it, B-B. With an answer, the level asked for."""
    url = authority.url + path if path else "http://127.0.0.1:9/tsa"
    for level in (SealLevel.B_T, SealLevel.B_LT):
        with pytest.raises(EnvironmentProblem):
            attainable_level(SealConfig(level, url))
        assert attainable_level(SealConfig(level, url, WithoutTimestamp.ALLOW)) is SealLevel.B_B
        assert attainable_level(SealConfig(level, authority.url)) is level
    assert attainable_level(SealConfig()) is SealLevel.B_B


def levelled(folder: Path, plain_pdf: bytes, pair: Keyed, *, asked: str, made: str, real: SealLevel, tsa: str) -> None:
    """Write a bundle whose manifest names two levels, and whose PDF has a third."""
    write_manifest = json.loads((folder / "manifest.json").read_bytes())
    run: dict[str, Json] = write_manifest["run"]
    run["config"] = {"seal": {"level": asked}}
    run["environment"] = {"seal level": made}
    (folder / "manifest.json").write_bytes(canonical_json(write_manifest))
    moment = datetime.fromisoformat(str(run["created_at"]))
    sealed = sign_pdf(
        attach_manifest(plain_pdf, folder), pair.signer, signed_at=moment, reason="r", level=real, tsa_url=tsa
    )
    (folder / "report.pdf").write_bytes(sealed)
    seal_bundle(folder, pair.signer, predicate=claims(folder), signed_at=moment, tool_version="0.1.0")


@pytest.mark.parametrize(
    ("asked", "made", "real", "status", "words"),
    [
        (
            "B-T",
            "B-B",
            SealLevel.B_B,
            CheckStatus.NOT_CHECKED,
            "without the timestamp that the configuration asked for",
        ),
        ("B-T", "B-T", SealLevel.B_B, CheckStatus.FAIL, "the PDF has no timestamp"),
        ("B-LT", "B-LT", SealLevel.B_T, CheckStatus.FAIL, "the PDF has no answers"),
        ("B-B", "B-B", SealLevel.B_B, CheckStatus.NOT_CHECKED, "the signer's claim"),
        ("B-T", "B-T", SealLevel.B_T, CheckStatus.PASS, "trusted authority"),
    ],
)
def test_verify_holds_the_seal_against_the_level_in_the_manifest(  # noqa: PLR0917 - parameters and fixtures
    asked: str,
    made: str,
    real: SealLevel,
    status: CheckStatus,
    words: str,
    authority: Authority,
    fresh: tuple[Keyed, datetime],
    plain_pdf: bytes,
    findings_json: bytes,
    tmp_path: Path,
) -> None:
    """CMS leaves a timestamp unsigned: whoever takes it out of a lone PDF is found out by the manifest inside."""
    pair, now = fresh
    folder = tmp_path / "b"
    write_bundle(folder, plain_pdf, findings_json, pair.signer, at=now)
    levelled(folder, plain_pdf, pair, asked=asked, made=made, real=real, tsa=authority.url)

    def check(result: VerifyResult) -> None:
        assert result[CheckName.TIMESTAMP].status is status
        assert words in result[CheckName.TIMESTAMP].detail

    check(verify_bundle(folder, trusted=None, trusted_tsa=authority.root))
    check(verify_report(folder / "report.pdf", trusted=None, trusted_tsa=authority.root))
