"""Feature cards: what a feature may be about, by whom and how well it held, and where it fires, token by token."""

from __future__ import annotations

from collections.abc import Sequence

from audit.records import CardConcept, ConceptResult, Context, FeatureCard, FeatureLabel, LabelSource, Quantile
from reports.contrasts import card_id
from reports.features import ELSEWHERE
from reports.instruments import Instrument
from reports.length import is_folded, is_long
from reports.numbers import NOT_MEASURED, count, decimal, interval, plural, share, signed, visible, visible_token
from reports.queries import CARDS
from reports.view import Cards, CardView, ContextView, Fact, TokenView
from reports.words import CONTRAST_NAMES, LEXICAL

PRINTED_CARDS, PRINTED_CARDS_OF_MANY = 12, 4
# Paulo and Belrose (2025); used where the certificate that would state its own limit is not there.
FOUND_AGAIN_COSINE = 0.7
PRINTED_TOP = 2
PRINTED_FOUND = 3
SHOWN_CARDS_OF_MANY = 8
_LEVELS = 4

LEAD = (
    "Each card shows what a feature may be about and where it fires. A label is a guess and names its source. Where it"
    " was scored, it was chosen on discovery scenarios and scored on the others, and 0.50 is chance; where it was not,"
    " it says so. The stronger a token's shade and underline, the more the feature fires there; the scale is the"
    f" feature's own maximum. Query: {CARDS}."
)
_LABELS = {
    LabelSource.TOKENS: "Label by tokens",
    LabelSource.CONCEPT: "Label by concept",
    LabelSource.LOGIT_LENS: "Logit lens",
    LabelSource.NEURONPEDIA: "Label of Neuronpedia",
}
_QUANTILES = {
    Quantile.TOP: "among the strongest",
    Quantile.MIDDLE: "the middle of the scenarios in which it fires",
    Quantile.LOW: "among the weakest tenth",
}
NO_CARDS = "No feature card was made, because no feature was selected."


def cards_view(
    cards: tuple[FeatureCard, ...], concepts: tuple[ConceptResult, ...], instruments: Sequence[Instrument]
) -> Cards:
    """Return every card, and the ones that fit on paper: an equal share of each instrument that has any."""
    named = {instrument.sae: instrument for instrument in instruments}
    views = tuple(_card(card, concepts, named[card.sae]) for card in cards)
    saes = [sae for sae in named if any(card.sae == sae for card in cards)]
    most = PRINTED_CARDS_OF_MANY if is_long(concepts) else PRINTED_CARDS
    part = max(1, most // max(1, len(saes)))
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
        shown=SHOWN_CARDS_OF_MANY if is_folded(concepts) else 0,
        closed=(
            f"{count(len(views) - SHOWN_CARDS_OF_MANY)} more cards are packed into this page and not shown; showing"
            " them needs its script. They are in findings.json too."
        ),
    )


def _card(card: FeatureCard, concepts: tuple[ConceptResult, ...], instrument: Instrument) -> CardView:
    contexts = tuple(_context(context, card.max_activation, concepts) for context in card.contexts)
    tops = [n for n, context in enumerate(card.contexts) if context.quantile is Quantile.TOP]
    printed = tuple(view for n, view in enumerate(contexts) if n not in tops[PRINTED_TOP:])
    left_out = len(contexts) - len(printed)
    found = [Fact("Found for", _concept_words(found, concepts)) for found in card.concepts]
    others = len(found) - PRINTED_FOUND
    instance = (
        Fact("Instrument", f"{visible(card.sae)}, at {instrument.place}"),
        Fact("Fires on", f"{share(card.density)} of the audited tokens"),
        Fact("Largest activation", decimal(card.max_activation)),
        Fact("Found again in a second training", _found_again(card, instrument)),
    )
    selectivity = Fact("Selectivity", _selectivity_words(card, concepts))
    # On paper one line says how many there are: a feature of a common word is found for every concept.
    more = (Fact("Found for", f"{plural(others, 'more question')}, in {ELSEWHERE}"),) if others > 1 else ()
    return CardView(
        id=card_id(card.sae, card.latent),
        title=f"Feature {card.latent}" if instrument.alone else f"Feature {card.latent}, {instrument.label}",
        facts=(*instance, *found, selectivity),
        printed_facts=(*instance, *(found[:PRINTED_FOUND] if more else found), *more, selectivity),
        labels=tuple(Fact(_LABELS[label.source], _label_words(label)) for label in card.labels),
        contexts=contexts,
        printed=printed,
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


def _label_words(label: FeatureLabel) -> str:
    """Return a label with its score, or why there is none."""
    said = [visible(label.note)] if label.note else []
    if label.score is not None and label.n is not None:
        said.insert(0, f"held-out {label.score_name} {decimal(label.score)}, {count(label.n)} {label.unit}")
    if label.text is None:
        return f"none: {'; '.join(said)}"
    return f"{visible_token(label.text)} ({'; '.join(said) or 'not scored'})"


def _concept_words(found: CardConcept, concepts: tuple[ConceptResult, ...]) -> str:
    effect = f"d_z {signed(found.effect.value)} {interval(found.effect)}"
    contrast = CONTRAST_NAMES[found.contrast].lower()
    return f"{_title(found.concept, concepts)}, {contrast}: {found.rung.value}, {effect}; {LEXICAL[found.lexical]}"


def _selectivity_words(card: FeatureCard, concepts: tuple[ConceptResult, ...]) -> str:
    found = card.selectivity
    if found is None:
        alone = any(label.source is LabelSource.CONCEPT and label.text is not None for label in card.labels)
        why = "there is no other concept to compare with" if alone else "no concept is louder than neutral text"
        return f"{NOT_MEASURED}: {why}"
    own, other = _title(found.concept, concepts), _title(found.runner_up, concepts)
    return (
        f"{signed(found.difference)}: held-out paired AUROC {decimal(found.auroc)} on {own}; the best other concept is"
        f" {other}, {decimal(found.runner_up_auroc)}"
    )


def _title(concept: str, concepts: tuple[ConceptResult, ...]) -> str:
    return visible(next((own.title for own in concepts if own.id == concept), concept))


def _context(context: Context, maximum: float, concepts: tuple[ConceptResult, ...]) -> ContextView:
    strongest = max(context.tokens, key=lambda token: token.activation, default=None)
    if strongest is None or strongest.activation <= 0:
        words = "the feature is silent here"
    else:
        words = f"strongest on “{visible_token(strongest.text).strip()}”: {decimal(strongest.activation)}"
    arm = visible(context.arm).replace("_", "-")
    return ContextView(
        heading=f"{_title(context.concept, concepts)}, {arm} arm, {visible(context.prompt)}",
        strongest=f"{_QUANTILES[context.quantile]}; {words}",
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
