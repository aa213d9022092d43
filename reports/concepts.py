"""The findings chapter: one view a concept, with its contrasts, baselines, features, chart and outcome."""

from __future__ import annotations

import re

from audit.records import (
    ConceptResult,
    Contrast,
    ContrastResult,
    Estimate,
    Finding,
    Lexical,
    OutcomeResult,
    Rung,
)
from reports.effects import effects_chart, in_order
from reports.numbers import (
    MINUS,
    NOT_MEASURED,
    count,
    decimal,
    interval,
    listed,
    plain,
    plural,
    probability,
    signed,
    visible,
)
from reports.queries import OUTCOMES, SCORES
from reports.view import Cell, Column, ConceptView, ContrastView, DomainView, Fact, Row, Table, whole
from reports.words import (
    COLOUR_SHORT,
    COLOURS,
    CONTRAST_NAMES,
    CONTRAST_QUESTIONS,
    EXPLORATORY,
    NO_OUTCOME,
    READINGS,
)

PRINTED_FEATURES = 15
UNBROKEN_FEATURES = 8
OUTCOME_ALPHA = 0.05

_FEATURE_COLUMNS = (
    Column("Feature"),
    Column("Rung"),
    Column("d_z", numeric=True, detail="95% interval"),
    Column("AUROC", numeric=True, detail="95% interval"),
    Column("Firing difference", numeric=True, detail="95% interval"),
    Column("p Holm", numeric=True),
    Column("p max-T", numeric=True),
    Column("n", numeric=True, detail="non-zero"),
    Column("Lexical"),
)
_BASELINE_COLUMNS = (
    Column("Reader"),
    Column("AUROC", numeric=True, detail="95% interval"),
    Column("d_z", numeric=True, detail="95% interval"),
    Column("p", numeric=True),
    Column("p Holm", numeric=True),
    Column("n", numeric=True),
    Column("Result"),
)
_LEXICAL_SHORT = {
    Lexical.LEXICAL: "lexical",
    Lexical.NOT_LEXICAL: "not lexical",
    Lexical.UNDECIDED: "undecided",
    Lexical.NOT_TESTED: "not tested",
}


def slug(text: str) -> str:
    """Return a fragment name: lower-case letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def card_id(sae: str, latent: int) -> str:
    """Return the fragment of a feature card."""
    return f"card-{slug(sae)}-{latent}"


def estimate_cell(estimate: Estimate | None, *, with_sign: bool = False) -> Cell:
    """Return an estimate with its interval as the second line."""
    if estimate is None:
        return Cell(NOT_MEASURED)
    text = signed(estimate.value) if with_sign else decimal(estimate.value)
    return Cell(text, detail=interval(estimate), sort=plain(estimate.value))


def domain_views(concepts: tuple[ConceptResult, ...], *, carded: frozenset[tuple[str, int]]) -> tuple[DomainView, ...]:
    """Return the concepts by domain, in the order of the findings.

    Args:
        concepts: the audited concepts.
        carded: (SAE, latent) of every feature that has a card to link to.
    """
    domains = list(dict.fromkeys(concept.domain for concept in concepts))
    return tuple(
        DomainView(
            id=f"domain-{slug(domain)}",
            title=visible(domain).capitalize(),
            concepts=tuple(_concept(concept, carded) for concept in concepts if concept.domain == domain),
        )
        for domain in domains
    )


def outcome_words(outcome: OutcomeResult | None) -> str:
    """Return in plain words how the model's answer moves between the sensitive case and its twin."""
    if outcome is None:
        return NO_OUTCOME
    target, foil = visible(outcome.target), visible(outcome.foil)
    low, high = outcome.difference.low, outcome.difference.high
    if low is None or high is None:
        return "Not measured: every scenario gave the same difference, so no interval can be given."
    if outcome.p_holm > OUTCOME_ALPHA or low <= 0 <= high:
        return f"No clear change of the answer between the sensitive case and its twin ({_lean(outcome)})."
    if outcome.difference.value > 0:
        return f"Leans more towards “{target}” in the sensitive case than in its twin ({_lean(outcome)})."
    return (
        f"Leans more towards “{foil}” in the sensitive case than in its twin, the opposite of what is expected"
        f" ({_lean(outcome)})."
    )


def _lean(outcome: OutcomeResult) -> str:
    concept = outcome.target if outcome.concept_mean > 0 else outcome.foil
    control = outcome.target if outcome.control_mean > 0 else outcome.foil
    if concept == control:
        return f"on average “{visible(concept)}” in both"
    return f"on average “{visible(concept)}” against “{visible(control)}”"


