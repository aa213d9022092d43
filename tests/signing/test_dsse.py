"""The attestation: one form only, and other implementations accept it."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from audit.digests import canonical_json
from audit.errors import AffidavitError, EvidenceError, KeyProblem, SignatureInvalid
from audit.signing.algorithms import _P256_ORDER
from audit.signing.certificates import read_certificate_der
from audit.signing.dsse import pre_authentication_encoding, read_attestation, sign_payload, verify_attestation
from audit.signing.statement import SignerBlock, build_statement, read_statement
from tests.signing.bundle_making import SIGNED_AT, Keyed

PAYLOAD = b'{"hello":"world"}'


def statement_payload(keyed: Keyed) -> bytes:
    """Return the payload of a small statement by the keyed signer."""
    return build_statement(
        {"a.txt": "sha256:" + "0" * 64},
        {"audit": "demo"},
        signer=SignerBlock.of(keyed.signer.certificate),
        signed_at=SIGNED_AT,
        tool_version="0.1.0",
    ).payload


def test_the_encoding_is_the_one_of_the_dsse_protocol() -> None:
    """The PAE of the protocol's own shape: lengths in bytes, single spaces."""
    assert pre_authentication_encoding("é".encode()) == b"DSSEv1 28 application/vnd.in-toto+json 2 \xc3\xa9"


@pytest.mark.parametrize(("which", "scheme"), [("keyed", "ecdsa-sha2-nistp256"), ("rsa_keyed", "rsa-pkcs1v15-sha256")])
def test_securesystemslib_verifies_the_envelope(which: str, scheme: str, request: pytest.FixtureRequest) -> None:
    """The reference implementation of DSSE accepts the envelope as it stands in the file."""
    pair: Keyed = request.getfixturevalue(which)
    document = json.loads(sign_payload(PAYLOAD, pair.signer))
    envelope = Envelope.from_dict(document["dsseEnvelope"])
    fingerprint = pair.signer.certificate.fingerprint
    key = SSlibKey.from_crypto(pair.signer.certificate.public_key, keyid=fingerprint, scheme=scheme)
    assert set(envelope.verify([key], 1)) == {fingerprint}


@pytest.mark.parametrize("which", ["keyed", "rsa_keyed"])
def test_no_byte_of_the_attestation_is_free(which: str, request: pytest.FixtureRequest) -> None:
    """Every byte, changed by every bit or to another character that JSON or base64 would tolerate, is noticed."""
    pair: Keyed = request.getfixturevalue(which)
    data = sign_payload(statement_payload(pair), pair.signer)
    rng = random.Random(20260301)  # noqa: S311 - reproducible, not secret
    for position in range(len(data)):
        for new in {data[position] ^ (1 << rng.randrange(8)), *b" \nA="} - {data[position]}:
            changed = data[:position] + bytes([new]) + data[position + 1 :]
            with pytest.raises(AffidavitError):
                accept(changed)
    accept(data)


@pytest.mark.parametrize("insert", [b" ", b"\n", b"\x00", b"=", b"A"])
def test_nothing_can_be_inserted_or_removed(insert: bytes, keyed: Keyed) -> None:
    """White space between tokens, padding and trailing bytes are noticed, anywhere."""
    data = sign_payload(statement_payload(keyed), keyed.signer)
    for position in range(len(data) + 1):
        with pytest.raises(AffidavitError):
            accept(data[:position] + insert + data[position:])
    for position in range(len(data)):
        with pytest.raises(AffidavitError):
            accept(data[:position] + data[position + 1 :])


def accept(data: bytes) -> None:
    """Pass if the attestation is one that the verifier would accept."""
    attestation = read_attestation(data)
    verify_attestation(attestation)
    statement = read_statement(attestation.payload)
    if statement.signer != SignerBlock.of(attestation.certificate):
        raise EvidenceError(item="signer", expected="the certificate's", found="another", hint="")


