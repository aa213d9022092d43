"""`verify --recompute`: a number that was edited is caught, also where the same key sealed the edited bundle."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import duckdb
import pikepdf
import pytest
from click.testing import CliRunner

from audit.cli.verify import verify
from audit.digests import Json, canonical_json, digest_bytes, digest_file
from audit.errors import DigestMismatch, EvidenceError
from audit.exports.formats import make_exports
from audit.exports.source import ExportSource
from audit.printed import REPORT_CODE, compare_pdf, html_difference, made_by_this_code
from audit.printing import Record, html_report, pdf_report, read_record
from audit.progress import Silent
from audit.publishing import Published, predicate
from audit.recomputation.checks import recheck
from audit.recomputation.differences import differences
from audit.recomputation.findings import Recomputed, recompute, recompute_co_firing
from audit.records import Findings, as_json, parse_record
from audit.redaction import claim_of
from audit.signing.attested import VerifyResult
from audit.signing.checks import Check, CheckName, CheckStatus
from audit.signing.pdf import sign_pdf
from audit.signing.seal import seal_bundle
from audit.signing.texts import SECRET_BYTES, Salts
from audit.signing.verify import verify_bundle
from reports.rendering import code_digest
from tests.conftest import MOMENT, SealedAudit
from tests.exports_schemas import JSON_EXPORTS, json_problems, xml_problems

ASKED = (CheckName.PRINTED_TEXT, CheckName.EXPORTS_AGREE, CheckName.RECOMPUTED)


def made(result: VerifyResult) -> dict[CheckName, Check]:
    """Return the three checks that --recompute makes."""
    return {check.name: check for check in result.checks if check.name in ASKED}


def _recompute(folder: Path, record: Record, *, suites: list[str]) -> Recomputed:
    co_fired = partial(recompute_co_firing, folder, record, [part.sae for part in record.findings.cofiring])
    return recompute(folder, record, suites=suites, co_fired=co_fired, progress=Silent())


def with_first_effect(record: Record, value: float) -> Record:
    """Return the record with another effect of its first finding, and everything that follows from its bytes."""
    changed = json.loads(record.findings_json)
    first = next(f for concept in changed["concepts"] for c in concept["contrasts"] for f in c["findings"])
    first["d_z"]["value"] = value
    findings_json = canonical_json(changed)
    return replace(
        record,
        findings=parse_record(Findings, changed),
        findings_json=findings_json,
        run=replace(record.run, findings_digest=digest_bytes(findings_json)),
    )


def republish(
    folder: Path,
    audit: SealedAudit,
    record: Record,
    *,
    edit: Callable[[bytes], bytes] = bytes,
    edit_exports: Callable[[dict[str, bytes]], dict[str, bytes]] = dict,
) -> None:
    """Write a record's findings, exports, manifest and reports into a bundle and seal it as its honest owner would.

    Args:
        folder: a copy of the bundle.
        audit: whose key seals.
        record: what is written.
        edit: what happens to report.html before the seal.
        edit_exports: what happens to the exports before the seal.
    """
    (folder / "findings.json").write_bytes(record.findings_json)
    salts = Salts(bytes(SECRET_BYTES))
    (folder / "salts.json").write_bytes(salts.as_bytes())
    source = ExportSource(record.findings, record.run, digest_file(folder / "evidence.duckdb"))
    for name, content in edit_exports(make_exports(source)).items():
        (folder / name).write_bytes(content)
    texts = claim_of(folder, record.findings_json, salts)
    manifest: dict[str, Json] = json.loads(record.manifest_json)
    files = {name: digest_file(folder / name) for name in manifest["files"]}
    manifest |= {"run": as_json(record.run), "files": files}
    record = replace(record, manifest_json=canonical_json(manifest))
    (folder / "manifest.json").write_bytes(record.manifest_json)
    (folder / "report.html").write_bytes(edit(html_report(record)))
    signer = audit.request.signer
    (folder / "report.pdf").write_bytes(sign_pdf(pdf_report(record), signer, signed_at=MOMENT, reason="r"))
    for name in ("attestation.sigstore.json", "certificate.pem"):
        (folder / name).unlink()
    claimed = predicate(record.findings, Published(record.run.findings_digest, texts), audit.request.plan)
    seal_bundle(folder, signer, predicate=claimed, signed_at=MOMENT, tool_version=record.run.tool_version)


def test_an_untouched_bundle_is_printed_and_computed_again(audit: SealedAudit, short_suite: Path) -> None:
    """All three checks pass, thousands of figures were compared, and the command answers 0."""
    arguments = ["--trust", str(audit.certificate), "--recompute", "--suites", str(short_suite), "--json"]
    result = CliRunner().invoke(verify, [str(audit.folder), *arguments], standalone_mode=False)
    assert result.return_value == 0, result.output
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert checks["printed text"]["status"] == "pass"
    assert checks["exports agree"]["status"] == "pass"
    figures = re.match(r"([\d,]+) figures", checks["recomputed figures"]["detail"])
    assert figures is not None
    assert int(figures[1].replace(",", "")) > 1000


def test_a_number_of_the_page_edited_and_sealed_again_is_caught(
    audit: SealedAudit, bundle_copy: Path, short_suite: Path
) -> None:
    """The seal holds, so plain verify passes; the page made again does not have the number."""

    def edit(page: bytes) -> bytes:
        found = re.search(rb">0\.\d\d<", page)
        assert found is not None
        return page.replace(found[0], b">7.77<", 1)

    republish(bundle_copy, audit, read_record(bundle_copy), edit=edit)
    plain = verify_bundle(bundle_copy, trusted=audit.certificate)
    assert plain.ok
    checks = made(recheck(bundle_copy, plain, suites=[str(short_suite)], progress=Silent()))
    assert checks[CheckName.PRINTED_TEXT].status is CheckStatus.FAIL
    assert checks[CheckName.PRINTED_TEXT].files == ("report.html",)
    assert "7.77" in checks[CheckName.PRINTED_TEXT].detail
    assert checks[CheckName.RECOMPUTED].status is CheckStatus.PASS


def test_a_number_of_an_export_edited_and_sealed_again_is_caught(
    audit: SealedAudit, bundle_copy: Path, short_suite: Path
) -> None:
    """The seal holds and reports and findings are honest: only the export made again does not have the number.

    The exports of a real audit have the form that their schemas ask for.
    """

    def edit(exports: dict[str, bytes]) -> dict[str, bytes]:
        for name, schema in JSON_EXPORTS.items():
            assert json_problems(schema, exports[name]) == []
        assert xml_problems(exports["exports/junit.xml"]) == []
        found = re.search(rb"AUROC 0\.\d\d", exports["exports/report.sarif"])
        assert found is not None
        edited = exports["exports/report.sarif"].replace(found[0], b"AUROC 0.99", 1)
        return exports | {"exports/report.sarif": edited}

    republish(bundle_copy, audit, read_record(bundle_copy), edit_exports=edit)
    plain = verify_bundle(bundle_copy, trusted=audit.certificate)
    assert plain.ok
    checks = made(recheck(bundle_copy, plain, suites=[str(short_suite)], progress=Silent()))
    assert checks[CheckName.EXPORTS_AGREE].status is CheckStatus.FAIL
    assert checks[CheckName.EXPORTS_AGREE].files == ("exports/report.sarif",)
    assert checks[CheckName.PRINTED_TEXT].status is CheckStatus.PASS
    assert checks[CheckName.RECOMPUTED].status is CheckStatus.PASS


def test_a_number_of_the_findings_edited_everywhere_is_caught(
    audit: SealedAudit, bundle_copy: Path, short_suite: Path
) -> None:
    """Findings, reports and the table of findings agree, and the same key sealed them: the raw rows do not agree."""
    record = with_first_effect(read_record(bundle_copy), 1.9375)
    first = next(f for c in record.findings.concepts for part in c.contrasts for f in part.findings)
    with duckdb.connect(str(bundle_copy / "evidence.duckdb")) as connection:
        connection.execute("UPDATE finding SET d_z = 1.9375 WHERE finding = $id", {"id": first.id})
        connection.execute("UPDATE edge SET effect = 1.9375 WHERE within = 'topic' AND kind = 'association'")
    republish(bundle_copy, audit, record)
    plain = verify_bundle(bundle_copy, trusted=audit.certificate)
    assert plain.ok
    checks = made(recheck(bundle_copy, plain, suites=[str(short_suite)], progress=Silent()))
    assert checks[CheckName.PRINTED_TEXT].status is CheckStatus.PASS
    assert checks[CheckName.EXPORTS_AGREE].status is CheckStatus.PASS
    assert checks[CheckName.RECOMPUTED].status is CheckStatus.FAIL
    assert re.search(rf"{re.escape(first.id)}/d_z/value: recorded 1.9375", checks[CheckName.RECOMPUTED].detail)


def test_a_number_of_the_pdf_edited_is_caught_on_its_page(audit: SealedAudit) -> None:
    """Its words are compared where its bytes differ."""
    record = read_record(audit.folder)
    # The attached files stay: only what is printed is another.
    edited = replace(with_first_effect(record, 1.9375), findings_json=record.findings_json, run=record.run)
    found = compare_pdf(pdf_report(record), pdf_report(edited))
    assert not found.drawn_alike
    assert re.match(r"report.pdf, page \d+: ", found.problem)
    assert "1.94" in found.problem


def test_words_alone_are_no_pass(audit: SealedAudit) -> None:
    """T: the same words in other bytes: how they are drawn is not known, so it is not checked."""
    record = read_record(audit.folder)
    changed = BytesIO()
    with pikepdf.open(BytesIO(pdf_report(record))) as pdf:
        pdf.save(changed)
    found = compare_pdf(pdf_report(record), changed.getvalue())
    assert (found.problem, found.drawn_alike) == ("", False)


def test_the_first_difference_of_a_page_is_shown_with_what_precedes_it(audit: SealedAudit) -> None:
    """Words, added ones and markup alone."""
    record = read_record(audit.folder)
    page = html_report(record)
    assert html_difference(page, html_report(record)) == ""
    assert "“of nothing" in html_difference(page, page.replace(b"Summary in plain", b"Summary of nothing", 1))
    assert "the same words, other markup" in html_difference(page, page.replace(b"<main ", b"<main  ", 1))
    assert "followed by “”" in html_difference(page, page[: page.index(b"</main>")])


def test_what_other_report_code_made_is_not_judged(audit: SealedAudit) -> None:
    """A template that changed since is no forgery; nor is it a pass."""
    record = read_record(audit.folder)
    assert made_by_this_code(record.run.environment)
    assert record.run.environment[REPORT_CODE] == code_digest()
    older = replace(record, run=replace(record.run, environment=record.run.environment | {REPORT_CODE: "sha256:0"}))
    assert not made_by_this_code(older.run.environment)


def test_without_the_suites_nothing_is_said(audit: SealedAudit) -> None:
    """The shipped suite of that name is not the audit's: the answer is 4, not 0, and says why."""
    with pytest.raises(DigestMismatch, match="suite finance"):
        _recompute(audit.folder, read_record(audit.folder), suites=())
    result = CliRunner().invoke(verify, [str(audit.folder), "--recompute"], standalone_mode=False)
    assert result.return_value == 4
    assert "suite finance" in result.output


