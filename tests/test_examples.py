"""The example reports in the documentation are whole, belong together and say what their README says."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.cli.root import run
from audit.records import Findings, Verdict, parse_record
from audit.signing.contents import attachment_in_pdf
from audit.signing.difference import read_difference
from audit.signing.html_findings import findings_in_html
from audit.signing.strict_json import parse_json

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
NAMES = ("demo-audit.pdf", "demo-audit.html", "demo-diff.pdf", "demo-diff.html", "demo-certificate.pem")
PDF, PAGE, DIFF_PDF, DIFF_PAGE, CERTIFICATE = (EXAMPLES / name for name in NAMES)


@pytest.mark.parametrize("report", [PDF, DIFF_PDF])
def test_an_example_report_verifies_alone(report: Path) -> None:
    """As its README says."""
    assert run(["verify", str(report), "--trust", str(CERTIFICATE)]) == 0


def test_page_and_pdf_carry_the_same_findings() -> None:
    """Three concepts and a mix, as the README says."""
    attached = attachment_in_pdf(PDF.read_bytes(), "findings.json")
    assert findings_in_html(PAGE.read_bytes(), item=PAGE.name) == attached
    findings: Findings = parse_record(Findings, parse_json(attached, item="findings.json"))
    assert (len(findings.concepts), len(findings.mixes), len(findings.saes)) == (3, 1, 2)


def test_the_example_of_a_difference_names_what_was_planted() -> None:
    """Page and PDF carry the same record; the concept that was fine-tuned changed, and ranks first."""
    attached = attachment_in_pdf(DIFF_PDF.read_bytes(), "diff.json")
    assert findings_in_html(DIFF_PAGE.read_bytes(), item=DIFF_PAGE.name) == attached
    result = read_difference(attached)
    first = min(result.concepts, key=lambda part: part.rank)
    assert (first.id, first.verdict) == ("dosing_error", Verdict.CHANGED)


def test_every_file_of_the_folder_is_in_its_readme() -> None:
    """And nothing is named that is not there."""
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in EXAMPLES.iterdir()} - {"README.md"} == {
        name for name in NAMES if f"[{name}]({name})" in text
    }
