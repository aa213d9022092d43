"""The private key stays in its file: no byte that is written or printed holds it, and no other user may read it."""

from __future__ import annotations

import base64
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from audit.errors import KeyProblem
from audit.signing.keys import KeyKind, load_signer, new_sealing_key
from audit.signing.seal import seal_bundle
from audit.signing.verify import verify_bundle
from tests.signing.bundle_making import NOT_BEFORE, SIGNED_AT, Keyed, claims, write_bundle


def secrets_of(pair: Keyed) -> list[bytes]:
    """Return the key's secret numbers and its DER, each in the spellings in which they could leak."""
    key = pair.signer.key.private_key
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    numbers = key.private_numbers()
    is_ec = isinstance(key, ec.EllipticCurvePrivateKey)
    scalars = [numbers.private_value] if is_ec else [numbers.d, numbers.p, numbers.q]
    raw = [scalar.to_bytes((scalar.bit_length() + 7) // 8, "big") for scalar in scalars]
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    # The last line of an ECDSA key is a part of its public point, which certificates hold too.
    pem = pair.files.key_path.read_bytes().splitlines()[1 : -2 if is_ec else -1]
    spelt = [text for secret in (*raw, der) for text in (secret, secret.hex().encode(), base64.b64encode(secret))]
    return [*spelt, *(str(scalar).encode() for scalar in scalars), *pem]


@pytest.mark.parametrize("which", ["keyed", "rsa_keyed"])
def test_nothing_that_is_written_or_logged_holds_the_key(  # noqa: PLR0917 - fixtures
    which: str,
    request: pytest.FixtureRequest,
    plain_pdf: bytes,
    findings_json: bytes,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A sealed bundle, every log record down to DEBUG, both streams, the repr; and the search finds a planted one."""
    pair: Keyed = request.getfixturevalue(which)
    caplog.set_level(logging.DEBUG)
    signer = load_signer(pair.files.key_path, pair.files.certificate_path, at=SIGNED_AT)
    write_bundle(tmp_path / "b", plain_pdf, findings_json, signer)
    seal_bundle(tmp_path / "b", signer, predicate=claims(tmp_path / "b"), signed_at=SIGNED_AT, tool_version="0.1.0")
    assert verify_bundle(tmp_path / "b", trusted=pair.files.certificate_path).trusted
    written = b"\0".join(path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file())
    printed = "".join(capfd.readouterr()) + caplog.text + repr(signer) + repr(pair)
    haystack = written + printed.encode()
    secrets = secrets_of(pair)
    assert not [secret for secret in secrets if secret in haystack]
    assert any(secret in haystack + pair.files.key_path.read_bytes() for secret in secrets)


def test_an_error_about_a_key_quotes_nothing_of_it(tmp_path: Path, keyed: Keyed, other_keyed: Keyed) -> None:
    """A cut-off key, one with a broken line, one that is not the certificate's."""
    whole = keyed.files.key_path.read_bytes()
    cases = {"cut.pem": whole[:-60], "broken.pem": whole.replace(b"M", b"N", 1), "whole.pem": whole}
    for name, data in cases.items():
        path = tmp_path / name
        path.touch(mode=0o600)
        path.write_bytes(data)
        with pytest.raises(KeyProblem) as caught:
            load_signer(path, other_keyed.files.certificate_path, at=SIGNED_AT)
        chain, told = caught.value, ""
        while chain is not None:
            told, chain = f"{told}{chain}{chain!r}", chain.__cause__
        assert not [secret for secret in secrets_of(keyed) if secret.decode("latin-1") in told]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, keyed: Keyed, mode: int) -> None:
    """PEM and PKCS#12 alike, with the command that mends it; owner-only modes are taken."""
    for name in ("key.pem", "key.p12"):
        path = tmp_path / name
        path.write_bytes(keyed.files.key_path.read_bytes())
        path.chmod(mode)
        with pytest.raises(KeyProblem, match=f"mode {mode:04o}") as caught:
            load_signer(path, keyed.files.certificate_path, at=SIGNED_AT)
        assert "chmod 600" in caught.value.hint
    for own in (0o600, 0o400):
        (tmp_path / "key.pem").chmod(own)
        load_signer(tmp_path / "key.pem", keyed.files.certificate_path, at=SIGNED_AT)


def test_the_command_line_prints_no_secret(tmp_path: Path) -> None:
    """`keys new`, `keys show` and a failing `run`, as processes: stdout and stderr hold neither key nor passphrase."""
    made = new_sealing_key(
        tmp_path / "k", "Seal", organisation=None, days=9, not_before=NOT_BEFORE, algorithm=KeyKind.ECDSA_P256
    )
    loaded = load_signer(made.key_path, made.certificate_path, at=NOT_BEFORE)
    secrets = secrets_of(Keyed(made, loaded))
    for arguments in (
        ["keys", "show", str(made.certificate_path)],
        ["keys", "show", str(made.key_path)],
        ["run", "--key", str(made.key_path), "--passphrase-env", "PW", "--out", str(tmp_path / "o")],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "audit", *arguments],
            capture_output=True,
            check=False,
            env={"PW": "correct horse", "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert done.returncode in {0, 2}, done.stderr
        said = done.stdout + done.stderr
        assert b"correct horse" not in said
        assert not [secret for secret in secrets if secret in said]
