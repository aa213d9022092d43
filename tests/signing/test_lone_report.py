"""A report.pdf without its bundle: what its seal proves alone, and what it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pikepdf
import pytest
from click.testing import CliRunner

from audit.cli.verify import verify
from audit.digests import Json, canonical_json
from audit.errors import KeyProblem, UsageError
from audit.signing.attested import VerifyResult
from audit.signing.checks import CheckName, CheckStatus
from audit.signing.lone_report import verify_report
from audit.signing.pdf import sign_pdf
from tests.signing.authorities import three_deep
from tests.signing.bundle_making import SIGNED_AT, Keyed, attach_manifest

MADE = {
    CheckName.SIGNER_TRUSTED,
    CheckName.VALIDITY,
    CheckName.PDF_SIGNATURE,
    CheckName.FINDINGS_AGREE,
    CheckName.MANIFEST_AGREES,
}


def passing(result: VerifyResult) -> set[object]:
    """Return the names of the checks that pass."""
    return {check.name for check in result.checks if check.status is CheckStatus.PASS}


def failing(result: VerifyResult) -> set[object]:
    """Return the names of the checks that fail."""
    return {check.name for check in result.checks if check.status is CheckStatus.FAIL}


@pytest.fixture
def report(bundle: Path, tmp_path: Path) -> Path:
    """The bundle's report, carried away under another name."""
    path = tmp_path / "mailed.pdf"
    path.write_bytes((bundle / "report.pdf").read_bytes())
    return path


def test_a_report_alone_answers_for_itself_and_for_nothing_else(report: Path, keyed: Keyed) -> None:
    """What needs the bundle is a line of its own, not checked; the verdict says that it is the report alone."""
    result = verify_report(report, trusted=keyed.files.certificate_path, now=SIGNED_AT)
    assert [check.name for check in result.checks] == list(CheckName)
    assert passing(result) == MADE
    assert not failing(result)
    assert (result.ok, result.trusted, result.verdict) == (True, True, "report alone, valid")
    unmade = [c for c in result.checks if c.name not in MADE and c.name is not CheckName.TIMESTAMP]
    assert all(c.detail == "needs the bundle that the report comes from" for c in unmade)
    assert result.as_json()["alone"] is True


def test_without_trust_the_signer_is_not_trusted(report: Path, keyed: Keyed, other_keyed: Keyed) -> None:
    """Nor with the certificate of an impostor of the same names."""
    result = verify_report(report, trusted=None)
    assert result.verdict == "report alone, intact, signer not trusted"
    assert keyed.signer.certificate.fingerprint in result.conclusion
    assert failing(verify_report(report, trusted=other_keyed.files.certificate_path)) == {CheckName.SIGNER_TRUSTED}


def test_a_chain_in_the_signature_leads_to_the_root(bundle: Path, plain_pdf: bytes, tmp_path: Path) -> None:
    """The intermediates come from the PDF itself."""
    seal, root = three_deep()
    sealed = sign_pdf(attach_manifest(plain_pdf, bundle), seal.signer(), signed_at=SIGNED_AT, reason="r")
    (tmp_path / "chain.pdf").write_bytes(sealed)
    (tmp_path / "root.pem").write_bytes(root.pem)
    result = verify_report(tmp_path / "chain.pdf", trusted=tmp_path / "root.pem")
    assert CheckName.SIGNER_TRUSTED in passing(result)
    # The manifest inside was written by another seal.
    assert failing(result) == {CheckName.MANIFEST_AGREES}
    assert "run.seal.fingerprint" in result[CheckName.MANIFEST_AGREES].detail


@pytest.mark.parametrize("position", [200, -40, "contents"])
def test_a_changed_byte_fails_and_nothing_passes(report: Path, keyed: Keyed, position: int | str) -> None:
    """In the report, at its end, in the signature."""
    data = bytearray(report.read_bytes())
    place = data.index(b"/Contents <") + 400 if isinstance(position, str) else position
    data[place] ^= 1
    report.write_bytes(data)
    result = verify_report(report, trusted=keyed.files.certificate_path)
    assert failing(result) == {CheckName.PDF_SIGNATURE}
    assert not passing(result)
    assert result.verdict == "INVALID"


