"""The chart of one concept's confirmation effects, and its text alternative."""

from __future__ import annotations

from audit.records import ConceptResult, ContrastResult, Estimate, Finding, Rung
from reports.figures import EffectPanel, EffectRow, effect_chart
from reports.numbers import NO_INTERVAL, decimal, interval, signed, visible
from reports.view import Chart
from reports.words import CONTRAST_NAMES

CHARTED_FEATURES = 12


def in_order(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return findings by rung, and within a rung by their rank on discovery.

    Not by the effect that is printed: whichever is largest on confirmation is largest partly by luck.
    """
    return tuple(sorted(findings, key=lambda finding: -finding.rung.height))


def effects_chart(concept: ConceptResult, *, chart_id: str) -> Chart | None:
    """Return the effects of one concept's features under every contrast, or None when no contrast was analysed."""
    if not concept.contrasts:
        return None
    panels = tuple(_panel(result) for result in concept.contrasts)
    title = f"Effects of the selected features on “{visible(concept.title)}”, with 95% intervals"
    charted = max((len(panel.rows) for panel in panels), default=0)
    longest = max((len(result.findings) for result in concept.contrasts), default=0)
    limit = (
        f" The first {CHARTED_FEATURES} features of a contrast, by rung and rank on discovery, are drawn."
        if longest > charted
        else ""
    )
    return Chart(
        id=chart_id,
        svg=effect_chart(
            panels,
            chart_id=chart_id,
            title=f"{title}. {' '.join(_panel_words(result) for result in concept.contrasts)}",
            description="The numbers are in the tables of the same section.",
        ),
        title=title,
        description=" ".join(_panel_words(result) for result in concept.contrasts),
        caption=(
            f"{title}. Confirmation split only. Beyond the dashed lines lies what the compared random directions do not"
            f" reach. Filled: confirmed; open: not confirmed. The numbers are in the tables that follow.{limit}"
        ),
    )


def _panel(result: ContrastResult) -> EffectPanel:
    return EffectPanel(
        title=CONTRAST_NAMES[result.contrast],
        rows=tuple(
            EffectRow(
                label=f"feature {finding.latent}",
                effect=finding.d_z,
                confirmed=finding.rung.height >= Rung.CONFIRMED.height,
            )
            for finding in in_order(result.findings)[:CHARTED_FEATURES]
        ),
        probe=result.probe.d_z,
        random=result.random_control.best_d_z,
    )


def _panel_words(result: ContrastResult) -> str:
    best = next(iter(in_order(result.findings)), None)
    feature = (
        "no feature was selected"
        if best is None
        else f"the first feature is {best.latent} with {signed(best.d_z.value)} {_spoken(best.d_z)}"
    )
    return (
        f"{CONTRAST_NAMES[result.contrast]}: the linear probe has {signed(result.probe.d_z.value)} "
        f"{_spoken(result.probe.d_z)}, {feature}, and the best random direction {_random_words(result)}."
    )


def _spoken(estimate: Estimate) -> str:
    text = interval(estimate)
    return text if text == NO_INTERVAL else f"in {text}"


def _random_words(result: ContrastResult) -> str:
    best = result.random_control.best_d_z
    return "was not measured" if best is None else f"reaches {decimal(best)}"