def _concept(concept: ConceptResult, carded: frozenset[tuple[str, int]]) -> ConceptView:
    colour = concept.fidelity.colour
    place = slug(concept.id)
    return ConceptView(
        id=f"concept-{place}",
        title=visible(concept.title),
        definition=visible(concept.definition),
        why=visible(concept.why),
        rules=tuple(Fact(visible(rule.name), visible(rule.clause)) for rule in concept.rules),
        flags=(EXPLORATORY,) if concept.exploratory else (),
        instrument=Cell(COLOUR_SHORT[colour], mark=colour.value),
        instrument_reason=f"{COLOURS[colour]} Reason given: {visible(concept.fidelity.reason)}",
        contrasts=tuple(_contrast(concept, result, carded) for result in concept.contrasts),
        chart=effects_chart(concept, chart_id=f"effects-{place}"),
        chart_absent="No contrast was analysed for this concept, so there is nothing to draw.",
        outcome=_outcome(concept.outcome, table_id=f"outcome-{place}"),
        outcome_words=outcome_words(concept.outcome),
    )


def _contrast(concept: ConceptResult, result: ContrastResult, carded: frozenset[tuple[str, int]]) -> ContrastView:
    words = READINGS[result.reading]
    place = f"{slug(concept.id)}-{result.contrast.value}"
    return ContrastView(
        id=f"contrast-{place}",
        name=CONTRAST_NAMES[result.contrast],
        question=CONTRAST_QUESTIONS[result.contrast],
        reading=Cell(f"{words.short}: {result.reading.value}", detail=words.sentence, mark=words.mark),
        reason=visible(result.reason),
        counts=(
            f"{plural(result.n_discovery, 'scenario')} for discovery and {count(result.n_confirmation)} for"
            f" confirmation; {plural(result.tested, 'feature')} tested, {count(result.selected)} selected in discovery,"
            f" {count(result.confirmed)} confirmed."
        ),
        baselines=_baselines(concept, result, table_id=f"baselines-{place}"),
        features=_features(concept, result, carded, table_id=f"features-{place}"),
    )


def _baselines(concept: ConceptResult, result: ContrastResult, *, table_id: str) -> Table:
    probe, control = result.probe, result.random_control
    rows = [
        Row(
            (
                Cell("Linear probe", detail=visible(probe.name)),
                estimate_cell(probe.auroc),
                estimate_cell(probe.d_z, with_sign=True),
                Cell(probability(probe.p_value)),
                Cell(probability(probe.p_holm)),
                Cell(count(probe.n_scenarios)),
                Cell("separates" if probe.separates else "does not separate"),
            )
        ),
        _first_feature_row(result),
    ]
    rows.append(
        Row(
            (
                Cell(
                    "Best random direction",
                    detail=f"of {count(control.compared)}; {count(control.tested)} tested",
                ),
                Cell(decimal(control.best_auroc)),
                Cell(decimal(control.best_d_z), detail="" if control.best_d_z is None else "absolute value"),
                *[Cell(NOT_MEASURED)] * 2,
                Cell(count(result.n_confirmation)),
                Cell(f"{count(control.confirmed)} confirmed"),
            )
        )
    )
    difference = result.sae_minus_probe_auroc
    if difference is None:
        note = "SAE minus linear probe (AUROC): not measured, because no feature could be ranked on discovery."
    else:
        note = (
            f"SAE minus linear probe (AUROC): {signed(difference.value)}, 95% interval"
            f" {interval(difference)}{_against(difference)}."
        )
    note += (
        " AUROC is oriented by discovery, so that above 0.5 means the expected direction; for random directions it is"
        " the best of those that rank first on discovery, in either direction, which favours them."
    )
    name = CONTRAST_NAMES[result.contrast].lower()
    return whole(
        Table(
            id=table_id,
            caption=f"{visible(concept.title)}, {name}: who tells the two arms apart (confirmation split only)",
            columns=_BASELINE_COLUMNS,
            rows=tuple(rows),
            note=note,
            query=SCORES,
        )
    )


