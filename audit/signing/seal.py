"""Seal a folder: check that it will verify, then write the attestation as the last step, in one move."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from audit.digests import Json, digest_bytes
from audit.errors import EvidenceError, OutputError
from audit.signing.bundle_files import (
    ATTESTATION,
    CERTIFICATE,
    REPORT_PDF,
    read_content,
    scan_folder,
)
from audit.signing.checks import CheckStatus, printable
from audit.signing.contents import check_findings, check_manifest
from audit.signing.difference import check_difference, check_difference_record
from audit.signing.documents import Documents
from audit.signing.dsse import sign_payload
from audit.signing.pdf_check import verify_pdf
from audit.signing.signer import Signer
from audit.signing.statement import SignerBlock, Statement, StatementKind, build_statement

_PARTIAL_SUFFIX = ".partial"
# File systems without hard links: FAT, some network and container mounts.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def seal_bundle(
    folder: Path,
    signer: Signer,
    *,
    predicate: Mapping[str, Json],
    signed_at: datetime,
    tool_version: str,
    kind: StatementKind = StatementKind.AUDIT,
    sequence: int = 1,
    previous: str | None = None,
) -> Statement:
    """Write certificate.pem and then attestation.sigstore.json over every file of the bundle.

    The contents are checked first, so a bundle that would not verify is not sealed. A run that is killed leaves a
    bundle without an attestation, which can be sealed again.

    Args:
        folder: the finished bundle or difference; its report.pdf is already sealed by the same signer.
        signer: whose seal it is.
        predicate: the caller's claims, signed with the rest.
        signed_at: with a time zone; the certificate must be valid then.
        tool_version: this package's version.
        kind: whether an audit is sealed or a difference.
        sequence: of an audit, 1 for a first statement.
        previous: of an audit, the digest of the statement before this one.

    Returns:
        The statement that was signed; its `digest` is the next one's `previous`.

    Raises:
        OutputError: the bundle is sealed already, or cannot be written.
        KeyProblem: the certificate is not valid at `signed_at`.
        EvidenceError: a file is missing, is a link or has an unsafe name, or the contents disagree.
    """
    if signed_at.tzinfo is None:
        raise _refused("signed_at", "a moment with a time zone", "one without")
    signer.require_valid_at(signed_at)
    target = folder / ATTESTATION
    if os.path.lexists(target):
        raise OutputError(
            item=str(target),
            expected="a bundle that is not sealed yet",
            found="an attestation",
            hint="A sealed bundle is never changed. Write a new bundle.",
        )
    partial, partial_certificate = (folder / f"{name}{_PARTIAL_SUFFIX}" for name in (ATTESTATION, CERTIFICATE))
    with _output_errors(folder):
        for leftover in (partial, partial_certificate):
            leftover.unlink(missing_ok=True)
        _write(partial_certificate, signer.certificate_pem)
        partial_certificate.replace(folder / CERTIFICATE)
    statement = build_statement(
        _digests(folder, signer),
        predicate,
        signer=SignerBlock.of(signer.certificate),
        signed_at=signed_at,
        tool_version=tool_version,
        kind=kind,
        sequence=sequence,
        previous=previous,
    )
    _check_contents(folder, signer, statement)
    with _output_errors(folder):
        _write(partial, sign_payload(statement.payload, signer))
        _move_new(partial, target)
        _sync_folder(folder)
    return statement


def _digests(folder: Path, signer: Signer) -> dict[str, str]:
    """Return the digests of all files, if each is one that may be sealed."""
    contents = scan_folder(folder)
    if contents.refused:
        found = "; ".join(f"{name} ({why})" for name, why in contents.refused.items())
        raise _refused(str(folder), "regular files with plain names", printable(found))
    if contents.digests.get(CERTIFICATE) != digest_bytes(signer.certificate_pem):
        raise _refused(CERTIFICATE, "the signer's certificate, just written", "other bytes")
    return contents.digests


def _check_contents(folder: Path, signer: Signer, statement: Statement) -> None:
    """Raise if the bundle, once sealed with this statement, would not verify."""
    files = Documents(functools.partial(read_content, folder))
    result = verify_pdf(files.read(REPORT_PDF), signer.certificate.x509, moment=statement.signed_at)
    problems = result.problems_at(statement.signed_at)
    if problems:
        raise _refused(REPORT_PDF, "one seal by the same signer over the entire file", "; ".join(problems))
    if statement.kind is StatementKind.DIFFERENCE:
        checks = (check_difference(files, statement, signer.certificate), check_difference_record(files))
    else:
        checks = (check_manifest(files, statement, signer.certificate), check_findings(files))
    for check in checks:
        if check.status is not CheckStatus.PASS:
            raise _refused(str(folder), f"a bundle in which {check.name}", check.detail)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _move_new(source: Path, target: Path) -> None:
    """Give the finished file its name; unlike a rename, a link never replaces a file that appeared meanwhile."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        source.replace(target)
        return
    source.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _output_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            item=str(error.filename or folder),
            expected="a bundle folder that can be written",
            found=error.strerror or type(error).__name__,
            hint="Check the folder's rights, the free space, and that nobody else is sealing it.",
        ) from error


def _refused(item: str, expected: str, found: str) -> EvidenceError:
    return EvidenceError(item=item, expected=expected, found=found, hint="Nothing was sealed. Repair the bundle first.")
