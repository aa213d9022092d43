"""No false alarm: bundles of many kinds that nobody touched pass every check that can be made."""

from __future__ import annotations

import json
import random
import shutil
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pikepdf

from audit.digests import Json, canonical_json
from audit.signing.checks import CheckName, CheckStatus
from audit.signing.seal import seal_bundle
from audit.signing.statement import Statement
from audit.signing.verify import verify_bundle
from tests.signing.bundle_making import SIGNED_AT, Keyed, claims, make_keyed, make_plan, write_bundle

BUNDLES = 50
NAMES = ("Acme seal", "Krankenhaus Süd: KI-Prüfung", "審査の印", 'O\'Hara & Sons "audit"', "<b>Bank</b>", "x" * 64)
NOTES = ("", "é", "</script>", "😀" * 40, "a\u202eb", "\u0000", "0.1", "long " * 2000)


def test_fifty_untouched_bundles_raise_no_alarm(
    tmp_path: Path, plain_pdf: bytes, findings_json: bytes, keyed: Keyed, rsa_keyed: Keyed
) -> None:
    """Both algorithms, odd names and texts, with and without plan, first and later in a series, moved afterwards."""
    rng = random.Random(20260102)  # noqa: S311 - reproducible, not secret
    seals = [keyed, rsa_keyed]
    seals += [make_keyed(tmp_path / f"key-{n}", name) for n, name in enumerate(NAMES)]
    previous: Statement | None = None
    alarms = []
    for number in range(BUNDLES):
        seal = rng.choice(seals)
        at = SIGNED_AT + timedelta(seconds=rng.randrange(10_000_000))
        plan = make_plan(rng.choice([seal, keyed]), at=at - timedelta(days=1)) if rng.random() < 0.5 else None
        before = previous if rng.random() < 0.5 else None
        value = json.loads(findings_json)
        value["findings"] = [{"feature": rng.randrange(10**6), "effect": rng.gauss(0, 1), "note": rng.choice(NOTES)}]
        folder = tmp_path / f"bundle-{number}"
        pdf, data = _with(plain_pdf, value), canonical_json(value)
        write_bundle(folder, pdf, data, seal.signer, at=at, previous=before, plan=plan)
        predicate = claims(folder) | ({} if plan is None else {"plan": plan.statement.digest})
        previous = seal_bundle(
            folder,
            seal.signer,
            predicate=predicate,
            signed_at=at,
            tool_version="0.1.0",
            sequence=1 if before is None else before.sequence + 1,
            previous=None if before is None else before.digest,
        )
        moved = shutil.move(folder, tmp_path / f"moved {number} é")
        result = verify_bundle(Path(moved), trusted=seal.files.certificate_path)
        made = {check.name for check in result.checks if check.status is CheckStatus.PASS}
        left = {CheckName.TIMESTAMP, CheckName.PLAN, CheckName.PRINTED_TEXT, CheckName.EXPORTS_AGREE}
        if result.verdict != "valid" or set(CheckName) - made - left - {CheckName.RECOMPUTED}:
            alarms.append((number, result.checks))
        shutil.rmtree(moved)
    assert alarms == []


def _with(pdf: bytes, findings: Json) -> bytes:
    """Return the PDF with these findings attached instead."""
    changed = BytesIO()
    with pikepdf.open(BytesIO(pdf)) as document:
        data = canonical_json(findings)
        document.attachments["findings.json"] = pikepdf.AttachedFileSpec(document, data, filename="findings.json")
        document.save(changed)
    return changed.getvalue()
