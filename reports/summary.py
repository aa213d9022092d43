"""The pages for a reader with ten minutes: what was found, in words, and the one chart that compares the readers."""

from __future__ import annotations

from audit.records import (
    ConceptResult,
    Contrast,
    ContrastResult,
    Findings,
    PermutationControl,
    Reading,
    Rung,
)
from reports.concepts import contrast_of, estimate_cell, outcome_words, slug
from reports.figures import OverviewRow, overview_chart
from reports.numbers import NOT_MEASURED, count, decimal, interval, listed, plural, share, visible
from reports.queries import SCORES
from reports.view import Cell, Chart, Column, Row, Summary, SummaryRow, Table, whole
from reports.words import COLOUR_SHORT, COLOURS, CONTRAST_NAMES, READINGS

NOT_ANALYSED = Cell("Not analysed", detail="This question was not put for this concept.", mark="unresolved")


def summary_view(findings: Findings) -> Summary:
    """Return the summary: a row a concept, seven sentences, and the overview chart with its table."""
    rows = _overview_rows(findings)
    return Summary(
        lead=(
            "For each concept two questions are asked. Topic: does the model tell this subject from another?"
            " Distinction: does it tell the sensitive case from a near twin in the same words? Each is answered twice:"
            " can the model do it, and does the instrument show where."
        ),
        rows=tuple(_summary_row(concept) for concept in findings.concepts),
        sentences=_sentences(findings),
        chart=_overview_chart(rows),
        chart_table=_overview_table(findings),
    )


def _summary_row(concept: ConceptResult) -> SummaryRow:
    return SummaryRow(
        concept=visible(concept.title),
        href=f"concept-{slug(concept.id)}",
        domain=visible(concept.domain) + (", exploratory" if concept.exploratory else ""),
        definition=visible(concept.definition),
        topic=_reading_cell(contrast_of(concept, Contrast.TOPIC)),
        distinction=_reading_cell(contrast_of(concept, Contrast.DISTINCTION)),
        outcome=Cell(outcome_words(concept.outcome)),
        instrument=Cell(COLOUR_SHORT[concept.fidelity.colour], mark=concept.fidelity.colour.value),
    )


def _reading_cell(result: ContrastResult | None) -> Cell:
    if result is None:
        return NOT_ANALYSED
    words = READINGS[result.reading]
    if result.reading is Reading.DECOMPOSED:
        detail = f"{plural(result.confirmed, 'feature')} confirmed"
    elif result.reading is Reading.NOT_DECOMPOSED:
        detail = "no single feature shows it"
    elif result.reading is Reading.NOT_REPRESENTED:
        detail = "at this place in the model"
    elif result.reading is Reading.SUSPECT:
        detail = "a feature reacts, the simple check does not"
    else:
        detail = "the evidence allows no answer"
    return Cell(words.short, detail=detail, mark=words.mark)


def _sentences(findings: Findings) -> tuple[str, ...]:
    """Return what the results mean and what they do not, in seven plain sentences."""
    return (
        (
            f"{visible(findings.model.name)} was asked to read"
            f" {plural(sum(s.scenarios for s in findings.suites), 'hand-written situation')} on"
            f" {plural(len(findings.concepts), 'sensitive concept')}, while an instrument looked at its inner state;"
            f" the instrument is rated {findings.fidelity.colour.value} overall. {COLOURS[findings.fidelity.colour]}"
        ),
        distinction_sentence(findings),
        _ladder_sentence(findings),
        "That a feature reacts to a concept does not show that the model uses it when it answers. "
        + (
            "Only the findings on the rung “causal” speak about use."
            if findings.ladder.get(Rung.CAUSAL.value, 0)
            else "No finding in this report speaks about use."
        ),
        (
            "That no feature was found does not show that the model lacks the concept: the model may hold it where this"
            " instrument does not look."
        ),
        permutation_sentence(findings.permutation_control),
        (
            "No policy was applied: this report does not say whether the model may be used. Its seal shows that nothing"
            " was changed since sealing, not that the content is right, and it is not a determination of compliance."
        ),
    )


