"""The checks of `affidavit verify --recompute`: reports and exports say the record, which follows from the evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from audit import __version__
from audit.digests import measuring_code
from audit.errors import AffidavitError, DigestMismatch, UsageError
from audit.exports.formats import FILES
from audit.printed import Reports, check_printed, made_by_this_code
from audit.printing import Record, export_of, html_report, pdf_report, read_record
from audit.progress import Progress
from audit.recomputation.findings import TAKEN, recompute, recompute_co_firing
from audit.recomputation.policy import policy_problem
from audit.records import CoFiring
from audit.signing.attested import VerifyResult
from audit.signing.bundle_files import (
    EVIDENCE,
    EXPORTS,
    EXPORTS_FOLDER,
    FINDINGS,
    MANIFEST,
    read_content,
)
from audit.signing.checks import Check, CheckName, failed, not_checked, one_line, passed, printable
from audit.signing.plan import MEASURING_CODE

_SHOWN = 5


def recheck(folder: Path, result: VerifyResult, *, suites: Sequence[str], progress: Progress) -> VerifyResult:
    """Return the result with the three checks made, where no other check failed.

    Args:
        folder: the bundle.
        result: of `verify_bundle`.
        suites: where the suites of the audit lie, of those that are not shipped.
        progress: listener.

    Raises:
        EnvironmentProblem: a library that draws the PDF is missing.
    """
    if not result.ok:
        return result
    try:
        record = read_record(folder)
    except AffidavitError as error:
        asked = (CheckName.PRINTED_TEXT, CheckName.EXPORTS_AGREE, CheckName.RECOMPUTED)
        return result.with_made(*(failed(name, one_line(error), files=[FINDINGS, MANIFEST]) for name in asked))
    # Two processes with about as much to do, each on one thread: threads of arrays so small wait for one another.
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=threadpool_limits, initargs=(1,)) as pool,
        threadpool_limits(1),
    ):
        printing = pool.submit(_printed, folder, record)
        names = [part.sae for part in record.findings.cofiring]
        half = (len(names) + 1) // 2
        counting = pool.submit(recompute_co_firing, folder, record, names[:half])

        def co_fired() -> tuple[CoFiring, ...]:
            own = recompute_co_firing(folder, record, names[half:]) if names[half:] else ()
            return (*counting.result(), *own)

        recomputed = _recomputed(folder, record, suites, co_fired, progress)
        return result.with_made(printing.result(), _exported(folder, record, result), recomputed)


def _printed(folder: Path, record: Record) -> Check:
    reports = Reports(
        FINDINGS,
        record.run.environment,
        record.run.tool_version,
        lambda: html_report(record),
        lambda: pdf_report(record),
    )
    return check_printed(folder, reports)


def _exported(folder: Path, record: Record, result: VerifyResult) -> Check:
    """Return whether every export is, byte for byte, what the record gives."""
    name = CheckName.EXPORTS_AGREE
    subjects = result.statement.subjects if result.statement is not None else {}
    sealed = sorted(file for file in subjects if file.startswith(EXPORTS_FOLDER))
    if not made_by_this_code(record.run.environment):
        what = f"{len(sealed)} exports were made" if sealed else "the bundle was made"
        return not_checked(name, printable(f"{what} by other report code, affidavit {record.run.tool_version}"))
    missing, odd = sorted(EXPORTS - set(sealed)), sorted(set(sealed) - EXPORTS)
    if missing or odd:
        problems = {"missing": missing, "no export of this version": odd}
        detail = "; ".join(f"{what}: {', '.join(files)}" for what, files in problems.items() if files)
        return failed(name, printable(detail), files=[*missing, *map(printable, odd)])
    try:
        different = [
            file for wanted, file in sorted(FILES.items()) if read_content(folder, file) != export_of(record, wanted)
        ]
    except AffidavitError as error:
        return failed(name, one_line(error), files=[MANIFEST])
    if different:
        return failed(name, f"not what {FINDINGS} and {MANIFEST} give: {', '.join(different)}", files=different)
    return passed(name, f"{len(sealed)} exports are, byte for byte, what {FINDINGS} and {MANIFEST} give")


def _recomputed(
    folder: Path,
    record: Record,
    suites: Sequence[str],
    co_fired: Callable[[], tuple[CoFiring, ...]],
    progress: Progress,
) -> Check:
    name = CheckName.RECOMPUTED
    if record.run.tool_version != __version__:
        detail = f"this is affidavit {__version__}, and the figures were computed by {record.run.tool_version}"
        return not_checked(name, printable(f"{detail}: only that version can compute them again"))
    try:
        found = recompute(folder, record, suites=suites, co_fired=co_fired, progress=progress)
    except (UsageError, DigestMismatch) as error:
        # The texts are needed to count words, and a bundle does not hold them.
        return not_checked(name, f"{one_line(error)}; {printable(error.hint)}")
    except AffidavitError as error:
        return failed(name, one_line(error), files=[EVIDENCE])
    problem = policy_problem(folder, record)
    if problem:
        return failed(name, problem, files=[MANIFEST])
    if found.differences:
        shown = "; ".join(map(str, found.differences[:_SHOWN]))
        more = len(found.differences) - _SHOWN
        rest = f"; and {more} more" if more > 0 else ""
        if record.run.environment.get(MEASURING_CODE) != measuring_code():
            rest += "; the manifest names other measuring code than is installed here"
        return failed(name, printable(f"{FINDINGS} does not follow from {EVIDENCE}: {shown}{rest}"), files=[FINDINGS])
    return passed(name, f"{found.figures:,} figures of {FINDINGS} follow from {EVIDENCE}; taken as recorded: {TAKEN}")
