"""The commands of docs/verifying.md as they stand there: tools of others accept a bundle, and reject a changed one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from audit.signing.seal import seal_bundle
from tests.signing.authorities import three_deep
from tests.signing.bundle_making import SIGNED_AT, Keyed, claims, write_bundle

DOCS = Path(__file__).parents[2] / "docs" / "verifying.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
TOOLS = {"openssl": "openssl", "pdfsig": "poppler-utils", "qpdf": "qpdf"}
pytestmark = [
    pytest.mark.skipif(shutil.which(tool) is None, reason=f"{package} is not installed")
    for tool, package in TOOLS.items()
]


def block(word: str) -> str:
    """Return the one block that holds the word."""
    [found] = [text for text in BLOCKS if word in text]
    return found


def paste(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block as a shell does that stops at the first failure."""
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", text], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(params=["ecdsa", "rsa", "chain"])
def place(  # noqa: PLR0917 - fixtures
    request: pytest.FixtureRequest,
    tmp_path: Path,
    plain_pdf: bytes,
    findings_json: bytes,
    keyed: Keyed,
    rsa_keyed: Keyed,
) -> Path:
    """A folder with a sealed bundle and the certificate that its reader got from elsewhere."""
    if request.param == "chain":
        seal, root = three_deep()
        signer, pin = seal.signer(), root.pem
    else:
        pair = keyed if request.param == "ecdsa" else rsa_keyed
        signer, pin = pair.signer, pair.files.certificate_path.read_bytes()
    folder = tmp_path / "bundle"
    write_bundle(folder, plain_pdf, findings_json, signer)
    seal_bundle(folder, signer, predicate=claims(folder), signed_at=SIGNED_AT, tool_version="0.1.0")
    (tmp_path / "cert.pem").write_bytes(pin)
    return tmp_path


def test_the_tools_accept_the_bundle(place: Path) -> None:
    """Every block but Sigstore's, in the order of the page."""
    said = {}
    for text in BLOCKS:
        if "npm install" not in text:
            done = paste(text, place)
            assert done.returncode == 0, (text, done.stdout, done.stderr)
            said[text] = done.stdout + done.stderr
    assert all(line in said[block("pdfsig")] for line in ("Signature is Valid", "Total document signed"))
    assert "CMS Verification successful" in said[block("openssl cms")]
    assert "Verified OK" in said[block("openssl dgst")]
    assert "signer.pem: OK" in said[block("openssl dgst")]
    assert "No syntax or stream encoding errors found" in said[block("qpdf")]
    assert said[block("sha256sum")].count(": OK") == len(list((place / "bundle").rglob("*.*"))) - 1


def test_the_tools_reject_what_was_changed(place: Path) -> None:
    """A byte of the PDF, an appended page's worth of bytes, a payload, a file more, a stranger's certificate."""
    report, attestation = place / "bundle" / "report.pdf", place / "bundle" / "attestation.sigstore.json"
    honest = report.read_bytes()
    report.write_bytes(honest.replace(b"/Type", b"/Tpye", 1))
    assert paste(block("openssl cms"), place).returncode != 0
    assert "Signature is Valid" not in paste(block("pdfsig"), place).stdout
    report.write_bytes(honest + b"\n%%EOF\n")
    assert "the signature does not cover the whole file" in paste(block("openssl cms"), place).stderr
    report.write_bytes(honest)
    assert paste(block("openssl dgst"), place).returncode == 0
    (place / "bundle" / "more.txt").write_text("x", encoding="utf-8")
    assert paste(block("sha256sum"), place).returncode != 0
    sealed = attestation.read_bytes()
    attestation.write_bytes(sealed.replace(b'"payload":"eyJ', b'"payload":"eyI', 1))
    assert paste(block("openssl dgst"), place).returncode != 0
    attestation.write_bytes(sealed)
    (place / "cert.pem").write_bytes(three_deep()[1].pem)
    for word in ("openssl cms", "openssl dgst"):
        assert paste(block(word), place).returncode != 0


@pytest.mark.skipif(shutil.which("npm") is None or shutil.which("node") is None, reason="npm is not installed")
def test_sigstore_s_own_library_verifies_the_attestation(place: Path) -> None:
    """@sigstore/verify with the certificate's key; a changed signature is refused."""
    text = block("npm install")
    install, script = text.split("\n", 1)
    if paste(install, place).returncode != 0:
        pytest.skip("the npm registry cannot be reached")
    assert paste(block("openssl dgst"), place).returncode == 0
    done = paste(script, place)
    assert done.stdout == "sigstore: verified\n", done.stderr
    other = three_deep()[0]
    (place / "signer.pem").write_bytes(other.pem)
    assert "signature verification failed" in paste(script, place).stderr
