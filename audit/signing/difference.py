"""What the folder of a difference says of itself, and whether its files, its seal and its statement say the same."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from audit.digests import Json, canonical_json, digest_bytes
from audit.errors import EvidenceError
from audit.records import DIFFERENCE_SCHEMA, DifferenceResult, DiffParent, DiffRun, as_json, parse_record
from audit.signing.bundle_files import DIFFERENCE, MANIFEST, REPORT_PDF
from audit.signing.certificates import Certificate
from audit.signing.checks import Check, CheckName, failed, one_line, passed, printable
from audit.signing.claims import seal_differences
from audit.signing.contents import attachment_in_pdf, check_findings
from audit.signing.documents import Documents
from audit.signing.statement import ROOM_KEYS, Statement
from audit.signing.strict_json import expect_object, parse_json

DIFFERENCE_MANIFEST_SCHEMA = "affidavit/difference-manifest/1"
_MANIFEST_KEYS = frozenset({"schema", "run", "files"})


def read_difference(data: bytes) -> DifferenceResult:
    """Return the result that the bytes of a `diff.json` hold.

    Raises:
        EvidenceError: they are no such record, or one of another version.
    """
    value = expect_object(parse_json(data, item=DIFFERENCE), item=DIFFERENCE)
    if value.get("schema") != DIFFERENCE_SCHEMA:
        raise EvidenceError(
            item=f"{DIFFERENCE}, schema",
            expected=DIFFERENCE_SCHEMA,
            found=str(value.get("schema"))[:80],
            hint="Use the version of affidavit that wrote it, or compare the bundles again.",
        )
    found: DifferenceResult = parse_record(DifferenceResult, value, where=DIFFERENCE)
    return found


def difference_manifest(run: DiffRun) -> bytes:
    """Return manifest.json of a difference: the circumstances of the comparison, and the digest of its record."""
    return canonical_json({
        "schema": DIFFERENCE_MANIFEST_SCHEMA,
        "run": as_json(run),
        "files": {DIFFERENCE: run.difference_digest},
    })  # fmt: skip


def read_difference_run(manifest_data: bytes) -> DiffRun:
    """Return the circumstances that the manifest of a difference tells.

    Raises:
        EvidenceError: it is not the manifest of a difference.
    """
    manifest = expect_object(parse_json(manifest_data, item=MANIFEST), item=MANIFEST, keys=_MANIFEST_KEYS)
    if manifest["schema"] != DIFFERENCE_MANIFEST_SCHEMA:
        raise EvidenceError(
            item=f"{MANIFEST}, schema",
            expected=DIFFERENCE_MANIFEST_SCHEMA,
            found=str(manifest["schema"])[:80],
            hint="Use the version of affidavit that wrote it, or compare the bundles again.",
        )
    run: DiffRun = parse_record(DiffRun, manifest["run"], where=f"{MANIFEST}, run")
    return run


def difference_predicate(result: DifferenceResult, digest: str) -> dict[str, Json]:
    """Return what the signed statement says of a difference: its record and its parents, each by digest.

    Args:
        result: the record.
        digest: of its bytes.
    """
    return {
        "difference": digest,
        "base": _parent(result.base),
        "new": _parent(result.new),
        "noise": [_parent(parent) for parent in result.noise],
    }


def check_difference_record(files: Documents) -> Check:
    """Return whether diff.json, report.html and report.pdf hold the same record."""
    return check_findings(files, record=DIFFERENCE)


def check_difference(files: Documents, statement: Statement, certificate: Certificate) -> Check:
    """Return whether manifest.json, diff.json and the signed statement of a difference claim the same.

    That is: the manifest lists the record and names the certificate's owner and the statement's moment; it is the one
    that is attached to the PDF; and the statement names the record's parents.
    """
    name = CheckName.MANIFEST_AGREES
    try:
        manifest, record = files.read(MANIFEST), files.read(DIFFERENCE)
        problem = difference_problem(manifest, record, signed_at=statement.signed_at, certificate=certificate)
        if problem:
            return failed(name, problem, files=[MANIFEST])
        expected = difference_predicate(read_difference(record), digest_bytes(record))
        attached = attachment_in_pdf(files.read(REPORT_PDF), MANIFEST)
    except EvidenceError as error:
        return failed(name, one_line(error), files=[MANIFEST])
    stated = {key: value for key, value in statement.predicate.items() if key not in ROOM_KEYS}
    unlike = sorted(key for key in {*stated, *expected} if stated.get(key) != expected.get(key))
    if unlike:
        detail = f"{DIFFERENCE} and the signed statement disagree about: {', '.join(unlike)}"
        return failed(name, printable(detail), files=[DIFFERENCE])
    if attached != manifest:
        detail = f"the attachment {MANIFEST} of {REPORT_PDF} is not the folder's {MANIFEST}"
        return failed(name, detail, files=[REPORT_PDF])
    return passed(name, f"{MANIFEST}, {DIFFERENCE} and the statement name the same parents, moment and signer")


def difference_problem(
    manifest_data: bytes, record_data: bytes, *, signed_at: datetime, certificate: Certificate
) -> str:
    """Return what the manifest of a difference claims otherwise than its record or its seal, or nothing.

    Raises:
        EvidenceError: one of the two is not of the documented form.
    """
    manifest = expect_object(parse_json(manifest_data, item=MANIFEST), item=MANIFEST)
    run = read_difference_run(manifest_data)
    digest = digest_bytes(record_data)
    result = read_difference(record_data)
    different = seal_differences(expect_object(manifest["run"], item=f"{MANIFEST}, run"), signed_at, certificate)
    if run.difference_digest != digest:
        different.append("run.difference_digest")
    if manifest["files"] != {DIFFERENCE: digest}:
        different.append("files")
    if run.tool_version != result.tool_version:
        different.append("run.tool_version")
    if not different:
        return ""
    return printable(f"{MANIFEST} disagrees with {DIFFERENCE} or the seal about: {', '.join(different)}")


def _parent(parent: DiffParent) -> Mapping[str, Json]:
    return {"statement": parent.statement, "model": {"name": parent.model, "digest": parent.model_digest}}
