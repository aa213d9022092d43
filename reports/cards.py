"""Feature cards: what a feature may be about, by whom and how well it held, and where it fires, token by token."""

from __future__ import annotations

from collections.abc import Sequence

from audit.records import CardConcept, ConceptResult, Context, FeatureCard, FeatureLabel, LabelSource, Quantile
from reports.contrasts import card_id
from reports.features import ELSEWHERE
from reports.instruments import Instrument
from reports.language import N_, _
from reports.length import is_folded, is_long
from reports.numbers import count, decimal, interval, plural, share, signed, visible, visible_token
from reports.queries import CARDS
from reports.view import Cards, CardView, ContextView, Fact, TokenView
from reports.words import LEXICAL, word

PRINTED_CARDS, PRINTED_CARDS_OF_MANY = 12, 4
# Paulo and Belrose (2025); used where the certificate that would state its own limit is not there.
FOUND_AGAIN_COSINE = 0.7
PRINTED_TOP = 2
PRINTED_FOUND = 3
SHOWN_CARDS_OF_MANY = 8
_LEVELS = 4

LEAD = N_(
    "Each card shows what a feature may be about and where it fires. A label is a guess and names its source. Where it"
    " was scored, it was chosen on discovery scenarios and scored on the others, and 0.50 is chance; where it was not,"
    " it says so. The stronger a token's shade and underline, the more the feature fires there; the scale is the"
    " feature's own maximum. Query: {query}."
)
_LABELS = {
    LabelSource.TOKENS: N_("Label by tokens"),
    LabelSource.CONCEPT: N_("Label by concept"),
    LabelSource.LOGIT_LENS: N_("Logit lens"),
    LabelSource.NEURONPEDIA: N_("Label of Neuronpedia"),
}
_QUANTILES = {
    Quantile.TOP: N_("among the strongest"),
    Quantile.MIDDLE: N_("the middle of the scenarios in which it fires"),
    Quantile.LOW: N_("among the weakest tenth"),
}
NO_CARDS = N_("No feature card was made, because no feature was selected.")


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
    return Cards(
        lead=_(LEAD, query=CARDS) if views else _(NO_CARDS),
        cards=views,
        printed=printed,
        cut=_cut(part, len(printed), len(views), several=len(saes) > 1) if left_out > 0 else "",
        shown=SHOWN_CARDS_OF_MANY if is_folded(concepts) else 0,
        closed=_(
            "{cards} more cards are packed into this page and not shown; showing them needs its script. They are"
            " in findings.json too.",
            cards=count(len(views) - SHOWN_CARDS_OF_MANY),
        ),
    )


def _cut(part: int, printed: int, cards: int, *, several: bool) -> str:
    """Return which cards paper leaves out."""
    if several:
        return _(
            "The first {part} of each instrument, {printed} of {cards} cards are printed; the other {left_out} are in"
            " findings.json, attached to this file, and in the HTML report.",
            part=part,
            printed=printed,
            cards=cards,
            left_out=cards - printed,
        )
    return _(
        "The first {part} of {cards} cards are printed; the other {left_out} are in findings.json, attached to this"
        " file, and in the HTML report.",
        part=part,
        cards=cards,
        left_out=cards - printed,
    )


def _card(card: FeatureCard, concepts: tuple[ConceptResult, ...], instrument: Instrument) -> CardView:
    contexts = tuple(_context(context, card.max_activation, concepts) for context in card.contexts)
    tops = [n for n, context in enumerate(card.contexts) if context.quantile is Quantile.TOP]
    printed = tuple(view for n, view in enumerate(contexts) if n not in tops[PRINTED_TOP:])
    left_out = len(contexts) - len(printed)
    found = [Fact(_("Found for"), _concept_words(found, concepts)) for found in card.concepts]
    others = len(found) - PRINTED_FOUND
    instance = (
        Fact(_("Instrument"), _("{sae}, at {place}", sae=visible(card.sae), place=instrument.place)),
        Fact(_("Fires on"), _("{density} of the audited tokens", density=share(card.density))),
        Fact(_("Largest activation"), decimal(card.max_activation)),
        Fact(_("Found again in a second training"), _found_again(card, instrument)),
    )
    selectivity = Fact(_("Selectivity"), _selectivity_words(card, concepts))
    # On paper one line says how many there are: a feature of a common word is found for every concept.
    more = (
        (
            Fact(
                _("Found for"),
                plural(
                    others,
                    "{count} more question, in {elsewhere}",
                    "{count} more questions, in {elsewhere}",
                    elsewhere=_(ELSEWHERE),
                ),
            ),
        )
        if others > 1
        else ()
    )
    return CardView(
        id=card_id(card.sae, card.latent),
        title=_("Feature {latent}", latent=card.latent)
        if instrument.alone
        else _("Feature {latent}, {instrument}", latent=card.latent, instrument=instrument.label),
        facts=(*instance, *found, selectivity),
        printed_facts=(*instance, *(found[:PRINTED_FOUND] if more else found), *more, selectivity),
        labels=tuple(Fact(_(_LABELS[label.source]), _label_words(label)) for label in card.labels),
        contexts=contexts,
        printed=printed,
        cut=plural(
            left_out,
            "{count} more context in findings.json and in the HTML report.",
            "{count} more contexts in findings.json and in the HTML report.",
        )
        if left_out > 0
        else "",
    )


