"""`verify --recompute` and `affidavit export` on a sealed bundle: the same bytes again, and other ones are caught."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from audit.cli.root import run
from audit.digests import canonical_json
from audit.exports.formats import FILES, ExportFormat
from audit.printed import REPORT_CODE
from audit.printing import read_record
from audit.recomputation.checks import _exported
from audit.signing.bundle_files import EXPORTS
from audit.signing.checks import Check, CheckName, CheckStatus
from audit.signing.keys import Signer
from audit.signing.verify import verify_bundle
from tests.redaction_making import write_bundle

Edit = Callable[[dict[str, bytes]], dict[str, bytes]]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Path:
    """Return a small sealed bundle, made without a model."""
    folder = tmp_path_factory.mktemp("sealed") / "bundle"
    folder.mkdir()
    write_bundle(folder, signer)
    return folder


def checked(folder: Path) -> Check:
    """Return the check of the exports, of a bundle that verifies otherwise."""
    result = verify_bundle(folder, trusted=None)
    assert result.ok
    assert result[CheckName.EXPORTS_AGREE].status is CheckStatus.NOT_CHECKED
    return _exported(folder, read_record(folder), result)


def without_summary(exports: dict[str, bytes]) -> dict[str, bytes]:
    """Leave one out."""
    return {name: content for name, content in exports.items() if name != "exports/summary.md"}


def with_another_number(exports: dict[str, bytes]) -> dict[str, bytes]:
    """Change one figure of the bill of materials."""
    document = json.loads(exports["exports/ml-bom.cdx.json"])
    document["components"][0]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0]["value"] = "0.001"
    return exports | {"exports/ml-bom.cdx.json": canonical_json(document)}


def with_a_pass(exports: dict[str, bytes]) -> dict[str, bytes]:
    """Make of an open question one that reads as passed."""
    edited = exports["exports/report.sarif"].replace(b'"kind":"open"', b'"kind":"pass"', 1)
    return exports | {"exports/report.sarif": edited}


EDITS: tuple[tuple[Edit, tuple[str, ...], str], ...] = (
    (with_another_number, ("exports/ml-bom.cdx.json",), "not what findings.json and manifest.json give"),
    (with_a_pass, ("exports/report.sarif",), "not what findings.json and manifest.json give"),
    (without_summary, ("exports/summary.md",), "missing: exports/summary.md"),
    (lambda exports: exports | {"exports/more.md": b"# x"}, ("exports/more.md",), "no export of this version"),
)


def test_untouched_exports_pass(sealed: Path) -> None:
    """All five, byte for byte; they are signed and listed in the manifest."""
    check = checked(sealed)
    assert check.status is CheckStatus.PASS, check.detail
    assert check.detail.startswith("5 exports")
    statement = verify_bundle(sealed, trusted=None).statement
    assert statement is not None
    assert set(statement.subjects) >= EXPORTS
    assert set(json.loads((sealed / "manifest.json").read_bytes())["files"]) >= EXPORTS


@pytest.mark.parametrize(("edit", "files", "said"), EDITS, ids=["number", "pass", "missing", "added"])
def test_what_was_edited_and_sealed_again_is_caught(
    tmp_path: Path, signer: Signer, edit: Edit, files: tuple[str, ...], said: str
) -> None:
    """Plain verify cannot know: the owner of the key sealed it. Made again, it differs."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    write_bundle(folder, signer, edit=edit)
    check = checked(folder)
    assert check.status is CheckStatus.FAIL
    assert check.files == files
    assert said in check.detail


def test_what_other_code_made_is_not_judged(sealed: Path) -> None:
    """Neither a pass nor a forgery; what it was is said."""
    record = read_record(sealed)
    older = replace(record, run=replace(record.run, environment={REPORT_CODE: "sha256:0"}))
    check = _exported(sealed, older, verify_bundle(sealed, trusted=None))
    assert check.status is CheckStatus.NOT_CHECKED
    assert "other report code" in check.detail


@pytest.mark.parametrize("wanted", [wanted.value for wanted in ExportFormat])
def test_the_command_gives_the_sealed_bytes(
    sealed: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], wanted: str
) -> None:
    """To a file and to stdout, which then holds nothing else."""
    own = (sealed / FILES[ExportFormat(wanted)]).read_bytes()
    out = tmp_path / "new" / "file"
    assert run(["export", str(sealed), "--format", wanted, "--out", str(out)]) == 0
    assert out.read_bytes() == own
    assert [path.name for path in out.parent.iterdir()] == ["file"]
    capfdbinary.readouterr()
    assert run(["export", str(sealed), "--format", wanted, "--out", "-"]) == 0
    assert capfdbinary.readouterr().out == own


def test_a_bundle_without_exports_gets_them(tmp_path: Path, signer: Signer, sealed: Path) -> None:
    """From an earlier version: the record is enough."""
    old = tmp_path / "old"
    old.mkdir()
    write_bundle(old, signer, edit=lambda _: {})
    out = tmp_path / "report.sarif"
    assert run(["export", str(old), "--format", "sarif", "--out", str(out)]) == 0
    ids = [json.loads(path.read_bytes())["runs"][0]["tool"] for path in (out, sealed / "exports" / "report.sarif")]
    assert ids[0] == ids[1]


def test_what_exists_is_not_overwritten(sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, and the file is as it was."""
    out = tmp_path / "kept"
    out.write_text("mine")
    assert run(["export", str(sealed), "--format", "junit", "--out", str(out)]) == 2
    assert out.read_text() == "mine"
    assert "a new file" in capsys.readouterr().err


def test_a_damaged_record_is_named_and_nothing_is_written(
    sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 3 for another form, a missing digest and a folder that is no bundle; exit 2 for an unknown format."""
    broken = tmp_path / "broken"
    shutil.copytree(sealed, broken)
    manifest = json.loads((broken / "manifest.json").read_bytes())
    del manifest["files"]["evidence.duckdb"]
    (broken / "manifest.json").write_bytes(canonical_json(manifest))
    (tmp_path / "empty").mkdir()
    for folder, said in ((broken, "evidence.duckdb"), (tmp_path / "empty", "findings.json")):
        assert run(["export", str(folder), "--format", "oscal", "--out", str(tmp_path / "out")]) == 3
        assert said in capsys.readouterr().err
    assert run(["export", str(sealed), "--format", "pdf", "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
    assert run(["export", str(sealed), "--format", "oscal", "--out", str(sealed / "more.json")]) == 2
    assert not (sealed / "more.json").exists()


def test_a_redacted_copy_has_its_own(sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says where they are."""
    copy = tmp_path / "copy"
    shutil.copytree(sealed, copy)
    (copy / "redaction.json").write_text("{}")
    assert run(["export", str(copy), "--format", "sarif", "--out", str(tmp_path / "out")]) == 2
    assert "exports/report.sarif of the copy" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run(["export", str(sealed), "--format", "oscal", "--out", str(sealed / "more.json")]) == 2
    assert not (sealed / "more.json").exists()
