"""Texts as salted leaves: a digest binds a text to its place and tells nothing of it; all else is signed too."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.digests import canonical_json
from audit.errors import EvidenceError
from audit.records import EvidenceContent, PromptText
from audit.signing.redaction_record import RedactionRecord, read_record
from audit.signing.texts import (
    Leaf,
    Salts,
    Text,
    TextsClaim,
    claim_texts,
    commitment,
    findings_digests,
    findings_texts,
    leaf_of,
    node_labels,
    prompt_text,
    replace_texts,
    root_of,
)

SALTS = Salts(bytes(range(32)))
FINDINGS: dict[str, Any] = {
    "model": {"name": "m"},
    "cards": [
        {
            "sae": "s",
            "latent": 7,
            "labels": [
                {"source": "concept", "text": "louder on “A”", "score": None},
                {"source": "tokens", "text": "“dose”", "score": 0.9},
                {"source": "tokens", "text": None, "score": None},
            ],
            "contexts": [
                {"prompt": "0", "tokens": [{"text": "The", "activation": 0.0}, {"text": " dose", "activation": 2.0}]}
            ],
        }
    ],
    "causal": {
        "suppressions": [
            {"concept": "c", "continuations": [{"prompt": "p", "dose": 1.0, "untouched": "yes", "changed": "no"}]}
        ]
    },
}
CONTENT = EvidenceContent(
    tables={"prompt": "sha256:" + "a" * 64},
    prompts=(PromptText(0, "c", "The dose", ("The", " dose")), PromptText(1, "c", "", ())),
    labels={("s", 7): "“dose”"},
    others=(),
)


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Return the findings after a change."""
    value = copy.deepcopy(FINDINGS)
    change(value)
    return value


def test_the_texts_are_these_in_this_order() -> None:
    """Labels by tokens and continuations; contexts are their prompts', other labels quote no prompt."""
    assert findings_texts(FINDINGS) == (
        Text("cards/0/labels/1", "“dose”", 6),
        Text("causal/suppressions/0/continuations/0", {"prompt": "p", "untouched": "yes", "changed": "no"}, 6),
    )
    claim, leaves = claim_texts(FINDINGS, CONTENT, SALTS)
    places = ["prompt/0", "prompt/1", "cards/0/labels/1", "causal/suppressions/0/continuations/0"]
    assert [leaf.place for leaf in leaves] == places
    assert (claim.leaves, claim.root) == (4, root_of(leaves))


def test_other_texts_leave_the_digests_of_the_rest() -> None:
    """What a redaction changes is not in them."""
    other = replace_texts(FINDINGS, own=lambda _: "x", context=lambda _, pieces: ["y"] * len(pieces))
    assert other != FINDINGS
    assert findings_digests(other) == findings_digests(FINDINGS)
    assert other["causal"]["suppressions"][0]["continuations"][0]["dose"] == 1.0


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("model", lambda v: v["model"].update(name="n")),
        ("cards", lambda v: v["cards"][0].update(latent=8)),
        ("cards", lambda v: v["cards"][0]["labels"][0].update(text="louder on “B”")),
        ("cards", lambda v: v["cards"][0]["labels"][1].update(score=0.91)),
        ("cards", lambda v: v["cards"][0]["contexts"][0].update(prompt="1")),
        ("cards", lambda v: v["cards"][0]["contexts"][0]["tokens"][1].update(activation=2)),
        ("cards", lambda v: v["cards"][0]["contexts"][0]["tokens"].pop()),
        ("causal", lambda v: v["causal"]["suppressions"][0].update(concept="d")),
        ("causal", lambda v: v["causal"]["suppressions"][0]["continuations"][0].update(dose=2.0)),
        ("more", lambda v: v.update(more=1)),
    ],
)
def test_any_other_value_is_in_the_digest_of_its_key(key: str, change: Callable[[dict[str, Any]], object]) -> None:
    """And in no other; 2 is not 2.0."""
    before, after = findings_digests(FINDINGS), findings_digests(changed(change))
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == {key}


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"cards": {}},
        {"cards": [{"labels": [], "contexts": None}]},
        {"cards": [{"labels": [{"source": "tokens", "text": 3}], "contexts": []}]},
        {"cards": [{"labels": [], "contexts": [{"prompt": 1, "tokens": []}]}]},
        {"cards": [{"labels": [], "contexts": [{"prompt": "1", "tokens": [{"text": None}]}]}]},
        {"causal": {"suppressions": [{"continuations": [{"prompt": "p"}]}]}},
    ],
)
def test_another_form_is_an_error_and_no_crash(value: Any) -> None:
    """Hostile findings are refused."""
    with pytest.raises(EvidenceError):
        findings_texts(value)


