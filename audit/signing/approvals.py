"""Approvals: statements by persons about a sealed audit, each in a file of its own beside the bundle.

A bundle's seal is an organisation's, made by a machine. A person's approval has the person's printed name, the date and
time and the meaning of the signature (21 CFR 11.50), and is linked to the record by the digest of its signed statement
(21 CFR 11.70).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509

from audit.digests import Json
from audit.errors import EvidenceError, UsageError
from audit.signing.attested import check_trust
from audit.signing.bundle_files import read_content
from audit.signing.certificates import read_x509_file
from audit.signing.checks import CheckStatus, one_line, printable
from audit.signing.detached import Detached, read_detached, write_detached
from audit.signing.keys import Signer
from audit.signing.statement import SignerBlock, Statement, StatementKind, build_statement
from audit.signing.strict_json import expect_object, expect_text

MOST_CHARACTERS = 120
_SUFFIX = ".sigstore.json"
_SUBJECT = "statement"
_NAME_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Approval:
    """One file of approvals: what it says, and whether it holds.

    Attributes:
        file: its name.
        status: FAIL where its signature does not hold or it is about another audit; NOT_CHECKED where nobody pinned the
            certificate of the person.
        detail: one printable line.
        name, meaning, signed_at, fingerprint: what it says; None where it cannot be read.
    """

    file: str
    status: CheckStatus
    detail: str
    name: str | None = None
    meaning: str | None = None
    signed_at: datetime | None = None
    fingerprint: str | None = None

    def as_json(self) -> dict[str, Json]:
        """Return the approval as a JSON object."""
        return {
            "file": self.file,
            "status": self.status.value,
            "detail": self.detail,
            "name": self.name,
            "meaning": self.meaning,
            "signed_at": None if self.signed_at is None else self.signed_at.isoformat(),
            "fingerprint": self.fingerprint,
        }


def approvals_folder(bundle: Path) -> Path:
    """Return where the approvals of a bundle are looked for: beside it, for a sealed bundle is never changed."""
    place = bundle.resolve()
    return place.with_name(f"{place.name}.approvals")


def write_approval(
    folder: Path,
    audit: Statement,
    signer: Signer,
    *,
    name: str,
    meaning: str,
    signed_at: datetime,
    tool_version: str,
) -> Path:
    """Write a person's approval of an audit, and return its file.

    Args:
        folder: where approvals of the bundle lie; made if missing.
        audit: the bundle's signed statement, which its checks found to hold.
        signer: the person's own key.
        name: the person's printed name.
        meaning: what the signature means, such as review, approval, responsibility or authorship.
        signed_at: with a time zone.
        tool_version: this package's version.

    Raises:
        UsageError: the name or the meaning does not print on one line, or the key is the one that sealed the bundle.
        KeyProblem: the certificate is not valid at that moment.
        OutputError: the file cannot be written.
    """
    for what, text in (("name", name), ("meaning", meaning)):
        if not text.strip() or len(text) > MOST_CHARACTERS or printable(text) != text:
            raise UsageError(
                item=f"--{what}",
                expected=f"1 to {MOST_CHARACTERS} printable characters on one line",
                found=f"{len(text)} characters: {text[:MOST_CHARACTERS]!a}",
                hint="Give the name as the person writes it, and the meaning in a few words, such as: approval.",
            )
    if SignerBlock.of(signer.certificate) == audit.signer:
        raise UsageError(
            item="--key",
            expected="the person's own key",
            found=f"the key that sealed the bundle, {signer.certificate.fingerprint}",
            hint="A seal is a machine's: make a key for the person with `affidavit keys new`.",
        )
    statement = build_statement(
        {_SUBJECT: audit.digest},
        {"name": name, "meaning": meaning, "audit": {"sequence": audit.sequence, "findings": _findings_of(audit)}},
        signer=SignerBlock.of(signer.certificate),
        signed_at=signed_at,
        tool_version=tool_version,
        kind=StatementKind.APPROVAL,
    )
    path = folder / f"{statement.digest.removeprefix('sha256:')[:_NAME_DIGITS]}{_SUFFIX}"
    write_detached(path, statement, signer)
    return path


def read_approvals(
    folder: Path, audit: Statement, *, trusted: Sequence[Path] = (), now: datetime | None = None
) -> tuple[Approval, ...]:
    """Return every approval in a folder, by the order of their moments; those that cannot be read come last.

    Args:
        folder: where approvals of the bundle lie; may be missing.
        audit: the bundle's signed statement.
        trusted: PEM certificates of persons (or their authorities), obtained out of band.
        now: the verifier's clock; None compares nothing.

    Raises:
        KeyProblem: a trusted certificate cannot be read.
    """
    pinned = [read_x509_file(path) for path in trusted]
    if not folder.is_dir():
        return ()
    found = []
    for path in sorted(folder.iterdir()):
        file = printable(path.name)
        try:
            detached = read_detached(read_content(folder, path.name), kind=StatementKind.APPROVAL, item=file, now=now)
            found.append(_approval(file, detached, audit, pinned))
        except EvidenceError as error:
            found.append(Approval(file, CheckStatus.FAIL, one_line(error)))
    return tuple(sorted(found, key=lambda one: (one.signed_at is None, one.signed_at, one.file)))


def _approval(file: str, detached: Detached, audit: Statement, pinned: Sequence[x509.Certificate]) -> Approval:
    statement = detached.statement
    predicate = expect_object(
        statement.predicate, item=file, keys=frozenset({"name", "meaning", "audit", "signer", "signed_at", "tool"})
    )
    name, meaning = (printable(expect_text(predicate[key], item=f"{file}, {key}")) for key in ("name", "meaning"))
    line = f"{name}: {meaning}, {statement.signed_at.isoformat()}"
    own = detached.certificate.fingerprint
    said = Approval(file, CheckStatus.FAIL, line, name, meaning, statement.signed_at, own)
    if statement.subjects != {_SUBJECT: audit.digest}:
        return replace(said, detail=f"{line}: of another audit than this one")
    who = printable(f"certificate of {detached.certificate.common_name}, {own}")
    if any(_vouches(pin, detached) for pin in pinned):
        return replace(said, status=CheckStatus.PASS, detail=f"{line} ({who}, trusted)")
    if pinned:
        return replace(said, detail=f"{line} ({who}, not trusted)")
    return replace(said, status=CheckStatus.NOT_CHECKED, detail=f"{line} ({who}, not trusted: give --trust-approver)")


def _vouches(pinned: x509.Certificate, detached: Detached) -> bool:
    found = check_trust(detached.certificate, (), pinned, moment=detached.statement.signed_at)
    return found.status is CheckStatus.PASS


def _findings_of(audit: Statement) -> Json:
    return audit.predicate.get("findings")
