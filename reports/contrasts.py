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
    Rung,
)
from reports.effects import in_order
from reports.instruments import Instrument, contrast_of, slug
from reports.language import N_, _
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
from reports.words import CONTRAST_NAMES, CONTRAST_QUESTIONS, reading_words, word

PRINTED_FEATURES = 15
# What HTML shows before it is asked for more.
SHOWN_FEATURES = 8
UNBROKEN_FEATURES = 8

_BASELINE_WORDS = {
    BaselineKind.MEANS: N_("difference of means"),
    BaselineKind.LOGISTIC: N_("logistic regression"),
    BaselineKind.NEURON: N_("best single neuron"),
    BaselineKind.WORDS: N_("bag of words"),
}
_BASELINE_NAMES = {
    BaselineKind.MEANS: N_("Difference of means"),
    BaselineKind.LOGISTIC: N_("Logistic regression"),
    BaselineKind.NEURON: N_("Best single neuron"),
    BaselineKind.WORDS: N_("Bag of words"),
}


def lexical_word(finding: Finding) -> str:
    """Return the verdict on cue words, in a word."""
    return word(finding.lexical)


def card_id(sae: str, latent: int) -> str:
    """Return the fragment of a feature card."""
    return f"card-{slug(sae)}-{latent}"


def estimate_cell(estimate: Estimate | None, *, with_sign: bool = False, places: int = 2) -> Cell:
    """Return an estimate with its interval as the second line."""
    if estimate is None:
        return Cell(_(NOT_MEASURED))
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
                name=_(CONTRAST_NAMES[contrast]),
                question=_(CONTRAST_QUESTIONS[contrast]),
                blocks=blocks,
            )
        )
    return tuple(views)


def _block(
    concept: ConceptResult, result: ContrastResult, instrument: Instrument, carded: frozenset[tuple[str, int]]
) -> ContrastBlock:
    words = reading_words(result.reading)
    stem = f"{slug(concept.id)}-{result.contrast.value}"
    where = "" if instrument.alone else f", {instrument.label}"
    name = f"{visible(concept.title)}, {word(result.contrast)}{where}"
    return ContrastBlock(
        id=instrument.place_id(f"block-{stem}"),
        heading="" if instrument.alone else f"{_(CONTRAST_NAMES[result.contrast])}: {instrument.label}",
        sae="" if instrument.alone else visible(instrument.sae),
        reading=Cell(f"{words.short}: {word(result.reading)}", detail=words.sentence, mark=words.mark),
        reason=visible(result.reason),
        counts=_(
            "{scenarios} for discovery and {confirmation} for confirmation; {features} tested, {selected}"
            " selected in discovery ({under_dependence} under any dependence between features, Benjamini-Yekutieli),"
            " {confirmed} confirmed.",
            scenarios=plural(result.n_discovery, "{count} scenario", "{count} scenarios"),
            confirmation=count(result.n_confirmation),
            features=plural(result.tested, "{count} feature", "{count} features"),
            selected=count(result.selected),
            under_dependence=count(result.selected_by),
            confirmed=count(result.confirmed),
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
            caption=_("{name}: who tells the two arms apart (confirmation split only)", name=name),
            columns=_baseline_columns(),
            rows=rows,
            note=(
                _(
                    "{scenarios} scenarios. The linear probe that speaks for the model is the better one on discovery:"
                    " {probe}. {against} AUROC is oriented by discovery, so that above 0.5 means the expected"
                    " direction; for a control it is the best of those latents that rank first on discovery, in either"
                    " direction, which favours it.",
                    scenarios=result.n_confirmation,
                    probe=_(_BASELINE_WORDS[result.probe_kind]),
                    against=_against(result),
                )
                + f"{_together(result)}{_split(result)} {_power(result)}"
            ),
            query=SCORES,
        )
    )


def _baseline_row(baseline: Baseline, result: ContrastResult) -> Row:
    linear = baseline.kind is result.probe_kind
    return Row(
        (
            Cell(
                _(_BASELINE_NAMES[baseline.kind]),
                detail=visible(baseline.detail) + ("; " + _("speaks for the model")) * linear,
            ),
            estimate_cell(baseline.auroc),
            estimate_cell(baseline.d_z, with_sign=True),
            Cell(probability(baseline.p_value)),
            Cell(probability(baseline.p_holm)),
            estimate_cell(baseline.feature_minus, with_sign=True),
            Cell(_("separates") if baseline.separates else _("does not separate")),
        )
    )


def _set_row(one: FeatureSet) -> Row:
    return Row(
        (
            Cell(
                _("{number} SAE features together", number=len(one.latents)),
                detail=_("logistic regression on the first by rank"),
            ),
            estimate_cell(one.auroc),
            Cell(_(NOT_MEASURED)),
            Cell(probability(one.p_value)),
            Cell(_(NOT_MEASURED)),
            Cell(signed(-one.gain.value), detail=_turned(one.gain)),
            Cell(_("a probe on features, not a feature")),
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
                _("Best latent of a control: {kind}", kind=word(control.kind)),
                detail=_(
                    "of {compared}; {tested} tested", compared=count(control.compared), tested=count(control.tested)
                ),
            ),
            Cell(decimal(control.best_auroc)),
            Cell(decimal(control.best_d_z), detail="" if control.best_d_z is None else _("absolute value")),
            *[Cell(_(NOT_MEASURED))] * 3,
            Cell(_("{confirmed} pass both tests", confirmed=count(control.confirmed))),
        )
    )


