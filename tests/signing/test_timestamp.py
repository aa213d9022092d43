"""Level B-T with a real authority: `openssl ts` behind a local HTTP server."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from audit.errors import EnvironmentProblem
from audit.signing.certificates import read_x509_file
from audit.signing.checks import CheckName, CheckStatus
from audit.signing.keys import load_signer, new_sealing_key
from audit.signing.pdf import sign_pdf, verify_pdf
from audit.signing.seal import seal_bundle
from audit.signing.verify import verify_bundle
from tests.signing.bundle_making import SIGNED_AT, Keyed, claims, write_bundle

CONFIG = """
[tsa]
serial = ./serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.3.6.1.4.1.99999.1
digests = sha256, sha384, sha512
accuracy = secs:1
ordering = no
tsa_name = no
ess_cert_id_chain = no
ess_cert_id_alg = sha256
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
[req]
distinguished_name = name
[name]
"""


@dataclass(frozen=True, slots=True)
class Authority:
    """A running timestamp authority and its root."""

    url: str
    root: Path


def openssl(folder: Path, *arguments: str) -> None:
    """Run openssl in the folder."""
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_authority(folder: Path) -> None:
    """Write a root and a TSA certificate issued by it."""
    (folder / "tsa.cnf").write_text(CONFIG, encoding="utf-8")
    (folder / "serial").write_text("01\n", encoding="utf-8")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-config", "tsa.cnf"]
    openssl(folder, "req", "-x509", *new_key, "-subj", "/CN=Test TSA root", "-extensions", "ca",
            "-keyout", "root.key", "-out", "root.pem")  # fmt: skip
    openssl(folder, "req", "-x509", *new_key, "-subj", "/CN=Test TSA", "-extensions", "leaf",
            "-CA", "root.pem", "-CAkey", "root.key", "-keyout", "tsa.key", "-out", "tsa.pem")  # fmt: skip


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """A real authority on 127.0.0.1. The path /broken answers with something else."""
    folder = tmp_path_factory.mktemp("tsa")
    try:
        make_authority(folder)
    except subprocess.CalledProcessError as error:
        pytest.fail(error.stderr.decode())

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            reply = b"not a timestamp"
            if self.path != "/broken":
                (folder / "query.tsq").write_bytes(query)
                openssl(folder, "ts", "-reply", "-config", "tsa.cnf", "-section", "tsa", "-queryfile", "query.tsq",
                        "-signer", "tsa.pem", "-inkey", "tsa.key", "-out", "reply.tsr")  # fmt: skip
                reply = (folder / "reply.tsr").read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Authority(f"http://127.0.0.1:{server.server_port}", folder / "root.pem")
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> tuple[Keyed, datetime]:
    """A seal that is valid now: the authority has a real clock."""
    now = datetime.now(UTC).replace(microsecond=0)
    files = new_sealing_key(
        tmp_path_factory.mktemp("fresh") / "key",
        "Fresh seal",
        organisation=None,
        days=30,
        not_before=now - timedelta(days=7),
    )
    return Keyed(files, load_signer(files.key_path, files.certificate_path, at=now)), now


@pytest.fixture(scope="module")
def stamped(plain_pdf: bytes, authority: Authority, fresh: tuple[Keyed, datetime]) -> bytes:
    """A PDF with a seal and a timestamp."""
    pair, now = fresh
    return sign_pdf(plain_pdf, pair.signer, signed_at=now, reason="r", tsa_url=authority.url)


def test_the_timestamp_is_real_and_its_authority_is_trusted_only_when_pinned(
    stamped: bytes, authority: Authority, fresh: tuple[Keyed, datetime], keyed: Keyed
) -> None:
    """Sound in each case; trusted with its root alone, not without, nor with another certificate."""
    pair, now = fresh
    signer = pair.signer.certificate.x509
    for tsa, trusted in (
        (None, False),
        (read_x509_file(authority.root), True),
        (keyed.signer.certificate.x509, False),
    ):
        result = verify_pdf(stamped, signer, moment=now, trusted_tsa=tsa)
        assert result.problems == ()
        assert result.timestamp is not None
        assert result.timestamp.sound
        assert result.timestamp.trusted is trusted
        assert abs(result.timestamp.moment - now) < timedelta(minutes=10)
        assert "Test TSA" in result.timestamp.authority


def test_a_damaged_timestamp_is_noticed(stamped: bytes, fresh: tuple[Keyed, datetime]) -> None:
    """The token lies in the unsigned part of the signature: changing its time must still fail."""
    pair, now = fresh
    year = str(now.year).encode().hex().upper().encode()
    start = stamped.index(b"/Contents <")
    # GeneralizedTime: tag 18, length 0F, then the year.
    position = stamped.index(b"180F" + year, start)
    changed = stamped[:position] + b"180F" + b"2019".hex().upper().encode() + stamped[position + 12 :]
    assert len(changed) == len(stamped)
    result = verify_pdf(changed, pair.signer.certificate.x509, moment=now)
    assert not result.ok or (result.timestamp is not None and not result.timestamp.sound)


def test_an_answer_that_is_no_timestamp_is_an_environment_problem(
    plain_pdf: bytes, authority: Authority, fresh: tuple[Keyed, datetime]
) -> None:
    """Nothing is sealed with half a timestamp."""
    pair, now = fresh
    with pytest.raises(EnvironmentProblem):
        sign_pdf(plain_pdf, pair.signer, signed_at=now, reason="r", tsa_url=f"{authority.url}/broken")


def test_the_bundle_s_timestamp_check(
    plain_pdf: bytes,
    authority: Authority,
    fresh: tuple[Keyed, datetime],
    findings_json: bytes,
    tmp_path: Path,
) -> None:
    """PASS with the pinned authority, NOT_CHECKED without it, FAIL for a statement that is dated back."""
    pair, now = fresh
    folder = tmp_path / "bundle"
    write_bundle(folder, plain_pdf, findings_json, pair.signer, at=now, tsa_url=authority.url)
    seal_bundle(folder, pair.signer, predicate=claims(folder), signed_at=now, tool_version="0.1.0")
    trusted = verify_bundle(folder, trusted=pair.files.certificate_path, trusted_tsa=authority.root)
    assert trusted[CheckName.TIMESTAMP].status is CheckStatus.PASS
    assert trusted.verdict == "valid"
    unmade = {check.name for check in trusted.checks if check.status is not CheckStatus.PASS}
    assert unmade == {CheckName.PLAN, CheckName.PRINTED_TEXT, CheckName.EXPORTS_AGREE, CheckName.RECOMPUTED}
    untrusted = verify_bundle(folder, trusted=pair.files.certificate_path)
    assert untrusted[CheckName.TIMESTAMP].status is CheckStatus.NOT_CHECKED

    folder, before = tmp_path / "backdated", now - timedelta(days=5)
    write_bundle(folder, plain_pdf, findings_json, pair.signer, at=before, tsa_url=authority.url)
    seal_bundle(folder, pair.signer, predicate=claims(folder), signed_at=before, tool_version="0.1.0")
    backdated = verify_bundle(folder, trusted=pair.files.certificate_path, trusted_tsa=authority.root)
    assert [check.name for check in backdated.checks if check.status is CheckStatus.FAIL] == [CheckName.TIMESTAMP]


def test_without_an_authority_there_is_no_timestamp(plain_pdf: bytes, keyed: Keyed) -> None:
    """Level B-B."""
    sealed = sign_pdf(plain_pdf, keyed.signer, signed_at=SIGNED_AT, reason="r")
    assert verify_pdf(sealed, keyed.signer.certificate.x509).timestamp is None
