"""A sealing key that stays in a PKCS#11 token: a smart card, an HSM. Named by an RFC 7512 URI, opened with a PIN."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from audit.errors import EnvironmentProblem, KeyProblem, SignatureInvalid
from audit.signing.algorithms import accepted_form, verify_message
from audit.signing.certificates import load_der
from audit.signing.chains import Chain, above_of, make_chain, read_chain_file
from audit.signing.signer import Signer

SCHEME = "pkcs11:"
_INSTALL = 'pip install "affidavit[pkcs11]"'
# Neither a DSSE encoding nor signed attributes of CMS begin like this, so it can be passed off as no seal.
_PROOF = b"affidavit: does this key belong to this certificate?"
_P256_BYTES = 32
_KNOWN = frozenset({"token", "serial", "object", "id", "type"})


@dataclass(frozen=True, slots=True)
class TokenAddress:
    """Which private key in which token, by which driver.

    Attributes:
        token: the token's label, or None.
        serial: the token's serial number, or None.
        label: the key's label, or None.
        key_id: the key's CKA_ID, or None.
        module: the driver's shared library.
    """

    token: str | None
    serial: str | None
    label: str | None
    key_id: bytes | None
    module: Path


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A private key in a token; each signature opens a session of its own. The PIN never appears in the repr."""

    address: TokenAddress
    pin: str = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """Return the token's signature.

        Raises:
            KeyProblem: no such token or key, several of them, or a wrong PIN.
            EnvironmentProblem: the driver or the token fails.
        """
        from pkcs11 import KeyType, Mechanism  # noqa: PLC0415 - an extra

        with _session(self.address, self.pin) as session:
            key = _private_key(session, self.address)
            if key.key_type == KeyType.RSA:
                signature: bytes = key.sign(message, mechanism=Mechanism.SHA256_RSA_PKCS)
                return signature
            if key.key_type != KeyType.EC:
                raise _bad_key(self.address, "an ECDSA P-256 or RSA key", f"a key of type {key.key_type}")
            # Hashed here: every token has plain ECDSA, few hash before it.
            raw = key.sign(hashlib.sha256(message).digest(), mechanism=Mechanism.ECDSA)
        if len(raw) != 2 * _P256_BYTES:
            raise _bad_key(self.address, "an ECDSA P-256 key", f"a signature of {len(raw)} bytes")
        return encode_dss_signature(int.from_bytes(raw[:_P256_BYTES], "big"), int.from_bytes(raw[_P256_BYTES:], "big"))


def parse_address(uri: str, module: Path | None) -> TokenAddress:
    """Return the key that an RFC 7512 URI names.

    Args:
        uri: `pkcs11:token=...;object=...`, also with `serial`, `id` and `?module-path=...`.
        module: the driver's shared library, instead of `module-path`.

    Raises:
        KeyProblem: another form, an attribute that is unknown or doubled, a PIN inside, or no driver.
    """
    path, _, query = uri.removeprefix(SCHEME).partition("?")
    attributes, options = _pairs(path, ";"), _pairs(query, "&")
    pins = sorted({"pin-value", "pin-source"} & set(options))
    if pins:
        raise _bad_uri("no PIN: others can read arguments", pins[0], "Give --passphrase-env, or type it when asked.")
    unknown = sorted((set(attributes) - _KNOWN) | (set(options) - {"module-path"}))
    if unknown:
        raise _bad_uri(f"only {', '.join(sorted(_KNOWN))} and module-path", ", ".join(unknown))
    if not {"token", "serial"} & set(attributes):
        raise _bad_uri("the token's label or serial number", "neither")
    if attributes.get("type", "private") != "private":
        raise _bad_uri("type=private, or no type", attributes["type"])
    driver = module or (Path(unquote(options["module-path"])) if "module-path" in options else None)
    if driver is None:
        raise _bad_uri("the token's driver", "none", "Give --pkcs11-module PATH, the driver's shared library.")
    texts = {name: unquote(value) for name, value in attributes.items() if name != "id"}
    key_id = unquote_to_bytes(attributes["id"]) if "id" in attributes else None
    return TokenAddress(texts.get("token"), texts.get("serial"), texts.get("object"), key_id, driver)


def load_token_signer(address: TokenAddress, cert_path: Path | None, pin: str, *, at: datetime) -> Signer:
    """Return the signer whose key lies in a token, after one signature that proves key and certificate to be a pair.

    Args:
        address: which key.
        cert_path: the PEM certificate, its issuers after it; None takes the token's, which has the key's id.
        pin: opens the token. Take it from a prompt or a named environment variable, never an argument.
        at: the moment at which the certificate must be valid, with a time zone.

    Raises:
        KeyProblem: no such token, key or certificate, several of them, a wrong PIN, a certificate of another key or not
            valid at that moment.
        EnvironmentProblem: the library or the driver is missing, or the token fails.
    """
    chain = read_chain_file(cert_path) if cert_path is not None else _chain_in_token(address, pin)
    certificate = chain.certificate
    signer = Signer(certificate, TokenKey(address, pin), chain.issuers, chain.root)
    signer.require_valid_at(at)
    try:
        signature = accepted_form(certificate.public_key, signer.key.sign(_PROOF))
        verify_message(certificate.public_key, signature, _PROOF, item=_name(address))
    except (SignatureInvalid, ValueError) as error:
        expected = f"the private key of the certificate {certificate.fingerprint}"
        raise _bad_key(address, expected, "another key") from error
    return signer


