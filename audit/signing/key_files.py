"""Private keys in files, PEM or PKCS#12. A file that others may read is refused."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from audit.errors import KeyProblem

PKCS12_SUFFIXES = (".p12", ".pfx")
_MAX_KEY_BYTES = 1 << 20
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What a key file held: a private key of any kind, and the certificates of a PKCS#12 file, the key's own first."""

    key: object = field(repr=False)
    certificates: tuple[x509.Certificate, ...] = ()


def open_key_file(path: Path, passphrase: str | None) -> KeyFile:
    """Return what a key file holds.

    Args:
        path: PEM, or PKCS#12 (.p12, .pfx).
        passphrase: opens an encrypted key.

    Raises:
        KeyProblem: the file is missing, others may read it, it holds no private key, or the passphrase is missing,
            wrong or needless.
    """
    data = _read(path)
    if path.suffix.lower() in PKCS12_SUFFIXES:
        return _open_pkcs12(data, passphrase, item=str(path))
    return KeyFile(_open_pem(data, passphrase, item=str(path)))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            # Of the open file, not of the name: nobody can exchange it in between.
            mode = os.fstat(stream.fileno()).st_mode
            if os.name == "posix" and mode & _OTHERS:
                raise KeyProblem(
                    item=str(path),
                    expected="a private key file that only its owner can open (mode 0600 or 0400)",
                    found=f"mode {stat.S_IMODE(mode):04o}",
                    hint=f"Run `chmod 600 {path.name}` there. If others could read it, make a new key.",
                )
            return stream.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise _bad_input(str(path), "a private key file", error.strerror or type(error).__name__) from error


def _open_pem(data: bytes, passphrase: str | None, *, item: str) -> object:
    try:
        return serialization.load_pem_private_key(data, passphrase.encode() if passphrase is not None else None)
    except TypeError as error:  # pyca/cryptography: encrypted without a passphrase, or the other way round
        found = "an encrypted key and no passphrase" if passphrase is None else "a key that is not encrypted"
        raise _bad_input(item, "a key and the passphrase that opens it", found) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        encrypted = b"ENCRYPTED" in data
        found = "a wrong passphrase, or a damaged key" if encrypted else "bytes that are not a PEM private key"
        raise _bad_input(item, "a PEM private key and its passphrase", found) from error


def _open_pkcs12(data: bytes, passphrase: str | None, *, item: str) -> KeyFile:
    try:
        key, certificate, others = pkcs12.load_key_and_certificates(data, passphrase.encode() if passphrase else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _bad_input(item, "a PKCS#12 file and its passphrase", "a wrong passphrase, or a damaged file") from error
    if key is None:
        raise _bad_input(item, "a PKCS#12 file with a private key", "no private key in it")
    return KeyFile(key, (certificate, *others) if certificate is not None else ())


def _bad_input(item: str, expected: str, found: str) -> KeyProblem:
    return KeyProblem(item=item, expected=expected, found=found, hint="See `affidavit keys new --help`.")
