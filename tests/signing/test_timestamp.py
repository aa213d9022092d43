"""Level B-T with a real authority: `openssl ts` behind a local HTTP server."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from audit.config import SealLevel
from audit.errors import EnvironmentProblem
from audit.signing.certificates import read_x509_file
from audit.signing.checks import CheckName, CheckStatus
from audit.signing.pdf import sign_pdf, verify_pdf
from audit.signing.seal import seal_bundle
from audit.signing.verify import verify_bundle
from tests.signing.bundle_making import SIGNED_AT, Keyed, claims, write_bundle
from tests.signing.timestamp_authority import Authority


@pytest.fixture(scope="module")
def stamped(plain_pdf: bytes, authority: Authority, fresh: tuple[Keyed, datetime]) -> bytes:
    """A PDF with a seal and a timestamp."""
    pair, now = fresh
    return sign_pdf(plain_pdf, pair.signer, signed_at=now, reason="r", level=SealLevel.B_T, tsa_url=authority.url)


def test_the_timestamp_is_real_and_its_authority_is_trusted_only_when_pinned(
    stamped: bytes, authority: Authority, fresh: tuple[Keyed, datetime], keyed: Keyed
) -> None:
    """Sound in each case; trusted with its root alone, not without, nor with another certificate."""
    pair, now = fresh
    signer = pair.signer.certificate.x509
    for tsa, trusted in (
        (None, False),
        (read_x509_file(authority.root), True),
        (keyed.signer.certificate.x509, False),
    ):
        result = verify_pdf(stamped, signer, moment=now, trusted_tsa=tsa)
        assert result.problems == ()
        assert result.timestamp is not None
        assert result.timestamp.sound
        assert result.timestamp.trusted is trusted
        assert abs(result.timestamp.moment - now) < timedelta(minutes=10)
        assert "Test TSA" in result.timestamp.authority


def test_a_damaged_timestamp_is_noticed(stamped: bytes, fresh: tuple[Keyed, datetime]) -> None:
    """The token lies in the unsigned part of the signature: changing its time must still fail."""
    pair, now = fresh
    year = str(now.year).encode().hex().upper().encode()
    start = stamped.index(b"/Contents <")
    # GeneralizedTime: tag 18, length 0F, then the year.
    position = stamped.index(b"180F" + year, start)
    changed = stamped[:position] + b"180F" + b"2019".hex().upper().encode() + stamped[position + 12 :]
    assert len(changed) == len(stamped)
    result = verify_pdf(changed, pair.signer.certificate.x509, moment=now)
    assert not result.ok or (result.timestamp is not None and not result.timestamp.sound)


def test_an_answer_that_is_no_timestamp_is_an_environment_problem(
    plain_pdf: bytes, authority: Authority, fresh: tuple[Keyed, datetime]
) -> None:
    """Nothing is sealed with half a timestamp."""
    pair, now = fresh
    with pytest.raises(EnvironmentProblem):
        sign_pdf(
            plain_pdf, pair.signer, signed_at=now, reason="r", level=SealLevel.B_T, tsa_url=f"{authority.url}/broken"
        )


def test_the_bundle_s_timestamp_check(
    plain_pdf: bytes,
    authority: Authority,
    fresh: tuple[Keyed, datetime],
    findings_json: bytes,
    tmp_path: Path,
) -> None:
    """PASS with the pinned authority, NOT_CHECKED without it, FAIL for a statement that is dated back."""
    pair, now = fresh
    folder = tmp_path / "bundle"
    write_bundle(folder, plain_pdf, findings_json, pair.signer, at=now, tsa_url=authority.url)
    seal_bundle(folder, pair.signer, predicate=claims(folder), signed_at=now, tool_version="0.1.0")
    trusted = verify_bundle(folder, trusted=pair.files.certificate_path, trusted_tsa=authority.root)
    assert trusted[CheckName.TIMESTAMP].status is CheckStatus.PASS
    assert trusted.verdict == "valid"
    unmade = {check.name for check in trusted.checks if check.status is not CheckStatus.PASS}
    assert unmade == {CheckName.PLAN, CheckName.PRINTED_TEXT, CheckName.EXPORTS_AGREE, CheckName.RECOMPUTED}
    untrusted = verify_bundle(folder, trusted=pair.files.certificate_path)
    assert untrusted[CheckName.TIMESTAMP].status is CheckStatus.NOT_CHECKED

    folder, before = tmp_path / "backdated", now - timedelta(days=5)
    write_bundle(folder, plain_pdf, findings_json, pair.signer, at=before, tsa_url=authority.url)
    seal_bundle(folder, pair.signer, predicate=claims(folder), signed_at=before, tool_version="0.1.0")
    backdated = verify_bundle(folder, trusted=pair.files.certificate_path, trusted_tsa=authority.root)
    assert [check.name for check in backdated.checks if check.status is CheckStatus.FAIL] == [CheckName.TIMESTAMP]


def test_without_an_authority_there_is_no_timestamp(plain_pdf: bytes, keyed: Keyed) -> None:
    """Level B-B."""
    sealed = sign_pdf(plain_pdf, keyed.signer, signed_at=SIGNED_AT, reason="r")
    assert verify_pdf(sealed, keyed.signer.certificate.x509).timestamp is None