@pytest.mark.parametrize("table", ["sham", "prompt_feature", "finding"])
def test_a_missing_table_is_named(audit: SealedAudit, bundle_copy: Path, short_suite: Path, table: str) -> None:
    """Evidence without a table that a figure rests on is an error of the evidence, with the table's name."""
    with duckdb.connect(str(bundle_copy / "evidence.duckdb")) as connection:
        connection.execute(f"DROP TABLE {table}")
    with pytest.raises(EvidenceError, match=table) as caught:
        _recompute(bundle_copy, read_record(audit.folder), suites=[str(short_suite)])
    assert caught.value.exit_code == 3


def test_differences_name_rows_by_their_identity() -> None:
    """A changed number, a row more, a row less and another order each have their place; rounding has none."""
    recorded = {"rows": [{"id": "a", "x": 1.0, "n": 2}, {"id": "b", "x": None}], "word": "causal"}
    assert not list(differences(recorded, recorded, where="r"))
    near = {"rows": [{"id": "a", "x": 1.0 + 1e-12, "n": 2}, {"id": "b", "x": None}], "word": "causal"}
    assert not list(differences(recorded, near, where="r"))
    other = {"rows": [{"id": "b", "x": 0.5}, {"id": "a", "x": 1.01, "n": 3}, {"id": "c"}], "word": "observed"}
    found = {d.where: (d.recorded, d.recomputed) for d in differences(recorded, other, where="r")}
    assert found == {
        "r/rows/a/x": ("1", "1.01"),
        "r/rows/a/n": ("2", "3"),
        "r/rows/b/x": ("None", "0.5"),
        "r/rows/c": ("nothing", "a record"),
        "r/word": ("causal", "observed"),
    }
    turned = {"rows": recorded["rows"][::-1], "word": "causal"}
    assert [d.where for d in differences(recorded, turned, where="r")] == ["r/rows, order"]
    assert [d.where for d in differences([1, 2], [1], where="r")] == ["r/1"]
    assert [d.where for d in differences({"n": 1}, {"n": True}, where="r")] == ["r/n"]
