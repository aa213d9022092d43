"""Documents to windows: their length, what counts, the share of chat, the limits of registers."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from audit.training.corpus import Document
from audit.training.sequences import CONTEXT_TOKENS, SequenceMaker, TextSequence
from tests.capture.conftest import CHAT, make_tokenizer
from tests.training.conftest import LIMITED

HEAD = "<|start|>system\nyou are a helpful assistant<|end|>\n<|start|>user\n"
BOS = "<|bos|>"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Return a tokenizer with a chat template that adds nothing to plain text."""
    return make_tokenizer(chat=True)


@pytest.fixture(scope="module")
def bos_tokenizer() -> Any:
    """Return a tokenizer that puts BOS before a text, with a template that begins with BOS too."""
    tokenizer = make_tokenizer(chat=True)
    tokenizer.add_special_tokens({"bos_token": BOS})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.bos_token_id)]
    )
    tokenizer.chat_template = "{{ bos_token }}" + CHAT
    return tokenizer


def make(tokenizer: Any, documents: tuple[Document, ...], **options: Any) -> list[TextSequence]:
    """Return all sequences of the documents."""
    return list(SequenceMaker(tokenizer, **({"chat_share": 0.0, "seed": 0} | options)).make(documents))


def document(text: str) -> Document:
    """Return a document with a text."""
    return Document(text, "web", "", "", hashlib.sha256(text.encode()).hexdigest())


def text_of(tokenizer: Any, ids: tuple[int, ...] | list[int]) -> str:
    """Return the text of byte-level tokens."""
    return "".join(tokenizer.convert_ids_to_tokens(list(ids))).replace("Ġ", " ").replace("Ċ", "\n")


def count(sequences: list[TextSequence]) -> int:
    """Return the number of content tokens."""
    return sum(sum(s.content) for s in sequences)


def test_plain_windows_are_the_document_cut_at_256_tokens(tokenizer: Any, documents: tuple[Document, ...]) -> None:
    """Nothing is lost but a rest of fewer than 24 tokens, all of it counts, and no window is longer than 256."""
    for item in documents[:60]:
        windows = make(tokenizer, (item,))
        joined = "".join(text_of(tokenizer, w.ids) for w in windows)
        assert item.text.startswith(joined)
        rest = tokenizer(item.text[len(joined) :], add_special_tokens=False)["input_ids"]
        assert len(rest) < 24
        assert all(len(w.ids) <= CONTEXT_TOKENS == 256 for w in windows)
        assert all(all(w.content) and not w.chat for w in windows)
    assert max(len(w.ids) for w in make(tokenizer, documents[:60])) == CONTEXT_TOKENS


def test_chat_windows_have_at_most_256_tokens(tokenizer: Any, documents: tuple[Document, ...]) -> None:
    """No window is longer than the context that the card states, template included."""
    assert max(len(s.ids) for s in make(tokenizer, documents, chat_share=0.5)) <= CONTEXT_TOKENS


@pytest.mark.parametrize("share", [0.1, 0.25, 0.6])
def test_the_chat_share_is_reached(tokenizer: Any, documents: tuple[Document, ...], share: float) -> None:
    """Of 400 documents the wanted share of content tokens stands in the chat template, within two percent."""
    sequences = make(tokenizer, documents, chat_share=share)
    assert abs(count([s for s in sequences if s.chat]) / count(sequences) - share) < 0.02


def test_no_chat_share_means_no_chat(tokenizer: Any, documents: tuple[Document, ...]) -> None:
    """A share of 0 never renders a template."""
    assert not any(s.chat for s in make(tokenizer, documents, chat_share=0.0))


def test_only_the_documents_own_words_count(tokenizer: Any, documents: tuple[Document, ...]) -> None:
    """Neither the template's head, nor what it puts between two turns and behind them, is among the content."""
    chats = [s for s in make(tokenizer, documents[:100], chat_share=0.5) if s.chat]
    texts = {d.digest: " ".join(d.text.split()) for d in documents}
    assert len(chats) > 50
    for sequence in chats:
        first = sequence.content.index(True)
        assert text_of(tokenizer, sequence.ids[:first]) == HEAD
        own = [t for t, content in zip(sequence.ids, sequence.content, strict=True) if content]
        assert not set(own) & set(tokenizer.all_special_ids)
        rest = text_of(tokenizer, sequence.ids[first:])
        turns = [turn.removeprefix("\n<|start|>assistant\n") for turn in rest.split("<|end|>")]
        assert text_of(tokenizer, own) == "".join(turns).strip("\n")
        assert turns[0][0].isupper()
        assert all(any(turn.strip("\n") in text for text in texts.values()) for turn in turns)


