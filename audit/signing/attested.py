"""What every sealed folder is asked, a bundle and a redacted copy of one alike: who signed, when, trusted by whom."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from cryptography import x509

from audit.config import SealLevel
from audit.digests import Json
from audit.errors import AffidavitError, EvidenceError, UsageError
from audit.signing.bundle_files import (
    ATTESTATION,
    CERTIFICATE,
    MANIFEST,
    REPORT_PDF,
    FolderContents,
    read_content,
    scan_folder,
)
from audit.signing.certificates import Certificate, fingerprint, read_x509_file
from audit.signing.chains import RevocationInfo, issuers_in_pem, trust_problem
from audit.signing.checks import (
    Check,
    CheckName,
    CheckStatus,
    CopyCheckName,
    failed,
    not_checked,
    one_line,
    passed,
    printable,
)
from audit.signing.claims import SealTerms
from audit.signing.documents import Documents
from audit.signing.dsse import Attestation, read_attestation, verify_attestation
from audit.signing.pdf_check import PdfVerification, import_pdf_checker
from audit.signing.statement import SignerBlock, Statement, StatementKind, read_statement

# What two clocks that are set may differ by.
CLOCK_TOLERANCE = timedelta(minutes=5)
# The statement's time and the timestamp's are taken within one run of the tool; a longer gap is a back-dated statement.
TIMESTAMP_TOLERANCE = timedelta(hours=24)
_TSA_HINT = "Get the timestamp authority's certificate from outside the bundle, from the authority itself."
_SIGNER_HINT = "Get the sealer's certificate from outside the bundle: from the sealer, or from where they publish it."


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """The outcome of every check, in order.

    Attributes:
        checks: of a bundle one per `CheckName`, always all of them; of a redacted copy also one per `CopyCheckName`.
        statement: the signed statement, or None when it could not be read.
        fingerprint: of the embedded certificate, or None when it could not be read.
        redacted: whether it is a redacted copy that was checked.
        alone: whether it is a report.pdf without its bundle.
        files: what was checked, for those who go on with it; None where there is no folder that could be read.
    """

    checks: tuple[Check, ...]
    statement: Statement | None
    fingerprint: str | None
    redacted: bool = False
    alone: bool = False
    files: Documents | None = field(default=None, repr=False, compare=False)

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
        verdict = "valid" if self.trusted else "intact, signer not trusted"
        if self.alone:
            return f"report alone, {verdict}"
        return f"redacted copy, {verdict}" if self.redacted else verdict

    @property
    def conclusion(self) -> str:
        """The verdict; without a pinned signer also whose seal it is, and that this proves nothing about the sealer.

        Of a redacted copy also that nobody vouches for what its reports print, unless they were made again.
        """
        unread = self.redacted and self[CheckName.PRINTED_TEXT].status is CheckStatus.NOT_CHECKED
        verdict = f"{self.verdict}, its reports not checked" if self.ok and unread else self.verdict
        if not self.ok or self.trusted:
            return verdict
        return (
            f"{verdict}: sealed by {self.fingerprint}. Anyone's seal gives this answer, an impostor's too: give --trust"
        )

    def with_made(self, *made: Check) -> VerifyResult:
        """Return the result with checks in the place of those of the same names."""
        by_name = {check.name: check for check in made}
        return replace(self, checks=tuple(by_name.get(check.name, check) for check in self.checks))

    def __getitem__(self, name: CheckName | CopyCheckName) -> Check:
        return next(check for check in self.checks if check.name is name)

    def as_json(self) -> dict[str, Json]:
        """Return the result as a JSON object."""
        statement = self.statement
        return {
            "ok": self.ok,
            "trusted": self.trusted,
            "verdict": self.verdict,
            "redacted": self.redacted,
            "alone": self.alone,
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


@dataclass(frozen=True, slots=True)
class Attested:
    """A folder with an attestation that could be read; nothing of it is checked yet."""

    folder: Path
    contents: FolderContents
    attestation: Attestation
    statement: Statement
    files: Documents

    @property
    def certificate(self) -> Certificate:
        """The certificate inside the attestation."""
        return self.attestation.certificate

    @property
    def issuers(self) -> tuple[x509.Certificate, ...]:
        """The certificates above the signer's in `certificate.pem`; none where that has another form."""
        try:
            return issuers_in_pem(self.read(CERTIFICATE), self.certificate, item=CERTIFICATE)
        except EvidenceError:
            return ()

    def read(self, name: str) -> bytes:
        """Return the bytes of a file as they were hashed.

        Raises:
            EvidenceError: missing, refused by the scan, or changed since.
        """
        return self.files.read(name)

    def result(self, checks: Sequence[Check], *, redacted: bool = False) -> VerifyResult:
        """Return the result with the first two checks in front; nothing passes where the signature does not hold."""
        readable = passed(CheckName.ATTESTATION_READABLE, f"{ATTESTATION} has the documented form and no other")
        signature = check_signature(self.attestation)
        if signature.status is not CheckStatus.PASS:
            checks = [_without_signature(check) for check in checks]
        made = (readable, signature, *checks)
        return VerifyResult(made, self.statement, self.certificate.fingerprint, redacted, files=self.files)