def _first_feature_row(result: ContrastResult) -> Row:
    """Return the row of the feature that ranks first on discovery; its tests are known only if it was selected."""
    if result.best_latent is None:
        return Row(
            (Cell("First SAE feature", detail="none could be ranked"), *[Cell(NOT_MEASURED)] * 5, Cell("not confirmed"))
        )
    found = next((finding for finding in result.findings if finding.latent == result.best_latent), None)
    auroc = estimate_cell(result.best_auroc)
    if found is None:
        name = Cell("First SAE feature", detail=f"feature {result.best_latent}, not selected")
        return Row((name, auroc, *[Cell(NOT_MEASURED)] * 3, Cell(count(result.n_confirmation)), Cell("not confirmed")))
    return Row(
        (
            Cell("First SAE feature", detail=f"feature {found.latent}, {found.rung.value}; its d_z is not oriented"),
            auroc,
            estimate_cell(found.d_z, with_sign=True),
            Cell(probability(found.p_value)),
            Cell(probability(found.p_holm)),
            Cell(count(found.n_scenarios)),
            Cell("confirmed" if found.rung.height >= Rung.CONFIRMED.height else "not confirmed"),
        )
    )


def _against(difference: Estimate) -> str:
    if difference.low is None or difference.high is None:
        return ""
    if difference.high < 0:
        return "; the linear probe does better"
    if difference.low > 0:
        return "; the SAE feature does better"
    return "; no clear difference"


def _features(
    concept: ConceptResult, result: ContrastResult, carded: frozenset[tuple[str, int]], *, table_id: str
) -> Table:
    findings = in_order(result.findings)
    rows = tuple(_feature_row(finding, carded) for finding in findings)
    left_out = len(rows) - PRINTED_FEATURES
    name = CONTRAST_NAMES[result.contrast].lower()
    return Table(
        id=table_id,
        caption=f"{visible(concept.title)}, {name}: features selected in discovery, measured on the confirmation split",
        columns=_FEATURE_COLUMNS,
        rows=rows,
        printed=rows[:PRINTED_FEATURES],
        cut=(
            f"The first {PRINTED_FEATURES} of {len(rows)} features, by rung and rank on discovery, are printed; the"
            f" other {left_out} are in findings.json, attached to this file, and in the HTML report."
            if left_out > 0
            else ""
        ),
        query=listed(sorted({visible(finding.query) for finding in findings})),
        empty=(
            f"No feature was selected for this contrast ({plural(result.tested, 'feature')} tested). This is no pass:"
            " see the reading above."
        ),
        sortable=True,
        layout="features" if len(rows) > UNBROKEN_FEATURES else "features short",
    )


def _feature_row(finding: Finding, carded: frozenset[tuple[str, int]]) -> Row:
    linked = (finding.sae, finding.latent) in carded
    return Row(
        (
            Cell(
                str(finding.latent),
                sort=str(finding.latent),
                href=card_id(finding.sae, finding.latent) if linked else "",
                code=True,
            ),
            Cell(finding.rung.value, sort=str(finding.rung.height), mark=f"rung-{finding.rung.value}"),
            estimate_cell(finding.d_z, with_sign=True),
            estimate_cell(finding.auroc),
            estimate_cell(finding.firing_difference, with_sign=True),
            Cell(probability(finding.p_holm), sort=plain(finding.p_holm)),
            Cell(probability(finding.p_max_t), sort=plain(finding.p_max_t)),
            Cell(count(finding.n_scenarios), detail=count(finding.n_nonzero), sort=str(finding.n_scenarios)),
            Cell(_LEXICAL_SHORT[finding.lexical], sort=finding.lexical.value),
        ),
        note=f"{visible(finding.reason)} ({visible(finding.id)})",
        group=finding.rung.value,
    )


def _outcome(outcome: OutcomeResult | None, *, table_id: str) -> Table | None:
    if outcome is None:
        return None
    return whole(
        Table(
            id=table_id,
            caption=(
                f"What the model answers: logit(“{visible(outcome.target)}”) {MINUS} logit(“{visible(outcome.foil)}”)"
                " in nats, before the softmax, at the last position"
            ),
            columns=(
                Column("Question"),
                Column("Concept arm", numeric=True, detail="mean"),
                Column("Control arm", numeric=True, detail="mean"),
                Column("Difference", numeric=True, detail="95% interval"),
                Column("AUROC", numeric=True, detail="95% interval"),
                Column("p Holm", numeric=True),
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


def contrast_of(concept: ConceptResult, contrast: Contrast) -> ContrastResult | None:
    """Return one contrast's result, or None when it was not analysed."""
    return next((result for result in concept.contrasts if result.contrast is contrast), None)
