"""Whether the two reports of a folder print what its record says: both are made again and compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from audit.errors import UsageError
from audit.signing.bundle_files import MANIFEST, REPORT_HTML, REPORT_PDF, read_content
from audit.signing.checks import Check, CheckName, failed, not_checked, one_line, passed, printable
from audit.signing.pdf_update import update_problem
from reports.rendering import code_digest

# In the environment of a run: the digest of the code and templates that made its reports.
REPORT_CODE = "report code"
_TAG = re.compile(rb"<[^>]*>")
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Reports:
    """How the reports of a folder are made again.

    Args:
        record: the name of the file that they print.
        environment: of the run that made them.
        tool_version: which did.
        html, pdf: make report.html, and report.pdf before its seal.
    """

    record: str
    environment: Mapping[str, str]
    tool_version: str
    html: Callable[[], bytes]
    pdf: Callable[[], bytes]


def check_printed(folder: Path, reports: Reports) -> Check:
    """Return whether both reports of a folder print what its record and manifest give.

    Raises:
        EnvironmentProblem: a library that draws the PDF is missing.
    """
    name = CheckName.PRINTED_TEXT
    if not made_by_this_code(reports.environment):
        detail = (
            f"the reports were made by other report code, affidavit {reports.tool_version}: only that version can"
            " print them again"
        )
        return not_checked(name, printable(detail))
    html, pdf = read_content(folder, REPORT_HTML), read_content(folder, REPORT_PDF)
    try:
        compared = compare_pdf(reports.pdf(), pdf)
        problems = {REPORT_HTML: html_difference(reports.html(), html), REPORT_PDF: compared.problem}
    except UsageError as error:
        # Equal code has equal languages: reports of this code cannot be in one that is not there.
        return failed(name, one_line(error), files=[MANIFEST])
    at_fault = [file for file, problem in problems.items() if problem]
    if at_fault:
        return failed(name, printable("; ".join(problems[file] for file in at_fault)), files=at_fault)
    given = f"what {reports.record} and {MANIFEST} give"
    if not compared.drawn_alike:
        detail = (
            f"{REPORT_HTML} is {given}, and {REPORT_PDF} has the same words on each page;"
            " how they are drawn is not compared, as other libraries or fonts drew it, or its sealer did"
        )
        return not_checked(name, detail)
    return passed(name, f"{REPORT_HTML} and {REPORT_PDF} print {given}, byte for byte")


def made_by_this_code(environment: Mapping[str, str]) -> bool:
    """Return whether the reports of a run were made by the code and templates that are installed here."""
    return environment.get(REPORT_CODE) == code_digest()


def html_difference(expected: bytes, found: bytes) -> str:
    """Return where report.html is not what its record gives, or nothing.

    Args:
        expected: what its record gives.
        found: the bytes of the folder's report.html.
    """
    if expected == found:
        return ""
    return f"{REPORT_HTML}: " + _first_difference(_words(expected), _words(found))


@dataclass(frozen=True, slots=True)
class PdfComparison:
    """How report.pdf compares with what its record gives.

    Args:
        problem: where they differ; empty where no difference was found.
        drawn_alike: whether every byte in front of the seal is the same; without it only the words were compared.
    """

    problem: str
    drawn_alike: bool


def compare_pdf(expected: bytes, found: bytes) -> PdfComparison:
    """Return how report.pdf compares with what its record gives.

    The seal is appended: in front of it stands what was printed, and it may add nothing that shows. Where other
    libraries or fonts drew it, the bytes differ; then the words of each page are compared, and its drawing is not.

    Args:
        expected: what its record gives, before the seal.
        found: the bytes of the folder's report.pdf, whose seal was checked.
    """
    if found.startswith(expected):
        problem = update_problem(found, expected)
        return PdfComparison(f"{REPORT_PDF}: {problem}" if problem else "", drawn_alike=True)
    return PdfComparison(_word_difference(expected, found), drawn_alike=False)


def _word_difference(expected: bytes, found: bytes) -> str:
    pages, others = list(_page_texts(expected)), list(_page_texts(found))
    if len(pages) != len(others):
        return f"{REPORT_PDF} has {len(others)} pages, its record gives {len(pages)}"
    for number, (one, other) in enumerate(zip(pages, others, strict=True), start=1):
        if "".join(one) != "".join(other):
            return f"{REPORT_PDF}, page {number}: {_first_difference(one, other)}"
    return ""


def _words(page: bytes) -> list[str]:
    return _TAG.sub(b" ", page).decode("utf-8", "replace").split()


def _page_texts(data: bytes) -> Iterator[list[str]]:
    from pypdf import PdfReader  # noqa: PLC0415 - only where bytes differ

    for page in PdfReader(BytesIO(data)).pages:
        yield page.extract_text().split()


def _first_difference(expected: list[str], found: list[str]) -> str:
    place = next((n for n, (one, other) in enumerate(zip(expected, found, strict=False)) if one != other), None)
    if place is None:
        if len(expected) == len(found):
            return "the same words, other markup"
        place = min(len(expected), len(found))
    before = " ".join(expected[max(0, place - 5) : place])
    one, other = (" ".join(words[place : place + 3])[:_SHOWN] for words in (expected, found))
    return f"“… {before}” is followed by “{other}”, where its record gives “{one}”"
