"""Seal a PDF with PAdES. pyHanko is imported inside functions: it costs half a second."""

from __future__ import annotations

from datetime import datetime
from io import BytesIO
from typing import Any

from audit.config import SealLevel
from audit.errors import EvidenceError, SignatureInvalid
from audit.signing.algorithms import signature_size
from audit.signing.asynchronous import run_async
from audit.signing.certificates import as_asn1
from audit.signing.long_term import collecting_context, not_vouched_for, require_collected
from audit.signing.pdf_check import FIELD_NAME, PdfTimestamp, PdfVerification, verify_pdf
from audit.signing.signer import Signer
from audit.signing.timestamps import DIGEST, timestamper

__all__ = ["PdfTimestamp", "PdfVerification", "sign_pdf", "verify_pdf"]


def sign_pdf(
    pdf_bytes: bytes,
    signer: Signer,
    *,
    signed_at: datetime,
    reason: str,
    location: str | None = None,
    level: SealLevel = SealLevel.B_B,
    tsa_url: str = "",
) -> bytes:
    """Return the PDF with one PAdES seal that forbids every later change.

    The seal is one incremental update: the input's bytes stay as they are, its metadata too.

    Args:
        pdf_bytes: an unsigned PDF.
        signer: whose seal it is; an organisation's, not a person's signature.
        signed_at: the time to write into the seal, with a time zone.
        reason: why it is sealed; shown by viewers.
        location: where, or None.
        level: B-B; B-T with a timestamp; B-LT also with the answers of the authorities about the certificates.
        tsa_url: the RFC 3161 authority of B-T and B-LT, http or https (tokens are signed themselves).

    Raises:
        EvidenceError: not a PDF that can be sealed: unreadable, encrypted or already signed.
        KeyProblem: the certificate is not valid at `signed_at`, or has no authority that answers for it (B-LT).
        EnvironmentProblem: an authority did not answer, or does not call the certificate good.
        SignatureInvalid: the result does not pass `verify_pdf`.
    """
    if signed_at.tzinfo is None:
        raise _unsealable("a signing time without a time zone")
    signer.require_valid_at(signed_at)
    stamper = None if level is SealLevel.B_B else timestamper(tsa_url)
    context = collecting_context(signer, stamper) if level is SealLevel.B_LT else None
    sealed = _seal(
        pdf_bytes,
        signer,
        signed_at=signed_at,
        reason=reason,
        location=location,
        stamper=stamper,
        context=context,
    )
    result = verify_pdf(sealed, signer.certificate.x509, moment=signed_at)
    if not result.ok:
        raise SignatureInvalid(
            item="the sealed PDF",
            expected="a seal that passes affidavit's own check",
            found="; ".join(result.problems),
            hint="Seal the PDF as the report room wrote it, unsigned and unencrypted.",
        )
    return sealed


def _seal(
    pdf_bytes: bytes,
    signer: Signer,
    *,
    signed_at: datetime,
    reason: str,
    location: str | None,
    stamper: Any = None,  # noqa: ANN401 - pyHanko has no types here
    context: Any = None,  # noqa: ANN401
) -> bytes:
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter  # noqa: PLC0415 - half a second
    from pyhanko.pdf_utils.misc import PdfError  # noqa: PLC0415 - same
    from pyhanko.sign import fields, signers  # noqa: PLC0415 - same
    from pyhanko.sign.general import SigningError  # noqa: PLC0415 - same
    from pyhanko.sign.signers.pdf_signer import (  # noqa: PLC0415 - same
        DSSContentSettings,
        SigDSSPlacementPreference,
    )
    from pyhanko_certvalidator.errors import PathError, ValidationError  # noqa: PLC0415 - same

    class SealWriter(IncrementalPdfFileWriter):  # type: ignore[misc] # pyHanko is not followed by mypy
        """Writes the seal alone."""

        def _update_meta(self) -> None:
            """Leave the metadata as it is: pyHanko would write the clock's time and its own name into it."""

    try:
        writer = SealWriter(BytesIO(pdf_bytes))
        if writer.prev.encrypted or list(writer.prev.embedded_signatures):
            raise _unsealable("an encrypted or already signed PDF")
        metadata = signers.PdfSignatureMetadata(
            field_name=FIELD_NAME,
            md_algorithm=DIGEST,
            reason=reason,
            location=location,
            name=signer.certificate.common_name,
            certify=True,
            docmdp_permissions=fields.MDPPerm.NO_CHANGES,
            subfilter=fields.SigSeedSubFilter.PADES,
            validation_context=context,
            embed_validation_info=context is not None,
            # In the same revision: a second one would lie after the seal, which forbids every change.
            dss_settings=DSSContentSettings(
                include_vri=False, placement=SigDSSPlacementPreference.TOGETHER_WITH_SIGNATURE
            ),
        )
        pdf_signer = signers.PdfSigner(metadata, _pyhanko_signer(signer), timestamper=stamper)
        sealed = run_async(_run_session(pdf_signer, writer, signed_at))
    except (SigningError, PathError, ValidationError) as error:
        raise not_vouched_for(signer, str(error)) from error
    except (PdfError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _unsealable(f"{type(error).__name__}: {error}") from error
    if context is not None:
        require_collected(context, signer)
    return sealed


async def _run_session(pdf_signer: Any, writer: Any, signed_at: datetime) -> bytes:  # noqa: ANN401
    # PdfSigner.sign_pdf reads the clock; its session takes a time. The steps are those of async_sign_pdf.
    from pyhanko.sign.signers.pdf_cms import PdfCMSSignedAttributes  # noqa: PLC0415 - half a second

    session = pdf_signer.init_signing_session(writer)
    session.system_time = signed_at
    validation = await session.perform_presign_validation(writer)
    reserved = await session.estimate_signature_container_size(validation, tight=False)
    document = session.prepare_tbs_document(validation_info=validation, bytes_reserved=reserved)
    digest, output = document.digest_tbs_document()
    finished = await document.perform_signature(
        document_digest=digest.document_digest,
        pdf_cms_signed_attrs=PdfCMSSignedAttributes(signing_time=signed_at),
    )
    await finished.post_signature_processing(output)
    sealed: bytes = output.getvalue()
    return sealed


def _pyhanko_signer(signer: Signer) -> Any:  # noqa: ANN401
    from pyhanko.sign.signers import Signer as CmsSigner  # noqa: PLC0415 - half a second
    from pyhanko_certvalidator.registry import SimpleCertificateStore  # noqa: PLC0415 - same

    class SealSigner(CmsSigner):  # type: ignore[misc] # pyHanko is not followed by mypy
        """Signs with the seal's key, wherever that lies."""

        async def async_sign_raw(
            self,
            data: bytes,
            digest_algorithm: str,  # noqa: ARG002 - SHA-256 always
            dry_run: bool = False,  # noqa: FBT001, FBT002 - pyHanko's signature
        ) -> bytes:
            """Return the signature; a dry run only asks for its size, and must not wake a token."""
            return bytes(signature_size(signer.certificate.public_key)) if dry_run else signer.sign(data)

    store = SimpleCertificateStore()
    store.register_multiple(as_asn1(issuer) for issuer in signer.issuers)
    return SealSigner(signing_cert=as_asn1(signer.certificate.x509), cert_registry=store)


def _unsealable(found: str) -> EvidenceError:
    return EvidenceError(
        item="the PDF to seal",
        expected="a readable PDF without encryption and without signatures",
        found=found,
        hint="Seal the PDF as the report room wrote it.",
    )
