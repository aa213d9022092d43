"""The bundles of a comparison: none is read before its seal and every file of it have been checked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from audit.errors import EvidenceError, UsageError
from audit.printing import Record, read_record
from audit.records import DiffParent
from audit.signing.bundle_files import REDACTION
from audit.signing.checks import CheckStatus
from audit.signing.plan import MEASURING_CODE
from audit.signing.verify import verify_bundle


@dataclass(frozen=True, slots=True)
class Opened:
    """A bundle that holds what was signed.

    Args:
        folder: where it lies.
        record: its findings and its run.
        parent: what the result says of it.
    """

    folder: Path
    record: Record
    parent: DiffParent


def open_parent(folder: Path, *, trusted: Path | None, now: datetime) -> Opened:
    """Verify a sealed bundle and read its record.

    Args:
        folder: the bundle.
        trusted: the certificate of its signer or of an authority above, obtained elsewhere; None leaves it unchecked.
        now: the clock.

    Raises:
        UsageError: it is no bundle, or a redacted copy.
        EvidenceError: a check fails; the message is the check's own line.
        KeyProblem: the certificate cannot be read.
    """
    if os.path.lexists(folder / REDACTION):
        raise UsageError(
            item=str(folder),
            expected="an original bundle",
            found="a redacted copy: its tokens are withheld, so that nobody can see whether both models read the same",
            hint="Compare the original bundles where they lie. The result quotes prompts of the features that changed.",
        )
    result = verify_bundle(folder, trusted=trusted, now=now)
    failed = [check for check in result.checks if check.status is CheckStatus.FAIL]
    if failed or result.statement is None:
        raise EvidenceError(
            item=str(folder),
            expected="a sealed bundle that verifies",
            found="; ".join(f"{check.name.value}: {check.detail}" for check in failed) or "no signed statement",
            hint="Run `affidavit verify` on it. Nothing was compared.",
        )
    record, statement = read_record(folder), result.statement
    parent = DiffParent(
        statement=statement.digest,
        sequence=statement.sequence,
        signed_at=statement.signed_at.isoformat(),
        signer=statement.signer.common_name,
        fingerprint=statement.signer.fingerprint,
        trusted=result.trusted,
        model=record.findings.model.name,
        model_digest=record.findings.model.digest,
        dtype=record.findings.model.dtype,
        tool_version=record.run.tool_version,
        measuring_code=record.run.environment.get(MEASURING_CODE),
    )
    return Opened(folder, record, parent)
