"""The PDF seal: other tools accept it, and every known way to change a signed PDF is noticed."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import fields, signers

from audit.config import SealLevel
from audit.errors import EnvironmentProblem, EvidenceError, KeyProblem
from audit.signing.certificates import Certificate
from audit.signing.pdf import _pyhanko_signer, sign_pdf, verify_pdf
from audit.signing.pdf_structure import der_size
from tests.signing.bundle_making import FINDINGS, SIGNED_AT, Keyed
from tests.signing.pdf_attacks import UPDATES, update

needs_pdfsig = pytest.mark.skipif(shutil.which("pdfsig") is None, reason="poppler-utils is not installed")


def pdfsig(pdf: bytes, folder: Path) -> str:
    """Return what poppler says about the PDF's signatures."""
    (folder / "x.pdf").write_bytes(pdf)
    done = subprocess.run(["pdfsig", "-nocert", "x.pdf"], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout


@needs_pdfsig
@pytest.mark.parametrize("which", ["keyed", "rsa_keyed"])
def test_poppler_calls_the_seal_valid_and_total(
    which: str, plain_pdf: bytes, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """`pdfsig`: valid, the total document, PAdES, our field name, the given time."""
    pair: Keyed = request.getfixturevalue(which)
    said = pdfsig(sign_pdf(plain_pdf, pair.signer, signed_at=SIGNED_AT, reason="r"), tmp_path)
    for line in ("Signature is Valid", "Total document signed", "ETSI.CAdES.detached", "AffidavitSeal", "Mar 01 2026"):
        assert line in said


def test_the_seal_is_an_update_that_leaves_the_report_as_it_was(
    plain_pdf: bytes, sealed_pdf: bytes, findings_json: bytes
) -> None:
    """The report's bytes are a prefix; its metadata, attachment and PDF/A claim are untouched."""
    assert sealed_pdf.startswith(plain_pdf)
    with pikepdf.open(BytesIO(plain_pdf)) as before, pikepdf.open(BytesIO(sealed_pdf)) as after:
        assert before.Root.Metadata.read_bytes() == after.Root.Metadata.read_bytes()
        assert dict(before.docinfo.items()) == dict(after.docinfo.items())
        assert after.attachments["findings.json"].get_file().read_bytes() == findings_json
        assert after.open_metadata().pdfa_status == "3A"
    assert FINDINGS["findings"]


def test_a_sealed_pdf_verifies_and_tells_who_and_when(sealed_pdf: bytes, keyed: Keyed) -> None:
    """No problems; the signer's fingerprint and the given time; no timestamp."""
    result = verify_pdf(sealed_pdf, keyed.signer.certificate.x509)
    assert result.problems == ()
    assert result.ok
    assert result.fingerprint == keyed.signer.certificate.fingerprint
    assert result.claimed_at == SIGNED_AT
    assert result.timestamp is None
    assert verify_pdf(sealed_pdf, None).ok


def test_another_certificate_is_another_signer(sealed_pdf: bytes, other_keyed: Keyed) -> None:
    """The same names are not the same signer."""
    result = verify_pdf(sealed_pdf, other_keyed.signer.certificate.x509)
    assert any("not by" in problem for problem in result.problems)


def test_it_verifies_inside_a_running_event_loop(sealed_pdf: bytes, keyed: Keyed) -> None:
    """A notebook has a loop; that must not read as a broken signature."""

    async def inside() -> bool:
        return verify_pdf(sealed_pdf, keyed.signer.certificate.x509).ok

    assert asyncio.run(inside())


def test_trailing_junk_is_noticed(sealed_pdf: bytes, keyed: Keyed) -> None:
    """One byte more or less at the end of the file fails, which pyHanko's bottom line does not say."""
    for changed in (sealed_pdf + b"\n", sealed_pdf + b"%junk" * 99, sealed_pdf[:-1], sealed_pdf[:-6]):
        assert not verify_pdf(changed, keyed.signer.certificate.x509).ok


@pytest.mark.parametrize("change", UPDATES, ids=lambda change: change.__name__)
def test_appended_updates_are_noticed(
    change: Callable[[Any], None], sealed_pdf: bytes, keyed: Keyed, tmp_path: Path
) -> None:
    """A shadow page, a new page, a changed catalog, a dropped certification: poppler calls each `Valid`, we do not."""
    attacked = update(sealed_pdf, change)
    assert attacked.startswith(sealed_pdf)
    if shutil.which("pdfsig") is not None:
        assert "Signature is Valid" in pdfsig(attacked, tmp_path)
    assert not verify_pdf(attacked, keyed.signer.certificate.x509).ok


def approval(pdf: bytes, keyed: Keyed, *, name: str, force: bool = False, **settings: Any) -> bytes:
    """Return the PDF with a signature of another form than ours."""
    metadata = signers.PdfSignatureMetadata(
        field_name=name, **({"subfilter": fields.SigSeedSubFilter.PADES} | settings)
    )
    signer = signers.PdfSigner(metadata, _pyhanko_signer(keyed.signer))
    if force:
        signer._enforce_certification_constraints = lambda reader: None  # noqa: ARG005
    out: bytes = signer.sign_pdf(IncrementalPdfFileWriter(BytesIO(pdf))).getvalue()
    return out


def test_a_second_signature_is_noticed(sealed_pdf: bytes, plain_pdf: bytes, keyed: Keyed) -> None:
    """By the same key, after the seal or before it."""
    after = approval(sealed_pdf, keyed, name="Second", force=True)
    before = sign_pdf_unchecked(approval(plain_pdf, keyed, name="First"), keyed)
    for pdf in (after, before):
        assert verify_pdf(pdf, keyed.signer.certificate.x509).problems == ("2 signatures where exactly one belongs",)


def sign_pdf_unchecked(pdf: bytes, keyed: Keyed) -> bytes:
    """Return the PDF with a seal of our own form, over a PDF that `sign_pdf` would refuse."""
    return approval(
        pdf, keyed, name="AffidavitSeal", force=True, certify=True, docmdp_permissions=fields.MDPPerm.NO_CHANGES
    )


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "forbid later changes"),
        ({"certify": True, "docmdp_permissions": fields.MDPPerm.FILL_FORMS}, "forbid later changes"),
        (
            {
                "certify": True,
                "docmdp_permissions": fields.MDPPerm.NO_CHANGES,
                "subfilter": fields.SigSeedSubFilter.ADOBE_PKCS7_DETACHED,
            },
            "PAdES",
        ),
    ],
)
def test_a_weaker_form_of_signature_is_noticed(
    settings: dict[str, Any], reason: str, plain_pdf: bytes, keyed: Keyed
) -> None:
    """Sound signatures by the right key, but not a seal."""
    pdf = approval(plain_pdf, keyed, name="AffidavitSeal", **settings)
    result = verify_pdf(pdf, keyed.signer.certificate.x509, moment=SIGNED_AT)
    assert any(reason in problem for problem in result.problems)