def read_attested(folder: Path, *, kind: StatementKind = StatementKind.AUDIT) -> Attested | Check:
    """Return the folder's files and its statement, or the failed check if the attestation cannot be read.

    Args:
        folder: a sealed folder.
        kind: what its statement must be.

    Raises:
        UsageError: there is no such folder.
        EvidenceError: the folder cannot be listed.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises where this answers no
        raise UsageError(
            item=str(folder),
            expected="the folder of a sealed bundle",
            found="a file" if os.path.lexists(folder) else "no such folder",
            hint="Give the path of a sealed bundle's folder.",
        )
    # What takes long and needs no file's digest is done while the files are hashed.
    contents = scan_folder(folder, meanwhile=import_pdf_checker)
    try:
        attestation = read_attestation(read_content(folder, ATTESTATION))
        statement = read_statement(attestation.payload, kind=kind)
        return Attested(folder, contents, attestation, statement, Documents(partial(_read_hashed, folder, contents)))
    except AffidavitError as error:
        line = one_line(error)
        detail = line if line.startswith(ATTESTATION) else f"{ATTESTATION}: {line}"
        return failed(CheckName.ATTESTATION_READABLE, detail, files=[ATTESTATION])


def _read_hashed(folder: Path, contents: FolderContents, name: str) -> bytes:
    if name not in contents.digests:
        raise EvidenceError(
            item=name,
            expected="a regular file in the bundle",
            found=contents.refused.get(name, "no such file"),
            hint="Get an intact copy of the bundle.",
        )
    return read_content(folder, name, digest=contents.digests[name])


def unreadable(check: Check, names: Sequence[CheckName | CopyCheckName], *, redacted: bool = False) -> VerifyResult:
    """Return the result for an attestation that cannot be read: no other check is made."""
    rest = (not_checked(name, f"{ATTESTATION} cannot be read") for name in names if name is not check.name)
    return VerifyResult((check, *rest), None, None, redacted)


def pinned_signer(trusted: Path | None) -> x509.Certificate | None:
    """Return the certificate that was obtained out of band, or None where none was given.

    Raises:
        KeyProblem: it cannot be read.
    """
    return read_x509_file(trusted, hint=_SIGNER_HINT) if trusted is not None else None


def pinned_tsa(trusted: Path | None) -> x509.Certificate | None:
    """Return the timestamp authority's certificate that was obtained out of band, or None where none was given.

    Raises:
        KeyProblem: it cannot be read.
    """
    return read_x509_file(trusted, hint=_TSA_HINT) if trusted is not None else None


def check_signature(attestation: Attestation) -> Check:
    """Return whether the envelope's signature holds, by the key of the certificate inside."""
    name = CheckName.SIGNATURE
    try:
        verify_attestation(attestation)
    except EvidenceError as error:
        return failed(name, one_line(error), files=[ATTESTATION])
    algorithm = attestation.certificate.algorithm.value
    return passed(name, f"{algorithm} signature over the statement by the embedded certificate's key")


