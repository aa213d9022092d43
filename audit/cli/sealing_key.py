"""The sealing key that a command was given: a file, or a key in a token."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from audit.signing.signer import Signer


def open_signer(
    key: str, cert: Path | None, *, passphrase_env: str | None, pkcs11_module: Path | None, at: datetime
) -> Signer:
    """Return the signer of a key file or of a PKCS#11 URI; a token's PIN is asked for where no variable names it."""
    from audit.errors import UsageError
    from audit.signing.key_files import PKCS12_SUFFIXES
    from audit.signing.keys import certificate_path, load_signer, passphrase_from_environment
    from audit.signing.tokens import SCHEME, load_token_signer, parse_address

    passphrase = passphrase_from_environment(passphrase_env) if passphrase_env is not None else None
    if key.startswith(SCHEME):
        address = parse_address(key, pkcs11_module)
        if passphrase is None:
            passphrase = str(click.prompt("PIN of the token", hide_input=True, err=True))
        return load_token_signer(address, cert, passphrase, at=at)
    if pkcs11_module is not None:
        raise UsageError(
            item="--pkcs11-module",
            expected="a key in a token: --key pkcs11:token=LABEL;object=LABEL",
            found="a key file",
            hint="Leave one of the two out.",
        )
    path = Path(key)
    beside = certificate_path(path.parent) if path.suffix.lower() not in PKCS12_SUFFIXES else None
    return load_signer(path, cert or beside, passphrase, at=at)
