"""Statements and the strict JSON under them: one reading, or none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.digests import canonical_json
from audit.errors import EvidenceError
from audit.signing.statement import SignerBlock, Statement, build_statement, read_statement
from audit.signing.strict_json import MAX_DEPTH, parse_json
from tests.signing.bundle_making import SIGNED_AT, Keyed

DIGEST = "sha256:" + "ab" * 32
BLOCK = SignerBlock("Seal", None, DIGEST, "ecdsa-p256-sha256")


def build(**changes: Any) -> Statement:
    """Return a small statement with some arguments changed."""
    arguments: dict[str, Any] = {
        "subjects": {"b.txt": DIGEST, "a.txt": DIGEST},
        "predicate": {"audit": "demo"},
        "signer": BLOCK,
        "signed_at": SIGNED_AT,
        "tool_version": "0.1.0",
    }
    return build_statement(**(arguments | changes))


def test_a_statement_reads_back_as_it_was_built() -> None:
    """Subjects are sorted; signer, time, tool and place are inside the predicate."""
    statement = build()
    assert read_statement(statement.payload) == statement
    assert list(statement.subjects) == ["a.txt", "b.txt"]
    document = json.loads(statement.payload)
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["predicateType"] == "https://affidavit.dev/audit/v1"
    assert document["subject"][0] == {"name": "a.txt", "digest": {"sha256": "ab" * 32}}
    assert document["predicate"]["signed_at"] == "2026-03-01T12:00:00Z"
    assert document["predicate"]["signer"]["fingerprint"] == DIGEST
    assert document["predicate"]["previous"] is None


def test_the_certificate_names_the_signer(keyed: Keyed) -> None:
    """The block repeats the certificate's own fields."""
    block = SignerBlock.of(keyed.signer.certificate)
    assert (block.common_name, block.organisation) == ("Acme seal", "Acme Audits")
    assert block.algorithm == "ecdsa-p256-sha256"


def test_the_time_is_written_in_utc() -> None:
    """Another zone's clock gives the same statement."""
    east = SIGNED_AT.astimezone(timezone(timedelta(hours=9)))
    assert build(signed_at=east).payload == build().payload
    with pytest.raises(EvidenceError):
        build(signed_at=datetime(2026, 3, 1))  # noqa: DTZ001 - the point of the test


@given(st.permutations(["a", "b/c", "b.txt", "é", "z"]))
def test_the_order_of_subjects_does_not_matter(names: list[str]) -> None:
    """The same files give the same bytes."""
    assert (
        build(subjects=dict.fromkeys(names, DIGEST)).payload
        == build(subjects=dict.fromkeys(sorted(names), DIGEST)).payload
    )


@pytest.mark.parametrize("key", ["signer", "signed_at", "tool", "sequence", "previous"])
def test_a_caller_cannot_write_the_room_s_own_keys(key: str) -> None:
    """Who and when are never the caller's words."""
    with pytest.raises(EvidenceError, match=key):
        build(predicate={key: "forged"})


@pytest.mark.parametrize(
    "changes",
    [
        {"sequence": 0},
        {"sequence": 2},
        {"sequence": True},
        {"previous": DIGEST},
        {"sequence": 2, "previous": "md5:00"},
        {"subjects": {}},
        {"subjects": {"a": "sha256:AB"}},
        {"predicate": {"x": float("nan")}},
    ],
)
def test_impossible_statements_are_not_built(changes: dict[str, Any]) -> None:
    """A place in the chain without its digest, no file at all, a digest of another form."""
    with pytest.raises(EvidenceError):
        build(**changes)


def test_a_second_statement_names_the_first() -> None:
    """The chain is inside the signature."""
    second = build(sequence=2, previous=build().digest)
    assert (second.sequence, second.previous) == (2, build().digest)


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../b", "a//b", "./a", "", "a\\b", "c:x", "a\nb", "a\u202eb", "attestation.sigstore.json"]
)
def test_unsafe_names_are_refused(name: str) -> None:
    """Nothing outside the bundle, and nothing that prints as something else."""
    with pytest.raises(EvidenceError):
        build(subjects={name: DIGEST})


def _edit(change: Callable[[Any], Any]) -> bytes:
    document = json.loads(build().payload)
    change(document)
    return canonical_json(document)


