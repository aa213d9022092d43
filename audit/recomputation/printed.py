"""Whether the two reports print what the record says: both are made again and compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from audit.printing import REPORT_CODE, Record, html_report, pdf_report
from audit.signing.bundle_files import REPORT_HTML, REPORT_PDF
from audit.signing.pdf_update import update_problem
from reports.rendering import code_digest

_TAG = re.compile(rb"<[^>]*>")
_SHOWN = 60


def made_by_this_code(record: Record) -> bool:
    """Return whether the reports of a record were made by the code and templates that are installed here."""
    return record.run.environment.get(REPORT_CODE) == code_digest()


def html_difference(record: Record, found: bytes) -> str:
    """Return where report.html is not what its record gives, or nothing.

    Args:
        record: of the bundle.
        found: the bytes of its report.html.
    """
    expected = html_report(record)
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


def compare_pdf(record: Record, found: bytes) -> PdfComparison:
    """Return how report.pdf compares with what its record gives.

    The seal is appended: in front of it stands what was printed, and it may add nothing that shows. Where other
    libraries or fonts drew it, the bytes differ; then the words of each page are compared, and its drawing is not.

    Args:
        record: of the bundle.
        found: the bytes of its report.pdf, whose seal was checked.
    """
    expected = pdf_report(record)
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