def test_no_signature_is_noticed(plain_pdf: bytes, keyed: Keyed) -> None:
    """An unsigned PDF is not a sealed one."""
    assert verify_pdf(plain_pdf, keyed.signer.certificate.x509).problems == ("0 signatures where exactly one belongs",)


@pytest.mark.parametrize("junk", [b"", b"%PDF-1.7", b"\x00" * 999, b"%PDF-1.7\nstartxref\n0\n%%EOF"])
def test_what_is_not_a_pdf_is_a_problem_and_not_a_crash(junk: bytes, keyed: Keyed) -> None:
    """Each yields a result that is not ok."""
    assert not verify_pdf(junk, keyed.signer.certificate.x509).ok


def test_a_flipped_byte_anywhere_is_noticed(sealed_pdf: bytes, keyed: Keyed) -> None:
    """In the report, in the structure, in the signature and in its padding: sampled with a fixed seed."""
    rng = random.Random(7)  # noqa: S311 - reproducible, not secret
    placeholder = sealed_pdf.index(b"/Contents <")
    positions = {rng.randrange(len(sealed_pdf)) for _ in range(120)}
    positions |= {rng.randrange(placeholder, placeholder + 2500) for _ in range(60)}
    positions |= {0, len(sealed_pdf) - 1}
    survivors = []
    for position in sorted(positions):
        changed = bytearray(sealed_pdf)
        changed[position] ^= 1 << rng.randrange(8)
        if verify_pdf(bytes(changed), keyed.signer.certificate.x509, moment=SIGNED_AT).ok:
            survivors.append(position)
    assert survivors == []