def test_an_unsigned_report_and_one_from_the_future_fail(plain_pdf: bytes, report: Path, tmp_path: Path) -> None:
    """Each on its own line."""
    (tmp_path / "plain.pdf").write_bytes(plain_pdf)
    assert failing(verify_report(tmp_path / "plain.pdf", trusted=None)) == {CheckName.PDF_SIGNATURE}
    result = verify_report(report, trusted=None, now=SIGNED_AT - timedelta(hours=1))
    assert failing(result) == {CheckName.VALIDITY}


def other_findings(manifest: dict[str, Json]) -> None:
    """List another digest."""
    files = manifest["files"]
    assert isinstance(files, dict)
    files["findings.json"] = "sha256:" + "0" * 64


def other_model(manifest: dict[str, Json]) -> None:
    """Name another model."""
    manifest["model"] = {"name": "large", "digest": "sha256:" + "a" * 64}


def other_second(manifest: dict[str, Json]) -> None:
    """Name another moment."""
    run = manifest["run"]
    assert isinstance(run, dict)
    run["created_at"] = (SIGNED_AT + timedelta(seconds=1)).isoformat()


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (other_findings, CheckName.FINDINGS_AGREE),
        (other_model, CheckName.MANIFEST_AGREES),
        (other_second, CheckName.MANIFEST_AGREES),
    ],
)
def test_attachments_that_disagree_fail_though_the_seal_holds(  # noqa: PLR0917 - parameters and fixtures
    change: Callable[[dict[str, Json]], None],
    check: CheckName,
    bundle: Path,
    plain_pdf: bytes,
    keyed: Keyed,
    tmp_path: Path,
) -> None:
    """A dishonest sealer: the manifest inside is not that of the findings inside."""
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    change(manifest)
    (bundle / "manifest.json").write_bytes(canonical_json(manifest))
    path = tmp_path / "x.pdf"
    path.write_bytes(sign_pdf(attach_manifest(plain_pdf, bundle), keyed.signer, signed_at=SIGNED_AT, reason="r"))
    assert failing(verify_report(path, trusted=keyed.files.certificate_path)) == {check}


def test_a_report_without_attachments_fails(plain_pdf: bytes, keyed: Keyed, tmp_path: Path) -> None:
    """A sealed PDF that affidavit did not make is no report."""
    stripped = BytesIO()
    with pikepdf.open(BytesIO(plain_pdf)) as document:
        del document.attachments["findings.json"]
        document.save(stripped)
    path = tmp_path / "x.pdf"
    path.write_bytes(sign_pdf(stripped.getvalue(), keyed.signer, signed_at=SIGNED_AT, reason="r"))
    assert failing(verify_report(path, trusted=None)) == {CheckName.FINDINGS_AGREE}


def test_the_command_takes_a_pdf_in_a_bundle_s_place(report: Path, keyed: Keyed, tmp_path: Path) -> None:
    """Exit codes as for a bundle; --recompute is refused; a file that is no PDF and no certificate are usage errors."""

    def run(*arguments: object) -> tuple[int, str]:
        done = CliRunner().invoke(verify, [str(a) for a in arguments], standalone_mode=False)
        return (done.return_value, done.stdout)

    code, said = run(report, "--trust", keyed.files.certificate_path)
    assert code == 0
    assert said.splitlines()[-1] == "report alone, valid"
    code, said = run(report, "--json")
    assert code == 0
    assert json.loads(said)["verdict"] == "report alone, intact, signer not trusted"
    assert CliRunner().invoke(verify, [str(report), "--recompute"]).exit_code == 2
    report.write_bytes(report.read_bytes() + b"\n")
    assert run(report)[0] == 3
    (tmp_path / "junk.pdf").write_bytes(b"%PDF-1.7 and nothing else")
    assert run(tmp_path / "junk.pdf")[0] == 3
    (tmp_path / "text.pdf").write_bytes(b"text")
    for arguments, error in (
        ((tmp_path / "text.pdf",), UsageError),
        ((report, "--trust", tmp_path / "no"), KeyProblem),
    ):
        done = CliRunner().invoke(verify, [str(a) for a in arguments], standalone_mode=False)
        assert isinstance(done.exception, error)
