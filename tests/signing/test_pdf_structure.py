"""The byte-level rules of a sealed PDF, without any parser behind them."""

from __future__ import annotations

import pytest

from audit.signing.pdf_structure import coverage_problem

CONTENTS = bytes.fromhex("30020500") + bytes(4)
HEAD, TAIL = b"%PDF head ", b" tail %%EOF"
GAP = b"<" + CONTENTS.hex().upper().encode() + b">"
RANGE = [0, len(HEAD), len(HEAD) + len(GAP), len(TAIL)]


def test_two_ranges_around_the_signature_cover_the_file() -> None:
    """The one accepted form."""
    assert coverage_problem(HEAD + GAP + TAIL, RANGE, CONTENTS) is None


@pytest.mark.parametrize(
    ("pdf", "byte_range", "contents", "reason"),
    [
        (HEAD + GAP + TAIL + b"\n", RANGE, CONTENTS, "1 bytes of the file lie after"),
        (HEAD + GAP + TAIL[:-1], RANGE, CONTENTS, "-1 bytes of the file lie after"),
        (HEAD + GAP + TAIL, RANGE[:2], CONTENTS, "two parts"),
        (HEAD + GAP + TAIL, [1, len(HEAD) - 1, *RANGE[2:]], CONTENTS, "first byte"),
        (HEAD + GAP + TAIL, [0, RANGE[2], RANGE[2], RANGE[3]], CONTENTS, "overlap"),
        (HEAD + GAP + TAIL, [0, len(HEAD) - 1, *RANGE[2:]], CONTENTS, "not exactly the signature"),
        (HEAD + GAP.lower().replace(b"0", b" ", 1) + TAIL, RANGE, CONTENTS, "not exactly the signature"),
        (HEAD + GAP + TAIL, RANGE, CONTENTS[:-1] + b"\x01", "not exactly the signature"),
    ],
)
def test_every_other_form_is_refused(pdf: bytes, byte_range: list[int], contents: bytes, reason: str) -> None:
    """Bytes after the range, a late start, an overlap, a gap that holds more or other than the signature."""
    problem = coverage_problem(pdf, byte_range, contents)
    assert problem is not None
    assert reason in problem


def test_padding_other_than_zero_is_refused() -> None:
    """Data may not hide behind the signature in its placeholder."""
    hidden = CONTENTS[:-1] + b"\x01"
    gap = b"<" + hidden.hex().upper().encode() + b">"
    problem = coverage_problem(HEAD + gap + TAIL, RANGE, hidden)
    assert problem is not None
    assert "other than zero" in problem
