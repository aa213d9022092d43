"""Feature cards: what a reader needs to look a feature in the eye, every label with its source and its score."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from audit.analysis.selectivity import NONE, loudest_concepts, runners_up, topic_aurocs
from audit.analysis.token_sets import token_set_auroc, typical_tokens
from audit.arrays import TokenUse, TopicScores
from audit.assessment import Assessment
from audit.evidence import scores
from audit.evidence.cards import read_token_use, read_topic_scores
from audit.evidence.store import Store
from audit.records import (
    CardConcept,
    FeatureCard,
    FeatureLabel,
    ImportedLabel,
    LabelFile,
    LabelSource,
    SaeRecord,
    SeedStability,
    Selectivity,
)

_WITHHELD = "the texts are withheld, so the evidence does not say on which tokens it fires"
_EARLY = (
    "not shown: before the last third of the model's layers the logit lens is not reliable (nostalgebraist 2020;"
    " Belrose et al. 2023, arXiv 2303.08112)"
)
_NO_LENS = "not shown: what this SAE stands for is not added to the residual stream that the unembedding reads"
_QUOTES = "“{}”"


def feature_cards(
    store: Store,
    assessment: Assessment,
    latents: Sequence[int],
    *,
    sae: SaeRecord,
    promoted: Mapping[int, tuple[str, ...]] | None,
    stability: SeedStability | None,
    imported: Sequence[LabelFile],
    contexts: int,
) -> tuple[FeatureCard, ...]:
    """Return a card for each latent, in the order given.

    Args:
        store: the evidence.
        assessment: results of the audit.
        latents: of which features.
        sae: whose.
        promoted: the tokens that each latent's direction promotes; None where the logit lens is not reliable.
        stability: how the SAE compares with another training.
        imported: explanations from elsewhere that are bound to this SAE.
        contexts: how many of the strongest contexts to show.
    """
    if not latents:
        return ()
    densities = scores.read_densities(store, sae=sae.name)
    where = {int(latent): n for n, latent in enumerate(densities.latents)}
    found = scores.read_contexts(store, sae=sae.name, latents=latents, most=contexts)
    use = read_token_use(store, sae=sae.name, latents=latents)
    # In the order of the audit, which ties fall back on.
    by_concept = {topic.concept: topic for topic in read_topic_scores(store, sae=sae.name, latents=latents)}
    topics = [by_concept[concept.id] for concept in assessment.concepts if concept.id in by_concept]
    by_topic, selectivities = _topics(topics, assessment, len(latents))
    return tuple(
        FeatureCard(
            sae=sae.name,
            latent=latent,
            density=float(densities.tokens[where[latent]]) / assessment.fidelity[sae.name].tokens,
            max_activation=float(densities.maximum[where[latent]]),
            labels=_ordered(
                [
                    _by_tokens(use, n),
                    by_topic[n],
                    _by_lens(None if promoted is None else promoted[latent]),
                    *(_imported(labels, latent) for labels in imported),
                ]
            ),
            concepts=tuple(
                CardConcept(f.concept, f.contrast, f.rung, f.lexical, f.d_z)
                for f in assessment.findings
                if (f.sae, f.latent) == (sae.name, latent)
            ),
            selectivity=selectivities[n],
            seed_cosine=stability.cosines[latent] if stability is not None else None,
            contexts=found[latent],
        )
        for n, latent in enumerate(latents)
    )


def _ordered(labels: list[FeatureLabel]) -> tuple[FeatureLabel, ...]:
    """Return the best scored first, then those with a text; equal ones keep their order."""
    return tuple(sorted(labels, key=lambda label: (label.score is None, -(label.score or 0.0), label.text is None)))


def _by_tokens(use: TokenUse | None, n: int) -> FeatureLabel:
    if use is None:
        return _none(LabelSource.TOKENS, _WITHHELD)
    chosen = typical_tokens(use.mass[n])
    if not len(chosen):
        return _none(LabelSource.TOKENS, "silent on all discovery prompts whose texts are disclosed")
    text = ", ".join(_QUOTES.format(use.pieces[piece]) for piece in chosen)
    score = token_set_auroc(use.fired[n], use.tokens, chosen)
    if score is None:
        note = "not scored: on held-out prompts it fires on every token or on none"
        return FeatureLabel(text, LabelSource.TOKENS, None, "", None, "", note)
    return FeatureLabel(text, LabelSource.TOKENS, score, "AUROC", int(use.tokens.sum()), "tokens", "")


def _topics(
    topics: Sequence[TopicScores], assessment: Assessment, count: int
) -> tuple[list[FeatureLabel], list[Selectivity | None]]:
    """Return the concept label and the selectivity of each feature."""
    if not topics:
        none = _none(LabelSource.CONCEPT, "no concept has scenarios with a neutral arm in both halves")
        return [none] * count, [None] * count
    titles = {concept.id: concept.title for concept in assessment.concepts}
    own = loudest_concepts([topic.discovery for topic in topics])
    aurocs = topic_aurocs([topic.confirmation for topic in topics])
    others = runners_up(aurocs, own)
    labels: list[FeatureLabel] = []
    selectivities: list[Selectivity | None] = []
    for n, (concept, other) in enumerate(zip(own.tolist(), others.tolist(), strict=True)):
        if concept == NONE:
            labels.append(_none(LabelSource.CONCEPT, "on discovery scenarios no concept is louder than neutral text"))
            selectivities.append(None)
            continue
        topic, auroc = topics[concept], float(aurocs[concept, n])
        text = f"louder on {_QUOTES.format(titles[topic.concept])} than on neutral text"
        held_out = len(topic.confirmation)
        labels.append(FeatureLabel(text, LabelSource.CONCEPT, auroc, "paired AUROC", held_out, "scenarios", ""))
        rival = float(aurocs[other, n])
        selectivities.append(
            None if other == NONE else Selectivity(topic.concept, auroc, topics[other].concept, rival, auroc - rival)
        )
    return labels, selectivities


def _by_lens(tokens: tuple[str, ...] | None) -> FeatureLabel:
    if not tokens:
        return _none(LabelSource.LOGIT_LENS, _EARLY if tokens is None else _NO_LENS)
    text = "promotes " + ", ".join(_QUOTES.format(token) for token in tokens)
    return FeatureLabel(text, LabelSource.LOGIT_LENS, None, "", None, "", "not scored")


def _imported(labels: LabelFile, latent: int) -> FeatureLabel:
    # Ascending, as `read_labels` made sure.
    place = bisect_left(labels.labels, latent, key=lambda label: label.latent)
    own = labels.labels[place] if place < len(labels.labels) else None
    if own is None or own.latent != latent:
        return _none(labels.source, f"the import of {labels.model}/{labels.layer} has none for this feature")
    return FeatureLabel(own.text, labels.source, None, "", None, "", _origin(labels, own))


def _origin(labels: LabelFile, own: ImportedLabel) -> str:
    writer = f"by {own.explainer}" if own.explainer else "by a model that the export does not name"
    method = f", method {own.method}" if own.method else ""
    theirs = f"; the exporter's own score, {labels.scorer}: {own.score:.2f}" if own.score is not None else ""
    return f"imported, not scored here: {labels.model}/{labels.layer}/{own.latent}, written {writer}{method}{theirs}"


def _none(source: LabelSource, why: str) -> FeatureLabel:
    return FeatureLabel(None, source, None, "", None, "", why)
