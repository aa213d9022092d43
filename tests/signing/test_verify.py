"""Each check of a bundle, alone: what makes it pass, fail, or stay unmade."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pikepdf
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from audit.digests import canonical_json, digest_file
from audit.errors import EvidenceError, KeyProblem
from audit.signing.bundle_files import scan_folder
from audit.signing.certificates import describe
from audit.signing.checks import Check, CheckName, CheckStatus
from audit.signing.dsse import sign_payload
from audit.signing.keys import Signer
from audit.signing.pdf import sign_pdf
from audit.signing.seal import seal_bundle
from audit.signing.statement import SignerBlock, build_statement
from audit.signing.verify import VerifyResult, verify_bundle
from tests.signing.bundle_making import NOT_BEFORE, SIGNED_AT, Keyed, write_bundle

ATTESTATION = "attestation.sigstore.json"


def failures(result: VerifyResult) -> dict[CheckName, Check]:
    """Return the checks that failed, by name."""
    return {check.name: check for check in result.checks if check.status is CheckStatus.FAIL}


def reseal(folder: Path, keyed: Keyed, **changes: object) -> None:
    """Sign the folder as it is, without the checks that `seal_bundle` makes first: a dishonest signer."""
    arguments: dict[str, object] = {
        "signer": SignerBlock.of(keyed.signer.certificate),
        "signed_at": SIGNED_AT,
        "tool_version": "0.1.0",
    }
    (folder / ATTESTATION).unlink(missing_ok=True)
    statement = build_statement(scan_folder(folder).digests, {}, **(arguments | changes))
    (folder / ATTESTATION).write_bytes(sign_payload(statement.payload, keyed.signer))


def test_an_untouched_bundle_passes_every_check_in_order(bundle: Path, keyed: Keyed) -> None:
    """All ten, with the timestamp unmade as there is none; trusted, so the verdict is valid."""
    result = verify_bundle(bundle, trusted=keyed.files.certificate_path)
    assert [check.name for check in result.checks] == list(CheckName)
    assert result[CheckName.TIMESTAMP].status is CheckStatus.NOT_CHECKED
    assert [c.name for c in result.checks if c.status is not CheckStatus.PASS] == [CheckName.TIMESTAMP]
    assert (result.ok, result.trusted, result.verdict) == (True, True, "valid")
    assert result.fingerprint == keyed.signer.certificate.fingerprint


def test_without_a_pin_the_answer_is_never_plain_valid(bundle: Path) -> None:
    """Intact, signer not trusted."""
    result = verify_bundle(bundle, trusted=None)
    assert result[CheckName.SIGNER_TRUSTED] == Check(
        CheckName.SIGNER_TRUSTED, CheckStatus.NOT_CHECKED, "intact, signer not trusted: give --trust"
    )
    assert (result.ok, result.trusted, result.verdict) == (True, False, "intact, signer not trusted")


def test_the_result_as_json_is_canonical_and_complete(bundle: Path) -> None:
    """Every check with its words, and the statement's facts."""
    value = json.loads(canonical_json(verify_bundle(bundle, trusted=None).as_json()))
    assert value["verdict"] == "intact, signer not trusted"
    assert len(value["checks"]) == len(CheckName)
    assert value["checks"][0]["status"] == "pass"
    assert value["statement"]["signer"]["common_name"] == "Acme seal"
    assert value["statement"]["signed_at"] == "2026-03-01T12:00:00+00:00"


def test_an_impostor_with_the_same_names_fails_the_pin(
    tmp_path: Path, plain_pdf: bytes, findings_json: bytes, other_keyed: Keyed, keyed: Keyed
) -> None:
    """Everything holds but the trust."""
    folder = tmp_path / "b"
    write_bundle(folder, sign_pdf(plain_pdf, other_keyed.signer, signed_at=SIGNED_AT, reason="r"), findings_json)
    seal_bundle(folder, other_keyed.signer, predicate={}, signed_at=SIGNED_AT, tool_version="0.1.0")
    result = verify_bundle(folder, trusted=keyed.files.certificate_path)
    assert set(failures(result)) == {CheckName.SIGNER_TRUSTED}
    assert result.verdict == "INVALID"


