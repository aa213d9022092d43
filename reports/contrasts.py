"""One contrast of one concept: what each instrument shows of it, against the baselines, feature by feature."""

from __future__ import annotations

from collections.abc import Sequence

from audit.records import (
    Baseline,
    BaselineKind,
    ConceptResult,
    ContrastResult,
    ControlResult,
    Estimate,
    FeatureSet,
    Finding,
    Lexical,
    Rung,
)
from reports.effects import in_order
from reports.instruments import Instrument, contrast_of, slug
from reports.numbers import (
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
from reports.queries import SCORES
from reports.view import Cell, Column, ContrastBlock, ContrastView, Row, Table, whole
from reports.words import CONTRAST_NAMES, CONTRAST_QUESTIONS, READINGS

PRINTED_FEATURES = 15
# What HTML shows before it is asked for more.
SHOWN_FEATURES = 8
UNBROKEN_FEATURES = 8

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
    Column("First feature minus this", numeric=True, detail="AUROC, 95% interval"),
    Column("Result"),
)
_BASELINE_NAMES = {
    BaselineKind.MEANS: "Difference of means",
    BaselineKind.LOGISTIC: "Logistic regression",
    BaselineKind.NEURON: "Best single neuron",
    BaselineKind.WORDS: "Bag of words",
}
_LEXICAL_SHORT = {
    Lexical.LEXICAL: "lexical",
    Lexical.NOT_LEXICAL: "not lexical",
    Lexical.UNDECIDED: "undecided",
    Lexical.NOT_TESTED: "not tested",
}


def lexical_word(finding: Finding) -> str:
    """Return the verdict on cue words, in a word."""
    return _LEXICAL_SHORT[finding.lexical]


def card_id(sae: str, latent: int) -> str:
    """Return the fragment of a feature card."""
    return f"card-{slug(sae)}-{latent}"


def estimate_cell(estimate: Estimate | None, *, with_sign: bool = False, places: int = 2) -> Cell:
    """Return an estimate with its interval as the second line."""
    if estimate is None:
        return Cell(NOT_MEASURED)
    text = signed(estimate.value, places) if with_sign else decimal(estimate.value, places)
    return Cell(text, detail=interval(estimate, places), sort=plain(estimate.value))


def contrast_views(
    concept: ConceptResult, instruments: Sequence[Instrument], *, carded: frozenset[tuple[str, int]]
) -> tuple[ContrastView, ...]:
    """Return the contrasts that were analysed, each with a block an instrument.

    Args:
        concept: whose contrasts.
        instruments: in the order of the findings; the main one's fragments carry no name.
        carded: (SAE, latent) of every feature that has a card to link to.
    """
    views = []
    for contrast in dict.fromkeys(result.contrast for result in concept.contrasts):
        blocks = tuple(
            _block(concept, result, instrument, carded)
            for instrument in instruments
            if (result := contrast_of(concept, contrast, sae=instrument.sae)) is not None
        )
        views.append(
            ContrastView(
                id=f"contrast-{slug(concept.id)}-{contrast.value}",
                name=CONTRAST_NAMES[contrast],
                question=CONTRAST_QUESTIONS[contrast],
                blocks=blocks,
            )
        )
    return tuple(views)


def _block(
    concept: ConceptResult, result: ContrastResult, instrument: Instrument, carded: frozenset[tuple[str, int]]
) -> ContrastBlock:
    words = READINGS[result.reading]
    stem = f"{slug(concept.id)}-{result.contrast.value}"
    where = "" if instrument.alone else f", {instrument.label}"
    name = f"{visible(concept.title)}, {CONTRAST_NAMES[result.contrast].lower()}{where}"
    return ContrastBlock(
        id=instrument.place_id(f"block-{stem}"),
        heading="" if instrument.alone else f"{CONTRAST_NAMES[result.contrast]}: {instrument.label}",
        sae="" if instrument.alone else visible(instrument.sae),
        reading=Cell(f"{words.short}: {result.reading.value}", detail=words.sentence, mark=words.mark),
        reason=visible(result.reason),
        counts=(
            f"{plural(result.n_discovery, 'scenario')} for discovery and {count(result.n_confirmation)} for"
            f" confirmation; {plural(result.tested, 'feature')} tested, {count(result.selected)} selected in discovery"
            f" ({count(result.selected_by)} under any dependence between features, Benjamini-Yekutieli),"
            f" {count(result.confirmed)} confirmed."
        ),
        baselines=_baselines(result, name, table_id=instrument.place_id(f"baselines-{stem}")),
        features=_features(result, name, carded, table_id=instrument.place_id(f"features-{stem}")),
    )


def _baselines(result: ContrastResult, name: str, *, table_id: str) -> Table:
    rows = (
        *(_baseline_row(baseline, result) for baseline in result.baselines),
        _first_feature_row(result),
        *(_set_row(one) for one in result.feature_sets[1:]),
        *(_control_row(control) for control in result.controls),
    )
    return whole(
        Table(
            id=table_id,
            caption=f"{name}: who tells the two arms apart (confirmation split only)",
            columns=_BASELINE_COLUMNS,
            rows=rows,
            note=(
                f"{result.n_confirmation} scenarios. The linear probe that speaks for the model is the better one on"
                f" discovery: {_BASELINE_NAMES[result.probe_kind].lower()}. {_against(result)} AUROC is oriented by"
                " discovery, so that above 0.5 means the expected direction; for a control it is the best of those"
                " latents that rank first on discovery, in either direction, which favours it."
                f"{_together(result)}{_split(result)} {_power(result)}"
            ),
            query=SCORES,
        )
    )


