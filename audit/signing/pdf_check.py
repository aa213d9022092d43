"""Check a sealed PDF more strictly than viewers do. pyHanko is imported inside functions: it costs half a second."""

from __future__ import annotations

import logging
import struct
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from audit.errors import KeyProblem
from audit.signing.asynchronous import run_async
from audit.signing.certificates import as_asn1, fingerprint, load_der
from audit.signing.chains import Chain, RevocationInfo, make_chain
from audit.signing.checks import one_line, printable
from audit.signing.long_term import revocation_in_pdf
from audit.signing.pdf_structure import cms_problem, coverage_problem

FIELD_NAME = "AffidavitSeal"
_SUBFILTER = "/ETSI.CAdES.detached"


@dataclass(frozen=True, slots=True)
class PdfTimestamp:
    """The RFC 3161 timestamp inside a PDF signature.

    Attributes:
        moment: the time in the token, UTC.
        authority: the subject of the authority's certificate.
        sound: the token is over this signature and its own signature verifies.
        trusted: a chain leads to the given authority certificate; False when none was given.
    """

    moment: datetime
    authority: str
    sound: bool
    trusted: bool


@dataclass(frozen=True, slots=True)
class PdfVerification:
    """What a sealed PDF's signature proves.

    Attributes:
        problems: each reason why the PDF is not sealed as it must be; empty when it is.
        chain: the certificate that signed and those above it that the seal carries, or None when they cannot be read.
        claimed_at: the signing time that the signer wrote, UTC.
        timestamp: the timestamp, or None when there is none.
        revocation: the answers of authorities that the PDF carries.
    """

    problems: tuple[str, ...]
    chain: Chain | None = None
    claimed_at: datetime | None = None
    timestamp: PdfTimestamp | None = None
    revocation: RevocationInfo = field(default_factory=RevocationInfo)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with the seal."""
        return not self.problems

    @property
    def fingerprint(self) -> str | None:
        """Of the certificate that signed, or None when that could not be read."""
        return self.chain.certificate.fingerprint if self.chain is not None else None

    def problems_at(self, signed_at: datetime) -> tuple[str, ...]:
        """Return the problems, and another if the seal does not say that it was made at that second."""
        if self.claimed_at is None or self.claimed_at.replace(microsecond=0) == signed_at.replace(microsecond=0):
            return self.problems
        claimed, expected = self.claimed_at.isoformat(), signed_at.isoformat()
        return (*self.problems, f"the seal says that it was made at {claimed}, the statement says {expected}")


def verify_pdf(
    pdf_bytes: bytes,
    trusted_cert: x509.Certificate | None,
    *,
    moment: datetime | None = None,
    trusted_tsa: x509.Certificate | None = None,
) -> PdfVerification:
    """Return what is wrong with a PDF's seal, if anything.

    Required: exactly one signature, a certification that permits no changes, in the PAdES form, sound, by
    `trusted_cert` itself, over every byte of the file but its own placeholder, and valid at the moment. A timestamp
    is reported apart: whether it is sound, and whether its authority is trusted. Revocation is not checked.

    Args:
        pdf_bytes: the whole file.
        trusted_cert: the certificate that must have signed; None checks integrity only.
        moment: when the certificate must have been valid; None takes the time that the signer wrote.
        trusted_tsa: a root or the certificate of the timestamp authority.
    """
    from pikepdf import PdfError as QpdfError  # noqa: PLC0415 - lazily, like pyHanko
    from pyhanko.pdf_utils.misc import PdfError  # noqa: PLC0415 - half a second
    from pyhanko_certvalidator import errors as path_errors  # noqa: PLC0415 - same

    silence_parsers()
    # pyHanko parses lazily and raises whatever its code meets in hostile objects. These are all failures of the PDF:
    # each one becomes a problem, so none can pass for a verdict. A NameError or an ImportError is ours, and escapes.
    hostile = (
        PdfError,
        QpdfError,
        path_errors.PathError,
        path_errors.ValidationError,
        path_errors.CRLValidationError,
        path_errors.OCSPValidationError,
        InvalidSignature,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        zlib.error,
        struct.error,
        EOFError,
        StopIteration,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        AssertionError,
        RuntimeError,
        OSError,
        MemoryError,
    )
    try:
        return _verify(pdf_bytes, trusted_cert, moment=moment, trusted_tsa=trusted_tsa)
    except KeyProblem as error:
        return PdfVerification((one_line(error),))
    except hostile as error:
        return PdfVerification((f"the PDF cannot be read: {printable(f'{type(error).__name__}: {error}')[:300]}",))


def _verify(
    pdf_bytes: bytes,
    trusted_cert: x509.Certificate | None,
    *,
    moment: datetime | None,
    trusted_tsa: x509.Certificate | None,
) -> PdfVerification:
    from pyhanko.pdf_utils.reader import PdfFileReader  # noqa: PLC0415 - half a second

    reader = PdfFileReader(BytesIO(pdf_bytes), strict=True)
    signatures = list(reader.embedded_signatures)
    if len(signatures) != 1:
        return PdfVerification((f"{len(signatures)} signatures where exactly one belongs",))
    embedded = signatures[0]
    signing_cert = load_der(embedded.signer_cert.dump())
    chain = make_chain(signing_cert, _other_certificates(embedded), item="the seal's certificates")
    problems = _form_problems(reader, embedded, pdf_bytes, chain)
    found = fingerprint(signing_cert)
    if trusted_cert is not None and found != fingerprint(trusted_cert):
        problems.append(f"signed by the certificate {found}, not by {fingerprint(trusted_cert)}")
    claimed = embedded.self_reported_timestamp
    claimed_at = claimed.astimezone(UTC) if claimed is not None else None
    if claimed_at is None:
        problems.append("the signature does not say when it was made")
    if moment is None:
        moment = claimed_at
    # pyHanko does not look at the dates of a certificate that is its own root.
    if moment is not None and not signing_cert.not_valid_before_utc <= moment <= signing_cert.not_valid_after_utc:
        problems.append(f"the signer's certificate was not valid at {moment.isoformat()}")
    tokens = _timestamp_tokens(embedded)
    status = _validate(embedded, signing_cert, moment=moment, token=tokens[0] if tokens else None)
    if not status.bottom_line:
        problems.append(f"the signature is not sound: {printable(status.summary())[:200]}")
    if status.coverage.name != "ENTIRE_FILE" or not status.docmdp_ok:
        problems.append("the file was changed after it was signed, or is not covered entirely")
    if len(tokens) > 1:
        problems.append(f"{len(tokens)} timestamps where at most one belongs")
    timestamp = _describe_timestamp(status, tokens[0], embedded, trusted_tsa) if len(tokens) == 1 else None
    return PdfVerification(tuple(problems), chain, claimed_at, timestamp, revocation_in_pdf(reader))


def _form_problems(
    reader: Any,  # noqa: ANN401 - pyHanko has no types here
    embedded: Any,  # noqa: ANN401
    pdf_bytes: bytes,
    chain: Chain,
) -> list[str]:
    """Return what differs from the one form that `sign_pdf` writes."""
    from pyhanko.sign.fields import MDPPerm  # noqa: PLC0415 - half a second
    from pyhanko.sign.validation.pdf_embedded import read_certification_data  # noqa: PLC0415 - same

    problems: list[str] = []
    coverage = coverage_problem(pdf_bytes, [int(n) for n in embedded.byte_range], embedded.pkcs7_content)
    if coverage is not None:
        problems.append(coverage)
    is_rsa = isinstance(chain.certificate.public_key, rsa.RSAPublicKey)
    # A root would stand in the signature as a byte that nobody needs: `sign_pdf` leaves it out.
    issuers = [issuer.public_bytes(Encoding.DER) for issuer in chain.issuers]
    form = cms_problem(embedded.pkcs7_content, embedded.signer_cert.dump(), issuers, is_rsa=is_rsa)
    if form is not None:
        problems.append(form)
    if embedded.field_name != FIELD_NAME:
        problems.append(f"the signature field is {printable(str(embedded.field_name))[:80]}, not {FIELD_NAME}")
    if embedded.sig_object_type != "/Sig" or embedded.sig_object.get("/SubFilter") != _SUBFILTER:
        problems.append("the signature is not in the PAdES form")
    # PAdES has one place for the time (ETSI EN 319 142-1, 6.3). With two, each viewer could show another one.
    if "signing_time" in [attribute["type"].native for attribute in embedded.signer_info["signed_attrs"]]:
        problems.append("the signature says in two places when it was made")
    certification = read_certification_data(reader)
    if (
        certification is None
        or certification.permission is not MDPPerm.NO_CHANGES
        or certification.author_sig is not embedded.sig_object
    ):
        problems.append("the signature does not forbid later changes")
    return problems


def _other_certificates(embedded: Any) -> list[x509.Certificate]:  # noqa: ANN401
    return [load_der(certificate.dump()) for certificate in embedded.other_embedded_certs]


def _validate(embedded: Any, signing_cert: x509.Certificate, *, moment: datetime | None, token: Any) -> Any:  # noqa: ANN401
    """Return pyHanko's status, with the signer (and any TSA) as its own root: who is trusted is decided elsewhere."""
    from pyhanko.sign.validation import async_validate_pdf_signature  # noqa: PLC0415 - half a second
    from pyhanko.sign.validation.settings import KeyUsageConstraints  # noqa: PLC0415 - same

    usage = KeyUsageConstraints(key_usage={"digital_signature", "non_repudiation"}, match_all_key_usages=False)
    tsa_context = None
    if token is not None:
        tsa_context = _context(_token_signer(token), _token_moment(token))
    return run_async(
        async_validate_pdf_signature(
            embedded,
            signer_validation_context=_context(as_asn1(signing_cert), moment),
            ts_validation_context=tsa_context,
            key_usage_settings=usage,
        )
    )


