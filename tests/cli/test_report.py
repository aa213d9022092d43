"""`affidavit report`: the reports of a bundle again, the same bytes, or one clear error and nothing written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from audit.cli.root import run
from audit.digests import canonical_json
from tests.conftest import SealedAudit


def test_the_reports_are_the_bundles_own(
    audit: SealedAudit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page is the sealed page; the PDF is the sealed one up to its seal."""
    out = tmp_path / "new" / "again"
    assert run(["report", str(audit.folder), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.pdf"]
    assert (out / "report.html").read_bytes() == (audit.folder / "report.html").read_bytes()
    assert (audit.folder / "report.pdf").read_bytes().startswith((out / "report.pdf").read_bytes())
    assert [path.name for path in out.parent.iterdir()] == ["again"]
    captured = capsys.readouterr()
    assert "report.html" in captured.out
    assert "not sealed" in captured.err


def test_the_page_alone(audit: SealedAudit, tmp_path: Path) -> None:
    """Without the PDF."""
    assert run(["report", str(audit.folder), "--out", str(tmp_path / "page"), "--html-only"]) == 0
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["report.html"]


def test_what_exists_is_not_overwritten(audit: SealedAudit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, and the folder is as it was."""
    (tmp_path / "kept").write_text("mine")
    assert run(["report", str(audit.folder), "--out", str(tmp_path / "kept")]) == 2
    assert (tmp_path / "kept").read_text() == "mine"
    assert "a new folder" in capsys.readouterr().err


def without_mixes(value: dict[str, Any]) -> dict[str, Any]:
    """Leave a field out."""
    return {key: child for key, child in value.items() if key != "mixes"}


DAMAGES = (
    ("findings.json", lambda value: value | {"schema": 7}, "schema"),
    ("findings.json", without_mixes, "no mixes"),
    ("manifest.json", lambda value: value | {"run": None}, "run"),
    ("manifest.json", lambda value: value | {"run": value["run"] | {"created_at": "yesterday"}}, "created_at"),
    ("manifest.json", lambda value: value | {"run": value["run"] | {"findings_digest": "x"}}, "findings_digest"),
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage[2])
def test_a_damaged_record_is_named(
    bundle_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: tuple[str, Any, str]
) -> None:
    """Exit 3, the field is named, and nothing is written."""
    name, change, said = damage
    path = bundle_copy / name
    path.write_bytes(canonical_json(change(json.loads(path.read_text()))))
    assert run(["report", str(bundle_copy), "--out", str(tmp_path / "out")]) == 3
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The missing file is named."""
    assert run(["report", str(tmp_path), "--out", str(tmp_path / "out")]) == 3
    assert "findings.json" in capsys.readouterr().err
