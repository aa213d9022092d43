"""How a seal signs: ECDSA P-256 or RSA PKCS#1 v1.5, both over SHA-256, with one accepted form of a signature."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from audit.errors import KeyProblem, SignatureInvalid

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

MIN_RSA_BITS = 3072
MAX_RSA_BITS = 8192  # A hostile certificate with a huge modulus must not stall the verifier.
# SEC 2, section 2.4.2: the order of P-256's group.
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class SealAlgorithm(StrEnum):
    """The signature algorithms of a seal, as they are written in the signed statement."""

    ECDSA_P256_SHA256 = "ecdsa-p256-sha256"
    RSA_PKCS1V15_SHA256 = "rsa-pkcs1v15-sha256"


def algorithm_of(key: object, *, item: str) -> SealAlgorithm:
    """Return how a public key signs.

    Raises:
        KeyProblem: Ed25519 (OpenSSL's `cms` and poppler's `pdfsig` reject it in a PDF), another curve, or an RSA key
            shorter than `MIN_RSA_BITS`.
    """
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return SealAlgorithm.ECDSA_P256_SHA256
    if isinstance(key, rsa.RSAPublicKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return SealAlgorithm.RSA_PKCS1V15_SHA256
    found = type(key).__name__
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        found = "an Edwards-curve key, which OpenSSL's cms and poppler's pdfsig reject in a signed PDF"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        found = f"curve {key.curve.name}"
    elif isinstance(key, rsa.RSAPublicKey):
        found = f"RSA with {key.key_size} bits"
    raise KeyProblem(
        item=item,
        expected=f"an ECDSA P-256 key, or RSA with {MIN_RSA_BITS} to {MAX_RSA_BITS} bits",
        found=found,
        hint="Make a sealing key with `affidavit keys new`.",
    )


def accepted_form(key: PublicKey, signature: bytes) -> bytes:
    """Return a signature by the key in its one accepted form (ECDSA: DER with low s).

    Raises:
        ValueError: an ECDSA signature that is not DER.
    """
    if isinstance(key, rsa.RSAPublicKey):
        return signature
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, min(s, _P256_ORDER - s))


def signature_size(key: PublicKey) -> int:
    """Return the most bytes that a signature by the key takes."""
    # ECDSA P-256 in DER: a sequence of two integers of up to 33 bytes.
    return (key.key_size + 7) // 8 if isinstance(key, rsa.RSAPublicKey) else 72


def verify_message(key: PublicKey, signature: bytes, message: bytes, *, item: str) -> None:
    """Pass if the signature is the key's, and in its one accepted form.

    ECDSA accepts (r, n - s) wherever it accepts (r, s), so a third party could change the file without the key. Only
    low s in strict DER is accepted here.

    Raises:
        SignatureInvalid: the signature is not this key's over this message, or is another form of it.
    """
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
            return
        r, s = decode_dss_signature(signature)
        if encode_dss_signature(r, s) != signature:
            raise _invalid(item, "a signature that is not strict DER")
        if s > _P256_ORDER // 2:
            raise _invalid(item, "the high-s form of a signature")
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise _invalid(item, "a signature that does not verify") from error
    except ValueError as error:
        raise _invalid(item, "bytes that are not a signature") from error


def _invalid(item: str, found: str) -> SignatureInvalid:
    return SignatureInvalid(
        item=item,
        expected="a signature by the embedded certificate's key over the signed statement",
        found=found,
        hint="The statement or its signature was changed after signing. Get an intact copy of the bundle.",
    )
