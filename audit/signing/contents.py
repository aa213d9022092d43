"""The checks that compare files of a bundle with each other: one record of findings, one list of digests."""

from __future__ import annotations

import functools
import zlib
from io import BytesIO

from audit.digests import digest_bytes, digest_json
from audit.errors import EvidenceError
from audit.signing.bundle_files import CERTIFICATE, EVIDENCE, FINDINGS, MANIFEST, REPORT_HTML, REPORT_PDF
from audit.signing.certificates import Certificate
from audit.signing.checks import Check, CheckName, failed, one_line, passed, printable
from audit.signing.claims import claim_problems
from audit.signing.documents import Documents
from audit.signing.html_findings import findings_in_html
from audit.signing.pdf_check import silence_parsers
from audit.signing.statement import Statement
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

# The manifest cannot list itself, nor what is made from it or after it. The signed statement lists these.
_NOT_EVIDENCE = frozenset({MANIFEST, REPORT_PDF, REPORT_HTML, CERTIFICATE})
_ALWAYS_EVIDENCE = frozenset({EVIDENCE, FINDINGS})


def check_manifest(files: Documents, statement: Statement, certificate: Certificate) -> Check:
    """Return whether manifest.json, findings.json and the signed statement claim the same.

    That is: the manifest lists exactly the evidence, with the signed digests; it names the certificate's owner, the
    statement's moment, and the same model, SAE, suites and ladder as findings.json and the statement; and it is the
    manifest that is attached to the PDF.
    """
    name = CheckName.MANIFEST_AGREES
    try:
        manifest = expect_object(files.parsed(MANIFEST), item=MANIFEST)
        digests = expect_object(manifest.get("files"), item=f"{MANIFEST}, files")
        listed = {key: expect_text(value, item=f"{MANIFEST}, files") for key, value in digests.items()}
    except EvidenceError as error:
        return failed(name, one_line(error), files=[MANIFEST])
    subjects = statement.subjects
    groups = {
        "not in the signed statement": sorted(set(listed) - set(subjects)),
        "another digest than in the signed statement": sorted(
            key for key in listed if key in subjects and subjects[key] != listed[key]
        ),
        f"not listed in {MANIFEST}": sorted(set(subjects) - _NOT_EVIDENCE - set(listed)),
        f"missing in {MANIFEST}": sorted(_ALWAYS_EVIDENCE - set(listed) - set(subjects)),
        f"listed in {MANIFEST}, which cannot vouch for it": sorted(_NOT_EVIDENCE & set(listed)),
    }
    if any(groups.values()):
        detail = "; ".join(f"{what}: {', '.join(names)}" for what, names in groups.items() if names)
        return failed(
            name, printable(detail), files=sorted({printable(key) for names in groups.values() for key in names})
        )
    problems = claim_problems(manifest, files, statement, certificate)
    try:
        if attachment_in_pdf(files.read(REPORT_PDF), MANIFEST) != files.read(MANIFEST):
            problems[REPORT_PDF] = f"the attachment {MANIFEST} of {REPORT_PDF} is not the bundle's {MANIFEST}"
    except EvidenceError as error:
        problems[REPORT_PDF] = one_line(error)
    if problems:
        return failed(name, printable("; ".join(problems.values())), files=problems)
    return passed(
        name, f"{MANIFEST} lists all {len(listed)} evidence files, and claims what {FINDINGS} and the statement claim"
    )


def check_findings(files: Documents, *, record: str = FINDINGS) -> Check:
    """Return whether the record, report.html and report.pdf hold the same one, by canonical digest where bytes differ.

    Args:
        files: of the folder.
        record: findings.json, or the record of another kind of folder.
    """
    name = CheckName.FINDINGS_AGREE
    what = "findings" if record == FINDINGS else "record"
    digests: dict[str, str] = {}
    problems: dict[str, str] = {}
    contents: dict[str, bytes] = {}
    for source, extract in (
        (record, lambda data: data),
        (REPORT_HTML, functools.partial(findings_in_html, item=REPORT_HTML)),
        (REPORT_PDF, functools.partial(attachment_in_pdf, name=record)),
    ):
        try:
            contents[source] = extract(files.read(source))
        except EvidenceError as error:
            problems[source] = one_line(error)
    # The three are mostly the same bytes: what they say is then the same, and is read once.
    same = len(set(contents.values())) == 1
    for source, data in contents.items():
        try:
            own = data == contents.get(record)
            value = files.parsed(record) if own else parse_json(data, item=f"{what} in {source}")
            digests[source] = digest_bytes(data) if same else digest_json(value)
        except EvidenceError as error:
            problems[source] = one_line(error)
    if not problems and len(set(digests.values())) == 1:
        found = digests[record]
        return passed(name, f"{record}, {REPORT_HTML} and {REPORT_PDF} hold the same {what} as embedded data, {found}")
    if len(set(digests.values())) > 1:
        reference = digests.get(record)
        for source, digest in digests.items():
            if digest != reference:
                problems[source] = f"{source} carries {digest}, {record} carries {reference or 'nothing readable'}"
    return failed(name, "; ".join(problems.values()), files=problems)


def attachment_in_pdf(data: bytes, name: str) -> bytes:
    """Return the bytes of one of the PDF's attachments.

    Raises:
        EvidenceError: not a PDF, or one without that attachment.
    """
    import pikepdf  # noqa: PLC0415 - only bundles with a PDF pay for the import

    silence_parsers()
    try:
        with pikepdf.open(BytesIO(data)) as pdf:
            if name not in pdf.attachments:
                raise _not_found(name, f"attachments {sorted(pdf.attachments)}")
            content: bytes = pdf.attachments[name].get_file().read_bytes()
            return content
    except (pikepdf.PdfError, *_HOSTILE_PDF_ERRORS) as error:
        raise _not_found(name, f"a PDF that cannot be read: {error}"[:300]) from error


def _not_found(name: str, found: str) -> EvidenceError:
    return EvidenceError(
        item=REPORT_PDF,
        expected=f"the attachment {name}",
        found=found,
        hint="The report was changed, or was not made by affidavit. Get an intact copy of the bundle.",
    )
