"""What the tests of the signing room share: a moment, keys, and an unsealed bundle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from audit.digests import digest_file
from audit.signing.keys import KeyKind, SealingKey, Signer, load_signer, new_sealing_key

SIGNED_AT = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
NOT_BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
FINDINGS = {"schema": "affidavit/findings/1", "findings": [{"feature": 17, "effect": 0.25, "note": "</script> <b>é"}]}


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


def write_bundle(folder: Path, pdf: bytes, findings: bytes) -> None:
    """Write an unsealed bundle with every kind of file of the layout."""
    (folder / "activations").mkdir(parents=True)
    (folder / "exports").mkdir()
    (folder / "findings.json").write_bytes(findings)
    (folder / "evidence.duckdb").write_bytes(bytes(range(256)))
    (folder / "activations" / "shard-0.parquet").write_bytes(b"PAR1" + bytes(64) + b"PAR1")
    (folder / "exports" / "summary.md").write_text("# Summary\n", encoding="utf-8")
    embedded = findings.decode().replace("<", "\\u003c")
    html = f'<!doctype html><p>x</p><script type="application/json" id="affidavit-findings">{embedded}</script>'
    (folder / "report.html").write_text(html, encoding="utf-8")
    (folder / "report.pdf").write_bytes(pdf)
    names = ["findings.json", "evidence.duckdb", "activations/shard-0.parquet"]
    manifest = {"schema": "affidavit/manifest/1", "files": {name: digest_file(folder / name) for name in names}}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
