"""A plan sealed before an audit: the audit under it is the promised one, or it is refused and found out."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from audit.digests import Json, canonical_json
from audit.errors import EvidenceError, KeyProblem, OutputError
from audit.signing.checks import Check, CheckName, CheckStatus
from audit.signing.detached import read_detached, write_detached
from audit.signing.dsse import sign_payload
from audit.signing.plan import Plan, plan_differences, read_plan
from audit.signing.seal import seal_bundle
from audit.signing.statement import SignerBlock, StatementKind, build_statement
from audit.signing.verify import verify_bundle
from tests.signing.bundle_making import FINDINGS, SIGNED_AT, Keyed, claims, make_plan, reseal, write_bundle

BEFORE = SIGNED_AT - timedelta(days=3)
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, plain_pdf: bytes, findings_json: bytes, keyed: Keyed) -> Make:
    """Return what writes a sealed bundle with a plan in it, without asking whether the plan was kept."""

    def write(plan: Plan, *, named: str | None = None) -> Path:
        folder = tmp_path / "planned"
        write_bundle(folder, plain_pdf, findings_json, keyed.signer, plan=plan)
        (folder / "certificate.pem").write_bytes(keyed.signer.certificate.pem)
        reseal(folder, keyed, predicate={**claims(folder), "plan": named or plan.statement.digest})
        return folder

    return write


def check(folder: Path, keyed: Keyed) -> Check:
    """Return what the verifier says of the plan."""
    return verify_bundle(folder, trusted=keyed.files.certificate_path)[CheckName.PLAN]


def test_an_audit_that_kept_its_plan_says_when_it_was_sealed(
    plain_pdf: bytes, findings_json: bytes, keyed: Keyed, tmp_path: Path
) -> None:
    """The bundle is sealed with the plan in it, and every check holds."""
    plan = make_plan(keyed, at=BEFORE)
    folder = tmp_path / "bundle"
    write_bundle(folder, plain_pdf, findings_json, keyed.signer, plan=plan)
    predicate = {**claims(folder), "plan": plan.statement.digest}
    seal_bundle(folder, keyed.signer, predicate=predicate, signed_at=SIGNED_AT, tool_version="0.1.0")
    result = verify_bundle(folder, trusted=keyed.files.certificate_path)
    assert result.verdict == "valid"
    assert result[CheckName.PLAN].status is CheckStatus.PASS
    assert BEFORE.isoformat() in result[CheckName.PLAN].detail


def test_without_a_plan_nothing_is_claimed(bundle: Path, keyed: Keyed) -> None:
    """No plan is no failure and no pass."""
    found = check(bundle, keyed)
    assert found.status is CheckStatus.NOT_CHECKED
    assert "may have been chosen afterwards" in found.detail


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"model": {**FINDINGS["model"], "digest": "sha256:" + "0" * 64}}, "model.digest"),
        ({"saes": []}, "saes"),
        ({"controls": [{"name": "frozen", "digest": "sha256:" + "9" * 64}]}, "controls"),
        ({"suites": [{**FINDINGS["suites"][0], "prompts": 5}, FINDINGS["suites"][1]]}, "suites[0].prompts"),
        ({"prompt_format": "plain"}, "format"),
        ({"config": {"analysis": {"fdr_q": 0.01, "seed": 1}, "report": {"title": "Audit"}}}, "config.analysis.fdr_q"),
        ({"config": {"analysis": {"fdr_q": 0.05}, "report": {"title": "Audit"}}}, "config.analysis.seed"),
        ({"version": "0.0.9"}, "tool.version"),
        ({"code": "sha256:" + "0" * 64}, "tool.code"),
    ],
)
def test_an_audit_that_left_its_plan_is_found_out(
    changes: dict[str, Json], where: str, make: Make, keyed: Keyed
) -> None:
    """Whatever differs is named with its place, although the same key sealed both."""
    found = check(make(make_plan(keyed, at=BEFORE, **changes)), keyed)
    assert found.status is CheckStatus.FAIL
    assert f"not the planned one: {where}" in found.detail
    assert found.files == ("plan.sigstore.json",)


def test_one_is_no_true_and_text_is_no_number(keyed: Keyed) -> None:
    """Values are compared as JSON: a seed of 1 is not `true`, and 0.05 is not "0.05"."""
    plan = make_plan(keyed, at=BEFORE)
    found = json.loads(canonical_json(dict(plan.content)))
    assert plan_differences(plan, found) == []
    found["config"]["analysis"] = {"fdr_q": "0.05", "seed": True}
    assert len(plan_differences(plan, found)) == 2


def test_more_controls_than_promised_are_no_difference(keyed: Keyed) -> None:
    """The untrained controls are made during the audit, from the seed that the plan holds."""
    plan = make_plan(keyed, at=BEFORE, controls=[])
    found = {**plan.content, "controls": [{"name": "random-directions", "digest": "sha256:" + "1" * 64}]}
    assert plan_differences(plan, found) == []


def test_a_plan_sealed_after_the_audit_began_is_no_plan(make: Make, keyed: Keyed) -> None:
    """T: pre-registration after the fact."""
    found = check(make(make_plan(keyed, at=SIGNED_AT + timedelta(seconds=1))), keyed)
    assert found.status is CheckStatus.FAIL
    assert "after the audit began" in found.detail


def test_a_plan_that_the_statement_does_not_name_fails(make: Make, keyed: Keyed) -> None:
    """Exchanging the plan for another one shows, and so does leaving it out of the statement."""
    folder = make(make_plan(keyed, at=BEFORE), named="sha256:" + "0" * 64)
    assert check(folder, keyed).status is CheckStatus.FAIL
    reseal(folder, keyed, predicate=claims(folder))
    assert check(folder, keyed).status is CheckStatus.FAIL


def test_a_manifest_that_says_another_time_fails(make: Make, keyed: Keyed) -> None:
    """The reports print the manifest's word of the plan."""
    plan = make_plan(keyed, at=BEFORE)
    folder = make(plan)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["run"]["plan"]["signed_at"] = "2020-01-01T00:00:00+00:00"
    (folder / "manifest.json").write_bytes(canonical_json(manifest))
    reseal(folder, keyed, predicate={**claims(folder), "plan": plan.statement.digest})
    found = check(folder, keyed)
    assert found.status is CheckStatus.FAIL
    assert "manifest.json says something else of the plan" in found.detail


