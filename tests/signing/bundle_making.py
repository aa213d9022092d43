"""What the tests of the signing room share: a moment, keys, and an unsealed bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pikepdf

from audit.config import SealLevel
from audit.digests import Json, canonical_json, digest_file
from audit.packing import PACKED_TYPE, pack
from audit.signing.bundle_files import scan_folder
from audit.signing.dsse import sign_payload
from audit.signing.keys import KeyKind, SealingKey, Signer, load_signer, new_sealing_key
from audit.signing.pdf import sign_pdf
from audit.signing.plan import MEASURING_CODE, Plan, plan_content, plan_info, plan_statement, read_plan
from audit.signing.statement import SignerBlock, Statement, build_statement

SIGNED_AT = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
NOT_BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
FINDINGS = {
    "schema": "affidavit/findings/6",
    "model": {"name": "small", "digest": "sha256:" + "a" * 64, "layers": 2},
    "saes": [{"record": {"name": "small.resid_post.1", "digest": "sha256:" + "b" * 64, "width": 8}}],
    "suites": [
        {"id": "finance", "digest": "sha256:" + "c" * 64, "prompts": 4},
        {"id": "defense", "digest": "sha256:" + "d" * 64, "prompts": 6},
    ],
    "concepts": [],
    "format": "chat",
    "ladder": {"confirmed": 1},
    "findings": [{"feature": 17, "effect": 0.25, "note": "</script> <b>é"}],
}
CONTROL = {"name": "random-directions", "digest": "sha256:" + "e" * 64}
ATTESTATION = "attestation.sigstore.json"
CODE = "sha256:" + "f" * 64
CONFIG: dict[str, Json] = {"analysis": {"fdr_q": 0.05, "seed": 1}, "report": {"title": "Audit"}}


@dataclass(frozen=True, slots=True)
class Keyed:
    """A key on disk and the signer loaded from it."""

    files: SealingKey
    signer: Signer


def make_keyed(folder: Path, name: str, algorithm: KeyKind = KeyKind.ECDSA_P256) -> Keyed:
    """Return a new key, valid at SIGNED_AT."""
    files = new_sealing_key(
        folder, name, organisation="Acme Audits", days=730, not_before=NOT_BEFORE, algorithm=algorithm
    )
    return Keyed(files, load_signer(files.key_path, files.certificate_path, at=SIGNED_AT))


def write_bundle(
    folder: Path,
    pdf: bytes,
    findings: bytes,
    signer: Signer,
    *,
    at: datetime = SIGNED_AT,
    tsa_url: str = "",
    previous: Statement | None = None,
    plan: Plan | None = None,
) -> None:
    """Write an unsealed bundle with every kind of file of the layout; its PDF is sealed."""
    (folder / "activations").mkdir(parents=True)
    (folder / "exports").mkdir()
    (folder / "findings.json").write_bytes(findings)
    (folder / "evidence.duckdb").write_bytes(bytes(range(256)))
    (folder / "activations" / "shard-0.parquet").write_bytes(b"PAR1" + bytes(64) + b"PAR1")
    (folder / "exports" / "summary.md").write_text("# Summary\n", encoding="utf-8")
    html = f'<!doctype html><p>x</p><script type="{PACKED_TYPE}" id="affidavit-findings">{pack(findings)}</script>'
    (folder / "report.html").write_text(html, encoding="utf-8")
    if plan is not None:
        (folder / "plan.sigstore.json").write_bytes(plan.data)
    write_manifest(folder, signer, at=at, previous=previous, plan=plan)
    attached = attach_manifest(pdf, folder)
    level = SealLevel.B_T if tsa_url else SealLevel.B_B
    sealed = sign_pdf(attached, signer, signed_at=at, reason="r", level=level, tsa_url=tsa_url)
    (folder / "report.pdf").write_bytes(sealed)


def write_manifest(
    folder: Path,
    signer: Signer,
    *,
    at: datetime = SIGNED_AT,
    previous: Statement | None = None,
    plan: Plan | None = None,
    config: Mapping[str, Json] = CONFIG,
) -> None:
    """Write the manifest that an honest run would write over the evidence as it is."""
    names = ["findings.json", "evidence.duckdb", "activations/shard-0.parquet", "exports/summary.md"]
    names += ["plan.sigstore.json"] if plan is not None else []
    before = None if previous is None else {"sequence": previous.sequence, "digest": previous.digest}
    block = SignerBlock.of(signer.certificate)
    manifest = {
        "schema": "affidavit/manifest/1",
        "run": {
            "created_at": at.isoformat(),
            "findings_digest": digest_file(folder / "findings.json"),
            "seal": {**block.as_json(), "organisation": block.organisation or ""},
            "tool_version": "0.1.0",
            "environment": {MEASURING_CODE: CODE},
            "config": config,
            "previous": before,
            "plan": None if plan is None else plan_info(plan),
        },
        "model": FINDINGS["model"],
        "saes": [FINDINGS["saes"][0]["record"]],
        "controls": [CONTROL],
        "suites": FINDINGS["suites"],
        "format": "chat",
        "ladder": FINDINGS["ladder"],
        "files": {name: digest_file(folder / name) for name in names},
    }
    (folder / "manifest.json").write_bytes(canonical_json(manifest))


def attach_manifest(pdf: bytes, folder: Path) -> bytes:
    """Return the unsigned PDF with the folder's manifest.json attached."""
    changed = BytesIO()
    with pikepdf.open(BytesIO(pdf)) as document:
        data = (folder / "manifest.json").read_bytes()
        document.attachments["manifest.json"] = pikepdf.AttachedFileSpec(document, data, filename="manifest.json")
        document.save(changed)
    return changed.getvalue()


