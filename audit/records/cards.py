"""What a reader needs to look a feature in the eye, and the labels that others gave it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from audit.records.words import Contrast, Estimate, Lexical, Rung

LABELS_SCHEMA = "affidavit/labels/1"


class LabelSource(StrEnum):
    """Where a feature's label comes from."""

    TOKENS = "tokens"
    CONCEPT = "concept"
    LOGIT_LENS = "logit lens"
    NEURONPEDIA = "neuronpedia"


class Quantile(StrEnum):
    """Which part of the scenarios in which a feature fires a context stands for, by rank of its largest activation."""

    TOP = "top"
    MIDDLE = "middle"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class TokenActivation:
    """One token of a context with the feature's activation on it (SAE units; 0 where silent or excluded)."""

    text: str
    activation: float


@dataclass(frozen=True, slots=True)
class Context:
    """A held-out prompt in which a feature fires: one of the strongest, or one that stands for the weaker ones."""

    prompt: str
    concept: str
    arm: str
    quantile: Quantile
    tokens: tuple[TokenActivation, ...]


@dataclass(frozen=True, slots=True)
class FeatureLabel:
    """A guess in words at what a feature is about, with where it comes from and how well it held on unseen scenarios.

    Args:
        text: the guess; None where there is none, and `note` says why.
        score: of the guess, on confirmation scenarios only; None where it was not scored here, and `note` says why.
        score_name: what was measured; empty without a score.
        n: what `score` was measured on, as many of `unit`; None without a score.
        unit: "tokens" or "scenarios"; empty without a score.
        note: what a reader must know besides; what an importer said of its own score is here.
    """

    text: str | None
    source: LabelSource
    score: float | None
    score_name: str
    n: int | None
    unit: str
    note: str


@dataclass(frozen=True, slots=True)
class CardConcept:
    """A finding about the feature: concept, contrast, rung, and d_z on confirmation scenarios."""

    concept: str
    contrast: Contrast
    rung: Rung
    lexical: Lexical
    effect: Estimate


@dataclass(frozen=True, slots=True)
class Selectivity:
    """How much better a feature tells one concept from neutral text than any other audited concept.

    `concept` was chosen on discovery scenarios; `auroc` and that of the best other concept, `runner_up`, are paired
    AUROCs of the topic contrast on confirmation scenarios. Below 0 another concept is told better. The runner-up is the
    best of many on the data that it is judged by, so that `difference` is too small rather than too large.
    """

    concept: str
    auroc: float
    runner_up: str
    runner_up_auroc: float
    difference: float


@dataclass(frozen=True, slots=True)
class FeatureCard:
    """What a reader needs to look a feature in the eye.

    `density` is the share of audited tokens on which it fires. `labels` has one entry a source, the best scored first;
    a source that gives none says why. `selectivity` is None with fewer than two audited concepts, and where the feature
    was louder on no concept of the discovery scenarios. `seed_cosine` is the decoder cosine of its match in a training
    with another seed, None where the SAE's certificate names none.
    """

    sae: str
    latent: int
    density: float
    max_activation: float
    labels: tuple[FeatureLabel, ...]
    concepts: tuple[CardConcept, ...]
    selectivity: Selectivity | None
    seed_cosine: float | None
    contexts: tuple[Context, ...]


@dataclass(frozen=True, slots=True)
class ImportedLabel:
    """One explanation of an import: untrusted text, made and perhaps scored by others.

    Args:
        explainer: the model that wrote it, method: how it was asked; empty where the export does not say.
        score: what the export itself says of it, by the scorer that scored most of the export; None without one.
    """

    latent: int
    text: str
    explainer: str
    method: str
    score: float | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many explanations of an export an import has not, and why."""

    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class LabelFile:
    """Explanations from elsewhere, bound to the weights of one SAE.

    Args:
        model, layer: as the export names them.
        scorer: whose scores the labels carry, as the export names it; empty when it has none.
        exports: digests of the files that were read, sorted.
        labels: at most one a latent, ascending.
    """

    schema: str
    sae: str
    sae_digest: str
    site: str
    source: LabelSource
    model: str
    layer: str
    scorer: str
    exports: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    labels: tuple[ImportedLabel, ...]
