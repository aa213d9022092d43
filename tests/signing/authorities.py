"""Certificate authorities for tests: roots, intermediates and the seals that they issue, sound or faulty by choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from audit.signing.chains import make_chain
from audit.signing.signer import Signer, SoftwareKey
from tests.signing.bundle_making import NOT_BEFORE

DOCUMENT_SIGNING = "1.3.6.1.5.5.7.3.36"
EMAIL_PROTECTION = "1.3.6.1.5.5.7.3.4"
SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.7"), b"\x05\x00")


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate, its key, and the certificates above it up to the root."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    above: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def intermediates(self) -> tuple[x509.Certificate, ...]:
        """The certificates above it without the root."""
        return self.above[:-1]

    def write(self, folder: Path, *, root: bool = False) -> tuple[Path, Path]:
        """Write key and chain as files that `load_signer` reads, and return both paths."""
        above = self.above if root else self.intermediates
        key, chain = folder / "issued.key.pem", folder / "issued.pem"
        key.touch(mode=0o600)
        key.write_bytes(
            self.key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        chain.write_bytes(self.pem + b"".join(certificate.public_bytes(Encoding.PEM) for certificate in above))
        return key, chain

    def signer(self) -> Signer:
        """Return the signer with this certificate and its intermediates."""
        chain = make_chain(self.certificate, self.above, item="issued")
        return Signer(chain.certificate, SoftwareKey(self.key), chain.issuers, chain.root)


def issue(
    name: str,
    issuer: Issued | None = None,
    *,
    ca: bool = True,
    cert_sign: bool | None = None,
    path_length: int | None = None,
    usages: Sequence[str] = (),
    extensions: Sequence[x509.ExtensionType] = (),
    critical: Sequence[x509.ExtensionType] = (),
    start: datetime = NOT_BEFORE,
    days: int = 300,
    key: ec.EllipticCurvePrivateKey | None = None,
    serial: int | None = None,
) -> Issued:
    """Return a certificate: self-signed without an issuer, for certificates where `ca`, and with the named usages."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signs = ca if cert_sign is None else cert_sign
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=not ca, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=signs, crl_sign=ca, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    signing_key = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length if ca else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
    )
    if usages:
        identifiers = [x509.ObjectIdentifier(oid) for oid in usages]
        builder = builder.add_extension(x509.ExtendedKeyUsage(identifiers), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    for extension in critical:
        builder = builder.add_extension(extension, critical=True)
    above = (issuer.certificate, *issuer.above) if issuer else ()
    return Issued(builder.sign(signing_key, hashes.SHA256()), key, above)


def issue_seal(issuer: Issued, name: str = "Issued seal", **changes: object) -> Issued:
    """Return a certificate for documents."""
    arguments: dict[str, object] = {"ca": False, "usages": [DOCUMENT_SIGNING, EMAIL_PROTECTION]}
    return issue(name, issuer, **(arguments | changes))  # type: ignore[arg-type] # keyword arguments of one kind each


def three_deep() -> tuple[Issued, Issued]:
    """Return a seal issued through two intermediates, and the root."""
    root = issue("Root")
    return issue_seal(issue("Issuing CA", issue("Policy CA", root))), root
