"""The signed statements: what of, by whom, when, with what tool (in-toto Statement v1).

An audit's statement lists the files of its bundle and names the statement before it; a difference's lists its files
and names the statements that were compared; a plan's what is to be measured; an approval's the statement that a person
approves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from audit.digests import Json, canonical_json, digest_bytes
from audit.errors import EvidenceError
from audit.signing.bundle_files import name_problem
from audit.signing.certificates import Certificate
from audit.signing.strict_json import expect_array, expect_object, expect_text, parse_json

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
TOOL_NAME = "affidavit"
MAX_STATEMENT_BYTES = 32 << 20

# Written by this room only: a caller that sets one of them would be signing its own version of who and when.
ROOM_KEYS = frozenset({"signer", "signed_at", "tool"})
_PLACE_KEYS = frozenset({"sequence", "previous"})
RESERVED_KEYS = ROOM_KEYS | _PLACE_KEYS
_ITEM = "signed statement"
_TIME_FORM = "%Y-%m-%dT%H:%M:%SZ"
_DIGEST_FORM = re.compile(r"sha256:[0-9a-f]{64}\Z")
_HEX_FORM = re.compile(r"[0-9a-f]{64}\Z")


class StatementKind(StrEnum):
    """What a statement says of its subjects, by its predicate type."""

    AUDIT = "https://affidavit.dev/audit/v1"
    DIFFERENCE = "https://affidavit.dev/difference/v1"
    PLAN = "https://affidavit.dev/plan/v1"
    APPROVAL = "https://affidavit.dev/approval/v1"


@dataclass(frozen=True, slots=True)
class SignerBlock:
    """The signer as the signed predicate names it."""

    common_name: str
    organisation: str | None
    fingerprint: str
    algorithm: str

    @classmethod
    def of(cls, certificate: Certificate) -> SignerBlock:
        """Return the block that a certificate's owner signs."""
        return cls(
            common_name=certificate.common_name,
            organisation=certificate.organisation,
            fingerprint=certificate.fingerprint,
            algorithm=certificate.algorithm.value,
        )

    def as_json(self) -> dict[str, Json]:
        """Return the block as it stands in the predicate."""
        return {
            "common_name": self.common_name,
            "organisation": self.organisation,
            "fingerprint": self.fingerprint,
            "algorithm": self.algorithm,
        }


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that was read back from its canonical bytes.

    Attributes:
        kind: what it says of its subjects.
        subjects: POSIX relative name -> `sha256:<hex>`, sorted by name.
        predicate: the whole predicate, the caller's keys and the room's.
        signed_at: UTC, whole seconds; the signer's own claim.
        sequence: of an audit, 1 for a first one; of other kinds always 1.
        previous: of an audit, the digest of the statement before it; None exactly when `sequence` is 1.
        payload: the canonical bytes that are signed.
    """

    kind: StatementKind
    subjects: Mapping[str, str]
    predicate: Mapping[str, Json]
    signer: SignerBlock
    signed_at: datetime
    tool_name: str
    tool_version: str
    sequence: int
    previous: str | None
    payload: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the payload: what the next statement names as `previous`."""
        return digest_bytes(self.payload)


def build_statement(
    subjects: Mapping[str, str],
    predicate: Mapping[str, Json],
    *,
    signer: SignerBlock,
    signed_at: datetime,
    tool_version: str,
    kind: StatementKind = StatementKind.AUDIT,
    sequence: int = 1,
    previous: str | None = None,
) -> Statement:
    """Return the statement over the subjects, in the form that will be signed.

    Args:
        subjects: POSIX relative name -> `sha256:<hex>`.
        predicate: the caller's claims; may not use `RESERVED_KEYS`.
        signer: who signs.
        signed_at: with a time zone; fractions of a second are dropped.
        tool_version: this package's version.
        kind: what is said of the subjects.
        sequence: of an audit, 1 for a first statement, then one more each time.
        previous: of an audit, `Statement.digest` of the one before; None exactly when `sequence` is 1.

    Raises:
        EvidenceError: a reserved key is used, a name or digest has the wrong form, or the sequence does not fit.
    """
    taken = sorted(RESERVED_KEYS & set(predicate))
    if taken:
        raise _wrong("predicate", "keys other than those that the signing room writes", ", ".join(taken))
    if signed_at.tzinfo is None:
        raise _wrong("signed_at", "a moment with a time zone", "one without")
    room: dict[str, Json] = {
        "signer": signer.as_json(),
        "signed_at": signed_at.astimezone(UTC).strftime(_TIME_FORM),
        "tool": {"name": TOOL_NAME, "version": tool_version},
    }
    if kind is StatementKind.AUDIT:
        room |= {"sequence": sequence, "previous": previous}
    statement: dict[str, Json] = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": _hex_of(subjects[name])}} for name in sorted(subjects)],
        "predicateType": kind.value,
        "predicate": {**predicate, **room},
    }
    # Read back: what this room writes is what its verifier accepts, or it is not written.
    return read_statement(canonical_json(statement), kind=kind)


