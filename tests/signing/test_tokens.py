"""Sealing keys in a token, SoftHSM's: the PDF and the statement are signed there, and the key stays there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from audit.cli.run import run
from audit.errors import EnvironmentProblem, ExitCode, KeyProblem
from audit.signing.algorithms import PrivateKey, verify_message
from audit.signing.keys import KeyKind, load_signer
from audit.signing.seal import seal_bundle
from audit.signing.tokens import TokenKey, load_token_signer, parse_address
from audit.signing.verify import verify_bundle
from tests.signing.authorities import three_deep
from tests.signing.bundle_making import NOT_BEFORE, SIGNED_AT, Keyed, claims, make_keyed, write_bundle

pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
PLACES = (Path("/usr/lib/softhsm/libsofthsm2.so"), Path("/usr/local/lib/softhsm/libsofthsm2.so"))
MODULE = next((path for path in PLACES if path.exists()), None)
pytestmark = pytest.mark.skipif(
    MODULE is None or shutil.which("softhsm2-util") is None, reason="softhsm2 is not installed"
)
PIN = "271828"
NAME = "affidavit test"


@dataclass(frozen=True, slots=True)
class Hsm:
    """A token with keys in it, their files, and the folder in which SoftHSM keeps it."""

    folder: Path
    ecdsa: Keyed
    rsa: Keyed
    chain: Path

    def sign_with(self, label: str, cert: Path | None, *, pin: str = PIN) -> TokenKey:
        """Return the loaded signer's key."""
        address = parse_address(f"pkcs11:token={NAME.replace(' ', '%20')};object={label}", MODULE)
        key = load_token_signer(address, cert, pin, at=SIGNED_AT).key
        assert isinstance(key, TokenKey)
        return key


def put(private_key: PrivateKey, label: str, number: int, folder: Path) -> None:
    """Import a key, which SoftHSM makes sensitive and not extractable."""
    path = folder / f"{label}.p8"
    path.write_bytes(
        private_key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    subprocess.run(
        ["softhsm2-util", "--import", path, "--token", NAME, "--label", label, "--id", f"{number:02x}", "--pin", PIN],
        check=True,
        capture_output=True,
    )
    path.unlink()


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hsm]:
    """A token with an ECDSA key, an RSA key, two keys of one label, and a chain of certificates for one of them."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\n", encoding="utf-8")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", NAME, "--pin", PIN, "--so-pin", "31415926"],
        check=True,
        capture_output=True,
    )
    ecdsa, rsa_pair = make_keyed(folder / "e", "Token seal"), make_keyed(folder / "r", "Token RSA", KeyKind.RSA_3072)
    twin, issued = make_keyed(folder / "t", "Twin"), three_deep()[0]
    for number, (key, label) in enumerate(
        [
            (ecdsa.signer.key.private_key, "ecdsa"),
            (rsa_pair.signer.key.private_key, "rsa"),
            (twin.signer.key.private_key, "twin"),
            (ecdsa.signer.key.private_key, "twin"),
            (issued.key, "issued"),
        ],
        start=1,
    ):
        put(key, label, number, folder)
    with pkcs11.lib(str(MODULE)).get_token(token_label=NAME).open(rw=True, user_pin=PIN) as session:
        for number, certificate in enumerate((issued.certificate, *issued.above)):
            session.create_object(
                {
                    pkcs11.Attribute.CLASS: pkcs11.ObjectClass.CERTIFICATE,
                    pkcs11.Attribute.CERTIFICATE_TYPE: pkcs11.CertificateType.X_509,
                    pkcs11.Attribute.TOKEN: True,
                    pkcs11.Attribute.LABEL: "chain",
                    pkcs11.Attribute.ID: bytes([5 if number == 0 else 0x20 + number]),
                    pkcs11.Attribute.SUBJECT: certificate.subject.public_bytes(),
                    pkcs11.Attribute.VALUE: certificate.public_bytes(Encoding.DER),
                }
            )
    (folder / "issued.pem").write_bytes(issued.pem)
    yield Hsm(folder, ecdsa, rsa_pair, folder / "issued.pem")
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.mark.parametrize("label", ["ecdsa", "rsa"])
def test_statement_and_pdf_are_sealed_in_the_token(
    label: str, hsm: Hsm, plain_pdf: bytes, findings_json: bytes, tmp_path: Path
) -> None:
    """A bundle that verifies like any other; the signer holds an address and no key."""
    pair: Keyed = getattr(hsm, label)
    address = parse_address(f"pkcs11:token={NAME.replace(' ', '%20')};object={label}?module-path={MODULE}", None)
    signer = load_token_signer(address, pair.files.certificate_path, PIN, at=SIGNED_AT)
    folder = tmp_path / "b"
    write_bundle(folder, plain_pdf, findings_json, signer)
    seal_bundle(folder, signer, predicate=claims(folder), signed_at=SIGNED_AT, tool_version="0.1.0")
    assert verify_bundle(folder, trusted=pair.files.certificate_path).verdict == "valid"
    assert not hasattr(signer.key, "private_key")
    assert PIN not in repr(signer)
    assert PIN not in repr(signer.key)


@pytest.mark.usefixtures("hsm")
def test_the_key_cannot_leave_the_token() -> None:
    """Its secret value is not given out, with the PIN neither: so the signatures above were made inside."""
    with pkcs11.lib(str(MODULE)).get_token(token_label=NAME).open(user_pin=PIN) as session:
        key = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label="ecdsa")
        assert key[pkcs11.Attribute.SENSITIVE] is True
        assert key[pkcs11.Attribute.EXTRACTABLE] is False
        with pytest.raises(pkcs11.exceptions.AttributeSensitive):
            key[pkcs11.Attribute.VALUE]


@pytest.mark.usefixtures("hsm")
def test_the_certificate_and_its_chain_come_from_the_token() -> None:
    """By the key's id; a certificate that is there for another end is left out."""
    address = parse_address(f"pkcs11:token={NAME.replace(' ', '%20')};id=%05", MODULE)
    signer = load_token_signer(address, None, PIN, at=SIGNED_AT)
    assert signer.certificate.common_name == "Issued seal"
    assert len(signer.issuers) == 2
    assert signer.root is not None


