"""The frozen, display-ready view of a difference between two audits. It holds text, never numbers."""

from __future__ import annotations

from dataclasses import dataclass

from reports.view import Chapter, Table, TokenView, Verification


@dataclass(frozen=True, slots=True)
class Answer:
    """Page one: which two models, the answer in words, and concept by concept.

    `sentences` are the answer, `unsaid` what it does not say.
    """

    models: Table
    sentences: tuple[str, ...]
    seal: str
    concepts: Table
    mixes: Table
    unsaid: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SideView:
    """One prompt as one model reads it: where it stands on that model, and its tokens."""

    head: str
    tokens: tuple[TokenView, ...]


@dataclass(frozen=True, slots=True)
class PromptView:
    """One prompt on both models; `lines` say each firing token's two activations in words."""

    heading: str
    base: SideView
    new: SideView
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PairedFeatureView:
    """One feature with the prompts in which it fires most."""

    id: str
    heading: str
    facts: str
    prompts: tuple[PromptView, ...]


@dataclass(frozen=True, slots=True)
class ContextsView:
    """The features side by side; `cut` says what paper leaves out, `missing` why there is nothing to show."""

    lead: str
    features: tuple[PairedFeatureView, ...]
    printed: tuple[PairedFeatureView, ...]
    cut: str
    missing: str


@dataclass(frozen=True, slots=True)
class DifferenceView:
    """Everything that is printed, in order: the answer, the chapters before the contexts, and those after."""

    language: str
    page_size: str
    title: str
    heading: str
    subtitle: str
    description: str
    keywords: str
    generator: str
    author: str
    created: str
    running: str
    answer: Answer
    chapters: tuple[Chapter, ...]
    contexts: ContextsView
    not_measured: tuple[str, ...]
    closing: tuple[Chapter, ...]
    verification: Verification