def _baseline_row(baseline: Baseline, result: ContrastResult) -> Row:
    linear = baseline.kind is result.probe_kind
    return Row(
        (
            Cell(_BASELINE_NAMES[baseline.kind], detail=visible(baseline.detail) + ("; speaks for the model" * linear)),
            estimate_cell(baseline.auroc),
            estimate_cell(baseline.d_z, with_sign=True),
            Cell(probability(baseline.p_value)),
            Cell(probability(baseline.p_holm)),
            estimate_cell(baseline.feature_minus, with_sign=True),
            Cell("separates" if baseline.separates else "does not separate"),
        )
    )


def _set_row(one: FeatureSet) -> Row:
    return Row(
        (
            Cell(f"{len(one.latents)} SAE features together", detail="logistic regression on the first by rank"),
            estimate_cell(one.auroc),
            Cell(NOT_MEASURED),
            Cell(probability(one.p_value)),
            Cell(NOT_MEASURED),
            Cell(signed(-one.gain.value), detail=_turned(one.gain)),
            Cell("a probe on features, not a feature"),
        )
    )


def _turned(gain: Estimate) -> str:
    if gain.low is None or gain.high is None:
        return interval(gain)
    return interval(Estimate(-gain.value, -gain.high, -gain.low))


def _control_row(control: ControlResult) -> Row:
    return Row(
        (
            Cell(
                f"Best latent of a control: {control.kind.value}",
                detail=f"of {count(control.compared)}; {count(control.tested)} tested",
            ),
            Cell(decimal(control.best_auroc)),
            Cell(decimal(control.best_d_z), detail="" if control.best_d_z is None else "absolute value"),
            *[Cell(NOT_MEASURED)] * 3,
            Cell(f"{count(control.confirmed)} pass both tests"),
        )
    )


def _together(result: ContrastResult) -> str:
    """Return how the largest set of features compares with the strongest baseline on the same activations."""
    logistic = result.baseline(BaselineKind.LOGISTIC)
    if logistic.set_minus is None or len(result.feature_sets) < 2:
        return ""
    size = len(result.feature_sets[-1].latents)
    return (
        f" {size} features together minus logistic regression on the residual stream:"
        f" {signed(logistic.set_minus.value)} AUROC ({interval(logistic.set_minus)})."
    )


def _split(result: ContrastResult) -> str:
    if not result.split_or_absorbed:
        return ""
    largest = result.feature_sets[-1]
    return (
        f" Split or absorbed: {len(largest.latents)} features together read {signed(largest.gain.value)} AUROC more"
        f" than the first alone ({interval(largest.gain)}), so the concept is spread over several features:"
        f" {', '.join(str(latent) for latent in largest.latents)}."
    )


def _power(result: ContrastResult) -> str:
    passing, confirmed = result.power.passing, result.power.confirmed
    if passing is None:
        return "Power: no effect up to d_z 5 would have had an 80% chance of passing both tests with so few scenarios."
    beyond = (
        "no effect up to 5 would have" if confirmed is None else f"{decimal(confirmed)} with exceeding the controls too"
    )
    return f"Power: the smallest d_z with an 80% chance of passing both tests was {decimal(passing)}; {beyond}."


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
        return Row((name, auroc, *[Cell(NOT_MEASURED)] * 4, Cell("not confirmed")))
    return Row(
        (
            Cell("First SAE feature", detail=f"feature {found.latent}, {found.rung.value}; its d_z is not oriented"),
            auroc,
            estimate_cell(found.d_z, with_sign=True),
            Cell(probability(found.p_value)),
            Cell(probability(found.p_holm)),
            Cell(NOT_MEASURED),
            Cell("confirmed" if found.rung.height >= Rung.CONFIRMED.height else "not confirmed"),
        )
    )


def _against(result: ContrastResult) -> str:
    """Return who clearly does better than the first SAE feature: the whole interval of the difference below zero."""
    if result.best_auroc is None:
        return "No feature could be ranked on discovery, so no baseline could be compared with one."
    better = [
        _BASELINE_NAMES[baseline.kind].lower()
        for baseline in result.baselines
        if (minus := baseline.feature_minus) is not None and minus.high is not None and minus.high < 0
    ]
    return (
        f"Clearly better than the first SAE feature: {listed(better)}."
        if better
        else ("No baseline is clearly better than the first SAE feature.")
    )


def _features(result: ContrastResult, name: str, carded: frozenset[tuple[str, int]], *, table_id: str) -> Table:
    findings = in_order(result.findings)
    rows = tuple(_feature_row(finding, carded) for finding in findings)
    left_out = len(rows) - PRINTED_FEATURES
    return Table(
        id=table_id,
        caption=f"{name}: features selected in discovery, measured on the confirmation split",
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
        shown=SHOWN_FEATURES,
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
            Cell(lexical_word(finding), sort=finding.lexical.value),
        ),
        note=visible(finding.reason),
        group=finding.rung.value,
        finding=visible(finding.id),
    )
