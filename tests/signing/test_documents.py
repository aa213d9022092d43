"""Each document of a folder is parsed once."""

from __future__ import annotations

import pytest

from audit.errors import EvidenceError
from audit.signing.documents import Documents


def test_a_document_is_parsed_once_and_a_broken_one_never() -> None:
    """The second question gets the same value without another look at the file; an error is told each time."""
    asked: list[str] = []

    def read(name: str) -> bytes:
        asked.append(name)
        return b'{"a": [1]}' if name == "whole.json" else b'{"a": 1, "a": 2}'

    files = Documents(read)
    assert files.parsed("whole.json") is files.parsed("whole.json")
    assert files.parsed("whole.json") == {"a": [1]}
    assert asked == ["whole.json"]
    for _ in range(2):
        with pytest.raises(EvidenceError, match=r"broken\.json"):
            files.parsed("broken.json")
