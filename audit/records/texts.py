"""Texts of the evidence that a copy may withhold, and what stands in their places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# What stands for a token whose text is withheld: a reader sees that something is there, and how strongly it fires.
WITHHELD_PIECE = "\u25a0"


def withheld_text(digest: str, length: int) -> str:
    """Return what stands for a withheld text: a salted digest, `sha256:<hex>`, and its length in characters."""
    return f"withheld:{digest}:{length}"


@dataclass(frozen=True, slots=True)
class PromptText:
    """What a prompt says: its text, and the pieces of its content tokens in order. `part` is its concept or mix."""

    prompt: int
    part: str
    text: str
    pieces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EvidenceContent:
    """What an evidence database holds, its texts apart from the rest.

    Attributes:
        tables: name -> `sha256:<hex>` over columns and rows without the texts.
        prompts: ascending by number.
        labels: (SAE, latent) -> label of the feature's node.
        others: views, macros and whatever else is no table of the evidence.
    """

    tables: Mapping[str, str]
    prompts: tuple[PromptText, ...]
    labels: Mapping[tuple[str, int], str]
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Withheld:
    """What a redacted copy withholds, counted.

    Attributes:
        parts: ids of the concepts and mixes whose prompts are withheld, sorted.
        prompts, labels, continuations: how many texts of each kind are withheld.
        texts: how many texts there are, withheld or not.
        statement: `sha256:<hex>` of the statement that was signed over the original.
    """

    parts: tuple[str, ...]
    prompts: int
    labels: int
    continuations: int
    texts: int
    statement: str
