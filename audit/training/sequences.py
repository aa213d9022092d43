"""From documents to token sequences: plain windows, and the chat template that audits of instruct models run in."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from audit.training.corpus import Document

CONTEXT_TOKENS = 256
_SHORTEST_TOKENS = 24
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_FEWEST_WORDS = 4
_TURNS_A_DOCUMENT = 8
_USER_WORDS, _ASSISTANT_WORDS = 120, 150
_ANSWERED_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class TextSequence:
    """Tokens of one document that the model reads at once.

    Args:
        id: number in the order of making.
        ids: token ids; BOS and template included.
        content: which positions count: the document's own words, neither BOS nor anything of the template.
        document: digest of the document that it was cut from.
    """

    id: int
    ids: tuple[int, ...]
    content: tuple[bool, ...]
    register: str
    chat: bool
    document: str

    @property
    def label(self) -> str:
        """Return how an error names it."""
        return f"sequence {self.id} of document {self.document[:12]}"


class SequenceMaker:
    """Cuts documents into sequences; a share of the tokens gets the model's chat template.

    A document is chat-wrapped whenever the share so far is below the target, so the share is met whatever the lengths
    of the documents. The same documents in the same order always give the same sequences.

    Args:
        tokenizer: a fast tokenizer.
        chat_share: wanted share of content tokens in chat format; 0 for a model without a chat template.
        register_limits: the largest share of content tokens that a register may take.
        seed: of where documents are cut into turns.
        context_tokens: the longest sequence; of a model with a shorter context, that.
    """

    def __init__(
        self,
        tokenizer: Any,  # noqa: ANN401 - transformers has no common tokenizer type
        *,
        chat_share: float,
        seed: int,
        register_limits: dict[str, float] | None = None,
        context_tokens: int = CONTEXT_TOKENS,
    ) -> None:
        self._tokenizer = tokenizer
        self._chat_share = chat_share
        self._seed = seed
        self._limits = register_limits or {}
        self._made = 0
        self._tokens = 0
        self._chat_tokens = 0
        self._register_tokens: dict[str, int] = {}
        self._leading = _leading_specials(tokenizer)
        self._head = _chat_head(tokenizer) if chat_share > 0 else ""
        self._context = min(CONTEXT_TOKENS, context_tokens)

    def make(self, documents: Iterable[Document]) -> Iterator[TextSequence]:
        """Yield the sequences of the documents in order."""
        for document in documents:
            limit = self._limits.get(document.register, 1.0)
            if limit == 0 or self._register_tokens.get(document.register, 0) > limit * self._tokens:
                continue
            wanted = self._chat_share > 0 and self._chat_tokens < self._chat_share * self._tokens
            # A template that rewrites the words gives nothing: then the document stays plain.
            turns = list(self._chat(document)) if wanted else []
            chat = bool(turns)
            for ids, content in turns or self._plain(document):
                count = sum(content)
                self._tokens += count
                self._chat_tokens += count if chat else 0
                self._register_tokens[document.register] = self._register_tokens.get(document.register, 0) + count
                yield TextSequence(self._made, tuple(ids), tuple(content), document.register, chat, document.digest)
                self._made += 1

    def _plain(self, document: Document) -> Iterator[tuple[list[int], list[bool]]]:
        ids = self._tokenizer(document.text, add_special_tokens=False)["input_ids"]
        step = self._context - len(self._leading)
        for start in range(0, len(ids), step):
            window = ids[start : start + step]
            if len(window) >= _SHORTEST_TOKENS:
                yield self._leading + window, [False] * len(self._leading) + [True] * len(window)

    def _chat(self, document: Document) -> Iterator[tuple[list[int], list[bool]]]:
        rng = random.Random(f"{self._seed}:{document.digest}")  # noqa: S311 - cuts text, keeps no secret
        sentences = [s.strip() for s in _SENTENCE_END.split(document.text.replace("\n", " "))]
        sentences = [s for s in sentences if len(s.split()) >= _FEWEST_WORDS]
        at = 0
        for _ in range(_TURNS_A_DOCUMENT):
            if at >= len(sentences):
                return
            count = rng.randint(1, 4)
            user, at = _first_words(sentences[at : at + count], _USER_WORDS), at + count
            assistant = None
            if rng.random() < _ANSWERED_SHARE and at < len(sentences):
                count = rng.randint(1, 5)
                assistant, at = _first_words(sentences[at : at + count], _ASSISTANT_WORDS), at + count
            if (rendered := self._render(user, assistant)) is not None:
                yield rendered

    def _render(self, user: str, assistant: str | None) -> tuple[list[int], list[bool]] | None:
        messages = [{"role": "user", "content": user}]
        if assistant is not None:
            messages.append({"role": "assistant", "content": assistant})
        text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=assistant is None)
        start = len(self._head)
        own = [(start, start + len(user))]
        if assistant is not None:
            answer = text.find(assistant, own[0][1])
            own.append((answer, answer + len(assistant)))
        if not text.startswith(self._head + user) or own[-1][0] < 0:
            # The template rewrote the words; where they begin is unknown.
            return None
        encoded = self._tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
        ids, spans = encoded["input_ids"], encoded["offset_mapping"]
        content = [any(left < end and right > begin for begin, end in own) for left, right in spans][: self._context]
        return (ids[: self._context], content) if any(content) else None


def take_tokens(maker: SequenceMaker, documents: Iterable[Document], *, tokens: int) -> tuple[list[TextSequence], int]:
    """Return the first sequences of the documents that hold `tokens` content tokens, and how many they hold."""
    taken: list[TextSequence] = []
    found = 0
    for sequence in maker.make(documents):
        if found >= tokens:
            break
        taken.append(sequence)
        found += sum(sequence.content)
    return taken, found


def _first_words(sentences: list[str], most: int) -> str:
    return " ".join(" ".join(sentences).split()[:most])


def _chat_head(tokenizer: Any) -> str:  # noqa: ANN401 - transformers has no common tokenizer type
    """Return what the template puts before the first user turn's words: what two renderings have in common."""
    messages = ([{"role": "user", "content": text}] for text in ("x", "0"))
    one, other = (str(tokenizer.apply_chat_template(m, tokenize=False)) for m in messages)
    return one[: next(n for n, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)]


def _leading_specials(tokenizer: Any) -> list[int]:  # noqa: ANN401 - transformers has no common tokenizer type
    """Return the special tokens that the tokenizer puts before a text, usually BOS or nothing."""
    special = set(tokenizer.all_special_ids)
    leading = []
    for token in tokenizer("a")["input_ids"]:
        if token not in special:
            break
        leading.append(int(token))
    return leading
