"""`affidavit verify --recompute` on a difference: its reports are printed again, and its bundles compared again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path

from audit import __version__
from audit.differences.comparing import compare_bundles
from audit.differences.parents import Opened, open_parent
from audit.differences.printing import DifferenceRecord
from audit.digests import canonical_json
from audit.errors import AffidavitError
from audit.printed import Reports, check_printed
from audit.progress import Progress
from audit.records import DifferenceResult, DiffMargins, DiffParent, as_json
from audit.signing.attested import VerifyResult
from audit.signing.bundle_files import DIFFERENCE
from audit.signing.checks import Check, CheckName, failed, not_checked, one_line, passed, printable

_SHOWN = 5


def recheck_difference(
    folder: Path, result: VerifyResult, *, parents: Sequence[Path], now: datetime, progress: Progress
) -> VerifyResult:
    """Return the result with both checks made, where no other check failed.

    Args:
        folder: the difference.
        result: of `verify_difference`.
        parents: the bundles that were compared, in any order: each is known by the digest of its statement.
        now: the clock.
        progress: listener.

    Raises:
        EnvironmentProblem: a library that draws the PDF is missing.
    """
    if not result.ok:
        return result
    try:
        record = DifferenceRecord.read(folder)
    except AffidavitError as error:
        asked = (CheckName.PRINTED_TEXT, CheckName.RECOMPUTED)
        made = [failed(name, one_line(error), files=[DIFFERENCE]) for name in asked]
    else:
        run = record.run
        reports = Reports(DIFFERENCE, run.environment, run.tool_version, lambda: record.html, lambda: record.pdf)
        made = [check_printed(folder, reports), _recomputed(record.result, parents, now, progress)]
    return result.with_made(*made)


def _recomputed(recorded: DifferenceResult, parents: Sequence[Path], now: datetime, progress: Progress) -> Check:
    name = CheckName.RECOMPUTED
    if recorded.tool_version != __version__:
        detail = f"this is affidavit {__version__}, and the bundles were compared by {recorded.tool_version}"
        return not_checked(name, printable(f"{detail}: only that version can compare them again"))
    try:
        # Whose seal each has, the difference says; whether that one is trusted, its user said then.
        opened = [open_parent(place, trusted=None, now=now) for place in parents]
        found = {one.parent.statement: one for one in opened}
        named = {"base": recorded.base, "new": recorded.new}
        named |= {f"noise {n}": parent for n, parent in enumerate(recorded.noise, start=1)}
        missing = [f"{role} ({parent.statement})" for role, parent in named.items() if parent.statement not in found]
        if missing:
            return not_checked(name, printable(f"give --parent with the bundle of: {', '.join(missing)}"))
        base, new, *noise = (_as_recorded(found[parent.statement], parent) for parent in named.values())
        again = compare_bundles(base, new, noise=noise, margins=DiffMargins(), progress=progress)
    except AffidavitError as error:
        return failed(name, one_line(error), files=[DIFFERENCE])
    different = [
        field.name
        for field in fields(DifferenceResult)
        if _bytes(getattr(again, field.name)) != _bytes(getattr(recorded, field.name))
    ]
    if different == ["code"]:
        return not_checked(name, "the bundles were compared by other code of the same version, with the same result")
    if different:
        detail = f"{DIFFERENCE} is not what its bundles give: {', '.join(different[:_SHOWN])}"
        return failed(name, detail, files=[DIFFERENCE])
    return passed(name, f"{len(recorded.rows):,} rows of {DIFFERENCE} follow from {len(named)} bundles")


def _as_recorded(opened: Opened, parent: DiffParent) -> Opened:
    return replace(opened, parent=replace(opened.parent, trusted=parent.trusted))


def _bytes(value: object) -> bytes:
    return canonical_json(as_json(value))
