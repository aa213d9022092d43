"""Whether the instrument and the procedure can be trusted: fidelity, shuffled labels, control SAEs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

from audit.digests import Json
from audit.records import Colour, Contrast, ControlKind, Fidelity, Findings, RunInfo
from reports.contrasts import estimate_cell
from reports.features import ELSEWHERE
from reports.figures import FidelityBar, fidelity_chart
from reports.instruments import Instrument, contrast_of, fidelity_of
from reports.language import N_, _
from reports.length import SHOWN_ROWS, is_long, short_enough
from reports.numbers import count, decimal, listed, share, visible
from reports.queries import FIDELITY, SCORES
from reports.view import Cell, Chart, Column, Controls, Fact, FidelityPart, FidelitySection, Row, Table, Term, whole
from reports.words import COLOUR_SHORT, COLOURS, CONTRAST_NAMES, word

FIDELITY_NOTE = N_(
    "L0: features active at once. Dead: share of features that never fire on these tokens. Dense: share that fires on"
    " more than one token in ten. Delta CE and KL in nats a token, with the reconstruction spliced in; the interval of"
    " delta CE is a 95% bootstrap over scenarios. CE recovered: the share of the loss from replacing the inner state by"
    " the mean residual of the site that the reconstruction wins back; 100% is no loss. The ratio is to a random error"
    " of equal norm: above 1 the instrument's error changes predictions more than a random one does. “Not"
    " measured”: the record holds no value for that scope; the row's reason and the spliced count say on what it rests."
)
# This project's conventions, printed where the run's configuration does not set its own.
GREEN_FVU, GREEN_DELTA_CE, AMBER_FVU, AMBER_DELTA_CE, CONCEPT_FVU_RATIO = 0.2, 0.1, 0.4, 0.4, 1.5


def _limit(run: RunInfo, name: str, convention: float) -> float:
    """Return a limit of the fidelity colours as the run's configuration holds it, or else the project's convention."""
    section: Json = run.config.get("fidelity")
    value = section.get(name) if isinstance(section, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else convention


def fidelity_view(findings: Findings, run: RunInfo, instruments: Sequence[Instrument]) -> FidelitySection:
    """Return how well each SAE reproduces the residual stream, overall and for each concept."""
    green, amber = _limit(run, "green_fvu", GREEN_FVU), _limit(run, "amber_fvu", AMBER_FVU)
    green_ce, amber_ce = _limit(run, "green_delta_ce", GREEN_DELTA_CE), _limit(run, "amber_delta_ce", AMBER_DELTA_CE)
    ratio = _limit(run, "concept_fvu_ratio", CONCEPT_FVU_RATIO)
    return FidelitySection(
        lead=_(
            "Before any feature is read, the instrument is tested on the probes themselves. The colours follow"
            " this project's conventions, printed below; they are no standard. Red means that no claim about"
            " single features is made. What the instrument does on other text is in its certificate, in the next"
            " chapter."
        ),
        parts=tuple(_part(findings, instrument, green=green, amber=amber) for instrument in instruments),
        rules=(
            Term(
                _("green"),
                _(
                    "FVU at most {fvu} and delta CE at most {delta_ce}. {meaning}",
                    fvu=f"{green:g}",
                    delta_ce=f"{green_ce:g}",
                    meaning=_(COLOURS[Colour.GREEN]),
                ),
                mark="green",
            ),
            Term(
                _("amber"),
                _(
                    "FVU at most {fvu} and delta CE at most {delta_ce}. {meaning}",
                    fvu=f"{amber:g}",
                    delta_ce=f"{amber_ce:g}",
                    meaning=_(COLOURS[Colour.AMBER]),
                ),
                mark="amber",
            ),
            Term(_("red"), _("Anything else. {meaning}", meaning=_(COLOURS[Colour.RED])), mark="red"),
            Term(
                _("limits for a concept"),
                _(
                    "A concept on which FVU exceeds {ratio} times the overall value loses one colour. No concept is"
                    " rated better than the instrument overall. Without delta CE no colour is better than amber. The"
                    " limits are compared with the value of delta CE, not with its interval.",
                    ratio=f"{ratio:g}",
                ),
            ),
        ),
    )


def _part(findings: Findings, instrument: Instrument, *, green: float, amber: float) -> FidelityPart:
    overall = instrument.result.fidelity
    scopes = [(_("All prompts"), overall)]
    for concept in findings.concepts:
        row = fidelity_of(concept, sae=instrument.sae)
        if row is not None:
            scopes.append((visible(concept.title), row))
    bars = tuple(FidelityBar(label, fidelity.fvu, fidelity.colour) for label, fidelity in scopes)
    through = "" if instrument.alone else f", {instrument.label}"
    title = _("How much of the model's inner state the instrument misses (FVU){through}", through=through)
    spoken = "; ".join(f"{bar.label}: {decimal(bar.fvu)}, {word(bar.colour)}" for bar in bars)
    chart_id = instrument.place_id("fidelity")
    table = Table(
        id=instrument.place_id("fidelity-table"),
        caption=_("Fidelity of the instrument, overall and for each concept{through}", through=through),
        columns=_fidelity_columns(),
        rows=tuple(_fidelity_row(label, fidelity) for label, fidelity in scopes),
        note=_(FIDELITY_NOTE) if instrument.number == 1 else _("The columns are explained below the first such table."),
        layout="dense fidelity",
        query=FIDELITY,
    )
    return FidelityPart(
        id=instrument.place_id("fidelity-part"),
        heading="" if instrument.alone else f"{instrument.heading}: {visible(instrument.sae)}",
        verdict=Cell(
            _(COLOUR_SHORT[overall.colour]),
            detail=_(
                "{colour} Reason given: {reason}", colour=_(COLOURS[overall.colour]), reason=visible(overall.reason)
            ),
            mark=overall.colour.value,
        ),
        chart=Chart(
            id=chart_id,
            svg=fidelity_chart(
                bars,
                green=green,
                amber=amber,
                chart_id=chart_id,
                title=f"{title}. {spoken}.",
                description=_("The table below has the numbers."),
            ),
            title=title,
            description=spoken,
            caption=_(
                "{title}. Shorter is better. Dashed lines are the limits of green and amber for FVU alone; the"
                " colour also depends on delta CE.",
                title=title,
            ),
        ),
        table=replace(
            table,
            # With a line of reasons each, rows of many concepts take pages; the reasons stand with the concepts too.
            printed=tuple(replace(row, note="") if place else row for place, row in enumerate(table.rows))
            if is_long(findings.concepts)
            else table.rows,
        ),
    )


def _fidelity_row(label: str, fidelity: Fidelity) -> Row:
    return Row(
        (
            Cell(label),
            Cell(count(fidelity.tokens), detail=count(fidelity.spliced_tokens)),
            Cell(decimal(fidelity.fvu, 3)),
            Cell(decimal(fidelity.cosine, 3)),
            Cell(
                decimal(fidelity.l0_mean, 1),
                detail=_("{low} to {high}", low=decimal(fidelity.l0_p05, 0), high=decimal(fidelity.l0_p95, 0)),
            ),
            Cell(share(fidelity.dead_share), detail=share(fidelity.dense_share)),
            estimate_cell(fidelity.delta_ce, with_sign=True, places=3),
            Cell(share(fidelity.ce_recovered), detail=decimal(fidelity.ce, 3)),
            Cell(decimal(fidelity.kl, 3), detail=decimal(fidelity.kl_ratio, 2)),
            Cell(word(fidelity.colour), mark=fidelity.colour.value),
        ),
        note=_("Reason: {reason}", reason=visible(fidelity.reason)),
    )


def controls_view(findings: Findings, instruments: Sequence[Instrument]) -> Controls:
    """Return the measured false positive rate and what the control SAEs reach."""
    control = findings.permutation_control
    several = len(instruments) > 1
    return Controls(
        permutation=(
            _(
                "The tests, from choosing features to confirming them, were run on scenarios whose arm labels had been"
                " shuffled, so that every finding is a false one. The share of runs with any finding is the measured"
                " false positive rate. The shuffled runs skip the comparison with the control SAEs, which only removes"
                " findings."
            )
            + (" " + _("A shuffle counts once, whichever instrument found something in it.") if several else "")
        ),
        permutation_mark=Cell(
            _("passed") if control.passed else _("failed"),
            detail=(
                ""
                if control.passed
                else (
                    _(
                        "The procedure finds too much where there is nothing to find: no finding in this report can be"
                        " relied on."
                    )
                )
            ),
            mark="green" if control.passed else "red",
        ),
        permutation_facts=(
            Fact(_("Shuffles"), count(control.permutations)),
            Fact(
                _("Shuffles in which the first step chose anything"),
                _(
                    "{number} (limit {limit})",
                    number=count(control.with_any_selection),
                    limit=share(control.selection_limit),
                ),
            ),
            Fact(_("Shuffles with any finding"), count(control.with_any_finding)),
            Fact(_("Measured false positive rate"), share(control.rate)),
            Fact(_("Limit"), share(control.limit)),
        ),
        totals=_control_totals(findings, instruments),
        saes=_control_saes(findings, instruments),
    )


def _control_saes(findings: Findings, instruments: Sequence[Instrument]) -> Table:
    several = len(instruments) > 1
    table = Table(
        id="control-saes",
        caption=_("Control SAEs of the same number of latents, through the same procedure"),
        columns=(
            Column(_("Concept")),
            Column(_("Contrast")),
            *((Column(_("Instrument")),) if several else ()),
            Column(_("Control")),
            Column(_("Tested"), numeric=True),
            Column(_("Selected"), numeric=True),
            Column(_("Pass both tests"), numeric=True, detail=_("the SAE's")),
            Column(_("Compared"), numeric=True),
            Column(_("Largest |d_z|"), numeric=True),
            Column(_("Best AUROC"), numeric=True),
        ),
        rows=tuple(
            Row(
                (
                    Cell(visible(concept.title)),
                    Cell(_(CONTRAST_NAMES[result.contrast])),
                    *((Cell(count(instrument.number), detail=instrument.place),) if several else ()),
                    Cell(word(control.kind)),
                    Cell(count(control.tested)),
                    Cell(count(control.selected)),
                    Cell(count(control.confirmed), detail=count(result.passing)),
                    Cell(count(control.compared)),
                    Cell(decimal(control.best_d_z)),
                    Cell(decimal(control.best_auroc)),
                )
            )
            for concept in findings.concepts
            for contrast in Contrast
            for instrument in instruments
            if (result := contrast_of(concept, contrast, sae=instrument.sae)) is not None
            for control in result.controls
        ),
        note=(
            _(
                "Random directions learnt nothing, and as many are active at a token as in the instrument. A frozen"
                " random decoder stayed at random directions, and only when they are active was learnt. A feature"
                " is called confirmed only if its effect exceeds the largest one of every control, among the"
                " compared latents, which rank first on discovery. Each bar rests on one draw. “Not measured” in a"
                " row: no latent of the control fired often enough to be tested."
            )
            + "".join(_without(findings, kind, instruments) for kind in ControlKind)
        ),
        query=SCORES,
        layout="long",
        shown=SHOWN_ROWS,
        empty=_("No contrast was analysed, so no control was run."),
    )
    where = _(
        "The {number} rows behind these sums are in {elsewhere}.", number=count(len(table.rows)), elsewhere=_(ELSEWHERE)
    )
    return short_enough(table, findings.concepts, otherwise=where)


def _control_totals(findings: Findings, instruments: Sequence[Instrument]) -> Table:
    """Return a row a question, instrument and control: what passes over all concepts, beside the SAE."""
    several = len(instruments) > 1
    results = [
        (contrast, instrument, kind, own)
        for contrast in Contrast
        for instrument in instruments
        for kind in ControlKind
        if (
            own := [
                (result, control)
                for concept in findings.concepts
                if (result := contrast_of(concept, contrast, sae=instrument.sae)) is not None
                for control in result.controls
                if control.kind is kind
            ]
        )
    ]
    return whole(
        Table(
            id="control-totals",
            caption=_("Control SAEs over all concepts: what passes both tests where nothing was learnt"),
            columns=(
                Column(_("Contrast")),
                *((Column(_("Instrument")),) if several else ()),
                Column(_("Control")),
                Column(_("Concepts"), numeric=True),
                Column(_("Its latents that pass"), numeric=True, detail=_("the SAE's")),
                Column(_("SAE's features confirmed"), numeric=True),
                Column(_("Median best AUROC"), numeric=True, detail=_("the SAE's first feature")),
            ),
            rows=tuple(
                Row(
                    (
                        Cell(_(CONTRAST_NAMES[contrast])),
                        *((Cell(count(instrument.number), detail=instrument.place),) if several else ()),
                        Cell(word(kind)),
                        Cell(count(len(own))),
                        Cell(
                            count(sum(control.confirmed for _result, control in own)),
                            detail=count(sum(result.passing for result, _control in own)),
                        ),
                        Cell(count(sum(result.confirmed for result, _control in own))),
                        Cell(
                            decimal(_median([control.best_auroc for _result, control in own])),
                            detail=decimal(
                                _median([r.best_auroc.value if r.best_auroc else None for r, _control in own])
                            ),
                        ),
                    )
                )
                for contrast, instrument, kind, own in results
            ),
            query=SCORES,
            empty=_("No contrast was analysed, so no control was run."),
        )
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _without(findings: Findings, kind: ControlKind, instruments: Sequence[Instrument]) -> str:
    """Return for which instruments a kind of control was not measured, as a sentence; empty where there is none."""
    missing = []
    for instrument in instruments:
        results = [r for concept in findings.concepts for r in concept.contrasts if r.sae == instrument.sae]
        if results and not any(control.kind is kind for result in results for control in result.controls):
            missing.append(instrument.label)
    if not missing:
        return ""
    return " " + _(
        "For {instruments} the control “{kind}” was not measured, as none of that shape and site was run:"
        " findings there exceed the other control only.",
        instruments=listed(missing),
        kind=word(kind),
    )


def _fidelity_columns() -> tuple[Column, ...]:
    return (
        Column(_("Tokens of")),
        Column(_("Tokens"), numeric=True, detail=_("spliced")),
        Column(_("FVU"), numeric=True),
        Column(_("Cosine"), numeric=True),
        Column("L0", numeric=True, detail=_("5% to 95%")),
        Column(_("Dead"), numeric=True, detail=_("dense")),
        Column(_("Delta CE"), numeric=True, detail=_("95% interval")),
        Column(_("CE recovered"), numeric=True, detail=_("CE before")),
        Column(_("KL"), numeric=True, detail=_("ratio")),
        Column(_("Colour")),
    )