def distinction_sentence(findings: Findings) -> str:
    """Return for which concepts the sensitive case is told from its twin, in words."""
    titles: dict[Reading, list[str]] = {reading: [] for reading in Reading}
    for concept in findings.concepts:
        result = contrast_of(concept, Contrast.DISTINCTION)
        if result is not None:
            titles[result.reading].append(f"“{visible(concept.title)}”")
    parts = [f"for {listed(names)} {READINGS[reading].answer}" for reading, names in titles.items() if names]
    if not parts:
        return "No concept's sensitive case was compared with its near twin, so nothing is said about that distinction."
    answer = "; ".join(parts)
    return (
        f"Can the model tell the sensitive case from its near twin in the same words? {answer[:1].upper()}{answer[1:]}."
    )


def _ladder_sentence(findings: Findings) -> str:
    ladder = findings.ladder
    if not sum(ladder.values()):
        return (
            "No feature was selected for any concept, so there is no finding about a single feature. This is not a"
            " pass."
        )
    high = ladder.get(Rung.CONFIRMED.value, 0) + ladder.get(Rung.CAUSAL.value, 0)
    return (
        f"Of {plural(sum(ladder.values()), 'finding')} about single features, {count(high)}"
        f" {'stands' if high == 1 else 'stand'} up to the full test on situations that were held back; the others are"
        " reported with the reason why they do not."
    )


def permutation_sentence(control: PermutationControl) -> str:
    """Return what the check on false alarms found; a failure takes every finding with it."""
    base = (
        f"As a check on false alarms the labels were shuffled {plural(control.permutations, 'time')}, so that there was"
        f" nothing to find; the procedure still found something {plural(control.with_any_finding, 'time')}"
        f" ({share(control.rate)}, allowed: {share(control.limit)})"
    )
    return (
        f"{base}, so the check is passed."
        if control.passed
        else f"{base}, so the check FAILED and no finding can be relied on."
    )


def _overview_rows(findings: Findings) -> tuple[OverviewRow, ...]:
    return tuple(
        OverviewRow(
            label=f"{visible(concept.title)}: {CONTRAST_NAMES[result.contrast].lower()}",
            probe=result.probe.auroc,
            feature=result.best_auroc,
            random=result.random_control.best_auroc,
        )
        for concept in findings.concepts
        for result in concept.contrasts
    )


def _overview_chart(rows: tuple[OverviewRow, ...]) -> Chart | None:
    if not rows:
        return None
    title = "How well the two arms are told apart (paired AUROC, confirmation split)"
    spoken = "; ".join(
        f"{row.label}: linear probe {decimal(row.probe.value)}, first SAE feature "
        f"{decimal(row.feature.value) if row.feature else NOT_MEASURED}, random direction {decimal(row.random)}"
        for row in rows
    )
    return Chart(
        id="overview",
        svg=overview_chart(
            rows, chart_id="overview", title=f"{title}. {spoken}.", description="The table below has the numbers."
        ),
        title=title,
        description=spoken,
        caption=(
            f"{title}. Lines are 95% intervals. The first SAE feature is the one that ranked first on discovery,"
            " oriented by discovery. A feature that does no better than the best random direction shows nothing about"
            " the concept."
        ),
    )


def _overview_table(findings: Findings) -> Table:
    rows = []
    for concept in findings.concepts:
        for result in concept.contrasts:
            best = result.best_auroc
            rows.append(
                Row(
                    (
                        Cell(visible(concept.title), href=f"concept-{slug(concept.id)}"),
                        Cell(CONTRAST_NAMES[result.contrast]),
                        estimate_cell(result.probe.auroc),
                        (
                            Cell(NOT_MEASURED, detail="no feature ranked")
                            if best is None
                            else Cell(decimal(best.value), detail=f"{interval(best)}, feature {result.best_latent}")
                        ),
                        Cell(decimal(result.random_control.best_auroc)),
                        Cell(result.reading.value, mark=READINGS[result.reading].mark),
                    )
                )
            )
    return whole(
        Table(
            id="overview-table",
            caption="The numbers behind the chart (paired AUROC with 95% interval, confirmation split only)",
            columns=(
                Column("Concept"),
                Column("Contrast"),
                Column("Linear probe", numeric=True),
                Column("First SAE feature", numeric=True),
                Column("Best random direction", numeric=True),
                Column("Reading"),
            ),
            rows=tuple(rows),
            query=SCORES,
            empty="No contrast was analysed.",
        )
    )
