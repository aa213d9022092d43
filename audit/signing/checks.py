"""One named check a line: what was checked, whether it held, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from audit.digests import Json
from audit.errors import AffidavitError


class CheckName(StrEnum):
    """The checks of a bundle, in the order in which they are reported."""

    ATTESTATION_READABLE = "attestation readable"
    SIGNATURE = "signature"
    FILES_INTACT = "files intact"
    SIGNER_TRUSTED = "signer trusted"
    SIGNER_IDENTITY = "signer identity"
    VALIDITY = "validity"
    TIMESTAMP = "timestamp"
    PDF_SIGNATURE = "PDF signature and coverage"
    FINDINGS_AGREE = "findings agree"
    MANIFEST_AGREES = "manifest agrees"
    PLAN = "plan"
    PRINTED_TEXT = "printed text"
    EXPORTS_AGREE = "exports agree"
    RECOMPUTED = "recomputed figures"


class CopyCheckName(StrEnum):
    """The checks that only a redacted copy of a bundle needs."""

    REDACTION_RECORD = "redaction record"
    TEXTS = "texts"
    FINDINGS = "findings besides texts"
    EVIDENCE = "evidence besides texts"


class CheckStatus(StrEnum):
    """What a check found. NOT_CHECKED is never a pass: the detail says what is missing."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Check:
    """One check's outcome; `files` are the names of the bundle's files that it found at fault."""

    name: CheckName | CopyCheckName
    status: CheckStatus
    detail: str
    files: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Json]:
        """Return the check as a JSON object."""
        return {"name": self.name.value, "status": self.status.value, "detail": self.detail, "files": list(self.files)}


def passed(name: CheckName | CopyCheckName, detail: str) -> Check:
    """Return a check that held."""
    return Check(name, CheckStatus.PASS, detail)


def failed(name: CheckName | CopyCheckName, detail: str, *, files: Iterable[str] = ()) -> Check:
    """Return a check that did not hold, and the files at fault."""
    return Check(name, CheckStatus.FAIL, detail, tuple(files))


def not_checked(name: CheckName | CopyCheckName, detail: str) -> Check:
    """Return a check that could not be made, and why."""
    return Check(name, CheckStatus.NOT_CHECKED, detail)


def printable(text: str) -> str:
    """Return the text with every control, bidirectional and unpaired character escaped.

    Names come from the bundle. A newline or an escape sequence in one could print a line that reads like a pass.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def one_line(error: AffidavitError) -> str:
    """Return an error as one printable line for a check's detail."""
    return printable(f"{error.item}: expected {error.expected}; found {error.found}")
