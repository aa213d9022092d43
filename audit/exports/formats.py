"""The formats by name, and where each lies in a bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from audit.exports.cyclonedx import cyclonedx
from audit.exports.junit import junit
from audit.exports.oscal import oscal
from audit.exports.sarif import sarif
from audit.exports.source import ExportSource
from audit.exports.step_summary import step_summary
from audit.signing.bundle_files import EXPORT_CYCLONEDX, EXPORT_JUNIT, EXPORT_OSCAL, EXPORT_SARIF, EXPORT_SUMMARY


class ExportFormat(StrEnum):
    """A format, as `affidavit export --format` names it."""

    SARIF = "sarif"
    JUNIT = "junit"
    SUMMARY = "summary"
    OSCAL = "oscal"
    CYCLONEDX = "cyclonedx"


FILES: Mapping[ExportFormat, str] = {
    ExportFormat.SARIF: EXPORT_SARIF,
    ExportFormat.JUNIT: EXPORT_JUNIT,
    ExportFormat.SUMMARY: EXPORT_SUMMARY,
    ExportFormat.OSCAL: EXPORT_OSCAL,
    ExportFormat.CYCLONEDX: EXPORT_CYCLONEDX,
}
_WRITERS: Mapping[ExportFormat, Callable[[ExportSource], bytes]] = {
    ExportFormat.SARIF: sarif,
    ExportFormat.JUNIT: junit,
    ExportFormat.SUMMARY: step_summary,
    ExportFormat.OSCAL: oscal,
    ExportFormat.CYCLONEDX: cyclonedx,
}


def make_export(source: ExportSource, wanted: ExportFormat) -> bytes:
    """Return one export; equal records give equal bytes.

    Raises:
        EvidenceError: the record's moment cannot be read, or it has no SAE, or a question twice.
    """
    return _WRITERS[wanted](source)


def make_exports(source: ExportSource) -> dict[str, bytes]:
    """Return every export by its name in the bundle; equal records give equal bytes.

    Raises:
        EvidenceError: the record's moment cannot be read, or it has no SAE, or a question twice.
    """
    return {name: make_export(source, wanted) for wanted, name in FILES.items()}
