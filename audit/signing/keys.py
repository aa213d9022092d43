"""Make sealing keys and load them. A key file is readable by its owner only, and is never overwritten."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from audit.errors import KeyProblem
from audit.signing.algorithms import PrivateKey, algorithm_of
from audit.signing.certificates import Certificate, describe, fingerprint
from audit.signing.chains import Chain, make_chain, read_chain_file
from audit.signing.key_files import PKCS12_SUFFIXES, open_key_file
from audit.signing.signer import Signer, SoftwareKey, make_signer

__all__ = [
    "KEY_NAME",
    "KeyKind",
    "SealingKey",
    "Signer",
    "certificate_path",
    "fingerprint",
    "load_signer",
    "new_sealing_key",
    "passphrase_from_environment",
    "read_chain",
]

KEY_NAME = "key.pem"
_CERTIFICATE_NAME = "certificate.pem"
MAX_DAYS = 3650
_MAX_NAME_CHARACTERS = 64  # RFC 5280, ub-common-name and ub-organization-name
_DOCUMENT_SIGNING = ObjectIdentifier("1.3.6.1.5.5.7.3.36")  # RFC 9336


class KeyKind(StrEnum):
    """The kinds of key that `keys new` makes."""

    ECDSA_P256 = "ecdsa-p256"
    RSA_3072 = "rsa-3072"


@dataclass(frozen=True, slots=True)
class SealingKey:
    """The files of a new key, and the fingerprint that relying parties pin."""

    key_path: Path
    certificate_path: Path
    certificate: Certificate


def certificate_path(folder: Path) -> Path:
    """Return where `new_sealing_key` writes the certificate."""
    return folder / _CERTIFICATE_NAME


def new_sealing_key(
    folder: Path,
    common_name: str,
    *,
    organisation: str | None,
    days: int,
    not_before: datetime,
    algorithm: KeyKind = KeyKind.ECDSA_P256,
    passphrase: str | None = None,
) -> SealingKey:
    """Write a new private key and its self-signed sealing certificate, and return both paths.

    Args:
        folder: created if missing; receives `key.pem` (mode 0600, PKCS#8) and `certificate.pem`.
        common_name: the seal's name, 1 to 64 characters.
        organisation: the organisation that owns the seal, or None.
        days: validity, 1 to 3650.
        not_before: the start of the validity, with a time zone; fractions of a second are dropped, as X.509 has none.
        algorithm: the kind of key.
        passphrase: encrypts the key file when given.

    Raises:
        KeyProblem: a file is already there (nothing is overwritten), a name or the number of days is out of range, the
            folder cannot be written.
    """
    subject = _subject(common_name, organisation)
    if not 1 <= days <= MAX_DAYS:
        raise _bad_input("days of validity", f"1 to {MAX_DAYS}", str(days))
    if not_before.tzinfo is None:
        raise _bad_input("not_before", "a moment with a time zone", "one without")
    if passphrase == "":
        raise _bad_input("passphrase", "at least one character", "an empty passphrase")
    private_key: PrivateKey
    if algorithm is KeyKind.RSA_3072:
        private_key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    else:
        private_key = ec.generate_private_key(ec.SECP256R1())
    start = not_before.replace(microsecond=0)
    certificate = _self_signed(private_key, subject, start=start, end=start + timedelta(days=days))
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    key_pem = private_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    key_path, cert_path = folder / KEY_NAME, certificate_path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _create(cert_path, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
        try:
            _create(key_path, key_pem, mode=0o600)
        except OSError:
            cert_path.unlink()  # A certificate without its key is of no use, and would block the next attempt.
            raise
    except FileExistsError as error:
        raise KeyProblem(
            item=str(error.filename or folder),
            expected="no file: a sealing key is never overwritten",
            found="a file that is already there",
            hint="Choose another folder, or move the old key away: seals made with it still need its certificate.",
        ) from error
    except OSError as error:
        raise _bad_input(str(folder), "a folder that can be written", error.strerror or type(error).__name__) from error
    return SealingKey(key_path, cert_path, describe(certificate, item=str(cert_path)))


def load_signer(key_path: Path, cert_path: Path | None, passphrase: str | None = None, *, at: datetime) -> Signer:
    """Return the signer in a key file.

    Args:
        key_path: a PEM private key, or a PKCS#12 file (.p12, .pfx).
        cert_path: the PEM certificate, its issuers after it. May be None for PKCS#12, which carries its own.
        passphrase: opens an encrypted key. Take it from a prompt or a named environment variable, never an argument.
        at: the moment at which the certificate must be valid, with a time zone.

    Raises:
        KeyProblem: a file is missing or unreadable, others may read the key, the passphrase is missing or wrong, the
            key and the certificate do not belong together, the key cannot seal (Ed25519), the certificates are no
            chain, or the certificate is not valid at that moment.
    """
    item = str(key_path)
    opened = open_key_file(key_path, passphrase)
    if cert_path is not None:
        chain = read_chain_file(cert_path)
    elif opened.certificates:
        chain = make_chain(opened.certificates[0], opened.certificates[1:], item=item)
    else:
        raise _bad_input(item, "a certificate beside a PEM key", "no certificate was given")
    key = opened.key
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        public_key = key.public_key() if hasattr(key, "public_key") else key
        algorithm_of(public_key, item=item)
        raise _bad_input(item, "an ECDSA P-256 or RSA key", type(key).__name__)
    algorithm_of(key.public_key(), item=item)
    return make_signer(SoftwareKey(key), key.public_key(), chain, at=at, item=item)


def read_chain(path: Path, passphrase: str | None) -> Chain:
    """Return the certificates in a PEM file, or in a PKCS#12 file, whose key is left alone.

    Raises:
        KeyProblem: the file is missing, holds no certificate, or does not open with the passphrase.
    """
    if path.suffix.lower() not in PKCS12_SUFFIXES:
        return read_chain_file(path)
    certificates = open_key_file(path, passphrase).certificates
    if not certificates:
        raise _bad_input(str(path), "a PKCS#12 file with a certificate", "no certificate in it")
    return make_chain(certificates[0], certificates[1:], item=str(path))


def passphrase_from_environment(variable: str) -> str:
    """Return the passphrase in the named environment variable.

    Raises:
        KeyProblem: the variable is not set, or is empty.
    """
    value = os.environ.get(variable, "")
    if not value:
        raise _bad_input(f"environment variable {variable}", "the key's passphrase", "not set, or empty")
    return value


def _subject(common_name: str, organisation: str | None) -> x509.Name:
    for what, value in (("common name", common_name), ("organisation", organisation)):
        if value is not None and not (0 < len(value) <= _MAX_NAME_CHARACTERS and value.isprintable() and value.strip()):
            raise _bad_input(what, f"1 to {_MAX_NAME_CHARACTERS} printable characters", repr(value))
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organisation is not None:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    return x509.Name(attributes)


def _self_signed(key: PrivateKey, subject: x509.Name, *, start: datetime, end: datetime) -> x509.Certificate:
    public_key = key.public_key()
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    # emailProtection as well: `openssl cms -verify` demands it by default of any certificate that lists usages.
    extended = x509.ExtendedKeyUsage([_DOCUMENT_SIGNING, ExtendedKeyUsageOID.EMAIL_PROTECTION])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(extended, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .sign(key, hashes.SHA256())
    )


def _create(path: Path, data: bytes, *, mode: int) -> None:
    # O_EXCL with the mode: the file is never there with other rights, not even for a moment.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _bad_input(item: str, expected: str, found: str) -> KeyProblem:
    return KeyProblem(item=item, expected=expected, found=found, hint="See `affidavit keys new --help`.")
