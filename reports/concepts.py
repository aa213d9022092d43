"""The findings chapter: one view a concept, with what each instrument shows of it, and the model's answers."""

from __future__ import annotations

from collections.abc import Sequence

from audit.records import ConceptResult, OutcomeResult
from reports.contrasts import contrast_views, estimate_cell
from reports.digests import digest_table, standing_table
from reports.effects import effects_chart
from reports.instruments import Instrument, fidelity_of, slug
from reports.language import N_, _
from reports.numbers import MINUS, NOT_MEASURED, count, probability, signed, visible
from reports.queries import OUTCOMES
from reports.view import Cell, Column, ConceptView, DomainView, Fact, InstrumentStatement, Row, Table, whole
from reports.words import COLOUR_SHORT, COLOURS, CONTRAST_NAMES, EXPLORATORY, NO_OUTCOME

OUTCOME_ALPHA = 0.05
CLOSED = N_(
    "The charts, baselines and controls of this concept and every feature that was selected, with its reason, are"
    " packed into this page and not shown; showing them needs its script. They are in findings.json too."
)


def domain_views(
    concepts: tuple[ConceptResult, ...], instruments: Sequence[Instrument], *, carded: frozenset[tuple[str, int]]
) -> tuple[DomainView, ...]:
    """Return the concepts by domain, in the order of the findings.

    Args:
        concepts: the audited concepts.
        instruments: in the order of the findings.
        carded: (SAE, latent) of every feature that has a card to link to.
    """
    domains = list(dict.fromkeys(concept.domain for concept in concepts))
    return tuple(
        DomainView(
            id=f"domain-{slug(domain)}",
            title=visible(domain).capitalize(),
            concepts=tuple(_concept(concept, instruments, carded) for concept in concepts if concept.domain == domain),
        )
        for domain in domains
    )


def outcome_words(outcome: OutcomeResult | None) -> str:
    """Return in plain words how the model's answer moves between the sensitive case and its twin."""
    if outcome is None:
        return _(NO_OUTCOME)
    target, foil = visible(outcome.target), visible(outcome.foil)
    low, high = outcome.difference.low, outcome.difference.high
    if low is None or high is None:
        return _("Not measured: every scenario gave the same difference, so no interval can be given.")
    if outcome.p_holm > OUTCOME_ALPHA or low <= 0 <= high:
        return _("No clear change of the answer between the sensitive case and its twin ({lean}).", lean=_lean(outcome))
    if outcome.difference.value > 0:
        return _(
            "Leans more towards “{target}” in the sensitive case than in its twin ({lean}).",
            target=target,
            lean=_lean(outcome),
        )
    return _(
        "Leans more towards “{foil}” in the sensitive case than in its twin, the opposite of what is expected"
        " ({lean}).",
        foil=foil,
        lean=_lean(outcome),
    )


def _lean(outcome: OutcomeResult) -> str:
    concept = outcome.target if outcome.concept_mean > 0 else outcome.foil
    control = outcome.target if outcome.control_mean > 0 else outcome.foil
    if concept == control:
        return _("on average “{concept}” in both", concept=visible(concept))
    return _("on average “{concept}” against “{control}”", concept=visible(concept), control=visible(control))


def _concept(
    concept: ConceptResult, instruments: Sequence[Instrument], carded: frozenset[tuple[str, int]]
) -> ConceptView:
    place = slug(concept.id)
    charts = (
        effects_chart(concept, instrument, chart_id=instrument.place_id(f"effects-{place}"))
        for instrument in instruments
    )
    return ConceptView(
        id=f"concept-{place}",
        title=visible(concept.title),
        definition=visible(concept.definition),
        why=visible(concept.why),
        rules=tuple(Fact(visible(rule.name), visible(rule.clause)) for rule in concept.rules),
        flags=(*((_(EXPLORATORY),) if concept.exploratory else ()), *_untested(concept, instruments)),
        instruments=tuple(_statement(concept, instrument) for instrument in instruments),
        digest=digest_table(concept, instruments),
        standing=standing_table(concept, instruments, carded=carded),
        contrasts=contrast_views(concept, instruments, carded=carded),
        charts=tuple(chart for chart in charts if chart is not None),
        chart_absent=_("No contrast was analysed for this concept, so there is nothing to draw."),
        outcome=_outcome(concept.outcome, table_id=f"outcome-{place}"),
        outcome_words=outcome_words(concept.outcome),
        closed=_(CLOSED),
    )


def _untested(concept: ConceptResult, instruments: Sequence[Instrument]) -> tuple[str, ...]:
    """Return why contrasts of a concept could not be tested; none of them is a pass."""
    where = {one.sae: "" if one.alone else f", {one.label}" for one in instruments}
    return tuple(
        _(
            "{contrast}: unresolved: {reason}.",
            contrast=f"{_(CONTRAST_NAMES[item.contrast])}{where[item.sae]}",
            reason=visible(item.reason),
        )
        for item in concept.untested
    )


def _statement(concept: ConceptResult, instrument: Instrument) -> InstrumentStatement:
    """Return how far an instrument can be trusted on a concept."""
    label = _("{instrument} on this concept", instrument=instrument.heading)
    fidelity = fidelity_of(concept, sae=instrument.sae)
    if fidelity is None:
        return InstrumentStatement(label, Cell(_(NOT_MEASURED)), _("The record holds no fidelity for this concept."))
    colour = fidelity.colour
    return InstrumentStatement(
        label,
        Cell(_(COLOUR_SHORT[colour]), mark=colour.value),
        _("{colour} Reason given: {reason}", colour=_(COLOURS[colour]), reason=visible(fidelity.reason)),
    )


def _outcome(outcome: OutcomeResult | None, *, table_id: str) -> Table | None:
    if outcome is None:
        return None
    return whole(
        Table(
            id=table_id,
            caption=_(
                "What the model answers: logit(“{target}”) {minus} logit(“{foil}”) in nats, before the softmax, at"
                " the last position",
                target=visible(outcome.target),
                minus=MINUS,
                foil=visible(outcome.foil),
            ),
            columns=(
                Column(_("Question")),
                Column(_("Concept arm"), numeric=True, detail=_("mean")),
                Column(_("Control arm"), numeric=True, detail=_("mean")),
                Column(_("Difference"), numeric=True, detail=_("95% interval")),
                Column(_("AUROC"), numeric=True, detail=_("95% interval")),
                Column(_("p Holm"), numeric=True),
                Column("n", numeric=True),
            ),
            rows=(
                Row(
                    (
                        Cell(visible(outcome.question)),
                        Cell(signed(outcome.concept_mean)),
                        Cell(signed(outcome.control_mean)),
                        estimate_cell(outcome.difference, with_sign=True),
                        estimate_cell(outcome.auroc),
                        Cell(probability(outcome.p_holm)),
                        Cell(count(outcome.n_scenarios)),
                    )
                ),
            ),
            query=OUTCOMES,
        )
    )
