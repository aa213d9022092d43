"""Sealing keys: written safely, loaded with clear errors, accepted by OpenSSL."""

from __future__ import annotations

import os
import stat
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from audit.errors import KeyProblem
from audit.signing.keys import KeyKind, fingerprint, load_signer, new_sealing_key, passphrase_from_environment
from tests.signing.bundle_making import NOT_BEFORE, SIGNED_AT, Keyed, make_keyed


def write_pair(folder: Path, key: object, *, days: int = 730) -> tuple[Path, Path]:
    """Write a key of any kind and a self-signed certificate for it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "any")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_BEFORE + timedelta(days=days))
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "k.pem").write_bytes(pem)
    (folder / "k.pem").chmod(0o600)
    (folder / "c.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return folder / "k.pem", folder / "c.pem"


def test_the_key_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    """Mode 0600 whatever the umask says, in a folder of mode 0700."""
    before = os.umask(0)
    try:
        made = make_keyed(tmp_path / "key", "Seal").files
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.key_path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o700


@pytest.mark.parametrize("existing", ["key.pem", "certificate.pem"])
def test_nothing_is_overwritten(tmp_path: Path, existing: str) -> None:
    """A file that is there stays as it is, and no half of a new pair is left behind."""
    (tmp_path / existing).write_text("precious", encoding="utf-8")
    with pytest.raises(KeyProblem, match="never overwritten"):
        make_keyed(tmp_path, "Seal")
    assert [p.name for p in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text(encoding="utf-8") == "precious"


def test_the_certificate_is_a_seal_and_not_a_ca(keyed: Keyed) -> None:
    """Key usage is signing and commitment only; basic constraints are critical; the key identifier is there."""
    extensions = keyed.signer.certificate.x509.extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert usage.value.content_commitment
    assert not usage.value.key_cert_sign
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca
    extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert "1.3.6.1.5.5.7.3.36" in {
        o.dotted_string for o in extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    }


@pytest.mark.parametrize("which", ["keyed", "rsa_keyed"])
def test_openssl_gives_the_same_fingerprint_and_takes_the_key(which: str, request: pytest.FixtureRequest) -> None:
    """`openssl x509 -fingerprint` and ours agree; `openssl pkey -check` calls the key valid."""
    pair: Keyed = request.getfixturevalue(which)
    shown = subprocess.run(
        ["openssl", "x509", "-in", pair.files.certificate_path, "-noout", "-fingerprint", "-sha256"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    expected = "sha256:" + shown.split("=")[1].strip().replace(":", "").lower()
    assert fingerprint(pair.signer.certificate.x509) == pair.signer.certificate.fingerprint == expected
    subprocess.run(["openssl", "pkey", "-in", pair.files.key_path, "-check", "-noout"], check=True, capture_output=True)


def test_an_encrypted_key_opens_with_its_passphrase_only(tmp_path: Path) -> None:
    """Right passphrase: a signer. Wrong, missing or needless: a KeyProblem that says which."""
    made = new_sealing_key(
        tmp_path / "key",
        "Seal",
        organisation=None,
        days=9,
        not_before=NOT_BEFORE,
        passphrase="päss",
    )
    moment = NOT_BEFORE + timedelta(days=1)
    assert b"ENCRYPTED" in made.key_path.read_bytes()
    signer = load_signer(made.key_path, made.certificate_path, "päss", at=moment)
    assert signer.certificate.organisation is None
    with pytest.raises(KeyProblem, match="wrong passphrase"):
        load_signer(made.key_path, made.certificate_path, "other", at=moment)
    with pytest.raises(KeyProblem, match="encrypted key and no passphrase"):
        load_signer(made.key_path, made.certificate_path, at=moment)


def test_a_passphrase_for_an_open_key_is_refused(keyed: Keyed) -> None:
    """The user believes that the key is protected, and it is not."""
    with pytest.raises(KeyProblem, match="not encrypted"):
        load_signer(keyed.files.key_path, keyed.files.certificate_path, "x", at=SIGNED_AT)


def test_a_pkcs12_file_carries_key_and_certificate(keyed: Keyed, tmp_path: Path) -> None:
    """PKCS#12 needs no certificate file; a wrong passphrase is a KeyProblem."""
    path = tmp_path / "seal.p12"
    path.write_bytes(
        pkcs12.serialize_key_and_certificates(
            b"seal",
            keyed.signer.key.private_key,
            keyed.signer.certificate.x509,
            None,
            serialization.BestAvailableEncryption(b"pw"),
        )
    )
    path.chmod(0o600)
    loaded = load_signer(path, None, "pw", at=SIGNED_AT)
    assert loaded.certificate.fingerprint == keyed.signer.certificate.fingerprint
    for wrong in ("no", None):
        with pytest.raises(KeyProblem, match="wrong passphrase"):
            load_signer(path, None, wrong, at=SIGNED_AT)