def _describe_timestamp(
    status: Any,  # noqa: ANN401 - pyHanko has no types here
    token: Any,  # noqa: ANN401
    embedded: Any,  # noqa: ANN401
    trusted_tsa: x509.Certificate | None,
) -> PdfTimestamp:
    validity = status.timestamp_validity
    sound = validity is not None and bool(validity.intact and validity.valid and validity.trusted)
    stamped_by = _token_signer(token)
    # Same here: the authority's certificate stands as its own root.
    sound = sound and stamped_by.not_valid_before <= _token_moment(token) <= stamped_by.not_valid_after
    trusted = False
    if trusted_tsa is not None and sound:
        from pyhanko.sign.validation.generic_cms import collect_timing_info  # noqa: PLC0415 - half a second

        context = _context(as_asn1(trusted_tsa), _token_moment(token), others=_token_certificates(token))
        timing = run_async(collect_timing_info(embedded.signer_info, context, raw_digest=embedded.compute_digest))
        outcome = timing.get("timestamp_validity")
        trusted = outcome is not None and bool(outcome.intact and outcome.valid and outcome.trusted)
    authority = printable(str(stamped_by.subject.human_friendly))[:200]
    return PdfTimestamp(moment=_token_moment(token), authority=authority, sound=sound, trusted=trusted)