def test_a_plan_by_another_seal_is_not_believed_unasked(make: Make, keyed: Keyed, other_keyed: Keyed) -> None:
    """A look-alike's plan in a bundle of the trusted sealer is named with its fingerprint, and no pass."""
    found = check(make(make_plan(other_keyed, at=BEFORE)), keyed)
    assert found.status is CheckStatus.NOT_CHECKED
    assert other_keyed.files.certificate.fingerprint in found.detail


def test_a_plan_is_written_once(tmp_path: Path, keyed: Keyed) -> None:
    """The file is never overwritten, nothing half-written stays, and the certificate must be valid at that time."""
    plan = make_plan(keyed, at=BEFORE)
    path = tmp_path / "folder" / "plan.json"
    write_detached(path, plan.statement, keyed.signer)
    assert read_plan(path.read_bytes(), item="plan").statement.digest == plan.statement.digest
    data = path.read_bytes()
    with pytest.raises(OutputError, match="one that exists"):
        write_detached(path, plan.statement, keyed.signer)
    assert [p.name for p in path.parent.iterdir()] == ["plan.json"]
    assert path.read_bytes() == data
    old = make_plan(keyed, at=BEFORE).statement
    late = build_statement(
        old.subjects,
        {"plan": {}},
        signer=old.signer,
        signed_at=SIGNED_AT + timedelta(days=9999),
        tool_version="0.1.0",
        kind=StatementKind.PLAN,
    )
    with pytest.raises(KeyProblem):
        write_detached(tmp_path / "late.json", late, keyed.signer)


def test_a_detached_statement_is_of_one_kind_by_one_signer_in_time(keyed: Keyed, other_keyed: Keyed) -> None:
    """Another kind, a signer's name that is not the certificate's, a moment out of range, any changed byte."""
    plan = make_plan(keyed, at=BEFORE)

    def read(data: bytes, kind: StatementKind = StatementKind.PLAN) -> None:
        read_detached(data, kind=kind, item="plan", now=SIGNED_AT)

    read(plan.data)
    with pytest.raises(EvidenceError, match="approval/v1"):
        read(plan.data, StatementKind.APPROVAL)
    with pytest.raises(EvidenceError, match="another signer"):
        read(sign_payload(plan.statement.payload, other_keyed.signer))
    for days in (-365, 1, 9999):
        at = SIGNED_AT + timedelta(days=days)
        block = SignerBlock.of(keyed.signer.certificate)
        statement = build_statement(
            plan.statement.subjects, {}, signer=block, signed_at=at, tool_version="0", kind=StatementKind.PLAN
        )
        with pytest.raises(EvidenceError, match="moment"):
            read(sign_payload(statement.payload, keyed.signer))
    for place in range(0, len(plan.data), 61):
        with pytest.raises(EvidenceError):
            read(plan.data[:place] + bytes([plan.data[place] ^ 1]) + plan.data[place + 1 :])


def test_a_plan_whose_subject_is_another_one_is_refused(keyed: Keyed) -> None:
    """The digest that stands in front must be that of the plan behind it."""
    plan = make_plan(keyed, at=BEFORE)
    statement = build_statement(
        {"plan": "sha256:" + "0" * 64},
        {"plan": dict(plan.content)},
        signer=plan.statement.signer,
        signed_at=BEFORE,
        tool_version="0.1.0",
        kind=StatementKind.PLAN,
    )
    with pytest.raises(EvidenceError, match="subject"):
        read_plan(sign_payload(statement.payload, keyed.signer), item="plan")
