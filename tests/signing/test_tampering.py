"""Any changed byte in any file of a sealed bundle fails verification, and the file is named."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from audit.digests import canonical_json
from audit.signing.checks import CheckStatus
from audit.signing.verify import verify_bundle
from tests.signing.bundle_making import Keyed

FILES = (
    "activations/shard-0.parquet",
    "attestation.sigstore.json",
    "certificate.pem",
    "evidence.duckdb",
    "exports/summary.md",
    "findings.json",
    "manifest.json",
    "report.html",
    "report.pdf",
)


def test_the_list_above_is_the_whole_bundle(bundle: Path) -> None:
    """No file escapes the attack."""
    assert sorted(p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()) == list(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_fails_and_names_its_file(name: str, bundle: Path, keyed: Keyed) -> None:
    """Flipped, removed, inserted, at seeded positions, the first and the last byte among them."""
    original = (bundle / name).read_bytes()
    rng = random.Random(name)  # noqa: S311 - reproducible, not secret
    positions = {0, len(original) - 1} | {rng.randrange(len(original)) for _ in range(22)}
    for position in sorted(positions):
        flipped = bytes([original[position] ^ (1 << rng.randrange(8))])
        replacement = rng.choice([flipped, flipped, flipped, b"", original[position : position + 1] + b" "])
        (bundle / name).write_bytes(original[:position] + replacement + original[position + 1 :])
        result = verify_bundle(bundle, trusted=keyed.files.certificate_path)
        failed = [check for check in result.checks if check.status is CheckStatus.FAIL]
        assert not result.ok
        assert any(name in check.files and name in check.detail for check in failed), (position, failed)
    (bundle / name).write_bytes(original)
    assert verify_bundle(bundle, trusted=keyed.files.certificate_path).ok


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"x"',
        b"[" * 500_000,
        b'{"a":' * 200_000,
        b'{"mediaType":1,"mediaType":2}',
        b"\xff\xfe",
        b"9" * 10_000,
        b'{"dsseEnvelope":null,"mediaType":null,"verificationMaterial":null}',
        b"\x00" * 100,
    ],
)
def test_a_hostile_attestation_is_a_failure_and_not_a_crash(data: bytes, bundle: Path) -> None:
    """Wrong types, nesting, duplicate keys, binary: FAIL on the first line, nothing passes."""
    (bundle / "attestation.sigstore.json").write_bytes(data)
    result = verify_bundle(bundle, trusted=None)
    assert result.checks[0].status is CheckStatus.FAIL
    assert not any(check.status is CheckStatus.PASS for check in result.checks)


def test_every_value_of_the_attestation_may_have_any_type(bundle: Path) -> None:
    """Each value is replaced by each JSON type: never a traceback, never a pass."""
    path = bundle / "attestation.sigstore.json"
    original = json.loads(path.read_bytes())
    spots = [(), ("mediaType",), ("verificationMaterial",), ("verificationMaterial", "certificate")]
    spots += [("verificationMaterial", "certificate", "rawBytes"), ("dsseEnvelope",), ("dsseEnvelope", "payload")]
    spots += [("dsseEnvelope", "payloadType"), ("dsseEnvelope", "signatures"), ("dsseEnvelope", "signatures", 0)]
    spots += [("dsseEnvelope", "signatures", 0, "sig"), ("dsseEnvelope", "signatures", 0, "keyid")]
    for spot in spots:
        for value in (None, True, 1, -1.5, "", "AAAA", "é", [], [[]], {}, {"a": 1}, ["x"], [{}], [{}, {}]):
            document = {"root": json.loads(json.dumps(original))}
            node, key = document, "root"
            for step in spot:
                node, key = node[key], step
            node[key] = value
            path.write_bytes(canonical_json(document["root"]))
            assert verify_bundle(bundle, trusted=None).ok is False