def test_the_padding_of_the_signature_hides_nothing(sealed_pdf: bytes, keyed: Keyed) -> None:
    """Data after the signature, inside its placeholder, and another spelling of its hexadecimal are noticed."""
    found = re.search(rb"/Contents <([0-9A-F]+?)(0{64,})>", sealed_pdf)
    assert found is not None
    hidden = sealed_pdf[: found.end() - 5] + b"BEEF" + sealed_pdf[found.end() - 1 :]
    lower = sealed_pdf[: found.start(1)] + found[1].lower() + sealed_pdf[found.end(1) :]
    for changed in (hidden, lower):
        assert len(changed) == len(sealed_pdf)
        assert not verify_pdf(changed, keyed.signer.certificate.x509, moment=SIGNED_AT).ok


def test_a_seal_outside_the_certificate_s_validity_is_noticed(sealed_pdf: bytes, keyed: Keyed) -> None:
    """The moment decides, never the clock: valid at its own time for ever, and not after the certificate's end."""
    certificate: Certificate = keyed.signer.certificate
    assert verify_pdf(sealed_pdf, certificate.x509, moment=certificate.not_after - timedelta(days=1)).ok
    assert not verify_pdf(sealed_pdf, certificate.x509, moment=certificate.not_after + timedelta(days=1)).ok


def test_only_a_plain_pdf_is_sealed(sealed_pdf: bytes, plain_pdf: bytes, keyed: Keyed) -> None:
    """Signed, encrypted and broken PDFs are refused, and so is a time outside the certificate's validity."""
    encrypted = BytesIO()
    with pikepdf.open(BytesIO(plain_pdf)) as pdf:
        pdf.save(encrypted, encryption=pikepdf.Encryption(owner="o", user=""))
    for bad in (sealed_pdf, encrypted.getvalue(), b"", b"%PDF-1.7 nonsense", plain_pdf[:500]):
        with pytest.raises(EvidenceError):
            sign_pdf(bad, keyed.signer, signed_at=SIGNED_AT, reason="r")
    with pytest.raises(KeyProblem):
        sign_pdf(plain_pdf, keyed.signer, signed_at=SIGNED_AT - timedelta(days=365), reason="r")
    with pytest.raises(EvidenceError):
        sign_pdf(plain_pdf, keyed.signer, signed_at=SIGNED_AT.replace(tzinfo=None), reason="r")


def test_an_authority_that_does_not_answer_is_an_environment_problem(plain_pdf: bytes, keyed: Keyed) -> None:
    """A refused connection is exit 4; an address of another kind is a usage error."""
    with pytest.raises(EnvironmentProblem, match="RFC 3161"):
        sign_pdf(
            plain_pdf,
            keyed.signer,
            signed_at=SIGNED_AT,
            reason="r",
            level=SealLevel.B_T,
            tsa_url="http://127.0.0.1:9/tsa",
        )
    with pytest.raises(KeyProblem, match="http or https"):
        sign_pdf(
            plain_pdf, keyed.signer, signed_at=SIGNED_AT, reason="r", level=SealLevel.B_T, tsa_url="file:///etc/passwd"
        )


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"\x30\x00", 2),
        (b"\x30\x7f", 129),
        (b"\x30\x81\x80", 131),
        (b"\x30\x82\x01\x00", 260),
        (b"\x30\x80", None),
        (b"\x30\x81\x7f", None),
        (b"\x30\x82\x00\xff", None),
        (b"\x31\x00", None),
        (b"\x30", None),
        (b"\x30\x82\x01", None),
    ],
)
def test_der_sizes(data: bytes, size: int | None) -> None:
    """Short and long forms; indefinite, overlong and cut-off lengths have no size."""
    assert der_size(data) == size