def _found_again(card: FeatureCard, instrument: Instrument) -> str:
    """Return whether a training with another seed has this feature too."""
    cosine = card.seed_cosine
    if cosine is None:
        return _("not measured: this instrument was compared with no second training")
    certificate = instrument.result.certificate
    stability = certificate.stability if certificate else None
    threshold = stability.threshold if stability else FOUND_AGAIN_COSINE
    if cosine >= threshold:
        return _(
            "yes: its match has a decoder cosine of {cosine}, at least {threshold}",
            cosine=decimal(cosine),
            threshold=decimal(threshold),
        )
    return _(
        "no: its match has a decoder cosine of {cosine}, less than {threshold}",
        cosine=decimal(cosine),
        threshold=decimal(threshold),
    )


def _label_words(label: FeatureLabel) -> str:
    """Return a label with its score, or why there is none."""
    said = [visible(label.note)] if label.note else []
    if label.score is not None and label.n is not None:
        said.insert(
            0,
            _(
                "held-out {score_name} {score}, {n} {unit}",
                score_name=label.score_name,
                score=decimal(label.score),
                n=count(label.n),
                unit=label.unit,
            ),
        )
    if label.text is None:
        return _("none: {said}", said="; ".join(said))
    return f"{visible_token(label.text)} ({'; '.join(said) or _('not scored')})"


def _concept_words(found: CardConcept, concepts: tuple[ConceptResult, ...]) -> str:
    effect = f"d_z {signed(found.effect.value)} {interval(found.effect)}"
    return _(
        "{concept}, {contrast}: {rung}, {effect}; {lexical}",
        concept=_title(found.concept, concepts),
        contrast=word(found.contrast),
        rung=word(found.rung),
        effect=effect,
        lexical=_(LEXICAL[found.lexical]),
    )


def _selectivity_words(card: FeatureCard, concepts: tuple[ConceptResult, ...]) -> str:
    found = card.selectivity
    if found is None:
        alone = any(label.source is LabelSource.CONCEPT and label.text is not None for label in card.labels)
        if alone:
            return _("not measured: there is no other concept to compare with")
        return _("not measured: no concept is louder than neutral text")
    own, other = _title(found.concept, concepts), _title(found.runner_up, concepts)
    return _(
        "{difference}: held-out paired AUROC {auroc} on {own}; the best other concept is {other}, {runner_up_auroc}",
        difference=signed(found.difference),
        auroc=decimal(found.auroc),
        own=own,
        other=other,
        runner_up_auroc=decimal(found.runner_up_auroc),
    )


def _title(concept: str, concepts: tuple[ConceptResult, ...]) -> str:
    return visible(next((own.title for own in concepts if own.id == concept), concept))


def _context(context: Context, maximum: float, concepts: tuple[ConceptResult, ...]) -> ContextView:
    strongest = max(context.tokens, key=lambda token: token.activation, default=None)
    if strongest is None or strongest.activation <= 0:
        words = _("the feature is silent here")
    else:
        words = _(
            "strongest on “{token}”: {activation}",
            token=visible_token(strongest.text).strip(),
            activation=decimal(strongest.activation),
        )
    arm = word(visible(context.arm).replace("_", "-"))
    return ContextView(
        heading=_(
            "{concept}, {arm} arm, {prompt}",
            concept=_title(context.concept, concepts),
            arm=arm,
            prompt=visible(context.prompt),
        ),
        strongest=f"{_(_QUANTILES[context.quantile])}; {words}",
        tokens=tuple(_token(token.text, token.activation, maximum) for token in context.tokens),
    )


def _token(text: str, activation: float, maximum: float) -> TokenView:
    level = 0
    if activation > 0 and maximum > 0:
        level = min(_LEVELS, 1 + int(_LEVELS * activation / maximum))
    return TokenView(
        text=visible_token(text),
        level=str(level),
        title=_(
            "activation {activation}, level {level} of {levels}",
            activation=decimal(activation),
            level=level,
            levels=_LEVELS,
        )
        if level
        else "",
    )
