"""A signed statement in a file of its own: a plan made before an audit, an approval given after it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from audit.errors import AffidavitError, EvidenceError, OutputError
from audit.signing.attested import CLOCK_TOLERANCE
from audit.signing.certificates import Certificate
from audit.signing.dsse import read_attestation, sign_payload, verify_attestation
from audit.signing.keys import Signer
from audit.signing.statement import SignerBlock, Statement, StatementKind, read_statement


@dataclass(frozen=True, slots=True)
class Detached:
    """A statement whose signature holds, by a certificate that was valid then and that the statement itself names."""

    statement: Statement
    certificate: Certificate


def write_detached(path: Path, statement: Statement, signer: Signer) -> None:
    """Write the signed statement as a new file, whole or not at all.

    Raises:
        KeyProblem: the certificate is not valid at the statement's moment.
        OutputError: the file exists, or cannot be written.
    """
    signer.require_valid_at(statement.signed_at)
    data = sign_payload(statement.payload, signer)
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        try:
            # Unlike a rename, a link never replaces a file that is there.
            os.link(partial, path)
        finally:
            partial.unlink()
    except FileExistsError as error:
        raise OutputError(
            item=str(path), expected="a new file", found="one that exists", hint="Choose another name."
        ) from error
    except OSError as error:
        raise OutputError(
            item=str(path),
            expected="a file that can be written",
            found=error.strerror or type(error).__name__,
            hint="Check the folder's rights and the free space.",
        ) from error


def read_detached(data: bytes, *, kind: StatementKind, item: str, now: datetime | None = None) -> Detached:
    """Return the statement in a file's bytes, if its signer signed it while the certificate was valid.

    Who the signer is, is another question: the certificate is the one in the file.

    Args:
        data: the bytes of the file.
        kind: what the statement must be.
        item: the file's name, for the error.
        now: the reader's clock, with a time zone: a statement signed after it is refused. None compares nothing.

    Raises:
        EvidenceError: another form or kind, a signature that does not hold, a signer who is not the certificate's
            owner, a moment outside the certificate's validity or in the future.
    """
    try:
        attestation = read_attestation(data)
        verify_attestation(attestation)
        statement = read_statement(attestation.payload, kind=kind)
    except AffidavitError as error:
        raise EvidenceError(item=item, expected=error.expected, found=error.found, hint=_HINT) from error
    certificate = attestation.certificate
    if statement.signer != SignerBlock.of(certificate):
        raise _wrong(item, f"a statement by {certificate.fingerprint}, the certificate in it", "another signer's name")
    if not certificate.covers(statement.signed_at):
        span = f"{certificate.not_before.isoformat()} to {certificate.not_after.isoformat()}"
        raise _wrong(item, f"a moment in the certificate's validity, {span}", statement.signed_at.isoformat())
    if now is not None and statement.signed_at - now > CLOCK_TOLERANCE:
        raise _wrong(item, f"a moment before {now.isoformat(timespec='seconds')}", statement.signed_at.isoformat())
    return Detached(statement, certificate)


_HINT = "The file was damaged, or is another kind of statement. Get an intact copy from its signer."


def _wrong(item: str, expected: str, found: str) -> EvidenceError:
    return EvidenceError(item=item, expected=expected, found=found, hint=_HINT)
