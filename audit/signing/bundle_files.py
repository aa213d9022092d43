"""The files of a bundle folder: names that are safe to open and print, and what each one's bytes hash to."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from audit.digests import digest_bytes, digest_each
from audit.errors import DigestMismatch, EvidenceError
from audit.signing.checks import printable

ATTESTATION = "attestation.sigstore.json"
CERTIFICATE = "certificate.pem"
# The record of a difference: a folder that holds it is one.
DIFFERENCE = "diff.json"
EVIDENCE = "evidence.duckdb"
EXPORT_CYCLONEDX = "exports/ml-bom.cdx.json"
EXPORT_JUNIT = "exports/junit.xml"
EXPORT_OSCAL = "exports/oscal-assessment-results.json"
EXPORT_SARIF = "exports/report.sarif"
EXPORT_SUMMARY = "exports/summary.md"
EXPORTS_FOLDER = "exports/"
# Other forms of the record, for other tools. A bundle of an earlier version has none.
EXPORTS = frozenset({EXPORT_CYCLONEDX, EXPORT_JUNIT, EXPORT_OSCAL, EXPORT_SARIF, EXPORT_SUMMARY})
FINDINGS = "findings.json"
MANIFEST = "manifest.json"
PLAN = "plan.sigstore.json"
# The policy whose answer the report prints.
POLICY = "policy.toml"
REDACTION = "redaction.json"
REPORT_HTML = "report.html"
REPORT_PDF = "report.pdf"
SALTS = "salts.json"

MAX_CONTENT_BYTES = 1 << 30
# A file may be sparse: one of exabytes costs nobody anything, and hashing it never ends.
_MAX_FILE_BYTES = 1 << 38


@dataclass(frozen=True, slots=True)
class FolderContents:
    """What lies in a bundle's folder, the attestation aside.

    Attributes:
        digests: POSIX relative name -> `sha256:<hex>`, for every regular file, sorted by name.
        refused: name -> why, for links, devices, pipes, folders without files, names that are not safe and
            files that cannot be read.
    """

    digests: dict[str, str]
    refused: dict[str, str]


def scan_folder(folder: Path, *, meanwhile: Callable[[], object] | None = None) -> FolderContents:
    """Return every file below the folder with its digest, following no link and opening no device.

    Args:
        folder: of a bundle.
        meanwhile: what the calling thread does while the files are hashed.

    Raises:
        EvidenceError: the folder is missing or cannot be listed.
    """
    regular, refused, folders = _listed(folder)
    digests: dict[str, str] = {}
    for name, found in zip(regular, digest_each(list(regular.values()), meanwhile=meanwhile), strict=True):
        if isinstance(found, OSError):
            refused[name] = found.strerror or type(found).__name__
        else:
            digests[name] = found
    # Deepest first: the innermost empty folder is named, not those around it.
    used = {parent for name in (*digests, *refused) for parent in _parents(name)}
    for name in sorted(folders, key=lambda name: name.count("/"), reverse=True):
        if name not in used:
            refused[name] = "a folder without files"
            used |= _parents(name)
    return FolderContents(dict(sorted(digests.items())), dict(sorted(refused.items())))


def _listed(folder: Path) -> tuple[dict[str, Path], dict[str, str], list[str]]:
    """Return regular files by name, why others are refused, and the names of folders."""
    regular: dict[str, Path] = {}
    refused: dict[str, str] = {}
    folders: list[str] = []
    waiting = [(folder, "")]
    while waiting:
        here, prefix = waiting.pop()
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            raise EvidenceError(
                item=str(here),
                expected="a bundle folder that can be listed",
                found=error.strerror or type(error).__name__,
                hint="Give the path of a sealed bundle's folder.",
            ) from error
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if name == ATTESTATION and not entry.is_symlink():
                continue
            problem = _entry_problem(entry, name)
            if problem is not None:
                refused[name] = problem
            elif entry.is_dir(follow_symlinks=False):
                waiting.append((here / entry.name, f"{name}/"))
                folders.append(name)
            else:
                regular[name] = here / entry.name
    return regular, refused, folders


def _parents(name: str) -> set[str]:
    parts = name.split("/")
    return {"/".join(parts[:depth]) for depth in range(1, len(parts))}


def name_problem(name: str) -> str | None:
    """Return why a name may not be a bundle file's name, or None when it may.

    A name is a relative POSIX path of plain parts: no `..`, no root, no backslash, no character that does not print.
    """
    if printable(name) != name:
        return "a name with characters that do not print"
    if "\\" in name or ":" in name:
        return "a name with a backslash or a colon"
    if any(part in {"", ".", ".."} for part in name.split("/")):
        return "a path that is not plainly inside the bundle"
    if name == ATTESTATION:
        return "the attestation cannot list itself"
    return None


def read_content(folder: Path, name: str, *, digest: str | None = None) -> bytes:
    """Return a file's bytes, opened without following a link.

    Args:
        folder: the bundle.
        name: a name that `scan_folder` returned, or a fixed name of the layout.
        digest: what the bytes must hash to, when they were hashed before.

    Raises:
        EvidenceError: missing, not a regular file, larger than `MAX_CONTENT_BYTES`, or changed since it was hashed.
    """
    try:
        # O_NONBLOCK: opening a pipe that somebody put there must not hang the verifier.
        descriptor = os.open(folder / name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_CONTENT_BYTES:
                raise _unreadable(name, f"not a regular file of at most {MAX_CONTENT_BYTES} bytes")
            data = stream.read()
    except OSError as error:
        raise _unreadable(name, error.strerror or type(error).__name__) from error
    if digest is not None and digest_bytes(data) != digest:
        raise DigestMismatch(
            item=name,
            expected=digest,
            found=digest_bytes(data),
            hint="The file changed while it was being verified. Verify a copy that nothing writes to.",
        )
    return data


def _entry_problem(entry: os.DirEntry[str], name: str) -> str | None:
    if entry.is_symlink():
        return "a symbolic link"
    if not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
        return "not a regular file"
    if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_size > _MAX_FILE_BYTES:
        return f"larger than {_MAX_FILE_BYTES} bytes"
    return name_problem(name)


def _unreadable(name: str, found: str) -> EvidenceError:
    return EvidenceError(
        item=name,
        expected="a regular file in the bundle",
        found=found,
        hint="Get an intact copy of the bundle.",
    )
