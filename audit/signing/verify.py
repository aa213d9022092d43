"""Verify a sealed bundle: a line for each check, made or not; none passes on the word of an unsigned statement."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from audit.digests import Json
from audit.errors import AffidavitError, EvidenceError, UsageError
from audit.signing.bundle_files import (
    ATTESTATION,
    CERTIFICATE,
    FINDINGS,
    REPORT_PDF,
    FolderContents,
    read_content,
    scan_folder,
)
from audit.signing.certificates import Certificate, fingerprint, issue_problem, read_x509_file
from audit.signing.checks import Check, CheckName, CheckStatus, failed, not_checked, one_line, passed, printable
from audit.signing.contents import check_findings, check_manifest
from audit.signing.dsse import Attestation, read_attestation, verify_attestation
from audit.signing.pdf_check import PdfVerification, verify_pdf
from audit.signing.statement import SignerBlock, Statement, read_statement

# The statement's time and the timestamp's are taken within one run of the tool; a longer gap is a back-dated statement.
TIMESTAMP_TOLERANCE = timedelta(hours=24)
# What two clocks that are set may differ by.
CLOCK_TOLERANCE = timedelta(minutes=5)
_SIGNER_HINT = "Get the sealer's certificate from outside the bundle: from the sealer, or from where they publish it."
_TSA_HINT = "Get the timestamp authority's certificate from outside the bundle, from the authority itself."
_PRINTED_TEXT = f"whether the words and charts of the reports follow from {FINDINGS} is not checked; give --recompute"
_RECOMPUTED = f"whether {FINDINGS} follows from the evidence is not checked; give --recompute"


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """The outcome of every check, in order.

    Attributes:
        checks: one per `CheckName`, always all of them.
        statement: the signed statement, or None when it could not be read.
        fingerprint: of the embedded certificate, or None when it could not be read.
    """

    checks: tuple[Check, ...]
    statement: Statement | None
    fingerprint: str | None

    @property
    def ok(self) -> bool:
        """Whether no check failed. Says nothing about checks that could not be made: see `verdict`."""
        return all(check.status is not CheckStatus.FAIL for check in self.checks)

    @property
    def trusted(self) -> bool:
        """Whether the bundle is intact and its signer is the one that was pinned."""
        return self.ok and self[CheckName.SIGNER_TRUSTED].status is CheckStatus.PASS

    @property
    def verdict(self) -> str:
        """The answer in a few words: never plain "valid" for a signer that nobody pinned."""
        if not self.ok:
            return "INVALID"
        return "valid" if self.trusted else "intact, signer not trusted"

    @property
    def conclusion(self) -> str:
        """The verdict; without a pinned signer also whose seal it is, and that this proves nothing about the sealer."""
        if not self.ok or self.trusted:
            return self.verdict
        return (
            f"{self.verdict}: sealed by {self.fingerprint}. Anyone's seal gives this answer, an impostor's too: "
            "give --trust"
        )

    def __getitem__(self, name: CheckName) -> Check:
        return next(check for check in self.checks if check.name is name)

    def as_json(self) -> dict[str, Json]:
        """Return the result as a JSON object."""
        statement = self.statement
        return {
            "ok": self.ok,
            "trusted": self.trusted,
            "verdict": self.verdict,
            "checks": [check.as_json() for check in self.checks],
            "fingerprint": self.fingerprint,
            "statement": None
            if statement is None
            else {
                "digest": statement.digest,
                "signed_at": statement.signed_at.isoformat(),
                "signer": statement.signer.as_json(),
                "tool": {"name": statement.tool_name, "version": statement.tool_version},
                "sequence": statement.sequence,
                "previous": statement.previous,
            },
        }


def verify_bundle(
    folder: Path, *, trusted: Path | None, trusted_tsa: Path | None = None, now: datetime | None = None
) -> VerifyResult:
    """Return the outcome of every check of a sealed bundle.

    Args:
        folder: the bundle.
        trusted: a PEM certificate obtained out of band: the signer's own, or that of the CA which issued it directly.
            None leaves the signer unchecked, which the verdict says.
        trusted_tsa: a PEM certificate of the timestamp authority or its root, obtained out of band.
        now: the verifier's clock, with a time zone: a bundle that was signed after it fails. None compares nothing.

    Raises:
        UsageError: there is no such folder.
        EvidenceError: the folder cannot be listed.
        KeyProblem: a trusted certificate cannot be read.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises where this answers no
        raise UsageError(
            item=str(folder),
            expected="the folder of a sealed bundle",
            found="a file" if os.path.lexists(folder) else "no such folder",
            hint="Give the path of a sealed bundle's folder.",
        )
    pinned = read_x509_file(trusted, hint=_SIGNER_HINT) if trusted is not None else None
    pinned_tsa = read_x509_file(trusted_tsa, hint=_TSA_HINT) if trusted_tsa is not None else None
    contents = scan_folder(folder)
    try:
        attestation = read_attestation(read_content(folder, ATTESTATION))
        statement = read_statement(attestation.payload)
    except AffidavitError as error:
        line = one_line(error)
        detail = line if line.startswith(ATTESTATION) else f"{ATTESTATION}: {line}"
        first = failed(CheckName.ATTESTATION_READABLE, detail, files=[ATTESTATION])
        rest = [not_checked(name, f"{ATTESTATION} cannot be read") for name in list(CheckName)[1:]]
        return VerifyResult((first, *rest), None, None)
    signature = _check_signature(attestation)
    pdf = _read_pdf(folder, contents, attestation.certificate, statement, pinned_tsa)
    read = functools.partial(_read_scanned, folder, contents)
    checks = [
        _check_files(contents, statement),
        _check_trust(attestation.certificate, pinned, statement),
        _check_identity(attestation.certificate, statement, read),
        _check_validity(attestation.certificate, statement, now),
        _check_timestamp(pdf, statement),
        _check_pdf(pdf, statement),
        check_findings(read),
        check_manifest(read, statement, attestation.certificate),
        not_checked(CheckName.PRINTED_TEXT, _PRINTED_TEXT),
        not_checked(CheckName.RECOMPUTED, _RECOMPUTED),
    ]
    if signature.status is not CheckStatus.PASS:
        checks = [_without_signature(check) for check in checks]
    readable = passed(CheckName.ATTESTATION_READABLE, f"{ATTESTATION} has the documented form and no other")
    return VerifyResult((readable, signature, *checks), statement, attestation.certificate.fingerprint)


