"""Approvals: statements by persons about a sealed audit, each in a file of its own beside the bundle.

A bundle's seal is an organisation's, made by a machine. A person's approval has the person's printed name, the date and
time and the meaning of the signature (21 CFR 11.50), and is linked to the record by the digest of its signed statement
(21 CFR 11.70).
"""

from __future__ import annotations

import errno
import json
import os
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
_MOST_BYTES = 1 << 20


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
        if not _prints(text):
            raise UsageError(
                item=f"--{what}",
                expected=f"1 to {MOST_CHARACTERS} printable characters on one line",
                found=f"{len(text)} characters: {text[:MOST_CHARACTERS]!a}",
                hint="Give the name as the person writes it, and the meaning in a few words, such as: approval.",
            )
    if signer.certificate.fingerprint == audit.signer.fingerprint:
        raise UsageError(
            item="--key",
            expected="the person's own key",
            found=f"the key that sealed the bundle, {signer.certificate.fingerprint}",
            hint="A seal is a machine's: make a key for the person with `affidavit keys new`.",
        )
    statement = build_statement(
        {_SUBJECT: audit.digest},
        {"name": name, "meaning": meaning, "audit": _audit_of(audit)},
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
        EvidenceError: the folder is a link, or cannot be listed.
    """
    pinned = [read_x509_file(path) for path in trusted]
    found: list[Approval] = []
    known: dict[str, str] = {}
    for path in _files(folder):
        file = printable(path.name)
        try:
            one, digest = _read(path, audit, pinned, now=now)
        except EvidenceError as error:
            found.append(Approval(file, CheckStatus.FAIL, one_line(error)))
            continue
        if digest in known:
            one = replace(one, status=CheckStatus.FAIL, detail=f"the same approval as {known[digest]}")
        known.setdefault(digest, file)
        found.append(one)
    return tuple(sorted(found, key=lambda one: (one.signed_at is None, one.signed_at, one.file)))


def _files(folder: Path) -> list[Path]:
    """Return the files that say that they are approvals; others, such as notes, are none and are passed over.

    Raises:
        EvidenceError: the folder is a link, or cannot be listed.
    """
    try:
        if not os.path.lexists(folder):
            return []
        if folder.is_symlink():
            raise _odd(str(folder), "a folder of approvals", "a symbolic link")
        return sorted(path for path in folder.iterdir() if path.name.endswith(_SUFFIX))
    except OSError as error:
        if error.errno in {errno.ENAMETOOLONG, errno.ENOTDIR}:
            return []
        raise _odd(str(folder), "a folder that can be listed", error.strerror or type(error).__name__) from error


def _read(
    path: Path, audit: Statement, pinned: Sequence[x509.Certificate], *, now: datetime | None
) -> tuple[Approval, str]:
    """Return the approval in a file, and the digest of its statement."""
    file = printable(path.name)
    try:
        size = path.lstat().st_size
    except OSError as error:
        raise _odd(file, "a file that can be read", error.strerror or type(error).__name__) from error
    if size > _MOST_BYTES:
        raise _odd(file, f"at most {_MOST_BYTES} bytes", f"{size} bytes")
    detached = read_detached(read_content(path.parent, path.name), kind=StatementKind.APPROVAL, item=file, now=now)
    return _approval(file, detached, audit, pinned), detached.statement.digest


def _approval(file: str, detached: Detached, audit: Statement, pinned: Sequence[x509.Certificate]) -> Approval:
    statement, own = detached.statement, detached.certificate.fingerprint
    predicate = expect_object(
        statement.predicate, item=file, keys=frozenset({"name", "meaning", "audit", "signer", "signed_at", "tool"})
    )
    name, meaning = (expect_text(predicate[key], item=f"{file}, {key}") for key in ("name", "meaning"))
    for what, text in (("name", name), ("meaning", meaning)):
        if not _prints(text):
            raise _odd(f"{file}, {what}", f"1 to {MOST_CHARACTERS} printable characters", f"{text[:MOST_CHARACTERS]!a}")
    # In quotes: a name that imitates the words of this line stays a name.
    line = f"{_quoted(name)}: {_quoted(meaning)}, {statement.signed_at.isoformat()}"
    said = Approval(file, CheckStatus.FAIL, line, name, meaning, statement.signed_at, own)
    problem = _problem(detached, predicate["audit"], audit)
    if problem is not None:
        return replace(said, detail=f"{line}: {problem}")
    who = printable(f"certificate of {detached.certificate.common_name}, {own}")
    if any(_vouches(pin, detached) for pin in pinned):
        return replace(said, status=CheckStatus.PASS, detail=f"{line} ({who}, trusted)")
    if pinned:
        return replace(said, detail=f"{line} ({who}, not trusted)")
    return replace(said, status=CheckStatus.NOT_CHECKED, detail=f"{line} ({who}, not trusted: give --trust-approver)")


def _problem(detached: Detached, said: Json, audit: Statement) -> str | None:
    statement = detached.statement
    if statement.subjects != {_SUBJECT: audit.digest} or said != _audit_of(audit):
        return "of another audit than this one"
    if detached.certificate.fingerprint == audit.signer.fingerprint:
        return "by the key that sealed the bundle, which is no person's"
    if statement.signed_at < audit.signed_at:
        return f"signed before the audit was sealed at {audit.signed_at.isoformat()}"
    return None


def _prints(text: str) -> bool:
    return bool(text.strip()) and len(text) <= MOST_CHARACTERS and printable(text) == text


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _odd(item: str, expected: str, found: str) -> EvidenceError:
    return EvidenceError(item=item, expected=expected, found=found, hint="Look at the folder of approvals.")


def _vouches(pinned: x509.Certificate, detached: Detached) -> bool:
    found = check_trust(detached.certificate, (), pinned, moment=detached.statement.signed_at)
    return found.status is CheckStatus.PASS


def _audit_of(audit: Statement) -> dict[str, Json]:
    return {"sequence": audit.sequence, "findings": audit.predicate.get("findings")}