def test_a_token_s_ecdsa_signature_is_brought_to_its_one_form(hsm: Hsm) -> None:
    """Forty raw signatures are of both kinds; the sealed form has low s always."""
    key = hsm.sign_with("ecdsa", hsm.ecdsa.files.certificate_path)
    address = key.address
    signer = load_token_signer(address, hsm.ecdsa.files.certificate_path, PIN, at=SIGNED_AT)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    raw = [decode_dss_signature(key.sign(b"%d" % n))[1] > order // 2 for n in range(40)]
    assert set(raw) == {True, False}
    for number in range(10):
        signature = signer.sign(b"%d" % number)
        verify_message(signer.certificate.public_key, signature, b"%d" % number, item="x")


def uri(label: str = "ecdsa", token: str = NAME) -> str:
    """Return the address of a key."""
    return f"pkcs11:token={token.replace(' ', '%20')};object={label}"


@pytest.mark.parametrize(
    ("address", "pin", "certificate", "reason"),
    [
        (uri(), "000000", "ecdsa", "Tokens lock after a few wrong ones"),
        (uri(), "1", "ecdsa", "a wrong PIN"),
        (uri(token="other"), PIN, "ecdsa", "no such token"),
        (uri("nothing"), PIN, "ecdsa", "no such key"),
        (uri("twin"), PIN, "ecdsa", "several"),
        (uri(), PIN, "rsa", "another key"),
        (uri("rsa"), PIN, "ecdsa", "another key"),
        (uri("issued"), PIN, "ecdsa", "another key"),
        (uri(), PIN, None, "0 of them"),
        (uri() + ";id=%63", PIN, "ecdsa", "no such key"),
    ],
)
def test_each_mistake_has_its_own_words(address: str, pin: str, certificate: str | None, reason: str, hsm: Hsm) -> None:
    """A usage error that never quotes the PIN."""
    path = getattr(hsm, certificate).files.certificate_path if certificate else None
    with pytest.raises(KeyProblem) as caught:
        load_token_signer(parse_address(address, MODULE), path, pin, at=SIGNED_AT)
    assert reason in caught.value.found
    assert caught.value.exit_code is ExitCode.USAGE
    assert len(pin) == 1 or pin not in str(caught.value)


def test_an_expired_certificate_does_not_wake_the_token(hsm: Hsm) -> None:
    """Refused before the PIN is used."""
    late = NOT_BEFORE + timedelta(days=731)
    with pytest.raises(KeyProblem, match="expired"):
        load_token_signer(parse_address(uri(), MODULE), hsm.ecdsa.files.certificate_path, "000000", at=late)


def test_a_missing_driver_is_an_environment_problem(hsm: Hsm, tmp_path: Path) -> None:
    """No file, or a file that is no driver: exit 4."""
    (tmp_path / "text.so").write_text("no library", encoding="utf-8")
    for driver in (tmp_path / "none.so", tmp_path / "text.so"):
        with pytest.raises(EnvironmentProblem, match="PKCS#11 driver") as caught:
            load_token_signer(parse_address(uri(), driver), hsm.ecdsa.files.certificate_path, PIN, at=SIGNED_AT)
        assert caught.value.exit_code is ExitCode.ENVIRONMENT


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (f"{uri()}?pin-value={PIN}", "pin-value"),
        (f"{uri()}?pin-source=file:/etc/pin", "pin-source"),
        (f"{uri()};pin-value={PIN}", "pin-value"),
        ("pkcs11:object=x", "neither"),
        ("pkcs11:token=a;token=b", "doubled"),
        ("pkcs11:token=a;object", "without a value"),
        ("pkcs11:token=a;slot-id=3", "slot-id"),
        ("pkcs11:token=a;type=cert", "cert"),
    ],
)
def test_an_address_of_another_form_is_refused(address: str, reason: str) -> None:
    """With the attribute's name, and never a PIN."""
    with pytest.raises(KeyProblem) as caught:
        parse_address(address, MODULE)
    assert reason in caught.value.found
    assert PIN not in str(caught.value)