def read_statement(payload: bytes, *, kind: StatementKind = StatementKind.AUDIT) -> Statement:
    """Return the statement in canonical bytes.

    Raises:
        EvidenceError: not canonical JSON, an unknown type or another kind, an unknown or missing key, a subject that is
            unsafe, doubled or out of order, or a field of the wrong type.
    """
    value = parse_json(payload, item=_ITEM, max_size_bytes=MAX_STATEMENT_BYTES)
    if canonical_json(value) != payload:
        raise _wrong(_ITEM, "canonical JSON", "another serialisation")
    keys = frozenset({"_type", "subject", "predicateType", "predicate"})
    outer = expect_object(value, item=_ITEM, keys=keys)
    for key, expected in (("_type", STATEMENT_TYPE), ("predicateType", kind.value)):
        if outer[key] != expected:
            raise _wrong(f"{_ITEM}, {key}", expected, str(outer[key])[:200])
    predicate = expect_object(outer["predicate"], item=f"{_ITEM}, predicate")
    expected_keys = RESERVED_KEYS if kind is StatementKind.AUDIT else ROOM_KEYS
    missing = sorted(expected_keys - set(predicate))
    if missing:
        raise _wrong(f"{_ITEM}, predicate", "the keys of the signing room", f"without {', '.join(missing)}")
    tool = expect_object(predicate["tool"], item=f"{_ITEM}, tool", keys=frozenset({"name", "version"}))
    sequence, previous = _read_place(predicate) if kind is StatementKind.AUDIT else (1, None)
    return Statement(
        kind=kind,
        subjects=_read_subjects(outer["subject"]),
        predicate=predicate,
        signer=_read_signer(predicate["signer"]),
        signed_at=_read_time(expect_text(predicate["signed_at"], item=f"{_ITEM}, signed_at")),
        tool_name=expect_text(tool["name"], item=f"{_ITEM}, tool"),
        tool_version=expect_text(tool["version"], item=f"{_ITEM}, tool"),
        sequence=sequence,
        previous=previous,
        payload=payload,
    )


def _read_subjects(value: Json) -> dict[str, str]:
    subjects: dict[str, str] = {}
    last: str | None = None
    for entry in expect_array(value, item=f"{_ITEM}, subject"):
        subject = expect_object(entry, item=f"{_ITEM}, subject", keys=frozenset({"name", "digest"}))
        name = expect_text(subject["name"], item=f"{_ITEM}, subject name")
        digest = expect_object(subject["digest"], item=f"{_ITEM}, digest", keys=frozenset({"sha256"}))
        hexadecimal = expect_text(digest["sha256"], item=f"{_ITEM}, digest")
        problem = name_problem(name)
        if problem is not None:
            raise _wrong(f"{_ITEM}, subject {name!r}", "a plain relative path", problem)
        if last is not None and name <= last:
            raise _wrong(f"{_ITEM}, subject {name!r}", "each name once, sorted", "a repeated name or another order")
        if not _HEX_FORM.match(hexadecimal):
            raise _wrong(f"{_ITEM}, subject {name!r}", "64 lower-case hexadecimal digits", repr(hexadecimal[:80]))
        subjects[name] = f"sha256:{hexadecimal}"
        last = name
    if not subjects:
        raise _wrong(f"{_ITEM}, subject", "at least one file", "none: an empty bundle proves nothing")
    return subjects


def _read_signer(value: Json) -> SignerBlock:
    item = f"{_ITEM}, signer"
    block = expect_object(value, item=item, keys=frozenset({"common_name", "organisation", "fingerprint", "algorithm"}))
    organisation = block["organisation"]
    return SignerBlock(
        common_name=expect_text(block["common_name"], item=item),
        organisation=None if organisation is None else expect_text(organisation, item=item),
        fingerprint=expect_text(block["fingerprint"], item=item),
        algorithm=expect_text(block["algorithm"], item=item),
    )


def _read_place(predicate: Mapping[str, Json]) -> tuple[int, str | None]:
    sequence, previous = predicate["sequence"], predicate["previous"]
    if not isinstance(sequence, int) or isinstance(sequence, bool) or sequence < 1:
        raise _wrong(f"{_ITEM}, sequence", "a whole number from 1", repr(sequence)[:80])
    if previous is None:
        if sequence != 1:
            raise _wrong(f"{_ITEM}, previous", f"the digest of statement {sequence - 1}", "null")
        return sequence, None
    digest = expect_text(previous, item=f"{_ITEM}, previous")
    if sequence == 1 or not _DIGEST_FORM.match(digest):
        raise _wrong(f"{_ITEM}, previous", "null for a first statement, sha256:<hex> after it", repr(digest[:80]))
    return sequence, digest


def _read_time(text: str) -> datetime:
    try:
        moment = datetime.strptime(text, _TIME_FORM).replace(tzinfo=UTC)
    except ValueError as error:
        raise _wrong(f"{_ITEM}, signed_at", "YYYY-MM-DDTHH:MM:SSZ", repr(text[:80])) from error
    if moment.strftime(_TIME_FORM) != text:
        raise _wrong(f"{_ITEM}, signed_at", "YYYY-MM-DDTHH:MM:SSZ", repr(text[:80]))
    return moment


def _hex_of(digest: str) -> str:
    if not _DIGEST_FORM.match(digest):
        raise _wrong("digest of a subject", "sha256:<64 hexadecimal digits>", repr(digest[:80]))
    return digest.removeprefix("sha256:")


def _wrong(item: str, expected: str, found: str) -> EvidenceError:
    return EvidenceError(
        item=item,
        expected=expected,
        found=found,
        hint="The statement was damaged or was not written by affidavit. Get an intact copy of the bundle.",
    )
