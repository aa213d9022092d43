"""Bundles that the first version sealed, kept as they are: every later version must verify them, and find them changed.

`making.py` beside this file says how they were made. They are never made again.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from audit.cli.root import run
from audit.digests import digest_file
from audit.signing.checks import CheckName, CheckStatus
from audit.signing.verify import verify_bundle

HERE = Path(__file__).parent
SEAL, TSA_ROOT, PERSON = HERE / "seal.pem", HERE / "timestamp-root.pem", HERE / "person.pem"
ARCHIVE_DIGEST = "sha256:235050e4a84f995edf8ff1fe35ea9313b04e40fd644103a2119de9b14aa2c487"
STATEMENT_DIGESTS = {
    "first": "sha256:3cfffe2ab085601e018cf182040bdd5b0fc471a11e9b49f189d6e56f40057452",
    "second": "sha256:2b1e3bb0efdb46112199552fd865adcc39af757a3f5228758a63d681b1cc81bf",
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with both bundles."""
    folder = tmp_path_factory.mktemp("evidence_v1")
    with tarfile.open(HERE / "bundles.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_the_archive_is_the_one_that_was_made() -> None:
    """Whoever replaces it takes away what this folder is for."""
    assert digest_file(HERE / "bundles.tar.xz") == ARCHIVE_DIGEST


@pytest.mark.parametrize("name", STATEMENT_DIGESTS)
def test_this_version_verifies_what_the_first_version_sealed(name: str, bundles: Path) -> None:
    """Every check that the first version passed passes: files, seal, timestamp, records, plan."""
    result = verify_bundle(bundles / name, trusted=SEAL, trusted_tsa=TSA_ROOT)
    assert result.verdict == "valid", [c for c in result.checks if c.status is CheckStatus.FAIL]
    passed = {check.name for check in result.checks if check.status is CheckStatus.PASS}
    left = {CheckName.PRINTED_TEXT, CheckName.EXPORTS_AGREE, CheckName.RECOMPUTED}
    assert passed >= set(CheckName) - left - ({CheckName.PLAN} if name == "second" else set())
    assert result.statement is not None
    assert result.statement.digest == STATEMENT_DIGESTS[name]


def test_the_commands_read_them(bundles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The approval holds, the series is whole, the report alone verifies."""
    trust = ["--trust", str(SEAL)]
    assert run(["verify", str(bundles / "first"), *trust, "--trust-approver", str(PERSON), "--json"]) == 0
    (approval,) = json.loads(capsys.readouterr().out)["approvals"]
    assert (approval["status"], approval["name"], approval["meaning"]) == ("pass", "A. Reviewer", "review")
    assert run(["chain", str(bundles), *trust]) == 0
    assert capsys.readouterr().out.endswith("2 audits, unbroken\n")
    assert run(["verify", str(bundles / "first" / "report.pdf"), *trust]) == 0


def test_changed_bytes_are_still_found(bundles: Path) -> None:
    """One byte of each kind of file."""
    folder = bundles / "first"
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or (path.parent.name == "activations" and not path.name.startswith("0")):
            continue
        original = path.read_bytes()
        middle = len(original) // 2
        path.write_bytes(original[:middle] + bytes([original[middle] ^ 1]) + original[middle + 1 :])
        result = verify_bundle(folder, trusted=SEAL)
        assert not result.ok, path
        path.write_bytes(original)
    assert verify_bundle(folder, trusted=SEAL).ok


def test_poppler_reads_the_seal(bundles: Path) -> None:
    """A tool of others agrees."""
    said = subprocess.run(
        ["pdfsig", bundles / "first" / "report.pdf"], capture_output=True, text=True, check=False
    ).stdout
    assert "Signature is Valid" in said
    assert "Total document signed" in said