@given(st.text(), st.text(), st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_a_commitment_is_of_one_text_at_one_place_with_one_salt(one: str, other: str, salt: bytes, more: bytes) -> None:
    """Any of the three changed gives another digest."""
    text = Text("prompt/1", one, len(one))
    found = commitment(text, salt)
    assert (commitment(Text("prompt/1", other, len(other)), salt) == found) == (one == other)
    assert (commitment(text, more) == found) == (salt == more)
    assert commitment(Text("prompt/2", one, len(one)), salt) != found


def test_pieces_are_part_of_a_prompts_text() -> None:
    """The same words in other tokens are another text."""
    one, other = PromptText(1, "c", "ab", ("a", "b")), PromptText(1, "c", "ab", ("ab",))
    assert leaf_of(prompt_text(one), bytes(16)) != leaf_of(prompt_text(other), bytes(16))


def test_length_and_place_are_in_the_root() -> None:
    """A withheld text's length cannot be changed either."""
    leaf = Leaf("prompt/1", 5, "sha256:" + "a" * 64)
    others = [Leaf("prompt/1", 6, leaf.commitment), Leaf("prompt/2", 5, leaf.commitment)]
    assert len({root_of([each]) for each in (leaf, *others)}) == 3


def test_salts_of_two_places_or_secrets_differ() -> None:
    """One secret gives 16 bytes for each place; the file holds the secret and nothing else."""
    found = {salts.of(place) for salts in (SALTS, Salts(bytes(32))) for place in ("prompt/1", "prompt/11", "")}
    assert len(found) == 6
    assert {len(salt) for salt in found} == {16}
    assert Salts.read(SALTS.as_bytes(), item="salts.json") == SALTS
    assert SALTS.secret.hex() not in repr(SALTS)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b'{"schema":"x","secret":""}', canonical_json({"schema": "affidavit/salts/2", "secret": "00" * 32})],
)
def test_a_broken_secret_is_refused(data: bytes) -> None:
    """Another form or version is an error with the file's name."""
    with pytest.raises(EvidenceError, match=r"salts\.json"):
        Salts.read(data, item="salts.json")


def test_the_claim_is_read_as_written() -> None:
    """And every other form is refused."""
    claim, _ = claim_texts(FINDINGS, CONTENT, SALTS)
    assert TextsClaim.read(claim.as_json(), item="texts") == claim
    for change in ({"leaves": -1}, {"leaves": True}, {"root": "x"}, {"scheme": "x"}, {"tables": {"a": 1}}, {"more": 1}):
        with pytest.raises(EvidenceError):
            TextsClaim.read(claim.as_json() | change, item="texts")


def test_a_record_is_read_as_written() -> None:
    """Kept salts come back, withheld ones are null."""
    _, leaves = claim_texts(FINDINGS, CONTENT, SALTS)
    record = RedactionRecord(
        "sha256:" + "c" * 64, ("c",), {"affidavit": "0.1.0"}, leaves, {"prompt/1": SALTS.of("prompt/1")}
    )
    assert read_record(record.as_bytes(), item="redaction.json") == record
    assert [row[3] is None for row in json.loads(record.as_bytes())["leaves"]] == [True, False, True, True]
    withheld = record.withheld
    assert (withheld.prompts, withheld.labels, withheld.continuations, withheld.texts) == (1, 1, 1, 4)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.pop("statement"),
        lambda v: v.update(schema="affidavit/redaction/2"),
        lambda v: v["leaves"].append(v["leaves"][0]),
        lambda v: v["leaves"][0].pop(),
        lambda v: v["leaves"][0].__setitem__(1, -1),
        lambda v: v["leaves"][0].__setitem__(2, "sha256:00"),
        lambda v: v["leaves"][0].__setitem__(3, "00"),
        lambda v: v.update(withheld=[1]),
        lambda v: v.update(made_with={"affidavit": 1}),
    ],
)
def test_a_broken_record_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    """Wrong types, unknown and missing keys, a place twice."""
    _, leaves = claim_texts(FINDINGS, CONTENT, SALTS)
    value = json.loads(RedactionRecord("sha256:" + "c" * 64, (), {}, leaves, {}).as_bytes())
    change(value)
    with pytest.raises(EvidenceError, match=r"redaction\.json"):
        read_record(canonical_json(value), item="redaction.json")
    with pytest.raises(EvidenceError, match="canonical"):
        read_record(RedactionRecord("sha256:" + "c" * 64, (), {}, leaves, {}).as_bytes() + b"\n", item="redaction.json")


def test_a_nodes_label_is_the_first_scored_one() -> None:
    """As the graph chooses it."""
    assert node_labels(FINDINGS) == {("s", 7): "“dose”"}
    assert node_labels({"cards": []}) == {}
