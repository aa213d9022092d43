"""Sealing: the attestation is the last step, once, and only over a bundle that will verify."""

from __future__ import annotations

import errno
import os
from datetime import timedelta
from pathlib import Path

import pytest

from audit.errors import EvidenceError, KeyProblem, OutputError
from audit.signing import seal
from audit.signing.seal import seal_bundle
from audit.signing.verify import verify_bundle
from tests.signing.bundle_making import SIGNED_AT, Keyed, claims

ATTESTATION = "attestation.sigstore.json"


def do_seal(folder: Path, keyed: Keyed, **changes: object) -> object:
    """Seal with the usual arguments."""
    predicate: dict[str, object] = {"audit": "demo"}
    if (folder / "findings.json").exists():
        predicate |= claims(folder)
    arguments = {"predicate": predicate, "signed_at": SIGNED_AT, "tool_version": "0.1.0"}
    return seal_bundle(folder, keyed.signer, **(arguments | changes))


def test_a_sealed_bundle_holds_what_was_there_and_two_files_more(unsealed: Path, keyed: Keyed) -> None:
    """certificate.pem and the attestation; no temporary file; the statement is the signed one."""
    before = {p.relative_to(unsealed).as_posix() for p in unsealed.rglob("*")}
    statement = do_seal(unsealed, keyed)
    after = {p.relative_to(unsealed).as_posix() for p in unsealed.rglob("*")}
    assert after - before == {"certificate.pem", ATTESTATION}
    assert before <= after
    result = verify_bundle(unsealed, trusted=keyed.files.certificate_path)
    assert result.verdict == "valid"
    assert result.statement == statement
    assert result.statement.predicate["audit"] == "demo"


def test_a_sealed_bundle_is_never_sealed_again(bundle: Path, keyed: Keyed, other_keyed: Keyed) -> None:
    """Nor by another key; nothing in it changes."""
    before = {p: p.read_bytes() for p in bundle.rglob("*") if p.is_file()}
    for pair in (keyed, other_keyed):
        with pytest.raises(OutputError, match="not sealed yet"):
            do_seal(bundle, pair)
    assert before == {p: p.read_bytes() for p in bundle.rglob("*") if p.is_file()}


def test_a_killed_seal_can_be_repeated(unsealed: Path, keyed: Keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the last move: no attestation. The next attempt leaves no trace of the first."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(seal, "_move_new", killed)
        with pytest.raises(KeyboardInterrupt):
            do_seal(unsealed, keyed)
    assert not (unsealed / ATTESTATION).exists()
    do_seal(unsealed, keyed)
    assert verify_bundle(unsealed, trusted=keyed.files.certificate_path).verdict == "valid"


def test_it_seals_where_there_are_no_hard_links(unsealed: Path, keyed: Keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT and some mounts refuse links; other errors are an OutputError."""

    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    do_seal(unsealed, keyed)
    assert verify_bundle(unsealed, trusted=None).ok


def test_a_place_in_a_series_that_the_manifest_does_not_print_is_not_sealed(unsealed: Path, keyed: Keyed) -> None:
    """The reports print the manifest's predecessor: another one in the statement would be a lie on the cover."""
    with pytest.raises(EvidenceError, match=r"run\.previous"):
        do_seal(unsealed, keyed, sequence=2, previous="sha256:" + "1" * 64)
    assert not (unsealed / ATTESTATION).exists()


@pytest.mark.parametrize("name", ["report.pdf", "report.html", "findings.json", "manifest.json"])
def test_an_incomplete_bundle_is_not_sealed(unsealed: Path, keyed: Keyed, name: str) -> None:
    """Its verification would fail, so it is refused now and stays unsealed."""
    (unsealed / name).unlink()
    with pytest.raises(EvidenceError):
        do_seal(unsealed, keyed)
    assert not (unsealed / ATTESTATION).exists()


def test_contents_that_disagree_are_not_sealed(
    unsealed: Path, keyed: Keyed, other_keyed: Keyed, plain_pdf: bytes
) -> None:
    """A manifest with an old digest, an unsigned PDF, a PDF by another signer, a link."""
    with pytest.raises(EvidenceError, match=r"report\.pdf"):
        do_seal(unsealed, other_keyed)
    (unsealed / "evidence.duckdb").write_bytes(b"changed after the manifest")
    with pytest.raises(EvidenceError, match="manifest agrees"):
        do_seal(unsealed, keyed)
    (unsealed / "evidence.duckdb").write_bytes(bytes(range(256)))
    sealed = (unsealed / "report.pdf").read_bytes()
    (unsealed / "report.pdf").write_bytes(plain_pdf)
    with pytest.raises(EvidenceError, match="one seal by the same signer"):
        do_seal(unsealed, keyed)
    (unsealed / "report.pdf").write_bytes(sealed)
    (unsealed / "link").symlink_to("/etc/passwd")
    with pytest.raises(EvidenceError, match="symbolic link"):
        do_seal(unsealed, keyed)
    (unsealed / "link").unlink()
    do_seal(unsealed, keyed)


def test_an_expired_key_does_not_seal(unsealed: Path, keyed: Keyed) -> None:
    """Refused before anything is written."""
    with pytest.raises(KeyProblem):
        do_seal(unsealed, keyed, signed_at=SIGNED_AT + timedelta(days=3650))
    assert not (unsealed / "certificate.pem").exists()


def test_a_folder_that_is_not_there_is_an_output_error(tmp_path: Path, keyed: Keyed) -> None:
    """No traceback."""
    with pytest.raises(OutputError):
        do_seal(tmp_path / "none", keyed)