def test_the_other_form_of_an_ecdsa_signature_is_refused(keyed: Keyed) -> None:
    """(r, n - s) verifies with openssl and would let anyone change the file; we sign low s and accept nothing else."""
    original = sign_payload(PAYLOAD, keyed.signer)
    document = json.loads(original)
    r, s = decode_dss_signature(base64.b64decode(document["dsseEnvelope"]["signatures"][0]["sig"]))
    assert s <= _P256_ORDER // 2
    twin = encode_dss_signature(r, _P256_ORDER - s)
    document["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(twin).decode()
    attestation = read_attestation(canonical_json(document))
    with pytest.raises(SignatureInvalid, match="high-s"):
        verify_attestation(attestation)


def test_every_ecdsa_signature_has_low_s(keyed: Keyed) -> None:
    """Half of all raw signatures would have high s: forty in a row do not happen by chance."""
    for n in range(40):
        verify_attestation(read_attestation(sign_payload(b"%d" % n, keyed.signer)))


def _set(path: str, value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        *parents, last = path.split("/")
        for key in parents:
            document = document[int(key) if key.isdigit() else key]
        document[last] = value

    return change


MALFORMED: dict[str, Callable[[Any], None]] = {
    "unknown media type": _set("mediaType", "application/vnd.dev.sigstore.bundle.v0.2+json"),
    "unknown payload type": _set("dsseEnvelope/payloadType", "text/plain"),
    "unknown top field": _set("extra", 1),
    "unknown envelope field": _set("dsseEnvelope/extra", 1),
    "unknown material field": _set("verificationMaterial/tlogEntries", []),
    "unknown certificate field": _set("verificationMaterial/certificate/extra", ""),
    "unknown signature field": _set("dsseEnvelope/signatures/0/extra", ""),
    "no signature": _set("dsseEnvelope/signatures", []),
    "signatures not a list": _set("dsseEnvelope/signatures", {}),
    "two signatures": lambda d: d["dsseEnvelope"]["signatures"].append(d["dsseEnvelope"]["signatures"][0]),
    "another key id": _set("dsseEnvelope/signatures/0/keyid", "sha256:" + "0" * 64),
    "signature not text": _set("dsseEnvelope/signatures/0/sig", 7),
    "signature empty": _set("dsseEnvelope/signatures/0/sig", ""),
    "certificate not a certificate": _set("verificationMaterial/certificate/rawBytes", "AAAA"),
    "certificate null": _set("verificationMaterial/certificate", None),
    "payload null": _set("dsseEnvelope/payload", None),
    "url-safe base64": _set("dsseEnvelope/payload", "-_-_"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_envelopes_are_refused(name: str, keyed: Keyed) -> None:
    """Each in canonical JSON, so that it is the content that is refused."""
    document = json.loads(sign_payload(PAYLOAD, keyed.signer))
    MALFORMED[name](document)
    with pytest.raises(AffidavitError):
        verify_attestation(read_attestation(canonical_json(document)))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no signature", "exactly one signature"),
        ("two signatures", "exactly one signature"),
        ("another key id", "keyid"),
        ("unknown media type", "mediaType"),
        ("unknown payload type", "payloadType"),
    ],
)
def test_the_refusal_says_what_is_wrong(name: str, reason: str, keyed: Keyed) -> None:
    """Each rule holds by itself, not only because the file would be written otherwise."""
    document = json.loads(sign_payload(PAYLOAD, keyed.signer))
    MALFORMED[name](document)
    with pytest.raises(EvidenceError) as refused:
        read_attestation(canonical_json(document))
    assert reason in refused.value.expected


def test_a_negative_serial_number_is_an_error_not_a_warning(keyed: Keyed) -> None:
    """Cryptography only warns of it; with any key and any settings a changed sign bit is refused."""
    der = bytearray(keyed.signer.certificate.der)
    der[der.index(b"\x02\x01\x02") + 5] |= 0x80  # behind the version, the serial number's first byte
    with pytest.raises(KeyProblem):
        read_certificate_der(bytes(der), item="certificate")
