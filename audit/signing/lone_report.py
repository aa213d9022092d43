"""Verify a report.pdf without its bundle: its seal, and what it carries. Everything else stays not checked."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path

from audit.digests import digest_bytes
from audit.errors import EvidenceError, UsageError
from audit.signing.attested import VerifyResult, check_timestamp, check_trust, check_validity, pinned_signer, pinned_tsa
from audit.signing.bundle_files import ATTESTATION, DIFFERENCE, FINDINGS, MANIFEST, MAX_CONTENT_BYTES, REPORT_PDF
from audit.signing.certificates import Certificate
from audit.signing.checks import Check, CheckName, failed, not_checked, one_line, passed, printable
from audit.signing.claims import SealTerms, record_problems, seal_terms
from audit.signing.contents import attachment_in_pdf
from audit.signing.difference import DIFFERENCE_MANIFEST_SCHEMA, difference_problem
from audit.signing.documents import Documents
from audit.signing.pdf_check import PdfVerification, verify_pdf
from audit.signing.strict_json import expect_object

_MAGIC = b"%PDF-"
_NEEDS_BUNDLE = "needs the bundle that the report comes from"
_ALWAYS_UNMADE = frozenset({
    CheckName.ATTESTATION_READABLE, CheckName.SIGNATURE, CheckName.FILES_INTACT, CheckName.SIGNER_IDENTITY,
    CheckName.PRINTED_TEXT, CheckName.RECOMPUTED,
})  # fmt: skip


def is_lone_report(path: Path) -> bool:
    """Return whether the path is a file that begins like a PDF."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def verify_report(
    path: Path, *, trusted: Path | None, trusted_tsa: Path | None = None, now: datetime | None = None
) -> VerifyResult:
    """Return the outcome of every check; those that need the bundle are not made.

    The seal's own time stands in for the statement's: it is the signer's claim as well.

    Args:
        path: the PDF, under any name.
        trusted: a PEM certificate obtained out of band, as for a bundle.
        trusted_tsa: a PEM certificate of the timestamp authority or its root, obtained out of band.
        now: the verifier's clock, with a time zone; None compares nothing.

    Raises:
        UsageError: the file cannot be read, or is too large.
        KeyProblem: a trusted certificate cannot be read.
    """
    pinned, tsa = pinned_signer(trusted), pinned_tsa(trusted_tsa)
    data = _read(path)
    attached = Documents(partial(attachment_in_pdf, data))
    pdf = verify_pdf(data, None, trusted_tsa=tsa)
    made = {check.name: check for check in _sealed_checks(pdf, seal_terms(attached), now)}
    chain, claimed = pdf.chain, pdf.claimed_at
    if chain is not None and claimed is not None and pdf.ok:
        made[CheckName.SIGNER_TRUSTED] = check_trust(
            chain.certificate, chain.issuers, pinned, moment=claimed, revocation=pdf.revocation, file=REPORT_PDF
        )
        for check in _content_checks(attached, chain.certificate, claimed):
            made[check.name] = check
    rest = "the seal of the PDF does not hold" if not pdf.ok else _NEEDS_BUNDLE
    checks = tuple(
        made.get(name) or not_checked(name, _NEEDS_BUNDLE if name in _ALWAYS_UNMADE else rest) for name in CheckName
    )
    return VerifyResult(checks, None, pdf.fingerprint, alone=True)


def _sealed_checks(pdf: PdfVerification, terms: SealTerms, now: datetime | None) -> list[Check]:
    if pdf.problems or pdf.chain is None or pdf.claimed_at is None:
        return [failed(CheckName.PDF_SIGNATURE, "; ".join(pdf.problems), files=[REPORT_PDF])]
    return [
        passed(CheckName.PDF_SIGNATURE, "one seal covers the entire file and forbids every change"),
        check_validity(pdf.chain.certificate, pdf.claimed_at, now, file=REPORT_PDF),
        check_timestamp(pdf, pdf.claimed_at, terms),
    ]


def _content_checks(attached: Documents, certificate: Certificate, claimed: datetime) -> list[Check]:
    """Return whether the record and the manifest inside the PDF belong together and to its seal."""
    try:
        record = expect_object(attached.parsed(MANIFEST), item=MANIFEST)
        if record.get("schema") == DIFFERENCE_MANIFEST_SCHEMA:
            return [_difference_check(attached, certificate, claimed)]
        digest = digest_bytes(attached.read(FINDINGS))
        files = expect_object(record.get("files"), item=f"{MANIFEST}, files")
    except EvidenceError as error:
        return [failed(CheckName.FINDINGS_AGREE, one_line(error), files=[REPORT_PDF])]
    if files.get(FINDINGS) != digest:
        detail = f"the attached {FINDINGS} has {digest}, the attached {MANIFEST} lists {files.get(FINDINGS)}"
        return [failed(CheckName.FINDINGS_AGREE, printable(detail), files=[REPORT_PDF])]
    agree = passed(
        CheckName.FINDINGS_AGREE, f"the attached {FINDINGS} is the one that the attached {MANIFEST} lists, {digest}"
    )
    problems = record_problems(record, attached, signed_at=claimed, certificate=certificate)
    if problems:
        detail = printable("; ".join(problems.values()))
        return [agree, failed(CheckName.MANIFEST_AGREES, detail, files=[REPORT_PDF])]
    detail = (
        f"the attached {MANIFEST} names the seal's owner and second, and the model, SAEs and suites of {FINDINGS}; "
        f"whether the files that it lists are intact {_NEEDS_BUNDLE}, with {ATTESTATION}"
    )
    return [agree, passed(CheckName.MANIFEST_AGREES, detail)]


def _difference_check(attached: Documents, certificate: Certificate, claimed: datetime) -> Check:
    """Return whether the attached record of a difference is the one that its manifest lists, by the seal's owner."""
    record = attached.read(DIFFERENCE)
    problem = difference_problem(attached.read(MANIFEST), record, signed_at=claimed, certificate=certificate)
    if problem:
        return failed(CheckName.FINDINGS_AGREE, problem, files=[REPORT_PDF])
    return passed(
        CheckName.FINDINGS_AGREE,
        f"the attached {DIFFERENCE} is the one that the attached {MANIFEST} lists, {digest_bytes(record)};"
        " the seal's owner and second are those of the manifest",
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_CONTENT_BYTES + 1)
    except OSError as error:
        raise _not_readable(path, error.strerror or type(error).__name__) from error
    if len(data) > MAX_CONTENT_BYTES:
        raise _not_readable(path, "a longer file")
    return data


def _not_readable(path: Path, found: str) -> UsageError:
    return UsageError(
        item=str(path),
        expected=f"a PDF of at most {MAX_CONTENT_BYTES} bytes",
        found=found,
        hint="Give a sealed bundle's folder, or the report.pdf from one.",
    )
