"""`affidavit keys`: makes a key that seals, and shows what a reader must pin."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from audit.cli.keys import keys
from audit.errors import KeyProblem, UsageError
from audit.signing.keys import fingerprint, load_signer
from tests.signing.authorities import three_deep


def test_new_makes_a_key_and_prints_the_fingerprint(tmp_path: Path) -> None:
    """The printed fingerprint is the certificate's; `show` prints the same; nothing secret is printed."""
    made = CliRunner().invoke(keys, ["new", "--out", str(tmp_path / "k"), "--name", "Seal", "--organisation", "Acme"])
    assert made.exit_code == 0
    signer = load_signer(tmp_path / "k" / "key.pem", tmp_path / "k" / "certificate.pem", at=datetime.now(UTC))
    assert signer.certificate.fingerprint in made.output
    assert "--trust" in made.output
    assert "NOT encrypted" in made.output
    assert "PRIVATE" not in made.output
    shown = CliRunner().invoke(keys, ["show", str(tmp_path / "k" / "certificate.pem"), "--json"])
    value = json.loads(shown.output)
    assert value["fingerprint"] == signer.certificate.fingerprint
    assert (value["common_name"], value["organisation"]) == ("Seal", "Acme")
    text = CliRunner().invoke(keys, ["show", str(tmp_path / "k" / "certificate.pem")])
    assert signer.certificate.fingerprint in text.output


def test_the_passphrase_comes_from_the_named_variable(tmp_path: Path) -> None:
    """Encrypted with it, and never printed."""
    made = CliRunner(env={"SEAL_PW": "hunter22"}).invoke(
        keys,
        ["new", "--out", str(tmp_path), "--name", "Seal", "--passphrase-env", "SEAL_PW", "--algorithm", "rsa-3072"],
    )
    assert made.exit_code == 0
    assert "hunter22" not in made.output
    load_signer(tmp_path / "key.pem", tmp_path / "certificate.pem", "hunter22", at=datetime.now(UTC))


def test_the_passphrase_can_be_asked_for(tmp_path: Path) -> None:
    """Typed twice; the prompt does not echo it."""
    arguments = ["new", "--out", str(tmp_path), "--name", "Seal", "--ask-passphrase"]
    made = CliRunner().invoke(keys, arguments, input="pw\npw\n")
    assert made.exit_code == 0
    load_signer(tmp_path / "key.pem", tmp_path / "certificate.pem", "pw", at=datetime.now(UTC))


def test_mistakes_are_errors_of_the_tree(tmp_path: Path) -> None:
    """The top-level command maps them to exit codes."""
    base = ["new", "--out", str(tmp_path), "--name", "Seal"]
    assert isinstance(CliRunner().invoke(keys, [*base, "--passphrase-env", "UNSET_X"]).exception, KeyProblem)
    both = CliRunner().invoke(keys, [*base, "--passphrase-env", "X", "--ask-passphrase"])
    assert isinstance(both.exception, UsageError)
    assert CliRunner().invoke(keys, base).exit_code == 0
    assert isinstance(CliRunner().invoke(keys, base).exception, KeyProblem)
    with pytest.raises(KeyProblem):
        CliRunner().invoke(keys, ["show", str(tmp_path / "none")], catch_exceptions=False)


def test_new_says_how_to_publish_the_fingerprint(tmp_path: Path) -> None:
    """Where, in which words, and how readers compare and pin it."""
    made = CliRunner().invoke(keys, ["new", "--out", str(tmp_path), "--name", "Seal"])
    signer = load_signer(tmp_path / "key.pem", tmp_path / "certificate.pem", at=datetime.now(UTC))
    assert f"SHA-256 {signer.certificate.fingerprint}" in made.output
    for words in ("not inside the bundle", ".well-known", "openssl x509", "affidavit verify BUNDLE --trust"):
        assert words in made.output


def test_show_lists_the_certificates_above(tmp_path: Path) -> None:
    """Of a PEM chain and of a PKCS#12 file, with its passphrase from the named variable."""
    seal, root = three_deep()
    _, chain = seal.write(tmp_path, root=True)
    encryption = serialization.BestAvailableEncryption(b"pw")
    bag = pkcs12.serialize_key_and_certificates(b"s", seal.key, seal.certificate, seal.above, encryption)
    (tmp_path / "seal.p12").touch(mode=0o600)
    (tmp_path / "seal.p12").write_bytes(bag)
    pem = CliRunner().invoke(keys, ["show", str(chain)])
    assert pem.exit_code == 0
    assert [line.split()[2] for line in pem.output.splitlines() if line.startswith("issued by")] == [
        "CN=Issuing",
        "CN=Policy",
        "CN=Root",
    ]
    assert fingerprint(root.certificate) in pem.output
    arguments = ["show", str(tmp_path / "seal.p12"), "--passphrase-env", "P12", "--json"]
    bagged = CliRunner(env={"P12": "pw"}).invoke(keys, arguments)
    assert [issuer["fingerprint"] for issuer in json.loads(bagged.output)["issuers"]] == [
        fingerprint(it) for it in seal.above
    ]
    wrong = CliRunner(env={"P12": "no"}).invoke(keys, arguments)
    assert isinstance(wrong.exception, KeyProblem)
