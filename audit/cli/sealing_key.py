"""The key that a command signs with: its options, and the signer that they name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from audit.signing.signer import Signer

_Command = TypeVar("_Command", bound=Callable[..., Any])
_OPTIONS = (
    click.option("--key", required=True, metavar="FILE|URI", help="The key: PEM, .p12, or pkcs11:token=...;object=..."),
    click.option(
        "--cert",
        type=click.Path(path_type=Path, dir_okay=False),
        default=None,
        help="Its certificate, those above it after it. Default: certificate.pem beside the key, or the token's.",
    ),
    click.option(
        "--pkcs11-module", type=click.Path(path_type=Path, dir_okay=False), default=None, help="A token's driver."
    ),
    click.option(
        "--passphrase-env", default=None, metavar="VARIABLE", help="The passphrase or PIN is in this variable."
    ),
)


def signing_options(command: _Command) -> _Command:
    """Add --key, --cert, --pkcs11-module and --passphrase-env to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


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