HOSTILE: dict[str, Callable[[Any], Any]] = {
    "type": lambda d: d.update(_type="https://in-toto.io/Statement/v0.1"),
    "predicate type": lambda d: d.update(predicateType="https://affidavit.dev/audit/v2"),
    "unknown key": lambda d: d.update(extra=1),
    "missing key": lambda d: d.pop("subject"),
    "subject not a list": lambda d: d.update(subject={}),
    "doubled subject": lambda d: d["subject"].append(d["subject"][1]),
    "unsorted subjects": lambda d: d["subject"].reverse(),
    "two digests": lambda d: d["subject"][0]["digest"].update(md5="00"),
    "upper-case digest": lambda d: d["subject"][0]["digest"].update(sha256="AB" * 32),
    "digest with a newline": lambda d: d["subject"][0]["digest"].update(sha256="ab" * 32 + "\n"),
    "predicate not an object": lambda d: d.update(predicate=[]),
    "signer missing": lambda d: d["predicate"].pop("signer"),
    "signer has another key": lambda d: d["predicate"]["signer"].update(role="king"),
    "signer of another type": lambda d: d["predicate"]["signer"].update(common_name=7),
    "time with an offset": lambda d: d["predicate"].update(signed_at="2026-03-01T12:00:00+00:00"),
    "time out of range": lambda d: d["predicate"].update(signed_at="2026-13-01T12:00:00Z"),
    "time in short": lambda d: d["predicate"].update(signed_at="2026-3-1T12:00:00Z"),
    "tool is text": lambda d: d["predicate"].update(tool="affidavit"),
    "sequence is text": lambda d: d["predicate"].update(sequence="1"),
    "sequence is a fraction": lambda d: d["predicate"].update(sequence=1.0),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_statements_are_refused(name: str) -> None:
    """Signed or not, a statement of another form is not read."""
    with pytest.raises(EvidenceError):
        read_statement(_edit(HOSTILE[name]))


def test_only_the_canonical_bytes_are_a_statement() -> None:
    """The same content with a space is another payload."""
    with pytest.raises(EvidenceError, match="canonical"):
        read_statement(build().payload.replace(b'":', b'": ', 1))


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":1}',
        b'{"x":{"a":1,"a":2}}',
        b"NaN",
        b"[Infinity]",
        b"[1e999]",
        b'"\\ud800"',
        b'{"\\udfff":1}',
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"{",
        b"",
        b"{} {}",
        b"1" * 5000,
        b"[" * 200 + b"]" * 200,
        b"[" * 200_000,
        b'{"a":' * 100_000,
    ],
)
def test_json_with_two_readings_is_refused(text: bytes) -> None:
    """Duplicate keys, NaN, overflow, unpaired surrogates, nesting: an EvidenceError, never a crash."""
    with pytest.raises(EvidenceError):
        parse_json(text, item="test")


@pytest.mark.parametrize(
    ("opening", "closing"),
    [("[", "]"), ('{"a":', "}"), ('[{"]":', "}]"), ('["[[[", {"\\"}": ', "}]"), ('{"\\\\":[', "]}")],
)
def test_nesting_is_counted_outside_of_strings(opening: str, closing: str) -> None:
    """A hundred levels are read and one more is refused, whatever brackets, quotes and escapes the strings hold."""
    levels = sum(c in "[{" for c in re.sub(r'"(\\.|[^"\\])*"', "", opening))
    times = MAX_DEPTH // levels
    deepest = f"{opening * times}0{closing * times}"
    assert parse_json(deepest.encode(), item="test") == json.loads(deepest)
    with pytest.raises(EvidenceError, match="nesting deeper than 100"):
        parse_json(f"[{deepest}]".encode(), item="test")


def test_brackets_and_long_numbers_in_strings_are_text() -> None:
    """Neither counts as nesting or as a number."""
    texts = ["[" * 500, "}" * 500, '"' + "[" * 200, "\\" * 3 + "{" * 200, "1e999"]
    assert parse_json(json.dumps(texts).encode(), item="test") == texts


def test_long_documents_are_refused_before_they_are_parsed() -> None:
    """The limit is on bytes."""
    with pytest.raises(EvidenceError, match="more than 3"):
        parse_json(b"[1,2]", item="test", max_size_bytes=3)


def test_time_reads_as_utc() -> None:
    """Not naive."""
    assert build().signed_at.tzinfo is UTC