def test_key_and_certificate_must_belong_together(keyed: Keyed, other_keyed: Keyed) -> None:
    """Two keys with the same names are still two keys."""
    with pytest.raises(KeyProblem, match="another key"):
        load_signer(keyed.files.key_path, other_keyed.files.certificate_path, at=SIGNED_AT)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (ed25519.Ed25519PrivateKey.generate(), "pdfsig reject"),
        (ec.generate_private_key(ec.SECP384R1()), "secp384r1"),
        (rsa.generate_private_key(public_exponent=65537, key_size=2048), "2048 bits"),
    ],
)
def test_keys_that_cannot_seal_are_refused_with_the_reason(key: object, reason: str, tmp_path: Path) -> None:
    """Ed25519 because PDF verifiers reject it, other curves and short RSA keys by name."""
    with pytest.raises(KeyProblem, match=reason):
        load_signer(*write_pair(tmp_path, key), at=SIGNED_AT)


@pytest.mark.parametrize("days", [-1, 731])
def test_a_certificate_seals_inside_its_validity_only(keyed: Keyed, days: int) -> None:
    """One day early and one day late are both refused."""
    with pytest.raises(KeyProblem, match="expired or is not valid yet"):
        load_signer(keyed.files.key_path, keyed.files.certificate_path, at=NOT_BEFORE + timedelta(days=days))


def test_missing_and_damaged_files_are_key_problems(keyed: Keyed, tmp_path: Path) -> None:
    """No traceback for a typing error in a path."""
    key, certificate = keyed.files.key_path, keyed.files.certificate_path
    junk = tmp_path / "junk.pem"
    junk.write_bytes(b"-----BEGIN NONSENSE-----\xff")
    junk.chmod(0o600)
    two = tmp_path / "two.pem"
    two.write_bytes(certificate.read_bytes() * 2)
    for bad in (tmp_path / "none.pem", tmp_path, junk):
        with pytest.raises(KeyProblem):
            load_signer(bad, certificate, at=SIGNED_AT)
        with pytest.raises(KeyProblem):
            load_signer(key, bad, at=SIGNED_AT)
    with pytest.raises(KeyProblem, match="1 beside or twice"):
        load_signer(key, two, at=SIGNED_AT)
    with pytest.raises(KeyProblem, match="no certificate was given"):
        load_signer(key, None, at=SIGNED_AT)


@pytest.mark.parametrize(
    ("name", "days"), [("", 9), (" ", 9), ("x" * 65, 9), ("two\nlines", 9), ("ok", 0), ("ok", 3651)]
)
def test_names_and_days_out_of_range_are_refused(tmp_path: Path, name: str, days: int) -> None:
    """Nothing is written for a certificate that could not be printed honestly."""
    with pytest.raises(KeyProblem):
        new_sealing_key(tmp_path / "k", name, organisation=None, days=days, not_before=NOT_BEFORE)
    assert not (tmp_path / "k").exists()


def test_the_private_key_is_not_in_the_repr(keyed: Keyed) -> None:
    """A logged signer gives nothing away."""
    assert "private" not in repr(keyed.signer).lower()


def test_the_passphrase_comes_from_a_named_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set: its value. Unset or empty: a KeyProblem that names the variable."""
    monkeypatch.setenv("SEAL_PW", "pw")
    assert passphrase_from_environment("SEAL_PW") == "pw"
    monkeypatch.setenv("SEAL_PW", "")
    with pytest.raises(KeyProblem, match="SEAL_PW"):
        passphrase_from_environment("SEAL_PW")


def test_rsa_keys_have_3072_bits(rsa_keyed: Keyed) -> None:
    """The RSA kind is RSA-3072."""
    assert rsa_keyed.signer.key.private_key.key_size == 3072
    assert KeyKind.RSA_3072.value == "rsa-3072"
