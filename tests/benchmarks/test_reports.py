"""The benchmark of the reports renders what a bundle holds, and says when two renders differ."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from audit.digests import canonical_json
from audit.errors import EvidenceError
from audit.printing import read_record
from audit.records import as_json
from benchmarks.reports import Medium, Render, measure, table_of
from tests.reports.fixtures.audits import make_findings, make_run


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the two files of a bundle that reports are made from."""
    folder = tmp_path_factory.mktemp("bundle")
    findings = make_findings()
    (folder / "findings.json").write_bytes(canonical_json(as_json(findings)))
    (folder / "manifest.json").write_bytes(canonical_json({"run": as_json(make_run(findings))}))
    return folder


@pytest.fixture(scope="module")
def page(bundle: Path) -> Render:
    """Return the HTML report, measured."""
    return measure(bundle, Medium.HTML)


def test_a_bundle_gives_back_its_records(bundle: Path) -> None:
    """What is rendered is what was written."""
    record = read_record(bundle)
    assert record.findings == make_findings()
    assert record.run == make_run(record.findings)
    assert record.findings_json == (bundle / "findings.json").read_bytes()


def test_figures_of_a_page(bundle: Path, page: Render) -> None:
    """It has a size, a peak that holds the imports, no pages, and the same bytes when made again."""
    assert page.size_bytes > 100_000
    assert page.pages is None
    assert 0 <= page.above_imports_mib < page.peak_mib
    assert page.clock >= page.render.clock > 0
    assert measure(bundle, Medium.HTML).digest == page.digest
    assert "html: two renders are the same bytes" in table_of([page, page])


def test_a_difference_is_said(page: Render) -> None:
    """Two digests of one medium are no repeat."""
    assert "html: two renders are DIFFERENT" in table_of([page, replace(page, digest="other")])


def test_a_folder_without_findings_is_refused(tmp_path: Path, bundle: Path) -> None:
    """The missing file is named."""
    with pytest.raises(EvidenceError) as caught:
        read_record(tmp_path)
    assert caught.value.item == "findings.json"
    record = json.loads((bundle / "findings.json").read_text())
    del record["concepts"][0]["title"]
    (tmp_path / "findings.json").write_text(json.dumps(record))
    (tmp_path / "manifest.json").write_bytes((bundle / "manifest.json").read_bytes())
    with pytest.raises(EvidenceError, match="title"):
        read_record(tmp_path)
