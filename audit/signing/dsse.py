"""The attestation file: one DSSE envelope with one signature, in a Sigstore bundle v0.3, in which no byte is free.

DSSE: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from audit.digests import Json, canonical_json
from audit.errors import EvidenceError
from audit.signing.algorithms import verify_message
from audit.signing.bundle_files import ATTESTATION
from audit.signing.certificates import Certificate, read_certificate_der
from audit.signing.signer import Signer
from audit.signing.strict_json import expect_array, expect_object, expect_text, parse_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_ATTESTATION_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Attestation:
    """The parts of an attestation file whose form is right; whether the signature holds is another question."""

    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    certificate: Certificate


def pre_authentication_encoding(payload: bytes) -> bytes:
    """Return the bytes that DSSE signs: type and payload, each with its length (the PAE)."""
    payload_type = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(payload_type), payload_type, len(payload), payload)


def sign_payload(payload: bytes, signer: Signer) -> bytes:
    """Return the attestation file's bytes for a statement's payload."""
    signature = signer.sign(pre_authentication_encoding(payload))
    return _serialise(payload, signature, signer.certificate)


def read_attestation(data: bytes) -> Attestation:
    """Return the attestation in a file, if its bytes are the only bytes that could say the same.

    The file must be the canonical JSON of exactly the documented fields, with canonical base64, the media and payload
    types of this version, one signature, and the certificate's fingerprint as the key id. So every byte is either fixed
    by the form, or part of the payload, the signature or the certificate, which the later checks bind to one another.

    Raises:
        EvidenceError: any other form.
        KeyProblem: the certificate in it cannot be a seal's.
    """
    value = parse_json(data, item=ATTESTATION, max_size_bytes=MAX_ATTESTATION_BYTES)
    bundle = expect_object(
        value, item=ATTESTATION, keys=frozenset({"mediaType", "verificationMaterial", "dsseEnvelope"})
    )
    _expect(bundle["mediaType"], MEDIA_TYPE, "mediaType")
    material = expect_object(bundle["verificationMaterial"], item=ATTESTATION, keys=frozenset({"certificate"}))
    holder = expect_object(material["certificate"], item=ATTESTATION, keys=frozenset({"rawBytes"}))
    envelope = expect_object(
        bundle["dsseEnvelope"], item=ATTESTATION, keys=frozenset({"payload", "payloadType", "signatures"})
    )
    _expect(envelope["payloadType"], PAYLOAD_TYPE, "payloadType")
    signatures = expect_array(envelope["signatures"], item=ATTESTATION)
    if len(signatures) != 1:
        raise _wrong("exactly one signature", f"{len(signatures)} signatures")
    signature = expect_object(signatures[0], item=ATTESTATION, keys=frozenset({"sig", "keyid"}))
    certificate = read_certificate_der(_decode(holder["rawBytes"]), item=f"{ATTESTATION}, certificate")
    _expect(signature["keyid"], certificate.fingerprint, "keyid")
    attestation = Attestation(_decode(envelope["payload"]), _decode(signature["sig"]), certificate)
    if _serialise(attestation.payload, attestation.signature, certificate) != data:
        raise _wrong("the canonical serialisation of its own content", "other bytes that parse to the same content")
    return attestation


def verify_attestation(attestation: Attestation) -> None:
    """Pass if the embedded certificate's key signed the payload.

    Raises:
        SignatureInvalid: it did not, or the signature has a second, equivalent form.
    """
    message = pre_authentication_encoding(attestation.payload)
    verify_message(attestation.certificate.public_key, attestation.signature, message, item=ATTESTATION)


def _serialise(payload: bytes, signature: bytes, certificate: Certificate) -> bytes:
    bundle: Json = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"certificate": {"rawBytes": _encode(certificate.der)}},
        "dsseEnvelope": {
            "payload": _encode(payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": _encode(signature), "keyid": certificate.fingerprint}],
        },
    }
    return canonical_json(bundle)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(value: Json) -> bytes:
    text = expect_text(value, item=ATTESTATION)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _wrong("standard base64", "text that is not base64") from error
    if _encode(data) != text:
        raise _wrong("standard base64", "a second spelling of the same bytes")
    return data


def _expect(value: Json, expected: str, key: str) -> None:
    if value != expected:
        raise _wrong(f"{key} {expected}", repr(value)[:200])


def _wrong(expected: str, found: str) -> EvidenceError:
    return EvidenceError(
        item=ATTESTATION,
        expected=expected,
        found=found,
        hint="The attestation was damaged or was not written by this version of affidavit. Get an intact copy.",
    )