def test_the_driver_must_be_named() -> None:
    """By the address or beside it; percent signs are read."""
    with pytest.raises(KeyProblem, match="driver"):
        parse_address(uri(), None)
    found = parse_address("pkcs11:token=a%3Bb;id=%01%ff?module-path=/x%20y.so", None)
    assert (found.token, found.key_id, found.module) == ("a;b", b"\x01\xff", Path("/x y.so"))


def test_run_asks_for_the_pin_or_takes_it_from_the_variable(hsm: Hsm, tmp_path: Path) -> None:
    """A wrong PIN ends the command before anything is loaded or written; nothing echoes it."""
    certificate = hsm.ecdsa.files.certificate_path
    arguments = [
        "--out",
        str(tmp_path / "o"),
        "--key",
        uri(),
        "--cert",
        str(certificate),
        "--pkcs11-module",
        str(MODULE),
    ]
    arguments += ["--config", str(tmp_path / "audit.toml")]
    (tmp_path / "audit.toml").write_text('[probes]\nsuites = ["finance"]\n', encoding="utf-8")
    asked = CliRunner().invoke(run, arguments, input="000000\n")
    named = CliRunner().invoke(run, [*arguments, "--passphrase-env", "TOKEN_PIN"], env={"TOKEN_PIN": "000000"})
    for done in (asked, named):
        assert isinstance(done.exception, KeyProblem), done.exception
        assert "wrong PIN" in done.exception.found
        assert "000000" not in done.output
    assert not (tmp_path / "o").exists()
    file = CliRunner().invoke(
        run, ["--out", str(tmp_path / "o"), "--key", str(hsm.ecdsa.files.key_path), "--pkcs11-module", str(MODULE)]
    )
    assert "--pkcs11-module" in str(file.exception)


def test_the_file_and_the_token_hold_the_same_kind_of_key(hsm: Hsm) -> None:
    """What one signs the other's certificate verifies: RSA signatures are even equal."""
    key = hsm.sign_with("rsa", hsm.rsa.files.certificate_path)
    in_file = load_signer(hsm.rsa.files.key_path, hsm.rsa.files.certificate_path, at=SIGNED_AT)
    assert isinstance(in_file.key.private_key, rsa.RSAPrivateKey)
    assert key.sign(b"message") == in_file.sign(b"message")
