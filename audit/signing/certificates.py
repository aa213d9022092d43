"""A sealing certificate as a plain record: who, which key, how long. Hostile DER yields an error, never a crash."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

from audit.errors import KeyProblem
from audit.signing.algorithms import PublicKey, SealAlgorithm, algorithm_of

_MAX_PEM_BYTES = 1 << 20
_MAX_CERTIFICATES = 32
# What pyca/cryptography raises on DER that is not what it says: its own errors do not share a base class.
HOSTILE_DER_ERRORS = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_HINT = "Make a sealing key and certificate with `affidavit keys new`."


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate whose fields were all read once, so that nothing is parsed lazily later.

    Attributes:
        fingerprint: `sha256:<hex>` of the DER.
        common_name: exactly one; a seal without a name is refused.
        organisation: None when the certificate has none.
        algorithm: how this certificate's key signs.
    """

    fingerprint: str
    common_name: str
    organisation: str | None
    algorithm: SealAlgorithm
    not_before: datetime
    not_after: datetime
    x509: x509.Certificate = field(repr=False)
    public_key: PublicKey = field(repr=False)

    @property
    def der(self) -> bytes:
        """The certificate's DER bytes."""
        return self.x509.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        """The certificate's PEM bytes, the form of `certificate.pem`."""
        return self.x509.public_bytes(Encoding.PEM)

    def covers(self, moment: datetime) -> bool:
        """Return whether the moment lies inside the certificate's validity, both ends included."""
        return self.not_before <= moment <= self.not_after


def fingerprint(certificate: x509.Certificate) -> str:
    """Return `sha256:<hex>` of the certificate's DER."""
    return f"sha256:{hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()}"


def load_der(der: bytes) -> x509.Certificate:
    """Return the parsed certificate.

    Raises:
        ValueError: not one whole certificate, or one with a fault that cryptography only warns of, such as a negative
            serial number (RFC 5280, 4.1.2.2).
    """
    with _malformed_is_an_error():
        return x509.load_der_x509_certificate(der)


@contextlib.contextmanager
def _malformed_is_an_error() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", CryptographyDeprecationWarning)
        try:
            yield
        except CryptographyDeprecationWarning as fault:
            raise ValueError(str(fault)) from fault


def read_certificate_der(der: bytes, *, item: str) -> Certificate:
    """Return the certificate in DER bytes.

    Raises:
        KeyProblem: not one whole certificate, or one that cannot seal: no common name, Ed25519, a short RSA key.
    """
    try:
        certificate = load_der(der)
    except HOSTILE_DER_ERRORS as error:
        raise _unreadable(item, str(error)) from error
    return describe(certificate, item=item)


def read_x509_file(path: Path, *, hint: str = _HINT) -> x509.Certificate:
    """Return the one certificate in a PEM file, whatever it may be used for: a CA, a TSA, a seal without its issuers.

    Raises:
        KeyProblem: the file is missing, or holds no certificate or several; `hint` says what to do.
    """
    found = read_x509_certificates(path, hint=hint)
    if len(found) != 1:
        raise _unreadable(str(path), f"{len(found)} certificates", hint=hint)
    return found[0]


def read_x509_certificates(path: Path, *, hint: str = _HINT) -> list[x509.Certificate]:
    """Return the certificates in a PEM file in their order, at least one.

    Raises:
        KeyProblem: the file is missing, or holds no certificate; `hint` says what to do.
    """
    try:
        with path.open("rb") as stream:
            pem = stream.read(_MAX_PEM_BYTES)
    except OSError as error:
        raise _unreadable(str(path), error.strerror or type(error).__name__, hint=hint) from error
    return read_pem(pem, item=str(path), hint=hint)


def read_pem(pem: bytes, *, item: str, hint: str = _HINT) -> list[x509.Certificate]:
    """Return the certificates in PEM bytes in their order, at least one.

    Raises:
        KeyProblem: there is none, or one cannot be read.
    """
    # Sorting a chain takes time that grows with the cube of its length.
    if (number := pem.count(b"-----BEGIN")) > _MAX_CERTIFICATES:
        raise _unreadable(item, f"{number} PEM blocks, more than {_MAX_CERTIFICATES}", hint=hint)
    try:
        with _malformed_is_an_error():
            return x509.load_pem_x509_certificates(pem)
    except HOSTILE_DER_ERRORS as error:
        raise _unreadable(item, str(error), hint=hint) from error


def describe(certificate: x509.Certificate, *, item: str) -> Certificate:
    """Return the record of a parsed certificate, reading every field that this room will need."""
    try:
        common_names = _texts(certificate, NameOID.COMMON_NAME)
        organisations = _texts(certificate, NameOID.ORGANIZATION_NAME)
        public_key = certificate.public_key()
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        digest = fingerprint(certificate)
    except HOSTILE_DER_ERRORS as error:
        raise _unreadable(item, str(error)) from error
    if len(common_names) != 1 or len(organisations) > 1:
        raise _unreadable(
            item, f"{len(common_names)} common names and {len(organisations)} organisations in the subject"
        )
    algorithm = algorithm_of(public_key, item=item)
    if not isinstance(public_key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise _unreadable(item, type(public_key).__name__)
    return Certificate(
        fingerprint=digest,
        common_name=common_names[0],
        organisation=organisations[0] if organisations else None,
        algorithm=algorithm,
        not_before=not_before,
        not_after=not_after,
        x509=certificate,
        public_key=public_key,
    )


def as_asn1(certificate: x509.Certificate) -> Any:  # noqa: ANN401 - asn1crypto has no types
    """Return the certificate in the form that pyHanko and its validator take."""
    from asn1crypto.x509 import Certificate as Asn1Certificate  # noqa: PLC0415 - only with pyHanko

    return Asn1Certificate.load(certificate.public_bytes(Encoding.DER))


def _texts(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> list[str]:
    values = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(oid)]
    return [value if isinstance(value, str) else value.decode("utf-8") for value in values]


def _unreadable(item: str, found: str, *, hint: str = _HINT) -> KeyProblem:
    return KeyProblem(
        item=item,
        expected="one X.509 sealing certificate (PEM), for ECDSA P-256 or RSA",
        found=found or "bytes that are not a certificate",
        hint=hint,
    )
