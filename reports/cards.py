"""Feature cards: the prompts in which a feature fires, token by token, and what its decoder direction promotes."""

from __future__ import annotations

from collections.abc import Sequence

from audit.records import ConceptResult, Context, FeatureCard, Finding
from reports.contrasts import card_id
from reports.instruments import Instrument
from reports.numbers import NOT_MEASURED, decimal, plural, share, visible, visible_token
from reports.queries import CARDS
from reports.view import Cards, CardView, ContextView, Fact, TokenView
from reports.words import CONTRAST_NAMES, LEXICAL

PRINTED_CARDS = 12
# Paulo and Belrose (2025); used where the certificate that would state its own limit is not there.
FOUND_AGAIN_COSINE = 0.7
PRINTED_CONTEXTS = 3
_LEVELS = 4

LEAD = (
    "Each card shows where a feature fires most strongly. The stronger a token's shade and underline, the more it fires"
    " there; the scale is the feature's own maximum. These are the strongest examples, not typical ones, and no label"
    " is scored here: what a feature “means” is left to the reader. "
    f"Query: {CARDS}."
)
PROMOTED_NOTE = (
    "Tokens that the feature's decoder direction raises most (logit lens). Indicative only, and only in the model's"
    " late layers; unscored."
)
NO_CARDS = "No feature card was made, because no feature was selected."


def cards_view(
    cards: tuple[FeatureCard, ...], concepts: tuple[ConceptResult, ...], instruments: Sequence[Instrument]
) -> Cards:
    """Return every card, and the ones that fit on paper: an equal share of each instrument that has any."""
    named = {instrument.sae: instrument for instrument in instruments}
    views = tuple(_card(card, concepts, named[card.sae]) for card in cards)
    saes = [sae for sae in named if any(card.sae == sae for card in cards)]
    part = max(1, PRINTED_CARDS // max(1, len(saes)))
    own = {sae: [view for view, card in zip(views, cards, strict=True) if card.sae == sae] for sae in saes}
    printed = tuple(view for sae in saes for view in own[sae][:part])
    left_out = len(views) - len(printed)
    first = f"The first {part}" if len(saes) == 1 else f"The first {part} of each instrument, {len(printed)}"
    return Cards(
        lead=LEAD if views else NO_CARDS,
        cards=views,
        printed=printed,
        cut=(
            f"{first} of {len(views)} cards are printed; the other {left_out} are in findings.json,"
            " attached to this file, and in the HTML report."
            if left_out > 0
            else ""
        ),
    )


def _card(card: FeatureCard, concepts: tuple[ConceptResult, ...], instrument: Instrument) -> CardView:
    contexts = tuple(_context(context, card.max_activation, concepts) for context in card.contexts)
    left_out = len(contexts) - PRINTED_CONTEXTS
    return CardView(
        id=card_id(card.sae, card.latent),
        title=f"Feature {card.latent}" if instrument.alone else f"Feature {card.latent}, {instrument.label}",
        facts=(
            Fact("Instrument", f"{visible(card.sae)}, at {instrument.place}"),
            Fact("Fires on", f"{share(card.density)} of the audited tokens"),
            Fact("Largest activation", decimal(card.max_activation)),
            Fact("Found again in a second training", _found_again(card, instrument)),
            *_where_found(card, concepts),
        ),
        promoted=tuple(visible_token(token) for token in card.promoted),
        promoted_note=PROMOTED_NOTE if card.promoted else f"Promoted tokens: {NOT_MEASURED}.",
        contexts=contexts,
        printed=contexts[:PRINTED_CONTEXTS],
        cut=f"{plural(left_out, 'more context')} in findings.json and in the HTML report." if left_out > 0 else "",
    )


def _found_again(card: FeatureCard, instrument: Instrument) -> str:
    """Return whether a training with another seed has this feature too."""
    cosine = card.seed_cosine
    if cosine is None:
        return f"{NOT_MEASURED}: this instrument was compared with no second training"
    certificate = instrument.result.certificate
    stability = certificate.stability if certificate else None
    threshold = stability.threshold if stability else FOUND_AGAIN_COSINE
    verdict, limit = ("yes", "at least") if cosine >= threshold else ("no", "less than")
    return f"{verdict}: its match has a decoder cosine of {decimal(cosine)}, {limit} {decimal(threshold)}"


def _where_found(card: FeatureCard, concepts: tuple[ConceptResult, ...]) -> tuple[Fact, ...]:
    hits = [
        (concept, finding)
        for concept in concepts
        for result in concept.contrasts
        for finding in result.findings
        if (finding.sae, finding.latent) == (card.sae, card.latent)
    ]
    return tuple(Fact("Found for", _hit_words(concept, finding)) for concept, finding in hits)


def _hit_words(concept: ConceptResult, finding: Finding) -> str:
    contrast = CONTRAST_NAMES[finding.contrast].lower()
    return f"{visible(concept.title)}, {contrast}: {finding.rung.value}; {LEXICAL[finding.lexical]}"


def _context(context: Context, maximum: float, concepts: tuple[ConceptResult, ...]) -> ContextView:
    title = next((concept.title for concept in concepts if concept.id == context.concept), context.concept)
    strongest = max(context.tokens, key=lambda token: token.activation, default=None)
    if strongest is None or strongest.activation <= 0:
        words = "the feature is silent here"
    else:
        words = f"strongest on “{visible_token(strongest.text).strip()}”: {decimal(strongest.activation)}"
    return ContextView(
        heading=f"{visible(title)}, {visible(context.arm).replace('_', '-')} arm, {visible(context.prompt)}",
        strongest=words,
        tokens=tuple(_token(token.text, token.activation, maximum) for token in context.tokens),
    )


def _token(text: str, activation: float, maximum: float) -> TokenView:
    level = 0
    if activation > 0 and maximum > 0:
        level = min(_LEVELS, 1 + int(_LEVELS * activation / maximum))
    return TokenView(
        text=visible_token(text),
        level=str(level),
        title=f"activation {decimal(activation)}, level {level} of {_LEVELS}" if level else "",
    )
