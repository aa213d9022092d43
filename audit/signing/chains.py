"""Certificates above a seal's certificate: in which order they stand, and whether they lead to a trusted one.

The path is built and validated by pyhanko-certvalidator (RFC 5280, section 6), which is imported inside functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from audit.errors import EvidenceError, KeyProblem
from audit.signing.asynchronous import run_async
from audit.signing.certificates import (
    HOSTILE_DER_ERRORS,
    Certificate,
    as_asn1,
    describe,
    read_pem,
    read_x509_certificates,
)

MAX_ISSUERS = 8
# A CA issues for servers and people too. documentSigning is RFC 9336; emailProtection is what came before it.
_SEALING_USAGES = frozenset({x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36"), ExtendedKeyUsageOID.EMAIL_PROTECTION})
_WEAK_HASHES = ("md2", "md5", "sha1", "sha224")
# A root's own critical extension that nothing evaluates would be ignored, and critical means: do not ignore.
_KNOWN_CRITICAL = frozenset({
    x509.BasicConstraints.oid, x509.KeyUsage.oid, x509.ExtendedKeyUsage.oid, x509.NameConstraints.oid,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chain:
    """A seal's certificate with those above it.

    Attributes:
        certificate: the seal's.
        issuers: each the issuer of the one before, without a self-signed root.
        root: the self-signed certificate at the end, where there was one.
    """

    certificate: Certificate
    issuers: tuple[x509.Certificate, ...] = ()
    root: x509.Certificate | None = None


@dataclass(frozen=True, slots=True)
class RevocationInfo:
    """What authorities said about certificates when a seal was made: DER of OCSP responses and of CRLs."""

    ocsps: tuple[bytes, ...] = field(default=(), repr=False)
    crls: tuple[bytes, ...] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        return bool(self.ocsps or self.crls)


def chain_pem(certificate: Certificate, issuers: Iterable[x509.Certificate]) -> bytes:
    """Return the bytes of `certificate.pem`: the seal's certificate first, then its issuers."""
    return b"".join([certificate.pem, *(issuer.public_bytes(Encoding.PEM) for issuer in issuers)])


def read_chain_file(path: Path) -> Chain:
    """Return the seal's certificate in a PEM file, which stands first, with its issuers.

    Raises:
        KeyProblem: the file is missing, holds no certificate, its first certificate cannot seal, or another one of
            them is not above it.
    """
    leaf, *others = read_x509_certificates(path)
    return make_chain(leaf, others, item=str(path))


def make_chain(leaf: x509.Certificate, others: Iterable[x509.Certificate], *, item: str) -> Chain:
    """Return the chain of a certificate, its issuers sorted from the seal upwards.

    Raises:
        KeyProblem: the first certificate cannot seal, or one of the others is not above it.
    """
    certificate, waiting = describe(leaf, item=item), list(others)
    above = above_of(leaf, waiting)
    if len(above) != len(waiting) or len(above) > MAX_ISSUERS:
        beside = [other for other in waiting if other not in above] or waiting
        raise KeyProblem(
            item=item,
            expected=f"the seal's certificate first, then its issuers, at most {MAX_ISSUERS}",
            found=f"{len(waiting) - len(above)} beside or twice: {beside[0].subject.rfc4514_string()!r}",
            hint="Write the PEM blocks from the seal's certificate up to its root, and no others.",
        )
    root = above.pop() if above and _issued(above[-1], above[-1]) else None
    return Chain(certificate, tuple(above), root)


