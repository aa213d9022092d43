"""Write the result of a comparison, whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from audit.differences.comparing import compare_bundles
from audit.differences.parents import open_parent
from audit.digests import canonical_json
from audit.errors import EvidenceError
from audit.progress import Progress
from audit.records import DIFFERENCE_SCHEMA, DifferenceResult, DiffMargins, as_json, parse_record
from audit.signing.strict_json import expect_object, parse_json
from audit.workspace import new_folder

DIFF_JSON = "diff.json"


def write_difference(
    base: Path,
    new: Path,
    *,
    out: Path,
    noise: Sequence[Path] = (),
    trusted: Path | None,
    now: datetime,
    margins: DiffMargins | None = None,
    progress: Progress,
) -> DifferenceResult:
    """Verify and compare bundles, and write `diff.json` into a new folder.

    Args:
        base: the earlier bundle.
        new: the later one.
        out: the folder; it must not exist.
        noise: further bundles of the base's model.
        trusted: the certificate of the signer of all of them, or None.
        now: the clock.
        margins: the limits; None for those of the method.
        progress: listener.

    Raises:
        UsageError: the bundles are not comparable, or one is redacted.
        EvidenceError: a bundle does not verify.
        OutputError: the folder exists or cannot be written.
    """
    with new_folder(out) as folder:
        progress.say("verifying the bundles")
        opened = [open_parent(place, trusted=trusted, now=now) for place in (base, new, *noise)]
        result = compare_bundles(
            opened[0], opened[1], noise=opened[2:], margins=margins or DiffMargins(), progress=progress
        )
        (folder / DIFF_JSON).write_bytes(canonical_json(as_json(result)))
    return result


def read_difference(data: bytes) -> DifferenceResult:
    """Return the result that the bytes of a `diff.json` hold.

    Raises:
        EvidenceError: they are no such record, or one of another version.
    """
    value = expect_object(parse_json(data, item=DIFF_JSON), item=DIFF_JSON)
    if value.get("schema") != DIFFERENCE_SCHEMA:
        raise EvidenceError(
            item=f"{DIFF_JSON}, schema",
            expected=DIFFERENCE_SCHEMA,
            found=str(value.get("schema"))[:80],
            hint="Use the version of affidavit that wrote it, or compare the bundles again.",
        )
    found: DifferenceResult = parse_record(DifferenceResult, value, where=DIFF_JSON)
    return found
