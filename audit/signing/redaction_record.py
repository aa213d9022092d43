"""redaction.json: what marks a redacted copy, with a row a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from audit.digests import Json, canonical_json
from audit.records import Withheld
from audit.signing.strict_json import expect_array, expect_object, expect_text, parse_json
from audit.signing.texts import SALT_BYTES, Leaf, digest_text, hex_bytes, wrong_form

REDACTION_SCHEMA = "affidavit/redaction/1"
_KEYS = frozenset({"schema", "statement", "withheld", "made_with", "leaves"})
# place, length, commitment, salt
_COLUMNS = 4


@dataclass(frozen=True, slots=True)
class RedactionRecord:
    """What a redacted copy says of itself.

    Attributes:
        statement: `sha256:<hex>` of the statement that was signed over the original.
        parts: ids of the concepts and mixes whose prompts are withheld, sorted.
        made_with: library -> version, of what made the reports.
        leaves: of every text, in the order of the signed tree.
        salts: place -> salt, of the texts that are still there.
    """

    statement: str
    parts: tuple[str, ...]
    made_with: Mapping[str, str]
    leaves: tuple[Leaf, ...]
    salts: Mapping[str, bytes]

    @property
    def withheld(self) -> Withheld:
        """Return what is withheld, counted."""
        kinds = Counter(_kind(leaf.place) for leaf in self.leaves if leaf.place not in self.salts)
        return Withheld(
            parts=self.parts,
            prompts=kinds["prompt"],
            labels=kinds["cards"],
            continuations=kinds["causal"],
            texts=len(self.leaves),
            statement=self.statement,
        )

    def as_bytes(self) -> bytes:
        """Return redaction.json, canonical JSON."""
        return canonical_json(
            {
                "schema": REDACTION_SCHEMA,
                "statement": self.statement,
                "withheld": list(self.parts),
                "made_with": dict(self.made_with),
                "leaves": [
                    [leaf.place, leaf.length, leaf.commitment, self.salts[leaf.place].hex()]
                    if leaf.place in self.salts
                    else [leaf.place, leaf.length, leaf.commitment, None]
                    for leaf in self.leaves
                ],
            }
        )


def read_record(data: bytes, *, item: str) -> RedactionRecord:
    """Return the record in canonical bytes.

    Raises:
        EvidenceError: another form, another version, a place twice, or bytes that are not canonical.
    """
    value = parse_json(data, item=item)
    record = expect_object(value, item=item, keys=_KEYS)
    if record["schema"] != REDACTION_SCHEMA:
        raise wrong_form(f"{item}, schema", REDACTION_SCHEMA, str(record["schema"])[:80])
    if canonical_json(value) != data:
        raise wrong_form(item, "canonical JSON", "another serialisation")
    leaves: list[Leaf] = []
    salts: dict[str, bytes] = {}
    for row in expect_array(record["leaves"], item=f"{item}, leaves"):
        leaf, salt = _row(row, item=f"{item}, leaf {len(leaves)}")
        leaves.append(leaf)
        if salt is not None:
            salts[leaf.place] = salt
    if len({leaf.place for leaf in leaves}) != len(leaves):
        raise wrong_form(f"{item}, leaves", "each place once", "a place twice")
    made_with = expect_object(record["made_with"], item=f"{item}, made_with")
    return RedactionRecord(
        statement=digest_text(record["statement"], item=f"{item}, statement"),
        parts=tuple(
            expect_text(part, item=f"{item}, withheld")
            for part in expect_array(record["withheld"], item=f"{item}, withheld")
        ),
        made_with={name: expect_text(version, item=f"{item}, made_with") for name, version in made_with.items()},
        leaves=tuple(leaves),
        salts=salts,
    )


def _row(value: Json, *, item: str) -> tuple[Leaf, bytes | None]:
    row = expect_array(value, item=item)
    if len(row) != _COLUMNS:
        raise wrong_form(item, "place, length, commitment and salt", f"{len(row)} values")
    place, length, commitment, salt = row
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        raise wrong_form(item, "a length in characters", repr(length)[:80])
    leaf = Leaf(expect_text(place, item=item), length, digest_text(commitment, item=item))
    return leaf, None if salt is None else hex_bytes(salt, SALT_BYTES, item=item)


def _kind(place: str) -> str:
    return place.partition("/")[0]