def _together(result: ContrastResult) -> str:
    """Return how the largest set of features compares with the strongest baseline on the same activations."""
    logistic = result.baseline(BaselineKind.LOGISTIC)
    if logistic.set_minus is None or len(result.feature_sets) < 2:
        return ""
    size = len(result.feature_sets[-1].latents)
    return " " + _(
        "{number} features together minus logistic regression on the residual stream: {difference} AUROC ({interval}).",
        number=size,
        difference=signed(logistic.set_minus.value),
        interval=interval(logistic.set_minus),
    )


def _split(result: ContrastResult) -> str:
    if not result.split_or_absorbed:
        return ""
    largest = result.feature_sets[-1]
    return " " + _(
        "Split or absorbed: {number} features together read {gain} AUROC more than the first alone ({interval}), so the"
        " concept is spread over several features: {latents}.",
        number=len(largest.latents),
        gain=signed(largest.gain.value),
        interval=interval(largest.gain),
        latents=", ".join(str(latent) for latent in largest.latents),
    )


def _power(result: ContrastResult) -> str:
    passing, confirmed = result.power.passing, result.power.confirmed
    if passing is None:
        return _(
            "Power: no effect up to d_z 5 would have had an 80% chance of passing both tests with so few scenarios."
        )
    if confirmed is None:
        return _(
            "Power: the smallest d_z with an 80% chance of passing both tests was {passing}; no effect up to 5 would"
            " have with exceeding the controls too.",
            passing=decimal(passing),
        )
    return _(
        "Power: the smallest d_z with an 80% chance of passing both tests was {passing}; {confirmed} with exceeding the"
        " controls too.",
        passing=decimal(passing),
        confirmed=decimal(confirmed),
    )


def _first_feature_row(result: ContrastResult) -> Row:
    """Return the row of the feature that ranks first on discovery; its tests are known only if it was selected."""
    if result.best_latent is None:
        return Row(
            (
                Cell(_("First SAE feature"), detail=_("none could be ranked")),
                *[Cell(_(NOT_MEASURED))] * 5,
                Cell(_("not confirmed")),
            )
        )
    found = next((finding for finding in result.findings if finding.latent == result.best_latent), None)
    auroc = estimate_cell(result.best_auroc)
    if found is None:
        name = Cell(_("First SAE feature"), detail=_("feature {latent}, not selected", latent=result.best_latent))
        return Row((name, auroc, *[Cell(_(NOT_MEASURED))] * 4, Cell(_("not confirmed"))))
    return Row(
        (
            Cell(
                _("First SAE feature"),
                detail=_(
                    "feature {latent}, {rung}; its d_z is not oriented", latent=found.latent, rung=word(found.rung)
                ),
            ),
            auroc,
            estimate_cell(found.d_z, with_sign=True),
            Cell(probability(found.p_value)),
            Cell(probability(found.p_holm)),
            Cell(_(NOT_MEASURED)),
            Cell(_("confirmed") if found.rung.height >= Rung.CONFIRMED.height else _("not confirmed")),
        )
    )


def _against(result: ContrastResult) -> str:
    """Return who clearly does better than the first SAE feature: the whole interval of the difference below zero."""
    if result.best_auroc is None:
        return _("No feature could be ranked on discovery, so no baseline could be compared with one.")
    better = [
        _(_BASELINE_WORDS[baseline.kind])
        for baseline in result.baselines
        if (minus := baseline.feature_minus) is not None and minus.high is not None and minus.high < 0
    ]
    return (
        _("Clearly better than the first SAE feature: {baselines}.", baselines=listed(better))
        if better
        else (_("No baseline is clearly better than the first SAE feature."))
    )


def _features(result: ContrastResult, name: str, carded: frozenset[tuple[str, int]], *, table_id: str) -> Table:
    findings = in_order(result.findings)
    rows = tuple(_feature_row(finding, carded) for finding in findings)
    left_out = len(rows) - PRINTED_FEATURES
    return Table(
        id=table_id,
        caption=_("{name}: features selected in discovery, measured on the confirmation split", name=name),
        columns=_feature_columns(),
        rows=rows,
        printed=rows[:PRINTED_FEATURES],
        cut=(
            _(
                "The first {printed} of {total} features, by rung and rank on discovery, are printed; the"
                " other {left_out} are in findings.json, attached to this file, and in the HTML report.",
                printed=PRINTED_FEATURES,
                total=len(rows),
                left_out=left_out,
            )
            if left_out > 0
            else ""
        ),
        query=listed(sorted({visible(finding.query) for finding in findings})),
        empty=_(
            "No feature was selected for this contrast ({features} tested). This is no pass: see the reading above.",
            features=plural(result.tested, "{count} feature", "{count} features"),
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
            Cell(word(finding.rung), sort=str(finding.rung.height), mark=f"rung-{finding.rung.value}"),
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


def _feature_columns() -> tuple[Column, ...]:
    return (
        Column(_("Feature")),
        Column(_("Rung")),
        Column("d_z", numeric=True, detail=_("95% interval")),
        Column(_("AUROC"), numeric=True, detail=_("95% interval")),
        Column(_("Firing difference"), numeric=True, detail=_("95% interval")),
        Column(_("p Holm"), numeric=True),
        Column(_("p max-T"), numeric=True),
        Column("n", numeric=True, detail=_("non-zero")),
        Column(_("Lexical")),
    )


def _baseline_columns() -> tuple[Column, ...]:
    return (
        Column(_("Reader")),
        Column(_("AUROC"), numeric=True, detail=_("95% interval")),
        Column("d_z", numeric=True, detail=_("95% interval")),
        Column("p", numeric=True),
        Column(_("p Holm"), numeric=True),
        Column(_("First feature minus this"), numeric=True, detail=_("AUROC, 95% interval")),
        Column(_("Result")),
    )