def _chain_in_token(address: TokenAddress, pin: str) -> Chain:
    from pkcs11 import Attribute, ObjectClass  # noqa: PLC0415 - an extra

    with _session(address, pin) as session:
        key_id = _private_key(session, address)[Attribute.ID]
        objects = [
            (found[Attribute.ID], found[Attribute.VALUE])
            for found in session.get_objects({Attribute.CLASS: ObjectClass.CERTIFICATE})
        ]
    own = [der for found_id, der in objects if found_id == key_id]
    if len(own) != 1:
        expected = f"one certificate with the key's id {key_id.hex()} in the token, or --cert"
        raise _bad_key(address, expected, f"{len(own)} of them")
    try:
        leaf, others = load_der(own[0]), [load_der(der) for _, der in objects]
    except (ValueError, x509.InvalidVersion) as error:
        raise _bad_key(address, "X.509 certificates in the token", str(error)) from error
    # A token may hold certificates for other ends.
    return make_chain(leaf, above_of(leaf, others), item=_name(address))


@contextlib.contextmanager
def _session(address: TokenAddress, pin: str) -> Iterator[Any]:
    try:
        import pkcs11  # noqa: PLC0415 - an extra
        from pkcs11 import exceptions  # noqa: PLC0415 - same
    except ImportError as error:
        raise _environment("python-pkcs11", "installed", "not installed", f"Install it: {_INSTALL}") from error
    driver = str(address.module)
    try:
        library = pkcs11.lib(driver)
    except (RuntimeError, OSError, exceptions.PKCS11Error) as error:
        hint = "Give the shared library that the token's maker provides, e.g. libsofthsm2.so."
        raise _environment(driver, "a PKCS#11 driver", _reason(error), hint) from error
    try:
        token = library.get_token(token_label=address.token, token_serial=_serial(address))
        with token.open(user_pin=pin) as session:
            yield session
    except (exceptions.NoSuchToken, exceptions.TokenNotPresent) as error:
        raise _bad_key(address, "a token with that label or serial number", "no such token") from error
    except exceptions.MultipleTokensReturned as error:
        raise _bad_key(address, "one token", "several: name its serial number too") from error
    except (exceptions.PinIncorrect, exceptions.PinInvalid, exceptions.PinLenRange) as error:
        found = "a wrong PIN. Tokens lock after a few wrong ones: do not guess"
        raise _bad_key(address, "the token's PIN", found) from error
    except (exceptions.PinLocked, exceptions.PinExpired) as error:
        raise _bad_key(address, "a token that takes its PIN", "a token that is locked; its owner unlocks it") from error
    except exceptions.PKCS11Error as error:
        raise _environment(_name(address), "a token that answers", _reason(error), "Check the token.") from error


def _private_key(session: Any, address: TokenAddress) -> Any:  # noqa: ANN401 - python-pkcs11's classes are in C
    from pkcs11 import Attribute, ObjectClass  # noqa: PLC0415 - an extra

    wanted = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: address.label, Attribute.ID: address.key_id}
    found = list(session.get_objects({name: value for name, value in wanted.items() if value is not None}))
    if not found:
        raise _bad_key(address, "a private key with that label or id", "no such key in the token")
    if len(found) > 1:
        raise _bad_key(address, "one private key", "several: name object or id, or both")
    return found[0]


def _pairs(text: str, separator: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in filter(None, text.split(separator)):
        name, mark, value = part.partition("=")
        if not mark or not value or name in pairs:
            # Not the value: somebody may have written a PIN there.
            raise _bad_uri("name=value, each name once", f"{name!r}, doubled or without a value")
        pairs[name] = value
    return pairs


def _serial(address: TokenAddress) -> bytes | None:
    return address.serial.encode() if address.serial is not None else None


def _name(address: TokenAddress) -> str:
    key = address.label or (address.key_id.hex() if address.key_id is not None else "its only key")
    return f"token {address.token or address.serial}, key {key}"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()[:200]


def _bad_uri(expected: str, found: str, hint: str = "Write pkcs11:token=LABEL;object=LABEL (RFC 7512).") -> KeyProblem:
    return KeyProblem(item="PKCS#11 URI", expected=expected, found=found, hint=hint)


def _bad_key(address: TokenAddress, expected: str, found: str) -> KeyProblem:
    hint = f"List what the token holds: pkcs11-tool --module {address.module.name} --list-objects"
    return KeyProblem(item=_name(address), expected=expected, found=found, hint=hint)


def _environment(item: str, expected: str, found: str, hint: str) -> EnvironmentProblem:
    return EnvironmentProblem(item=item, expected=expected, found=found, hint=hint)
