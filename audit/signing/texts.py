"""The texts of a bundle as salted leaves of one tree, and everything else of it by digest: what a redacted copy needs.

A statement over file digests alone says nothing of a file from which a text was taken. So it also holds the root of a
tree with one leaf a text, and the digests of findings.json and of each table without their texts.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from audit.digests import Json, canonical_json, digest_json
from audit.errors import EvidenceError
from audit.records import EvidenceContent, PromptText
from audit.signing.merkle import tree_root
from audit.signing.strict_json import expect_array, expect_object, expect_text, parse_json

# Where the claim stands in the predicate.
TEXTS_KEY = "texts"
TEXTS_SCHEME = "affidavit/texts/1"
SALTS_SCHEMA = "affidavit/salts/1"
SECRET_BYTES, SALT_BYTES = 32, 16
_LABEL_SOURCE = "tokens"
_CONTINUATION = ("prompt", "untouched", "changed")
_DIGEST_FORM = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Text:
    """A text where it stands: its place in the bundle, what is committed to, and its length in characters."""

    place: str
    value: Json
    length: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """What the tree says of one text: enough to check it, too little to guess it."""

    place: str
    length: int
    commitment: str

    @property
    def data(self) -> bytes:
        """Return the bytes that the tree hashes."""
        return canonical_json([self.place, self.length, self.commitment])


@dataclass(frozen=True, slots=True)
class Salts:
    """The secret of a bundle; a salt that it gives away says nothing about the others."""

    secret: bytes = field(repr=False)

    def of(self, place: str) -> bytes:
        """Return the salt of the text at a place, 16 bytes."""
        return hmac.digest(self.secret, place.encode(), "sha256")[:SALT_BYTES]

    def as_bytes(self) -> bytes:
        """Return salts.json."""
        return canonical_json({"schema": SALTS_SCHEMA, "secret": self.secret.hex()})

    @classmethod
    def read(cls, data: bytes, *, item: str) -> Salts:
        """Return the secret that salts.json holds.

        Raises:
            EvidenceError: it has another form.
        """
        value = expect_object(parse_json(data, item=item), item=item, keys=frozenset({"schema", "secret"}))
        secret = hex_bytes(value["secret"], SECRET_BYTES, item=f"{item}, secret")
        if value["schema"] != SALTS_SCHEMA:
            raise wrong_form(f"{item}, schema", SALTS_SCHEMA, str(value["schema"])[:80])
        return cls(secret)


@dataclass(frozen=True, slots=True)
class TextsClaim:
    """What the signed predicate says of the texts, and of everything else without them.

    Attributes:
        leaves: how many texts there are.
        root: `sha256:<hex>`, the root of their tree.
        findings: key of findings.json -> digest of its value without texts.
        tables: table of the database -> digest of its columns and rows without texts.
    """

    leaves: int
    root: str
    findings: Mapping[str, str]
    tables: Mapping[str, str]

    def as_json(self) -> dict[str, Json]:
        """Return the claim as it stands in the predicate."""
        return {
            "scheme": TEXTS_SCHEME,
            "leaves": self.leaves,
            "root": self.root,
            "findings": dict(self.findings),
            "tables": dict(self.tables),
        }

    @classmethod
    def read(cls, value: Json, *, item: str) -> TextsClaim:
        """Return the claim of a predicate.

        Raises:
            EvidenceError: it has another form, or a later version's.
        """
        keys = frozenset({"scheme", "leaves", "root", "findings", "tables"})
        claim = expect_object(value, item=item, keys=keys)
        if claim["scheme"] != TEXTS_SCHEME:
            raise wrong_form(f"{item}, scheme", TEXTS_SCHEME, str(claim["scheme"])[:80])
        leaves = claim["leaves"]
        if not isinstance(leaves, int) or isinstance(leaves, bool) or leaves < 0:
            raise wrong_form(f"{item}, leaves", "a number of texts", repr(leaves)[:80])
        return cls(
            leaves,
            digest_text(claim["root"], item=f"{item}, root"),
            *(
                {
                    name: digest_text(digest, item=f"{item}, {part}")
                    for name, digest in expect_object(claim[part], item=f"{item}, {part}").items()
                }
                for part in ("findings", "tables")
            ),
        )


def commitment(text: Text, salt: bytes) -> str:
    """Return the salted digest of a text at its place; salts have one length, so no other pair gives these bytes."""
    return f"sha256:{hashlib.sha256(salt + canonical_json([text.place, text.value])).hexdigest()}"


def leaf_of(text: Text, salt: bytes) -> Leaf:
    """Return the leaf of a text."""
    return Leaf(text.place, text.length, commitment(text, salt))


def root_of(leaves: Sequence[Leaf]) -> str:
    """Return `sha256:<hex>` of the tree over the leaves, in their order."""
    return f"sha256:{tree_root(leaf.data for leaf in leaves).hex()}"


def prompt_text(prompt: PromptText) -> Text:
    """Return the one text of a prompt: its words and their tokens, so that no token has a digest of its own."""
    value: Json = {"text": prompt.text, "pieces": list(prompt.pieces)}
    return Text(f"prompt/{prompt.prompt}", value, len(prompt.text))


def findings_texts(findings: Json) -> tuple[Text, ...]:
    """Return the texts of findings.json in their order; those of contexts are their prompts' and are not among them.

    Raises:
        EvidenceError: cards or suppressions have another form.
    """
    found: list[Text] = []

    def note(text: Text) -> Json:
        found.append(text)
        return text.value

    replace_texts(findings, own=note, context=lambda _, pieces: pieces)
    return tuple(found)


def findings_digests(findings: Json) -> dict[str, str]:
    """Return the digest of each key's value without texts: null stands in the place of each.

    Raises:
        EvidenceError: cards or suppressions have another form.
    """
    bare = replace_texts(findings, own=_nothing, context=lambda _, pieces: [None] * len(pieces))
    return {key: digest_json(value) for key, value in bare.items()}


def claim_texts(findings: Json, content: EvidenceContent, salts: Salts) -> tuple[TextsClaim, tuple[Leaf, ...]]:
    """Return what is signed of the texts of a bundle, and the leaves behind it.

    Args:
        findings: findings.json, parsed.
        content: of the bundle's database.
        salts: the bundle's secret.
    """
    texts = (*map(prompt_text, content.prompts), *findings_texts(findings))
    leaves = tuple(leaf_of(text, salts.of(text.place)) for text in texts)
    return TextsClaim(len(leaves), root_of(leaves), findings_digests(findings), content.tables), leaves


def replace_texts(
    findings: Json, *, own: Callable[[Text], Json], context: Callable[[str, list[Json]], Sequence[Json]]
) -> dict[str, Json]:
    """Return findings.json with other texts.

    Args:
        findings: findings.json, parsed; not changed.
        own: what takes the place of a text's value.
        context: what takes the place of the pieces of a context, given its prompt's number in digits.

    Raises:
        EvidenceError: cards or suppressions have another form.
    """
    item = "findings.json"
    result = expect_object(findings, item=item)
    if "cards" in result:
        cards = expect_array(result["cards"], item=f"{item}, cards")
        result = {**result, "cards": [_card(card, f"cards/{n}", own, context) for n, card in enumerate(cards)]}
    causal = result.get("causal")
    if causal is not None:
        part = expect_object(causal, item=f"{item}, causal")
        held = expect_array(part.get("suppressions"), item=f"{item}, suppressions")
        places = (f"causal/suppressions/{n}" for n in range(len(held)))
        changed = [_suppression(one, place, own) for one, place in zip(held, places, strict=True)]
        result = {**result, "causal": {**part, "suppressions": changed}}
    return result


def node_labels(findings: Json) -> dict[tuple[str, int], str]:
    """Return the label of each carded feature's node: the first label that was scored, as `audit.graph` chooses it.

    Raises:
        EvidenceError: cards have another form.
    """
    labels: dict[tuple[str, int], str] = {}
    item = "findings.json, cards"
    for value in expect_array(expect_object(findings, item=item).get("cards", []), item=item):
        card = expect_object(value, item=item)
        own = [expect_object(label, item=item) for label in expect_array(card.get("labels"), item=item)]
        scored = [
            label.get("text") for label in own if label.get("text") is not None and label.get("score") is not None
        ]
        latent = card.get("latent")
        if scored and isinstance(latent, int):
            labels[expect_text(card.get("sae"), item=item), latent] = expect_text(scored[0], item=item)
    return labels


def digest_text(value: Json, *, item: str) -> str:
    """Return the value if it is `sha256:<64 hexadecimal digits>`."""
    text = expect_text(value, item=item)
    if not _DIGEST_FORM.match(text):
        raise wrong_form(item, "sha256:<64 hexadecimal digits>", repr(text[:80]))
    return text


def hex_bytes(value: Json, size: int, *, item: str) -> bytes:
    """Return the bytes of lower-case hexadecimal digits of a fixed size."""
    text = expect_text(value, item=item)
    if not re.fullmatch(f"[0-9a-f]{{{2 * size}}}", text):
        raise wrong_form(item, f"{2 * size} lower-case hexadecimal digits", repr(text[:80]))
    return bytes.fromhex(text)


def wrong_form(item: str, expected: str, found: str) -> EvidenceError:
    """Return the error for a part that this version does not write."""
    return EvidenceError(
        item=item,
        expected=expected,
        found=found,
        hint="The file was damaged, or was written by another version. Get an intact copy of the bundle.",
    )


def _card(
    value: Json, place: str, own: Callable[[Text], Json], context: Callable[[str, list[Json]], Sequence[Json]]
) -> Json:
    item = f"findings.json, {place}"
    card = expect_object(value, item=item)
    labels: list[Json] = []
    for n, each in enumerate(expect_array(card.get("labels"), item=item)):
        label = expect_object(each, item=item)
        # Only these quote prompts: the others name concepts, the model's vocabulary, or what somebody else wrote.
        if label.get("source") == _LABEL_SOURCE and label.get("text") is not None:
            text = expect_text(label["text"], item=item)
            label = {**label, "text": own(Text(f"{place}/labels/{n}", text, len(text)))}
        labels.append(label)
    contexts: list[Json] = []
    for each in expect_array(card.get("contexts"), item=item):
        shown = expect_object(each, item=item)
        tokens = [expect_object(token, item=item) for token in expect_array(shown.get("tokens"), item=item)]
        pieces: list[Json] = [expect_text(token.get("text"), item=item) for token in tokens]
        others = context(expect_text(shown.get("prompt"), item=item), pieces)
        contexts.append(
            {**shown, "tokens": [{**token, "text": text} for token, text in zip(tokens, others, strict=True)]}
        )
    return {**card, "labels": labels, "contexts": contexts}


def _suppression(value: Json, place: str, own: Callable[[Text], Json]) -> Json:
    item = f"findings.json, {place}"
    held = expect_object(value, item=item)
    continuations: list[Json] = []
    for n, each in enumerate(expect_array(held.get("continuations"), item=item)):
        written = expect_object(each, item=item)
        texts = {name: expect_text(written.get(name), item=item) for name in _CONTINUATION}
        other = own(Text(f"{place}/continuations/{n}", dict(texts), sum(map(len, texts.values()))))
        replaced = other if isinstance(other, Mapping) else dict.fromkeys(_CONTINUATION, other)
        continuations.append({**written, **replaced})
    return {**held, "continuations": continuations}


def _nothing(_: Text) -> Json:
    return None
