"""The findings in report.html: found where a browser finds them, in linear time."""

from __future__ import annotations

import base64
import gzip
import time

import pytest

from audit.errors import EvidenceError
from audit.packing import PACKED_TYPE, pack
from audit.signing.html_findings import findings_in_html

PACKED = pack(b'{"a":1}')
ELEMENT = f'<script type="{PACKED_TYPE}" id="affidavit-findings">{PACKED}</script>'


def read(text: str) -> bytes:
    """Return the findings in a page."""
    return findings_in_html(text.encode(), item="report.html")


@pytest.mark.parametrize(
    "page",
    [
        ELEMENT,
        f"<!doctype html><p title='a > b'>1 < 2 &amp; 3<br/>{ELEMENT}</p>",
        f"<!-- {ELEMENT} -->{ELEMENT}",
        f"<style>p::before{{content:'<script>'}}</style>{ELEMENT}",
        f"<script>const s = '<div id=affidavit-findings>';</script>{ELEMENT}",
        f"<textarea>{ELEMENT}</textarea>{ELEMENT}",
        f'<p data-x="affidavit-findings">{ELEMENT}',
        f"<SCRIPT ID='affidavit-findings' TYPE='{PACKED_TYPE}'>{PACKED}</SCRIPT >",
        f'<?xml version="1.0"?><svg><title>t</title><path d="M0 0"/></svg>{ELEMENT}',
    ],
)
def test_the_one_element_is_found(page: str) -> None:
    """Whatever surrounds it: comments, raw text, attributes that mention it."""
    assert read(page) == b'{"a":1}'


@pytest.mark.parametrize(
    "page",
    [
        "",
        f"<!-- {ELEMENT} -->",
        f"<textarea>{ELEMENT}</textarea>",
        f"<template>{ELEMENT}</template>",
        f"<plaintext>{ELEMENT}",
        ELEMENT * 2,
        f'{ELEMENT}<p id="affidavit-findings">',
        ELEMENT.replace(PACKED_TYPE, "application/json"),
        ELEMENT.replace("</script>", ""),
        ELEMENT.replace(PACKED, "{}"),
        ELEMENT.replace(PACKED, f"<!--{PACKED}"),
        ELEMENT.replace(PACKED, PACKED[:-8]),
        ELEMENT.replace(PACKED, f"{PACKED[:30]}AAAA{PACKED[34:]}"),
        ELEMENT.replace(PACKED, base64.b64encode(gzip.compress(b"{}") * 2).decode()),
        ELEMENT.replace(' type="', ' type="text/plain" type="'),
        f"<!-- {ELEMENT}",
        f"<p {ELEMENT.replace('>', '')}",
        f"<div type='{PACKED_TYPE}' id='affidavit-findings'>{PACKED}</div>",
    ],
)
def test_anything_else_is_refused(page: str) -> None:
    """None, several, hidden, of another type, or markup that does not close."""
    with pytest.raises(EvidenceError):
        read(page)


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is unpacked beyond the limit, however small the page."""
    monkeypatch.setattr("audit.packing.MOST_BYTES", 1000)
    with pytest.raises(EvidenceError, match="more than 1000 bytes"):
        read(ELEMENT.replace(PACKED, pack(bytes(100_000))))


def test_what_is_not_utf8_is_refused() -> None:
    """No guessing of encodings."""
    with pytest.raises(EvidenceError):
        findings_in_html(b"\xff" + ELEMENT.encode(), item="report.html")


@pytest.mark.parametrize("part", ["<!--", "<a ", "<a x='", "<!x", "<?", "</a ", "<", "<script><", "<a/", "&"])
def test_a_crafted_page_takes_no_more_time_than_its_size(part: str) -> None:
    """html.parser needs minutes for some of these; the bound is a thousand times what the scanner needs."""
    start = time.monotonic()
    for page in (part * 50_000 + ELEMENT, ELEMENT + part * 50_000):
        try:
            read(page)
        except EvidenceError:
            continue
    assert time.monotonic() - start < 20
