"""The checks that compare files of a bundle with each other: one record of findings, one list of digests."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO

from audit.digests import digest_json
from audit.errors import EvidenceError
from audit.signing.bundle_files import FINDINGS, MANIFEST, REPORT_HTML, REPORT_PDF
from audit.signing.checks import Check, CheckName, failed, one_line, passed, printable
from audit.signing.html_findings import findings_in_html
from audit.signing.pdf_check import silence_parsers
from audit.signing.strict_json import expect_object, expect_text, parse_json

# What pikepdf and its C++ core raise on hostile PDFs, beside pikepdf.PdfError.
_HOSTILE_PDF_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    MemoryError,
    zlib.error,
    OSError,
)

ReadFile = Callable[[str], bytes]


def check_manifest(read: ReadFile, subjects: Mapping[str, str]) -> Check:
    """Return whether every file that manifest.json lists is a subject with the same digest."""
    name = CheckName.MANIFEST_AGREES
    try:
        manifest = expect_object(parse_json(read(MANIFEST), item=MANIFEST), item=MANIFEST)
        files = expect_object(manifest.get("files"), item=f"{MANIFEST}, files")
        listed = {key: expect_text(value, item=f"{MANIFEST}, files") for key, value in files.items()}
    except EvidenceError as error:
        return failed(name, one_line(error), files=[MANIFEST])
    if not listed:
        return failed(name, f"{MANIFEST} lists no file: there is nothing to agree with", files=[MANIFEST])
    absent = sorted(set(listed) - set(subjects))
    different = sorted(key for key in listed if key in subjects and subjects[key] != listed[key])
    if absent or different:
        parts = [f"not in the signed statement: {', '.join(absent)}"] if absent else []
        parts += [f"another digest than in the signed statement: {', '.join(different)}"] if different else []
        return failed(name, printable("; ".join(parts)), files=[*absent, *different])
    return passed(name, f"{len(listed)} files are listed in {MANIFEST} with the digests that were signed")


def check_findings(read: ReadFile) -> Check:
    """Return whether findings.json, report.html and report.pdf carry the same findings, by canonical digest."""
    name = CheckName.FINDINGS_AGREE
    digests: dict[str, str] = {}
    problems: dict[str, str] = {}
    for source, extract in (
        (FINDINGS, lambda data: data),
        (REPORT_HTML, functools.partial(findings_in_html, item=REPORT_HTML)),
        (REPORT_PDF, findings_in_pdf),
    ):
        try:
            digests[source] = digest_json(parse_json(extract(read(source)), item=f"findings in {source}"))
        except EvidenceError as error:
            problems[source] = one_line(error)
    if not problems and len(set(digests.values())) == 1:
        return passed(name, f"{FINDINGS}, {REPORT_HTML} and {REPORT_PDF} carry the findings {digests[FINDINGS]}")
    if len(set(digests.values())) > 1:
        reference = digests.get(FINDINGS)
        for source, digest in digests.items():
            if digest != reference:
                problems[source] = f"{source} carries {digest}, {FINDINGS} carries {reference or 'nothing readable'}"
    return failed(name, "; ".join(problems.values()), files=problems)


def findings_in_pdf(data: bytes) -> bytes:
    """Return the bytes of the PDF's attachment findings.json.

    Raises:
        EvidenceError: not a PDF, or one without that attachment.
    """
    import pikepdf  # noqa: PLC0415 - only bundles with a PDF pay for the import

    silence_parsers()
    try:
        with pikepdf.open(BytesIO(data)) as pdf:
            if FINDINGS not in pdf.attachments:
                raise _not_found(f"attachments {sorted(pdf.attachments)}")
            content: bytes = pdf.attachments[FINDINGS].get_file().read_bytes()
            return content
    except (pikepdf.PdfError, *_HOSTILE_PDF_ERRORS) as error:
        raise _not_found(f"a PDF that cannot be read: {error}"[:300]) from error


def _not_found(found: str) -> EvidenceError:
    return EvidenceError(
        item=REPORT_PDF,
        expected=f"the findings as the attachment {FINDINGS}",
        found=found,
        hint="The report was changed, or was not made by affidavit. Get an intact copy of the bundle.",
    )