def _check_signature(attestation: Attestation) -> Check:
    name = CheckName.SIGNATURE
    try:
        verify_attestation(attestation)
    except EvidenceError as error:
        return failed(name, one_line(error), files=[ATTESTATION])
    algorithm = attestation.certificate.algorithm.value
    return passed(name, f"{algorithm} signature over the statement by the embedded certificate's key")


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


def _check_trust(certificate: Certificate, pinned: x509.Certificate | None, statement: Statement) -> Check:
    name = CheckName.SIGNER_TRUSTED
    if pinned is None:
        return not_checked(name, "intact, signer not trusted: give --trust")
    if fingerprint(pinned) == certificate.fingerprint:
        return passed(name, f"the signer's certificate is the trusted one, {certificate.fingerprint}")
    problem = issue_problem(certificate.x509, pinned, moment=statement.signed_at)
    if problem is not None:
        detail = f"signed by {certificate.fingerprint}, trusted is {fingerprint(pinned)}: {problem}"
        return failed(name, printable(detail), files=[ATTESTATION])
    return passed(name, f"the trusted CA {fingerprint(pinned)} issued the signer's certificate")


def _check_identity(certificate: Certificate, statement: Statement, read: Callable[[str], bytes]) -> Check:
    name = CheckName.SIGNER_IDENTITY
    expected, found = SignerBlock.of(certificate).as_json(), statement.signer.as_json()
    different = [key for key in expected if expected[key] != found[key]]
    if different:
        detail = f"the statement's {', '.join(different)} differ from the certificate in {ATTESTATION}"
        return failed(name, detail, files=[ATTESTATION])
    try:
        copy = read(CERTIFICATE)
    except EvidenceError as error:
        return failed(name, one_line(error), files=[CERTIFICATE])
    if copy != certificate.pem:
        return failed(name, f"{CERTIFICATE} is not the certificate in {ATTESTATION}", files=[CERTIFICATE])
    who = certificate.common_name
    if certificate.organisation is not None:
        who = f"{who}, {certificate.organisation}"
    return passed(name, printable(f"the signed statement and the certificate both name {who}"))