def check_trust(
    certificate: Certificate,
    issuers: Sequence[x509.Certificate],
    pinned: x509.Certificate | None,
    *,
    moment: datetime,
    revocation: RevocationInfo | None = None,
    file: str = ATTESTATION,
) -> Check:
    """Return whether the signer is the pinned one, or leads to the pinned authority; without a pin not checked.

    Args:
        certificate: the signer's.
        issuers: the certificates above it that the sealer handed over; none is trusted for that.
        pinned: the certificate that was obtained out of band.
        moment: when the seal was made.
        revocation: the authorities' answers that lie in the sealed PDF.
        file: what is at fault where the check fails.
    """
    name = CheckName.SIGNER_TRUSTED
    if pinned is None:
        return not_checked(name, "intact, signer not trusted: give --trust")
    if fingerprint(pinned) == certificate.fingerprint:
        return passed(name, f"the signer's certificate is the trusted one, {certificate.fingerprint}")
    problem = trust_problem(certificate.x509, issuers, pinned, moment=moment, revocation=revocation)
    if problem is not None:
        detail = f"signed by {certificate.fingerprint}, trusted is {fingerprint(pinned)}: {problem}"
        return failed(name, printable(detail), files=[file])
    way = "issued the signer's certificate" if not issuers else "stands above the signer's certificate"
    known = "not revoked by the answers in the PDF" if revocation else "revocation not checked"
    return passed(name, f"the trusted CA {fingerprint(pinned)} {way}; {known}")


def check_identity(certificate: Certificate, statement: Statement, read: Callable[[str], bytes]) -> Check:
    """Return whether the statement, the attestation's certificate and certificate.pem name one signer."""
    name = CheckName.SIGNER_IDENTITY
    expected, found = SignerBlock.of(certificate).as_json(), statement.signer.as_json()
    different = [key for key in expected if expected[key] != found[key]]
    if different:
        detail = f"the statement's {', '.join(different)} differ from the certificate in {ATTESTATION}"
        return failed(name, detail, files=[ATTESTATION])
    try:
        issuers_in_pem(read(CERTIFICATE), certificate, item=CERTIFICATE)
    except EvidenceError as error:
        return failed(name, one_line(error), files=[CERTIFICATE])
    who = certificate.common_name
    if certificate.organisation is not None:
        who = f"{who}, {certificate.organisation}"
    return passed(name, printable(f"the signed statement and the certificate both name {who}"))


def check_validity(
    certificate: Certificate, signed_at: datetime, now: datetime | None, *, file: str = ATTESTATION
) -> Check:
    """Return whether the certificate was valid when it signed, and that moment is not in the future."""
    span = f"{certificate.not_before.isoformat()} to {certificate.not_after.isoformat()}"
    detail = f"signed at {signed_at.isoformat()} by the signer's own clock, certificate valid {span}"
    if not certificate.covers(signed_at):
        return failed(CheckName.VALIDITY, detail, files=[file])
    if now is not None and signed_at - now > CLOCK_TOLERANCE:
        detail = f"{detail}: that is in the future, it is {now.isoformat(timespec='seconds')}"
        return failed(CheckName.VALIDITY, detail, files=[file])
    return passed(CheckName.VALIDITY, detail)


def check_timestamp(pdf: PdfVerification, signed_at: datetime, terms: SealTerms) -> Check:
    """Return whether a trusted authority's timestamp in the PDF says that the seal existed when it claims.

    CMS does not sign the timestamp: where the manifest says that there was one, a PDF without it fails.
    """
    name, stamp = CheckName.TIMESTAMP, pdf.timestamp
    lacking = "timestamp" if stamp is None else "answers of authorities"
    if (terms.stamped and stamp is None) or (terms.made == SealLevel.B_LT and not pdf.revocation):
        return failed(
            name, printable(f"{MANIFEST} says level {terms.made}, the PDF has no {lacking}"), files=[REPORT_PDF]
        )
    if stamp is None:
        asked = "sealed without the timestamp that the configuration asked for"
        none = f"{REPORT_PDF} has no RFC 3161 timestamp"
        return not_checked(name, f"{asked if terms.stamp_missing else none}: the signing time is the signer's claim")
    when = f"{stamp.moment.isoformat()} by {stamp.authority}"
    if not stamp.sound:
        return failed(name, f"the timestamp {when} does not verify", files=[REPORT_PDF])
    if abs(stamp.moment - signed_at) > TIMESTAMP_TOLERANCE:
        detail = f"timestamp {when}, but the seal says {signed_at.isoformat()}"
        return failed(name, detail, files=[REPORT_PDF])
    if not stamp.trusted:
        return not_checked(name, f"timestamp {when} is intact, its authority is not trusted")
    return passed(name, f"timestamp {when}, chain to the trusted authority")


def _without_signature(check: Check) -> Check:
    if check.status is not CheckStatus.PASS:
        return check
    return not_checked(check.name, f"nothing vouches for this, as the signature does not hold: {check.detail}")
