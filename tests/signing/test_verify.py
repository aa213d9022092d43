"""Each check of a bundle, alone: what makes it pass, fail, or stay unmade."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pikepdf
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from audit.cli.verify import verify
from audit.digests import canonical_json, digest_file
from audit.errors import EvidenceError, KeyProblem, UsageError
from audit.packing import pack, unpack
from audit.signing import pdf
from audit.signing.bundle_files import scan_folder
from audit.signing.certificates import describe
from audit.signing.checks import Check, CheckName, CheckStatus
from audit.signing.dsse import sign_payload
from audit.signing.pdf import sign_pdf
from audit.signing.seal import seal_bundle
from audit.signing.signer import Signer, SoftwareKey
from audit.signing.statement import SignerBlock, build_statement
from audit.signing.verify import VerifyResult, verify_bundle
from tests.signing.bundle_making import (
    ATTESTATION,
    FINDINGS,
    NOT_BEFORE,
    SIGNED_AT,
    Keyed,
    attach_manifest,
    claims,
    reseal,
    write_bundle,
    write_manifest,
)

DOCUMENT_SIGNING = "1.3.6.1.5.5.7.3.36"
EMAIL_PROTECTION = "1.3.6.1.5.5.7.3.4"
SERVER_AUTH = "1.3.6.1.5.5.7.3.1"


def failures(result: VerifyResult) -> dict[CheckName, Check]:
    """Return the checks that failed, by name."""
    return {check.name: check for check in result.checks if check.status is CheckStatus.FAIL}


def test_an_untouched_bundle_passes_every_check_in_order(bundle: Path, keyed: Keyed) -> None:
    """All, but timestamp and plan, as there are none, and what --recompute asks for; trusted, so it is valid."""
    result = verify_bundle(bundle, trusted=keyed.files.certificate_path)
    assert [check.name for check in result.checks] == list(CheckName)
    assert result[CheckName.TIMESTAMP].status is CheckStatus.NOT_CHECKED
    assert [c.name for c in result.checks if c.status is not CheckStatus.PASS] == [
        CheckName.TIMESTAMP,
        CheckName.PLAN,
        CheckName.PRINTED_TEXT,
        CheckName.EXPORTS_AGREE,
        CheckName.RECOMPUTED,
    ]
    asked = (CheckName.PRINTED_TEXT, CheckName.EXPORTS_AGREE, CheckName.RECOMPUTED)
    assert all("give --recompute" in result[name].detail for name in asked)
    assert "embedded data" in result[CheckName.FINDINGS_AGREE].detail
    assert result.conclusion == "valid"
    assert (result.ok, result.trusted, result.verdict) == (True, True, "valid")
    assert result.fingerprint == keyed.signer.certificate.fingerprint


def test_without_a_pin_the_answer_is_never_plain_valid(bundle: Path) -> None:
    """Intact, signer not trusted."""
    result = verify_bundle(bundle, trusted=None)
    assert result[CheckName.SIGNER_TRUSTED] == Check(
        CheckName.SIGNER_TRUSTED, CheckStatus.NOT_CHECKED, "intact, signer not trusted: give --trust"
    )
    assert (result.ok, result.trusted, result.verdict) == (True, False, "intact, signer not trusted")
    assert result.fingerprint is not None
    assert result.fingerprint in result.conclusion
    assert "Anyone's seal" in result.conclusion


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
    write_bundle(folder, plain_pdf, findings_json, other_keyed.signer)
    seal_bundle(folder, other_keyed.signer, predicate=claims(folder), signed_at=SIGNED_AT, tool_version="0.1.0")
    result = verify_bundle(folder, trusted=keyed.files.certificate_path)
    assert set(failures(result)) == {CheckName.SIGNER_TRUSTED}
    assert result.verdict == "INVALID"


def test_a_swapped_signature_convinces_nobody(bundle: Path, keyed: Keyed, other_keyed: Keyed) -> None:
    """The trusted certificate around another key's signature: no check passes on the unsigned statement's word."""
    document = json.loads((bundle / ATTESTATION).read_bytes())
    payload = build_statement(
        scan_folder(bundle).digests,
        claims(bundle),
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
        assert result[CheckName.ATTESTATION_READABLE].detail.count(ATTESTATION) == 1
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
    assert set(failures(result)) == {CheckName.VALIDITY, CheckName.PDF_SIGNATURE, CheckName.MANIFEST_AGREES}


def test_the_pdf_must_carry_the_same_signer_s_seal(
    bundle: Path, keyed: Keyed, other_keyed: Keyed, plain_pdf: bytes
) -> None:
    """Unsigned, signed by another, absent: each fails although the statement lists the file as it is."""
    unsigned = attach_manifest(plain_pdf, bundle)
    foreign = sign_pdf(unsigned, other_keyed.signer, signed_at=SIGNED_AT, reason="r")
    for content in (unsigned, foreign):
        (bundle / "report.pdf").write_bytes(content)
        reseal(bundle, keyed)
        assert set(failures(verify_bundle(bundle, trusted=None))) == {CheckName.PDF_SIGNATURE}
    (bundle / "report.pdf").unlink()
    reseal(bundle, keyed)
    assert set(failures(verify_bundle(bundle, trusted=None))) == {
        CheckName.PDF_SIGNATURE,
        CheckName.FINDINGS_AGREE,
        CheckName.MANIFEST_AGREES,
    }


def repacked(page: bytes) -> bytes:
    """Return a page that carries another number in its findings."""
    text = page.decode()
    packed = text.partition('id="affidavit-findings">')[2].partition("<")[0]
    other = unpack(packed).replace(b"0.25", b"0.95")
    assert other != unpack(packed)
    return text.replace(packed, pack(other)).encode()


def test_the_three_records_of_the_findings_agree(bundle: Path, keyed: Keyed, plain_pdf: bytes) -> None:
    """Other findings in the JSON, in the page, in the PDF: the file that differs is named."""
    for name, change in (
        ("findings.json", lambda data: data.replace(b"0.25", b"0.95")),
        ("report.html", repacked),
        ("report.html", lambda data: data.replace(b"affidavit-findings", b"other")),
        ("findings.json", lambda _: b'{"a":1,"a":2}'),
    ):
        before = (bundle / name).read_bytes()
        (bundle / name).write_bytes(change(before))
        write_manifest(bundle, keyed.signer)
        reseal(bundle, keyed)
        found = failures(verify_bundle(bundle, trusted=None))
        # Other findings give another manifest than the one in the PDF.
        more = {CheckName.MANIFEST_AGREES} if name == "findings.json" else set()
        assert set(found) == {CheckName.FINDINGS_AGREE} | more
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


def issued(
    issuer_ca: bool,  # noqa: FBT001 - test data
    *,
    may_issue: bool = True,
    usage_oid: str | None = DOCUMENT_SIGNING,
) -> tuple[Signer, x509.Certificate]:
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
        if not ca and usage_oid is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(usage_oid)]), critical=False)
        return builder.add_extension(usage, critical=True).sign(ca_key, hashes.SHA256())

    root = build(ca_name, ca_key.public_key(), ca=issuer_ca, sign=may_issue and issuer_ca)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Issued seal")])
    leaf = build(subject, key.public_key(), ca=False, sign=False)
    return Signer(describe(leaf, item="leaf"), SoftwareKey(key)), root


@pytest.mark.parametrize(
    ("issuer_ca", "may_issue", "usage_oid", "status"),
    [
        (True, True, DOCUMENT_SIGNING, CheckStatus.PASS),
        (True, True, EMAIL_PROTECTION, CheckStatus.PASS),
        (True, True, SERVER_AUTH, CheckStatus.FAIL),
        (True, True, None, CheckStatus.FAIL),
        (True, False, DOCUMENT_SIGNING, CheckStatus.FAIL),
        (False, False, DOCUMENT_SIGNING, CheckStatus.FAIL),
    ],
)
def test_a_pinned_ca_vouches_for_the_seals_that_it_issued(  # noqa: PLR0917 - parameters and fixtures
    issuer_ca: bool,  # noqa: FBT001 - test data
    may_issue: bool,  # noqa: FBT001 - test data
    usage_oid: str | None,
    status: CheckStatus,
    tmp_path: Path,
    plain_pdf: bytes,
    findings_json: bytes,
    keyed: Keyed,
) -> None:
    """A CA that may issue does; a certificate that is no CA, and another CA's, do not."""
    signer, root = issued(issuer_ca, may_issue=may_issue, usage_oid=usage_oid)
    folder = tmp_path / "b"
    write_bundle(folder, plain_pdf, findings_json, signer)
    seal_bundle(folder, signer, predicate=claims(folder), signed_at=SIGNED_AT, tool_version="0.1.0")
    (tmp_path / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (tmp_path / "other.pem").write_bytes(issued(issuer_ca=True)[1].public_bytes(Encoding.PEM))
    check = verify_bundle(folder, trusted=tmp_path / "root.pem")[CheckName.SIGNER_TRUSTED]
    assert check.status is status
    if may_issue and status is CheckStatus.FAIL:
        assert "CN=Issued seal is not for sealing" in check.detail
    for other in (tmp_path / "other.pem", keyed.files.certificate_path):
        assert verify_bundle(folder, trusted=other)[CheckName.SIGNER_TRUSTED].status is CheckStatus.FAIL


def test_what_cannot_be_verified_at_all_is_a_clear_error(bundle: Path, tmp_path: Path) -> None:
    """No folder, a file for a folder, no certificate to trust."""
    for bad in (tmp_path / "none", bundle / "findings.json"):
        with pytest.raises(UsageError):
            verify_bundle(bad, trusted=None)
    for bad in (tmp_path / "none.pem", bundle / "findings.json", bundle):
        with pytest.raises(KeyProblem) as caught:
            verify_bundle(bundle, trusted=bad)
        assert "from outside the bundle" in caught.value.hint


def test_an_empty_folder_is_not_a_pass(tmp_path: Path) -> None:
    """No evidence is not good evidence."""
    result = verify_bundle(tmp_path, trusted=None)
    assert not result.ok
    assert not any(check.status is CheckStatus.PASS for check in result.checks)


def change_at(value: object, path: tuple[str | int, ...], new: object) -> None:
    """Set the value at the path inside nested objects and arrays."""
    for step in path[:-1]:
        value = value[step]  # type: ignore[index]
    value[path[-1]] = new  # type: ignore[index]


OTHER_DIGEST = "sha256:" + "9" * 64


@pytest.mark.parametrize(
    ("path", "new"),
    [
        (("schema",), "affidavit/manifest/2"),
        (("run", "created_at"), "2026-03-01T12:00:01+00:00"),
        (("run", "created_at"), "2026-03-01T12:00:00"),
        (("run", "created_at"), None),
        (("run", "findings_digest"), OTHER_DIGEST),
        (("run", "seal", "common_name"), "Somebody else"),
        (("run", "seal", "organisation"), ""),
        (("run", "seal", "fingerprint"), OTHER_DIGEST),
        (("run", "seal", "algorithm"), "rsa-pkcs1v15-sha256"),
        (("run", "seal"), None),
        (("model", "name"), "another"),
        (("model", "digest"), OTHER_DIGEST),
        (("model",), None),
        (("saes",), []),
        (("saes", 0, "name"), "another"),
        (("saes", 0, "digest"), OTHER_DIGEST),
        (("suites", 0, "digest"), OTHER_DIGEST),
        (("suites", 0, "id"), "another"),
        (("suites",), []),
        (("ladder", "confirmed"), 7),
    ],
)
def test_the_manifest_claims_what_the_findings_and_the_statement_claim(
    path: tuple[str | int, ...], new: object, bundle: Path, keyed: Keyed, plain_pdf: bytes
) -> None:
    """Each claim in turn, in a bundle whose signer sealed the lie consistently: PDF attachment and all."""
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    change_at(manifest, path, new)
    (bundle / "manifest.json").write_bytes(canonical_json(manifest))
    seal_pdf(bundle, keyed, plain_pdf)
    reseal(bundle, keyed)
    assert set(failures(verify_bundle(bundle, trusted=None))) == {CheckName.MANIFEST_AGREES}


def seal_pdf(bundle: Path, keyed: Keyed, plain_pdf: bytes, *, at: datetime = SIGNED_AT) -> None:
    """Write the PDF again, with the manifest as it is now."""
    sealed = sign_pdf(attach_manifest(plain_pdf, bundle), keyed.signer, signed_at=at, reason="r")
    (bundle / "report.pdf").write_bytes(sealed)


@pytest.mark.parametrize(
    ("path", "new"),
    [
        (("findings",), OTHER_DIGEST),
        (("model", "name"), "another"),
        (("model", "digest"), OTHER_DIGEST),
        (("saes", 0, "name"), "another"),
        (("saes", 0, "digest"), OTHER_DIGEST),
        (("saes",), None),
        (("suites", "finance"), OTHER_DIGEST),
        (("suites", "more"), OTHER_DIGEST),
        (("suites",), {}),
        (("ladder", "confirmed"), True),
    ],
)
def test_the_statement_claims_what_the_findings_claim(
    path: tuple[str | int, ...], new: object, bundle: Path, keyed: Keyed
) -> None:
    """The predicate is what a reader sees without opening the bundle."""
    predicate = json.loads(canonical_json(claims(bundle)))
    change_at(predicate, path, new)
    reseal(bundle, keyed, predicate=predicate)
    assert set(failures(verify_bundle(bundle, trusted=None))) == {CheckName.MANIFEST_AGREES}
    reseal(bundle, keyed, predicate={})
    assert set(failures(verify_bundle(bundle, trusted=None))) == {CheckName.MANIFEST_AGREES}


@pytest.mark.parametrize(
    "findings",
    [
        [],
        "x",
        FINDINGS | {"schema": "affidavit/findings/999"},
        FINDINGS | {"model": {"name": "another", "digest": OTHER_DIGEST}},
        *({key: value for key, value in FINDINGS.items() if key != left_out} for left_out in (
            "schema", "model", "saes", "suites", "concepts", "ladder")),
    ],
)  # fmt: skip
def test_findings_of_another_form_do_not_agree(
    findings: object, tmp_path: Path, keyed: Keyed, plain_pdf: bytes
) -> None:
    """Another schema, a key left out, another model: refused when verified, and never sealed."""
    folder = tmp_path / "b"
    write_bundle(folder, plain_pdf, canonical_json(findings), keyed.signer)
    with pytest.raises(EvidenceError, match="manifest agrees"):
        seal_bundle(folder, keyed.signer, predicate=claims(folder), signed_at=SIGNED_AT, tool_version="0.1.0")
    reseal(folder, keyed)
    check = failures(verify_bundle(folder, trusted=None))[CheckName.MANIFEST_AGREES]
    assert "findings.json" in check.detail


@pytest.mark.parametrize("name", ["evidence.duckdb", "findings.json", "exports/summary.md"])
def test_the_manifest_lists_all_evidence_and_nothing_else(
    name: str, bundle: Path, keyed: Keyed, plain_pdf: bytes
) -> None:
    """A file left out, a file that the manifest cannot vouch for, a bundle without the evidence."""
    original = (bundle / "manifest.json").read_bytes()
    manifest = json.loads(original)
    digest = manifest["files"].pop(name)
    changed = [
        manifest["files"],
        manifest["files"] | {name: digest, "report.html": digest_file(bundle / "report.html")},
    ]
    for files in changed:
        (bundle / "manifest.json").write_bytes(canonical_json(manifest | {"files": files}))
        seal_pdf(bundle, keyed, plain_pdf)
        reseal(bundle, keyed)
        found = failures(verify_bundle(bundle, trusted=None))
        assert set(found) == {CheckName.MANIFEST_AGREES}
    (bundle / "manifest.json").write_bytes(canonical_json(manifest | {"files": changed[0]}))
    seal_pdf(bundle, keyed, plain_pdf)
    predicate = claims(bundle)
    (bundle / name).unlink()
    reseal(bundle, keyed, predicate=predicate)
    check = verify_bundle(bundle, trusted=None)[CheckName.MANIFEST_AGREES]
    # Only the two files that every audit has may not be left out of both lists.
    assert (check.status is CheckStatus.FAIL) is (name != "exports/summary.md")


def test_the_pdf_carries_the_bundle_s_manifest(bundle: Path, keyed: Keyed, plain_pdf: bytes) -> None:
    """Another manifest in the attachment, or none."""
    original = (bundle / "manifest.json").read_bytes()
    (bundle / "manifest.json").write_bytes(original + b" ")
    seal_pdf(bundle, keyed, plain_pdf)
    (bundle / "manifest.json").write_bytes(original)
    reseal(bundle, keyed)
    assert set(failures(verify_bundle(bundle, trusted=None))) == {CheckName.MANIFEST_AGREES}
    (bundle / "report.pdf").write_bytes(sign_pdf(plain_pdf, keyed.signer, signed_at=SIGNED_AT, reason="r"))
    reseal(bundle, keyed)
    found = failures(verify_bundle(bundle, trusted=None))
    assert set(found) == {CheckName.MANIFEST_AGREES}
    assert found[CheckName.MANIFEST_AGREES].files == ("report.pdf",)


def test_the_pdf_s_seal_claims_the_statement_s_second(bundle: Path, keyed: Keyed, plain_pdf: bytes) -> None:
    """One second off fails; a fraction of the same second does not."""
    seal_pdf(bundle, keyed, plain_pdf, at=SIGNED_AT + timedelta(seconds=1))
    reseal(bundle, keyed)
    assert set(failures(verify_bundle(bundle, trusted=None))) == {CheckName.PDF_SIGNATURE}
    (bundle / ATTESTATION).unlink()
    with pytest.raises(EvidenceError, match=r"report\.pdf"):
        seal_bundle(bundle, keyed.signer, predicate=claims(bundle), signed_at=SIGNED_AT, tool_version="0.1.0")
    seal_pdf(bundle, keyed, plain_pdf, at=SIGNED_AT + timedelta(milliseconds=700))
    reseal(bundle, keyed)
    assert verify_bundle(bundle, trusted=None).ok


def test_a_bundle_from_the_future_fails(bundle: Path) -> None:
    """More than five minutes after the verifier's clock; without a clock nothing is compared."""
    for ahead, ok in ((timedelta(minutes=5), True), (timedelta(minutes=5, seconds=1), False)):
        result = verify_bundle(bundle, trusted=None, now=SIGNED_AT - ahead)
        assert set(failures(result)) == (set() if ok else {CheckName.VALIDITY})
    assert verify_bundle(bundle, trusted=None, now=SIGNED_AT + timedelta(days=9999)).ok


def test_a_folder_without_files_is_not_part_of_a_bundle(bundle: Path) -> None:
    """Empty, or with empty folders only."""
    (bundle / "extra" / "deep").mkdir(parents=True)
    (bundle / "activations" / "empty").mkdir()
    found = failures(verify_bundle(bundle, trusted=None))
    assert set(found) == {CheckName.FILES_INTACT}
    assert set(found[CheckName.FILES_INTACT].files) == {"extra/deep", "activations/empty"}


def test_the_command_says_what_an_answer_without_trust_is_worth(bundle: Path, tmp_path: Path) -> None:
    """In the last line and in the help; a path that is no folder is a usage error."""
    told = CliRunner().invoke(verify, [str(bundle)], standalone_mode=False)
    last = told.output.splitlines()[-1]
    assert told.return_value == 0
    assert "sealed by sha256:" in last
    assert "Anyone's seal" in last
    assert "anyone's seal" in " ".join(CliRunner().invoke(verify, ["--help"]).output.split())
    for bad in (tmp_path / "none", bundle / "findings.json"):
        assert isinstance(CliRunner().invoke(verify, [str(bad)], standalone_mode=False).exception, UsageError)


def test_a_seal_with_two_signing_times_fails(
    bundle: Path, keyed: Keyed, plain_pdf: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signed attributes name the statement's second, the place that viewers show names another."""
    from pyhanko.sign.attributes import SigningTimeProvider

    def dishonest(signer: Signer) -> object:
        made = honest(signer)
        providers = made._signed_attr_providers

        def two_times(*arguments: object, **named: object) -> Iterator[object]:
            yield from providers(*arguments, **named)
            yield SigningTimeProvider(SIGNED_AT)

        made._signed_attr_providers = two_times
        return made

    honest = pdf._pyhanko_signer
    monkeypatch.setattr(pdf, "_pyhanko_signer", dishonest)
    # Our own `sign_pdf` would refuse its result.
    sealed = pdf._seal(
        attach_manifest(plain_pdf, bundle),
        keyed.signer,
        signed_at=SIGNED_AT + timedelta(days=90),
        reason="r",
        location=None,
    )
    (bundle / "report.pdf").write_bytes(sealed)
    reseal(bundle, keyed)
    found = failures(verify_bundle(bundle, trusted=None))
    assert set(found) == {CheckName.PDF_SIGNATURE}
    assert found[CheckName.PDF_SIGNATURE].detail == "the signature says in two places when it was made"
