"""The results at a glance: one chart a domain with a panel an instrument, and the table behind it."""

from __future__ import annotations

from collections.abc import Sequence

from audit.records import ConceptResult, Contrast, ContrastResult, Findings
from reports.contrasts import estimate_cell
from reports.figures import OverviewRow, Readers, overview_chart
from reports.instruments import Instrument, contrast_of, slug
from reports.language import _
from reports.length import SHOWN_ROWS, short_enough
from reports.numbers import NOT_MEASURED, count, decimal, interval, listed, visible
from reports.queries import SCORES
from reports.view import Cell, Chart, Column, Row, Table
from reports.words import CONTRAST_NAMES, reading_words, word

CHARTED_INSTRUMENTS = 3
CHARTED_CONCEPTS = 10


def overview_charts(findings: Findings, instruments: Sequence[Instrument]) -> tuple[Chart, ...]:
    """Return the charts that compare the readers, at most ten concepts of one domain in each."""
    charts = []
    for domain in dict.fromkeys(concept.domain for concept in findings.concepts):
        own = [c for c in findings.concepts if c.domain == domain and c.contrasts]
        parts = [own[start : start + CHARTED_CONCEPTS] for start in range(0, len(own), CHARTED_CONCEPTS)]
        for number, part in enumerate(parts, start=1):
            name = visible(domain).capitalize()
            charts.append(
                _chart(
                    part,
                    instruments,
                    name=name
                    if len(parts) == 1
                    else _("{domain} ({number} of {total})", domain=name, number=number, total=len(parts)),
                    chart_id=f"overview-{slug(domain)}" + (f"-{number}" if number > 1 else ""),
                )
            )
    return tuple(charts)


def _chart(concepts: Sequence[ConceptResult], instruments: Sequence[Instrument], *, name: str, chart_id: str) -> Chart:
    drawn = instruments[:CHARTED_INSTRUMENTS]
    rows = tuple(
        OverviewRow(
            concept=visible(concept.title),
            label=word(contrast),
            readers=tuple(_readers(contrast_of(concept, contrast, sae=instrument.sae)) for instrument in drawn),
        )
        for concept in concepts
        for contrast in Contrast
        if any(result.contrast is contrast for result in concept.contrasts)
    )
    panels = tuple("" if instrument.alone else instrument.heading for instrument in drawn)
    title = _("{domain}: how well the two arms are told apart (paired AUROC, confirmation split)", domain=name)
    spoken = "; ".join(
        f"{row.concept}: {row.label}{', ' if panel else ''}{panel}: {_spoken(readers)}"
        for row in rows
        for panel, readers in zip(panels, row.readers, strict=True)
    )
    left_out = instruments[CHARTED_INSTRUMENTS:]
    limit = (
        " " + _("Not drawn: {instruments}.", instruments=listed([instrument.label for instrument in left_out]))
        if left_out
        else ""
    )
    return Chart(
        id=chart_id,
        svg=overview_chart(
            rows,
            panels,
            chart_id=chart_id,
            title=f"{title}. {spoken}.",
            description=_("The tables below have the numbers."),
        ),
        title=title,
        description=spoken,
        caption=(
            _(
                "{title}. Lines are 95% intervals. The first SAE feature is the one that ranked first on discovery,"
                " oriented by discovery. A feature that does no better than the best latent of a control shows nothing"
                " about the concept.",
                title=title,
            )
            + limit
        ),
    )


def _readers(result: ContrastResult | None) -> Readers | None:
    if result is None:
        return None
    return Readers(result.probe.auroc, result.best_auroc, result.control_auroc)


def _spoken(readers: Readers | None) -> str:
    if readers is None:
        return _("not analysed")
    return _(
        "linear probe {probe}, first SAE feature {feature}, best latent of a control {control}",
        probe=decimal(readers.probe.value),
        feature=decimal(readers.feature.value) if readers.feature else _(NOT_MEASURED),
        control=decimal(readers.bar),
    )


def overview_table(findings: Findings, instruments: Sequence[Instrument]) -> Table:
    """Return the numbers behind the charts, a row a concept, contrast and instrument."""
    several = len(instruments) > 1
    rows = tuple(
        _row(concept, result, instrument, several=several)
        for concept in findings.concepts
        for contrast in Contrast
        for instrument in instruments
        if (result := contrast_of(concept, contrast, sae=instrument.sae)) is not None
    )
    table = Table(
        id="overview-table",
        caption=_("The numbers behind the charts (paired AUROC with 95% interval, confirmation split only)"),
        columns=(
            Column(_("Concept")),
            Column(_("Contrast")),
            *((Column(_("Instrument")),) if several else ()),
            Column(_("Linear probe"), numeric=True),
            Column(_("First SAE feature"), numeric=True),
            Column(_("Its number")),
            Column(_("Best latent of a control"), numeric=True),
            Column(_("Reading")),
        ),
        rows=rows,
        note=_(
            "Of the two linear probes the one that did better on discovery is shown; the tables of the concepts"
            " name it and have the other baselines."
        ),
        query=SCORES,
        empty=_("No contrast was analysed."),
        shown=SHOWN_ROWS,
        layout="long",
    )
    where = _("The {number} rows behind the charts stand with their concepts.", number=count(len(rows)))
    return short_enough(table, findings.concepts, otherwise=where)


def _row(concept: ConceptResult, result: ContrastResult, instrument: Instrument, *, several: bool) -> Row:
    best = result.best_auroc
    return Row(
        (
            Cell(visible(concept.title), href=f"concept-{slug(concept.id)}"),
            Cell(_(CONTRAST_NAMES[result.contrast])),
            *((Cell(count(instrument.number), detail=instrument.place),) if several else ()),
            estimate_cell(result.probe.auroc),
            (
                Cell(_(NOT_MEASURED), detail=_("no feature ranked"))
                if best is None
                else Cell(decimal(best.value), detail=interval(best))
            ),
            Cell(_("none")) if result.best_latent is None else Cell(str(result.best_latent), code=True),
            Cell(decimal(result.control_auroc)),
            Cell(word(result.reading), mark=reading_words(result.reading).mark),
        )
    )
