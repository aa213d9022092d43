"""The two reports of a difference, from its folder's record alone: when it is made, or checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from audit.digests import digest_bytes
from audit.errors import EvidenceError
from audit.records import DifferenceResult, DiffRun
from audit.signing.bundle_files import DIFFERENCE, MANIFEST, read_content
from audit.signing.difference import difference_manifest, read_difference, read_difference_run
from reports.difference import render_difference_html, render_difference_pdf


@dataclass(frozen=True, slots=True)
class DifferenceRecord:
    """What the reports of a difference are made from: its result, its circumstances, and the bytes of both files."""

    result: DifferenceResult
    run: DiffRun
    difference_json: bytes
    manifest_json: bytes

    @classmethod
    def of(cls, result: DifferenceResult, run: DiffRun, difference_json: bytes) -> DifferenceRecord:
        """Return the record of a comparison that was just made."""
        return cls(result, run, difference_json, difference_manifest(run))

    @classmethod
    def read(cls, folder: Path) -> DifferenceRecord:
        """Read the record of a difference. Whether it is the one that was sealed, `affidavit verify` says.

        Raises:
            EvidenceError: a file is missing, damaged or made by another version.
        """
        difference_json, manifest_json = read_content(folder, DIFFERENCE), read_content(folder, MANIFEST)
        run = read_difference_run(manifest_json)
        if run.difference_digest != digest_bytes(difference_json):
            raise EvidenceError(
                item=f"{MANIFEST}, run.difference_digest",
                expected=digest_bytes(difference_json),
                found=run.difference_digest[:80],
                hint="Run `affidavit verify` on the difference.",
            )
        return cls(read_difference(difference_json), run, difference_json, manifest_json)

    @property
    def html(self) -> bytes:
        """Return report.html; equal records give equal bytes."""
        return render_difference_html(self.result, self.run, difference_json=self.difference_json)

    @property
    def pdf(self) -> bytes:
        """Return report.pdf before its seal; equal records give equal bytes with equal libraries.

        Raises:
            EnvironmentProblem: a library is missing.
        """
        return render_difference_pdf(
            self.result,
            self.run,
            attachments={DIFFERENCE: self.difference_json, MANIFEST: self.manifest_json},
            created_at=datetime.fromisoformat(self.run.created_at),
        )
