"""Bytes as text inside a page: gzip in base64, the same text for the same bytes."""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib

PACKED_TYPE = "application/gzip;base64"
MOST_BYTES = 256 << 20
# The highest takes half as long again for three percent.
_LEVEL = 6


class PackingError(ValueError):
    """The text is not what `pack` writes."""


def pack(data: bytes) -> str:
    """Return the bytes as ASCII text without `<`, `&` or quotes."""
    return base64.b64encode(gzip.compress(data, compresslevel=_LEVEL, mtime=0)).decode("ascii")


def unpack(text: str | bytes) -> bytes:
    """Return the bytes that were packed.

    Raises:
        PackingError: not base64, not exactly one gzip member, damaged, or more than 256 MiB of bytes.
    """
    reader = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        data = reader.decompress(base64.b64decode(text, validate=True), MOST_BYTES)
    except (ValueError, binascii.Error, zlib.error) as error:
        raise PackingError(f"text that cannot be unpacked: {error}"[:200]) from error
    if reader.unconsumed_tail:
        raise PackingError(f"more than {MOST_BYTES} bytes")
    if not reader.eof or reader.unused_data:
        raise PackingError("text that is not exactly one gzip member")
    return data