def test_a_swapped_signature_convinces_nobody(bundle: Path, keyed: Keyed, other_keyed: Keyed) -> None:
    """The trusted certificate around another key's signature: no check passes on the unsigned statement's word."""
    document = json.loads((bundle / ATTESTATION).read_bytes())
    payload = build_statement(
        scan_folder(bundle).digests,
        {},
        signer=SignerBlock.of(keyed.signer.certificate),
        signed_at=SIGNED_AT,
        tool_version="0.1.0",
    ).payload
    forged = json.loads(sign_payload(payload, other_keyed.signer))
    document["dsseEnvelope"]["payload"] = forged["dsseEnvelope"]["payload"]
    document["dsseEnvelope"]["signatures"][0]["sig"] = forged["dsseEnvelope"]["signatures"][0]["sig"]
    (bundle / ATTESTATION).write_bytes(canonical_json(document))
    result = verify_bundle(bundle, trusted=keyed.files.certificate_path)
    assert set(failures(result)) == {CheckName.SIGNATURE}
    assert [c.name for c in result.checks if c.status is CheckStatus.PASS] == [CheckName.ATTESTATION_READABLE]
    assert not result.trusted


def test_changed_missing_and_extra_files_are_all_named(bundle: Path) -> None:
    """In one run, each with what is wrong about it."""
    (bundle / "evidence.duckdb").write_bytes(b"other")
    (bundle / "exports" / "summary.md").unlink()
    (bundle / "exports" / "more.md").write_text("x", encoding="utf-8")
    (bundle / "attestation.other.json").write_text("x", encoding="utf-8")
    check = verify_bundle(bundle, trusted=None)[CheckName.FILES_INTACT]
    assert check.status is CheckStatus.FAIL
    assert set(check.files) == {"evidence.duckdb", "exports/summary.md", "exports/more.md", "attestation.other.json"}
    assert "changed: evidence.duckdb" in check.detail
    assert "missing: exports/summary.md" in check.detail
    assert "not in the signed statement: attestation.other.json, exports/more.md" in check.detail


def test_a_renamed_file_is_noticed(bundle: Path) -> None:
    """A digest covers names as well as contents."""
    (bundle / "exports" / "summary.md").rename(bundle / "exports" / "summary.txt")
    check = verify_bundle(bundle, trusted=None)[CheckName.FILES_INTACT]
    assert set(check.files) == {"exports/summary.md", "exports/summary.txt"}


