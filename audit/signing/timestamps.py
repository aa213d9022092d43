"""Ask a timestamp authority (RFC 3161), and decide at which level a seal can be made before a report says so."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from audit.config import SealConfig, SealLevel, WithoutTimestamp
from audit.errors import EnvironmentProblem, KeyProblem
from audit.signing.asynchronous import run_async

DIGEST = "sha256"
_TIMEOUT_S = 30


def attainable_level(seal: SealConfig) -> SealLevel:
    """Return the level that a seal made now will have: the one asked for, or B-B where that is allowed.

    The authority is asked for a stamp that nobody needs. A report can then say what its seal will be.

    Raises:
        EnvironmentProblem: the authority does not answer with a timestamp, and sealing without one is refused.
        KeyProblem: a level with a timestamp and no usable address of an authority.
    """
    if seal.level is SealLevel.B_B:
        return seal.level
    try:
        timestamper(seal.tsa)
    except EnvironmentProblem:
        if seal.without_timestamp is WithoutTimestamp.REFUSE:
            raise
        return SealLevel.B_B
    return seal.level


def timestamper(url: str) -> Any:  # noqa: ANN401 - pyHanko has no types here
    """Return a client whose first answer has already been received and kept, so that a bad authority shows here.

    Raises:
        EnvironmentProblem: the authority did not answer with a timestamp.
        KeyProblem: the address is of another kind.
    """
    from pyhanko.sign.timestamps.requests_client import RequestsHTTPTimeStamper  # noqa: PLC0415 - half a second

    if urlsplit(url).scheme not in {"http", "https"}:
        raise KeyProblem(
            item=f"timestamp authority {url!r}",
            expected="an http or https address",
            found=urlsplit(url).scheme or "no scheme",
            hint="Give the address of an RFC 3161 timestamp authority.",
        )
    client = RequestsHTTPTimeStamper(url, timeout=_TIMEOUT_S)
    try:
        run_async(client.async_dummy_response(DIGEST))
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise EnvironmentProblem(
            item=f"timestamp authority {url}",
            expected="an RFC 3161 timestamp",
            found=f"{type(error).__name__}: {error}",
            hint='Check the address and the network. `seal.without_timestamp = "allow"` seals without, and says so.',
        ) from error
    return client