def _timestamp_tokens(embedded: Any) -> list[Any]:  # noqa: ANN401
    from pyhanko.sign.validation.generic_cms import extract_tst_data_iter  # noqa: PLC0415 - half a second

    return list(extract_tst_data_iter(embedded.signer_info, signed=False))


def _token_signer(token: Any) -> Any:  # noqa: ANN401
    from pyhanko.sign.general import extract_certificate_info  # noqa: PLC0415 - half a second

    return extract_certificate_info(token).signer_cert


def _token_certificates(token: Any) -> list[Any]:  # noqa: ANN401
    return [choice.chosen for choice in token["certificates"] if choice.name == "certificate"]


def _token_moment(token: Any) -> datetime:  # noqa: ANN401
    moment: datetime = token["encap_content_info"]["content"].parsed["gen_time"].native
    return moment.astimezone(UTC)


def _context(root: Any, moment: datetime | None, *, others: list[Any] | None = None) -> Any:  # noqa: ANN401
    from pyhanko_certvalidator import ValidationContext  # noqa: PLC0415 - half a second

    return ValidationContext(trust_roots=[root], other_certs=others or [], moment=moment, allow_fetching=False)


def import_pdf_checker() -> None:
    """Import what `verify_pdf` needs: half a second that can be spent while something else is waited for."""
    import pikepdf  # noqa: F401, PLC0415
    import pyhanko.sign.validation.pdf_embedded  # noqa: F401, PLC0415


def silence_parsers() -> None:
    """Keep the PDF libraries from printing; a program that configures logging still gets their records."""
    # They log warnings and tracebacks for hostile PDFs, and logging prints them when nobody configured it.
    for name in ("pyhanko", "pyhanko_certvalidator", "pikepdf"):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
