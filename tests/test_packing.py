"""Packed bytes come back, and nothing else is taken for packed."""

from __future__ import annotations

import base64
import gzip

import pytest

from audit.packing import PackingError, pack, unpack


@pytest.mark.parametrize("data", [b"", b"{}", "\u00e9<script>&\"'".encode(), bytes(range(256)) * 1000])
def test_bytes_come_back(data: bytes) -> None:
    """As text that a page can hold anywhere, the same for the same bytes."""
    text = pack(data)
    assert unpack(text) == data
    assert pack(data) == text
    assert not set(text) & set("<>&\"'")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not base64!",
        base64.b64encode(b"plain").decode(),
        pack(b"x" * 100)[:-8],
        base64.b64encode(gzip.compress(b"a", mtime=0) + gzip.compress(b"b", mtime=0)).decode(),
        base64.b64encode(gzip.compress(b"a", mtime=0) + b"z").decode(),
    ],
)
def test_what_is_not_packed_is_refused(text: str) -> None:
    """Other text, other bytes, a part of them, two members, something behind them."""
    with pytest.raises(PackingError):
        unpack(text)


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be larger than the limit is refused before it is there."""
    monkeypatch.setattr("audit.packing.MOST_BYTES", 1000)
    assert unpack(pack(bytes(1000))) == bytes(1000)
    with pytest.raises(PackingError, match="more than 1000 bytes"):
        unpack(pack(bytes(1001)))
