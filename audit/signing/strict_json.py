"""JSON as evidence: one reading only. No duplicate keys, no NaN, no deep nesting, no unpaired surrogates."""

from __future__ import annotations

import json
import re
from collections import Counter
from math import isfinite
from typing import NoReturn

from audit.digests import Json
from audit.errors import EvidenceError

MAX_DEPTH = 100
MAX_SIZE_BYTES = 256 << 20
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_STRING = re.compile(rb'"[^"]*"')
_BRACES_AS_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_STRUCTURE = bytes({*range(256)} - {*b'[]{}"'})


class _Refused(ValueError):  # noqa: N818 - private control flow inside one parse
    """The text is JSON to lenient readers only."""


def parse_json(data: bytes, *, item: str, max_size_bytes: int = MAX_SIZE_BYTES) -> Json:
    """Return the value of a JSON document that every strict reader reads alike.

    Args:
        data: UTF-8 without a byte order mark.
        item: what the bytes are, for the error.
        max_size_bytes: longer documents are refused before they are parsed.

    Raises:
        EvidenceError: not UTF-8, not JSON, a duplicate key, NaN or infinity, a number out of range, a string that is
            not Unicode, nested deeper than `MAX_DEPTH`, or too long.
    """
    if len(data) > max_size_bytes:
        raise _malformed(item, f"{len(data)} bytes, more than {max_size_bytes}")
    try:
        value: Json = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_no_constant, parse_float=_finite
        )
    except RecursionError as error:
        raise _malformed(item, f"nesting deeper than {MAX_DEPTH}") from error
    except ValueError as error:
        raise _malformed(item, str(error)[:200]) from error
    if _deeper_than(MAX_DEPTH, data):
        raise _malformed(item, f"nesting deeper than {MAX_DEPTH}")
    # Text that was decoded holds no surrogate but one that an escape wrote.
    if _SURROGATE.search(data) is not None:
        _check_texts(value, item)
    return value


def expect_object(value: Json, *, item: str, keys: frozenset[str] | None = None) -> dict[str, Json]:
    """Return the value if it is an object with exactly these keys (any keys when None)."""
    if not isinstance(value, dict):
        raise _malformed(item, f"a {type(value).__name__} where an object belongs")
    if keys is not None and set(value) != keys:
        missing = ", ".join(sorted(keys - set(value))) or "none"
        unknown = ", ".join(sorted(set(value) - keys)) or "none"
        raise _malformed(item, f"missing keys: {missing}; unknown keys: {unknown}")
    return value


def expect_array(value: Json, *, item: str) -> list[Json]:
    """Return the value if it is an array."""
    if not isinstance(value, list):
        raise _malformed(item, f"a {type(value).__name__} where an array belongs")
    return value


def expect_text(value: Json, *, item: str) -> str:
    """Return the value if it is a string."""
    if not isinstance(value, str):
        raise _malformed(item, f"a {type(value).__name__} where a string belongs")
    return value


def _unique_keys(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    if len(value) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise _Refused(f"duplicate key {counts.most_common(1)[0][0]!r}")
    return value


def _no_constant(word: str) -> NoReturn:
    raise _Refused(f"the number {word}")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise _Refused("a number out of range")
    return number


def _deeper_than(limit: int, data: bytes) -> bool:
    """Return whether arrays and objects of a valid document nest deeper, faster than a walk over values."""
    brackets = _ESCAPE.sub(b"", data).translate(_BRACES_AS_BRACKETS, _NO_STRUCTURE)
    brackets = _STRING.sub(b"", brackets)
    # Each round takes away the innermost pairs.
    for _ in range(limit):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _check_texts(value: Json, item: str) -> None:
    waiting: list[Json] = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, str):
            _check_text(node, item)
        elif isinstance(node, dict):
            waiting += node.keys()
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def _check_text(text: str, item: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _malformed(item, "a string with an unpaired surrogate") from error


def _malformed(item: str, found: str) -> EvidenceError:
    return EvidenceError(
        item=item,
        expected="strict JSON of the documented form",
        found=found,
        hint="The file was damaged or was not written by affidavit. Get an intact copy of the bundle.",
    )