def claims(folder: Path) -> dict[str, Json]:
    """Return the predicate that an honest run would sign over the findings as they are."""
    return {
        "findings": digest_file(folder / "findings.json"),
        "model": {key: FINDINGS["model"][key] for key in ("name", "digest")},
        "saes": [{key: sae["record"][key] for key in ("name", "digest")} for sae in FINDINGS["saes"]],
        "suites": {suite["id"]: suite["digest"] for suite in FINDINGS["suites"]},
        "ladder": FINDINGS["ladder"],
    }


def reseal(folder: Path, keyed: Keyed, *, predicate: dict[str, Json] | None = None, **changes: object) -> None:
    """Sign the folder as it is, without the checks that `seal_bundle` makes first: a dishonest signer."""
    arguments: dict[str, object] = {
        "signer": SignerBlock.of(keyed.signer.certificate),
        "signed_at": SIGNED_AT,
        "tool_version": "0.1.0",
    }
    (folder / ATTESTATION).unlink(missing_ok=True)
    claimed = claims(folder) if predicate is None else predicate
    statement = build_statement(scan_folder(folder).digests, claimed, **(arguments | changes))
    (folder / ATTESTATION).write_bytes(sign_payload(statement.payload, keyed.signer))


def make_plan(keyed: Keyed, *, at: datetime, **changes: Json) -> Plan:
    """Return a sealed plan of the audit that `write_bundle` writes, with what `changes` says instead."""
    promised: dict[str, Json] = {
        "model": FINDINGS["model"],
        "saes": [FINDINGS["saes"][0]["record"]],
        "controls": [CONTROL],
        "suites": FINDINGS["suites"],
        "prompt_format": "chat",
        "config": CONFIG,
        "version": "0.1.0",
        "code": CODE,
    }
    content = plan_content(**(promised | changes))
    block = SignerBlock.of(keyed.signer.certificate)
    statement = plan_statement(content, signer=block, signed_at=at, version="0.1.0")
    return read_plan(sign_payload(statement.payload, keyed.signer), item="plan")