def test_links_pipes_and_sockets_are_refused_unopened(bundle: Path) -> None:
    """A link to the right bytes is still a link; a pipe must not hang the verifier."""
    target = bundle.parent / "outside"
    (bundle / "evidence.duckdb").rename(target)
    (bundle / "evidence.duckdb").symlink_to(target)
    os.mkfifo(bundle / "pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(bundle / "s"))
        (bundle / "exports" / "loop").symlink_to(bundle)
        check = verify_bundle(bundle, trusted=None)[CheckName.FILES_INTACT]
    assert set(check.files) == {"evidence.duckdb", "pipe", "s", "exports/loop"}


def test_an_attestation_that_is_a_link_or_a_pipe_or_absent_is_unreadable(bundle: Path) -> None:
    """The rest stays unmade, and nothing passes."""
    (bundle / ATTESTATION).rename(bundle.parent / "a.json")
    changes: list[Callable[[], None]] = [
        lambda: None,
        lambda: (bundle / ATTESTATION).symlink_to(bundle.parent / "a.json"),
        lambda: os.mkfifo(bundle / ATTESTATION),
        (bundle / ATTESTATION).mkdir,
    ]
    for change in changes:
        change()
        result = verify_bundle(bundle, trusted=None)
        assert set(failures(result)) == {CheckName.ATTESTATION_READABLE}
        assert not any(check.status is CheckStatus.PASS for check in result.checks)
        assert ATTESTATION in result[CheckName.ATTESTATION_READABLE].detail
        if change is not changes[-1] and os.path.lexists(bundle / ATTESTATION):
            (bundle / ATTESTATION).unlink()


def test_a_name_cannot_forge_a_line_of_the_answer(bundle: Path) -> None:
    """Control characters in a file's name are printed escaped."""
    (bundle / "x\n\x1b[32mPASS signer trusted").write_bytes(b"")
    (bundle / os.fsdecode(b"\xff")).write_bytes(b"")
    check = verify_bundle(bundle, trusted=None)[CheckName.FILES_INTACT]
    assert check.status is CheckStatus.FAIL
    assert check.detail.isprintable()
    assert all(name.isprintable() for name in check.files)


@pytest.mark.parametrize(
    "block",
    [
        {"common_name": "Someone else"},
        {"organisation": "Other"},
        {"organisation": None},
        {"fingerprint": "sha256:" + "0" * 64},
        {"algorithm": "rsa-pkcs1v15-sha256"},
    ],
)
def test_the_signer_in_the_statement_is_the_certificate_s(
    bundle: Path, keyed: Keyed, block: dict[str, str | None]
) -> None:
    """A signer cannot sign for somebody else's name, nor claim another algorithm."""
    signer = SignerBlock(**(SignerBlock.of(keyed.signer.certificate).as_json() | block))
    reseal(bundle, keyed, signer=signer)
    result = verify_bundle(bundle, trusted=keyed.files.certificate_path)
    assert set(failures(result)) == {CheckName.SIGNER_IDENTITY}
    assert next(iter(block)) in result[CheckName.SIGNER_IDENTITY].detail


def test_the_certificate_file_is_the_one_that_signed(bundle: Path, keyed: Keyed, other_keyed: Keyed) -> None:
    """A reader who pins certificate.pem from the bundle must not pin another key's; nor may it be left out."""
    (bundle / "certificate.pem").write_bytes(other_keyed.signer.certificate.pem)
    reseal(bundle, keyed)
    assert set(failures(verify_bundle(bundle, trusted=None))) == {CheckName.SIGNER_IDENTITY}
    (bundle / "certificate.pem").unlink()
    reseal(bundle, keyed)
    assert CheckName.SIGNER_IDENTITY in failures(verify_bundle(bundle, trusted=None))


@pytest.mark.parametrize("days", [-1, 731])
def test_a_time_outside_the_certificate_s_validity_fails(bundle: Path, keyed: Keyed, days: int) -> None:
    """One day early, one day late. The PDF's check uses the same moment."""
    reseal(bundle, keyed, signed_at=NOT_BEFORE + timedelta(days=days))
    result = verify_bundle(bundle, trusted=keyed.files.certificate_path)
    assert set(failures(result)) == {CheckName.VALIDITY, CheckName.PDF_SIGNATURE}


def test_the_pdf_must_carry_the_same_signer_s_seal(
    bundle: Path, keyed: Keyed, other_keyed: Keyed, plain_pdf: bytes
) -> None:
    """Unsigned, signed by another, absent: each fails although the statement lists the file as it is."""
    foreign = sign_pdf(plain_pdf, other_keyed.signer, signed_at=SIGNED_AT, reason="r")
    for content in (plain_pdf, foreign):
        (bundle / "report.pdf").write_bytes(content)
        reseal(bundle, keyed)
        assert set(failures(verify_bundle(bundle, trusted=None))) == {CheckName.PDF_SIGNATURE}
    (bundle / "report.pdf").unlink()
    reseal(bundle, keyed)
    assert set(failures(verify_bundle(bundle, trusted=None))) == {CheckName.PDF_SIGNATURE, CheckName.FINDINGS_AGREE}


def test_the_three_records_of_the_findings_agree(bundle: Path, keyed: Keyed, plain_pdf: bytes) -> None:
    """Other findings in the JSON, in the page, in the PDF: the file that differs is named."""
    for name, change in (
        ("findings.json", lambda data: data.replace(b"0.25", b"0.95")),
        ("report.html", lambda data: data.replace(b"0.25", b"0.95")),
        ("report.html", lambda data: data.replace(b"affidavit-findings", b"other")),
        ("findings.json", lambda _: b'{"a":1,"a":2}'),
    ):
        before = (bundle / name).read_bytes()
        (bundle / name).write_bytes(change(before))
        manifest = json.loads((bundle / "manifest.json").read_bytes())
        manifest["files"]["findings.json"] = digest_file(bundle / "findings.json")
        (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        reseal(bundle, keyed)
        found = failures(verify_bundle(bundle, trusted=None))
        assert set(found) == {CheckName.FINDINGS_AGREE}
        assert name in found[CheckName.FINDINGS_AGREE].detail
        (bundle / name).write_bytes(before)
    pdf_without = bundle.parent / "none.pdf"
    with pikepdf.new() as pdf:
        pdf.add_blank_page()
        pdf.save(pdf_without)
    sealed = sign_pdf(pdf_without.read_bytes(), keyed.signer, signed_at=SIGNED_AT, reason="r")
    (bundle / "report.pdf").write_bytes(sealed)
    reseal(bundle, keyed)
    assert "report.pdf" in failures(verify_bundle(bundle, trusted=None))[CheckName.FINDINGS_AGREE].files
    assert plain_pdf


def test_findings_agree_by_content_and_not_by_spacing(bundle: Path, keyed: Keyed) -> None:
    """The digest is over canonical JSON: another layout of the same findings agrees."""
    value = json.loads((bundle / "findings.json").read_bytes())
    (bundle / "findings.json").write_text(json.dumps(value, indent=4), encoding="utf-8")
    reseal(bundle, keyed)
    assert verify_bundle(bundle, trusted=None)[CheckName.FINDINGS_AGREE].status is CheckStatus.PASS


@pytest.mark.parametrize(
    "manifest",
    [
        b"{}",
        b'{"files":{}}',
        b'{"files":[]}',
        b'{"files":{"evidence.duckdb":7}}',
        b'{"files":{"evidence.duckdb":"sha256:00"}}',
        b'{"files":{"ghost.txt":"sha256:00"}}',
        b'{"files":{"a":"b"},"files":{}}',
        b"[" * 100_000,
        b"\xff",
        b"",
    ],
)
def test_a_manifest_that_does_not_agree_fails(bundle: Path, keyed: Keyed, manifest: bytes) -> None:
    """Another digest, a file that nobody signed, no list at all: signed by the signer, and still a failure."""
    (bundle / "manifest.json").write_bytes(manifest)
    reseal(bundle, keyed)
    assert set(failures(verify_bundle(bundle, trusted=None))) == {CheckName.MANIFEST_AGREES}


def issued(issuer_ca: bool, *, may_issue: bool = True) -> tuple[Signer, x509.Certificate]:  # noqa: FBT001 - test data
    """Return a signer whose certificate another certificate issued, and that other certificate."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Root")])

    def build(subject: x509.Name, public: ec.EllipticCurvePublicKey, *, ca: bool, sign: bool) -> x509.Certificate:
        usage = x509.KeyUsage(
            digital_signature=True, content_commitment=True, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=sign, crl_sign=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(ca_name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(NOT_BEFORE)
        builder = builder.not_valid_after(NOT_BEFORE + timedelta(days=300))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        return builder.add_extension(usage, critical=True).sign(ca_key, hashes.SHA256())

    root = build(ca_name, ca_key.public_key(), ca=issuer_ca, sign=may_issue and issuer_ca)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Issued seal")])
    leaf = build(subject, key.public_key(), ca=False, sign=False)
    return Signer(describe(leaf, item="leaf"), key), root


@pytest.mark.parametrize(
    ("issuer_ca", "may_issue", "status"),
    [(True, True, CheckStatus.PASS), (True, False, CheckStatus.FAIL), (False, False, CheckStatus.FAIL)],
)
def test_a_pinned_ca_vouches_for_the_seals_that_it_issued(  # noqa: PLR0917 - parameters and fixtures
    issuer_ca: bool,  # noqa: FBT001 - test data
    may_issue: bool,  # noqa: FBT001 - test data
    status: CheckStatus,
    tmp_path: Path,
    plain_pdf: bytes,
    findings_json: bytes,
    keyed: Keyed,
) -> None:
    """A CA that may issue does; a certificate that is no CA, and another CA's, do not."""
    signer, root = issued(issuer_ca, may_issue=may_issue)
    folder = tmp_path / "b"
    write_bundle(folder, sign_pdf(plain_pdf, signer, signed_at=SIGNED_AT, reason="r"), findings_json)
    seal_bundle(folder, signer, predicate={}, signed_at=SIGNED_AT, tool_version="0.1.0")
    (tmp_path / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (tmp_path / "other.pem").write_bytes(issued(issuer_ca=True)[1].public_bytes(Encoding.PEM))
    assert verify_bundle(folder, trusted=tmp_path / "root.pem")[CheckName.SIGNER_TRUSTED].status is status
    for other in (tmp_path / "other.pem", keyed.files.certificate_path):
        assert verify_bundle(folder, trusted=other)[CheckName.SIGNER_TRUSTED].status is CheckStatus.FAIL


def test_what_cannot_be_verified_at_all_is_a_clear_error(bundle: Path, tmp_path: Path) -> None:
    """No folder, a file for a folder, no certificate to trust."""
    for bad in (tmp_path / "none", bundle / "findings.json"):
        with pytest.raises(EvidenceError):
            verify_bundle(bad, trusted=None)
    for bad in (tmp_path / "none.pem", bundle / "findings.json", bundle):
        with pytest.raises(KeyProblem):
            verify_bundle(bundle, trusted=bad)


def test_an_empty_folder_is_not_a_pass(tmp_path: Path) -> None:
    """No evidence is not good evidence."""
    result = verify_bundle(tmp_path, trusted=None)
    assert not result.ok
    assert not any(check.status is CheckStatus.PASS for check in result.checks)
