"""Who seals: a certificate, the certificates above it, and a key that may lie where no program can read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from audit.errors import KeyProblem, SignatureInvalid
from audit.signing.algorithms import PrivateKey, accepted_form, verify_message
from audit.signing.certificates import Certificate
from audit.signing.chains import Chain, chain_pem


class SigningKey(Protocol):
    """A private key that signs, wherever it lies."""

    def sign(self, message: bytes) -> bytes:
        """Return a signature over the message, which the key's owner hashes with SHA-256: ECDSA in DER, or PKCS#1 v1.5.

        Raises:
            KeyProblem: the key cannot sign now.
        """


@dataclass(frozen=True, slots=True)
class SoftwareKey:
    """A key in this program's memory. It never appears in the repr."""

    private_key: PrivateKey = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """Return the signature."""
        if isinstance(self.private_key, rsa.RSAPrivateKey):
            return self.private_key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        return self.private_key.sign(message, ec.ECDSA(hashes.SHA256()))


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key and its certificate, checked to belong together. The key never appears in the repr.

    Attributes:
        certificate: the seal's.
        key: signs, and tells nothing else.
        issuers: the certificates above the seal's, each the issuer of the one before, without a self-signed root.
        root: the self-signed certificate above the last one, where the certificate file held it; never embedded.
    """

    certificate: Certificate
    key: SigningKey = field(repr=False)
    issuers: tuple[x509.Certificate, ...] = field(default=(), repr=False)
    root: x509.Certificate | None = field(default=None, repr=False)

    @property
    def certificate_pem(self) -> bytes:
        """The bytes of the bundle's `certificate.pem`: the seal's certificate, then its issuers."""
        return chain_pem(self.certificate, self.issuers)

    def sign(self, message: bytes) -> bytes:
        """Return a signature over the message in its one accepted form, after verifying it with the certificate.

        Raises:
            KeyProblem: the key cannot sign now, or what it returned is not its signature.
        """
        item = f"key of {self.certificate.common_name!r}"
        public_key = self.certificate.public_key
        try:
            signature = accepted_form(public_key, self.key.sign(message))
            # A signature that a faulty token or a fault in memory spoilt can give the key away: it never leaves here.
            verify_message(public_key, signature, message, item=item)
        except (SignatureInvalid, ValueError) as error:
            raise KeyProblem(
                item=item,
                expected="a signature by the certificate's key",
                found="something else",
                hint="The key or its token is defective, or is not the certificate's. Nothing was sealed.",
            ) from error
        return signature

    def require_valid_at(self, moment: datetime) -> None:
        """Pass if the certificate is valid at the moment.

        Raises:
            KeyProblem: expired, or not valid yet.
        """
        if not self.certificate.covers(moment):
            raise KeyProblem(
                item=f"certificate of {self.certificate.common_name!r}",
                expected=f"valid at {moment.isoformat()}",
                found=f"valid {self.certificate.not_before.isoformat()} to {self.certificate.not_after.isoformat()}",
                hint="The certificate has expired or is not valid yet. Make a new one with `affidavit keys new`.",
            )


def make_signer(key: SigningKey, public_key: object, chain: Chain, *, at: datetime, item: str) -> Signer:
    """Return the signer of a key and its certificates.

    Args:
        key: signs.
        public_key: the key's other half, as the key's holder told it.
        chain: the certificates.
        at: the moment at which the seal's certificate must be valid, with a time zone.
        item: where the key lies, for errors.

    Raises:
        KeyProblem: the certificate is another key's, or is not valid at the moment.
    """
    if public_key != chain.certificate.public_key:
        raise KeyProblem(
            item=item,
            expected=f"the private key of the certificate {chain.certificate.fingerprint}",
            found="another key",
            hint="Give the certificate of this key: for `affidavit keys new` the certificate.pem written with it.",
        )
    signer = Signer(chain.certificate, key, chain.issuers, chain.root)
    signer.require_valid_at(at)
    return signer
