"""The reports and exports of a bundle, from its record alone: when it is made, printed again, or checked."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from audit.digests import digest_bytes
from audit.errors import EvidenceError
from audit.exports.formats import ExportFormat, make_export
from audit.exports.source import ExportSource
from audit.memory import rarely_collected
from audit.records import Findings, RunInfo, Withheld, parse_record
from audit.signing.bundle_files import EVIDENCE, FINDINGS, MANIFEST, read_content
from audit.signing.strict_json import expect_object, expect_text, parse_json
from reports.context import build_view
from reports.html import render_html
from reports.pdf import render_pdf
from reports.view import ReportView


@dataclass(frozen=True, slots=True)
class Record:
    """What the reports of an audit are made from.

    Args:
        findings, run: the result, and the circumstances of the run.
        findings_json, manifest_json: the bytes of the two files, which the reports carry.
        withheld: of a redacted copy, what is withheld in it.
    """

    findings: Findings
    run: RunInfo
    findings_json: bytes
    manifest_json: bytes
    withheld: Withheld | None = None

    @property
    def view(self) -> ReportView:
        """Return what both reports print."""
        return build_view(self.findings, self.run, withheld=self.withheld)

    @property
    def created_at(self) -> datetime:
        """Return the moment of the run.

        Raises:
            EvidenceError: the manifest's moment is none, or has no time zone.
        """
        try:
            moment = datetime.fromisoformat(self.run.created_at)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise _unlike("run.created_at", "an ISO 8601 moment with a time zone", self.run.created_at)
        return moment


def read_record(folder: Path) -> Record:
    """Read the record of a bundle. Whether it is the one that was sealed, `affidavit verify` says.

    Raises:
        EvidenceError: a file is missing or damaged, made by another version, or the manifest is not of these findings.
    """
    record = _parsed(read_content(folder, FINDINGS), read_content(folder, MANIFEST))
    digest = digest_bytes(record.findings_json)
    if record.run.findings_digest != digest:
        raise _unlike("run.findings_digest", digest, record.run.findings_digest)
    return record


def copied_record(findings_json: bytes, manifest_json: bytes, *, withheld: Withheld) -> Record:
    """Return the record of a redacted copy: other findings, the manifest of the original.

    Raises:
        EvidenceError: a file is damaged or made by another version.
    """
    record = _parsed(findings_json, manifest_json)
    return replace(record, run=replace(record.run, findings_digest=digest_bytes(findings_json)), withheld=withheld)


def _parsed(findings_json: bytes, manifest_json: bytes) -> Record:
    with rarely_collected():
        findings = parse_record(Findings, parse_json(findings_json, item=FINDINGS), where=FINDINGS)
    manifest = expect_object(parse_json(manifest_json, item=MANIFEST), item=MANIFEST)
    run = parse_record(RunInfo, manifest.get("run"), where=f"{MANIFEST}, run")
    return Record(findings, run, findings_json, manifest_json)


def html_report(record: Record) -> bytes:
    """Return report.html; equal records give equal bytes."""
    return render_html(record.view, findings_json=record.findings_json)


def pdf_report(record: Record) -> bytes:
    """Return report.pdf before its seal; equal records give equal bytes with equal libraries.

    Raises:
        EnvironmentProblem: a library is missing.
    """
    return render_pdf(
        record.view,
        attachments={FINDINGS: record.findings_json, MANIFEST: record.manifest_json},
        created_at=record.created_at,
    )


def export_of(record: Record, wanted: ExportFormat) -> bytes:
    """Return one export; equal records give equal bytes.

    Raises:
        EvidenceError: the manifest lists no digest of the evidence, or its moment cannot be read.
    """
    manifest = expect_object(parse_json(record.manifest_json, item=MANIFEST), item=MANIFEST)
    files = expect_object(manifest.get("files"), item=f"{MANIFEST}, files")
    evidence = expect_text(files.get(EVIDENCE), item=f"{MANIFEST}, files, {EVIDENCE}")
    return make_export(ExportSource(record.findings, record.run, evidence), wanted)


def _unlike(key: str, expected: str, found: str) -> EvidenceError:
    return EvidenceError(
        item=f"{MANIFEST}, {key}",
        expected=expected,
        found=json.dumps(found)[:80],
        hint="Run `affidavit verify` on the bundle.",
    )
