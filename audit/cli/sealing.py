"""The options by which a command is given a key to sign with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from audit.signing.keys import Signer

_Command = TypeVar("_Command", bound=Callable[..., Any])
_OPTIONS = (
    click.option(
        "--key", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Signing key, PEM or .p12."
    ),
    click.option(
        "--cert",
        type=click.Path(path_type=Path, dir_okay=False),
        default=None,
        help="Its certificate. Default: certificate.pem beside the key.",
    ),
    click.option(
        "--passphrase-env", default=None, metavar="VARIABLE", help="The key's passphrase is in this variable."
    ),
)


def signing_options(command: _Command) -> _Command:
    """Add --key, --cert and --passphrase-env to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def signer_of(key: Path, cert: Path | None, passphrase_env: str | None, *, at: datetime) -> Signer:
    """Return the signer that the options name.

    Raises:
        KeyProblem: a file or the variable is missing, or key, certificate and passphrase do not fit.
    """
    from audit.signing.keys import certificate_path, load_signer, passphrase_from_environment

    passphrase = passphrase_from_environment(passphrase_env) if passphrase_env is not None else None
    pem = key.suffix not in {".p12", ".pfx"}
    return load_signer(key, cert or (certificate_path(key.parent) if pem else None), passphrase, at=at)