def _check_validity(certificate: Certificate, statement: Statement, now: datetime | None) -> Check:
    span = f"{certificate.not_before.isoformat()} to {certificate.not_after.isoformat()}"
    detail = f"signed at {statement.signed_at.isoformat()} by the signer's own clock, certificate valid {span}"
    if not certificate.covers(statement.signed_at):
        return failed(CheckName.VALIDITY, detail, files=[ATTESTATION])
    if now is not None and statement.signed_at - now > CLOCK_TOLERANCE:
        detail = f"{detail}: that is in the future, it is {now.isoformat(timespec='seconds')}"
        return failed(CheckName.VALIDITY, detail, files=[ATTESTATION])
    return passed(CheckName.VALIDITY, detail)


def _check_timestamp(pdf: PdfVerification, statement: Statement) -> Check:
    name, stamp = CheckName.TIMESTAMP, pdf.timestamp
    if stamp is None:
        return not_checked(name, f"{REPORT_PDF} has no RFC 3161 timestamp: the signing time is the signer's claim")
    when = f"{stamp.moment.isoformat()} by {stamp.authority}"
    if not stamp.sound:
        return failed(name, f"the timestamp {when} does not verify", files=[REPORT_PDF])
    if abs(stamp.moment - statement.signed_at) > TIMESTAMP_TOLERANCE:
        detail = f"timestamp {when}, but the statement says {statement.signed_at.isoformat()}"
        return failed(name, detail, files=[REPORT_PDF])
    if not stamp.trusted:
        return not_checked(name, f"timestamp {when} is intact, its authority is not trusted")
    return passed(name, f"timestamp {when}, chain to the trusted authority")


def _check_pdf(pdf: PdfVerification, statement: Statement) -> Check:
    problems = pdf.problems_at(statement.signed_at)
    if problems:
        return failed(CheckName.PDF_SIGNATURE, "; ".join(problems), files=[REPORT_PDF])
    return passed(CheckName.PDF_SIGNATURE, f"one seal by the statement's signer covers all of {REPORT_PDF}")


def _read_pdf(
    folder: Path,
    contents: FolderContents,
    certificate: Certificate,
    statement: Statement,
    pinned_tsa: x509.Certificate | None,
) -> PdfVerification:
    try:
        data = _read_scanned(folder, contents, REPORT_PDF)
    except EvidenceError as error:
        return PdfVerification((one_line(error),))
    return verify_pdf(data, certificate.x509, moment=statement.signed_at, trusted_tsa=pinned_tsa)


def _read_scanned(folder: Path, contents: FolderContents, name: str) -> bytes:
    if name not in contents.digests:
        raise EvidenceError(
            item=name,
            expected="a regular file in the bundle",
            found=contents.refused.get(name, "no such file"),
            hint="Get an intact copy of the bundle.",
        )
    return read_content(folder, name, digest=contents.digests[name])


def _without_signature(check: Check) -> Check:
    if check.status is not CheckStatus.PASS:
        return check
    return not_checked(check.name, f"nothing vouches for this, as the signature does not hold: {check.detail}")