def above_of(leaf: x509.Certificate, others: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return those of the others that stand above a certificate, each the issuer of the one before."""
    above: list[x509.Certificate] = []
    while True:
        last = above[-1] if above else leaf
        following = next((it for it in others if it not in (leaf, *above) and _issued(last, it)), None)
        if following is None:
            return above
        above.append(following)


def issuers_in_pem(pem: bytes, certificate: Certificate, *, item: str) -> tuple[x509.Certificate, ...]:
    """Return the issuers in a bundle's `certificate.pem`, if it has the one form that `chain_pem` writes.

    Raises:
        EvidenceError: another certificate stands first, one is not the issuer of the one before, or a byte is free.
    """
    try:
        leaf, *others = read_pem(pem, item=item)
        chain = make_chain(leaf, others, item=item)
        found = None if chain.certificate.fingerprint == certificate.fingerprint else "another certificate first"
    except KeyProblem as error:
        raise _other_form(item, error.found) from error
    if found is None and chain_pem(chain.certificate, chain.issuers) != pem:
        found = "bytes besides the certificates, or another order"
    if found is not None:
        raise _other_form(item, found)
    return chain.issuers


def trust_problem(
    certificate: x509.Certificate,
    issuers: Sequence[x509.Certificate],
    anchor: x509.Certificate,
    *,
    moment: datetime,
    revocation: RevocationInfo | None = None,
) -> str | None:
    """Return why the trusted authority does not vouch for the certificate at a moment, or None when it does.

    A path must lead from the certificate through the issuers to the anchor and be valid at the moment by RFC 5280:
    names, signatures with SHA-256 or better, validity, CA flags, path lengths, name constraints, no critical extension
    that is not understood. The anchor itself must be a CA's certificate, valid then, and the certificate must be for
    documents or mail, as must be every authority that says what it issues for.

    Args:
        certificate: the seal's.
        issuers: further certificates that may lead to the anchor; nobody vouches for them yet.
        anchor: the authority's certificate, obtained out of band.
        moment: when it must hold, with a time zone.
        revocation: answers of the authorities from the time of sealing. With them, a certificate that names a service
            for such answers must have one that calls it good; without, revocation is not looked at.
    """
    try:
        problem = _anchor_problem(anchor, moment=moment)
        if problem is None:
            problem = next(filter(None, map(_usage_problem, (certificate, *issuers))), None)
        return problem or _path_problem(certificate, issuers, anchor, moment=moment, revocation=revocation)
    except x509.ExtensionNotFound as error:
        return f"the trusted certificate is not a CA: {error}"
    except HOSTILE_DER_ERRORS as error:
        return f"{type(error).__name__}: {error}"


def _path_problem(
    certificate: x509.Certificate,
    issuers: Sequence[x509.Certificate],
    anchor: x509.Certificate,
    *,
    moment: datetime,
    revocation: RevocationInfo | None,
) -> str | None:
    from pyhanko_certvalidator import CertificateValidator, ValidationContext  # noqa: PLC0415 - 0.2 seconds
    from pyhanko_certvalidator.authority import CertTrustAnchor  # noqa: PLC0415 - same
    from pyhanko_certvalidator.errors import PathError, ValidationError  # noqa: PLC0415 - same

    answers: dict[str, Any] = {}
    if revocation:
        # Asked at the end of a run, whose moment is its beginning: "not revoked" said later holds for earlier.
        answers = {
            "ocsps": revocation.ocsps,
            "crls": revocation.crls,
            "revocation_mode": "hard-fail",
            "retroactive_revinfo": True,
        }
    context = ValidationContext(
        # With the anchor's own path length and name constraints, which RFC 5280 leaves to the one who trusts it.
        trust_roots=[CertTrustAnchor(as_asn1(anchor), derive_default_quals_from_cert=True)],
        moment=moment,
        allow_fetching=False,
        weak_hash_algos=_WEAK_HASHES,
        **answers,
    )
    validator = CertificateValidator(as_asn1(certificate), [as_asn1(issuer) for issuer in issuers], context)
    try:
        run_async(validator.async_validate_path())
    except (PathError, ValidationError) as error:
        return str(error)
    return None


def _usage_problem(certificate: x509.Certificate) -> str | None:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        usages = None
    is_ca = _is_ca(certificate)
    if is_ca and (usages is None or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages):
        return None
    if usages is None or _SEALING_USAGES.isdisjoint(usages):
        return (
            f"the certificate of {certificate.subject.rfc4514_string()} is not for sealing: its extended key usage "
            "names neither documentSigning nor emailProtection"
        )
    return None


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _anchor_problem(anchor: x509.Certificate, *, moment: datetime) -> str | None:
    if not anchor.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
        return "the trusted certificate is not a CA and is not the signer's"
    if not anchor.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
        return "the trusted CA may not sign certificates"
    if any(extension.critical and extension.oid not in _KNOWN_CRITICAL for extension in anchor.extensions):
        return "the trusted CA has a critical extension that affidavit does not evaluate"
    if not anchor.not_valid_before_utc <= moment <= anchor.not_valid_after_utc:
        return "the trusted CA was not valid when the seal was made"
    return None


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether the issuer's name and key are those that the certificate was issued with; nothing of trust."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *HOSTILE_DER_ERRORS):
        return False
    return True


def _other_form(item: str, found: str) -> EvidenceError:
    return EvidenceError(
        item=item,
        expected="the seal's certificate in PEM, then its issuers in order, and nothing else",
        found=found,
        hint="Get an intact copy of the bundle.",
    )
