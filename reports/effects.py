"""The charts of one concept's confirmation effects, one an instrument, and their text alternatives."""

from __future__ import annotations

from audit.records import ConceptResult, ContrastResult, Estimate, Finding, Rung
from reports.figures import EffectPanel, EffectRow, effect_chart
from reports.instruments import Instrument
from reports.language import _
from reports.numbers import decimal, interval, signed, visible
from reports.view import Chart
from reports.words import CONTRAST_NAMES

CHARTED_FEATURES = 12


def in_order(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return findings by rung, and within a rung by their rank on discovery.

    Not by the effect that is printed: whichever is largest on confirmation is largest partly by luck.
    """
    return tuple(sorted(findings, key=lambda finding: -finding.rung.height))


def effects_chart(concept: ConceptResult, instrument: Instrument, *, chart_id: str) -> Chart | None:
    """Return the effects of one instrument's features on one concept, or None when no contrast was analysed with it.

    All instruments of a concept are drawn on one scale.
    """
    results = tuple(result for result in concept.contrasts if result.sae == instrument.sae)
    if not results:
        return None
    panels = tuple(_panel(result, instrument) for result in results)
    through = "" if instrument.alone else f", {instrument.label}"
    title = _(
        "Effects of the selected features on “{concept}”{through}, with 95% intervals",
        concept=visible(concept.title),
        through=through,
    )
    words = " ".join(_panel_words(result) for result in results)
    charted = max(len(panel.rows) for panel in panels)
    longest = max(len(result.findings) for result in results)
    limit = (
        " "
        + _(
            "The first {number} features of a contrast, by rung and rank on discovery, are drawn.",
            number=CHARTED_FEATURES,
        )
        if longest > charted
        else ""
    )
    return Chart(
        id=chart_id,
        svg=effect_chart(
            panels,
            span=_span(concept),
            chart_id=chart_id,
            title=f"{title}. {words}",
            description=_("The numbers are in the tables of the same section."),
        ),
        title=title,
        description=words,
        caption=(
            _(
                "{title}. Confirmation split only. Beyond the dashed lines lies what the compared latents of the"
                " controls do not reach. Filled: confirmed; open: not confirmed. The numbers are in the tables that"
                " follow.",
                title=title,
            )
            + limit
        ),
    )


def _span(concept: ConceptResult) -> tuple[float, float]:
    """Return the ends of the scale on which all of a concept's effects fit, whichever SAE they are from."""
    ends = [0.0]
    for result in concept.contrasts:
        drawn = [finding.d_z for finding in in_order(result.findings)[:CHARTED_FEATURES]]
        for effect in (result.probe.d_z, *drawn):
            ends += [end for end in (effect.low, effect.value, effect.high) if end is not None]
        if (best := result.bar) is not None:
            ends += [-best, best]
    low, high = min(ends), max(ends)
    return (low, high) if low < high else (low - 1, high + 1)


def _panel(result: ContrastResult, instrument: Instrument) -> EffectPanel:
    name = _(CONTRAST_NAMES[result.contrast])
    return EffectPanel(
        title=name if instrument.alone else f"{name}, {instrument.label}",
        rows=tuple(
            EffectRow(
                label=_("feature {latent}", latent=finding.latent),
                effect=finding.d_z,
                confirmed=finding.rung.height >= Rung.CONFIRMED.height,
            )
            for finding in in_order(result.findings)[:CHARTED_FEATURES]
        ),
        probe=result.probe.d_z,
        bar=result.bar,
    )


def _panel_words(result: ContrastResult) -> str:
    best = next(iter(in_order(result.findings)), None)
    feature = (
        _("no feature was selected")
        if best is None
        else _(
            "the first feature is {latent} with {effect}",
            latent=best.latent,
            effect=_spoken(best.d_z),
        )
    )
    return _(
        "{contrast}: the linear probe has {effect}, {feature}, and the best latent of a control {control}.",
        contrast=_(CONTRAST_NAMES[result.contrast]),
        effect=_spoken(result.probe.d_z),
        feature=feature,
        control=_random_words(result),
    )


def _spoken(estimate: Estimate) -> str:
    value = signed(estimate.value)
    if estimate.low is None or estimate.high is None:
        return _("{value} no interval", value=value)
    return _("{value} in {interval}", value=value, interval=interval(estimate))


def _random_words(result: ContrastResult) -> str:
    best = result.bar
    return _("was not measured") if best is None else _("reaches {value}", value=decimal(best))
