"""The example reports in the documentation are whole, belong together and say what their README says."""

from __future__ import annotations

from pathlib import Path

from audit.cli.root import run
from audit.records import Findings, parse_record
from audit.signing.contents import attachment_in_pdf
from audit.signing.html_findings import findings_in_html
from audit.signing.strict_json import parse_json

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
PDF, PAGE, CERTIFICATE = (EXAMPLES / name for name in ("demo-audit.pdf", "demo-audit.html", "demo-certificate.pem"))


def test_the_example_report_verifies_alone() -> None:
    """As its README says."""
    assert run(["verify", str(PDF), "--trust", str(CERTIFICATE)]) == 0


def test_page_and_pdf_carry_the_same_findings() -> None:
    """Three concepts and a mix, as the README says."""
    attached = attachment_in_pdf(PDF.read_bytes(), "findings.json")
    assert findings_in_html(PAGE.read_bytes(), item=PAGE.name) == attached
    findings: Findings = parse_record(Findings, parse_json(attached, item="findings.json"))
    assert (len(findings.concepts), len(findings.mixes), len(findings.saes)) == (3, 1, 2)


def test_every_file_of_the_folder_is_in_its_readme() -> None:
    """And nothing is named that is not there."""
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in EXAMPLES.iterdir()} - {"README.md"} == {
        name for name in (PDF.name, PAGE.name, CERTIFICATE.name) if f"[{name}]({name})" in text
    }
