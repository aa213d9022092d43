"""Verify a sealed bundle or difference: a line for each check, made or not.

None passes on the word of an unsigned statement.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography import x509

from audit.errors import EvidenceError
from audit.signing.attested import (
    Attested,
    VerifyResult,
    check_identity,
    check_timestamp,
    check_trust,
    check_validity,
    pinned_signer,
    pinned_tsa,
    read_attested,
    unreadable,
)
from audit.signing.bundle_files import CERTIFICATE, DIFFERENCE, FINDINGS, REPORT_PDF, FolderContents
from audit.signing.checks import Check, CheckName, failed, not_checked, one_line, passed, printable
from audit.signing.claims import seal_terms
from audit.signing.contents import check_findings, check_manifest
from audit.signing.difference import check_difference, check_difference_record
from audit.signing.pdf_check import PdfVerification, verify_pdf
from audit.signing.plan import check_plan
from audit.signing.statement import Statement, StatementKind

_PRINTED_TEXT = f"whether the words and charts of the reports follow from {FINDINGS} is not checked; give --recompute"
_EXPORTS = f"whether the files in exports/ say what {FINDINGS} says is not checked; give --recompute"
# A difference has no plan of its own, and no exports.
_DIFFERENCE_CHECKS = [name for name in CheckName if name not in {CheckName.PLAN, CheckName.EXPORTS_AGREE}]
_PARENTS = f"whether {DIFFERENCE} follows from the bundles is not checked; give --recompute with a --parent each"
_RECOMPUTED = f"whether {FINDINGS} follows from the evidence is not checked; give --recompute"


def verify_bundle(
    folder: Path, *, trusted: Path | None, trusted_tsa: Path | None = None, now: datetime | None = None
) -> VerifyResult:
    """Return the outcome of every check of a sealed bundle.

    Args:
        folder: the bundle.
        trusted: a PEM certificate obtained out of band: the signer's own, or that of an authority above it.
            None leaves the signer unchecked, which the verdict says.
        trusted_tsa: a PEM certificate of the timestamp authority or its root, obtained out of band.
        now: the verifier's clock, with a time zone: a bundle that was signed after it fails. None compares nothing.

    Raises:
        UsageError: there is no such folder.
        EvidenceError: the folder cannot be listed.
        KeyProblem: a trusted certificate cannot be read.
    """
    pinned = pinned_signer(trusted)
    tsa = pinned_tsa(trusted_tsa)
    found = read_attested(folder)
    if isinstance(found, Check):
        return unreadable(found, list(CheckName))
    statement, certificate = found.statement, found.certificate
    return found.result(
        [
            *_seal_checks(found, pinned, tsa, now),
            check_findings(found.files),
            check_manifest(found.files, statement, certificate),
            check_plan(found.files, statement, pinned),
            not_checked(CheckName.PRINTED_TEXT, _PRINTED_TEXT),
            not_checked(CheckName.EXPORTS_AGREE, _EXPORTS),
            not_checked(CheckName.RECOMPUTED, _RECOMPUTED),
        ]
    )


def verify_difference(
    folder: Path, *, trusted: Path | None, trusted_tsa: Path | None = None, now: datetime | None = None
) -> VerifyResult:
    """Return the outcome of every check of a sealed difference; arguments and errors are those of `verify_bundle`."""
    pinned = pinned_signer(trusted)
    tsa = pinned_tsa(trusted_tsa)
    found = read_attested(folder, kind=StatementKind.DIFFERENCE)
    if isinstance(found, Check):
        return unreadable(found, _DIFFERENCE_CHECKS)
    return found.result(
        [
            *_seal_checks(found, pinned, tsa, now),
            check_difference_record(found.files),
            check_difference(found.files, found.statement, found.certificate),
            not_checked(CheckName.PRINTED_TEXT, _PRINTED_TEXT.replace(FINDINGS, DIFFERENCE)),
            not_checked(CheckName.RECOMPUTED, _PARENTS),
        ]
    )


def _seal_checks(
    found: Attested, pinned: x509.Certificate | None, tsa: x509.Certificate | None, now: datetime | None
) -> list[Check]:
    statement, certificate = found.statement, found.certificate
    pdf = _read_pdf(found, tsa)
    return [
        _check_files(found.contents, statement),
        check_trust(certificate, found.issuers, pinned, moment=statement.signed_at, revocation=pdf.revocation),
        check_identity(certificate, statement, found.read),
        check_validity(certificate, statement.signed_at, now),
        check_timestamp(pdf, statement.signed_at, seal_terms(found.files)),
        _check_pdf(pdf, statement),
    ]


def _check_files(contents: FolderContents, statement: Statement) -> Check:
    subjects, digests, refused = statement.subjects, contents.digests, contents.refused
    groups = {
        "changed": [name for name in subjects if name in digests and digests[name] != subjects[name]],
        "missing": [name for name in subjects if name not in digests and name not in refused],
        "not in the signed statement": [name for name in digests if name not in subjects],
    }
    parts = [f"{what}: {', '.join(names)}" for what, names in groups.items() if names]
    parts += [f"refused: {name} ({why})" for name, why in refused.items()]
    if parts:
        at_fault = [printable(name) for names in (*groups.values(), refused) for name in names]
        return failed(CheckName.FILES_INTACT, printable("; ".join(parts)), files=at_fault)
    if CERTIFICATE not in subjects:
        return failed(CheckName.FILES_INTACT, f"the statement does not list {CERTIFICATE}", files=[CERTIFICATE])
    return passed(
        CheckName.FILES_INTACT, f"all {len(subjects)} files have the digests that were signed, and no other file"
    )


def _check_pdf(pdf: PdfVerification, statement: Statement) -> Check:
    problems = pdf.problems_at(statement.signed_at)
    if problems:
        return failed(CheckName.PDF_SIGNATURE, "; ".join(problems), files=[REPORT_PDF])
    return passed(CheckName.PDF_SIGNATURE, f"one seal by the statement's signer covers all of {REPORT_PDF}")


def _read_pdf(found: Attested, tsa: x509.Certificate | None) -> PdfVerification:
    try:
        data = found.read(REPORT_PDF)
    except EvidenceError as error:
        return PdfVerification((one_line(error),))
    moment = found.statement.signed_at
    return verify_pdf(data, found.certificate.x509, moment=moment, trusted_tsa=tsa)