def test_words_of_the_system_prompt_do_not_count(tokenizer: Any) -> None:
    """A user who says what the system prompt says is found in the user's turn."""
    share = SequenceMaker(tokenizer, chat_share=1.0, seed=0)
    list(share.make([document("The nurse gave the patient a dose. " * 20)]))
    (sequence,) = share.make([document("you are a helpful assistant")])
    assert sequence.chat
    assert text_of(tokenizer, sequence.ids[: sequence.content.index(True)]) == HEAD


def test_bos_comes_first_and_never_counts(bos_tokenizer: Any, documents: tuple[Document, ...]) -> None:
    """Every window, plain or chat, begins with one BOS that does not count, and still has at most 256 plain tokens."""
    sequences = make(bos_tokenizer, documents[:100], chat_share=0.3)
    assert {s.chat for s in sequences} == {False, True}
    bos = bos_tokenizer.bos_token_id
    for sequence in sequences:
        assert sequence.ids[0] == bos
        assert sequence.ids.count(bos) == 1
        assert not sequence.content[0]
        if not sequence.chat:
            assert len(sequence.ids) <= CONTEXT_TOKENS
            assert all(sequence.content[1:])


def test_bos_costs_no_text(tokenizer: Any, bos_tokenizer: Any, documents: tuple[Document, ...]) -> None:
    """A window with BOS holds one token less of the text, and the next one goes on there."""
    (item,) = (d for d in documents if d.text == max((d.text for d in documents), key=len))
    with_bos = make(bos_tokenizer, (item,))
    assert len(with_bos) > 1
    plain = make(tokenizer, (item,))
    joined = [token for s in with_bos for token in s.ids[1:]]
    whole = [token for s in plain for token in s.ids]
    assert joined[: len(whole)] == whole[: len(joined)]


@pytest.mark.parametrize("limit", [0.03, 0.06, 0.12])
def test_a_register_stays_under_its_limit(tokenizer: Any, documents: tuple[Document, ...], limit: float) -> None:
    """A fifth of the documents is of one register; of its tokens no more come through than the limit and a document."""

    def share(limits: dict[str, float]) -> float:
        sequences = make(tokenizer, documents, chat_share=0.25, register_limits=limits)
        return count([s for s in sequences if s.register == LIMITED]) / count(sequences)

    assert share({}) > 0.15
    assert limit * 0.8 < share({LIMITED: limit}) < limit + 0.01


def test_the_limit_holds_at_every_moment(tokenizer: Any, documents: tuple[Document, ...]) -> None:
    """Whenever the harvest stops, at most one document is over the limit."""
    longest = max(len(tokenizer(d.text)["input_ids"]) for d in documents if d.register == LIMITED)
    seen = limited = 0
    for sequence in make(tokenizer, documents, register_limits={LIMITED: 0.06}):
        seen += len(sequence.ids)
        limited += len(sequence.ids) if sequence.register == LIMITED else 0
        assert limited <= 0.06 * seen + longest
    assert limited > longest


def test_the_same_documents_give_the_same_sequences(tokenizer: Any, documents: tuple[Document, ...]) -> None:
    """Two makers agree token for token; another seed cuts other turns from the same text."""
    first, again, other = (make(tokenizer, documents[:80], chat_share=0.5, seed=seed) for seed in (4, 4, 5))
    assert first == again
    assert [s.id for s in first] == list(range(len(first)))
    assert [s.ids for s in first if s.chat] != [s.ids for s in other if s.chat]


def test_a_template_that_rewrites_the_words_is_skipped(documents: tuple[Document, ...]) -> None:
    """Where the user's words cannot be found, no window is made; the plain ones stay as they were."""
    tokenizer = make_tokenizer(chat=True)
    tokenizer.chat_template = CHAT.replace("m['content']", "m['content'] | upper")
    rewritten = make(tokenizer, documents[:50], chat_share=0.5)
    tokenizer.chat_template = CHAT
    located = make(tokenizer, documents[:50], chat_share=0.5)
    assert any(s.chat for s in located)
    assert rewritten
    assert not any(s.chat for s in rewritten)
    assert {s.ids for s in rewritten} <= {s.ids for s in make(tokenizer, documents[:50])}
